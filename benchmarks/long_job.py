"""A job of many rows, made through the store: as if it had trained for hours and been cancelled."""

import math

from ffengine.results import EpochRow, Split
from ffengine.spec import TrainSpec
from service.jobs import Progress
from service.store import NewJob, Store

SEEDS = 64
SPLITS: tuple[Split, ...] = ("positive", "negative")
EPOCHS_AT_ONCE = 4
PEAK_EPOCH = 501  # the one epoch where theorem 2 holds for few samples
LEASE_SECONDS = 600.0


def cancelled_after(store: Store, rows: int) -> str:
    """The id of a cancelled training job with about so many rows; no worker has to run."""
    epochs = math.ceil(rows / (SEEDS * len(SPLITS)))
    spec = TrainSpec(epochs=epochs, seeds=tuple(range(SEEDS)))
    job = store.jobs.submit(NewJob(spec=spec), max_queued=1_000_000).job
    claim = store.queue.claim(job.id, "nobody", LEASE_SECONDS)
    if claim is None:
        raise RuntimeError(f"{job.id} could not be claimed")
    for first in range(0, epochs, EPOCHS_AT_ONCE):
        some = [
            row(epoch, seed, split)
            for epoch in range(first, min(first + EPOCHS_AT_ONCE, epochs))
            for seed in range(SEEDS)
            for split in SPLITS
        ]
        done = Progress(fraction=first / epochs, message=f"epoch {first}", eta_seconds=None)
        store.queue.record(
            job.id, claim.attempt, lease_seconds=LEASE_SECONDS, progress=done, rows=some
        )
    store.actions.cancel(job.id)
    store.queue.finish_stopped(job.id, claim.attempt)
    return job.id


def row(epoch: int, seed: int, split: Split) -> EpochRow:
    """A row of a curve that is smooth but for one peak."""
    share = 0.1 if epoch == PEAK_EPOCH else 0.8 + 0.1 * math.sin(epoch / 50) + seed / 1_000
    return EpochRow(
        seed=seed,
        layer=0,
        epoch=epoch,
        split=split,
        samples=500,
        dead_samples=3,
        dead_units=seed % 5,
        sparsity=0.3 + 0.2 * math.tanh(epoch / 100) + seed / 10_000,
        zero_fraction=0.512345678901234,
        goodness=1.0 + math.log1p(epoch) / 3 + seed / 997,
        loss=1.0 / (1 + epoch) + seed / 9_973,
        theorem1_ratio=1 - share / 3,
        theorem1_undecided=0,
        theorem2_ratio=share,
        theorem2_undecided=0,
        observed_increase_ratio=share,
        agreement=0.987654321098765,
        mask_flip_rate=0.001234567890123,
        near_zero_rate=0.0,
        eta=0.01,
        coefficient_sum=0.123456789012345 + seed / 1_009,
        input_norm=9.876543210987654,
    )
