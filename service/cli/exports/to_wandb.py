"""Writes runs as a table in the form of Weights & Biases: a line for each run and epoch.

`Name`, `State` and the like are those of its table of runs; `_step` and the figures are those of a
run's history; `config.FIELD` and `summary.FIGURE` are the same on each line of a run.
"""

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from service.cli.exports.exported_runs import ExportedRun, Point
from service.encoding.escaping import for_csv
from service.jobs import JobState

STATES = {
    JobState.queued: "pending",
    JobState.running: "running",
    JobState.paused: "pending",
    JobState.succeeded: "finished",
    JobState.failed: "failed",
    JobState.cancelled: "killed",
}
ABOUT = ("Name", "ID", "State", "Group", "User", "Tags", "Created", "Runtime", "_step")


def write_table(read: Callable[[], Iterable[ExportedRun]], file: Path) -> int:
    """Write the table, and return how many runs it has. Figures are means over a run's seeds.

    `read` is called twice, for the columns and for the lines, so that one run is held at a time.
    """
    columns, count = _columns(read()), 0
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(map(for_csv, columns))
        for run in read():
            count += 1
            for line in _lines(run):
                writer.writerow([for_csv(line.get(column)) for column in columns])
    return count


def _columns(runs: Iterable[ExportedRun]) -> list[str]:
    config: dict[str, None] = {}
    figures: dict[str, None] = {}
    summary: dict[str, None] = {}
    for run in runs:
        means = run.means()
        config |= dict.fromkeys(f"config.{field}" for field in run.config)
        figures |= dict.fromkeys(point.figure for point in means)
        summary |= dict.fromkeys(_summary(run, means))
    return [*ABOUT, *config, *figures, *summary]


def _lines(run: ExportedRun) -> Iterator[dict[str, Any]]:
    """A line for each epoch of a run; one line where nothing is measured yet."""
    means = run.means()
    about = {
        **_about(run),
        **{f"config.{field}": value for field, value in run.config.items()},
        **_summary(run, means),
    }
    by_step: dict[int, dict[str, float]] = {}
    for point in means:
        by_step.setdefault(point.step, {})[point.figure] = point.value
    for step, figures in sorted(by_step.items()):
        yield {**about, "_step": step, **figures}
    if not by_step:
        yield about


def _about(run: ExportedRun) -> dict[str, Any]:
    job = run.job
    seconds = (
        (job.finished_at - job.started_at).total_seconds()
        if job.finished_at and job.started_at
        else None
    )
    return {
        "Name": run.label,
        "ID": job.id,
        "State": STATES[job.state],
        "Group": job.parent,
        "User": job.submitted_by,
        "Tags": ", ".join(job.tags),
        "Created": job.created_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "Runtime": seconds,
    }


def _summary(run: ExportedRun, means: Iterable[Point]) -> dict[str, float]:
    """The last value of each figure, and the accuracies."""
    last = {point.figure: point.value for point in sorted(means, key=lambda point: point.step)}
    return {f"summary.{name}": value for name, value in (last | run.mean_accuracies()).items()}
