"""Writes a job as a run of MLflow, and the runs of a study as runs nested in it.

A run that was exported before is found by its tag and completed, so that no point is there twice.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # fflab calls nobody but its service

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from service.cli.exports.exported_runs import ExportedRun, Point
from service.client import Client, FflabError
from service.jobs import Job, JobState
from service.results.descriptions import title_of
from service.specs.files import as_yaml

__all__ = ["MlflowException", "MlflowExport"]

JOB_TAG, POINTS_TAG = "fflab.job", "fflab.points"
PARENT_TAG, SOURCE_TAG = "mlflow.parentRunId", "mlflow.source.name"
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1_000, 100  # MLflow takes no more in one request
LONGEST_PARAM = 6_000
STATUS = {
    JobState.queued: "SCHEDULED",
    JobState.running: "RUNNING",
    JobState.paused: "RUNNING",
    JobState.succeeded: "FINISHED",
    JobState.failed: "FAILED",
    JobState.cancelled: "KILLED",
}
CHART_FORMATS = ("png", "svg")
FILES = ("curves.csv", "report.html")


class MlflowExport:
    """An experiment of a tracking server or store, into which jobs are written."""

    def __init__(self, uri: str, experiment: str) -> None:
        for name in ("mlflow", "alembic"):  # migrations of a new store are nobody's news
            logging.getLogger(name).setLevel(logging.WARNING)
        self._mlflow = MlflowClient(tracking_uri=uri)
        there = self._mlflow.get_experiment_by_name(experiment)
        self._experiment = (
            there.experiment_id if there else self._mlflow.create_experiment(experiment)
        )

    def write(self, client: Client, job: Job, runs: Iterable[ExportedRun]) -> list[str]:
        """Write a job, of a study also its runs, and return the ids of MLflow's runs."""
        if job.kind != "study":
            return [self._write_run(client, run) for run in runs]
        parent = self._run_of(job, title_of(job), {})
        self._write_files(client, job, parent)
        self._end(job, parent)
        return [parent, *(self._write_run(client, run, parent) for run in runs)]

    def _write_run(self, client: Client, run: ExportedRun, parent: str | None = None) -> str:
        found = self._run_of(run.job, run.label, {PARENT_TAG: parent} if parent else {})
        params = [
            Param(field, str(value)[:LONGEST_PARAM])
            for field, value in run.config.items()
            if value is not None
        ]
        for some in _chunks(params, PARAMS_AT_ONCE):
            self._mlflow.log_batch(found, params=some)
        self._write_points(run, found)
        self._write_files(client, run.job, found, nested=parent is not None)
        self._end(run.job, found)
        return found

    def _run_of(self, job: Job, name: str, tags: Mapping[str, str]) -> str:
        """Return the run of a job: the one that is there, or a new one."""
        there = self._mlflow.search_runs([self._experiment], f"tags.`{JOB_TAG}` = '{job.id}'")
        if there:
            found = str(there[0].info.run_id)
        else:
            started = job.started_at or job.created_at
            made = self._mlflow.create_run(
                self._experiment, start_time=_milliseconds(started), run_name=name
            )
            found = str(made.info.run_id)
        about = {**_tags(job), **tags}
        self._mlflow.log_batch(found, tags=[RunTag(key, text) for key, text in about.items()])
        return found

    def _write_points(self, run: ExportedRun, found: str) -> None:
        """Log the means over seeds; of a run that is there already, those that are missing."""
        last = max((point.step for point in run.points), default=0)
        finals = [Point(-1, last, name, value) for name, value in run.mean_accuracies().items()]
        points = [*run.means(), *finals]
        there = self._mlflow.get_run(found)
        if there.data.tags.get(POINTS_TAG) == str(len(points)):
            return
        known = {
            (key, metric.step)
            for key in there.data.metrics
            for metric in self._mlflow.get_metric_history(found, key)
        }
        at = _milliseconds(run.job.finished_at or run.job.started_at or run.job.created_at)
        missing = [
            Metric(point.figure, point.value, at, point.step)
            for point in points
            if (point.figure, point.step) not in known
        ]
        for some in _chunks(missing, METRICS_AT_ONCE):
            self._mlflow.log_batch(found, metrics=some)
        self._mlflow.set_tag(found, POINTS_TAG, str(len(points)))

    def _write_files(self, client: Client, job: Job, found: str, *, nested: bool = False) -> None:
        """Log spec and provenance, and what the service draws; of a study's runs only its table."""
        with TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "spec.yaml").write_text(as_yaml(job.spec), encoding="utf-8")
            if job.provenance:
                text = job.provenance.model_dump_json(indent=2)
                (folder / "provenance.json").write_text(text, encoding="utf-8")
            for what in _drawn(client, job) if not nested else FILES[:1]:
                _download(client, job, what, folder)
            self._mlflow.log_artifacts(found, str(folder))

    def _end(self, job: Job, found: str) -> None:
        status = STATUS[job.state]
        if job.finished_at:
            self._mlflow.set_terminated(found, status, _milliseconds(job.finished_at))
        else:
            self._mlflow.update_run(found, status)


def _drawn(client: Client, job: Job) -> list[str]:
    """The downloads of a job that people look at."""
    charts = [f"chart/{name}.{fmt}" for name in client.charts(job.id) for fmt in CHART_FORMATS]
    return [*FILES, *charts]


def _download(client: Client, job: Job, what: str, folder: Path) -> None:
    """Save a file of a job; one that it does not have, as a report before the end, is left out."""
    try:
        content = client.download(job.id, what)
    except FflabError:
        return
    path = folder / what
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _tags(job: Job) -> dict[str, str]:
    facts: dict[str, Any] = {
        JOB_TAG: job.id,
        SOURCE_TAG: "fflab",
        "fflab.kind": job.kind,
        "fflab.state": job.state.value,
        "fflab.tags": ", ".join(job.tags),
        "fflab.submitted_by": job.submitted_by,
        "fflab.study": job.parent,
    }
    if job.provenance:
        facts |= {
            "fflab.spec_digest": job.provenance.spec_digest,
            "fflab.dataset_digest": job.provenance.dataset.digest,
            "fflab.numerics_version": job.provenance.engine_version,
            "fflab.version": job.provenance.fflab_version,
        }
    return {name: str(value) for name, value in facts.items() if value}


def _milliseconds(at: Any) -> int:
    return int(at.timestamp() * 1_000)


def _chunks(items: Sequence[Any], count: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + count] for start in range(0, len(items), count))
