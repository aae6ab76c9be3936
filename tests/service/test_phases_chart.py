"""The chart of runs in phases: its values against rows made by hand, its stripes against the split
of every step.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffengine.results import TrainResult
from ffengine.spec import PhasesSpec, TrainSpec
from service.results.charts import NothingToDraw, PartialRun, Source, available, render
from service.results.charts.phases import AFTER, MOST_BANDS, MOST_CURVES, PANELS, Phased, phases
from tests.service.drawn import caption, drawn, points
from tests.service.samples import epoch_row, provenance

UP_DOWN = {"positive_steps": 2, "negative_steps": 2, "unit": "epochs"}


def run(epochs: int, *, layers: int = 1, every: int = 1, **spec: Any) -> Source:
    """Two seeds whose S is the epoch over a thousand, and 0.1 less in negatives."""
    rows = tuple(
        epoch_row(epoch, split, seed=seed, layer=layer).model_copy(
            update={
                "sparsity": epoch / 1_000 + seed / 50 + 0.2 - (split == "negative") / 10,
                "theorem1_ratio": 1 - epoch / 1_000,
                "theorem2_ratio": epoch / 1_000,
                "tau": epoch / 10,
            }
        )
        for layer in range(layers)
        for seed in (0, 1)
        for epoch in range(0, epochs + 1, every)
        for split in ("positive", "negative")
    )
    result = TrainResult(curves=rows, accuracy=(), diagnostics=(), provenance=provenance((0, 1)))
    widths = {"network": {"widths": [8] * layers, "normalize": "l2"}}
    fields = {"batch_size": 4, "epochs": max(1, epochs), "phases": UP_DOWN, **widths, **spec}
    return Source("", result, TrainSpec.model_validate(fields))


@pytest.mark.slow
def test_each_panel_has_the_means_of_its_figure() -> None:
    found = points("phases", run(8))
    assert list(dict.fromkeys(row["series"] for row in found)) == list(PANELS.values())
    for row in found:
        expected = {
            "sparsity S": row["epoch"] / 1_000 + 0.21 - (row["split"] == "negative") / 10,
            "theorem 1": 1 - row["epoch"] / 1_000,
            "theorem 2": row["epoch"] / 1_000,
        }[row["series"]]
        assert row["mean"] == pytest.approx(expected)
    assert len(found) == 3 * 2 * 9


@pytest.mark.slow
def test_each_negative_phase_has_a_stripe_in_each_panel() -> None:
    found = points("phases", run(9))
    for panel in PANELS.values():
        stripes = [
            (row["band_start"], row["band_end"])
            for row in found
            if row["series"] == panel and "band_end" in row
        ]
        assert stripes == [(2, 4), (6, 8)]
    band, *curves = drawn("phases", run(9))["spec"]["layer"]
    assert "values" not in band["encoding"]["x"]["axis"]  # or ticks would end where stripes begin
    assert curves[0]["layer"][-1]["encoding"]["x"]["axis"]["values"] == list(range(10))
    text = caption(drawn("phases", run(9)))
    assert "Grey stripes are negative phases" in text
    assert "one line joins" not in text


@given(
    up=st.integers(0, 5),
    down=st.integers(1, 5),
    unit=st.sampled_from(("steps", "epochs")),
    epoch_steps=st.integers(1, 4),
    end=st.integers(1, 12),
)
def test_stripes_are_where_steps_learn_from_negatives(
    up: int, down: int, unit: str, epoch_steps: int, end: int
) -> None:
    spec = PhasesSpec.model_validate({"positive_steps": up, "negative_steps": down, "unit": unit})
    one = Phased("", TrainSpec(phases=spec), epoch_steps)
    stripes = one.negative_phases(end)
    for step in range(end * epoch_steps):
        middle = (step + 0.5) / epoch_steps
        negative = any(start < middle < stop for start, stop in stripes)
        assert negative == (spec.split_at(step, epoch_steps) == "negative")
    assert all(0 <= start < stop <= end for start, stop in stripes)
    for epoch in range(1, end + 1):
        assert one.last_split(epoch) == spec.split_at(epoch * epoch_steps - 1, epoch_steps)
    assert one.last_split(0) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "many",
    [
        run(400, phases={"positive_steps": 1, "negative_steps": 1, "unit": "epochs"}),
        run(20, phases={"positive_steps": 2, "negative_steps": 1}, batch_size=2),  # 2 an epoch
        run(60, every=3, phases={"positive_steps": 1, "negative_steps": 1, "unit": "epochs"}),
    ],
    ids=["many", "within epochs", "seldom measured"],
)
def test_of_many_phases_one_line_is_what_each_side_leaves(many: Source) -> None:
    found = points("phases", many)
    assert not any("band_end" in row for row in found)
    assert {row["what"] for row in found} == set(AFTER.values())
    assert isinstance(many.spec, TrainSpec)
    assert many.spec.batch_size
    one = Phased("", many.spec, 4 // many.spec.batch_size)
    for row in found:
        if row["binned"] == 1:
            assert row["what"] == AFTER[one.last_split(row["epoch"])]  # type: ignore[index]
    text = caption(drawn("phases", many))
    assert "one line joins the epochs that end with a positive step" in text
    assert "Grey stripes" not in text


@pytest.mark.slow
def test_up_to_sixty_negative_phases_are_striped() -> None:
    for epochs, striped in ((4 * MOST_BANDS, True), (4 * MOST_BANDS + 4, False)):
        found = points("phases", run(epochs))
        assert any("band_end" in row for row in found) == striped


def test_it_stays_out_of_runs_without_phases() -> None:
    without = run(4, phases={})
    assert "phases" not in available([without])
    assert "phases" not in available([without._replace(spec=None)])
    assert "phases" not in available([PartialRun("", spec=run(4).spec)])  # no row yet
    with pytest.raises(NothingToDraw, match="no run in phases"):
        render("phases", [without], "json")
    assert "phases" in available([run(4, phases={"negative_steps": 1})])  # sleep alone


@pytest.mark.slow
@pytest.mark.parametrize("given_phases", [UP_DOWN, {"negative_steps": 1}, {"positive_steps": 1}])
def test_one_epoch_alone_is_drawn_and_a_run_without_phases_beside_is_not(
    given_phases: dict[str, Any],
) -> None:
    without = run(4, phases={})._replace(label="without")
    found = points("phases", without, run(0, phases=given_phases)._replace(label="with"))
    assert {row["series"].split()[0] for row in found} == {"with"}
    assert {row["epoch"] for row in found} == {0}


def test_a_run_that_still_learns_has_it_and_an_upload_once_its_samples_are_known() -> None:
    rows = run(4).result.curves  # type: ignore[union-attr]
    steps = {"positive_steps": 2, "negative_steps": 2}
    for name, given_phases, there in (
        ("mnist-mini", steps, True),
        ("upload", UP_DOWN, True),
        ("upload", steps, False),
    ):
        spec = run(4, phases=given_phases).spec
        dataset = spec.dataset.model_copy(update={"name": name})  # type: ignore[union-attr]
        partial = PartialRun("", rows, spec=spec.model_copy(update={"dataset": dataset}))  # type: ignore[union-attr]
        assert ("phases" in available([partial])) == there


@pytest.mark.slow
def test_a_theorem_that_is_not_monitored_has_no_panel() -> None:
    found = run(4)
    rows = [
        row.model_copy(update={"theorem1_ratio": None})
        for row in found.result.curves  # type: ignore[union-attr]
    ]
    series = {row["series"] for row in points("phases", PartialRun("", rows, spec=found.spec))}
    assert series == {"sparsity S", "theorem 2"}


@pytest.mark.slow
def test_layers_have_a_row_of_panels_each_and_more_than_eight_are_told() -> None:
    document = drawn("phases", run(4, layers=2))
    assert document["columns"] == 3
    assert document["facet"]["sort"][:4] == [
        *(f"layer 0 {panel}" for panel in PANELS.values()),
        "layer 1 sparsity S",
    ]
    deep = phases([run(2, layers=MOST_CURVES + 1)]).to_dict()
    assert "Only the first 8 of 9 are drawn." in " ".join(deep["title"]["subtitle"])
    assert len(deep["facet"]["sort"]) == 3 * MOST_CURVES
