"""Versions of specs: what each needs, how it is stored, and that nothing new is without one."""

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, TypeAdapter

from ffengine.datasets import DATASETS
from ffengine.objectives import Polar
from ffengine.presets import PRESETS
from ffengine.spec import (
    CheckSpec,
    ForecastSpec,
    RunSpec,
    StudySpec,
    TrainSpec,
    digest,
)
from ffengine.spec_versions import (
    ADDED,
    SPEC_VERSION,
    later_defaults,
    stored_document,
    version_needed,
    version_of,
)
from ffengine.study import expand

FIRST_WORDS = Path(__file__).parents[1] / "data" / "spec-words-0.2.0.txt"
RUN: TypeAdapter[TrainSpec | CheckSpec | ForecastSpec] = TypeAdapter(RunSpec)
# what a stored spec means by leaving a field out: for ever, or figures of stored jobs change
LEFT_OUT = {
    "Bce.collaboration": None,
    "Bce.negative_threshold": None,
    "CheckSpec.along": "goodness_difference",
    "CheckSpec.decomposition": False,
    "CheckSpec.goodness": {"name": "sum_squares"},
    "DatasetSpec.held_out_classes": [],
    "DatasetSpec.label_code": {"name": "one_hot"},
    "DatasetSpec.label_strength": None,
    "EvaluationSpec.layer_range": False,
    "EvaluationSpec.lesions": None,
    "EvaluationSpec.ood": None,
    "EvaluationSpec.selectivity": False,
    "EvaluationSpec.usage": False,
    "LinearThreshold.collaboration": None,
    "LinearThreshold.negative_threshold": None,
    "MonitorSpec.accuracy": False,
    "MonitorSpec.decomposition": [],
    "NetworkSpec.label_gains": [],
    "NetworkSpec.layers": [],
    "SoftplusLoss.collaboration": None,
    "SoftplusLoss.negative_threshold": None,
    "TopK.of": "squares",
    "TopK.share": None,
    "TrainSpec.phases": {
        "positive_steps": 0,
        "negative_steps": 0,
        "unit": "steps",
        "lr_ratio": 1.0,
        "own_states": False,
    },
    "TrainSpec.select": "last",
    "TrainSpec.stop": None,
}
WHAT_TO_DO = (
    "specs can say what older programs do not understand: name it in ADDED of "
    "ffengine/spec_versions.py, under the newest version, or, where that one was released, under a "
    "new one, and raise SPEC_VERSION with it"
)


def parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in () if typing.get_origin(annotation) is Literal else typing.get_args(annotation):
        yield from parts(inner)


def words(annotation: Any, seen: set[type[BaseModel]]) -> Iterator[str]:
    """All that specs can say: classes, their fields, and the values of choices."""
    for model in parts(annotation):
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or model in seen:
            continue
        seen.add(model)
        yield model.__name__
        for name, field in model.model_fields.items():
            yield f"{model.__name__}.{name}"
            for choice in parts(field.annotation):
                if typing.get_origin(choice) is Literal:
                    values = typing.get_args(choice)
                    yield from (f"{model.__name__}.{name}={value}" for value in values)
            yield from words(field.annotation, seen)


def all_words() -> set[str]:
    return {*words(RunSpec, set()), *(f"DatasetSpec.name={name}" for name in DATASETS)}


def is_named(word: str) -> bool:
    """Whether ADDED names a word, its class or its field."""
    field = word.partition("=")[0]
    return any(version_of(one) > 1 for one in (word, field, field.partition(".")[0]))


def test_whatever_came_after_the_first_version_has_a_version() -> None:
    first = set(FIRST_WORDS.read_text().splitlines())
    new = sorted(word for word in all_words() - first if not is_named(word))
    assert new == [], WHAT_TO_DO


def test_each_thing_that_came_later_is_there_and_came_with_one_version() -> None:
    named = [word for version in ADDED.values() for word in version]
    assert len(named) == len(set(named))
    assert set(named) <= all_words()
    assert max(ADDED) == SPEC_VERSION


@pytest.mark.parametrize(
    ("spec", "version"),
    [
        (TrainSpec(), 1),
        (CheckSpec(), 1),
        (ForecastSpec(), 2),
        (TrainSpec(select="best_validation", dataset={"validation_samples": 9}), 2),
        (TrainSpec(objective=Polar()), 2),
        (TrainSpec(network={"normalize": "layer"}), 2),
        (TrainSpec(monitor={"measures": ["weights"]}), 2),
        (TrainSpec(evaluation={"usage": True}), 2),
    ],
)
def test_a_spec_needs_the_version_of_the_newest_thing_that_it_uses(
    spec: TrainSpec, version: int
) -> None:
    assert version_needed(spec) == version


def test_what_is_stored_of_the_presets_is_the_same_spec() -> None:
    found = set()
    for preset in PRESETS.values():
        cells = expand(preset.spec) if isinstance(preset.spec, StudySpec) else ()
        for spec in [cell.spec for cell in cells]:
            document = stored_document(spec)
            again = RUN.validate_python(document)
            assert again == spec
            assert digest(again) == digest(spec)
            found.add(version_needed(spec))
    assert found == {1, 2}


def test_a_stored_spec_that_uses_nothing_new_says_nothing_new() -> None:
    document = stored_document(TrainSpec())
    assert {"select", "stop", "phases"}.isdisjoint(document)
    assert "label_code" not in document["dataset"]
    assert stored_document(TrainSpec(evaluation={"usage": True}))["evaluation"]["usage"] is True


def test_the_defaults_that_stored_specs_leave_out_are_known() -> None:
    found = later_defaults(TrainSpec)
    assert found["select",] == "last"
    assert found["dataset", "label_code", "name"] == "one_hot"
    assert found["monitor", "accuracy"] is False
    assert later_defaults(CheckSpec)["along",] == "goodness_difference"
    assert ("samples",) not in later_defaults(CheckSpec)


def test_no_field_that_stored_specs_leave_out_gets_another_default() -> None:
    models = set[type[BaseModel]]()
    list(words(RunSpec, models))
    classes = {model.__name__: model for model in models}
    found = {}
    for word in sorted(word for version in ADDED.values() for word in version if "." in word):
        name, _, field = word.partition(".")
        if "=" not in field and version_of(word) > version_of(name):
            default = classes[name].model_fields[field].get_default(call_default_factory=True)
            found[word] = TypeAdapter(Any).dump_python(default, mode="json")
    assert found == LEFT_OUT, "a new field is added here; what is here never changes"
