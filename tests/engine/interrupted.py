"""Runs that are interrupted again and again."""

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.interrupts import Control, Interrupted
from ffengine.results import TrainResult
from ffengine.spec import TrainSpec
from ffengine.training import BatchReport, EpochReport


def stopped_every(spec: TrainSpec, reports: int) -> tuple[TrainResult, int]:
    """The result of a run that is stopped after so many reports, saved, read again and gone on
    with; and how often.
    """
    resume: Checkpoint | None = None
    stops = 0
    while True:
        left = [reports]

        def stop_soon(_report: EpochReport | BatchReport, left: list[int] = left) -> Control:
            left[0] -= 1
            return "stop" if left[0] == 0 else "run"

        try:
            return ffengine.train(
                spec, on_epoch=stop_soon, on_batch=stop_soon, resume=resume
            ), stops
        except Interrupted as stopped:
            stops += 1
            if stopped.checkpoint is not None:  # None: where nothing was learnt yet
                resume = Checkpoint.from_bytes(stopped.checkpoint.to_bytes())
