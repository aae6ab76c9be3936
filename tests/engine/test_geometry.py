"""The angle histogram of a check: against a double loop, whatever the batch; the same in every run;
the limit's margins follow from it.
"""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.geometry import BIN_DEGREES, BINS, MOST_SAMPLES, angle_rows
from ffengine.infinite_width import limit_kernel
from ffengine.negatives import Positives
from ffengine.random_streams import Draws
from ffengine.results import CheckResult
from ffengine.samples import load_samples
from ffengine.spec import CheckSpec
from tests.engine import reference
from tests.examples import examples

VALUES = st.floats(-4, 4, width=16)
SAMPLES = st.integers(1, 4).flatmap(
    lambda m: st.lists(st.lists(VALUES, min_size=m, max_size=m), min_size=1, max_size=7)
)


@settings(max_examples=examples(80), deadline=None)
@given(SAMPLES, st.data())
def test_the_histogram_is_that_of_a_double_loop(
    positive: list[list[float]], data: st.DataObject
) -> None:
    m = len(positive[0])
    negative = data.draw(st.lists(st.lists(VALUES, min_size=m, max_size=m), min_size=1, max_size=7))
    rows = angle_rows({"positive": torch.tensor(positive), "negative": torch.tensor(negative)})
    for row, own in zip(rows, (positive, negative), strict=True):
        pairs, energy = reference.angle_histogram(own, positive + negative, BIN_DEGREES)
        assert row.pairs == tuple(pairs)
        assert row.energy == pytest.approx(energy)
        assert (row.samples, row.beside) == (len(own), len(positive) + len(negative))


def test_edges_belong_to_the_bin_above_and_180_degrees_to_the_last() -> None:
    x = torch.tensor([[1.0, 0, 0], [0, 2, 0], [1, 1, 0], [-3, 0, 0], [0, 0, 0]])
    (row,) = angle_rows({"negative": x})
    found = {place * BIN_DEGREES: count for place, count in enumerate(row.pairs) if count}
    assert found == {
        44: 4,
        90: 4,
        134: 2,
        178: 2,
    }  # 45, 90, 135 and 180 degrees; the sample of length 0 has no angle
    assert sum(row.energy) == 3 * (1 + 4 + 2 + 9)


@pytest.mark.slow
def test_a_checks_histogram_is_that_of_its_first_batch_under_the_labels_overlay() -> None:
    spec = CheckSpec(
        theorem=2, widths=(8, 4), samples=60, batch_size=20, seeds=(5, 6), methods=("exact",)
    )
    rows = ffengine.check(spec).geometry
    train, draws = load_samples(spec.dataset, torch.device("cpu")).train, Draws((5,))
    index = draws.at("samples").permutation(6000)[:, :20]
    x = train.labelled[index]
    groups = [
        x[0].double().tolist(),
        spec.negatives(Positives(x, index, train, draws.at("negatives", 0), None))[0]
        .double()
        .tolist(),
    ]
    assert [row.split for row in rows] == ["positive", "negative"]
    for row, own in zip(rows, groups, strict=True):
        pairs, energy = reference.angle_histogram(own, groups[0] + groups[1], BIN_DEGREES)
        assert (row.seed, row.samples, row.beside, row.pairs) == (5, 20, 40, tuple(pairs))
        assert row.energy == pytest.approx(energy)


def test_the_limits_margins_are_the_histogram_times_the_kernel() -> None:
    x = torch.rand(300, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (row,) = angle_rows({"negative": x})
    middles = torch.deg2rad(torch.arange(BINS, dtype=torch.float64) * BIN_DEGREES + BIN_DEGREES / 2)
    push = torch.tensor(row.energy, dtype=torch.float64) * limit_kernel(middles.cos())
    assert 2 * float(push.sum()) == pytest.approx(
        float(ffengine.infinite_width_theorem1(x).margin.sum()), rel=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("theorem", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_of_a_large_batch_the_first_samples_are_taken_in_every_run_alike(theorem: int) -> None:
    spec = CheckSpec.model_validate(
        {"theorem": theorem, "widths": [8], "samples": 1200, "batch_size": None, "seeds": [0]}
    )
    first, second = (ffengine.check(spec) for _ in range(2))
    assert first.geometry == second.geometry
    assert len(first.geometry) == theorem
    for row in first.geometry:
        assert (row.samples, row.beside, row.batch_samples) == (
            MOST_SAMPLES // theorem,
            MOST_SAMPLES,
            1200,
        )
        assert sum(row.pairs) == row.samples * (MOST_SAMPLES - 1)
    resumed = ffengine.check(spec, resume=first.cells)
    assert resumed.geometry == first.geometry


@pytest.mark.slow
def test_non_negative_pixels_make_every_angle_acute_and_centring_does_not() -> None:
    spec = CheckSpec(theorem=1, widths=(4,), samples=200, seeds=(0,), methods=("exact",))
    (row,) = ffengine.check(spec).geometry
    assert sum(row.pairs[90 // BIN_DEGREES + 1 :]) == 0
    centred = spec.model_copy(
        update={"dataset": spec.dataset.model_copy(update={"preprocess": "center"})}
    )
    (row,) = ffengine.check(centred).geometry
    assert sum(row.pairs[90 // BIN_DEGREES + 1 :]) > 0.2 * sum(row.pairs)


def test_a_result_without_angles_stays_readable() -> None:
    document = json.loads(
        ffengine.check(CheckSpec(theorem=1, widths=(2,), samples=5, seeds=(0,))).model_dump_json()
    )
    del document["geometry"]
    assert CheckResult.model_validate(document).geometry == ()
