"""A job's result as one self-contained HTML page, made from `report.html` in this folder."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple
from urllib.parse import quote

import jinja2

from ffengine.results import Diagnostic
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.study import Cell
from service.encoding.escaping import for_page
from service.jobs import Job
from service.results.answers import answer
from service.results.bibliography import bibtex
from service.results.chart_groups import grouped, size_of
from service.results.charts import CHARTS, NothingToDraw, available, for_report
from service.results.charts.finish import svg_with_dark_variant
from service.results.descriptions import provenance_lines, title_of
from service.results.finding_runs import what_was_found
from service.results.forecasts import epochs_table
from service.results.methods import methods
from service.results.paper_comparison import by_run, comparison, legend
from service.results.row_keys import quantity_of
from service.results.sources import ChartSource, Source, StudyGrid

MOST_OPEN_ROWS = 24  # of a table; longer ones are folded, as on pages
MOST_OPEN_FINDINGS = 4
SAFE = " =:/;,()[]{}.-_!*+@$|~^`\\"  # of an SVG, what may stand in an address within quotes


class Chart(NamedTuple):
    """A chart of the report: what it shows, and its SVG as a part of an address."""

    meaning: str
    image: str


class Theme(NamedTuple):
    """The charts of one theme: they are folded, so that a phone has no yards of them."""

    title: str
    names: str
    charts: Sequence[Chart]


class ReportedFinding(NamedTuple):
    """A finding, and where it comes from."""

    place: str
    diagnostic: Diagnostic


def report(job: Job, drawn: Sequence[ChartSource]) -> str:
    """The page as HTML; it loads nothing from elsewhere.

    **Arguments:**

    - `job`: a job that has succeeded.
    - `drawn`: the sources of its result.
    """
    sources = [source for source in drawn if isinstance(source, Source)]
    rows, names, epochs = comparison(sources), available(drawn), epochs_table(sources)
    opening = answer(drawn, names)
    found = [source.result.provenance for source in sources]
    cells = _cells(drawn)
    page = _template().render(
        title=title_of(job),
        job=job,
        opening=opening,
        sentences=what_was_found(drawn),
        epochs_head=epochs.head,
        epochs_needed=epochs.rows,
        rows=rows,
        runs=by_run(rows),
        quantity_of=quantity_of,
        legend=legend(rows),
        leading=list(_charts(drawn, opening.charts)),
        themes=list(_themes(drawn, [name for name in names if name not in opening.charts])),
        most_rows=MOST_OPEN_ROWS,
        most_findings=MOST_OPEN_FINDINGS,
        findings=[
            ReportedFinding(_place(source.label, finding), finding)
            for source in sources
            for finding in source.result.diagnostics
        ],
        provenance=[
            (source.label or _kind_of(source), provenance_lines(source.result.provenance))
            for source in sources
        ],
        methods=methods(job.spec, found, cells, form="txt"),
        references=bibtex(job.spec, found, cells),
        spec=job.spec.model_dump_json(indent=2),
    )
    return for_page(page)


def _place(run: str, finding: Diagnostic) -> str:
    """Where a finding comes from: run, layer, epoch, split and seed, as far as it has them."""
    said = (
        f"{name} {finding.evidence[name]}"
        for name in ("layer", "epoch", "split", "seed")
        if finding.evidence.get(name) is not None
    )
    return ", ".join(filter(None, (run, *said)))


def _kind_of(source: Source) -> str:
    """What a run without a label is, the only one of its kind or theorem in a study."""
    if isinstance(source.spec, CheckSpec):
        return f"theorem {source.spec.theorem}"
    return "training" if isinstance(source.spec, TrainSpec) else ""


def _cells(drawn: Sequence[ChartSource]) -> list[Cell]:
    """The runs of a study; none of another job."""
    return [
        Cell(one.found.part, one.found.params, one.spec)
        for grid in drawn
        if isinstance(grid, StudyGrid)
        for one in grid.cells
        if one.spec is not None
    ]


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


def _themes(drawn: Sequence[ChartSource], names: Sequence[str]) -> Iterator[Theme]:
    """The charts by theme, those that can be drawn."""
    for group in grouped(names, size_of(drawn)):
        if charts := list(_charts(drawn, group.charts)):
            yield Theme(group.title, group.names, charts)


def _charts(drawn: Sequence[ChartSource], names: Sequence[str]) -> Iterator[Chart]:
    """The charts that can be drawn: those whose kept margins are damaged are left out.

    Each is an image of its own, so that identifiers in one SVG do not clash with another's.
    """
    for name in names:
        with contextlib.suppress(NothingToDraw):
            yield Chart(
                CHARTS[name].meaning, quote(svg_with_dark_variant(for_report(name, drawn)), SAFE)
            )
