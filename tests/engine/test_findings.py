"""The catalogue of findings: what is read off runs, against slow forms and by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffengine.findings import FINDINGS, Run
from ffengine.findings.measured import (
    accuracy,
    at_end,
    at_epoch,
    crossing,
    crossings,
    curve,
    lowest,
    turns,
)
from ffengine.findings.wording import is_above, is_below, listed, number, pair
from ffengine.intervals import interval
from ffengine.presets import PRESETS
from ffengine.results import EpochRow, Interval, Split, TrainResult
from ffengine.spec import ForecastSpec, TrainSpec
from ffengine.study import expand
from tests.service.samples import epoch_row, provenance

SPLITS: tuple[Split, Split] = ("positive", "negative")


def run_of(courses: list[list[tuple[float, float]]]) -> Run:
    """A run in which seed after seed theorem 2 of both splits goes through these values."""
    rows: list[EpochRow] = [
        epoch_row(epoch, split, seed=seed, ratio=value).model_copy(update={"tau": 0.5 * epoch})
        for seed, course in enumerate(courses)
        for epoch, both in enumerate(course)
        for split, value in zip(SPLITS, both, strict=True)
    ]
    result = TrainResult(
        curves=tuple(rows),
        accuracy=(),
        diagnostics=(),
        provenance=provenance(tuple(range(len(courses)))),
    )
    return Run("a part", {}, TrainSpec(), result)


def slow_crossing(course: list[tuple[float, float]]) -> float | None:
    """Walk in small steps from the lowest point until the lower split is at one half."""
    lower = [min(both) for both in course]
    start = lower.index(min(lower))
    if lower[start] >= 0.5:
        return None
    steps = 20_000
    for step in range(start * steps, (len(lower) - 1) * steps + 1):
        at, part = divmod(step, steps)
        value = lower[at] + (part / steps) * ((lower[at + 1] - lower[at]) if part else 0)
        if value >= 0.5:
            return 0.5 * step / steps
    return None


RATIO = st.integers(0, 40).map(lambda count: count / 40)


@given(st.lists(st.tuples(RATIO, RATIO), min_size=1, max_size=6))
def test_a_crossing_is_where_the_lower_split_comes_back_to_one_half(
    course: list[tuple[float, float]],
) -> None:
    found, slow = crossings(run_of([course]), "theorem2_ratio"), slow_crossing(course)
    assert len(found) == (slow is not None)
    if slow is not None:
        assert found[0] == pytest.approx(slow, abs=1e-4)


def test_a_crossing_has_an_interval_where_every_seed_crosses_and_else_none() -> None:
    up, down = [(0.9, 0.8), (0.1, 0.2), (0.9, 0.9)], [(0.9, 0.9), (0.4, 0.3), (0.2, 0.1)]
    both = crossing(run_of([up, up]), "theorem2_ratio")
    assert both is not None
    assert both.mean == pytest.approx(0.5 + 0.5 * 0.4 / 0.8)
    assert crossing(run_of([up, down]), "theorem2_ratio") is None
    assert crossing(run_of([[(0.9, 0.9)]]), "theorem2_ratio") is None


def test_a_turn_after_the_fall_of_s_is_not_that_of_later_noise() -> None:
    course = [(0.6, 0.6), (0.1, 0.2), (0.8, 0.7), (0.05, 0.9), (0.9, 0.9)]
    run = run_of([course])
    assert isinstance(run.result, TrainResult)
    assert crossings(run, "theorem2_ratio")[0] > 1.5  # after the dip at epoch 3
    for lowest_at, expected in ((2, [0.5 + 0.5 * 0.4 / 0.6]), (0, [])):
        rows = tuple(
            row.model_copy(update={"sparsity": 0.4 + 0.01 * abs(row.epoch - lowest_at)})
            for row in run.result.curves
        )
        falling = run._replace(result=run.result.model_copy(update={"curves": rows}))
        found = crossings(falling, "theorem2_ratio", after_fall=True)
        assert found == pytest.approx(expected)


@given(
    st.floats(0.6, 2.4),
    st.floats(0.1, 3.0),
    st.floats(-1.0, 1.0),
)
def test_the_turn_of_s_is_that_of_its_parabola(where: float, steep: float, level: float) -> None:
    run = run_of([[(0.5, 0.5)] * 7])
    assert isinstance(run.result, TrainResult)
    rows = tuple(
        row.model_copy(update={"sparsity": level + steep * ((row.tau or 0.0) - where) ** 2})
        for row in run.result.curves
    )
    bent = run._replace(result=run.result.model_copy(update={"curves": rows}))
    assert turns(bent) == pytest.approx([where], abs=1e-6)
    # unequal steps, and S that only falls or only rises
    uneven = tuple(
        row.model_copy(
            update={
                "tau": 0.2 * row.epoch**2,
                "sparsity": level + steep * (0.2 * row.epoch**2 - where) ** 2,
            }
        )
        for row in rows
    )
    late = run._replace(result=run.result.model_copy(update={"curves": uneven}))
    assert turns(late) == pytest.approx([where], abs=1e-6)
    for sign in (1, -1):
        straight = tuple(row.model_copy(update={"sparsity": sign * row.epoch}) for row in rows)
        only = run._replace(result=run.result.model_copy(update={"curves": straight}))
        assert turns(only) == []


def test_curves_are_read_by_epoch_with_intervals_over_seeds() -> None:
    run = run_of([[(0.5, 0.1), (0.7, 0.3)], [(0.3, 0.1), (0.9, 0.3)]])
    found = curve(run, "theorem2_ratio", "positive")
    assert [(moment.epoch, moment.tau) for moment in found] == [(0, 0.0), (1, 0.5)]
    assert [moment.found.mean for moment in found] == pytest.approx([0.4, 0.8])
    assert lowest(found) is found[0]
    end = at_end(run, "theorem2_ratio", "negative")
    assert end == at_epoch(run, "theorem2_ratio", "negative", 1)
    assert end is not None
    assert end.mean == pytest.approx(0.3)
    assert accuracy(run) is None


def test_words_say_what_is_clear_and_nothing_for_one_seed() -> None:
    wide, one = interval([0.2, 0.4]), interval([0.3])
    assert number(one) == "0.300"
    assert number(wide, 1).startswith("0.3 [")
    assert number(None) == "-"
    assert pair([one, None]) == "0.30 / -"
    clear = Interval(mean=0.6, low=0.55, high=0.65, seeds=3)
    assert is_above(clear, 0.5)
    assert is_below(clear, 0.7)
    assert not is_above(one, 0.0)
    assert not is_below(one, 1.0)
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_is_a_preset_that_asks_one_question(name: str) -> None:
    finding = FINDINGS[name]
    assert PRESETS[name].spec == finding.study
    assert PRESETS[name].meaning == finding.question
    assert finding.question.endswith("?")
    for text in (finding.method, finding.falsified_by):
        assert text.endswith(".")
    cells = expand(finding.study)
    assert cells
    for cell in cells:  # the bands of a forecast under `difference` come from its units
        of_units = isinstance(cell.spec, ForecastSpec) and not cell.spec.units_interact
        assert of_units or len(cell.spec.seeds) >= 3
