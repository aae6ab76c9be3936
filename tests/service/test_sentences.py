"""The sentences that open a report: the right figures, intervals and epochs, and no claim that the
intervals do not carry.
"""

from collections.abc import Sequence

import pytest

from ffengine.results import CheckResult, Onset
from ffengine.spec import CheckSpec, TrainSpec
from service.results.charts import Source
from service.results.course import course_of
from service.results.paper_comparison import comparison
from service.results.run_labels import RunKey
from service.results.sentences import sentences
from tests.service.courses import Point, training
from tests.service.samples import check_cell, provenance

UNIT = TrainSpec.model_validate({"network": {"widths": [256]}})
SOFTPLUS = TrainSpec.model_validate(
    {"network": {"widths": [256, 64]}, "objective": {"name": "softplus"}}
)
CENTER = TrainSpec.model_validate(
    {"dataset": {"preprocess": "center"}, "network": {"widths": [256]}}
)


def told(points: Sequence[Point], spec: TrainSpec = UNIT, **options: float) -> list[str]:
    result = training(points, **options)  # type: ignore[arg-type]
    data = result.provenance.dataset.model_copy(update={"preprocess": spec.dataset.preprocess})
    of_spec = result.provenance.model_copy(update={"dataset": data})
    return sentences([Source("", result.model_copy(update={"provenance": of_spec}), spec)])


BOTH = "both positive and negative samples"
MOST = f"theorem 2 holds for more than half of {BOTH}, as is attributed to the paper."
REPORTED = "; attributed to the paper: more than half."
RISES = "S rises from the beginning"
FALLS_THEN_RISES = [(0.7, 0.47), (0.06, 0.43), (0.5, 0.37), (0.65, 0.40), (0.69, 0.46)]


def test_a_fall_and_a_rise_are_told_with_figures_intervals_and_epochs() -> None:
    how, headline, fall, rise = told(FALLS_THEN_RISES)
    assert how == (
        "Data: mnist-mini; 3 seeds. S is the mean Hoyer sparsity (1: a single unit is active), G "
        "the goodness. A pair x / y is of positive / negative samples; [x, y] is a 95 % interval "
        "over seeds. Theorem 2 holds for a sample where a step that raises the goodness of "
        "positive samples and lowers that of negative ones raises its S, to first order. n is "
        "the number of units of a layer. A change of S is clear where its interval is above or "
        "below 0 for both splits."
    )
    assert headline == (
        "Training with pixels as they are, n = 256: S falls first, while theorem 2 holds for less "
        "than half of both positive and negative samples. Then S rises, and theorem 2 holds for "
        "more than half of both positive and negative samples, as is attributed to the paper."
    )
    assert fall == (
        "  From epoch 0 to 2 S falls from 0.470 / 0.450 to 0.370 / 0.350. On the way, theorem "
        "2 along the training step holds for the fewest samples at epoch 1: 6 % [4, 8] / 4 % "
        "[2, 6]."
    )
    assert rise == (
        "  From epoch 2 to 4 S rises from 0.370 / 0.350 to 0.460 / 0.440. At epoch 4, theorem "
        "2 along the training step holds for 69 % [67, 71] / 67 % [65, 69] of samples; the fewest "
        "on the way are 65 % / 63 %, at epoch 3."
    )


def headline(points: Sequence[Point], spec: TrainSpec = CENTER, **options: float) -> str:
    """What stands behind the colon of the second sentence."""
    return told(points, spec, **options)[1].partition(": ")[2]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0.48, 0.46), (0.8, 0.47), (0.7, 0.5)], f"{RISES}, and {MOST}"),
        (
            [(0.7, 0.47), (0.06, 0.43), (0.1, 0.40)],
            "S falls until the end, epoch 2. Whether it rises afterwards is not seen in this run.",
        ),
        (
            [(0.2, 0.4), (0.2, 0.41), (0.1, 0.42)],
            f"{RISES}, and theorem 2 holds for less than half of {BOTH}{REPORTED}",
        ),
        ([(0.7, 0.4), (0.7, 0.4), (0.7, 0.4)], "S does not change clearly."),
        (
            [(0.7, 0.5), (0.8, 0.6), (0.9, 0.7), (0.4, 0.55)],
            f"{RISES} until epoch 2, and falls afterwards, and {MOST}",
        ),
        ([(0.6, 0.4), (0.9, 0.39), (0.9, 0.5)], f"S falls first. Then S rises, and {MOST}"),
        (
            [(0.6, 0.4), (0.3, 0.41), (0.9, 0.5)],
            f"{RISES}, and {MOST.replace(',', ' at the end,')}",
        ),
        (
            [(0.6, 0.4), (0.51, 0.5)],
            f"{RISES}, and theorem 2 holds for about half of {BOTH} "
            f"(the interval includes one half){REPORTED}",
        ),
    ],
)
def test_a_headline_says_no_more_than_the_intervals_carry(
    points: Sequence[Point], expected: str
) -> None:
    assert headline(points) == expected


def test_splits_that_differ_are_named_each() -> None:
    result = training([(0.6, 0.4), (0.9, 0.5)])
    apart = [
        row.model_copy(update={"theorem2_ratio": 0.2 + row.seed / 100})
        if row.split == "negative"
        else row
        for row in result.curves
    ]
    found = sentences([Source("", result.model_copy(update={"curves": tuple(apart)}), UNIT)])[1]
    assert found.endswith(
        f"holds for more than half of positive samples and holds for less than half of negative "
        f"samples{REPORTED}"
    )


def test_changes_that_differ_from_seed_to_seed_and_single_seeds_have_no_verdict() -> None:
    result = training(FALLS_THEN_RISES)
    scattered = [
        row.model_copy(update={"sparsity": 0.4 + 0.1 * ((row.seed + row.epoch) % 3)})
        for row in result.curves
    ]
    assert sentences([Source("", result.model_copy(update={"curves": tuple(scattered)}), UNIT)])[
        1
    ].endswith("S does not change clearly.")
    assert headline(FALLS_THEN_RISES, seeds=1) == "one seed, so there is no verdict."


def test_ratios_that_rounding_decides_are_said_to_be_too_low() -> None:
    result = training(FALLS_THEN_RISES)
    unsure = [
        row.model_copy(update={"theorem2_undecided": 1_200}) if row.epoch == 4 else row
        for row in result.curves
    ]
    source = Source("", result.model_copy(update={"curves": tuple(unsure)}), UNIT)
    lines = sentences([source])
    assert lines[1].endswith(
        "theorem 2 is not decided at its end, epoch 4: too many margins are within rounding of "
        "zero."
    )
    assert lines[-1].endswith(
        "At epoch 4 rounding hides whether theorem 2 holds for up to 30 % of the samples of a "
        "seed: their margins are too close to zero. They count as not satisfied, so ratios there "
        "are too low."
    )
    verdicts = {line.quantity: line.verdict for line in comparison([source])}
    assert (
        verdicts["Theorem 2 along the training step, epoch 4, positive samples"]
        == "rounding: no verdict"
    )
    assert verdicts["Theorem 2 along the training step, epoch 0, positive samples"] == "met"


def test_of_another_setting_the_paper_is_not_cited() -> None:
    found = told(FALLS_THEN_RISES, SOFTPLUS)[1]
    assert found.startswith(
        "Training with pixels as they are, layer 0 of 2, n = 256, objective softplus: S falls first"
    )
    assert found.endswith(
        "theorem 2 holds for more than half of both positive and negative samples."
    )


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
        check_cell(width, split, seed=seed).model_copy(
            update={"theorem": 2, "theorem2_direction": "goodness_difference", "live": 4_000}
            | {"ratio": value + seed / 100, "method": method}
        )
        for width, value in ((64, 0.3), (512, 0.7))
        for split in ("positive", "negative")
        for method in ("exact", "infinite_width")
        for seed in range(3)
    )  # type: ignore[arg-type]
    cells = tuple(
        cell.model_copy(update={"ratio": 0.05}) if cell.method == "infinite_width" else cell
        for cell in cells
    )
    result = CheckResult(theorem=2, cells=cells, diagnostics=(), provenance=provenance((0, 1, 2)))
    assert sentences([Source("", result, CheckSpec())])[1] == (
        "Theorem 2 along the step on G(negative) - G(positive), at initialisation, n = 512, holds "
        "for 71 % [69, 73] / 71 % [69, 73] of samples. Attributed to the paper: more than half."
    )
    one = CheckResult(
        theorem=1, cells=(check_cell(split="negative"),), diagnostics=(), provenance=provenance()
    )
    assert sentences([Source("", one, CheckSpec(theorem=1))]) == [
        "Data: mnist-mini; 1 seed. S is the mean Hoyer sparsity (1: a single unit is active), G "
        "the goodness. A pair x / y is of positive / negative samples. Theorem 1 holds for a "
        "sample where a step that lowers the goodness of its batch raises its S, to first order. n "
        "is the number of units of a layer.",
        "Theorem 1 at initialisation, n = 64, holds for 75 % of samples. Attributed to the "
        "paper: more than 99.98 %.",
    ]


def test_runs_of_a_study_are_told_apart_and_not_all_told() -> None:
    result = training(FALLS_THEN_RISES)
    lines = sentences([Source(f"lr {number}", result, UNIT) for number in range(8)])
    assert lines[1].startswith("Training (lr 0) with pixels as they are, n = 256: S falls first")
    assert lines[-1] == (
        "These sentences are of the first 6 runs; the figures of 2 more are in the table."
    )
    said = RunKey.of("", {"dataset.preprocess": "unit"})
    assert sentences([Source(said.label, result, UNIT, run=said)])[1].startswith(
        "Training with pixels as they are, n = 256: "
    )


def test_data_that_are_no_images_have_inputs_and_a_small_change_is_seen() -> None:
    result = training([(0.7, 0.5), (0.8, 0.50002)], spread=0.00001)
    uploaded = result.provenance.dataset.model_copy(update={"name": "five"})
    found = result.model_copy(
        update={"provenance": result.provenance.model_copy(update={"dataset": uploaded})}
    )
    _, headline, rise = sentences([Source("", found, UNIT)])
    assert headline.startswith(
        "Training with inputs as they are, n = 256: S rises from the beginning"
    )
    assert rise.startswith(
        "  From epoch 0 to 1 S rises from 0.500000 / 0.480000 to 0.500020 / 0.480020."
    )


def test_nothing_measured_is_nothing_said() -> None:
    assert sentences([]) == []
    assert told([(0.5, 0.4)]) == []


def test_the_table_has_lines_of_the_fall_and_of_the_rise_where_s_turns() -> None:
    lines = comparison([Source("", training(FALLS_THEN_RISES), UNIT)])
    positive = {
        line.quantity: (round(line.measured, 4), line.verdict)
        for line in lines
        if "positive" in line.quantity
    }
    assert positive == {
        "Theorem 2 along the training step, epoch 0, positive samples": (0.7, "met"),
        "Theorem 2 along the training step, epoch 1 (lowest ratio while S falls), "
        "positive samples": (
            0.06,
            "chosen epoch: no verdict",
        ),
        "Theorem 2 along the training step, epoch 4, positive samples": (0.69, "met"),
        "Rise of S from epoch 0 to 4, positive samples": (-0.01, "NOT met"),
        "Rise of S from epoch 0 to 2 (lowest S), positive samples": (-0.1, ""),
        "Rise of S from epoch 2 (lowest S) to 4, positive samples": (
            0.09,
            "chosen epoch: no verdict",
        ),
    }
    rises = comparison([Source("", training([(0.48, 0.46), (0.8, 0.47), (0.7, 0.5)]), CENTER)])
    assert [line.quantity for line in rises if "negative" in line.quantity] == [
        "Theorem 2 along the training step, epoch 0, negative samples",
        "Theorem 2 along the training step, epoch 2, negative samples",
        "Rise of S from epoch 0 to 2, negative samples",
    ]


@pytest.mark.parametrize(
    ("tau_star", "expected"),
    [
        (
            2.7,
            {
                "Rise of S from epoch 0 to 4, positive samples": "before the turn: no verdict",
                "Rise of S from epoch 0 to 2 (lowest S), positive samples": "",
                "Rise of S from epoch 3 (nearest to the predicted turn) to 4, positive samples": (
                    "met"
                ),
            },
        ),
        (
            3.8,  # its upper end is behind the run's
            {
                "Rise of S from epoch 0 to 4, positive samples": "before the turn: no verdict",
                "Rise of S from epoch 0 to 2 (lowest S), positive samples": "",
                "Rise of S from epoch 2 (lowest S) to 4, positive samples": (
                    "chosen epoch: no verdict"
                ),
            },
        ),
    ],
)
def test_a_rise_is_judged_from_the_turn_that_was_predicted(
    tau_star: float, expected: dict[str, str]
) -> None:
    onset = Onset(tau_star=tau_star, tau_star_high=1.12 * tau_star)
    result = training(FALLS_THEN_RISES).model_copy(update={"onset": onset})
    assert {
        line.quantity: line.verdict
        for line in comparison([Source("", result, UNIT)])
        if "Rise" in line.quantity and "positive" in line.quantity
    } == expected


def test_a_run_that_only_falls_before_the_predicted_turn_does_not_contradict_the_paper() -> None:
    result = training([(0.7, 0.47), (0.06, 0.43), (0.1, 0.40)])
    onset = Onset(tau_star=2.5, tau_star_high=2.8)
    ended = result.model_copy(update={"onset": onset})
    lines = [line for line in comparison([Source("", ended, UNIT)]) if "Rise" in line.quantity]
    assert {line.verdict for line in lines} == {"before the turn: no verdict"}
    without = comparison([Source("", result, UNIT)])
    assert {line.verdict for line in without if "Rise" in line.quantity} == {"NOT met"}
