"""What a page opens with: for each kind of job its lines, with figure and verdict, and its two
charts.
"""

import pytest

from ffengine.findings import FINDINGS, Run
from ffengine.results import Diagnostic, Interval, StudyCell, TrainResult
from ffengine.spec import CheckSpec, TrainSpec, digest
from ffengine.study import expand
from ffengine.summary_keys import SummaryKey
from service.results.answers import KINDS, Answer, Opening, Statement, answer, chosen
from service.results.charts import available
from service.results.finding_runs import Answered
from service.results.sources import ChartSource, GridCell, PartialRun, Source, StudyGrid
from service.results.stored_rows import StoredRows
from tests.service.courses import training
from tests.service.paper_study import study
from tests.service.samples import check_cell, check_result, epoch_row, provenance

COURSE = [(0.7, 0.47), (0.1, 0.40), (0.4, 0.37), (0.6, 0.40), (0.65, 0.46)]


def opened(*drawn: ChartSource) -> Answer:
    return answer(drawn, available(drawn))


def test_a_study_of_the_paper_opens_with_both_theorems_and_the_course_of_training() -> None:
    found = opened(*study())
    assert found.statements == [
        Statement(
            "Theorem 1 at initialisation",
            "99.90 % [99.65, 100] of samples, n = 256; paper: > 99.98 %",
            "open",
        ),
        Statement(
            "Theorem 2 at initialisation",
            "70.1 % [69.9, 70.3] / 70.1 % [69.9, 70.3] of samples, n = 256; paper: > 50 %",
            "met",
            "met",
        ),
        Statement(
            "Theorem 2 after epoch 4, pixels as they are",
            "65 % [63, 67] / 63 % [61, 65] of samples; lowest 10 % / 8 % at epoch 1",
            "met",
            "met",
        ),
        Statement(
            "Sparsity S, pixels as they are",
            "0.470 / 0.450 → 0.370 / 0.350 (epoch 2) → 0.460 / 0.440, by +0.090 [+0.090, +0.090] "
            "/ +0.090 [+0.090, +0.090]",
            "met",
            "met",
        ),
    ]
    assert found.charts == ["sparsity", "theorem2"]
    assert found.legend == [
        "x / y: of positive / negative samples.",
        "[x, y]: 95 % interval over 3 seeds.",
        "met: the interval is above the paper's figure.",
        "open: it includes the paper's figure, which is not decided.",
    ]


def test_a_training_run_opens_with_its_course_its_act_and_its_accuracy() -> None:
    rows = [row.model_copy(update={"act": "selecting"}) for row in training(COURSE).curves]
    result = training(COURSE).model_copy(update={"curves": tuple(rows)})
    found = opened(Source("", result, TrainSpec(seeds=(0, 1, 2))))
    assert [(line.subject, line.found, line.verdict) for line in found.statements] == [
        (
            "Sparsity S",
            "0.470 / 0.450 → 0.370 / 0.350 (epoch 2) → 0.460 / 0.440 at epoch 4",
            "falls, then rises",
        ),
        (
            "Theorem 2 along the training step",
            "65 % [63, 67] / 63 % [61, 65] of samples at epoch 4",
            "more than half",
        ),
        (
            "Act",
            "selecting: S rises, because active units become unequal: loud ones outgrow quiet ones",
            "",
        ),
    ]
    assert found.charts == ["theorem2", "sparsity"]


def test_of_deep_networks_the_first_and_the_last_layer_are_told() -> None:
    curves = tuple(row for layer in range(3) for row in training(COURSE, layer=layer).curves)
    result = training(COURSE).model_copy(update={"curves": curves})
    subjects = [line.subject for line in opened(Source("", result, TrainSpec())).statements]
    assert subjects == [
        *("Sparsity S, layer 0", "Theorem 2 along the training step, layer 0"),
        *("Sparsity S, layer 2 (last)", "Theorem 2 along the training step, layer 2 (last)"),
    ]


def test_a_run_without_a_result_is_read_at_its_ends_alone() -> None:
    spec = TrainSpec(epochs=500, seeds=(0,))
    read: list[int] = []

    def texts(ids):  # type: ignore[no-untyped-def]
        read.extend(ids)
        for number in ids:
            epoch, split = divmod(number, 2)
            row = epoch_row(epoch, ("positive", "negative")[split], ratio=0.3)  # type: ignore[arg-type]
            yield row.model_copy(update={"sparsity": 0.4 + epoch / 1_000}).model_dump_json()

    rows = StoredRows(range(401), texts)  # the last epoch has one of its splits
    opening = next(found for kind in KINDS if (found := kind([PartialRun("", rows, spec=spec)])))
    assert opening.statements[0] == Statement(
        "Sparsity S", "0.400 / 0.400 → 0.599 / 0.599 at epoch 199", "one seed: no verdict"
    )
    assert len(read) == 12


def grid(values: list[float | None], lr: str = "optimizer.lr") -> StudyGrid:
    key = str(SummaryKey("accuracy", layer="all", partition="test"))
    cells = [
        GridCell(
            StudyCell(
                part="",
                params={lr: float(number)},
                kind="train",
                spec_digest="",
                state="succeeded" if value else "running",
                summary={key: Interval(mean=value, low=None, high=None, seeds=1)} if value else {},
            ),
            TrainSpec(),
        )
        for number, value in enumerate(values)
    ]
    return StudyGrid("", cells)


def test_a_grid_opens_with_its_best_and_its_worst_run() -> None:
    found = opened(grid([0.5, 0.75, None, 0.25]))
    assert found.statements == [
        Statement(
            "Test accuracy by goodness",
            "highest 75 % (lr 1), lowest 25 % (lr 3); 3 of 4 runs have it",
        )
    ]
    assert found.charts == ["grid_accuracy", "study_scatter"]
    assert not any(opened(grid([None, None])))


def test_a_grid_names_no_ratio_of_margins_that_are_undecided() -> None:
    key = str(SummaryKey("theorem2_ratio", layer=0, epoch=3, split="positive"))
    specs = [TrainSpec(seeds=(seed,)) for seed in range(3)]
    cells = [
        GridCell(
            StudyCell(
                part="",
                params={"seeds": [number]},
                kind="train",
                spec_digest=digest(spec),
                state="succeeded",
                summary={key: Interval(mean=ratio, low=None, high=None, seeds=1)},
            ),
            spec,
        )
        for number, (spec, ratio) in enumerate(zip(specs, (0.6, 0.0, 0.4), strict=True))
    ]
    unsure = Diagnostic(
        code="margins_undecided",
        severity="warning",
        message="",
        evidence={"undecided": 180, "live": 200},
        suggestion="",
    )
    result = training([(0.7, 0.47), (0.0, 0.40)]).model_copy(update={"diagnostics": (unsure,)})
    found = answer([StudyGrid("", cells), Source("", result, specs[1])], [])
    assert found.statements == [
        Statement(
            "Theorem 2, mean of both splits",
            "highest 60 % (seed 0), lowest 40 % (seed 2), after epoch 3; without seed 1, where "
            "most margins are undecided",
        )
    ]


def test_a_check_opens_with_its_widest_layer_and_the_limit() -> None:
    cells = [
        check_cell(width, seed=seed).model_copy(update={"ratio": ratio, "method": method})
        for seed in (0, 1)
        for width, ratio, method in ((8, 0.25, "exact"), (64, 0.75, "exact"))
    ]
    limit = [cell.model_copy(update={"method": "infinite_width", "ratio": 1.0}) for cell in cells]
    result = check_result((0, 1)).model_copy(update={"cells": (*cells, *limit)})
    first, second = opened(Source("", result, CheckSpec(theorem=1))).statements
    assert first.subject == "Theorem 1 at initialisation"
    assert first.found.startswith("75 % [")
    assert "of samples, n = 64" in first.found
    assert second.subject == "Theorem 1 at infinite width"


def test_a_finding_says_what_its_runs_do_not_answer_and_why() -> None:
    finding = FINDINGS["acts"]
    cells = expand(finding.study)
    empty = TrainResult(curves=(), accuracy=(), diagnostics=(), provenance=provenance((0, 1)))
    runs = [Run(cell.part, cell.params, cell.spec, empty) for cell in cells]
    (said,) = Answered(finding, runs, ["objective.name softplus in place of difference"]).conclusion
    assert said == (
        "These runs do not answer the question: they are not those of the finding "
        "(objective.name softplus in place of difference)."
    )
    (said,) = Answered(finding, runs).conclusion
    assert "what the finding compares was not measured in them" in said
    assert Answered(finding, runs).plot is None


def test_each_place_has_the_first_chart_that_can_be_drawn_and_two_are_enough() -> None:
    assert chosen([("a", "b"), ("b", "c")], ["c", "b"]) == ["b", "c"]
    assert chosen([("a",)], ["z", "y", "x"]) == ["z", "y"]
    assert chosen([], []) == []


def test_another_kind_of_study_adds_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Opening((Statement("Best", "0.9"),), (("sparsity",),))
    monkeypatch.setattr("service.results.answers.KINDS", [lambda drawn: said, *KINDS])
    assert opened(*study()).statements == said.statements


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.5, 0.125, 0.125], "highest 50 % (lr 0), lowest 13 % (tied: lr 1; lr 2)"),
        ([0.1, 0.5, 0.1, 0.1], "highest 50 % (lr 1), lowest 10 % (tied: lr 0, and 2 more)"),
        ([0.25, 0.25, 0.25], "25 % (the same in all 3 runs)"),
        ([0.2, 0.04], "highest 20.0 % (lr 0), lowest 4.0 % (lr 1)"),
    ],
)
def test_ties_are_said_and_one_line_has_one_number_of_digits(
    values: list[float | None], said: str
) -> None:
    [line] = opened(grid(values)).statements
    assert line.found == said
