"""A study of the paper begins with sentences of few words: figure, interval, verdict."""

import pytest

import ffengine
from ffengine.presets import PRESETS
from ffengine.spec import CheckSpec
from ffengine.study import expand
from service.results.paper_summary import summary
from service.results.run_labels import run_keys
from service.results.sentences import sentences
from service.results.sources import Source
from tests.service.courses import training
from tests.service.paper_study import (
    FALLS_THEN_RISES,
    check,
    spec,
    study,
)


def test_each_sentence_has_its_figure_its_interval_and_its_verdict() -> None:
    one, two, while_training, rise, signs, accuracy = summary(study())
    assert one == (
        "Theorem 1 at initialisation: a step that lowers the goodness (sum of squared activations) "
        "of all samples raises the sparsity of 99.90 % [99.65, 100] of 60,000 samples, to first "
        "order (n = 256 units; [x, y]: 95 % interval over 3 seeds; attributed to the paper: "
        "more than 99.98 %): open."
    )
    assert two == (
        "Theorem 2 at initialisation: a step that raises the goodness of positive samples and "
        "lowers that of negative ones raises the sparsity of 70.1 % [69.9, 70.3] / 70.1 % "
        "[69.9, 70.3] of 60,000 positive / negative samples (with the right / a wrong "
        "label), to first order (n = 256; attributed to the paper: more than half): met."
    )
    # the ratio of positives is .4 at tau 2 and .6 at tau 3, that of negatives .02 less; of each
    # seed by .01 more or less
    assert while_training == (
        "Theorem 2 while training (pixels as they are, n = 256): it holds for less than half "
        "(lowest: 10 % / 8 % at tau = 1) while units switch on, until tau = 2.50 [2.38, 2.62] / "
        "2.60 [2.48, 2.72] (tau: step size times number of steps); then it holds for more than "
        "half; at the end, tau = 4, for 65 % [63, 67] / 63 % [61, 65]: met."
    )
    assert rise == (
        "Sparsity S (1: a single unit is active) while training (pixels as they are, n = 256): "
        "it falls from 0.470 / 0.450 and rises from 0.370 / 0.350 at tau = 2, nearest to 2.02, "
        "where it is predicted from the data to be lowest, to 0.460 / 0.440 at tau = 4, by "
        "+0.090 [+0.090, +0.090] / +0.090 [+0.090, +0.090]: met."
    )
    # all 5 x 3 x 2 rows of 4 000 samples agree: Wilson's interval, which Student's is narrower than
    assert signs == (
        "Signs: the predicted sign of a sample's change of S is the observed one in a real step "
        "for 100 % [99.997, 100] of samples, over all epochs of the runs above."
    )
    assert accuracy == (
        "Accuracy (objective: goodness of negatives less that of positives): from epoch 2 to 4, S "
        "rises from 0.370 to 0.460, the share of silent units falls from 25 % to 25 %, and test "
        "accuracy by goodness falls from 24 % [23, 26] to 10 % [9, 11]."
    )


def test_what_it_says_is_true_of_other_goodness_and_negatives() -> None:
    sources = study()
    one, two = (
        source._replace(
            spec=CheckSpec.model_validate(
                {"theorem": number, "negatives": {"strategy": "noise"}, "goodness": "l2"}
                | ({"goodness": {"name": "mean_squares"}})
            )
        )
        for number, source in zip((1, 2), sources, strict=False)
    )
    lines = summary([one, two, *sources[2:]])
    assert "lowers the goodness (mean_squares) of all samples" in lines[0]
    assert "positive / negative samples (noise)" in lines[1]


def test_a_rise_since_an_epoch_that_was_chosen_for_its_s_has_no_verdict() -> None:
    sources = study()
    unknown = sources[2]._replace(result=training(FALLS_THEN_RISES))
    rise = summary([*sources[:2], unknown])[3]
    assert rise.endswith(": chosen epoch: no verdict.")
    assert "rises from 0.370 / 0.350 at tau = 2 to 0.460" in rise


def test_it_stands_before_all_other_sentences() -> None:
    found = sentences(study())
    assert found[: len(summary(study()))] == summary(study())
    assert [line[:6] for line in found[len(summary(study())) :]] == ["Data: "]


def test_one_seed_has_no_verdict() -> None:
    lines = summary(study(seeds=1))
    judged = [line for line in lines if line.startswith(("Theorem", "Sparsity S"))]
    assert len(judged) == 4
    assert all(line.endswith(": one seed: no verdict.") for line in judged)


def test_a_run_that_never_falls_is_told_from_its_first_epoch_on() -> None:
    centred = spec(dataset={"name": "mnist", "preprocess": "center"})
    result = training([(0.7, 0.46), (0.8, 0.48), (0.75, 0.5)])
    lines = summary([check(1, 0.999), check(2, 0.7), Source("", result, centred)])
    assert lines[2] == (
        "Theorem 2 while training (centred pixels, n = 256): it holds for at least 75 % / 73 % of "
        "samples at every epoch from the first on; at the end, tau = 2, for 75 % [73, 77] / "
        "73 % [71, 75]: met."
    )
    assert " while training (centred pixels, n = 256): it rises from 0.460 / " in lines[3]


def test_seeds_that_do_not_all_turn_have_the_turn_of_their_mean_without_an_interval() -> None:
    result = training(FALLS_THEN_RISES, spread=0.3)  # the ratio of seed 0 ends at .35
    lines = summary([check(1, 0.999), check(2, 0.7), Source("", result, spec())])
    assert "while units switch on, until tau = 2.50 / 2.60 (tau: " in lines[2]


def test_a_run_that_ends_below_one_half_is_told_by_its_lowest_share() -> None:
    result = training([(0.7, 0.47), (0.1, 0.43), (0.3, 0.40)])
    lines = summary([check(1, 0.999), check(2, 0.7), Source("", result, spec(epochs=2))])
    assert (
        ": it holds for 10 % / 8 % of samples at its lowest, tau = 1; at the end, tau = 2"
        in lines[2]
    )


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
        "Widths: layers of n = 64, 1,024 follow one curve over tau: S without its width factor is "
        "0.350 [0.328, 0.372], 0.360 [0.336, 0.384] for positive samples at tau = 2; the means "
        "differ by at most 0.010 at any tau."
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
        assert any("units switch on, until epoch 2.50 [2.38, 2.62] / " in line for line in lines)


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
    assert any(line.startswith("Widths: ") for line in lines)
    assert [line.split(" (")[0] for line in lines[-2:]] == ["Accuracy", "Accuracy"]
