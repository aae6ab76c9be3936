"""Writes runs as event files of TensorBoard: a folder for each run and seed."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from ffengine.spec_values import Scalar
from service.cli.exports.exported_runs import ExportedRun
from service.jobs import Job

SUFFIX = ".fflab"  # of the event files that a later export replaces
PATTERN = f"events.out.tfevents.*{SUFFIX}"


def write_event_files(runs: Iterable[ExportedRun], folder: Path) -> list[Path]:
    """Write the event files, and return their folders.

    An earlier export of the same runs is replaced; other files of the folder stay.
    """
    return [path for run in runs for path in _write_run(run, folder)]


def _write_run(run: ExportedRun, folder: Path) -> Iterator[Path]:
    for seed in run.seeds:
        path = folder / run.folder
        if len(run.seeds) > 1:
            path /= f"seed-{seed}"
        _write_seed(run, seed, path)
        yield path


def _write_seed(run: ExportedRun, seed: int, path: Path) -> None:
    earlier = list(path.glob(PATTERN))
    at = _moment(run.job)
    writer = EventFileWriter(str(path), filename_suffix=SUFFIX)
    hparams = hparams_pb(
        _hparams(run, seed), trial_id=f"{run.job.id} seed {seed}", start_time_secs=at
    )
    writer.add_event(Event(wall_time=at, summary=hparams))
    for point in run.of_seed(seed):
        writer.add_event(
            Event(wall_time=at, step=point.step, summary=_scalar(point.figure, point.value))
        )
    last = max((point.step for point in run.points), default=0)
    for name, accuracy in run.accuracies.get(seed, {}).items():
        writer.add_event(Event(wall_time=at, step=last, summary=_scalar(name, accuracy)))
    writer.close()
    for file in earlier:
        file.unlink()


def _scalar(tag: str, value: float) -> Any:
    return Summary(value=[Summary.Value(tag=tag, simple_value=value)])


def _moment(job: Job) -> float:
    """The time of all events: rows have none of their own, and steps are epochs."""
    return (job.finished_at or job.started_at or job.created_at).timestamp()


def _hparams(run: ExportedRun, seed: int) -> dict[str, Scalar]:
    """What a study varies, or every field of a job that is none of its runs; and the seed."""
    found = run.varied or {name: value for name, value in run.config.items() if name != "seeds"}
    return {name: value for name, value in found.items() if _is_hparam(value)} | {"seed": seed}


def _is_hparam(value: Scalar) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
