"""The two charts of a study of the paper in characters, for terminals."""

from collections.abc import Iterator, Sequence

from rich.text import Text

from ffengine.results import TrainResult
from ffengine.theorems import THEOREMS
from service.cli.output import line, out
from service.cli.text_plot import PlottedCurve, plot
from service.results.compared_runs import compared, spec_of, width_of, without_width
from service.results.run_labels import inputs_of
from service.results.sources import Source

STYLES = (("●", "bright_blue"), ("▲", "dark_orange"), ("■", "green"), ("◆", "magenta"))
WIDEST, HEIGHT = 78, 9
Points = list[tuple[float, float]]


def paper_plots(sources: Sequence[Source]) -> None:
    """Draw S over flow time for several widths, and theorem 2 for each preprocessing, positives.

    Nothing is drawn in a pipe, and on a terminal that has ASCII characters alone.
    """
    if not out.is_terminal or out.options.ascii_only:
        return
    widths = compared(sources, "network.widths")
    lines = {f"n = {width_of(run):,}": list(_without_width(run)) for run in widths}
    _draw("S without its width factor, mean of positive samples", lines)
    inputs = compared(sources, "dataset.preprocess")
    ratios = {inputs_of(spec_of(run)): _means(run, "theorem2_ratio") for run in inputs}
    _draw("theorem 2: share of positive samples", ratios, THEOREMS[2].published)


def _draw(title: str, lines: dict[str, Points], reference: float | None = None) -> None:
    """Draw lines with a legend, where there are several."""
    if len(lines) < 2 or not all(lines.values()):
        return
    styled = list(zip(lines.items(), STYLES, strict=False))
    curves = [PlottedCurve(*style, 1, points) for (_, points), style in styled]
    legend = [(f"{marker} {name}   ", style) for (name, _), (marker, style) in styled]
    width = min(WIDEST, out.width - 1)
    last = max(tau for points in lines.values() for tau, _ in points)
    bounds = (0.0, 1.0)
    line(
        plot(
            title,
            curves,
            width=width,
            height=HEIGHT,
            last=last,
            reference=reference,
            bounds=bounds,
            across="tau",
        )
    )
    line(Text.assemble(" " * 10, *legend))


def _without_width(run: Source) -> Iterator[tuple[float, float]]:
    for tau, sparsity in _means(run, "sparsity"):
        yield tau, without_width(width_of(run)) * sparsity


def _means(run: Source, figure: str) -> Points:
    """The mean over seeds of a figure of positives by flow time; none of rows without it."""
    assert isinstance(run.result, TrainResult)  # noqa: S101 - narrows the type
    found: dict[float, list[float]] = {}
    for row in run.result.curves:
        value = getattr(row, figure)
        if row.split == "positive" and row.tau is not None and value is not None:
            found.setdefault(row.tau, []).append(value)
    return [(tau, sum(values) / len(values)) for tau, values in sorted(found.items())]
