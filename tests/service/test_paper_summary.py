"""A study of the paper begins with sentences of few words: figure, interval, verdict."""

import pytest

import ffengine
from ffengine.presets import PRESETS
from ffengine.results import AccuracyRow, CheckResult, Onset, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.study import expand
from service.results.paper_summary import summary
from service.results.run_labels import run_keys
from service.results.sentences import sentences
from service.results.sources import Source
from tests.service.courses import training
from tests.service.samples import check_cell, provenance

FALLS_THEN_RISES = [(0.7, 0.47), (0.1, 0.43), (0.4, 0.37), (0.6, 0.40), (0.65, 0.46)]


def spec(**changes: object) -> TrainSpec:
    document = {
        "dataset": {"name": "mnist"},
        "network": {"widths": [256]},
        "optimizer": {"name": "sgd", "lr": 256 / 120},
        "epochs": 4,
        "seeds": [0, 1, 2],
    }
    return TrainSpec.model_validate(document | changes)


def check(theorem: int, ratio: float, seeds: int = 3) -> Source:
    cells = tuple(
        check_cell(256, split, seed=seed).model_copy(  # type: ignore[arg-type]
            update={"theorem": theorem, "ratio": ratio + seed / 1000, "live": 60_000}
            | {"samples": 60_000}
        )
        for split in (("positive", "negative") if theorem == 2 else ("negative",))
        for seed in range(seeds)
    )
    result = CheckResult(
        theorem=theorem,  # type: ignore[arg-type]
        cells=cells,
        diagnostics=(),
        provenance=provenance(tuple(range(seeds))),
    )
    return Source(f"theorem-{theorem}", result, CheckSpec(theorem=theorem))  # type: ignore[arg-type]


def with_accuracy(result: TrainResult, value: float) -> TrainResult:
    rows = tuple(
        AccuracyRow.model_validate(
            {"seed": seed, "layer": None, "layers": (0,), "epoch": 4, "partition": "test"}
            | {"samples": 1_000, "correct": round(1_000 * value), "accuracy": value}
        )
        for seed in range(3)
    )
    return result.model_copy(update={"accuracy": rows})


def expected(result: TrainResult) -> TrainResult:
    """The result, of data of which a turn is predicted."""
    return result.model_copy(update={"onset": Onset(tau_star=2.02)})


def study(seeds: int = 3) -> list[Source]:
    points = FALLS_THEN_RISES
    long = with_accuracy(training(points, seeds=seeds), 0.1)
    short = with_accuracy(training(points[:3], seeds=seeds), 0.24)
    return [
        check(1, 0.998, seeds),
        check(2, 0.7, seeds),
        Source("training", expected(long), spec(seeds=list(range(seeds)))),
        Source("short", short, spec(epochs=2, seeds=list(range(seeds)))),
    ]


def test_each_sentence_has_its_figure_its_interval_and_its_verdict() -> None:
    one, two, while_training, rise, signs, accuracy = summary(study())
    assert one.startswith("Theorem 1 at initialisation: holds for 99.90 % [99.65, 100] of ")
    assert one.endswith("(n = 256; the paper: more than 99.98 %): open.")
    assert two.startswith("Theorem 2 at initialisation: holds for 70 % [70, 70] / 70 % [70, 70]")
    assert " of 60,000 positive / negative samples " in two
    assert two.endswith("(n = 256; the paper: more than half): met.")
    # the ratio of positives is .4 at tau 2 and .6 at tau 3, that of negatives .02 less
    assert while_training == (
        "Theorem 2 while training, pixels as they are, n = 256: below one half while units are "
        "recruited (tau < 2.50 / 2.60; predicted 2.02 for both; lowest 10.0 % [7.5, 12] / 8.0 % "
        "[5.5, 10]), above one half for both afterwards: 65 % [63, 67] / 63 % [61, 65] at tau 4: "
        "met."
    )
    assert rise == (
        "S while training, pixels as they are, n = 256: falls from 0.470 / 0.450 and rises from "
        "0.370 / 0.350 at tau 2 to 0.460 / 0.440 at tau 4, by +0.090 [+0.090, +0.090] / +0.090 "
        "[+0.090, +0.090]: met."
    )
    assert signs.startswith("Predicted sign of the change of S, and its observed sign in the real")
    assert accuracy.startswith(
        "Objective difference, epoch 2 to 4: S rises from 0.370 to 0.460, the share of zeros "
    )
    assert accuracy.endswith(
        "test accuracy by goodness falls from 24 % [23, 26] to 10 % [9.0, 11]."
    )


def test_it_stands_before_all_other_sentences() -> None:
    found = sentences(study())
    assert found[: len(summary(study()))] == summary(study())
    assert found[len(summary(study()))].startswith("Data: ")


def test_one_seed_has_no_verdict() -> None:
    lines = summary(study(seeds=1))
    judged = [line for line in lines if line.startswith(("Theorem", "S while"))]
    assert len(judged) == 4
    assert all(line.endswith(": one seed: no verdict.") for line in judged)


def test_a_run_that_never_falls_is_told_from_its_first_epoch_on() -> None:
    centred = spec(dataset={"name": "mnist", "preprocess": "center"})
    result = training([(0.7, 0.46), (0.8, 0.48), (0.75, 0.5)])
    lines = summary([check(1, 0.999), check(2, 0.7), Source("", result, centred)])
    assert lines[2] == (
        "Theorem 2 while training, centred pixels, n = 256: holds for at least 75 % / 73 % of "
        "samples from the first epoch on; 75 % [73, 77] / 73 % [71, 75] at tau 2: met."
    )
    assert lines[3].startswith("S while training, centred pixels, n = 256: rises from 0.460 / ")


def test_another_setting_than_the_papers_is_not_judged() -> None:
    with_bias = spec(network={"widths": [256], "bias": True})
    result = training(FALLS_THEN_RISES)
    lines = summary([check(1, 0.999), check(2, 0.7), Source("", result, with_bias)])
    assert lines[2].endswith("not the paper's setting (network.bias True).")


def test_widths_are_compared_at_equal_flow_time_without_their_factor() -> None:
    def run(width: int, share: float) -> Source:
        factor = width**0.5 / (width**0.5 - 1)
        points = [(0.7, 0.4 * factor), (0.3, 0.3 * factor), (0.6, share * factor)]
        chosen = spec(network={"widths": [width]}, optimizer={"name": "sgd", "lr": width / 120})
        return Source(f"n {width}", training(points), chosen)

    found = summary([check(1, 0.999), check(2, 0.7), run(64, 0.35), run(1024, 0.36)])
    assert (
        "Widths 64, 1024: over tau, S without its width factor is one curve: 0.350, 0.360 of "
        "positives at tau 2; the curves are at most 0.010 apart."
    ) in found


def test_other_results_have_no_summary() -> None:
    assert summary([]) == []
    assert summary(study()[:2]) == []
    assert summary(study()[1:]) == []


def test_epochs_stand_where_flow_time_says_little() -> None:
    for other in (
        {"optimizer": {"name": "adam"}},
        {"dataset": {"name": "mine"}},
    ):
        changed = Source("", training(FALLS_THEN_RISES), spec(**other))
        lines = summary([check(1, 0.999), check(2, 0.7), changed])
        assert not any("tau" in line for line in lines)
        assert any("recruited (until epoch 2.5 / epoch 2.6; lowest" in line for line in lines)


@pytest.mark.slow
def test_the_papers_study_at_a_tiny_size_begins_with_it() -> None:
    sources = []
    cells = expand(PRESETS["paper"].spec)
    for key, cell in zip(run_keys(cells), cells, strict=True):
        small = {"dataset": cell.spec.dataset.model_copy(update={"name": "digits"})}
        if isinstance(cell.spec, CheckSpec):
            changes = small | {"widths": (8, 16), "seeds": (0, 1), "samples": 100}
            tiny = cell.spec.model_copy(
                update=changes | {"batch_size": cell.spec.batch_size and 50}
            )
            result = ffengine.check(tiny)
        else:
            tiny = cell.spec.model_copy(update=small | {"seeds": (0, 1), "batch_size": 100})
            result = ffengine.train(tiny)  # type: ignore[assignment, arg-type]
        sources.append(Source(key.label, result, tiny, run=key))
    lines = summary(sources)
    assert [line.split(":")[0].split(",")[0] for line in lines[:2]] == [
        "Theorem 1 at initialisation",
        "Theorem 2 at initialisation",
    ]
    assert any(line.startswith("Widths ") for line in lines)
    assert [line.split(",")[0] for line in lines[-2:]] == [
        "Objective difference",
        "Objective softplus",
    ]
