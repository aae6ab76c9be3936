"""The runs of `fflab bench`: kept in a folder, resumed after any end, several at a time."""

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from pydantic import BaseModel, ValidationError

import ffengine
from ffengine.arrays import DatasetError
from ffengine.durable import sync
from ffengine.results import TrainResult
from ffengine.spec import TrainSpec, digest
from ffengine.version import NUMERICS_VERSION
from service.host.processes import set_parent_death_signal
from service.specs.files import SpecError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from ffengine.checkpoint import Checkpoint
    from ffengine.datasets import Datasets
    from ffengine.training import BatchReport, EpochReport

SAID_SECONDS = 10.0  # between two lines on how far a run is
Say = Callable[[int, str], None]


class KeptRun(BaseModel):
    """A run of a protocol that has ended, in a file of its own.

    **Attributes:**

    - `spec_digest`, `engine_version`, `device`: what ran, and where; another runs anew.
    - `result`: its result; null where the numbers diverged.
    - `diverged`: where they did.
    """

    spec_digest: str
    engine_version: str
    device: str
    result: TrainResult | None = None
    diverged: str | None = None


class KeptRuns(NamedTuple):
    """A folder of runs: one file of each that has ended, and a checkpoint of each that has not.

    **Attributes:**

    - `folder`: where the files lie.
    - `device`: cpu or cuda; the figures of one are not those of the other.
    """

    folder: Path
    device: str

    def path(self, spec: TrainSpec, ending: str) -> Path:
        """Return the file of a run; names of methods, which may be any text, are not in it."""
        return self.folder / f"{digest(spec)}-{NUMERICS_VERSION}-{self.device}.{ending}"

    def ended(self, spec: TrainSpec) -> KeptRun | None:
        """Return a run that has ended; None where it has not, or its file is damaged."""
        try:
            kept = KeptRun.model_validate_json(self.path(spec, "json").read_bytes())
        except (OSError, ValidationError):
            return None
        found = (kept.spec_digest, kept.engine_version, kept.device)
        return kept if found == (digest(spec), NUMERICS_VERSION, self.device) else None

    def end(
        self, spec: TrainSpec, *, result: TrainResult | None = None, diverged: str | None = None
    ) -> None:
        """Keep a run that has ended; its checkpoint is of no use any more."""
        kept = KeptRun(
            spec_digest=digest(spec),
            engine_version=NUMERICS_VERSION,
            device=self.device,
            result=result,
            diverged=diverged,
        )
        _write(self.path(spec, "json"), kept.model_dump_json().encode())
        self.path(spec, "checkpoint").unlink(missing_ok=True)

    def begun(self, spec: TrainSpec) -> "Checkpoint | None":
        """Return where a run stood; None where it has not begun, or the file is damaged."""
        try:
            found = ffengine.Checkpoint.from_bytes(self.path(spec, "checkpoint").read_bytes())
        except (OSError, ValueError):
            return None
        return found if found.spec_digest == digest(spec) else None

    def save(self, spec: TrainSpec, checkpoint: "Checkpoint") -> None:
        """Save where a run stands."""
        _write(self.path(spec, "checkpoint"), checkpoint.to_bytes())


def _write(path: Path, content: bytes) -> None:
    """Write a file so that whatever ends this process leaves the old one or the new one."""
    draft = path.with_suffix(f".{os.getpid()}.part")
    draft.write_bytes(content)
    sync(draft)
    draft.replace(path)
    sync(path.parent)


class Bench(NamedTuple):
    """How runs are made.

    **Attributes:**

    - `kept`: where they are kept.
    - `datasets`: where data sets are.
    - `checkpoint_seconds`: the longest time between two checkpoints of a run.
    """

    kept: KeptRuns
    datasets: "Datasets"
    checkpoint_seconds: float


def run_all(
    specs: Sequence[TrainSpec], bench: Bench, devices: Sequence[str], say: Say
) -> list[KeptRun]:
    """Make the runs that are not kept yet, and return all.

    **Arguments:**

    - `specs`: the runs.
    - `bench`: how they are made.
    - `devices`: one for each run that is made at the same time.
    - `say`: is told how far the run of a number is.

    **Raises** SpecError where a run cannot be made; what has ended is kept.
    """
    todo = []
    for number, spec in enumerate(specs):
        if bench.kept.ended(spec):
            say(number, "kept")
        else:
            todo.append((number, spec))
    if len(devices) == 1:
        for number, spec in todo:
            make_run(spec, bench, devices[0], partial(say, number))
    else:
        _share_out(todo, bench, devices[: len(todo)], say)
    found = [bench.kept.ended(spec) for spec in specs]
    return [kept for kept in found if kept is not None]


def make_run(spec: TrainSpec, bench: Bench, device: str, say: Callable[[str], None]) -> None:
    """Train as a spec says, from where the run stood, and keep its end.

    **Arguments:**

    - `spec`: the run.
    - `bench`: how it is made.
    - `device`: as "cpu" or "cuda:0".
    - `say`: is told how far it is.

    **Raises** SpecError where data or device are not as they must be.
    """
    watch = _Watch(spec, bench, say)
    began = time.monotonic()
    checkpoint = bench.kept.begun(spec)
    say("begins" if checkpoint is None else "goes on from its checkpoint")
    try:
        result = ffengine.train(
            spec,
            device=device,
            on_epoch=watch.on_epoch,
            on_batch=watch.on_batch,
            resume=checkpoint,
            datasets=bench.datasets,
        )
        bench.kept.end(spec, result=result)
    except ffengine.Diverged as error:
        bench.kept.end(spec, diverged=str(error))
    except (DatasetError, ValueError, OSError) as error:
        raise SpecError(str(error)) from error
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # torch's of a GPU: missing, too small
        if device == "cpu":
            raise
        raise SpecError(f"{device}: {error}") from error
    say(f"done, {time.monotonic() - began:.0f} s")


class _Watch:
    """Saves and says now and then where a run stands."""

    def __init__(self, spec: TrainSpec, bench: Bench, say: Callable[[str], None]) -> None:
        self._spec, self._bench, self._say = spec, bench, say
        self._saved = self._said = time.monotonic()
        self._message = ""

    def on_epoch(self, report: "EpochReport") -> "ffengine.interrupts.Control":
        """Look at the end of an epoch."""
        return self._look(report.fraction, report.message, lambda: report.checkpoint)

    def on_batch(self, report: "BatchReport") -> "ffengine.interrupts.Control":
        """Look between two batches."""
        return self._look(report.fraction, report.message, report.checkpoint)

    def _look(
        self, fraction: float, message: str, checkpoint: Callable[[], "Checkpoint"]
    ) -> "ffengine.interrupts.Control":
        now, self._message = time.monotonic(), message or self._message
        if now - self._saved >= self._bench.checkpoint_seconds:
            self._bench.kept.save(self._spec, checkpoint())
            self._saved = time.monotonic()
        if now - self._said >= SAID_SECONDS:
            self._say(f"{fraction:.0%} {self._message}")
            self._said = now
        return "run"


class _Ended(NamedTuple):
    """What a process says at the end of a run; why it could not be made, or nothing."""

    fault: str = ""


def _share_out(
    todo: Sequence[tuple[int, TrainSpec]], bench: Bench, devices: Sequence[str], say: Say
) -> None:
    """Make runs at the same time, each in a process, which takes the next one when it is free."""
    context, left = multiprocessing.get_context("spawn"), deque(todo)
    threads = max(1, len(os.sched_getaffinity(0)) // max(1, len(devices)))
    makers: dict[Connection, SpawnProcess] = {}
    at_work: dict[Connection, int] = {}
    try:
        for device in devices:
            here, there = context.Pipe()
            maker = context.Process(
                target=_make_runs, args=(there, bench, device, threads, os.getpid()), daemon=True
            )
            maker.start()
            there.close()  # so that the end of the process ends what is read of it
            makers[here] = maker
        for pipe in makers:
            _hand_next(pipe, left, at_work)
        while at_work:
            for pipe in cast("list[Connection]", wait(list(at_work))):
                _hear(pipe, makers[pipe], left, at_work, say)
    finally:
        for maker in makers.values():
            maker.terminate()


def _hand_next(
    pipe: Connection, left: deque[tuple[int, TrainSpec]], at_work: dict[Connection, int]
) -> None:
    """Give a process the next run, if there is one."""
    if left:
        number, spec = left.popleft()
        at_work[pipe] = number
        pipe.send(spec.model_dump_json())
    else:
        del at_work[pipe]


def _hear(
    pipe: Connection,
    maker: "SpawnProcess",
    left: deque[tuple[int, TrainSpec]],
    at_work: dict[Connection, int],
    say: Say,
) -> None:
    """Take what a process says of its run."""
    number = at_work[pipe]
    try:
        said = pipe.recv()
    except EOFError:
        maker.join()
        raise SpecError(
            f"run {number + 1}: its process has ended (exit code {maker.exitcode}); the same "
            "command goes on from there"
        ) from None
    if isinstance(said, str):
        say(number, said)
    elif said.fault:
        raise SpecError(said.fault)
    else:
        _hand_next(pipe, left, at_work)


def _make_runs(pipe: Connection, bench: Bench, device: str, threads: int, parent: int) -> None:
    """Make the runs that come, until none comes: what a process of its own does."""
    set_parent_death_signal(parent, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torch is not loaded yet
    while True:
        spec = TrainSpec.model_validate_json(pipe.recv())
        try:
            make_run(spec, bench, device, pipe.send)
        except SpecError as error:
            pipe.send(_Ended(str(error)))
        else:
            pipe.send(_Ended())
