"""A job as other tools see it: runs with a configuration, figures by step, and a summary."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, NamedTuple

from ffengine.results import AccuracyRow, TrainResult
from ffengine.spec import StudySpec
from ffengine.spec_values import Scalar, flatten, value_in_words
from service.client import Client
from service.encoding.escaping import for_file_name
from service.jobs import Job, JobState
from service.results.descriptions import title_of
from service.results.measured_rows import RECORDED_FIGURES, TRAIN_FIGURES
from service.results.run_labels import cell_of, labels_of

Row = Mapping[str, Any]
CHECK_FIGURES = (
    "ratio",
    "observed_increase_ratio",
    "agreement",
    "mask_flip_rate",
    "near_zero_rate",
    "eta",
    "input_norm",
)
FORECAST_FIGURES = ("c", "c_slope", "theorem2_ratio")
FIGURES = {
    "train": (*TRAIN_FIGURES, "dead_samples", "dead_units"),
    "check": CHECK_FIGURES,
    "forecast": FORECAST_FIGURES,
    "recorded": (*RECORDED_FIGURES, "dead_samples", "dead_units"),
}
RUNS_AT_ONCE = 500


class Point(NamedTuple):
    """One figure at one epoch of one seed."""

    seed: int
    step: int
    figure: str
    value: float


class ExportedRun(NamedTuple):
    """A job that computes, with what is measured of it so far.

    `label` tells it from the other runs of its study; `varied` are the fields that the study
    varies, with their values.
    """

    job: Job
    label: str
    varied: Mapping[str, Scalar]
    points: list[Point]
    accuracies: Mapping[int, Mapping[str, float]]

    @property
    def seeds(self) -> list[int]:
        """The seeds of which something is measured, in order."""
        return sorted({point.seed for point in self.points})

    @property
    def config(self) -> dict[str, Scalar]:
        """Every field of the spec, by dotted name; a list is a text, its members apart by dots."""
        return {
            field: _scalar(value)
            for field, value in flatten(self.job.spec.model_dump(mode="json")).items()
        }

    @property
    def folder(self) -> str:
        """A name for files and folders, which no other job has."""
        return f"{for_file_name(self.label)}-{self.job.id[-8:]}".strip("-")

    def of_seed(self, seed: int) -> list[Point]:
        """The points of one seed, by step."""
        found = [point for point in self.points if point.seed == seed]
        return sorted(found, key=lambda point: point.step)

    def means(self) -> list[Point]:
        """The mean over seeds of each figure at each epoch that all seeds have; seed is -1."""

        def place(point: Point) -> tuple[int, str]:
            return point.step, point.figure

        count = len(self.seeds)
        grouped = groupby(sorted(self.points, key=place), key=place)
        alike = ((at, [point.value for point in points]) for at, points in grouped)
        return [
            Point(-1, step, figure, sum(values) / count)
            for (step, figure), values in alike
            if len(values) == count
        ]

    def mean_accuracies(self) -> dict[str, float]:
        """The mean of each accuracy over the seeds."""
        names = dict.fromkeys(name for found in self.accuracies.values() for name in found)
        values = {
            name: [found[name] for found in self.accuracies.values() if name in found]
            for name in names
        }
        return {name: sum(found) / len(found) for name, found in values.items()}


def exported_runs(client: Client, job: Job) -> Iterator[ExportedRun]:
    """Yield the job as a run, or all runs of a study; each is read when it is asked for."""
    if not isinstance(job.spec, StudySpec):
        yield _run(client, job, title_of(job), {})
        return
    jobs = sorted(client.jobs(parent=job.id, limit=RUNS_AT_ONCE), key=lambda run: run.id)
    placed = [(run, cell) for run in jobs if (cell := cell_of(run))]
    labels = labels_of([cell for _, cell in placed], job.spec)
    for (run, cell), label in zip(placed, labels, strict=True):
        varied = {field: _scalar(value) for field, value in cell.params.items()}
        if cell.part:
            varied["part"] = cell.part
        yield _run(client, run, label or cell.part or title_of(run), varied)


def _run(client: Client, job: Job, label: str, varied: Mapping[str, Scalar]) -> ExportedRun:
    result = client.result(job.id) if _has_accuracies(job) else None
    if isinstance(result, TrainResult):
        rows: list[Row] = [row.model_dump(mode="json") for row in result.curves]
        accuracies = _accuracies(result)
    else:
        rows, accuracies = [*client.rows(job.id)], {}
    return ExportedRun(job, label, varied, _points(job.kind, rows), accuracies)


def _has_accuracies(job: Job) -> bool:
    return job.kind == "train" and job.state == JobState.succeeded


def _points(kind: str, rows: list[Row]) -> list[Point]:
    return [
        Point(row["seed"], row["epoch"], f"{_figure(row, figure)}/{_place(row)}", float(value))
        for row in rows
        for figure in FIGURES[kind]
        if (value := row.get(figure)) is not None
    ]


def _figure(row: Row, figure: str) -> str:
    """The name of a figure; that of a check's ratio says of which theorem it is."""
    return f"theorem{row['theorem']}_ratio" if figure == "ratio" else figure


def _place(row: Row) -> str:
    """What tells a figure of a row from that of other rows of its epoch and seed."""
    width = f"width_{row['width']}" if "method" in row else ""  # a layer has one width alone
    return "/".join(
        filter(None, (width, f"layer_{row['layer']}", row["split"], row.get("method", "")))
    )


def _accuracies(result: TrainResult) -> dict[int, dict[str, float]]:
    """The accuracies after the last epoch, by seed and name."""
    found: dict[int, dict[str, float]] = {}
    for row in result.accuracy:
        found.setdefault(row.seed, {})[_accuracy_name(result, row)] = row.accuracy
    return found


def _accuracy_name(result: TrainResult, row: AccuracyRow) -> str:
    if result.is_of_all_layers(row):
        place = "all_layers"
    elif row.layer is None:
        place = "layers_" + "_".join(map(str, row.layers))
    else:
        place = f"layer_{row.layer}"
    return f"accuracy/{row.partition}/{row.method}/{place}"


def _scalar(value: Any) -> Scalar:
    """A value of a spec as other tools take it."""
    return (
        value if value is None or isinstance(value, bool | int | float) else value_in_words(value)
    )
