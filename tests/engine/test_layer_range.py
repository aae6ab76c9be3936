"""Which layers predict: chosen on validation samples, tested once."""

from typing import Any

import pytest
import torch

import ffengine
from ffengine import layer_range
from ffengine.checkpoint import Checkpoint
from ffengine.class_updates import class_logits
from ffengine.conv_network import network_of
from ffengine.datasets import DATASETS
from ffengine.layer_range import ranges_of
from ffengine.samples import load_samples
from ffengine.spec import TrainSpec, digest
from ffengine.training import EpochReport
from tests.engine.interrupted import stopped_every

SPEC: dict[str, Any] = {
    "dataset": {
        "name": "digits",
        "train_samples": 100,
        "validation_samples": 40,
        "test_samples": 30,
    },
    "network": {
        "layers": [
            {"kind": "conv", "channels": 20, "kernel": 3},
            {"kind": "conv", "channels": 10, "kernel": 3},
            {"kind": "dense", "units": 20},
        ],
        "init": "torch",
        "normalize": "layer",
    },
    "objective": {"name": "class_block"},
    "optimizer": {"name": "adam", "lr": 0.02},
    "layers": "simultaneous",
    "epochs": 2,
    "batch_size": 25,
    "seeds": [0, 4],
    "monitor": {"samples": 10, "every_epochs": 2},
    "evaluation": {"layer_range": True},
}
CPU = torch.device("cpu")


def spec_of(**changes: Any) -> TrainSpec:
    return TrainSpec.model_validate({**SPEC, **changes})


def test_ranges_are_all_of_them_the_cheapest_first() -> None:
    assert [way.layers for way in ranges_of(3)] == [(0,), (1,), (0, 1), (2,), (1, 2), (0, 1, 2)]


def test_the_range_is_that_of_loops_over_samples_and_ranges() -> None:
    spec, kept = spec_of(), list[Checkpoint]()

    def keep_it(report: EpochReport) -> Any:
        kept.append(report.checkpoint)
        return "run"

    found = ffengine.train(spec, on_epoch=keep_it)
    partitions, last = load_samples(spec.dataset, CPU), kept[-1]
    plans = spec.plans(DATASETS["digits"])
    network = network_of(spec.network, plans, last.weights, last.exponents, ())
    assert partitions.validation is not None
    right = {}
    for name, samples in (("validation", partitions.validation), ("test", partitions.test)):
        x = samples.plain.expand(2, -1, -1)
        logits = class_logits(network, spec.over_classes, x, 10).double()
        for replica, seed in enumerate(spec.seeds):
            for first in range(3):
                for end in range(first, 3):
                    right[name, seed, first, end] = sum(
                        int(logits[replica, first : end + 1, sample].sum(0).argmax()) == int(label)
                        for sample, label in enumerate(samples.labels)
                    )
    assert [(row.seed, row.partition) for row in found.layer_range] == [
        (seed, name) for seed in (0, 4) for name in ("validation", "test")
    ]
    for row in found.layer_range:
        of_seed = {
            key[2:]: count for key, count in right.items() if key[:2] == ("validation", row.seed)
        }
        best = max(of_seed.values())
        equal = [(end, end - first) for (first, end), count in of_seed.items() if count == best]
        assert (row.last, row.last - row.first) == min(equal)
        assert row.correct == right[row.partition, row.seed, row.first, row.last]
        assert (
            row.samples == row.counted("accuracy") == {"validation": 40, "test": 30}[row.partition]
        )
        assert row.accuracy == row.correct / row.samples
        assert (row.candidates, row.epoch) == (6, 2)


def test_the_test_samples_have_no_part_in_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[tuple[int, int]] = []
    hits = layer_range._hits

    def counted(network: Any, spec: Any, samples: Any, ranges: Any) -> Any:
        looked.append((len(samples), len(ranges)))
        return hits(network, spec, samples, ranges)

    monkeypatch.setattr(layer_range, "_hits", counted)
    ffengine.train(spec_of(seeds=[0]))
    assert looked == [(40, 6), (30, 1)]


def test_objectives_of_pairs_choose_layers_too_and_runs_resume() -> None:
    pairs: dict[str, Any] = {
        "network": {"widths": [20, 15]},
        "objective": {"name": "softplus", "threshold": None},
        "layers": "greedy",
    }
    spec = TrainSpec.model_validate({**SPEC, **pairs})
    whole = ffengine.train(spec)
    assert len(whole.layer_range) == 4
    accuracies = {
        (row.seed, row.layers, row.partition): row.correct
        for row in whole.accuracy
        if row.method == "goodness"
    }
    for row in whole.layer_range:
        layers = tuple(range(row.first, row.last + 1))
        assert row.correct == accuracies[row.seed, layers, row.partition]
        if row.partition == "validation":
            assert row.correct == max(
                count
                for (seed, _, name), count in accuracies.items()
                if (seed, name) == (row.seed, "validation")
            )
    resumed, stops = stopped_every(spec, 3)
    assert stops >= 1
    assert resumed.layer_range == whole.layer_range


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": {"name": "digits"}}, "needs dataset.validation_samples"),
        (
            {
                "network": {"widths": [20]},
                "objective": {"name": "difference"},
                "negatives": {"strategy": "hybrid"},
            },
            "carry no labels",
        ),
    ],
)
def test_a_range_without_what_chooses_it_is_refused(changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec_of(**changes)


def test_a_spec_without_a_range_keeps_its_digest() -> None:
    assert digest(TrainSpec()) == digest(
        TrainSpec.model_validate({"evaluation": {"layer_range": False}})
    )
    assert digest(spec_of()) != digest(spec_of(evaluation={}))
