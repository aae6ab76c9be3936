"""Goodness that grows by the scale of the weights alone, and goodness that tells splits apart."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffengine.results import EpochRow
from ffengine.scale_runaway import growths, scale_runaway, separation_share
from tests.examples import examples

EPOCHS = 7
# figures that have nothing to do with it
REST = dict.fromkeys(
    ("zero_fraction", "mask_flip_rate", "near_zero_rate", "eta", "input_norm"), 0.5
)
NOTHING = dict.fromkeys(
    (
        *("sparsity", "goodness", "loss", "theorem1_ratio", "theorem2_ratio"),
        *("observed_increase_ratio", "agreement", "coefficient_sum"),
    )
)
COUNTS = {"samples": 10, "dead_samples": 0, "dead_units": 0}
Course = Callable[[int, int], float]  # of seed and epoch


def rows_of(
    norm: Course, separation: Course, *, seeds: int = 3, layer: int = 0, degree: float = 2
) -> list[EpochRow]:
    """The curves of a layer whose norm of W and separation take these courses."""
    return [
        EpochRow.model_validate(
            {
                **(REST | NOTHING | COUNTS),
                "seed": seed,
                "layer": layer,
                "epoch": epoch,
                "split": split,
                "log_weight_norm": norm(seed, epoch),
                "log_goodness": degree * norm(seed, epoch) + sign * separation(seed, epoch) / 2,
            }
        )
        for seed in range(seeds)
        for epoch in range(EPOCHS)
        for split, sign in (("positive", 1), ("negative", -1))
    ]


@settings(max_examples=examples(30), deadline=None)
@given(
    norms=st.lists(st.floats(-300, 300), min_size=EPOCHS, max_size=EPOCHS),
    separations=st.lists(st.floats(-5, 5), min_size=EPOCHS, max_size=EPOCHS),
    degree=st.sampled_from([1.0, 2.0, 4.0]),
)
def test_growth_is_that_between_the_middle_and_the_end(
    norms: list[float], separations: list[float], degree: float
) -> None:
    rows = rows_of(
        lambda _, epoch: norms[epoch], lambda _, epoch: separations[epoch], degree=degree
    )
    epochs, found = growths(rows[::-1], 0)
    assert epochs == (3, 6)
    for growth in found:
        assert growth.norm == pytest.approx(norms[6] - norms[3])
        assert growth.goodness == pytest.approx(degree * (norms[6] - norms[3]), abs=1e-9)
        # whatever the scale of the weights did
        assert growth.separation == pytest.approx(separations[6] - separations[3], abs=1e-9)


def test_weights_that_double_without_telling_apart_run_away() -> None:
    rows = rows_of(lambda seed, epoch: 0.5 * epoch, lambda seed, epoch: 0.01 * epoch * seed)
    (found,) = scale_runaway(rows)
    # over three epochs ln G grows by 3, the separation by 0, 0.03 and 0.06
    half = 4.303 * 0.01 / math.sqrt(3)
    assert found.evidence["separation_share"] == pytest.approx(0.01)
    assert found.evidence["low"] == pytest.approx(0.01 - half, rel=1e-3)
    assert found.evidence["high"] == pytest.approx(0.01 + half, rel=1e-3)
    assert found.evidence["norm_growth"] == pytest.approx(1.5)
    assert "over 3 seeds" in found.message
    (one,) = scale_runaway([row for row in rows if row.seed == 1])
    assert "(one seed)" in one.message
    assert one.evidence["low"] is None


@pytest.mark.parametrize(
    ("norm", "separation"),
    [
        pytest.param(lambda s, e: 0.2 * e, lambda s, e: 0.0, id="weights that hardly grow"),
        pytest.param(lambda s, e: 0.5 * e, lambda s, e: 0.2 * e, id="splits told apart"),
        pytest.param(lambda s, e: 0.5 * e, lambda s, e: -0.2 * e, id="splits that come closer"),
        pytest.param(lambda s, e: 0.5 * e, lambda s, e: 0.2 * e * (s - 1), id="seeds that differ"),
        pytest.param(lambda s, e: 0.5 * e * (s < 2), lambda s, e: 0.0, id="a seed that stays"),
    ],
)
def test_others_do_not(norm: Course, separation: Course) -> None:
    assert not list(scale_runaway(rows_of(norm, separation)))


def test_a_goodness_without_scale_does_not_run_away_however_long_weights_are() -> None:
    rows = rows_of(lambda seed, epoch: 3.0 * epoch, lambda seed, epoch: 0.0, degree=0)
    assert growths(rows, 0)[1]
    assert not list(scale_runaway(rows))


def test_the_layer_whose_weights_grew_most_is_named() -> None:
    rows = [
        row
        for layer, rate in enumerate((0.3, 0.6, 0.4))
        for row in rows_of(
            lambda _, epoch, rate=rate: rate * epoch,  # type: ignore[misc]
            lambda _, epoch: 0.0,
            layer=layer,
        )
    ]
    (found,) = scale_runaway(rows)
    assert found.evidence["layer"] == 1


@pytest.mark.parametrize("figure", ["log_goodness", "log_weight_norm"])
def test_without_its_figures_there_is_no_verdict(figure: str) -> None:
    rows = rows_of(lambda seed, epoch: 0.5 * epoch, lambda seed, epoch: 0.0)
    assert list(scale_runaway(rows))
    assert not list(scale_runaway([row.model_copy(update={figure: None}) for row in rows]))
    assert not list(scale_runaway([row for row in rows if row.epoch < 3]))
    assert separation_share(growths(rows, 0)[1]).seeds == 3
