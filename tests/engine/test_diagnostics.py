"""Each finding: provoked by the numbers it is about, absent without them."""

import pytest

from ffengine import diagnostics
from ffengine.results import CheckCell, EpochRow
from ffengine.spec import CheckSpec, TrainSpec

HEALTHY = {
    "seed": 0,
    "layer": 0,
    "epoch": 3,
    "samples": 100,
    "dead_samples": 0,
    "dead_units": 0,
    "sparsity": 0.5,
    "zero_fraction": 0.5,
    "treves_rolls": 0.6,
    "gini": None,
    "kurtosis": None,
    "loss": 1.0,
    "theorem1_ratio": 1.0,
    "theorem1_undecided": 0,
    "theorem2_ratio": 0.8,
    "theorem2_undecided": 0,
    "observed_increase_ratio": 0.8,
    "agreement": 0.99,
    "mask_flip_rate": 0.001,
    "near_zero_rate": 0.0,
    "eta": 0.01,
    "coefficient_sum": 1.0,
    "input_norm": 9.0,
}


def pair(**changes: object) -> list[EpochRow]:
    return [
        EpochRow.model_validate({**HEALTHY, "split": "positive", "goodness": 10.0, **changes}),
        EpochRow.model_validate({**HEALTHY, "split": "negative", "goodness": 5.0, **changes}),
    ]


def codes(rows: list[EpochRow], **spec: object) -> list[str]:
    return [finding.code for finding in diagnostics.of_training(TrainSpec.model_validate(spec), rows)]


def test_a_healthy_run_has_no_findings() -> None:
    assert codes(pair()) == []


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("dead_layer", {"dead_samples": 51}),
        ("preactivations_at_zero", {"near_zero_rate": 0.002}),
        ("beyond_first_order", {"mask_flip_rate": 0.06}),
        ("prediction_disagrees", {"agreement": 0.89}),
        ("condition_rarely_met", {"theorem2_ratio": 0.49}),
        ("splits_alike", {"goodness": 7.0}),
    ],
)
def test_each_signature_in_the_rows_is_found_once_with_its_place(code: str, changes: dict[str, object]) -> None:
    found = diagnostics.of_training(TrainSpec(), pair(**changes))
    assert [finding.code for finding in found] == [code]
    assert found[0].evidence["epoch"] == 3
    assert found[0].suggestion


def test_settings_are_judged_too() -> None:
    assert codes(pair(), optimizer={"name": "sgd", "scale_lr_by_width": False}) == ["lr_not_scaled"]
    assert codes(pair(), batch_size=8) == ["batch_small"]


def test_rows_without_live_samples_do_not_stand_in_the_way() -> None:
    undefined = dict.fromkeys(("sparsity", "theorem1_ratio", "theorem2_ratio", "observed_increase_ratio", "agreement"))
    assert codes(pair(dead_samples=100, **undefined)) == ["dead_layer"]


def test_checks_are_judged_by_their_exact_cells() -> None:
    cell = {
        "theorem": 2,
        "width": 64,
        "seed": 0,
        "layer": 0,
        "epoch": 0,
        "split": "positive",
        "batch_size": 500,
        "method": "exact",
        "samples": 100,
        "live": 100,
        "satisfied": 80,
        "undecided": 0,
        "ratio": 0.8,
        "observed_increase_ratio": 0.8,
        "agreement": 1.0,
        "mask_flip_rate": 0.0,
        "near_zero_rate": 0.0,
        "eta": 1e-5,
        "input_norm": 9.0,
    }

    def found(spec: CheckSpec, **changes: object) -> list[str]:
        return [finding.code for finding in diagnostics.of_check(spec, [CheckCell.model_validate({**cell, **changes})])]

    assert found(CheckSpec()) == []
    assert found(CheckSpec(), ratio=0.4) == ["condition_rarely_met"]
    assert found(CheckSpec(), ratio=0.4, method="infinite_width") == []
    assert found(CheckSpec(), live=40) == ["dead_layer"]
    assert found(CheckSpec(), near_zero_rate=0.01) == ["preactivations_at_zero"]
    assert found(CheckSpec(batch_size=8)) == ["batch_small"]
