"""The sentences that open a report: the right figures, intervals and epochs, and no claim that the intervals do not carry."""

from collections.abc import Sequence

import pytest

from ffengine.results import CheckResult, EpochRow, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from service.results.charts import Source
from service.results.course import course_of
from service.results.paper_comparison import comparison
from service.results.sentences import sentences
from tests.service.samples import check_cell, epoch_row, provenance

UNIT = TrainSpec.model_validate({"network": {"widths": [256]}})
SOFTPLUS = TrainSpec.model_validate({"network": {"widths": [256, 64]}, "objective": {"name": "softplus"}})
CENTER = TrainSpec.model_validate({"dataset": {"preprocess": "center"}, "network": {"widths": [256]}})
Point = tuple[float, float]  # theorem 2's ratio, S


def training(points: Sequence[Point], *, seeds: int = 3, spread: float = 0.01, layer: int = 0) -> TrainResult:
    """Positives at the points, negatives .02 below; the seeds lie `spread` apart."""
    rows: list[EpochRow] = []
    for epoch, (ratio, sparsity) in enumerate(points):
        for seed in range(seeds):
            for split, less in (("positive", 0.0), ("negative", 0.02)):
                off = spread * (seed - (seeds - 1) / 2) - less
                row = epoch_row(epoch, split, seed=seed, layer=layer)  # type: ignore[arg-type]
                rows.append(row.model_copy(update={"samples": 4_000, "theorem2_ratio": ratio + off, "sparsity": sparsity + off}))
    return TrainResult(curves=tuple(rows), accuracy=(), diagnostics=(), provenance=provenance(tuple(range(seeds))))


def told(points: Sequence[Point], spec: TrainSpec = UNIT, **options: float) -> list[str]:
    result = training(points, **options)  # type: ignore[arg-type]
    data = result.provenance.dataset.model_copy(update={"preprocess": spec.dataset.preprocess})
    of_spec = result.provenance.model_copy(update={"dataset": data})
    return sentences([Source("", result.model_copy(update={"provenance": of_spec}), spec)])


FALLS_THEN_RISES = [(0.7, 0.47), (0.06, 0.43), (0.5, 0.37), (0.65, 0.40), (0.69, 0.46)]


def test_a_fall_and_a_rise_are_told_with_figures_intervals_and_epochs() -> None:
    how, headline, fall, rise = told(FALLS_THEN_RISES)
    assert how.startswith("Data: mnist-mini; 3 seeds. Two figures are of positive / negative samples. Brackets hold 95 % intervals")
    assert headline == (
        "Training with pixels as they are, n = 256: S falls first and theorem 2 with it. Then S rises, and theorem 2 holds for more than "
        "half of both splits, as the paper reports."
    )
    assert fall == (
        "  Until epoch 2 S falls from 0.470 / 0.450 to 0.370 / 0.350. Theorem 2 holds for 6.0 % [3.5, 8.5] / 4.0 % [1.5, 6.5] of samples "
        "at epoch 1."
    )
    assert rise == (
        "  From epoch 2 to 4 S rises from 0.370 / 0.350 to 0.460 / 0.440. Theorem 2 holds for 69 % [67, 71] / 67 % [65, 69] of samples at "
        "epoch 4, and for 65 % / 63 % at the least from epoch 3 on."
    )


def test_a_rise_from_the_beginning_is_told_without_a_fall() -> None:
    _, headline, rise = told([(0.48, 0.46), (0.8, 0.47), (0.7, 0.5)], CENTER)
    assert headline == (
        "Training with centred pixels, n = 256: S rises from the beginning, and theorem 2 holds for more than half of both splits, as the "
        "paper reports."
    )
    assert rise.endswith("at epoch 2, and for 70 % / 68 % at the least from epoch 1 on.")


def test_a_run_that_ends_while_s_falls_says_that_the_rest_is_not_seen() -> None:
    _, headline, fall = told([(0.7, 0.47), (0.06, 0.43), (0.1, 0.40)])
    assert headline.endswith("S falls until the end, epoch 2. Whether it rises afterwards is not seen in this run.")
    assert fall.startswith("  Until epoch 2 S falls")


@pytest.mark.parametrize(
    ("options", "claim"),
    [
        ({"spread": 0.01}, "theorem 2 holds for more than half of both splits, as the paper reports."),
        ({"spread": 0.2}, "theorem 2 does not differ clearly from one half for both splits; the paper reports more than half."),
        ({"seeds": 1}, "theorem 2 holds for 69 % / 67 % of samples at the end (one seed: no verdict)."),
    ],
)
def test_a_claim_needs_an_interval_beyond_one_half(options: dict[str, float], claim: str) -> None:
    headline = told([(0.7, 0.47), (0.1, 0.37), (0.6, 0.36), (0.69, 0.46)], **options)[1]
    assert headline.endswith(claim)


def test_less_than_half_is_said_to_be_less() -> None:
    headline = told([(0.2, 0.4), (0.2, 0.41), (0.1, 0.42)])[1]
    assert headline.endswith("holds for less than half of both splits; the paper reports more than half.")


def test_of_another_setting_the_paper_is_not_cited() -> None:
    headline = told(FALLS_THEN_RISES, SOFTPLUS)[1]
    assert headline.startswith("Training with pixels as they are, layer 0 of 2, n = 256, objective softplus: S falls first")
    assert headline.endswith("theorem 2 holds for more than half of both splits.")


def test_only_epochs_that_every_seed_has_and_only_the_first_layer_count() -> None:
    whole = training(FALLS_THEN_RISES)
    unfinished = [row for row in whole.curves if (row.seed, row.epoch) != (2, 4)]
    deeper = training([(0.1, 0.1)] * 5, layer=1).curves
    found, complete = course_of([*unfinished, *deeper]), course_of(whole.curves)
    assert found is not None
    assert [moment.epoch for moment in found.moments] == [0, 1, 2, 3]
    assert complete is not None
    assert complete.last.ratio[1].mean == pytest.approx(0.67)


def test_a_check_is_told_by_its_widest_layer_and_exact_condition() -> None:
    cells = tuple(
        check_cell(width, split, seed=seed).model_copy(update={"theorem": 2, "live": 4_000, "ratio": value + seed / 100, "method": method})
        for width, value in ((64, 0.3), (512, 0.7))
        for split in ("positive", "negative")
        for method in ("exact", "infinite_width")
        for seed in range(3)
    )  # type: ignore[arg-type]
    cells = tuple(cell.model_copy(update={"ratio": 0.05}) if cell.method == "infinite_width" else cell for cell in cells)
    result = CheckResult(theorem=2, cells=cells, diagnostics=(), provenance=provenance((0, 1, 2)))
    assert sentences([Source("", result, CheckSpec())])[1] == (
        "Theorem 2 at initialisation, n = 512, holds for 71 % [69, 73] / 71 % [69, 73] of samples. The paper reports more than half."
    )
    one = CheckResult(theorem=1, cells=(check_cell(split="negative"),), diagnostics=(), provenance=provenance())
    assert sentences([Source("", one, CheckSpec(theorem=1))]) == [
        "Data: mnist-mini; 1 seed. Two figures are of positive / negative samples. S is the mean Hoyer sparsity.",
        "Theorem 1 at initialisation, n = 64, holds for 75 % of samples. The paper reports more than 99.98 %.",
    ]


def test_runs_of_a_study_are_told_apart_and_not_all_told() -> None:
    result = training(FALLS_THEN_RISES)
    lines = sentences([Source(f"lr {number}", result, UNIT) for number in range(8)])
    assert lines[1].startswith("Training (lr 0) with pixels as they are, n = 256: S falls first")
    assert lines[-1] == "The figures of 2 more runs are in the table."
    assert sentences([Source("preprocess unit", result, UNIT)])[1].startswith("Training with pixels as they are, n = 256: ")


def test_nothing_measured_is_nothing_said() -> None:
    assert sentences([]) == []
    assert told([(0.5, 0.4)]) == []


def test_the_table_has_lines_of_the_fall_and_of_the_rise_where_s_turns() -> None:
    lines = comparison([Source("", training(FALLS_THEN_RISES), UNIT)])
    positive = {line.quantity: (round(line.measured, 4), line.verdict) for line in lines if "positive" in line.quantity}
    assert positive == {
        "Theorem 2 along the training step, epoch 0, positive samples": (0.7, "met"),
        "Theorem 2 along the training step, epoch 1 (S falls), positive samples": (0.06, "NOT met"),
        "Theorem 2 along the training step, epoch 4 (S rises), positive samples": (0.69, "met"),
        "Rise of S from epoch 0 to 2, positive samples": (-0.1, "NOT met"),
        "Rise of S from epoch 2 to 4, positive samples": (0.09, "met"),
    }
    rises = comparison([Source("", training([(0.48, 0.46), (0.8, 0.47), (0.7, 0.5)]), CENTER)])
    assert [line.quantity for line in rises if "negative" in line.quantity] == [
        "Theorem 2 along the training step, epoch 0, negative samples",
        "Theorem 2 along the training step, epoch 2, negative samples",
        "Rise of S from epoch 0 to 2, negative samples",
    ]
