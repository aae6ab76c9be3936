"""Specs: contract defaults, canonical digests, and refusals that name the field."""

import json
import subprocess
import sys

import pytest
from pydantic import ValidationError

from ffengine.entry import entries
from ffengine.negatives import AnyNegatives, Noise, NoNegatives
from ffengine.objectives import AnyObjective, GoodnessEntry, SoftplusLoss
from ffengine.optimizers import Adam, AnyOptimizer
from ffengine.presets import PRESETS
from ffengine.spec import (
    CheckSpec,
    StudyPart,
    StudySpec,
    Submission,
    TrainedWeights,
    TrainSpec,
    as_document,
    digest,
)


def within(part: object, whole: object) -> bool:
    """Whether every field of `part` is in `whole` with the same value."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and within(value, whole[key]) for key, value in part.items())
    return part == whole


SPECS = [
    *(TrainSpec(negatives=entry()) for entry in entries(AnyNegatives) if entry is not NoNegatives),
    *(TrainSpec(objective=entry()) for entry in entries(AnyObjective)),
    *(TrainSpec(objective=SoftplusLoss(goodness=entry())) for entry in entries(GoodnessEntry)),
    *(TrainSpec(optimizer=entry()) for entry in entries(AnyOptimizer)),
    TrainSpec(),
    CheckSpec(negatives=Noise(scale=0.25), at=TrainedWeights(job="job_" + "0" * 32, epoch=3)),
    StudySpec(base=CheckSpec(negatives=Noise()), grid={"theorem": [1, 2]}),
    StudySpec(preset="paper", base=TrainSpec(negatives=Noise())),
    StudySpec(parts={"one": StudyPart(base=TrainSpec(optimizer=Adam()))}),
    *(preset.spec for preset in PRESETS.values()),
]


@pytest.mark.parametrize("spec", SPECS)
def test_every_way_of_writing_a_spec_reads_back_as_the_same(
    spec: TrainSpec | CheckSpec | StudySpec,
) -> None:
    for document in (
        spec.model_dump(mode="json", exclude_unset=True),
        as_document(spec),
        spec.model_dump(mode="json"),
    ):
        assert Submission.model_validate({"spec": document}).spec == spec
    assert len(as_document(TrainSpec(epochs=3))) == 2


def test_defaults_are_the_contracts() -> None:
    assert within(
        {
            "kind": "train",
            "dataset": {
                "name": "mnist-mini",
                "preprocess": "unit",
                "train_samples": None,
                "test_samples": None,
            },
            "network": {
                "widths": [500],
                "activation": "relu",
                "bias": False,
                "init": "gaussian",
                "normalize": "none",
            },
            "negatives": {"strategy": "wrong_label"},
            "objective": {"name": "difference", "goodness": "sum_squares"},
            "optimizer": {"name": "sgd", "lr": 1.0, "scale_lr_by_width": True},
            "layers": "greedy",
            "epochs": 10,
            "batch_size": 500,
            "seeds": [0],
            "monitor": {"samples": 2000, "every_epochs": 1, "theorems": [1, 2]},
        },
        json.loads(TrainSpec().model_dump_json()),
    )
    assert within(
        {
            "kind": "check",
            "theorem": 2,
            "at": "initialization",
            "widths": [64, 256, 512],
            "dataset": {
                "name": "mnist-mini",
                "preprocess": "unit",
                "train_samples": None,
                "test_samples": None,
            },
            "activation": "relu",
            "negatives": {"strategy": "wrong_label"},
            "samples": 2000,
            "batch_size": 500,
            "methods": ["exact", "infinite_width"],
            "seeds": [0, 1, 2],
            "step": 1e-3,
        },
        json.loads(CheckSpec().model_dump_json()),
    )
    assert StudySpec().base == TrainSpec(epochs=5)


@pytest.mark.parametrize("field", ["negatives", "objective", "optimizer"])
def test_an_object_that_does_not_say_which_entry_means_the_default(field: str) -> None:
    assert TrainSpec.model_validate({field: {}}) == TrainSpec()


def test_goodness_is_a_name_or_an_object_with_parameters() -> None:
    by_name, as_object = (
        TrainSpec.model_validate({"objective": {"goodness": value}})
        for value in ("top_k", {"name": "top_k", "k": 10})
    )
    assert by_name == as_object
    assert digest(by_name) == digest(as_object)
    other = TrainSpec.model_validate({"objective": {"goodness": {"name": "top_k", "k": 3}}})
    assert TrainSpec.model_validate_json(other.model_dump_json()) == other
    assert (
        json.loads(TrainSpec.model_validate({"objective": {"goodness": "l2"}}).model_dump_json())[
            "objective"
        ]["goodness"]
        == "l2"
    )


# the first digits of digests that results of fflab 0.2.0 are known by
DIGESTS: list[tuple[dict[str, object], str]] = [
    ({"kind": "train"}, "ac20a6f20c495cc4"),
    ({"kind": "check"}, "c1e55259244928ad"),
    ({"kind": "train", "negatives": {"strategy": "hardest_label"}}, "586ab4852feda2fb"),
    ({"kind": "train", "negatives": {"strategy": "sampled_label"}}, "1f44f7a3115fbf45"),
    ({"kind": "train", "negatives": {"strategy": "hybrid"}}, "af9866613b61c773"),
    ({"kind": "train", "negatives": {"strategy": "other_image"}}, "03dcd26adaf76504"),
    ({"kind": "train", "negatives": {"strategy": "mix"}}, "886765877e246ce3"),
    ({"kind": "train", "negatives": {"strategy": "noise"}}, "a4ca42a5017fdbee"),
    ({"kind": "train", "negatives": {"strategy": "shuffle_pixels"}}, "867a6cce4482d765"),
    ({"kind": "train", "negatives": {"strategy": "masked"}}, "64b7d8d4950daed0"),
    ({"kind": "train", "negatives": {"strategy": "adversarial"}}, "9bdaa2847e26a2f8"),
    ({"kind": "train", "negatives": {"strategy": "self_contrastive"}}, "1c42490dea6b3d21"),
    ({"kind": "train", "objective": {"name": "softplus"}}, "fe804c40ee632588"),
    ({"kind": "train", "objective": {"goodness": "top_k"}}, "fdf82c467c7abe4d"),
    ({"kind": "train", "objective": {"goodness": {"name": "top_k", "k": 3}}}, "14b95c0cd6205303"),
    ({"kind": "train", "objective": {"name": "bce"}}, "1c5f327bc0bde9a0"),
    ({"kind": "train", "objective": {"name": "symba"}}, "e59b17f871e36505"),
    ({"kind": "train", "objective": {"name": "swish"}}, "2b6d3fedc85a103e"),
    ({"kind": "train", "objective": {"name": "linear_threshold"}}, "e5b6156da18f87ee"),
    (
        {"kind": "train", "objective": {"goodness": {"name": "power_sum", "q": 2.5}}},
        "35fe75347716fae4",
    ),
    ({"kind": "check", "goodness": "top_k"}, "a1f6bd1832582bca"),
    ({"kind": "train", "optimizer": {"name": "momentum"}}, "0e57ab495f3981b3"),
    ({"kind": "train", "optimizer": {"name": "nesterov"}}, "e1603910b46c88d2"),
    ({"kind": "train", "optimizer": {"name": "adam"}}, "ae34441d2f0d8a81"),
    ({"kind": "train", "optimizer": {"name": "adamw"}}, "9c5775f76b8c62cd"),
    ({"kind": "check", "negatives": {"strategy": "hybrid"}, "theorem": 1}, "499d9e4fd3e874a4"),
    (
        {"kind": "check", "at": {"job": "job_00000000000000000000000000000000", "epoch": 1}},
        "920ac4aca4650651",
    ),
    (
        {
            "kind": "train",
            "network": {"activation": "gelu"},
            "monitor": {"samples": 5},
            "evaluation": {"linear_classifier": True},
        },
        "7c97418b7d73da2e",
    ),
]


@pytest.mark.parametrize(("spec", "known_by"), DIGESTS, ids=lambda value: str(value)[:60])
def test_a_field_that_came_later_changes_no_digest(spec: dict[str, object], known_by: str) -> None:
    submitted = Submission.model_validate({"spec": spec}).spec
    assert digest(submitted).startswith(known_by)


def test_a_digest_is_the_same_for_every_spelling_of_a_request() -> None:
    one = Submission.model_validate_json(
        '{"spec": {"kind": "train", "optimizer": {"lr": 2}, "epochs": 3}}'
    ).spec
    other = Submission.model_validate_json(
        '{"spec": {"epochs": 3, "optimizer": {"lr": 2.0, "name": "sgd"}, "kind": "train", '
        '"seeds": [0]}}'
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
        ({"kind": "train", "optimizer": {"lr": float("inf")}}, "finite|less than"),
        ({"kind": "train", "optimizer": {"lr": "inf"}}, "valid number"),
        ({"kind": "train", "dataset": {"train_samples": 6001}}, "mnist-mini has 6000"),
        (
            {"kind": "train", "negatives": {"strategy": "nois"}},
            "'wrong_label', 'hardest_label', 'sampled_label', 'hybrid'",
        ),
        (
            {"kind": "train", "objective": {"goodness": "l3"}},
            "does not match any of the expected tags",
        ),
        (
            {"kind": "train", "negatives": {"strategy": "hardest_label", "redraw": "once"}},
            "negatives.redraw: hardest_label asks the network",
        ),
        (
            {"kind": "train", "dataset": {"validation_samples": 5999}},
            "leaves no samples to train on",
        ),
        (
            {"kind": "train", "dataset": {"train_samples": 6000, "validation_samples": 1}},
            "mnist-mini has 6000",
        ),
        (
            {
                "kind": "train",
                "evaluation": {"linear_classifier": True, "linear_penalties": [0.1, 1]},
            },
            "choosing among several needs dataset.validation_samples",
        ),
        ({"kind": "check", "samples": 6001}, "the data set gives 6000"),
        ({"kind": "check", "at": {"job": "../../etc", "epoch": 0}}, "pattern"),
        ({"kind": "nothing"}, "'train', 'check', 'forecast', 'study'"),
    ],
)
def test_refusals_say_what_and_where(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Submission.model_validate({"spec": spec})


@pytest.mark.slow
def test_the_vocabulary_imports_without_torch() -> None:
    code = (
        "import sys, ffengine, ffengine.spec, ffengine.study, ffengine.cost, "
        "ffengine.results; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
