"""Which epoch's weights a run keeps, and where it stops, against a run that does neither."""

import math
from typing import Any

import pytest
import torch

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.diagnostics import of_training
from ffengine.early_stopping import Standing, standing_of
from ffengine.interrupts import Control, Interrupted
from ffengine.negatives import Hybrid
from ffengine.results import Diagnostic, EpochAccuracyRow, SelectedRow, TrainResult
from ffengine.spec import TrainSpec, digest
from ffengine.study import summarise
from ffengine.training import BatchReport, EpochReport
from tests.engine.specs import spec_of
from tests.service.samples import epoch_row

FIELDS: dict[str, Any] = {
    "dataset": {"train_samples": 120, "validation_samples": 60, "test_samples": 40},
    "network": {"widths": [16], "normalize": "l2"},
    "objective": {"name": "softplus", "threshold": 1.0},
    "optimizer": {"name": "adam", "lr": 0.01},
    "epochs": 9,
    "batch_size": 40,
    "monitor": {"samples": 50},
    "seeds": [1, 2, 5],
}
STOP = {"patience": 2, "measure": "accuracy"}
BEST = "best_validation"
LAYERS = ["greedy", "simultaneous"]


def spec_with(**changes: object) -> TrainSpec:
    return TrainSpec.model_validate({**FIELDS, **changes})


class Run:
    """A result, the report of each epoch, and the weights that were evaluated."""

    def __init__(self, spec: TrainSpec) -> None:
        self.spec, self.reports = spec, list[EpochReport]()
        self.chosen: list[Checkpoint] = []
        self.told: list[tuple[SelectedRow, ...]] = []
        self.result = ffengine.train(
            spec,
            on_epoch=self.reports.append,  # type: ignore[arg-type]
            on_selected=self._keep,
        )
        assert self.told == [self.result.selected]

    def _keep(self, chosen: Checkpoint, told: tuple[SelectedRow, ...]) -> None:
        self.chosen.append(chosen)
        self.told.append(told)

    def weights_at(self, layer: int, epoch: int) -> torch.Tensor:
        for report in self.reports:
            if layer in report.layers and report.epoch == epoch:
                return report.checkpoint.weights[layer]
        raise AssertionError(f"layer {layer} was not at epoch {epoch}")


def validation(result: TrainResult, layers: tuple[int, ...], seed: int) -> list[EpochAccuracyRow]:
    return [
        row
        for row in result.accuracy_curves
        if (row.partition, row.layers, row.seed, row.method)
        == ("validation", layers, seed, "goodness")
    ]


def expected_stop(values: list[float], patience: int) -> tuple[int, int]:
    """Best and last epoch by a loop over prefixes."""
    for last in range(len(values)):
        best = values.index(max(values[: last + 1]))
        if last - best >= patience:
            return best, last
    return values.index(max(values)), len(values) - 1


# Standings


def row(epoch: int, value: float | None, **changes: object) -> EpochAccuracyRow:
    fields: dict[str, Any] = {
        "seed": 1,
        "layer": 0,
        "layers": (0,),
        "method": "goodness",
        "epoch": epoch,
        "partition": "validation",
        "samples": 60,
        "correct": 1,
        "accuracy": value,
        "auc": value,
        "loss": value,
    }
    return EpochAccuracyRow(**fields | changes)


@pytest.mark.parametrize(
    ("values", "measure", "patience", "expected"),
    [
        ([0.1, 0.3, 0.2, 0.3], "accuracy", 9, Standing(1, 0.3, 3, stopped=False)),
        ([0.1, 0.3, 0.2, 0.3], "accuracy", 2, Standing(1, 0.3, 3, stopped=True)),
        ([0.3, 0.1], "accuracy", 1, Standing(0, 0.3, 1, stopped=True)),
        ([0.3, 0.1, 0.2], "loss", 2, Standing(1, 0.1, 2, stopped=False)),
        ([0.3, 0.1, 0.1, 0.1], "loss", 2, Standing(1, 0.1, 3, stopped=True)),
        ([None, None, 0.2], "auc", 2, Standing(2, 0.2, 2, stopped=False)),
        ([None, None, None], "auc", 2, Standing(0, None, 2, stopped=True)),
        ([0.5], "auc", 1, Standing(0, 0.5, 0, stopped=False)),
    ],
)
def test_a_standing_is_read_from_the_rows(
    values: list[float | None], measure: str, patience: int, expected: Standing
) -> None:
    spec = spec_with(stop={"patience": patience, "measure": measure})
    rows = [
        one
        for epoch, value in enumerate(values)
        for one in (
            row(epoch, 0.9, partition="train"),
            row(epoch, 0.9, seed=2),
            row(epoch, 0.9, method="softmax"),
            row(epoch, value),
        )
    ]
    assert standing_of(spec, (0,), 1, rows) == expected


def test_patience_counts_measured_epochs() -> None:
    spec = spec_with(stop=STOP)
    rows = [row(0, 0.2), row(4, 0.5), row(8, 0.4), row(12, 0.5)]
    assert standing_of(spec, (0,), 1, rows) == Standing(4, 0.5, 12, stopped=True)


# Runs


@pytest.mark.slow
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("measure", ["accuracy", "auc", "loss"])
def test_the_weights_of_the_best_epoch_are_kept_for_each_seed(layers: str, measure: str) -> None:
    widths = {"widths": [16, 10], "normalize": "l2"}
    stop = {"patience": 9, "measure": measure}
    run = Run(spec_with(select=BEST, stop=stop, layers=layers, network=widths, epochs=5))
    assert len(run.chosen) == 1
    for stage in run.spec.stages:
        for at, seed in enumerate(run.spec.seeds):
            found = validation(run.result, stage, seed)
            values = [float(getattr(one, measure)) for one in found]
            best = values.index(min(values) if measure == "loss" else max(values))
            for layer in stage:
                kept = run.chosen[0].weights[layer][at]
                assert torch.equal(kept, run.weights_at(layer, best)[at])
                [chosen] = [
                    one for one in run.result.selected if (one.seed, one.layer) == (seed, layer)
                ]
                assert chosen == SelectedRow(
                    seed=seed,
                    layer=layer,
                    epoch=best,
                    last_epoch=5,
                    stopped=False,
                    measure=measure,  # type: ignore[arg-type]
                    best_epoch=best,
                    best=values[best],
                )
    if measure == "accuracy":
        assert len({one.epoch for one in run.result.selected}) > 1, "seeds are meant to differ"


@pytest.mark.slow
def test_the_evaluation_is_that_of_the_selected_weights() -> None:
    run = Run(spec_with(select=BEST))
    told = 0
    for accuracy in run.result.accuracy:
        if accuracy.partition != "validation":
            continue
        [chosen] = [one for one in run.result.selected if one.seed == accuracy.seed]
        curve = validation(run.result, (0,), accuracy.seed)
        assert accuracy.epoch == chosen.epoch
        assert accuracy.correct == curve[chosen.epoch].correct
        assert accuracy.accuracy == max(one.accuracy or 0.0 for one in curve)
        told += 1
    assert told == 2 * 3
    for measure in run.result.measures:
        if measure.partition == "validation":
            [chosen] = [one for one in run.result.selected if one.seed == measure.seed]
            auc = validation(run.result, (0,), measure.seed)[chosen.epoch].auc
            assert measure.auc == pytest.approx(auc, abs=1e-9)


@pytest.mark.slow
def test_layers_above_learn_from_the_selected_weights() -> None:
    network = {"widths": [16, 10], "normalize": "l2"}
    run = Run(spec_with(select=BEST, network=network, epochs=4, negatives={"redraw": "once"}))
    [first] = [one for one in run.reports if one.layers == (1,) and one.epoch == 0]
    for at, seed in enumerate(run.spec.seeds):
        [chosen] = [one for one in run.result.selected if (one.seed, one.layer) == (seed, 0)]
        below = run.weights_at(0, chosen.epoch)[at]
        assert torch.equal(first.checkpoint.weights[0][at], below)


@pytest.mark.slow
def test_a_report_has_the_weights_of_its_epoch() -> None:
    plain, chosen = list[EpochReport](), Run(spec_with(select=BEST))
    ffengine.train(spec_with(), on_epoch=plain.append)  # type: ignore[arg-type]
    for one, other in zip(plain, chosen.reports, strict=True):
        assert torch.equal(one.checkpoint.weights[0], other.checkpoint.weights[0])
        assert one.rows == other.rows


@pytest.mark.slow
def test_a_seed_stops_by_itself_and_the_stage_ends_with_the_last_one() -> None:
    stop = {"patience": 9, "measure": "accuracy"}  # stops nothing
    whole = Run(spec_with(stop=stop))
    run = Run(spec_with(stop=STOP))
    ends = set()
    for at, seed in enumerate(run.spec.seeds):
        values = [float(one.accuracy or 0) for one in validation(whole.result, (0,), seed)]
        best, last = expected_stop(values, 2)
        [chosen] = [one for one in run.result.selected if one.seed == seed]
        assert (chosen.epoch, chosen.last_epoch, chosen.best_epoch) == (last, last, best)
        assert chosen.stopped == (last - best >= 2)
        own = [one for one in whole.result.curves if one.seed == seed and one.epoch <= last]
        assert [one for one in run.result.curves if one.seed == seed] == own
        told = [one for one in run.result.accuracy_curves if one.seed == seed]
        assert {one.epoch for one in told} == {*range(last + 1)}
        assert torch.equal(run.chosen[0].weights[0][at], whole.weights_at(0, last)[at])
        assert {one.epoch for one in run.result.accuracy if one.seed == seed} == {last}
        ends.add(last)
    assert len(ends) > 1, "the seeds are meant to differ"
    assert run.reports[-1].epoch == max(ends) < 9
    assert run.reports[-1].fraction == 1


@pytest.mark.slow
@pytest.mark.parametrize("select", [pytest.param("last", marks=pytest.mark.slow), BEST])
@pytest.mark.parametrize("layers", LAYERS)
def test_seeds_together_keep_what_each_keeps_alone(layers: str, select: str) -> None:
    network = {"widths": [16, 10], "normalize": "l2"}
    spec = spec_with(stop=STOP, select=select, layers=layers, network=network, epochs=5)
    together = Run(spec)
    for at, seed in enumerate(spec.seeds):
        alone = Run(spec.model_copy(update={"seeds": (seed,)}))
        own = [one for one in together.result.selected if one.seed == seed]
        assert own == list(alone.result.selected)
        for found, other in zip(together.chosen[0].weights, alone.chosen[0].weights, strict=True):
            assert torch.allclose(found[at], other[0], rtol=1e-4, atol=1e-5)
        curves = [one for one in together.result.curves if one.seed == seed]
        assert [(one.layer, one.epoch, one.split) for one in curves] == [
            (one.layer, one.epoch, one.split) for one in alone.result.curves
        ]
        accuracy = [one for one in together.result.accuracy if one.seed == seed]
        assert accuracy == list(alone.result.accuracy)


@pytest.mark.slow
@pytest.mark.parametrize("select", [pytest.param("last", marks=pytest.mark.slow), BEST])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_an_interrupted_run_ends_with_the_same_bits(optimizer: str, select: str) -> None:
    """Also at the end of a stage, and where weights and optimiser are files of their own."""
    spec = spec_with(
        stop=STOP,
        select=select,
        network={"widths": [16, 10], "normalize": "l2"},
        optimizer={"name": optimizer, "lr": 0.01},
        epochs=4,
    )
    whole, resume, stops = ffengine.train(spec).model_dump(exclude={"provenance"}), None, 0
    while True:
        left = [2]

        def stop_soon(_report: EpochReport | BatchReport, left: list[int] = left) -> Control:
            left[0] -= 1
            return "stop" if left[0] == 0 else "run"

        try:
            found = ffengine.train(spec, on_epoch=stop_soon, on_batch=stop_soon, resume=resume)
            break
        except Interrupted as stopped:
            resume, stops = in_two_files(stopped.checkpoint), stops + 1
    assert stops > 5
    assert found.model_dump(exclude={"provenance"}) == whole


def in_two_files(checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint as a worker saves it and reads it again."""
    if checkpoint is None:
        return None
    states = Checkpoint.from_bytes(checkpoint.without_weights.to_bytes())
    return Checkpoint.from_bytes(checkpoint.without_states.to_bytes()).with_states_of(states)


def test_a_seed_that_stopped_cannot_end_the_run_of_another() -> None:
    """Whatever a stopped seed's further steps would make of its weights, they are put back."""
    spec = spec_with(stop=STOP, epochs=9)
    run = Run(spec)
    ends = {one.seed: one.last_epoch for one in run.result.selected}
    first = min(ends, key=ends.__getitem__)
    at = spec.seeds.index(first)
    at_end = run.weights_at(0, ends[first])[at]
    for report in run.reports:
        if report.epoch > ends[first]:
            assert torch.equal(report.checkpoint.weights[0][at], at_end)


@pytest.mark.slow
def test_a_stopped_seed_is_not_decomposed() -> None:
    spec = spec_with(
        stop=STOP,
        objective={"name": "difference"},
        optimizer={"lr": 0.5},
        monitor={"samples": 50, "decomposition": [*range(10)]},
    )
    result = ffengine.train(spec)
    ends = {one.seed: one.last_epoch for one in result.selected}
    for seed, last in ends.items():
        assert {one.epoch for one in result.decomposition if one.seed == seed} == {*range(last + 1)}


# What is said of it


def test_the_message_of_an_epoch_has_the_accuracy_of_the_seeds_that_learn() -> None:
    run = Run(spec_with(stop=STOP))
    for report in run.reports:
        told = [
            one.accuracy or 0.0
            for one in run.result.accuracy_curves
            if (one.epoch, one.partition) == (report.epoch, "validation")
        ]
        mean = 100 * sum(told) / len(told)
        start = f"layer 0: epoch {report.epoch} of 9, validation accuracy "
        assert report.message.startswith(start)
        assert float(report.message.removeprefix(start).removesuffix(" %")) == pytest.approx(
            mean, abs=0.051
        )


def test_a_summary_has_each_seed_at_its_own_last_epoch_and_best_accuracies() -> None:
    result = ffengine.train(spec_with(stop=STOP, select=BEST))
    found = summarise(result)
    ends = {one.seed: one.last_epoch for one in result.selected}
    last = max(ends.values())
    own = [
        one.sparsity
        for one in result.curves
        if one.split == "positive" and one.epoch == ends[one.seed]
    ]
    assert len(own) == 3
    sparsity = found[f"sparsity[layer=0 epoch={last} split=positive]"]
    assert (sparsity.seeds, sparsity.mean) == (3, pytest.approx(sum(own) / 3))  # type: ignore[arg-type]
    assert {key for key in found if key.startswith("sparsity[")} == {
        f"sparsity[layer=0 epoch={epoch} split={split}]"
        for epoch in (0, last)
        for split in ("positive", "negative")
    }
    best = [max(one.accuracy or 0 for one in validation(result, (0,), seed)) for seed in (1, 2, 5)]
    told = found["best_accuracy[layer=0 partition=validation]"]
    assert (told.seeds, told.mean) == (3, pytest.approx(sum(best) / 3))
    epochs = [one.epoch for one in result.selected]
    for figure in ("best_epoch[layer=0 partition=validation]", "selected_epoch[layer=0]"):
        assert found[figure].mean == pytest.approx(sum(epochs) / 3)


def finding_of(values: dict[int, list[float]], **changes: object) -> Diagnostic | None:
    """What is found where seeds have these accuracies by epoch."""
    rows = [
        row(epoch, value, seed=seed, samples=100)
        for seed, curve in values.items()
        for epoch, value in enumerate(curve)
    ]
    spec = spec_with(seeds=[*values], **changes)
    curves = [epoch_row(0, "positive"), epoch_row(0, "negative")]
    found = of_training(spec, curves, accuracy_curves=rows)
    return next((one for one in found if one.code == "accuracy_fell"), None)


def test_an_accuracy_that_fell_is_found_where_chance_does_not_explain_it() -> None:
    found = finding_of({1: [0.1, 0.6, 0.5], 2: [0.1, 0.8, 0.5]})
    assert found is not None
    assert found.evidence == {
        "layers": [0],
        "epoch": 1,
        "best": pytest.approx(0.7),
        "last_epoch": 2,
        "last": pytest.approx(0.5),
        "standard_error": pytest.approx(math.sqrt(0.7 * 0.3 / 100)),
    }
    assert "70.0 % at epoch 1 and is 50.0 % at the end, epoch 2" in found.message
    assert "select: best_validation" in found.suggestion
    assert finding_of({1: [0.1, 0.5, 0.46]}) is None  # by less than 0.05
    assert finding_of({1: [0.1, 0.5, 0.44]}) is not None
    assert finding_of({1: [0.1, 0.6, 0.3]}, select=BEST) is None
    # a seed that stopped sooner counts with its own last epoch
    uneven = finding_of({1: [0.1, 0.9], 2: [0.1, 0.9, 0.1]})
    assert uneven is not None
    assert uneven.evidence["last"] == pytest.approx(0.5)


# What is refused


@pytest.mark.parametrize(
    ("changes", "path"), [({"select": BEST}, "select"), ({"stop": STOP}, "stop")]
)
def test_choosing_needs_validation_samples(changes: dict[str, Any], path: str) -> None:
    dataset = {"train_samples": 120, "test_samples": 40}
    with pytest.raises(ValueError, match=f"{path}: .*set dataset.validation_samples"):
        spec_with(dataset=dataset, **changes)


def test_samples_without_labels_are_compared_by_another_measure() -> None:
    assert not Hybrid().labelled
    negatives = {"strategy": "hybrid"}
    with pytest.raises(ValueError, match=r"select: samples of hybrid carry no label.*auc or loss"):
        spec_with(negatives=negatives, select=BEST)
    with pytest.raises(ValueError, match=r"stop.measure: samples of hybrid carry no label"):
        spec_with(negatives=negatives, stop=STOP)
    stop = {"patience": 3, "measure": "auc"}
    result = ffengine.train(spec_with(negatives=negatives, select=BEST, stop=stop, epochs=3))
    for one in result.selected:
        curve = [row.auc for row in validation(result, (0,), one.seed)]
        assert one.best == max(value for value in curve if value is not None)
        assert curve[one.epoch] == one.best


def test_a_run_that_does_not_choose_is_as_before() -> None:
    assert digest(spec_of()) == digest(spec_of(select="last", stop=None))
    assert digest(spec_with(stop=STOP)) != digest(spec_with())
    assert ffengine.train(spec_of()).selected == ()
