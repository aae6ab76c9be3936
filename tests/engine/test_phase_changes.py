"""What S does from one switch of phases to the next, against a walk through every step."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffengine.findings import FINDINGS, Run
from ffengine.findings.phase_changes import mean_change, phase_changes, switch_count
from ffengine.intervals import interval
from ffengine.results import TrainResult
from ffengine.spec import PhasesSpec, TrainSpec
from tests.service.samples import epoch_row, provenance

SAMPLES = 4  # of the provenance


def run_of(values: list[list[float]], every: int, steps: int, **phases: Any) -> Run:
    """A run whose S of each seed goes through the values, of which every so many are measured."""
    epochs = len(values[0]) - 1
    rows = tuple(
        epoch_row(epoch, split, seed=seed).model_copy(
            update={"sparsity": value, "tau": epoch / 10, "active_share": 0.5}
        )
        for seed, course in enumerate(values)
        for epoch, value in enumerate(course)
        if epoch % every == 0 or epoch == epochs
        for split in ("positive", "negative")
    )
    spec = TrainSpec.model_construct(
        **TrainSpec(epochs=max(1, epochs), phases=PhasesSpec(**phases)).__dict__
        | {"batch_size": SAMPLES // steps}
    )
    seeds = tuple(range(len(values)))
    result = TrainResult(curves=rows, accuracy=(), diagnostics=(), provenance=provenance(seeds))
    return Run("up and down", {}, spec, result)


@given(
    values=st.lists(st.lists(st.floats(0, 1), min_size=13, max_size=13), min_size=1, max_size=3),
    every=st.integers(1, 3),
    steps=st.sampled_from((1, 2, 4)),
    unit=st.sampled_from(("steps", "epochs")),
    up=st.integers(0, 4),
    down=st.integers(0, 4),
)
def test_changes_are_those_of_a_walk_through_every_step(
    values: list[list[float]], every: int, steps: int, unit: str, up: int, down: int
) -> None:
    run = run_of(values, every, steps, unit=unit, positive_steps=up, negative_steps=down)
    phases = run.spec.phases  # type: ignore[union-attr]
    splits = [phases.split_at(step, steps) for step in range(12 * steps + 1)]
    switches = [step for step in range(1, 12 * steps) if splits[step] != splits[step - 1]]
    assert switch_count(run) == len(switches)
    expected = []
    # the end of the run ends a phase only where a switch would follow
    last = [12 * steps] if switches and splits[12 * steps] != splits[12 * steps - 1] else []
    for first, end in zip([0, *switches], [*switches, *last], strict=False):
        a, b = first / steps, end / steps
        if all(at.is_integer() and (at % every == 0 or at == 12) for at in (a, b)):
            changes = {s: course[int(b)] - course[int(a)] for s, course in enumerate(values)}
            expected.append((splits[first], int(a), int(b), changes))
    found = phase_changes(run, "sparsity")
    assert [tuple(change) for change in found] == expected
    for split in ("positive", "negative"):
        own = [change.by_seed for change in found if change.split == split]
        mean = mean_change(found, split)
        if not own:
            assert mean is None
        else:
            by_seed = [sum(one[s] for one in own) / len(own) for s in range(len(values))]
            assert mean == interval(by_seed)


def test_the_finding_says_how_s_moves_at_each_switch() -> None:
    up_down = run_of(
        [[0.5, 0.4, 0.6, 0.5, 0.7], [0.5, 0.4, 0.6, 0.5, 0.7]],
        1,
        1,
        positive_steps=1,
        negative_steps=1,
    )
    sleep = FINDINGS["sleep"]
    assert sleep.conclusion([up_down])[1] == (
        "Up and down, from one of its 3 switches to the next: S of positives changes by -0.100 "
        "[-0.100, -0.100] in a positive phase (mean of 2) and by +0.200 [0.200, 0.200] in a "
        "negative phase (mean of 2)."
    )
    table = sleep.table([up_down])
    assert [(row[2][:5], *row[3:5]) for row in table.rows] == [
        ("0.500", "-", "-"),
        ("0.400", "positive", "-0.100 [-0.100, -0.100]"),
        ("0.600", "negative", "+0.200 [0.200, 0.200]"),
        ("0.500", "positive", "-0.100 [-0.100, -0.100]"),
        ("0.700", "negative", "+0.200 [0.200, 0.200]"),
    ]


@pytest.mark.parametrize("phases", [{"negative_steps": 1}, {"positive_steps": 2}, {}])
def test_a_run_without_switches_says_nothing_of_them(phases: dict[str, int]) -> None:
    run = run_of([[0.5, 0.6, 0.7]], 1, 1, **phases)
    assert switch_count(run) == 0
    assert phase_changes(run, "sparsity") == []
    assert len(FINDINGS["sleep"].conclusion([run])) == 1
    assert {row[3:5] for row in FINDINGS["sleep"].table([run]).rows} == {("-", "-")}


def test_each_layer_has_its_own_sentence() -> None:
    run = run_of([[0.5, 0.4, 0.6]], 1, 1, positive_steps=1, negative_steps=1)
    assert isinstance(run.result, TrainResult)
    rows = tuple(
        row.model_copy(update={"layer": layer}) for layer in (0, 1) for row in run.result.curves
    )
    network = run.spec.network.model_copy(update={"widths": (8, 8)})  # type: ignore[union-attr]
    deep = run._replace(
        spec=run.spec.model_copy(update={"network": network}),
        result=run.result.model_copy(update={"curves": rows}),
    )
    said = FINDINGS["sleep"].conclusion([deep])[1:]
    assert len(said) == 2
    for layer, sentence in enumerate(said):
        assert f"S of positives of layer {layer} changes by -0.100 in a positive" in sentence
