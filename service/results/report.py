"""A job's result as one self-contained HTML page, made from `report.html` in this folder."""

import base64
import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import jinja2

from service.encoding.escaping import for_page
from service.jobs import Job
from service.results.charts import CHARTS, NothingToDraw, available, render
from service.results.charts.finish import svg_with_dark_variant
from service.results.descriptions import provenance_lines
from service.results.finding_runs import what_was_found
from service.results.forecasts import epochs_table
from service.results.paper_comparison import by_run, comparison, legend
from service.results.row_keys import quantity_of
from service.results.sources import ChartSource, Source

# charts before the table: they carry what was found; of each line the first that there is
LEADING = (("sparsity_widths", "sparsity"), ("theorem2_inputs", "theorem2"))


class Chart(NamedTuple):
    """A chart of the report: what it shows, and its SVG in base64."""

    meaning: str
    image: str


def report(job: Job, drawn: Sequence[ChartSource]) -> str:
    """The page as HTML; it loads nothing from elsewhere.

    **Arguments:**

    - `job`: a job that has succeeded.
    - `drawn`: the sources of its result.
    """
    sources = [source for source in drawn if isinstance(source, Source)]
    rows, names, epochs = comparison(sources), available(drawn), epochs_table(sources)
    first = leading(names)
    page = _template().render(
        title=job.name or f"{job.kind} {job.id}",
        job=job,
        sentences=what_was_found(drawn),
        epochs_head=epochs.head,
        epochs_needed=epochs.rows,
        rows=rows,
        runs=by_run(rows),
        quantity_of=quantity_of,
        legend=legend(rows),
        leading=list(_charts(drawn, first)),
        charts=list(_charts(drawn, [name for name in names if name not in first])),
        findings=[finding for source in sources for finding in source.result.diagnostics],
        provenance=[provenance_lines(source.result.provenance) for source in sources],
        spec=job.spec.model_dump_json(indent=2),
    )
    return for_page(page)


def leading(names: Sequence[str]) -> list[str]:
    """The charts that carry what was found.

    **Arguments:**

    - `names`: those that can be drawn.
    """
    found = (next((name for name in line if name in names), None) for line in LEADING)
    return [name for name in found if name]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("service.results", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def _charts(drawn: Sequence[ChartSource], names: Sequence[str]) -> Iterator[Chart]:
    """The charts that can be drawn: those whose kept margins are damaged are left out.

    Each is an image of its own, so that identifiers in one SVG do not clash with another's.
    """
    for name in names:
        with contextlib.suppress(NothingToDraw):
            svg = svg_with_dark_variant(render(name, drawn, "svg").decode())
            yield Chart(CHARTS[name].meaning, base64.b64encode(svg.encode()).decode())
