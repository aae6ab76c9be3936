"""Classes that are held out, and other data: what is learnt from, and what tells them apart."""

import itertools
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ffengine import DatasetError, train
from ffengine.arrays import Arrays
from ffengine.availability import NotAvailable, check_available
from ffengine.cost import cost_of
from ffengine.datasets import DATASETS, Datasets
from ffengine.ensembles import class_ensembles, ensemble_sizes
from ffengine.evaluation import activations_of, scores_of
from ffengine.other_data import told_apart
from ffengine.partitions import chosen
from ffengine.samples import load_samples
from ffengine.selectivity import class_selectivity
from ffengine.sparsity import hoyer_sparsity
from ffengine.spec import DatasetSpec, TrainSpec, digest
from ffengine.training import Stopwatch, TrainingRun
from ffengine.unit_usage import unit_usage

CPU = torch.device("cpu")
DATA = DatasetSpec(
    name="digits", train_samples=90, validation_samples=20, test_samples=60, held_out_classes=(3, 8)
)
BASE: dict[str, Any] = {
    "dataset": {**DATA.model_dump(), "labels": "append"},
    "network": {"widths": [16, 12], "normalize": "l2"},
    "objective": {"name": "softplus", "goodness": "mean_squares", "threshold": 1.0},
    "epochs": 1,
    "batch_size": 30,
    "seeds": [0, 1],
    "evaluation": {
        "ensembles": True,
        "usage": True,
        "selectivity": True,
        "ood": {"dataset": "digits", "samples": 40},
    },
}
CASES = {
    "labels": {},
    "classes": {"objective": {"name": "mono_forward"}, "dataset": DATA.model_dump()},
    "no labels": {"negatives": {"strategy": "hybrid"}, "dataset": DATA.model_dump()},
}


def trained(changes: dict[str, Any]) -> tuple[TrainSpec, TrainingRun, Any]:
    spec = TrainSpec.model_validate(BASE | changes)
    run = TrainingRun(spec, CPU, Stopwatch(), None)
    run.run(lambda _: "run", lambda _: "run")
    return spec, run, run.evaluate(lambda _: "run")


def test_nothing_is_learnt_of_classes_that_are_held_out() -> None:
    found = load_samples(DATA, CPU)
    assert (len(found.train), found.validation and len(found.validation)) == (90, 20)
    assert found.held_out is not None
    for samples in (found.train, found.validation, found.test):
        assert samples is not None
        assert not {3, 8} & set(samples.labels.tolist())
    assert set(found.held_out.labels.tolist()) == {3, 8}
    assert len(found.held_out) + len(found.test) == 60
    arrays = Datasets.of_environment().loaded("digits").arrays
    kept = [one for one in arrays.y_train.tolist() if one not in (3, 8)]
    assert found.train.labels.tolist() == kept[:90]
    assert found.validation is not None
    assert found.validation.labels.tolist() == kept[90:110]
    facts = DATASETS["digits"]
    whole = DatasetSpec(name="digits", held_out_classes=(3, 8))
    assert whole.train_count(facts) == len(load_samples(whole, CPU).train) == len(kept)


def test_of_an_upload_classes_are_held_out_before_others_are_drawn() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 20)
    arrays = Arrays(
        generator.random((80, 1, 4, 4)), labels, generator.random((8, 1, 4, 4)), labels[::10]
    )
    learnt, held, tested = chosen(arrays, (30, 9, 8), "f" * 64, (1,))
    assert np.bincount(labels[learnt], minlength=4).tolist() == [10, 0, 10, 10]
    assert np.bincount(labels[held], minlength=4).tolist() == [3, 0, 3, 3]
    assert not set(learnt) & set(held)
    assert len(tested) == 8


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ((10,), "has the classes 0 to 9, not 10"),
        (tuple(range(9)), "at least two"),
        ((1, 1), "once"),
    ],
)
def test_classes_that_cannot_be_held_out_are_refused(classes: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainSpec.model_validate({"dataset": {"name": "digits", "held_out_classes": classes}})


def test_test_samples_must_have_classes_of_both_kinds() -> None:
    arrays = Datasets.of_environment().loaded("digits").arrays
    own = int(arrays.y_test[0])
    for classes, words in (((own,), "all are"), (((own + 1) % 10,), "none is")):
        spec = DatasetSpec(name="digits", test_samples=1, held_out_classes=classes)
        with pytest.raises(DatasetError, match=words):
            load_samples(spec, CPU)


def test_digests_of_earlier_specs_stay() -> None:
    plain = {"dataset": {"name": "digits", "held_out_classes": []}, "evaluation": {"ood": None}}
    assert digest(TrainSpec.model_validate(plain)) == digest(TrainSpec(dataset={"name": "digits"}))
    for changes in (
        {"dataset": {"name": "digits", "held_out_classes": [1]}},
        {"dataset": {"name": "digits"}, "evaluation": {"ood": {"dataset": "digits"}}},
    ):
        assert digest(TrainSpec.model_validate(changes)) != digest(TrainSpec.model_validate(plain))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_units_are_measured_on_classes_that_were_held_out(case: str) -> None:
    spec, run, found = trained(CASES[case])
    unseen = run.partitions.held_out
    assert unseen is not None
    labelled = spec.negatives.labelled

    def inputs(samples: Any) -> torch.Tensor:
        return samples.neutral if labelled else samples.plain

    together = torch.cat([inputs(unseen), inputs(run.partitions.test)])
    labels = torch.cat([unseen.labels, run.partitions.test.labels])
    for kind in ("ensembles", "usage", "selectivity"):
        rows = [row for row in getattr(found, kind) if row.partition == "held_out"]
        assert [(row.seed, row.layer) for row in rows] == list(itertools.product((0, 1), (0, 1)))
        for row in rows:
            layers = list(activations_of(run.network.replica(row.seed), together))
            h = layers[row.layer]
            if kind == "ensembles":
                sizes = ensemble_sizes(class_ensembles(h, labels, 10)).tolist()
                assert list(row.sizes) == sizes
                assert row.class_samples[3] > 0
                assert row.samples == 60
            elif kind == "usage":
                assert row.samples == len(unseen)
                assert row.used_units == unit_usage(h[: len(unseen)]).used_units
            else:
                assert row.inputs == ("neutral" if labelled else "plain")
                assert row.preferred == class_selectivity(h, labels, 10).preferred


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_other_data_are_scored_under_the_predicted_label(case: str) -> None:
    spec, run, found = trained(CASES[case])
    other = run.partitions.other
    assert other is not None
    assert len(found.ood) == 2 * 5
    scores = {
        name: scores_of(run.network, spec, one)
        for name, one in (("own", run.partitions.test), ("other", other))
    }
    for row in found.ood:
        place = -1 if row.layer is None else row.layer
        table = [getattr(scores[name], row.figure)[row.seed, place] for name in ("own", "other")]
        if row.figure == "sparsity":
            dead = [scores[name].dead[row.seed, place] for name in ("own", "other")]
            table = [values[~none] for values, none in zip(table, dead, strict=True)]
        pairs = [(a > b) + (a == b) / 2 for a in table[0].tolist() for b in table[1].tolist()]
        assert row.auroc == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
        assert row.other_samples <= 40
    # one sample by hand: each label in turn, the one with the most goodness, and S under it
    network = run.network.replica(0)
    sample = other.some(torch.tensor([5]))
    if case == "labels":
        options = [
            sample.relabelled(sample.labelled, sample.labels, torch.tensor([label]))
            for label in range(10)
        ]
        layers = [list(activations_of(network, x)) for x in options]
        goodness = [[float(h.double().square().mean()) for h in one] for one in layers]
        best = max(range(10), key=lambda label: sum(goodness[label]))
        assert scores["other"].goodness[0, :, 5].tolist() == pytest.approx(
            [*goodness[best], sum(goodness[best])], rel=1e-5
        )
        chosen = layers[best]
    else:
        chosen = list(activations_of(network, spec.negatives.positive(sample.plain)))
    for layer, h in enumerate(chosen):
        sparsity = float(scores["other"].sparsity[0, layer, 5])
        assert sparsity == pytest.approx(float(hoyer_sparsity(h)[0]), rel=1e-5)


def test_samples_told_apart_by_hand() -> None:
    own, other = torch.tensor([3.0, 2.0, 2.0, 1.0]), torch.tensor([2.0, 0.0, 0.0])
    found = told_apart(own, other)
    assert found.auroc == pytest.approx((3 + 2.5 + 2.5 + 2) / 12)
    assert found.fpr95 == pytest.approx(1 / 3)  # 95 % of four samples are all: they reach 1
    v, u = np.array([3, 2.5, 2.5, 2]) / 3, np.array([1 + 1, 4, 4]) / 4
    half = 1.959964 * np.sqrt(v.var(ddof=1) / 4 + u.var(ddof=1) / 3)
    assert found.auroc_low == pytest.approx(found.auroc - half, abs=1e-6)
    assert found.auroc_high == 1.0
    many = torch.arange(100.0)
    assert told_apart(many, torch.tensor([4.0, 5.0, 200.0])).fpr95 == pytest.approx(2 / 3)
    assert told_apart(many, many).auroc == 0.5
    assert told_apart(many[:0], many) == (None, None, None, None)
    assert told_apart(many[:1], many).auroc_low is None


def test_the_interval_over_samples_holds_the_area_that_normal_samples_have() -> None:
    generator = torch.Generator().manual_seed(3)
    area, held = NormalDist().cdf(0.5), 0
    for _ in range(400):
        own = torch.randn(60, generator=generator) + 1 / 2**0.5
        found = told_apart(own, torch.randn(80, generator=generator))
        assert found.auroc_low is not None
        assert found.auroc_high is not None
        held += found.auroc_low <= area <= found.auroc_high
    assert 0.91 < held / 400 < 0.985


def test_other_data_of_another_shape_or_too_few_are_refused() -> None:
    def refused(**other: Any) -> NotAvailable:
        spec = TrainSpec.model_validate({"evaluation": {"ood": other}})
        with pytest.raises(NotAvailable) as error:
            check_available(spec, Datasets.of_environment())
        return error.value

    shape = refused(dataset="digits")
    assert shape.path == ("evaluation", "ood", "dataset")
    assert "1 x 8 x 8" in shape.message
    assert "mnist" in shape.message
    assert refused(dataset="mnist-mini", samples=10**6).path == ("evaluation", "ood", "samples")
    with pytest.raises(ValidationError, match="expected one of"):
        TrainSpec.model_validate({"evaluation": {"ood": {"dataset": "mine"}}})


def test_cost_counts_both() -> None:
    facts = DATASETS["digits"]
    whole = {**BASE["dataset"], "held_out_classes": []}

    def flops(dataset: dict[str, Any], **evaluation: Any) -> float:
        spec = BASE | {"dataset": dataset, "evaluation": evaluation}
        return cost_of(TrainSpec.model_validate(spec), facts).flops

    assert flops(whole, ood={"dataset": "digits"}) > flops(whole)
    assert flops(BASE["dataset"], usage=True) > flops(whole, usage=True) > flops(whole)


@pytest.mark.slow
def test_a_result_has_the_rows_of_both() -> None:
    result = train(TrainSpec.model_validate(BASE))
    assert {row.partition for row in result.usage} == {"validation", "test", "held_out"}
    assert {row.figure for row in result.ood} == {"goodness", "sparsity"}
    assert len({row.samples for row in result.ood if row.figure == "goodness"}) == 1
