"""Charts of turns, acts, deep layers and weights: their values against rows made by hand,
with one seed, one epoch, nothing, or figures that are no numbers.
"""

import json
import math
from typing import Any

import pytest

from ffengine.results import EpochRow, Onset, Split, TrainResult
from service.results.charts import (
    NothingToDraw,
    PartialRun,
    Source,
    available,
    overlay,
    render,
)
from service.results.stored_rows import StoredRows
from tests.service.drawn import caption, drawn, points
from tests.service.samples import epoch_row, provenance

pytestmark = pytest.mark.slow  # each draws a chart or several

ONSET = Onset(
    lambda_1=0.6,
    overlap=0.75,
    falls=True,
    tau_star=2.0,
    tau_star_low=0.65 / 0.45,
    tau_star_high=1.15 / 0.45,
    tau_end=4.0,
)
# as it was predicted without q
BEFORE = ONSET.model_copy(
    update={"lambda_1": 0.625, "overlap": None, "tau_star_low": 1.76, "tau_star_high": 2.24}
)
SPLITS: tuple[Split, Split] = ("positive", "negative")


def trained(
    *changes: dict[str, Any], onset: Onset | None = ONSET, label: str = "", epochs: int = 5
) -> Source:
    """A run of one row for each change, epoch and split; tau is the epoch."""
    rows = tuple(
        epoch_row(epoch, split).model_copy(
            update={"tau": float(epoch), "act": "recruiting" if epoch else None, **change}
        )
        for change in changes or ({},)
        for epoch in range(epochs)
        for split in SPLITS
    )
    result = TrainResult(
        curves=rows, accuracy=(), diagnostics=(), provenance=provenance(), onset=onset
    )
    return Source(label, result)


def marks(document: dict[str, Any]) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = document.get("spec", document)["layer"]
    return layers


FLOW = ("sparsity_flow", "theorem2_flow")


@pytest.mark.parametrize("name", FLOW)
def test_the_predicted_turn_is_a_labelled_line_with_its_origin(name: str) -> None:
    document = drawn(name, trained())
    [marked] = [row for row in points(name, trained()) if "turn" in row]
    assert (marked["turn"], marked["turn_low"], marked["turn_high"]) == pytest.approx(
        (2.0, 1.444, 2.556), abs=1e-3
    )
    assert marked["word_right"] == "predicted τ* = 2"
    assert any(layer["encoding"].get("x", {}).get("field") == "turn" for layer in marks(document))
    text = caption(document)
    assert "predicted turn τ* = 0.9 / (q lambda_1) = 2, where S is expected to be lowest" in text
    assert "the grey band is 0.65 to 1.15 / (q lambda_1)" in text
    assert "q = 0.75 and lambda_1 = 0.6 from the data before training" in text
    assert "0.9 is measured, not derived" in text


@pytest.mark.parametrize("overlap", [None, 0.6])
def test_a_stored_turn_has_the_formula_that_it_was_predicted_by(overlap: float | None) -> None:
    before = BEFORE.model_copy(update={"overlap": overlap})
    text = caption(drawn("sparsity_flow", trained(onset=before)))
    assert "τ* = 1.25 / lambda_1 = 2, where S is expected to be lowest; the grey band is " in text
    assert "; lambda_1 = 0.625 from the data before training; 1.25 is measured" in text
    late = BEFORE.model_copy(update={"tau_star": 40.0, "lambda_1": 1.25 / 40})
    text = caption(drawn("sparsity_flow", trained(onset=late)))
    assert "τ* = 1.25 / lambda_1 = 40, where S is expected to be lowest, is right of" in text


def test_the_word_of_a_late_turn_is_left_of_its_line() -> None:
    late = ONSET.model_copy(update={"tau_star": 3.9, "tau_star_high": 4.4})
    [marked] = [row for row in points("sparsity_flow", trained(onset=late)) if "turn" in row]
    assert marked["word_left"] == "predicted τ* = 3.9"
    assert marked["turn_high"] == 4.4


def test_a_turn_far_beyond_the_end_is_told_and_does_not_squeeze_the_curve() -> None:
    far = ONSET.model_copy(update={"tau_star": 40.0, "lambda_1": 0.03})
    document = drawn("sparsity_flow", trained(onset=far))
    assert not [row for row in points("sparsity_flow", trained(onset=far)) if "turn" in row]
    assert "0.9 / (q lambda_1) = 40, where S is expected" in caption(document)
    assert "is right of the plot: the run ends before" in caption(document)


def test_where_no_turn_is_predicted_the_caption_says_why() -> None:
    why = "S is not expected to fall: act 2 begins at once"
    none = Onset(lambda_1=0.6, falls=False, unknown={"tau_star": why})
    assert f"No turn τ* is predicted: {why}." in caption(
        drawn("sparsity_flow", trained(onset=none))
    )
    earlier = caption(drawn("sparsity_flow", trained(onset=None)))  # a result of before
    assert "τ*" not in earlier


def test_the_turn_is_that_of_the_first_layer_alone() -> None:
    deep = trained({"layer": 0}, {"layer": 1})
    marked = [row for row in points("sparsity_flow", deep) if "turn" in row]
    assert [row["series"] for row in marked] == ["layer 0"]
    upper = trained({"layer": 1})  # whose lower layers were not measured
    assert not [row for row in points("sparsity_flow", upper) if "turn" in row]


def test_jobs_over_each_other_have_a_line_each_in_every_panel() -> None:
    other = ONSET.model_copy(update={"tau_star": 3.0, "lambda_1": 0.5, "overlap": 0.6})
    jobs = [trained(label="a"), trained(label="b", onset=other)]
    document = json.loads(overlay("sparsity_flow", jobs))
    rows = [row for rows in document["datasets"].values() for row in rows if "turn" in row]
    assert {(row["job"], row["series"], row["turn"]) for row in rows} == {
        (job, f"{split} samples", turn)
        for job, turn in (("a", 2.0), ("b", 3.0))
        for split in SPLITS
    }
    assert len(rows) == 4
    text = caption(document)
    assert "τ* = 0.9 / (q lambda_1) = 2 to 3, where S is expected to be lowest; q = 0.6 to" in text
    assert "to 0.75 and lambda_1 = 0.5 to 0.6 from the data" in text
    earlier = caption(json.loads(overlay("sparsity_flow", [jobs[1], trained(onset=BEFORE)])))
    assert "τ* = 0.9 / (q lambda_1) = 3" in earlier
    assert "τ* = 1.25 / lambda_1 = 2" in earlier


def test_the_strip_has_the_act_of_most_seeds_since_the_epoch_before() -> None:
    seeds = trained({"seed": 0}, {"seed": 1, "act": "selecting"}, {"seed": 2, "act": "selecting"})
    rows = [row for row in points("sparsity_flow", seeds) if row["split"] == "negative"]
    assert [row["act"] for row in rows] == ["selecting"] * 5
    assert [(row["since"], row["tau"]) for row in rows[1:]] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert rows[0]["since"] is None
    document = drawn("sparsity_flow", seeds)
    strips = [layer for layer in marks(document) if "fill" in layer["encoding"]]
    assert [layer["encoding"]["y"]["value"] < 0 for layer in strips] == [True, True]  # above data
    assert strips[0]["encoding"]["fill"]["scale"]["domain"] == ["selecting"]
    assert "of positives above, of negatives below" in caption(document)


def test_rows_without_acts_have_no_strip() -> None:
    document = drawn("sparsity_flow", trained({"act": None}))
    assert not [layer for layer in marks(document) if "fill" in layer["encoding"]]
    assert "strips above" not in caption(document)
    epochs = drawn("sparsity", trained())  # over epochs, neither strip nor turn
    assert not [layer for layer in marks(epochs) if "fill" in layer["encoding"]]
    assert "τ*" not in caption(epochs)


def test_growth_of_goodness_has_its_expected_slope() -> None:
    onset = ONSET.model_copy(update={"goodness_growth": 2.375})
    run = trained({"log_goodness": 3.5}, {"seed": 1, "log_goodness": 4.5}, onset=onset)
    assert {row["mean"] for row in points("log_goodness_flow", run)} == {4.0}
    assert "rise by 2.38 in a unit of τ" in caption(drawn("log_goodness_flow", run))
    assert "log_goodness_flow" not in available([trained()])  # rows of before have none
    with pytest.raises(NothingToDraw):
        render("log_goodness_flow", [trained()], "json")


DEEP = {
    "layer": 1,
    "theorem2_ratio": 0.25,
    "theorem2_total_ratio": 0.5,
    "joint_increase_ratio": 0.75,
    "total_agreement": 1.0,
    "local_agreement": 0.25,
}


def test_deep_charts_have_the_layers_with_a_total_condition_alone() -> None:
    run = trained({"layer": 0}, DEEP)
    assert {"deep_theorem2", "deep_agreement"} <= set(available([run]))
    assert "deep_theorem2" not in available([trained({"layer": 0}, {"layer": 1})])  # greedy
    found = points("deep_theorem2", run)
    assert {row["series"] for row in found} == {"layer 1"}
    assert {(row["what"], row["mean"]) for row in found} == {
        ("total condition", 0.5),
        ("local condition", 0.25),
        ("observed in the joint step", 0.75),
    }
    assert {(row["what"], row["mean"]) for row in points("deep_agreement", run)} == {
        ("total condition", 1.0),
        ("local condition", 0.25),
    }
    assert "along the joint step of all layers" in caption(drawn("deep_theorem2", run))
    with pytest.raises(NothingToDraw):
        render("deep_agreement", [trained()], "json")


def test_deep_charts_do_without_figures_that_are_not_there() -> None:
    run = trained({**DEEP, "joint_increase_ratio": None, "local_agreement": None})
    assert {row["what"] for row in points("deep_theorem2", run)} == {
        "total condition",
        "local condition",
    }
    assert {row["what"] for row in points("deep_agreement", run)} == {"total condition"}


def test_sizes_of_weights_are_drawn_once_for_both_splits() -> None:
    sizes = {"effective_units": 8.0, "effective_rank": 3.0, "basins": 4.0}
    run = trained(sizes, {**sizes, "seed": 1, "effective_rank": 1.0})
    found = points("effective_sizes", run)
    assert {(row["what"], row["mean"]) for row in found} == {
        ("effective units", 8.0),
        ("effective rank", 2.0),
        ("basins", 4.0),
    }
    assert len(found) == 3 * 5
    assert min(row["low"] for row in found) < 0  # of Student's t: a logarithm has no place for it
    band = next(layer for layer in marks(drawn("effective_sizes", run)))
    lowered = "isValid(datum.low) ? max(datum.low, 1) : null"
    assert {"calculate": lowered, "as": "low"} in band["transform"]
    assert "sample" not in caption(drawn("effective_sizes", run))
    wide = trained({**sizes, "basins": None})  # beyond 8192 units
    assert {row["what"] for row in points("effective_sizes", wide)} == {
        "effective units",
        "effective rank",
    }


def test_norms_of_weights_are_drawn_once_for_both_splits() -> None:
    norms = {"log_weight_norm": -3.0, "log_spectral_norm": -4.0}
    run = trained(norms, {**norms, "seed": 1, "log_weight_norm": 5.0})
    assert "weight_norm" in available([run])
    assert "weight_norm" not in available([trained({"log_spectral_norm": 1.0})])
    found = points("weight_norm", run)
    assert {(row["what"], row["mean"]) for row in found} == {
        ("Frobenius norm", 1.0),
        ("spectral norm", -4.0),
    }
    assert len(found) == 2 * 5
    without = trained({"log_weight_norm": -3.0})
    assert {row["what"] for row in points("weight_norm", without)} == {"Frobenius norm"}


FIGURES = {
    "sparsity_flow": "sparsity",
    "theorem2_flow": "theorem2_ratio",
    "log_goodness_flow": "log_goodness",
    "effective_sizes": "effective_units",
    "weight_norm": "log_weight_norm",
    "deep_theorem2": "theorem2_total_ratio",
    "deep_agreement": "total_agreement",
    "used_units": "used_units",
}
ALL = {
    **DEEP,
    "log_goodness": 1.0,
    "log_weight_norm": 1.0,
    "effective_units": 2.0,
    "effective_rank": 2.0,
    "basins": 2.0,
    "used_units": 3,
}


def test_used_units_stand_beside_dead_ones_of_both_splits() -> None:
    counts = {"used_units": 40, "dead_units": 7}
    run = trained(counts, {**counts, "seed": 1, "used_units": 50})
    found = points("used_units", run)
    last = {(row["what"], row["split"]): row["mean"] for row in found if row["epoch"] == 4}
    assert last == {
        (what, split): mean
        for what, mean in (("used", 45), ("dead", 7))
        for split in ("positive", "negative")
    }
    assert "1 % of the largest" in caption(drawn("used_units", run))
    assert "used_units" not in available([trained({"dead_units": 7})])  # of other programs' runs


@pytest.mark.parametrize("name", FIGURES)
def test_one_epoch_and_one_seed_are_drawn(name: str) -> None:
    run = trained(ALL, epochs=1)
    assert render(name, [run], "svg").startswith(b"<svg")
    assert "One seed has no interval." in caption(drawn(name, run))


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_what_is_no_number_is_left_out(name: str, odd: float) -> None:
    rows = list(trained(ALL).result.curves)  # type: ignore[union-attr]
    rows[-1] = rows[-1].model_copy(update={FIGURES[name]: odd})
    found = points(name, PartialRun("", rows))  # a run that diverged keeps its rows
    assert all(math.isfinite(row["mean"]) for row in found)
    last = [row for row in found if row["epoch"] == 4 and row.get("split") == "negative"]
    assert len(last) < len([row for row in found if row["epoch"] == 3])


@pytest.mark.parametrize("name", FIGURES)
def test_a_run_without_rows_has_no_such_chart(name: str) -> None:
    assert name not in available([PartialRun("")])
    with pytest.raises(NothingToDraw):
        render(name, [PartialRun("")], "json")


def test_stored_rows_know_every_figure_that_any_row_has() -> None:
    texts = [
        epoch_row(0).model_dump_json(),
        epoch_row(1).model_copy(update=ALL).model_dump_json(),
    ]
    rows = StoredRows([0, 1], lambda ids: (texts[number] for number in ids))
    assert {"theorem2_total_ratio", "effective_rank", "zero_fraction"} <= rows.figures
    assert not {"gini", "tau"} & rows.figures
    assert rows.figures <= set(EpochRow.model_fields)
    assert {"deep_theorem2", "effective_sizes"} <= set(available([PartialRun("", rows)]))
