"""The acts of training: told from rows, and found in runs that the theory describes."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

import ffengine
from ffengine.acts import FEW_BASINS, few_basins, gaussian_kappa, with_acts
from ffengine.results import EpochRow
from ffengine.spec import TrainSpec

QUICK = {
    "dataset": {"train_samples": 1500, "test_samples": 10},
    "network": {"widths": [128]},
    "batch_size": 500,
    "epochs": 3,
    "monitor": {"samples": 500, "theorems": [2]},
    "evaluation": {"measures": False},
}


@cache
def template() -> EpochRow:
    tiny = {"dataset": {"train_samples": 20}, "network": {"widths": [8]}, "epochs": 1}
    return ffengine.train(TrainSpec.model_validate(tiny)).curves[0]


def pair(epoch: int, **changes: object) -> list[EpochRow]:
    """Both splits of a layer; two values are those of positives and negatives."""
    return [
        template().model_copy(
            update={
                "split": split,
                "epoch": epoch,
                **{
                    name: value[place] if isinstance(value, tuple) else value
                    for name, value in changes.items()
                },
            }
        )
        for place, split in enumerate(("positive", "negative"))
    ]


START = {
    "active_share": 0.5,
    "kappa": 0.798,
    "kappa_gap": 0.0,
    "log_goodness": 0.0,
    "basins": 100.0,
    "coefficient_sum": 1.0,
    "act": None,
}


@pytest.mark.parametrize(
    ("before", "after", "act"),
    [
        # theory, table of the acts: tau 0.4 to 1, 2 to 3 and 20 to 40
        ({}, {"active_share": 0.62, "kappa": 0.798, "log_goodness": 1.0}, "recruiting"),
        (
            {"active_share": 0.74, "kappa": 0.772},
            {"active_share": 0.79, "kappa": 0.738, "log_goodness": 2.0},
            "selecting",
        ),
        (
            {"active_share": 0.83, "kappa": 0.60},
            {"active_share": 0.83, "kappa": 0.58, "log_goodness": 2.0, "basins": 3.0},
            "condensed",
        ),
        # lowering everything: p falls along the Gaussian law
        ({}, {"active_share": 0.2, "kappa": 0.767, "log_goodness": -2.0}, "sleeping"),
        # the same along the law while one split is lowered, or none: units switch off all the same
        ({}, {"active_share": 0.2, "kappa": 0.767, "log_goodness": (0.5, -2.0)}, "sleeping"),
        ({}, {"active_share": 0.2, "kappa": 0.767, "log_goodness": 0.5}, "sleeping"),
        # the finding `acts`, softplus at its threshold, tau 2.4 and 5.4: kappa_G - kappa shrinks
        (
            {"active_share": 0.806, "kappa": 0.791},
            {"active_share": 0.610, "kappa": 0.765, "log_goodness": 0.1},
            "sleeping",
        ),
        # the finding `centering`, centred images at tau 1.6 and 2: more units silent, the active
        # ones more unequal, and goodness 1.6 times as large
        (
            {"active_share": 0.469, "kappa": 0.7725},
            {"active_share": 0.458, "kappa": 0.7622, "log_goodness": 0.5},
            "selecting",
        ),
        # four fifths of the rise by the law: enough where the goodness of both splits fell
        ({}, {"active_share": 0.4, "kappa": 0.7488, "log_goodness": 0.1}, "selecting"),
        ({}, {"active_share": 0.4, "kappa": 0.7488, "log_goodness": -0.1}, "sleeping"),
        ({}, {"active_share": 0.4, "kappa": 0.7488, "log_goodness": 0.1, "basins": 3}, "condensed"),
        # softplus far below its threshold: the positives outweigh
        (
            {"coefficient_sum": (0.87, 0.13)},
            {"active_share": 0.72, "kappa": 0.827, "log_goodness": 3.0},
            "inflating",
        ),
        # the quiet units gain most, while none switches on
        ({}, {"kappa": 0.83, "log_goodness": 1.0}, "recruiting"),
        # where nothing changed, the act goes on
        ({"act": "selecting"}, {}, "selecting"),
        ({"kappa": None}, {"active_share": 0.6}, None),
        ({}, {"active_share": 0.0}, None),
    ],
)
def test_an_act_is_told_from_two_measurements(
    before: dict[str, object], after: dict[str, object], act: str | None
) -> None:
    earlier = pair(1, **{**START, **before})
    rows = pair(2, **{**START, **before, "act": None, **after})
    assert [row.act for row in with_acts(rows, earlier, (128,))] == [act, act]


def figures(z: np.ndarray) -> dict[str, float]:
    """Return the figures of one sample from the pre-activations of its units."""
    h = np.maximum(z, 0.0)
    p, kappa = float((h > 0).mean()), float(h.sum() / np.sqrt((h > 0).sum() * (h**2).sum()))
    return {
        "active_share": p,
        "kappa": kappa,
        "kappa_gap": kappa - gaussian_kappa(p),
        "log_goodness": float(np.log((h**2).sum())),
    }


@pytest.mark.parametrize("scale", [1.0, 8.0])
@pytest.mark.parametrize(
    ("change", "act"),
    [
        (lambda z, _: z - 0.2, "sleeping"),
        (lambda z, _: z + 0.2, "recruiting"),
        (lambda z, rate: z * np.exp(0.5 * rate), "selecting"),
        # both at once: some units leave, and the others outgrow each other
        (lambda z, rate: (z - 0.05) * np.exp(0.5 * rate), "selecting"),
    ],
)
def test_an_act_is_the_cause_that_moved_the_units(
    change: Callable[[np.ndarray, np.ndarray], np.ndarray], act: str, scale: float
) -> None:
    """A common push switches units on or off, and rates of their own make them unequal, whatever
    the goodness does: every pre-activation is multiplied by a scale afterwards.
    """
    draws = np.random.default_rng(0)
    z, rate = draws.standard_normal((2, 100_000))
    before, after = figures(z), figures(scale * change(z, rate))
    rows = pair(2, **START | after)
    assert [row.act for row in with_acts(rows, pair(1, **START | before), (128,))] == [act, act]


def test_the_initialisation_and_a_stage_that_begins_have_no_act() -> None:
    assert {row.act for row in with_acts(pair(0, **START), [], (128,))} == {None}
    later = [row.model_copy(update={"layer": 1}) for row in pair(0, **START)]
    assert {row.act for row in with_acts(later, pair(3, **START), (128, 128))} == {None}


def test_few_basins_are_fewer_than_a_quarter_of_narrow_layers() -> None:
    assert few_basins(256) == FEW_BASINS
    assert few_basins(16) == 4


def acts(split: str = "positive", **changes: object) -> list[str | None]:
    rows = ffengine.train(TrainSpec.model_validate({**QUICK, **changes})).curves
    return [row.act for row in rows if row.split == split and row.epoch > 0]


@pytest.mark.slow
def test_softplus_inflates_first_and_then_recruits() -> None:
    """Theory: inflation ends by tau = .1, with tau = steps * eta / n for mean squares."""
    softplus = {"name": "softplus"}
    found = acts(objective=softplus, optimizer={"lr": 128 * 128 * 0.01}, epochs=6)
    assert found[0] == "inflating"
    assert found[-1] == "recruiting"


@pytest.mark.slow
@pytest.mark.parametrize("split", ["positive", "negative"])
def test_lowering_every_sample_is_sleep(split: str) -> None:
    """A softplus threshold far below 0 lowers the negatives alone, and theirs are the images of the
    positives; noise has no direction to grow along.
    """
    assert set(acts(split, negatives={"strategy": "noise"}, optimizer={"lr": 0.2})) == {"sleeping"}
    lowering = {"name": "softplus", "threshold": -20.0, "goodness": "sum_squares"}
    assert set(acts(split, objective=lowering, optimizer={"lr": 0.2})) == {"sleeping"}


@pytest.mark.slow
@pytest.mark.parametrize("split", ["positive", "negative"])
def test_softplus_at_its_threshold_puts_units_to_sleep(split: str) -> None:
    """Theory, "The weight of a sample": goodness stays, kappa hardly changes, and units leave."""
    found = acts(
        split,
        objective={"name": "softplus"},
        optimizer={"lr": 128 * 128 * 0.02},
        epochs=60,
        monitor={"samples": 500, "every_epochs": 20},
    )
    assert found == ["inflating", "sleeping", "sleeping"]


@pytest.mark.slow
def test_centred_images_select_from_the_first_epoch_on() -> None:
    centred = {"train_samples": 1500, "test_samples": 10, "preprocess": "center"}
    assert set(acts(dataset=centred, optimizer={"lr": 128 / 8})) == {"selecting"}


@pytest.mark.slow
def test_mnist_mini_recruits_selects_and_condenses() -> None:
    found = acts(
        dataset={"test_samples": 10},
        network={"widths": [256]},
        optimizer={"lr": 256 / 30},
        epochs=22,
    )
    assert set(found[:4]) == {"recruiting"}
    assert set(found[6:12]) == {"selecting"}
    assert found[-1] == "condensed"


@pytest.mark.slow
def test_the_acts_are_the_same_after_an_interruption() -> None:
    spec = TrainSpec.model_validate({**QUICK, "optimizer": {"lr": 8.0}})
    whole = ffengine.train(spec).curves
    with pytest.raises(ffengine.Interrupted) as stopped:
        ffengine.train(spec, on_epoch=lambda report: "stop" if report.epoch == 1 else None)
    assert ffengine.train(spec, resume=stopped.value.checkpoint).curves == whole
