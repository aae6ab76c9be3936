"""Exact rescaling: the same bits as a run whose weights are left to grow, as far as that is finite,
and a run beyond.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine import scaling
from ffengine.activations import ACTIVATIONS
from ffengine.checkpoint import Checkpoint
from ffengine.entry import entries, name_of
from ffengine.interrupts import Control, Interrupted
from ffengine.layer_updates import Learner
from ffengine.network import Network
from ffengine.objectives import AnyObjective, GoodnessEntry, Objective
from ffengine.optimizers import AnyOptimizer
from ffengine.random_streams import Draws
from ffengine.results import EpochRow, TrainResult
from ffengine.scaling import (
    goodness_factors,
    is_in_range,
    power_of_two,
    shifts,
    steps_between_looks,
)
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.training import BatchReport, EpochReport
from ffengine.weights import Weights, export_weights, import_weights
from tests.examples import examples

NEVER = 64  # a range that float32 weights of these runs do not leave
GROWING: dict[str, Any] = {
    "dataset": {"train_samples": 120, "test_samples": 40},
    "network": {"widths": [24]},
    "optimizer": {"lr": 12.0},
    "epochs": 5,
    "batch_size": 30,
    "monitor": {"samples": 60, "measures": ["gini", "kurtosis", "spectral_norm", "weights"]},
    "seeds": [3, 8],
    "evaluation": {"ensembles": True, "linear_classifier": True},
}
SHRINKING = {"negatives": {"strategy": "noise", "scale": 1.0}, "optimizer": {"lr": 0.05}}
DEEP = {"network": {"widths": [20, 16], "normalize": "l2", "bias": True}}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "leaky": {"network": {"widths": [24], "activation": "leaky_relu"}},
    "identity": {"network": {"widths": [24], "activation": "identity"}},
    "bias": {"network": {"widths": [24], "bias": True}},
    "momentum": {"optimizer": {"name": "momentum", "lr": 3.0, "momentum": 0.8}},
    "nesterov": {"optimizer": {"name": "nesterov", "lr": 3.0, "momentum": 0.8}},
    "decay": {"optimizer": {"name": "momentum", "lr": 3.0, "weight_decay": 0.1}},
    "weights that shrink": {
        "optimizer": {"lr": 12.0, "weight_decay": 1.3, "schedule": "linear_cooldown"},
        "dataset": {"train_samples": 120, "test_samples": 40, "preprocess": "unit_norm"},
    },
    "mean of squares": {
        "objective": {"goodness": "mean_squares"},
        "optimizer": {"lr": 12.0 * 24},
    },
    "minus the squares": {"objective": {"goodness": "minus_sum_squares"}},
    "top-k": {"objective": {"goodness": {"name": "top_k", "k": 5}}},
    "peer normalisation": {"objective": {"peer_normalization": 0.5}},
    "slope one everywhere": {"network": {"widths": [24], "pass_dead_units": True}},
    "noise: sleep": SHRINKING,
    "bf16": {"precision": "bf16"},
    "drawn once": {"negatives": {"redraw": "once"}},
    "hardest label": {"negatives": {"strategy": "hardest_label"}},
    "sampled label": {"negatives": {"strategy": "sampled_label"}},
    "adversarial": {"negatives": {"strategy": "adversarial"}, "optimizer": {"lr": 1.0}},
    "deep": {**DEEP, "optimizer": {"lr": 30.0}, "evaluation": {"linear_classifier": True}},
    "deep, simultaneous, asking": {
        "network": {"widths": [20, 16], "normalize": "layer"},
        "layers": "simultaneous",
        "negatives": {"strategy": "hardest_label"},
    },
    "deep, simultaneous, smaller than the least scale": {
        "network": {"widths": [24, 24], "normalize": "rms"},
        "layers": "simultaneous",
        "dataset": {"train_samples": 120, "test_samples": 40, "preprocess": "unit_norm"},
        "objective": {"goodness": {"name": "mean_squares"}},
        "optimizer": {"lr": 24.0, "weight_decay": 0.8},
        "epochs": 4,  # left alone, h times its rate is below float32 after a fifth
    },
    "deep without normalisation": {
        "network": {"widths": [20, 16]},
        "optimizer": {"lr": 0.2},
        "epochs": 40,
    },
}

QUICK = ("plain", "leaky", "momentum", "top-k", "deep")  # all of them take too long together


def spec_of(**changes: object) -> TrainSpec:
    return TrainSpec.model_validate({**GROWING, **changes})


def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rescale by powers of 4 after every step."""
    monkeypatch.setattr(scaling, "RANGE_BITS", 1)
    monkeypatch.setattr(scaling, "MOST_STEPS", 1)


def trained(spec: TrainSpec, **rest: Any) -> tuple[TrainResult, Checkpoint]:
    last: list[EpochReport] = []
    result = ffengine.train(spec, on_epoch=last.append, **rest)
    return result, last[-1].checkpoint


def figures(result: TrainResult) -> dict[str, Any]:
    """All that a run measured, but for the share of pre-activations near an absolute zero."""
    rows = [row.model_dump(exclude={"near_zero_rate"}) for row in result.curves]
    return {
        "rows": rows,
        **{
            name: getattr(result, name)
            for name in ("accuracy", "measures", "ensembles", "baselines")
        },
    }


def true_weights(checkpoint: Checkpoint) -> list[np.ndarray]:
    """W in float64."""
    return [
        np.ldexp(weight.double().numpy(), exponent.numpy()[:, None, None])
        for weight, exponent in zip(checkpoint.weights, checkpoint.scales, strict=True)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.soak) for case in CASES],
)
def test_no_bit_changes_as_far_as_the_weights_left_alone_are_finite(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(**CASES[case])
    monkeypatch.setattr(scaling, "RANGE_BITS", NEVER)
    alone, left = trained(spec)
    assert not any(map(any, left.scales))
    always(monkeypatch)
    rescaled, kept = trained(spec)
    assert any(exponent.any() for exponent in kept.scales)
    assert figures(alone) == figures(rescaled)
    for one, other in zip(left.weights, true_weights(kept), strict=True):
        np.testing.assert_array_equal(one.double().numpy(), other)


@pytest.mark.slow
def test_weights_that_would_pass_float32_many_times_over_are_trained_on() -> None:
    """S goes on, and so does the growth of log G, also where float64 does not hold G."""
    spec = spec_of(
        optimizer={"lr": 4.0},
        epochs=125,
        batch_size=10,
        monitor={"samples": 60, "every_epochs": 5},
    )
    result, last = trained(spec)
    assert all(int(exponent) > 512 for exponent in last.scales[0])
    rows = [row for row in result.curves if row.split == "positive" and row.seed == 3]
    assert all(row.sparsity is not None and 0 < row.sparsity < 1 for row in rows)
    assert rows[-1].goodness is None  # beyond float64
    finite = [row.goodness for row in rows if row.goodness is not None]
    assert len(finite) > 2
    assert max(finite) > 1e80
    assert {finding.code for finding in result.diagnostics}.isdisjoint({"diverged"})
    everywhere = [row for row in result.accuracy if row.partition == "test"]
    assert all(0 <= row.accuracy <= 1 for row in everywhere)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"lr": 1e6}},
        {"epochs": 60, "monitor": {"every_epochs": 20}, "optimizer": {"lr": 20.0}},
        {
            "dataset": {"name": "digits", "train_samples": 120, "test_samples": 40},
            "epochs": 60,
            "monitor": {"every_epochs": 20},
            "optimizer": {"lr": 20.0},
        },
    ],
    ids=["large steps", "many steps", "digits"],
)
def test_a_run_that_diverged_before_finishes(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(**change)
    monkeypatch.setattr(scaling, "RANGE_BITS", NEVER)
    with pytest.raises(ffengine.Diverged):
        ffengine.train(spec)
    monkeypatch.undo()
    result = ffengine.train(spec)
    assert max(row.epoch for row in result.curves) == spec.epochs


@pytest.mark.slow
def test_weights_may_shrink_below_float32() -> None:
    """With a decay that takes nearly all, weights pass below the smallest float32."""
    spec = spec_of(
        optimizer={"lr": 24.0, "weight_decay": 0.999},
        epochs=12,
        seeds=[3],
        dataset={"train_samples": 120, "test_samples": 40, "preprocess": "unit_norm"},
        objective={"goodness": {"name": "mean_squares"}},
    )
    result, last = trained(spec)
    assert int(last.scales[0]) < -160
    assert all(row.sparsity is not None for row in result.curves)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "nesterov", "peer normalisation", "deep"])
@pytest.mark.parametrize("at", [1, 6, 11])
def test_a_rescaled_run_resumes_with_the_same_bits(case: str, at: int) -> None:
    spec = spec_of(
        **{**CASES[case], "epochs": 3, "optimizer": {**CASES[case].get("optimizer", {}), "lr": 5e6}}
    )
    whole, end = trained(spec)
    steps = 0

    def stop(report: BatchReport) -> Control:
        nonlocal steps
        steps += 1
        return "stop" if steps == at else None

    with pytest.raises(Interrupted) as stopped:
        ffengine.train(spec, on_batch=stop)
    assert stopped.value.checkpoint
    stored = Checkpoint.from_bytes(stopped.value.checkpoint.to_bytes())
    resumed, other = trained(spec, resume=stored)
    assert any(exponent.any() for exponent in end.scales)
    assert figures(whole) == figures(resumed)
    # inputs of length 1 and a bias, however much shorter than others their activations are kept
    assert all(row.input_norm < 1.5 for row in whole.curves if row.layer)
    for one, two in zip((*end.weights, *end.scales), (*other.weights, *other.scales), strict=True):
        assert torch.equal(one, two)


@pytest.mark.slow
def test_a_checkpoint_without_exponents_is_written_and_read_as_before() -> None:
    _, last = trained(spec_of(optimizer={"lr": 0.1}, epochs=1))
    data = last.to_bytes()
    assert b'"format": 2' in data
    assert b"exponents" not in data
    assert [exponent.tolist() for exponent in Checkpoint.from_bytes(data).scales] == [[0, 0]]
    _, far = trained(spec_of(optimizer={"lr": 1e5}))
    assert b'"format": 3' in far.to_bytes()
    back = Checkpoint.from_bytes(far.to_bytes())
    assert [one.tolist() for one in back.exponents] == [one.tolist() for one in far.exponents]


@pytest.mark.slow
def test_the_weights_file_has_the_true_weights_where_float32_holds_them() -> None:
    spec = spec_of(optimizer={"lr": 3e4}, seeds=[3], epochs=12)
    found: dict[int, Checkpoint] = {}
    ffengine.train(spec, on_epoch=lambda report: found.update({report.epoch: report.checkpoint}))
    kinds = set()
    for epoch, checkpoint in found.items():
        weights = Weights.from_checkpoint(checkpoint.to_bytes(), spec, epoch)
        of_memory = checkpoint.weights_of(spec, epoch)
        back = import_weights(export_weights(weights))
        assert back.exponents == weights.exponents == of_memory.exponents
        kinds.add((bool(weights.exponents), bool(checkpoint.scales[0].any())))
        exponent = back.exponents[0][0] if back.exponents else 0
        if int(checkpoint.scales[0]) < 900:
            np.testing.assert_array_equal(
                np.ldexp(back.layers[0].astype(float), exponent), true_weights(checkpoint)[0]
            )
    assert kinds == {(False, False), (False, True), (True, True)}


def test_a_file_with_exponents_that_do_not_fit_is_refused() -> None:
    weights = Weights(spec_of(), 1, (np.zeros((2, 24, 784), np.float32),), ((3,),))
    with pytest.raises(ValueError, match="exponents: one for each layer and seed"):
        import_weights(export_weights(weights))


@pytest.mark.slow
@pytest.mark.parametrize("along", ["training_step", "goodness_difference"])
def test_a_check_of_rescaled_weights_is_that_of_the_true_ones(
    along: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(optimizer={"name": "momentum", "lr": 3.0})
    always(monkeypatch)
    _, kept = trained(spec)
    monkeypatch.setattr(scaling, "RANGE_BITS", NEVER)
    _, left = trained(spec)
    check = CheckSpec.model_validate(
        {
            "at": {"job": "job_" + "0" * 32, "epoch": 5},
            "along": along,
            "dataset": GROWING["dataset"],
            "negatives": {"strategy": "sampled_label"},
            "methods": ["exact"],
            "samples": 60,
            "batch_size": 30,
            "seeds": [3, 8],
        }
    )
    cells = [
        [
            cell.model_dump(exclude={"near_zero_rate"})
            for cell in ffengine.check(check, trained=one, trained_spec=spec).cells
        ]
        for one in (kept, left)
    ]
    for one, other in zip(*cells, strict=True):
        # its trial step is as large relative to the weights, and eta is that of their ratio
        assert one == other


def learner_of(**changes: Any) -> Learner:
    spec = spec_of(**changes)
    network = Network.initial(spec.network, 30, Draws(spec.seeds), torch.device("cpu"))
    return Learner(network, spec.objective, spec.optimizer, epochs=1)


def test_which_entries_of_the_catalogues_are_homogeneous() -> None:
    """The table of docs/numerics.md; every entry is tried."""

    def allowed(field: str, names: list[str], make: Any) -> set[str]:
        return {name for name in names if learner_of(**make(name)).is_homogeneous(0)}

    assert allowed(
        "objective",
        [name_of(entry, "name") for entry in entries(AnyObjective) if issubclass(entry, Objective)],
        lambda name: {"objective": {"name": name, "goodness": "sum_squares"}},
    ) == {"difference"}
    assert allowed(
        "goodness",
        [name_of(entry, "name") for entry in entries(GoodnessEntry)],
        lambda name: {"objective": {"goodness": name}},
    ) == {"sum_squares", "mean_squares", "minus_sum_squares", "top_k"}
    assert allowed(
        "activation",
        sorted(ACTIVATIONS),
        lambda name: {"network": {"widths": [5], "activation": name}},
    ) == {"relu", "leaky_relu", "identity"}
    assert allowed(
        "optimizer",
        [name_of(entry, "name") for entry in entries(AnyOptimizer)],
        lambda name: {"optimizer": {"name": name}},
    ) == {"sgd", "momentum", "nesterov"}


def test_a_layer_whose_outputs_are_not_normalised_above_keeps_its_scale() -> None:
    plain = learner_of(network={"widths": [5, 4]})
    assert [plain.is_homogeneous(layer) for layer in (0, 1)] == [False, True]
    scaled = learner_of(network={"widths": [5, 4], "normalize": "rms"})
    assert all(map(scaled.is_homogeneous, (0, 1)))


@settings(max_examples=examples(60))
@given(st.lists(st.integers(-1100, 1100), min_size=1, max_size=20))
def test_powers_of_two_are_exact(exponents: list[int]) -> None:
    for dtype, low, high in ((torch.float32, -126, 127), (torch.float64, -1022, 1023)):
        found = power_of_two(torch.tensor(exponents, dtype=torch.int32), dtype)
        assert found.dtype == dtype
        assert found.tolist() == [math.ldexp(1.0, min(max(e, low), high)) for e in exponents]


@settings(max_examples=examples(60))
@given(
    st.integers(-140, 126),
    st.floats(1, 2, exclude_max=True, width=32),
    st.sampled_from([1, 4, 16]),
)
def test_a_shift_brings_weights_into_range(exponent: int, mantissa: float, bits: int) -> None:
    before, scaling.RANGE_BITS = scaling.RANGE_BITS, bits
    try:
        weight = torch.tensor([mantissa, -mantissa / 3]).double().mul(2.0**exponent).float()
        weight = weight.view(1, 1, 2)
        for _ in range(40):  # one shift is limited by what a factor of float32 can be
            shift = shifts(weight)
            assert is_in_range(weight) == (int(shift) == 0)
            weight = weight * power_of_two(-shift)
        assert int(shift) == 0
        assert 2.0**-bits <= float(weight.abs().max()) < 2.0**bits
        assert int(shifts(weight * 0)) == 0
        assert int(shifts(weight * math.inf)) == 0
        assert int(shifts(weight * math.nan)) == 0
    finally:
        scaling.RANGE_BITS = before


@settings(max_examples=examples(60))
@given(
    st.lists(st.lists(st.integers(-500, 500), min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_factors_of_layers_keep_their_ratios(
    exponents: list[list[int]], dtype: torch.dtype
) -> None:
    """As the slow form says with fractions: true while in range, ratios beyond it."""
    found = goodness_factors([torch.tensor(k, dtype=torch.int32) for k in exponents], dtype)
    for replica in range(2):
        powers = [2 * k[replica] for k in exponents]
        logs = [math.log2(float(value)) for value in found[replica]]
        bound = scaling.SUM_BITS[dtype]
        if all(abs(power) <= bound for power in powers):
            assert logs == powers
        for log, power in zip(logs, powers, strict=True):
            behind = power - max(powers)
            assert log <= bound
            if behind >= -60:
                assert log - max(logs) == behind


@pytest.mark.parametrize("eta", [1e-3, 0.03, 3.0, 1e9, 1e300])
def test_looks_are_as_close_as_the_steps_are_long(eta: float) -> None:
    steps = steps_between_looks(eta, 100.0, 0.0, 0.0)
    grown = steps * math.log2(1 + 4 * eta * 100) if eta < 1e200 else 0.0
    assert 1 <= steps <= scaling.MOST_STEPS
    assert steps == 1 or grown <= scaling.BUDGET_BITS
    assert steps_between_looks(eta, 100.0, 0.9, 0.0) <= steps
    assert steps_between_looks(math.inf, 100.0, 0.0, 0.0) == 1


def test_rows_without_exponent_are_untouched() -> None:
    rows = ffengine.train(spec_of(optimizer={"lr": 0.1}, epochs=1)).curves
    assert all(isinstance(row, EpochRow) and row.goodness is not None for row in rows)
