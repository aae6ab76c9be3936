"""Forecasts from few units, against slow forms, the theory's tables, and runs of other widths."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from ffengine.checkpoint import Checkpoint
from ffengine.datasets import Datasets
from ffengine.forecast_curves import (
    crossing,
    curves_of,
    epochs_needed,
    forecast_rows,
    jackknife_variance,
    onset_of,
    width_factor,
)
from ffengine.forecasting import ForecastRun, PointsReport, forecast
from ffengine.interrupts import Control, Interrupted
from ffengine.provenance import Stopwatch
from ffengine.results import ForecastPoint, ForecastResult, ForecastRow, SelectionOnset, Split
from ffengine.spec import ForecastSpec, MonitorSpec, NetworkSpec, TrainSpec, digest
from ffengine.training import BatchReport, train
from ffengine.unit_sums import UnitSums

GAUSSIAN_C = 1 - 1 / math.sqrt(math.pi)  # of ReLU at initialisation
SMALL = {
    "units": 64,
    "widths": [32, 256],
    "dataset": {"name": "mnist-mini", "train_samples": 400, "test_samples": 10},
    "batch_size": 200,
    "samples": 150,
    "blocks": 8,
}


def spec(**fields: object) -> ForecastSpec:
    return ForecastSpec.model_validate({**SMALL, **fields})


def run_of(given: ForecastSpec) -> ForecastRun:
    datasets = Datasets.of_environment()
    return ForecastRun(given, torch.device("cpu"), Stopwatch(), datasets, None, ())


# Sums over units


def slow_c(h: Sequence[float]) -> float:
    first = second = 0.0
    for one in h:
        first += abs(one)
        second += one * one
    return 1 - first / math.sqrt(len(h) * second)


def slow_margin(h: Sequence[float], hdot: Sequence[float]) -> float:
    l1 = squares = along_h = along_sign = 0.0
    for one, rate in zip(h, hdot, strict=True):
        l1 += abs(one)
        squares += one * one
        along_h += one * rate
        along_sign += math.copysign(1.0, one) * rate if one else 0.0
    return along_h / squares - along_sign / l1


@given(
    seed=st.integers(0, 2**31),
    units=st.integers(8, 40),
    blocks=st.integers(2, 4),
    signed=st.booleans(),
)
@example(seed=195, units=8, blocks=2, signed=False)  # one block holds almost all of a sample
@settings(max_examples=30, deadline=None)
def test_sums_are_those_of_a_loop_over_units_with_blocks_left_out(
    seed: int, units: int, blocks: int, signed: bool
) -> None:
    draw = np.random.default_rng(seed)
    h = draw.normal(size=(2, 5, units))
    h = h if signed else np.maximum(h, 0) + 0.01 * (draw.random(h.shape) < 0.5)
    assume(h.any(-1).all())
    hdot = draw.normal(size=h.shape) * (h != 0)
    sums = UnitSums(units, blocks)
    for rows in (slice(2), slice(2, 5)):
        sums.add(torch.from_numpy(h[:, rows]), torch.from_numpy(hdot[:, rows]))
    found = sums.estimate()
    bounds = [units * block // blocks for block in range(blocks + 1)]
    for replica in range(2):
        assert int(found.dead[replica]) == 0
        at_width = float(found.c[replica] - found.c_slope[replica] / units)
        assert at_width == pytest.approx(np.mean([slow_c(one) for one in h[replica]]), abs=1e-12)
        ratio = np.mean(
            [slow_margin(*one) > 0 for one in zip(h[replica], hdot[replica], strict=True)]
        )
        assert float(found.theorem2[replica]) == pytest.approx(ratio)
        for block in range(blocks):
            kept = [unit for unit in range(units) if not bounds[block] <= unit < bounds[block + 1]]
            left, rates = h[replica][:, kept], hdot[replica][:, kept]
            live = [np.any(one) for one in left]
            c = np.mean([slow_c(one) for one, is_live in zip(left, live, strict=True) if is_live])
            assert float(found.c_without[replica, block]) == pytest.approx(c, abs=1e-12)
            margins = [slow_margin(a, b) for a, b, ok in zip(left, rates, live, strict=True) if ok]
            assume(min(map(abs, margins)) > 1e-9)  # one active unit has a margin of 0
            holds = [margin > 0 for margin in margins]
            without = float(found.theorem2_without[replica, block])
            assert without == pytest.approx(np.mean(holds))


def test_dead_samples_are_counted_and_left_out() -> None:
    h = torch.tensor([[[1.0, 2.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 5.0]]])
    sums = UnitSums(4, 2)
    sums.add(h, torch.zeros_like(h))
    found = sums.estimate()
    assert found.dead.tolist() == [1]
    assert float(found.c[0] - found.c_slope[0] / 4) == pytest.approx(
        (slow_c([1, 2, 3, 1]) + slow_c([0, 0, 0, 5])) / 2
    )
    # without its second block the third sample is dead, too
    assert float(found.c_without[0, 1]) == pytest.approx(slow_c([1, 2]))


def test_the_bias_of_few_units_is_taken_off() -> None:
    """Theory2, section 4: -.0004 with 512 units at initialisation, in proportion to 1 / units."""
    draw = np.random.default_rng(0)
    few, corrected = [], []
    for _ in range(40):
        h = np.maximum(draw.normal(size=(1, 500, 128)), 0)
        sums = UnitSums(128, 4)
        sums.add(torch.from_numpy(h), torch.zeros(h.shape))
        found = sums.estimate()
        corrected.append(float(found.c[0]))
        few.append(float(found.c[0] - found.c_slope[0] / 128))
    spread = np.std(few) / math.sqrt(len(few))  # of the mean: 1e-4
    bias = np.mean(few) - GAUSSIAN_C
    assert bias == pytest.approx(-0.0004 * 512 / 128, abs=3 * spread)
    assert abs(np.mean(corrected) - GAUSSIAN_C) < 0.25 * abs(bias) + 3 * spread


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=30))
def test_the_jackknife_of_a_mean_is_the_variance_of_a_mean(values: list[float]) -> None:
    without = [(sum(values) - one) / (len(values) - 1) for one in values]
    expected = np.var(values, ddof=1) / len(values)
    assert jackknife_variance(without) == pytest.approx(expected, rel=1e-6, abs=1e-12)


# The direction of theorem 2


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"network": {"bias": True, "activation": "gelu"}},
        {"dataset": {**SMALL["dataset"], "labels": "append", "preprocess": "center"}},  # type: ignore[dict-item]
        {
            "objective": {"name": "softplus"},
            "seeds": [0, 1, 2, 3],
            "optimizer": {"name": "sgd", "lr": 0.3, "scale_lr_by_width": False},
        },
        {
            "objective": {"name": "softplus", "negative_threshold": 0.5},
            "seeds": [0, 1, 2, 3],
            "optimizer": {"name": "sgd", "lr": 0.3, "scale_lr_by_width": False},
        },
    ],
    ids=["difference", "bias", "append", "softplus", "two thresholds"],
)
def test_the_descent_is_autograd_s_over_every_wrong_label(fields: dict[str, object]) -> None:
    run = run_of(spec(samples=7, batch_size=4, **fields))
    found = run.units.descent(run.training.learner)
    network, objective = run.training.network, run.spec.objective
    for replica in range(len(run.spec.seeds)):
        weight = network.weights[0][replica].double().requires_grad_()
        loss = torch.zeros((), dtype=torch.float64)
        chosen = [int(one) for part in run.units.index for one in part[replica]]
        for index in chosen:
            positive = run.training.train.labelled[index]
            label = int(run.training.train.labels[index])
            for wrong in set(range(10)) - {label}:
                negative = positive.clone()
                negative[label], negative[wrong] = positive[wrong], positive[label]
                pair = torch.stack([positive, negative]).unsqueeze(0)
                h = network.activation.value(network.prepared(0, pair)[0].double() @ weight.T)
                g = objective.goodness.value(h)
                theta = getattr(objective, "threshold", None) or 0.0
                other = getattr(objective, "negative_threshold", None)
                of_positive, of_negative = objective.terms(
                    g[:1] - theta, g[1:] - (theta if other is None else other)
                )
                loss = loss + (of_positive + of_negative).sum()
        (slope,) = torch.autograd.grad(loss, weight)
        expected = -slope / (9 * len(chosen))
        error = (found[replica].double() - expected).abs().max() / expected.abs().max()
        assert float(error) < 2e-5


def test_it_measures_the_samples_and_the_negatives_of_a_training_run() -> None:
    given = spec(epochs=2, samples=100)
    small = forecast(given)
    facts = Datasets.of_environment().facts_of("mnist-mini")
    same = given.training(facts).model_copy(
        update={"monitor": MonitorSpec(samples=100, theorems=())}
    )
    for row in train(same).curves:
        point = next(
            one for one in small.points if (one.epoch, one.split) == (row.epoch, row.split)
        )
        assert point.c is not None
        assert point.c_slope is not None
        at_width = (point.c - point.c_slope / 64) * width_factor(64)
        assert at_width == pytest.approx(row.sparsity, abs=1e-6)


# What is refused


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"network": {"widths": [500, 500]}}, "network", "a forecast is of one layer"),
        ({"network": {"init": "glorot"}}, "network.init", "depend on the width"),
        ({"network": {"init": "orthogonal"}}, "network.init", "depend on the width"),
        ({"negatives": {"strategy": "hardest_label"}}, "negatives", "asks the network"),
        (
            {"optimizer": {"name": "sgd", "lr": 0.03, "schedule": "cosine"}},
            "optimizer.schedule",
            "use constant",
        ),
        (
            {"objective": {"name": "difference", "goodness": "l2"}},
            "objective.goodness",
            "not a sum over units",
        ),
        (
            {"objective": {"name": "difference", "goodness": {"name": "top_k", "k": 3}}},
            "objective.goodness",
            "not a sum over units",
        ),
        (
            {"objective": {"name": "difference", "peer_normalization": 0.1}},
            "objective.peer_normalization",
            "compares units",
        ),
        ({"objective": {"name": "softplus"}}, "seeds", "4 seeds or more"),
        (
            {"objective": {"name": "bce"}, "seeds": [0, 1, 2, 3]},
            "objective.goodness",
            "use mean_squares",
        ),
        (
            {"objective": {"name": "softplus", "threshold": None}, "seeds": [0, 1, 2, 3]},
            "objective.threshold",
            "give a number",
        ),
        (
            {"optimizer": {"name": "sgd", "lr": 64.0, "weight_decay": 1.0}},
            "optimizer.weight_decay",
            "takes all weights away",
        ),
        (
            {"optimizer": {"name": "momentum", "weight_decay": 3.2}, "plan": {"lr": [1.0, 10.0]}},
            "plan.lr",
            "at width 32 and lr 10 a weight decay of 3.2 takes all weights away in a step; use "
            "less than 10",
        ),
        ({"blocks": 64}, "blocks", "need 128 units"),
        ({"widths": [64, 64]}, "widths", "each value once"),
        ({"seeds": [1, 1]}, "seeds", "each value once"),
        (
            {"optimizer": {"name": "sgd", "lr": 1e-6, "scale_lr_by_width": True}},
            "optimizer.lr",
            "1e-06 is too small: until_tau = 6 needs more than the 100000 epochs",
        ),
        (
            {"optimizer": {"name": "sgd", "lr": 1e-6, "scale_lr_by_width": True}, "until_tau": 2.0},
            "until_tau",
            "larger optimizer.lr",
        ),
    ],
)
def test_what_the_theory_does_not_cover_is_refused_in_words(
    fields: dict[str, object], field: str, words: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        spec(**fields)
    (error,) = refused.value.errors()
    cause = error["ctx"]["error"]
    where = ".".join([*map(str, error["loc"]), *cause.path])
    assert where.startswith(field)
    assert words in cause.message


@pytest.mark.parametrize("goodness", ["sum_squares", "mean_squares", "minus_sum_squares", "l1"])
def test_units_do_not_interact_where_the_goodness_is_a_sum(goodness: str) -> None:
    given = spec(objective={"name": "difference", "goodness": goodness}, epochs=1)
    assert not given.units_interact


@pytest.mark.parametrize(
    ("objective", "optimizer"),
    [
        ({"name": "difference"}, {"name": "sgd", "lr": 0.1, "scale_lr_by_width": False}),
        ({"name": "difference", "goodness": "l1"}, {"name": "momentum", "lr": 0.01}),
        ({"name": "difference"}, {"name": "adam", "lr": 0.01}),
        (
            {"name": "difference", "goodness": "mean_squares"},
            {"name": "sgd", "lr": 6.4, "scale_lr_by_width": False},
        ),
    ],
    ids=["sgd", "momentum l1", "adam", "mean squares"],
)
def test_the_units_of_a_small_run_are_the_first_units_of_a_wide_one(
    objective: dict[str, object], optimizer: dict[str, object]
) -> None:
    def weights(units: int) -> Tensor:
        scale = units / 64
        scaled = {**optimizer, "lr": float(str(optimizer["lr"])) * scale}
        lr = scaled if "mean_squares" in objective.values() else optimizer
        if optimizer.get("scale_lr_by_width") is None and optimizer["name"] == "momentum":
            lr = scaled
        run = run_of(spec(units=units, objective=objective, optimizer=lr, epochs=3))
        run.run(lambda _: "run", lambda _: "run")
        return run.training.network.weights[0][0]

    few, many = weights(64), weights(128)
    torch.testing.assert_close(many[:64], few, rtol=1e-4, atol=1e-5)


# From points to a forecast


def point(split: Split, epoch: int, **fields: object) -> ForecastPoint:
    return ForecastPoint.model_validate(
        {
            "seed": 0,
            "epoch": epoch,
            "split": split,
            "tau": 0.5 * epoch,
            "samples": 100,
            "dead_samples": 0,
            "c": 0.4,
            "c_slope": 0.3,
            "c_without": [0.39, 0.4, 0.41, 0.4],
            "theorem2_ratio": 0.5,
            "theorem2_without": [0.45, 0.5, 0.55, 0.5],
            **fields,
        }
    )


def path(*ratios: float, shift: Sequence[float] = (-0.05, 0.0, 0.05, 0.0)) -> list[ForecastPoint]:
    """Points of both splits with these ratios, epoch by epoch; the blocks shift them."""
    return [
        point(split, epoch, theorem2_ratio=ratio, theorem2_without=[ratio + one for one in shift])
        for epoch, ratio in enumerate(ratios)
        for split in ("positive", "negative")
    ]


def test_the_band_of_a_run_is_that_of_the_curve_and_of_its_own_units() -> None:
    given = spec(units=16, blocks=4)
    (curve, _) = curves_of([point("positive", 1), point("negative", 1)], given)
    limit, narrow, wide = forecast_rows([curve], (64, 10_000))
    variance = jackknife_variance([0.39, 0.4, 0.41, 0.4])
    t = 3.182446  # Student's, three degrees of freedom
    assert limit.sparsity == limit.c == pytest.approx(0.4)
    assert limit.high - limit.sparsity == pytest.approx(t * math.sqrt(variance), rel=1e-3)
    assert (limit.run_low, limit.run_high) == (limit.low, limit.high)
    for row, n in ((narrow, 64), (wide, 10_000)):
        factor = math.sqrt(n) / (math.sqrt(n) - 1)
        assert row.sparsity == pytest.approx(factor * (0.4 - 0.3 / n))
        both = math.sqrt(variance + variance * 16 / n)  # c^2 = 16 variance
        assert row.run_high - row.sparsity == pytest.approx(factor * t * both, rel=1e-3)
        assert row.high - row.sparsity == pytest.approx(factor * t * math.sqrt(variance), rel=1e-3)


def test_seeds_that_differ_by_more_than_their_units_widen_the_band() -> None:
    given = spec(units=16, blocks=4, seeds=[0, 1, 2, 3])

    def curve(*values: float) -> ForecastRow:
        points = [point("positive", 1, seed=seed, c=c) for seed, c in enumerate(values)]
        return forecast_rows(curves_of(points, given), (64,))[1]

    alike, apart = curve(0.4, 0.4, 0.4, 0.4), curve(0.3, 0.35, 0.45, 0.5)
    assert alike.sparsity == pytest.approx(apart.sparsity)
    assert apart.high - apart.low > 3 * (alike.high - alike.low)
    assert apart.run_high - apart.run_low > 3 * (alike.run_high - alike.run_low)


def test_seeds_make_the_band_of_theorem_2_where_there_are_enough() -> None:
    """What the order of the batches does to all units alike is in no spread of units."""
    values = [0.2, 0.4, 0.6, 0.9]

    def row(seeds: int) -> ForecastRow:
        given = spec(units=16, blocks=4, seeds=list(range(seeds)))
        points = [
            point("positive", 1, seed=seed, theorem2_ratio=values[seed], theorem2_without=[0.5] * 4)
            for seed in range(seeds)
        ]
        return forecast_rows(curves_of(points, given), ())[0]

    few, enough = row(3), row(4)
    assert few.theorem2_low == few.theorem2_high == few.theorem2_ratio
    assert enough.theorem2_ratio == pytest.approx(np.mean(values))
    assert enough.theorem2_low is not None
    half = 3.182446 * np.std(values, ddof=1) / 2  # Student's, three degrees of freedom
    assert enough.theorem2_ratio is not None
    assert enough.theorem2_ratio - enough.theorem2_low == pytest.approx(half, rel=1e-3)


def test_the_onset_of_several_seeds_has_their_spread() -> None:
    given = spec(units=16, blocks=4, seeds=[0, 1, 2, 3])
    points = [
        one.model_copy(update={"seed": seed})
        for seed, ratio in enumerate((0.3, 0.35, 0.4, 0.45))
        for one in path(0.8, 0.1, ratio, 0.9, shift=(0.0, 0.0, 0.0, 0.0))
    ]
    onset = onset_of(curves_of(points, given))
    assert onset.tau is not None
    assert onset.low is not None
    means = [np.mean([0.35, 0.4, 0.45]), np.mean([0.3, 0.4, 0.45])]
    means += [np.mean([0.3, 0.35, 0.45]), np.mean([0.3, 0.35, 0.4])]
    crossings = [1.0 + 0.5 * (0.5 - float(one)) / (0.9 - float(one)) for one in means]
    half = 3.182446 * math.sqrt(jackknife_variance(crossings))
    assert onset.tau - onset.low == pytest.approx(half, rel=1e-3)


def test_where_units_interact_whole_networks_make_the_band() -> None:
    given = spec(
        units=16,
        blocks=4,
        seeds=[0, 1, 2, 3],
        objective={"name": "softplus"},
        optimizer={"name": "sgd", "lr": 0.1},
        epochs=1,
    )
    values = [0.38, 0.4, 0.4, 0.42]
    points = [point("positive", 1, seed=seed, c=c) for seed, c in enumerate(values)]
    row = forecast_rows(curves_of(points, given), ())[0]
    expected = 3.182446 * np.std(values, ddof=1) / 2
    assert row.high - row.sparsity == pytest.approx(expected, rel=1e-3)


def test_points_without_live_samples_are_not_forecast() -> None:
    gone = point(
        "positive",
        1,
        dead_samples=100,
        c=None,
        c_slope=None,
        c_without=[],
        theorem2_ratio=None,
        theorem2_without=[],
    )
    (curve,) = curves_of([gone, point("negative", 1)], spec(blocks=4))
    assert curve.split == "negative"


def test_act_1_ends_where_both_ratios_cross_one_half_after_their_lowest() -> None:
    given = spec(blocks=4)
    onset = onset_of(curves_of(path(0.8, 0.6, 0.1, 0.3, 0.7, 0.9), given))
    assert onset.outcome == "crossed"
    assert onset.tau == pytest.approx(0.5 * 3.5)
    assert onset.low is not None
    assert onset.high is not None
    # the blocks cross at (.5 -+ .05 - .3) / .4 of an epoch of .5
    crossings = [1.75 + 0.0625, 1.75, 1.75 - 0.0625, 1.75]
    half = 3.182446 * math.sqrt(jackknife_variance(crossings))
    assert onset.high - 1.75 == pytest.approx(half, rel=1e-3)
    assert 1.75 - onset.low == pytest.approx(half, rel=1e-3)


def test_of_two_splits_the_later_one_counts() -> None:
    later = [0, 0, 0.1, 0.1, 0.2, 0.2, 0.8, 0.8]
    points = [
        one if one.split == "positive" else point("negative", one.epoch, theorem2_ratio=ratio)
        for one, ratio in zip(path(0.8, 0.1, 0.6, 0.9), later, strict=True)
    ]
    assert onset_of(curves_of(points, spec(blocks=4))).tau == pytest.approx(0.5 * 2.5)


def test_inputs_that_do_not_recruit_have_no_act_1() -> None:
    onset = onset_of(curves_of(path(0.1, 0.7, 0.8, 0.9), spec(blocks=4)))
    assert onset == SelectionOnset(outcome="never_below", tau=None, low=None, high=None)


def test_a_run_that_ends_in_act_1_knows_no_onset_and_says_so() -> None:
    onset = onset_of(curves_of(path(0.9, 0.2, 0.1, 0.4), spec(blocks=4)))
    assert onset == SelectionOnset(outcome="not_reached", tau=None, low=None, high=None)
    late = onset_of(curves_of(path(0.9, 0.2, 0.1, 0.52), spec(blocks=4)))
    assert late.tau is not None
    assert late.high is None  # without some blocks it is not reached


def test_a_crossing_lies_between_two_points_and_after_the_lowest() -> None:
    assert crossing([1.0, 2.0, 3.0], [0.4, 0.2, 0.6]) == pytest.approx(2.75)
    assert crossing([1.0, 2.0, 3.0, 4.0], [0.3, 0.6, 0.1, 0.9]) == pytest.approx(3.5)
    assert crossing([1.0, 2.0], [0.6, 0.7]) is None
    assert crossing([1.0, 2.0], [0.6, 0.1]) is None


def test_epochs_follow_from_flow_time() -> None:
    given = spec(widths=[100, 400], plan={"lr": [1.0], "batch_size": 500, "train_samples": 60_000})
    facts = Datasets.of_environment().facts_of("mnist-mini")
    onset = SelectionOnset(outcome="crossed", tau=2.0, low=1.5, high=2.5)
    rows = epochs_needed(given, facts, onset, 6.0)
    assert [(row.width, row.as_forecast) for row in rows] == [
        (100, True),
        (100, False),
        (400, True),
        (400, False),
    ]
    for row in rows:
        # docs/theory.md: epochs = tau n B / (lr N)
        expected = 2.0 * row.width * 500 / (row.lr * 60_000)
        assert row.epochs == pytest.approx(expected)
        assert (row.low, row.high) == pytest.approx((0.75 * expected, 1.25 * expected))
        assert row.epochs_to_end == pytest.approx(3 * expected)
    assert rows[0].tau_of_step == rows[2].tau_of_step == pytest.approx(0.03)


def test_a_mean_goodness_has_one_more_width_in_its_flow_time() -> None:
    means = {"name": "difference", "goodness": "mean_squares"}
    optimizer = {"name": "sgd", "lr": 0.5, "scale_lr_by_width": False}
    given = spec(objective=means, optimizer=optimizer, epochs=1)
    assert given.tau_of_step == pytest.approx(0.5 / 64)
    facts = Datasets.of_environment().facts_of("mnist-mini")
    onset = SelectionOnset(outcome="never_below", tau=None, low=None, high=None)
    for row in epochs_needed(given, facts, onset, 1.0):
        if row.as_forecast:
            assert row.tau_of_step == pytest.approx(0.5 / 64)
            assert row.epochs is None


SOFTPLUS = {"objective": {"name": "softplus"}, "seeds": [0, 1, 2, 3]}
MEANS = {"objective": {"name": "difference", "goodness": "mean_squares"}}
OPTIMIZERS: dict[str, dict[str, object]] = {
    "sgd": {"name": "sgd", "lr": 0.02},
    "sgd by width": {"name": "sgd", "lr": 0.5, "scale_lr_by_width": True},
    "decay": {"name": "sgd", "lr": 0.02, "weight_decay": 4.0},
    "momentum": {"name": "momentum", "lr": 0.005},
    "momentum with decay": {"name": "momentum", "lr": 0.005, "momentum": 0.6, "weight_decay": 3.0},
    "nesterov": {"name": "nesterov", "lr": 0.005, "momentum": 0.7},
    "adam": {"name": "adam", "lr": 0.002},
    "adam with decay": {"name": "adam", "lr": 0.002, "weight_decay": 0.5},
    "adamw": {"name": "adamw", "lr": 0.002},
}


@pytest.mark.parametrize("fields", [{}, MEANS, SOFTPLUS], ids=["sum", "mean", "softplus"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_flow_time_is_that_of_training_runs(name: str, fields: dict[str, object]) -> None:
    """Of the small run, and of runs of other widths with the epochs and rates that are planned."""
    data = {"name": "mnist-mini", "train_samples": 40, "test_samples": 10}
    tiny = {"units": 16, "blocks": 4, "widths": [8], "dataset": data, "batch_size": 20}
    optimizer = {"scale_lr_by_width": False, **OPTIMIZERS[name]}
    given = spec(
        **tiny, samples=20, epochs=2, optimizer=optimizer, plan={"lr": [0.125, 0.75]}, **fields
    )
    facts = Datasets.of_environment().facts_of("mnist-mini")

    def taus(lr: float, *, width: int, by_width: bool, epochs: int) -> list[float | None]:
        document = given.training(facts).model_dump() | {
            "network": {"widths": [width]},
            "optimizer": optimizer | {"lr": lr, "scale_lr_by_width": by_width},
            "epochs": epochs,
            "seeds": [0],
            "monitor": {"samples": 20, "theorems": []},
        }
        curves = train(TrainSpec.model_validate(document)).curves
        return [row.tau for row in curves if row.split == "positive"]

    found = forecast(given)
    small = [row.tau for row in found.rows if (row.width, row.split) == (8, "positive")]
    by_width = given.optimizer.scale_lr_by_width
    assert small == pytest.approx(
        taus(given.optimizer.lr, width=16, by_width=by_width, epochs=2), rel=1e-12
    )
    others = [] if "adam" in name else [False, False]
    assert [row.as_forecast for row in found.epochs_needed] == [True, *others]
    for row in found.epochs_needed:
        planned = taus(row.lr, width=8, by_width=True, epochs=3)
        assert planned == pytest.approx([one * row.tau_of_epoch for one in range(4)], rel=1e-12)
        assert row.epochs_to_end * row.tau_of_epoch == pytest.approx(small[-1])
    assert found.epochs_needed[0].tau_of_epoch == pytest.approx(small[1], rel=1e-12)
    assert ("forecast_of_one_rate" in {one.code for one in found.diagnostics}) == ("adam" in name)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["momentum", "nesterov"])
def test_momentum_makes_a_forecast_shorter_and_does_not_bend_it(optimizer: str) -> None:
    """The curve over tau is that of plain descent with the same flow time a step, apart from the
    first steps, in which momentum builds up.
    """
    fields = {"units": 128, "until_tau": 3.0, "widths": [128], "every_epochs": 3}

    def curve(**changes: object) -> tuple[int, list[float]]:
        chosen = {"scale_lr_by_width": False, **changes}
        rows = forecast(spec(optimizer=chosen, **fields)).rows
        own = [row for row in rows if (row.width, row.split) == (128, "positive")]
        return own[-1].epoch, [row.sparsity for row in own]

    epochs, plain = curve(name="sgd", lr=0.05)
    same, with_momentum = curve(name=optimizer, lr=0.02, momentum=0.6)
    assert same == epochs
    assert max(abs(a - b) for a, b in zip(plain, with_momentum, strict=True)) < 0.02
    assert max(plain) - min(plain) > 0.06


# Whole forecasts


def test_the_defaults_suit_mnist_mini() -> None:
    given = ForecastSpec()
    facts = Datasets.of_environment().facts_of("mnist-mini")
    assert given.epochs_on(facts) == 17
    assert given.tau_of_epoch(facts) == pytest.approx(0.36)


def test_an_interrupted_forecast_goes_on_with_the_same_bits() -> None:
    given = spec(until_tau=0.18, seeds=[0, 3])
    whole = forecast(given)
    points: list[ForecastPoint] = []
    checkpoint: Checkpoint | None = None
    last: ForecastResult | None = None
    stops = 0
    while last is None:
        batches = 0

        def on_batch(_: BatchReport) -> Control:
            nonlocal batches
            batches += 1
            return "stop" if batches == 3 else "run"

        def on_points(report: PointsReport) -> Control:
            points.extend(report.points)
            return "run"

        had = list(points)
        try:
            last = forecast(
                given, on_points=on_points, on_batch=on_batch, resume=checkpoint, points=had
            )
        except Interrupted as stopped:
            checkpoint = stopped.checkpoint and Checkpoint.from_bytes(stopped.checkpoint.to_bytes())
            stops += 1
    assert stops >= 2
    assert last.points == whole.points
    assert last.rows == whole.rows
    assert last.onset == whole.onset


def test_a_checkpoint_of_another_spec_is_refused() -> None:
    kept: list[Checkpoint] = []

    def keep(report: PointsReport) -> Control:
        kept.append(report.checkpoint)
        return "stop"

    given = spec(epochs=1)
    with pytest.raises(Interrupted):
        forecast(given, on_points=keep)
    assert kept[0].spec_digest == digest(given)
    with pytest.raises(ValueError, match="another spec"):
        forecast(spec(epochs=2), resume=kept[0])


def test_findings_say_what_the_forecast_does_not_know() -> None:
    short = forecast(spec(epochs=1, optimizer={"name": "sgd", "lr": 12.8}))
    codes = {one.code for one in short.diagnostics}
    assert codes >= {"forecast_step_coarse", "forecast_ends_in_act_1"}
    assert short.onset.outcome == "not_reached"
    field = forecast(
        spec(
            objective={"name": "softplus"},
            seeds=[0, 1, 2, 3],
            epochs=1,
            optimizer={"name": "sgd", "lr": 0.3, "scale_lr_by_width": False},
        )
    )
    assert field.units_interact
    assert "forecast_units_interact" in {one.code for one in field.diagnostics}


@pytest.mark.slow
def test_dead_samples_are_a_finding() -> None:
    noise = {"strategy": "noise", "scale": 0.5}
    found = forecast(spec(units=16, blocks=4, widths=[64], negatives=noise, until_tau=2.0))
    assert max(one.dead_samples for one in found.points) > 0
    assert "forecast_dead_samples" in {one.code for one in found.diagnostics}


def s_of_run(width: int, seed: int, given: ForecastSpec) -> dict[tuple[int, str], float]:
    """S of a real training run with the steps of the forecast, by epoch and split."""
    facts = Datasets.of_environment().facts_of("mnist-mini")
    of_training = given.training(facts)
    document = of_training.model_dump() | {
        "network": NetworkSpec(widths=(width,)),
        "seeds": (seed,),
        "monitor": MonitorSpec(samples=given.samples, theorems=()),
    }
    curves = train(TrainSpec.model_validate(document)).curves
    return {(row.epoch, row.split): row.sparsity for row in curves if row.sparsity is not None}


@pytest.mark.slow
def test_the_band_of_a_small_run_covers_a_run_of_another_width() -> None:
    given = spec(
        units=128,
        widths=[256],
        blocks=16,
        dataset={"name": "mnist-mini", "train_samples": 1_000, "test_samples": 10},
        batch_size=500,
        samples=500,
        optimizer={"name": "sgd", "lr": 0.1, "scale_lr_by_width": False},
        until_tau=4.0,
    )
    rows = [row for row in forecast(given).rows if row.width == 256]
    assert rows[-1].tau == pytest.approx(4.0)
    measured = [s_of_run(256, seed, given) for seed in (11, 12)]
    for run in measured:
        inside = [row.run_low <= run[row.epoch, row.split] <= row.run_high for row in rows]
        assert np.mean(inside) > 0.9
    # the band is not so wide that it says nothing: S moves through it
    assert max(row.run_high - row.run_low for row in rows) < 0.16
    first, lowest = rows[0].sparsity, min(row.sparsity for row in rows)
    assert first - lowest > 0.06


@pytest.mark.slow
@pytest.mark.soak
def test_groups_of_units_forecast_the_wide_layer_that_they_make() -> None:
    """Theory2, section 4: spread c / sqrt(n), small bias, and 95 % cover at two deviations."""
    groups, units, wide = 64, 128, 8_192
    given = spec(
        units=wide,
        blocks=16,
        dataset={"name": "mnist-mini", "train_samples": 300, "test_samples": 10},
        batch_size=300,
        samples=300,
    )
    run = run_of(given)
    learner, weight = run.training.learner, run.training.network.weights[0]
    steps_of = {1: 5, 2: 10, 3: 15, 4: 20, 6: 30}
    taken, covered = 0, []
    table = {0: 0.195, 1: 0.194, 2: 0.185, 3: 0.189, 4: 0.201, 6: 0.233}  # c, within 15 %
    for tau in (0, *steps_of):
        while taken < steps_of.get(tau, 0):
            weight.add_(run.units.descent(learner), alpha=0.2)
            taken += 1
        pairs = next(run.units._batches(run.training.network))
        h = run.training.network.activation.value(pairs.times(weight, torch.bmm))
        for own in h.chunk(2, 1):
            all_units = UnitSums(wide, 16)
            all_units.add(own, torch.zeros_like(own))
            truth = float(all_units.estimate().c[0])
            each = []
            for group in own.split(units, dim=-1):
                sums = UnitSums(units, 16)
                sums.add(group, torch.zeros_like(group))
                found = sums.estimate()
                each.append(float(found.c[0]))
                deviation = math.sqrt(jackknife_variance(found.c_without[0].tolist()))
                covered.append(abs(each[-1] - truth) <= 2 * deviation)
            assert len(each) == groups
            spread = float(np.std(each, ddof=1))
            assert spread * math.sqrt(units) == pytest.approx(table[tau], rel=0.25)
            # 64 groups tell the mean to an eighth of the spread
            assert abs(np.mean(each) - truth) < 3 * spread / 8
            if tau == 0:
                assert truth == pytest.approx(GAUSSIAN_C, abs=0.006)
    assert 0.91 < np.mean(covered) < 0.98


@pytest.mark.parametrize("lr", [5e-324, 1e-308, 1e-9])
def test_a_forecast_whose_steps_are_too_small_is_refused_in_words(lr: float) -> None:
    with pytest.raises(ValidationError, match="needs more than the 100000 epochs that a run may"):
        ForecastSpec.model_validate({"optimizer": {"lr": lr}})
