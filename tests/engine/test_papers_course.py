"""The course of training under the paper's preset, beside what theory predicts of it."""

import math
from functools import cache
from statistics import fmean

import pytest

import ffengine
from ffengine.datasets import DATASETS
from ffengine.optimizers import Sgd
from ffengine.presets import PRESETS
from ffengine.results import EpochRow
from ffengine.spec import DatasetSpec, EvaluationSpec, MonitorSpec, TrainSpec
from ffengine.study import expand

# mnist-mini, n = 256, lr = n/30, batches of 500, seeds 0 to 2: theorem 2's ratio and S of positives
# / negatives by epoch, from theory
UNIT = {
    0: (0.78, 0.64, 0.464, 0.464),
    2: (0.07, 0.04, 0.429, 0.419),
    5: (0.52, 0.49, 0.376, 0.356),
    10: (0.65, 0.64, 0.405, 0.381),
}
CENTER = {
    0: (0.66, 0.48, 0.464, 0.464),
    2: (0.86, 0.75, 0.476, 0.470),
    5: (0.91, 0.84, 0.510, 0.499),
    10: (0.82, 0.79, 0.559, 0.544),
}


def training(preprocess: str) -> TrainSpec:
    """The training of the preset `paper` with that preprocessing."""
    [spec] = [
        cell.spec
        for cell in expand(PRESETS["paper"].spec)
        if cell.params == {"dataset.preprocess": preprocess}
    ]
    assert isinstance(spec, TrainSpec)
    return spec


def small(preprocess: str) -> TrainSpec:
    """The same on mnist-mini, with the step of the theory's table."""
    spec = training(preprocess)
    return spec.model_copy(
        update={
            "dataset": DatasetSpec(preprocess=spec.dataset.preprocess),
            "optimizer": Sgd(lr=256 / 30),
        }
    )


@cache
def curves(preprocess: str) -> list[EpochRow]:
    """Its rows, shortened to ten epochs and three seeds."""
    light = {"evaluation": EvaluationSpec(measures=False), "monitor": MonitorSpec(theorems=(2,))}
    return list(
        ffengine.train(
            small(preprocess).model_copy(update={"epochs": 10, "seeds": (0, 1, 2), **light})
        ).curves
    )


def means(rows: list[EpochRow], epoch: int) -> tuple[float, ...]:
    """Theorem 2's ratio and S of both splits, over seeds."""
    splits = [
        [row for row in rows if row.epoch == epoch and row.split == split]
        for split in ("positive", "negative")
    ]
    ratios = [fmean(row.theorem2_ratio or 0.0 for row in split) for split in splits]
    return (*ratios, *(fmean(row.sparsity or 0.0 for row in split) for split in splits))


def test_the_paper_trains_on_all_of_mnist_one_unit_of_flow_time_an_epoch() -> None:
    cells = [cell for cell in expand(PRESETS["paper"].spec) if isinstance(cell.spec, TrainSpec)]
    specs = [cell.spec for cell in cells if isinstance(cell.spec, TrainSpec)]
    assert {spec.dataset.train_count(DATASETS["mnist"]) for spec in specs} == {60_000}
    for spec in specs:
        steps = 60_000 / spec.batch_size
        assert spec.optimizer.lr / spec.network.widths[0] * steps == pytest.approx(1)
    ways = [(cell.spec.dataset.preprocess, cell.spec.epochs, cell.part) for cell in cells]  # type: ignore[union-attr]
    assert ways[:2] == [("unit", 8, "training"), ("center", 8, "training")]


@pytest.mark.soak
def test_with_pixels_as_they_are_theorem_2_falls_and_then_holds_for_most_while_s_rises() -> None:
    rows = curves("unit")
    for epoch, expected in UNIT.items():
        assert means(rows, epoch)[:2] == pytest.approx(expected[:2], abs=0.05), epoch
        assert means(rows, epoch)[2:] == pytest.approx(expected[2:], abs=0.01), epoch
    acts = {row.epoch: row.act for row in rows if (row.seed, row.split) == (0, "positive")}
    assert set(map(acts.get, range(2, 6))) == {"recruiting"}
    assert set(map(acts.get, range(8, 11))) == {"selecting"}


@pytest.mark.slow
def test_with_centred_pixels_theorem_2_holds_for_most_from_epoch_1_on_and_s_only_rises() -> None:
    rows = curves("center")
    for epoch, expected in CENTER.items():
        assert means(rows, epoch)[:2] == pytest.approx(expected[:2], abs=0.05), epoch
        assert means(rows, epoch)[2:] == pytest.approx(expected[2:], abs=0.01), epoch
    for split in (0, 1):
        assert min(means(rows, epoch)[split] for epoch in range(1, 11)) > 0.5
        sparsity = [means(rows, epoch)[2 + split] for epoch in range(11)]
        assert sparsity == sorted(sparsity)


@pytest.mark.slow
def test_recruiting_at_constant_shape_follows_the_law_of_gaussian_pre_activations() -> None:
    """In the first phase S follows from the share of active units alone: z over units stays
    Gaussian (theory: kappa_G).
    """
    rows = [one for one in curves("unit") if one.split == "positive" and one.epoch in (0, 1, 2)]
    for one in rows:
        p = 1 - one.zero_fraction
        assert one.sparsity == pytest.approx(
            (1 - math.sqrt(p) * gaussian_kappa(p)) * 16 / 15, abs=0.02
        )


def gaussian_kappa(p: float) -> float:
    """cos(h, [h > 0]) where the pre-activations of a sample are Gaussian over units with a share p
    above zero.
    """
    low, high = -6.0, 6.0
    for _ in range(60):
        a = (low + high) / 2
        low, high = (a, high) if (1 + math.erf(a / math.sqrt(2))) / 2 < p else (low, a)
    density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
    return (density + a * p) / math.sqrt(p * ((1 + a * a) * p + a * density))
