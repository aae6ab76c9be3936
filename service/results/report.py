"""A job's result as one self-contained HTML page: charts, measured beside published, findings,
provenance.
"""

import base64
import contextlib
import html
from collections.abc import Iterator, Sequence

from ffengine.results import Diagnostic, Provenance
from ffengine.text import visible
from service.jobs import Job
from service.results.charts import CHARTS, ChartSource, NothingToDraw, Source, available, render
from service.results.paper_comparison import ComparisonRow, comparison, legend
from service.results.sentences import sentences

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --page: #fff; --line: #d0d7de; --bad: #b3261e; --good: #00664f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9da7b1; --page: #14181d; --line: #30363d; --bad: #ff9d94; --good: #56d4ae; }
}
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
p.lead, footer { color: var(--soft); } .scroll + p.lead { margin-top: 1rem; } p.lead + p.lead { margin-top: -.75rem; }
code { font-size: .9em; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
.met { color: var(--good); } .unmet { color: var(--bad); font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 31rem), 1fr)); gap: 1rem; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .25rem; overflow-x: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: 0; } dt { color: var(--soft); } dd { margin: 0; }
li { margin-bottom: .5rem; } p.detail { margin: -.5rem 0 .75rem 1.5rem; }
figure img { max-width: 100%; height: auto; display: block; margin: auto; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""

CLASSES = {"met": "met", "NOT met": "unmet"}  # only a verdict has a colour

NOTE = (
    "The conditions computed here are the exact first-order conditions for a sample's Hoyer "
    "sparsity to rise. The paper's figures "
    "are those of its abstract (arXiv 2311.05667); its widths, learning rate and batch size were "
    "not at hand. A figure that "
    "contradicts it is shown as measured."
)


def report(job: Job, drawn: Sequence[ChartSource]) -> str:
    """The page. It loads nothing from anywhere."""
    title = html.escape(job.name or f"{job.kind} {job.id}")
    charts = dict(_charts(drawn))
    sources = [source for source in drawn if isinstance(source, Source)]
    figures = "\n".join(
        f"<figure>{_picture(svg, CHARTS[name].meaning)}</figure>" for name, svg in charts.items()
    )
    parts = [
        f"<h1>{title}</h1>",
        f'<p class="lead">fflab report of <code>{job.id}</code>, {job.kind}, finished '
        f"{job.finished_at:%Y-%m-%d %H:%M} UTC</p>",
        _found(sentences(sources)),
        f"<h2>Measured beside published</h2>{_table(comparison(sources))}<p "
        f"class=lead>{html.escape(NOTE)}</p>",
        f'<h2>Charts</h2><div class="charts">{figures}</div>' if charts else "",
        _findings([finding for source in sources for finding in source.result.diagnostics]),
        "<h2>How it was obtained</h2>"
        + "".join(_provenance(source.result.provenance) for source in sources),
        f"<h2>Spec</h2><details><summary>in "
        f"full</summary><pre>{html.escape(job.spec.model_dump_json(indent=2))}</pre></details>",
    ]
    return _page(title, "\n".join(parts))


def _found(lines: Sequence[str]) -> str:
    """The sentences; those that are indented belong to the one before."""
    if not lines:
        return ""
    items = "".join(
        f"<p{' class=detail' if line.startswith(' ') else ''}>{html.escape(line.strip())}</p>"
        for line in lines
    )
    return f"<h2>What was found</h2>{items}"


def _page(title: str, body: str) -> str:
    return visible(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        'content="width=device-width, initial-scale=1">'
        f"<title>{title} - fflab</title><style>{STYLE}</style></head><body>{body}</body></html>",
        keep="\n",
    )


def _charts(drawn: Sequence[ChartSource]) -> Iterator[tuple[str, bytes]]:
    """Each chart as SVG; without those whose files are damaged."""
    for name in available(drawn):
        with contextlib.suppress(NothingToDraw):
            yield name, render(name, drawn, "svg")


def _picture(svg: bytes, meaning: str) -> str:
    """An image of its own: the identifiers inside one chart cannot meet those of another."""
    return (
        f'<img alt="{html.escape(meaning)}" '
        f'src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'
    )


def _table(lines: Sequence[ComparisonRow]) -> str:
    heads = ("measured", "95 % interval over seeds", "paper", "verdict", "samples", "seeds")
    head = (
        "<tr><th>quantity"
        + "".join(
            f"<th class={'plain' if name == 'verdict' else 'number'}>{name}" for name in heads
        )
        + "</tr>"
    )
    rows = "".join(
        f"<tr><td>{html.escape(line.quantity)}<td class=number>{line.measured:.4f}<td "
        f"class=number>{line.interval}"
        f"<td class=number>{html.escape(line.published)}<td "
        f"class={CLASSES.get(line.verdict, 'plain')}>{html.escape(line.judgement)}"
        f"<td class=number>{line.samples:,}<td class=number>{line.seeds}</tr>"
        for line in lines
    )
    meanings = "".join(f"<p class=lead>{html.escape(meaning)}</p>" for meaning in legend(lines))
    return (
        f"<div "
        f"class=scroll><table><thead>{head}</thead><tbody>{rows}</tbody></table></div>{meanings}"
    )


def _findings(findings: Sequence[Diagnostic]) -> str:
    if not findings:
        return "<h2>Findings</h2><p>Nothing stood out.</p>"
    items = "".join(
        f"<li><strong>{html.escape(found.message)}</strong> {html.escape(found.suggestion)}</li>"
        for found in findings
    )
    return f"<h2>Findings</h2><ul>{items}</ul>"


def _provenance(found: Provenance) -> str:
    data = found.dataset
    entries = {
        "data": f"{data.name} ({data.preprocess}), {data.train_samples:,} training and "
        f"{data.test_samples:,} test samples, "
        f"sha256 {data.digest[:16]}…",
        "seeds": ", ".join(map(str, found.seeds)),
        "engine": found.program,
        "versions": f"Python {found.python_version}, torch {found.torch_version}, numpy "
        f"{found.numpy_version}",
        "device": f"{found.device} ({found.device_name}), {found.threads} threads, {found.dtype}",
        "wall time": ", ".join(
            f"{phase} {seconds:.1f} s" for phase, seconds in found.wall_seconds.items()
        ),
        "spec": f"sha256 {found.spec_digest[:16]}…",
    }
    return (
        "<dl>"
        + "".join(
            f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>"
            for key, value in entries.items()
        )
        + "</dl><br>"
    )
