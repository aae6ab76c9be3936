"""Specs: contract defaults, canonical digests, and refusals that name the field."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from ffengine.spec import CheckSpec, StudySpec, Submission, TrainSpec, digest


def test_defaults_are_the_contracts() -> None:
    assert json.loads(TrainSpec().model_dump_json()) == {
        "kind": "train",
        "dataset": {"name": "mnist-mini", "preprocess": "unit", "train_samples": None, "test_samples": None},
        "network": {"widths": [500], "activation": "relu", "bias": False, "init": "gaussian", "normalize": "none"},
        "negatives": {"strategy": "wrong_label"},
        "objective": {"name": "difference", "goodness": "sum_squares"},
        "optimizer": {"name": "sgd", "lr": 1.0, "scale_lr_by_width": True},
        "layers": "greedy",
        "epochs": 10,
        "batch_size": 500,
        "seeds": [0],
        "monitor": {"samples": 2000, "every_epochs": 1, "theorems": [1, 2]},
    }
    check = json.loads(CheckSpec().model_dump_json())
    assert check.pop("step") == 1e-3
    assert check == {
        "kind": "check",
        "theorem": 2,
        "at": "initialization",
        "widths": [64, 256, 512],
        "dataset": {"name": "mnist-mini", "preprocess": "unit", "train_samples": None, "test_samples": None},
        "activation": "relu",
        "negatives": {"strategy": "wrong_label"},
        "samples": 2000,
        "batch_size": 500,
        "methods": ["exact", "infinite_width"],
        "seeds": [0, 1, 2],
    }
    assert StudySpec().base == TrainSpec(epochs=5)


def test_a_digest_is_the_same_for_every_spelling_of_a_request() -> None:
    one = Submission.model_validate_json('{"spec": {"kind": "train", "optimizer": {"lr": 2}, "epochs": 3}}').spec
    other = Submission.model_validate_json(
        '{"spec": {"epochs": 3, "optimizer": {"lr": 2.0, "name": "sgd"}, "kind": "train", "seeds": [0]}}'
    ).spec
    assert digest(one) == digest(other)
    assert digest(one) != digest(TrainSpec(epochs=3))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "train", "epoch": 3}, "Extra inputs"),
        ({"kind": "train", "network": {"widths": [1]}}, "greater than or equal to 2"),
        ({"kind": "train", "network": {"widths": []}}, "at least 1"),
        ({"kind": "train", "network": {"widths": [10**9]}}, "less than or equal to 65536"),
        ({"kind": "train", "seeds": [1, 1]}, "each value once"),
        ({"kind": "train", "optimizer": {"lr": "inf"}}, "finite|less than"),
        ({"kind": "train", "dataset": {"train_samples": 6001}}, "mnist-mini has 6000"),
        ({"kind": "train", "negatives": {"strategy": "nois"}}, "'wrong_label', 'hybrid', 'noise'"),
        ({"kind": "check", "samples": 6001}, "the data set gives 6000"),
        ({"kind": "check", "activation": "tanh"}, "infinite_width is known for relu, not for tanh"),
        ({"kind": "check", "at": {"job": "../../etc", "epoch": 0}}, "pattern"),
        ({"kind": "nothing"}, "'train', 'check', 'study'"),
    ],
)
def test_refusals_say_what_and_where(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Submission.model_validate({"spec": spec})


def test_the_vocabulary_imports_without_torch() -> None:
    code = "import sys, ffengine, ffengine.spec, ffengine.study, ffengine.cost, ffengine.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
