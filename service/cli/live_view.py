"""The display of `fflab watch` on a terminal: progress, growing curves, newest figures.

It is drawn anew for the size that the terminal has.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ffengine.intervals import interval
from ffengine.spec import TrainSpec
from ffengine.theorems import THEOREMS
from service.cli.job_watcher import JobProgress, Row
from service.cli.output import STYLES
from service.cli.text_plot import PlottedCurve, plot
from service.headline import headline, mean, newest_complete
from service.jobs import JobState
from service.results.descriptions import duration, place_of, title_of

BESIDE = 96  # columns: wide enough for two plots side by side
OTHER_LINES, LEAST_LINES, MOST_LINES = 15, 4, 12
RUNS_SHOWN = 12
LARGE = 1e5  # larger values are written with their power of ten
WARNINGS_SHOWN = 3


class Split(NamedTuple):
    """The marker, style and spacing of dots with which a split is drawn."""

    name: str
    marker: str
    style: str
    gap: int


SPLITS = (Split("positive", "●", "bright_blue", 1), Split("negative", "▲", "dark_orange", 2))
FIGURES = (
    ("sparsity", "Hoyer sparsity S"),
    ("theorem2_ratio", "theorem 2: satisfied / live samples"),
    ("goodness", "mean goodness, less the threshold"),
)
POINT_FIGURES = (
    ("c", "C: S of infinitely many units"),
    ("theorem2_ratio", "theorem 2 along the expected step: satisfied / live samples"),
)
COLUMNS = (
    ("S", "sparsity"),
    ("theorem 2, own step", "theorem2_ratio"),
    ("agreement", "agreement"),
    ("zeros", "zero_fraction"),
    ("goodness", "goodness"),
)


class LiveView:
    """The whole display; rich draws it several times a second."""

    def __init__(self, watched: JobProgress) -> None:
        self.watched = watched

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, console.height
        body: Callable[[JobProgress, int, int], RenderableType] = {
            "train": curves,
            "check": cells,
            "forecast": points,
            "study": runs,
            "recorded": lambda *_: Text("recorded by another program"),
        }[self.watched.job.kind]
        yield Group(
            *heading(self.watched, width), body(self.watched, width, height), *footing(self.watched)
        )


def heading(watched: JobProgress, width: int) -> list[RenderableType]:
    """Return the title and the progress of the job."""
    job = watched.job
    first = Text.assemble(
        (title_of(job), "bold"),
        f"  {job.id}" if width >= BESIDE else "",
        overflow="ellipsis",
        no_wrap=True,
    )
    eta = (
        f"{duration(watched.eta)} left"
        if watched.eta is not None and watched.state == "running"
        else ""
    )
    line = Table.grid(padding=(0, 1))
    percent, message = (
        f"{watched.fraction:4.0%}",
        Text(watched.message, overflow="ellipsis", no_wrap=True),
    )
    bar = ProgressBar(total=1.0, completed=watched.fraction, width=max(10, min(40, width // 3)))
    line.add_row(Text(watched.state, STYLES[watched.state]), bar, percent, eta, message)
    return [first, line]


def footing(watched: JobProgress) -> list[RenderableType]:
    """Return the warnings, and why the job makes no progress."""
    lines: list[RenderableType] = [
        Text(f"! {warning}", "yellow") for warning in watched.warnings[-WARNINGS_SHOWN:]
    ]
    if watched.away:
        lines.append(Text("the service does not answer; asking again …", "yellow"))
    elif watched.state == JobState.queued:
        lines.append(Text("waits for a worker; `fflab workers` lists those that are there", "dim"))
    return lines


def curves(watched: JobProgress, width: int, height: int) -> RenderableType:
    """Return plots of two figures of both splits over epochs, and the newest values."""
    if not watched.rows or not isinstance(watched.job.spec, TrainSpec):
        return Text("")
    shown = [
        (figure, title)
        for figure, title in FIGURES
        if any(watched.curve(figure, split.name) for split in SPLITS)
    ][:2]
    side_by_side = width >= BESIDE and len(shown) > 1
    room = (
        height - OTHER_LINES if side_by_side else (height - OTHER_LINES) // max(1, len(shown)) - 2
    )
    lines, columns = (
        max(LEAST_LINES, min(MOST_LINES, room)),
        width // 2 - 1 if side_by_side else width - 1,
    )
    plots = [_plot(watched, figure, title, columns, lines) for figure, title in shown]
    if not side_by_side:
        return Group(*plots, newest(watched))
    grid = Table.grid(padding=(0, 1))
    grid.add_row(*plots)
    return Group(grid, newest(watched))


def _plot(watched: JobProgress, figure: str, title: str, width: int, height: int) -> Text:
    drawn = [
        PlottedCurve(split.marker, split.style, split.gap, watched.curve(figure, split.name))
        for split in SPLITS
    ]
    spec = watched.job.spec
    newest_epoch = max((int(row["epoch"]) for row in watched.rows), default=1)
    epochs = float(spec.epochs if isinstance(spec, TrainSpec) else max(1, newest_epoch))
    reference = THEOREMS[2].published if figure == "theorem2_ratio" else None
    bounds = (-math.inf, math.inf) if figure == "goodness" else (0.0, 1.0)
    return plot(
        title, drawn, width=width, height=height, last=epochs, reference=reference, bounds=bounds
    )


def newest(watched: JobProgress) -> Table:
    """Return a table of means over seeds at the newest epoch that all seeds have.

    It shows the number of samples behind them, and is the legend of the curves.
    """
    layers = len(watched.job.spec.network.widths) if isinstance(watched.job.spec, TrainSpec) else 1
    latest = newest_complete(watched.rows)
    layer, epoch = (int(latest[0]["layer"]), int(latest[0]["epoch"])) if latest else (0, 0)
    where = f"layer {layer} of 0 to {layers - 1}, " if layers > 1 else ""
    found = Table(box=None, pad_edge=False, header_style="dim")
    found.add_column(f"{where}epoch {epoch}")
    for title in [*(title for title, _ in COLUMNS), "samples", "seeds"]:
        found.add_column(title, justify="right")
    for split in SPLITS:
        rows = [row for row in latest if row["split"] == split.name]
        values = [_mean(rows, figure) for _, figure in COLUMNS]
        samples = sum(int(row["samples"]) - int(row["dead_samples"]) for row in rows)
        found.add_row(
            Text(f"{split.marker} {split.name}", split.style),
            *values,
            f"{samples:,}",
            str(len(rows)),
        )
    return found


def cells(watched: JobProgress, _width: int, height: int) -> RenderableType:
    """Return a table of a check's cells: satisfied samples by width, split and method."""
    found = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("width", "split", "method"):
        found.add_column(title)
    for title in ("ratio", "95 % interval", "live samples", "seeds"):
        found.add_column(title, justify="right")
    groups: dict[tuple[int, str, str], list[Row]] = defaultdict(list)
    for row in watched.rows:
        groups[int(row["width"]), str(row["split"]), str(row["method"])].append(row)
    for (width, split, method), rows in list(groups.items())[
        -max(LEAST_LINES, height - OTHER_LINES // 2) :
    ]:
        ratios = [
            (float(row["ratio"]), int(row["live"])) for row in rows if row["ratio"] is not None
        ]
        live = f"{sum(int(row['live']) for row in rows):,}"
        found.add_row(
            str(width),
            split,
            method.replace("_", " "),
            *_with_interval(ratios),
            live,
            str(len(rows)),
        )
    return found


def points(watched: JobProgress, width: int, height: int) -> RenderableType:
    """Return plots of C and of theorem 2 over the epochs of a forecast's small run, and what it has
    come to.
    """
    if not watched.rows:
        return Text("")
    lines = max(LEAST_LINES, min(MOST_LINES, (height - OTHER_LINES) // len(POINT_FIGURES) - 2))
    plots = [_plot(watched, figure, title, width - 1, lines) for figure, title in POINT_FIGURES]
    return Group(*plots, Text(headline(watched.job.spec, watched.rows).text))


def runs(watched: JobProgress, width: int, _height: int) -> RenderableType:
    """Return how many runs of a study are in each state, and the first of them in a table."""
    counted = Counter(run.state.value for run in watched.runs)
    summary = Text("   ").join(
        Text.assemble((f"{counted[state]} ", "bold"), (state, STYLES[state]))
        for state in STYLES
        if counted[state]
    )
    found = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("run", "state", "done", "message"):
        found.add_column(title, no_wrap=True, overflow="ellipsis", max_width=max(20, width // 2))
    order = {"running": 0, "failed": 1, "paused": 2, "queued": 3, "cancelled": 4, "succeeded": 5}
    for run in sorted(watched.runs, key=lambda run: (order[run.state.value], run.id))[:RUNS_SHOWN]:
        place = run.place or {}
        name = " ".join(
            [
                *([str(place["part"])] if place.get("part") else []),
                *([place_of(run)] if place.get("params") else []),
            ]
        )
        state = Text(run.state.value, STYLES[run.state.value])
        found.add_row(
            name or "the run", state, f"{run.progress.fraction:.0%}", run.progress.message
        )
    more = len(watched.runs) - RUNS_SHOWN
    return Group(summary, found, Text(f"and {more} more" if more > 0 else "", "dim"))


def _mean(rows: Sequence[Row], figure: str) -> str:
    found = mean(rows, figure)
    if found is None:
        return "–"
    return f"{found:.4f}" if abs(found) < LARGE else f"{found:.3e}"


def _with_interval(ratios: Sequence[tuple[float, int]]) -> tuple[str, str]:
    if not ratios:
        return "–", ""
    found = interval(
        [ratio for ratio, _ in ratios], share=True, samples=[live for _, live in ratios]
    )
    bounds = (
        "one seed"
        if found.low is None or found.high is None
        else f"{found.low:.4f} to {found.high:.4f}"
    )
    return f"{found.mean:.4f}", bounds
