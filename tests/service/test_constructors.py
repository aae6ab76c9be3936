"""Specs that a script constructs speak of its mistakes as the command line does."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

import fflab
from ffengine.spec import NetworkSpec, Submission
from fflab import CheckSpec, ForecastSpec, StudySpec, TrainSpec
from service.specs.files import SpecError, read_spec

SPECS: dict[str, Callable[..., Any]] = {
    "train": TrainSpec,
    "check": CheckSpec,
    "forecast": ForecastSpec,
    "study": StudySpec,
}


@pytest.mark.parametrize(
    ("kind", "fields", "settings"),
    [
        ("train", {"network": {"widths": 64}}, ["network.widths=64"]),
        ("train", {"epoch": 3}, ["epoch=3"]),
        ("train", {"objective": {"name": "sofplus"}}, ["objective.name=sofplus"]),
        ("train", {"optimizer": "sgd"}, ["optimizer=sgd"]),
        ("train", {"epochs": 0, "seeds": [1.5]}, ["epochs=0", "seeds=[1.5]"]),
        ("train", {"widths": [64]}, ["widths=[64]"]),
        ("check", {"theorem": 3}, ["theorem=3"]),
        ("forecast", {"units": "many"}, ["units=many"]),
        ("study", {"base": {"kind": "train", "epochs": "x"}}, ["base.kind=train", "base.epochs=x"]),
        ("study", {"grid": {"epochs": 3}}, ["grid.epochs=3"]),
    ],
)
def test_a_mistake_is_said_in_the_same_words(
    kind: str, fields: dict[str, Any], settings: list[str], tmp_path: Any
) -> None:
    with pytest.raises(ValidationError) as wrong:
        SPECS[kind](**fields)
    file = tmp_path / "spec.yaml"
    file.write_text(f"kind: {kind}\n")
    with pytest.raises(SpecError) as said:
        read_spec(str(file), settings)
    found = [
        f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in wrong.value.errors()
    ]
    assert "; ".join(found) == str(said.value)
    assert "Input should" not in str(wrong.value)


def test_what_a_script_prints_has_the_field_and_what_to_write() -> None:
    with pytest.raises(ValidationError) as wrong:
        TrainSpec(network={"widths": 64})
    assert str(wrong.value).splitlines()[:3] == [
        "1 validation error for TrainSpec",
        "network.widths",
        "  expected a list, as in [500] (each a whole number at least 2 and at most 65,536), got "
        "64; did you mean 'network.widths=[64]'? [type=spec, input_value=64, input_type=int]",
    ]


def test_parts_may_be_models_and_values_need_not_be_json() -> None:
    with pytest.raises(ValidationError, match="batch_size"):
        TrainSpec(network=NetworkSpec(widths=(8,)), batch_size=object(), seeds=range(2))
    assert TrainSpec(network=NetworkSpec(widths=(8,))).network.widths == (8,)


def test_documents_are_validated_as_before() -> None:
    with pytest.raises(ValidationError, match="Input should be"):
        Submission.model_validate({"spec": {"kind": "train", "network": {"widths": 64}}})
    with pytest.raises(ValidationError, match="Input should be"):
        TrainSpec.model_validate({"epochs": "x"})
    assert fflab.TrainSpec is TrainSpec
