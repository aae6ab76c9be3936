"""Each finding: provoked by the numbers it is about, absent without them."""

import functools
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest

import ffengine
from ffengine import (
    advice,
    attempts,
    diagnostics,
    evaluation,
    forecast_findings,
    free_riding,
    scale_runaway,
)
from ffengine.acts import with_acts
from ffengine.datasets import Datasets
from ffengine.intervals import wilson
from ffengine.results import CheckCell, Diagnostic, EpochRow, Onset
from ffengine.spec import CheckSpec, TrainSpec

# modules that make findings of training runs
SAYING = (diagnostics, advice, scale_runaway, free_riding)
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
    return [
        finding.code for finding in diagnostics.of_training(TrainSpec.model_validate(spec), rows)
    ]


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
def test_each_signature_in_the_rows_is_found_once_with_its_place(
    code: str, changes: dict[str, object]
) -> None:
    found = diagnostics.of_training(TrainSpec(), pair(**changes))
    assert [finding.code for finding in found] == [code]
    assert found[0].evidence["epoch"] == 3
    assert found[0].suggestion


def curve(*points: tuple[float, float, float]) -> list[EpochRow]:
    """Rows of both splits from (theorem2_ratio, sparsity, zero_fraction) at epochs 0, 1, 2 ...,
    with the acts that training names: of kappa as S and p have it at n = 256.
    """
    found: list[EpochRow] = []
    for epoch, (ratio, sparsity, zeros) in enumerate(points):
        p, c = 1 - zeros, sparsity * 15 / 16
        rows = pair(
            epoch=epoch,
            theorem2_ratio=ratio,
            sparsity=sparsity,
            zero_fraction=zeros,
            active_share=p,
            kappa=(1 - c) / math.sqrt(p),
            kappa_gap=0.0,
            goodness=None,
        )
        found += with_acts(rows, found, [256])
    return found


@pytest.mark.parametrize(
    ("points", "act", "message", "suggestion"),
    [
        (  # mnist-mini, pixels as they are, lr = n/30: epochs 0, 2, 5, 7 and 15
            [
                (0.78, 0.464, 0.51),
                (0.07, 0.429, 0.44),
                (0.52, 0.376, 0.29),
                (0.68, 0.381, 0.24),
                (0.7, 0.443, 0.18),
            ],
            "recruiting",
            "holds for 7.0 % of the live samples at its lowest, in act 1, recruiting (epoch 1): "
            "units switch on, and S falls.",
            "That is what act 1 is. It is over by epoch 2, where the condition holds for 52.0 % "
            "of these samples.",
        ),
        (
            [(0.78, 0.464, 0.51), (0.07, 0.429, 0.44)],
            "recruiting",
            "in act 1, recruiting (epoch 1)",
            "The run ends in it: train for more",
        ),
        (
            [(0.44, 0.464, 0.50), (0.64, 0.465, 0.50)],
            None,
            "44.0 % of the live samples at its lowest, at initialisation",
            "draw decides",
        ),
        (
            [(0.6, 0.40, 0.3), (0.45, 0.41, 0.3), (0.6, 0.42, 0.3)],
            "selecting",
            "in act 2, selecting (epoch 1), while the mean of S rises",
            "blur the ratio",
        ),
        (  # units switch off: S follows from p
            [(0.6, 0.40, 0.3), (0.1, 0.45, 0.4), (0.6, 0.50, 0.5)],
            "sleeping",
            "in the act sleeping (epoch 1): units switch off, the mean of S rises",
            "raise and lower the common scale",
        ),
        (
            [(0.6, 0.40, 0.3), (0.1, 0.41, 0.3), (0.6, 0.40, 0.35)],
            "recruiting",
            "and not because units switch on",
            "whether the ratio alternates",
        ),
    ],
)
def test_a_condition_that_is_rarely_met_says_in_which_act_and_whether_that_is_expected(
    points: list[tuple[float, float, float]], act: str | None, message: str, suggestion: str
) -> None:
    [found] = diagnostics.of_training(TrainSpec(), curve(*points))
    assert found.code == "condition_rarely_met"
    assert found.evidence["act"] == act
    assert message in found.message
    assert suggestion in found.suggestion


def test_softplus_below_its_threshold_is_expected_to_lower_s() -> None:
    rows = curve((0.6, 0.46, 0.5), (0.1, 0.37, 0.3), (0.6, 0.36, 0.29))
    rows = [row.model_copy(update={"act": "inflating"}) if row.epoch == 1 else row for row in rows]
    [found] = diagnostics.of_training(TrainSpec(), rows)
    assert found.evidence["act"] == "recruiting"  # what the lowest ratio leads to
    rows = [row for row in rows if row.epoch < 2]
    [found] = diagnostics.of_training(TrainSpec(), rows)
    assert "in the act inflating (epoch 1): positives outweigh negatives" in found.message
    assert "reached the threshold" in found.suggestion


def test_where_rounding_decides_that_is_said_first_and_of_the_theorem_that_has_more_of_it() -> None:
    rows = curve((0.7, 0.46, 0.5), (0.4, 0.5, 0.4))
    rows = [
        row.model_copy(update={"theorem1_undecided": 17, "theorem2_undecided": 34})
        if row.epoch
        else row
        for row in rows
    ]
    unsure, rare = diagnostics.of_training(TrainSpec(), rows)  # the cause stands first
    assert rare.code == "condition_rarely_met"
    assert (
        "at epoch 1, where 34.0 % of the margins are within rounding of zero and count as not "
        "satisfied" in rare.message
    )
    assert "too low" in rare.suggestion
    assert unsure.message.startswith(
        "The margin of theorem 2 is within rounding of zero for 34 of 100"
    )


def test_the_act_is_told_from_the_curve_of_the_same_seed_layer_and_split() -> None:
    other = [
        row.model_copy(update={"seed": 1})
        for row in curve((0.9, 0.4, 0.3), (0.9, 0.5, 0.3), (0.9, 0.6, 0.3))
    ]
    [found] = diagnostics.of_training(
        TrainSpec(), [*curve((0.8, 0.46, 0.5), (0.1, 0.43, 0.44), (0.6, 0.4, 0.3)), *other]
    )
    assert found.evidence["act"] == "recruiting"
    assert found.evidence["over_by_epoch"] == 2


ENDS_IN_ACT_1 = Onset(
    lambda_1=0.625,
    tau_star=2.0,
    tau_star_low=1.76,
    tau_end=0.25,
    epochs_to_selection=79.2,
)


def test_a_run_that_ends_in_act_1_says_what_it_needs() -> None:
    rows = curve((0.78, 0.464, 0.51), (0.07, 0.429, 0.44))
    first, second = diagnostics.of_training(TrainSpec(), rows, onset=ENDS_IN_ACT_1)
    assert (first.code, second.code) == ("act_not_left", "condition_rarely_met")
    assert "(mean S 0.464 at first, 0.429 at the end): it reached tau = 0.25" in first.message
    assert "from tau = 2 on" in first.message
    assert "too small to leave act 1 in 10 epochs: it needs 80 of them, or optimizer.lr 8;" in (
        first.suggestion
    )
    assert first.evidence["epochs_needed"] == 80
    assert "act 2 is expected from about epoch 80 on" in second.suggestion


def test_where_sparsity_rose_again_act_1_was_left_whatever_was_expected() -> None:
    rows = curve((0.78, 0.464, 0.51), (0.6, 0.429, 0.44), (0.7, 0.439, 0.3))
    assert diagnostics.of_training(TrainSpec(), rows, onset=ENDS_IN_ACT_1) == []
    longer = ENDS_IN_ACT_1.model_copy(update={"tau_end": 1.8})
    assert diagnostics.of_training(TrainSpec(), rows[:2], onset=longer) == []


@pytest.mark.parametrize(
    ("ratios", "goodness", "figure"),
    [
        ((0.9, 0.5, 1.0, 0.5, 1.0, 0.6), [10.0] * 6, "theorem2_ratio"),
        ((0.9,) * 6, (10.0, 11.0, 10.0, 11.0, 10.0, 11.0), "goodness"),
        ((0.9, 0.85, 0.9, 0.85, 0.9, 0.85), (10.0, 10.1, 10.0, 10.1, 10.0, 10.1), None),
        ((0.9, 0.5, 1.0, 1.0, 0.5, 0.5), [10.0] * 6, None),
        ((0.9,) * 6, (10.0, 11.0, 12.0, 13.0, 14.0, 15.0), None),
    ],
)
def test_a_scale_that_alternates_is_told_from_the_rows_where_steps_are_too_long(
    ratios: tuple[float, ...], goodness: tuple[float, ...], figure: str | None
) -> None:
    rows = []
    for epoch, (ratio, g) in enumerate(zip(ratios, goodness, strict=True)):
        positive, negative = pair(epoch=epoch, theorem2_ratio=ratio, eta=0.02)
        rows += [
            positive.model_copy(update={"goodness": g}),
            negative.model_copy(update={"goodness": g / 2}),
        ]
    found = diagnostics.of_training(TrainSpec(), rows, onset=Onset(eta_c=0.01))
    assert [one.evidence["figure"] for one in found] == ([figure] if figure else [])
    if figure:
        assert f"alternates: {figure} goes up and down" in found[0].message
        assert "step size 0.02 is above 0.01" in found[0].message
        assert "Lower optimizer.lr by 4 or more" in found[0].suggestion
    assert diagnostics.of_training(TrainSpec(), rows, onset=Onset(eta_c=0.03)) == []
    assert diagnostics.of_training(TrainSpec(), rows) == []


class Measured(EpochRow):
    """A row that has the spread over batches."""

    theorem2_sd: float | None = None


@pytest.mark.parametrize(("spread", "expected"), [(None, False), (0.16, False), (0.45, True)])
def test_batches_that_are_all_or_nothing_are_named(spread: float | None, expected: bool) -> None:
    rows = [
        Measured.model_validate({**row.model_dump(), "theorem2_sd": spread})
        for row in pair(theorem2_ratio=0.6)
    ]
    found = diagnostics.of_training(TrainSpec(), rows)
    assert [one.code for one in found] == (["batches_all_or_nothing"] if expected else [])
    if expected:
        assert "for 60 % of the samples, but from batch to batch that differs by 0.45" in (
            found[0].message
        )


def test_causes_stand_before_their_effects_and_every_finding_has_a_place() -> None:
    rows = pair(mask_flip_rate=0.3, agreement=0.5, theorem2_ratio=0.2, dead_samples=60)
    spec = TrainSpec.model_validate({"batch_size": 8, "optimizer": {"scale_lr_by_width": False}})
    assert [one.code for one in diagnostics.of_training(spec, rows)] == [
        "lr_not_scaled",
        "batch_small",
        "beyond_first_order",
        "dead_layer",
        "prediction_disagrees",
        "condition_rarely_met",
    ]
    said = "".join(Path(module.__file__).read_text() for module in SAYING)
    assert set(diagnostics.CAUSES) == set(re.findall(r'code="(\w+)"', said))


def test_every_finding_of_rows_says_its_figures() -> None:
    rows = pair(mask_flip_rate=0.3, agreement=0.5, theorem2_ratio=0.2, goodness=7.0)
    for one in diagnostics.of_training(TrainSpec(batch_size=8), rows, onset=ENDS_IN_ACT_1):
        assert re.search(r"\d", one.message), one.code
        assert one.evidence


def test_settings_are_judged_too() -> None:
    assert codes(pair(), optimizer={"name": "sgd", "scale_lr_by_width": False}) == ["lr_not_scaled"]
    assert codes(pair(), batch_size=8) == ["batch_small"]


def test_rows_without_live_samples_do_not_stand_in_the_way() -> None:
    undefined = dict.fromkeys(
        ("sparsity", "theorem1_ratio", "theorem2_ratio", "observed_increase_ratio", "agreement")
    )
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

    def found(**changes: object) -> list[str]:
        cells = [CheckCell.model_validate({**cell, **changes})]
        return [finding.code for finding in diagnostics.of_check(cells)]

    assert found() == []
    assert found(ratio=0.4) == ["condition_rarely_met"]
    for changes, message, suggestion in (
        (
            {},
            "theorem 2 along the step on G(negative) - G(positive) holds for 40.0 % of the live "
            "samples at its lowest, at initialisation, n = 64.",
            "the draw decides",
        ),
        ({"epoch": 5}, "at its lowest, at epoch 5, n = 64.", "the curve of S of its training job"),
        (
            {"theorem": 1},
            "The condition of theorem 1 holds for 40.0 %",
            "angles between the samples",
        ),
    ):
        [rare] = diagnostics.of_check([CheckCell.model_validate({**cell, "ratio": 0.4, **changes})])
        assert message in rare.message
        assert suggestion in rare.suggestion
    assert found(ratio=0.4, method="infinite_width") == []
    assert found(live=40) == ["dead_layer"]
    assert found(near_zero_rate=0.01) == ["preactivations_at_zero"]
    assert found(batch_size=8) == ["batch_small"]


# The same by real runs: a calm one, of which there is only to say that it ends in act 1, and for
# each finding a change of it that provokes the finding

CALM: dict[str, dict[str, object] | int] = {
    "dataset": {"train_samples": 2_000, "test_samples": 400},
    "network": {"widths": [200]},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "evaluation": {"linear_classifier": True},
    "monitor": {"samples": 200},
    "epochs": 5,
    "batch_size": 100,
}
PROVOKING: dict[str, dict[str, dict[str, object] | int]] = {
    "dead_layer": {
        "objective": {"name": "softplus", "threshold": 1.0},
        "optimizer": {"name": "sgd", "lr": 1e4},
    },
    "beyond_first_order": {"optimizer": {"name": "sgd", "lr": 30.0}},
    "prediction_disagrees": {"optimizer": {"name": "sgd", "lr": 30.0}},
    "condition_rarely_met": {"network": {"widths": [64]}},
    "act_not_left": {"dataset": {"train_samples": 500, "test_samples": 400}},
    "splits_alike": {"negatives": {"strategy": "noise", "scale": 1e-6}},
    "margins_undecided": {"negatives": {"strategy": "noise", "scale": 1e-6}},
    "scale_runaway": {"optimizer": {"name": "sgd", "lr": 30.0}},
    "free_riding": {
        "layers": "simultaneous",
        "network": {"widths": [24, 24]},
        "objective": {"name": "softplus", "threshold": 1.0, "collaboration": {"weight": 1e4}},
    },
    "lr_not_scaled": {"optimizer": {"name": "sgd", "lr": 2.5e-4, "scale_lr_by_width": False}},
    "batch_small": {"batch_size": 20},
    "accuracy_at_chance": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 1e-6}},
    "label_weak": {"dataset": {"train_samples": 500, "label_strength": 0.01}},
    "partition_lacks_class": {"dataset": {"train_samples": 500, "test_samples": 9}},
    "overlay_covers_data": {"dataset": {"name": "digits"}},
    "decomposition_cut": {"monitor": {"samples": 200, "decomposition": [0, 6]}},
    "accuracy_fell": {
        "dataset": {"train_samples": 500, "validation_samples": 400, "test_samples": 100},
        "monitor": {"samples": 200, "accuracy": True},
        "optimizer": {"name": "adam", "lr": 0.003},
    },
}


def found_by(datasets: Datasets | None = None, **changes: dict[str, object] | int) -> set[str]:
    return found_in(TrainSpec.model_validate(CALM | changes), datasets)


def found_in(spec: TrainSpec, datasets: Datasets | None = None) -> set[str]:
    return {finding.code for finding in ffengine.train(spec, datasets=datasets).diagnostics}


provoked_by = functools.cache(found_in)  # a run may provoke more than one


@pytest.mark.slow
def test_of_a_calm_run_there_is_only_to_say_that_it_ends_in_act_1() -> None:
    assert found_by() == {"act_not_left"}


@pytest.mark.slow
@pytest.mark.parametrize("code", PROVOKING)
def test_each_finding_is_provoked_by_a_real_run(code: str) -> None:
    assert code in provoked_by(TrainSpec.model_validate(CALM | PROVOKING[code]))


def test_a_run_that_diverges_says_where() -> None:
    with pytest.raises(ffengine.Diverged) as stopped:
        found_by(
            network={"widths": [24], "activation": "squared_relu"},
            optimizer={"name": "sgd", "lr": 1e9},
        )
    assert stopped.value.diagnostic.code == "diverged"
    assert stopped.value.diagnostic.evidence["layer"] == 0


@pytest.mark.parametrize(
    ("blank", "expected"), [(0, set()), (40, {"preactivations_at_zero", "dead_layer"})]
)
def test_blank_samples_are_noticed(blank: int, expected: set[str], tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((100, 30), dtype=np.float32)
    x[: 2 * blank] = 0
    archive = io.BytesIO()
    np.savez(archive, x=x, y=np.arange(100) % 2)
    archive.seek(0)
    datasets = Datasets(tmp_path)
    datasets.keep("pictures", archive)
    change = {
        "dataset": {"name": "pictures"},
        "negatives": {"strategy": "self_contrastive"},
        "batch_size": 40,
        "network": {"widths": [50]},
    }
    watched = {"preactivations_at_zero", "dead_layer"}
    assert found_by(datasets, **change, evaluation={}) & watched == expected


@pytest.mark.slow
def test_a_classifier_that_was_cut_short_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "fit_linear", functools.partial(evaluation.fit_linear, limit=2))
    assert found_by() == {"act_not_left", "readout_not_converged"}


@functools.cache
def datasets_of(where: Path) -> Datasets:
    """Uploads that are not as MNIST is."""
    random = np.random.default_rng(2)
    y = np.arange(500) % 5
    six = random.normal(size=(500, 6)) * 0.5 + np.eye(5, 6)[y] * 4
    last = np.repeat(np.arange(3), (100, 100, 2))
    datasets = Datasets(where)
    for name, arrays in {
        "six-five": {"x": six.astype(np.float32), "y": y},
        "thousands": {"x": (six * 1000).astype(np.float32), "y": y},
        "rare": {"x": random.random((202, 9), dtype=np.float32), "y": last},
    }.items():
        archive = io.BytesIO()
        np.savez(archive, **arrays)
        archive.seek(0)
        datasets.keep(name, archive)
    return datasets


@pytest.fixture(scope="module")
def unlike_mnist(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    return datasets_of(tmp_path_factory.mktemp("data"))


def findings_on(
    datasets: Datasets, name: str, **changes: dict[str, object] | int
) -> dict[str, Diagnostic]:
    spec = {
        "dataset": {"name": name, "preprocess": "standardize"},
        "network": {"widths": [64]},
        "epochs": 5,
        "batch_size": 20,
        "monitor": {"samples": 50},
        **changes,
    }
    result = ffengine.train(TrainSpec.model_validate(spec), datasets=datasets)
    return {found.code: found for found in result.diagnostics}


@pytest.mark.slow
def test_an_overlay_of_what_the_data_are_made_of_is_noticed(unlike_mnist: Datasets) -> None:
    found = findings_on(unlike_mnist, "six-five")
    message = found["overlay_covers_data"].message
    assert re.fullmatch(
        r"The label overlays inputs 0 to 4, which hold 9\d % of the variance.", message
    )
    assert "labels: append" in found["overlay_covers_data"].suggestion
    assert found["accuracy_at_chance"].evidence["guessing"] == 0.2
    better = {"name": "six-five", "preprocess": "standardize", "labels": "append"}
    assert not {"overlay_covers_data", "accuracy_at_chance"} & set(
        findings_on(unlike_mnist, "six-five", dataset=better, epochs=10)
    )
    unlabelled = {"negatives": {"strategy": "self_contrastive"}, "evaluation": {}}
    assert "overlay_covers_data" not in findings_on(unlike_mnist, "six-five", **unlabelled)


def test_chance_is_told_of_all_layers_together_and_each_sample_once() -> None:
    """The sum without the first layer is no second seed: one seed has the interval of samples."""
    spec = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 100, "test_samples": 80},
            "network": {"widths": [8, 8, 8]},
            "optimizer": {"lr": 1e-6},
            "epochs": 1,
        }
    )
    result = ffengine.train(spec)
    evidence = {one.code: one for one in result.diagnostics}["accuracy_at_chance"].evidence
    [whole] = [
        row
        for row in result.accuracy
        if (row.layers, row.partition, row.method) == ((0, 1, 2), "test", "goodness")
    ]
    assert evidence["samples"] == whole.samples == 80
    assert evidence["accuracy"] == whole.accuracy
    assert (evidence["low"], evidence["high"]) == wilson(whole.correct, whole.samples)


def test_a_class_that_a_partition_lacks_is_named(unlike_mnist: Datasets) -> None:
    lacking = findings_on(unlike_mnist, "rare")["partition_lacks_class"]
    assert lacking.evidence == {"partition": "test", "classes": [2]}
    assert "The test partition has no sample of 1 of the 3 classes" in lacking.message


def test_a_check_says_what_stands_in_the_way_too(unlike_mnist: Datasets) -> None:
    data = {"name": "six-five", "label_strength": 1e-3}
    common = {"dataset": data, "samples": 100, "batch_size": 100, "widths": [16], "seeds": [0]}
    found = {}
    for theorem in (1, 2):
        spec = CheckSpec.model_validate({"theorem": theorem, **common})
        result = ffengine.check(spec, datasets=unlike_mnist)
        found[theorem] = {finding.code for finding in result.diagnostics}
    of_data = {"overlay_covers_data", "label_weak"}
    assert found[1] & of_data == set()
    assert found[2] & of_data == of_data


@pytest.mark.parametrize("objective", ["difference", "softplus"])
def test_a_divergence_by_the_scale_of_the_inputs_says_so(
    objective: str, unlike_mnist: Datasets
) -> None:
    raw = {
        "dataset": {"name": "thousands"},
        "objective": {"name": objective},
        "network": {"widths": [24], "activation": "squared_relu"},
    }
    with pytest.raises(ffengine.Diverged) as stopped:
        findings_on(
            unlike_mnist, "thousands", **raw, epochs=50, optimizer={"name": "sgd", "lr": 1e4}
        )
    advice = stopped.value.diagnostic.suggestion
    assert "input_norm" in advice
    assert "dataset.preprocess: standardize" in advice
    assert ("softplus" in advice) == (objective == "difference")
    assert stopped.value.diagnostic.evidence["input_norm"] > 1000  # type: ignore[operator]


MODULES = (*SAYING, forecast_findings, attempts)


def test_every_finding_is_documented() -> None:
    said = "".join(Path(module.__file__).read_text() for module in MODULES)
    codes = set(re.findall(r'code="(\w+)"', said))
    page = (Path(__file__).parents[2] / "docs" / "diagnostics.md").read_text()
    assert codes == set(re.findall(r"^## (\w+)$", page, re.MULTILINE))
    by_rows_alone = {"scale_alternates", "batches_all_or_nothing"}
    of_uploads = {"inputs_large", "one_input_dominates", "classes_unequal", "test_copies_training"}
    # tests/engine/test_evaluation.py provokes the last one
    others = {
        "diverged",
        "preactivations_at_zero",
        "readout_not_converged",
        "baseline_diverged",
    }
    # tests/engine/test_forecast.py provokes these
    of_forecasts = {code for code in codes if code.startswith("forecast_")}
    # tests/service/test_attempts.py provokes this one
    of_attempts = {"device_changed"}
    of_runs = set(PROVOKING) | of_uploads | others | by_rows_alone
    assert codes == of_runs | of_forecasts | of_attempts


def test_agreement_is_told_of_samples_whose_margin_is_decided_alone() -> None:
    """Where most margins are within rounding of zero there is nothing to agree with."""
    rows = pair(agreement=0.0, theorem2_undecided=99)
    [found] = diagnostics.of_training(TrainSpec(), rows)
    assert found.code == "margins_undecided"
    assert "99 of 100 live samples" in found.message
    assert found.message.endswith("as most are, ratio and agreement say little.")
    some = diagnostics.of_training(TrainSpec(), pair(agreement=0.875, theorem2_undecided=20))
    [disagrees] = [one for one in some if one.code == "prediction_disagrees"]
    assert disagrees.message.endswith(
        "for only 87.5 % of the 80 samples whose margin is decided (20 more are within rounding of "
        "zero)."
    )
    [whole] = diagnostics.of_training(TrainSpec(), pair(agreement=0.125))
    assert whole.message.endswith("for only 12.5 % of the 100 samples that activate the layer.")
