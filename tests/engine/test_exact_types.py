"""A spec takes what its JSON Schema says: a boolean is no number, and a text is neither."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from ffengine.entry import Entry
from ffengine.spec import AnySpec, CheckSpec, StudySpec, Submission, TrainSpec
from ffengine.study import GridError, expand
from ffengine.text import STORED
from tests.hostile import CHECK

JOB = "job_" + "0" * 32
WRONG = {
    "boolean": [0, 1, 0.0, "true", "yes", "0"],
    "integer": [True, False, "3"],
    "number": [True, "0.5"],
}


def entries_below(kind: type[Entry]) -> Iterator[type[Entry]]:
    for one in kind.__subclasses__():
        yield one
        yield from entries_below(one)


OURS = [
    one
    for one in dict.fromkeys(entries_below(Entry))
    if one.__module__.startswith("ffengine.") and one.model_fields
]


def plain_types(schema: dict[str, Any]) -> set[str]:
    """The plain types that a schema has among its alternatives."""
    found = {str(one.get("type")) for one in [schema, *schema.get("anyOf", ())]}
    if isinstance(value := next(iter(schema.get("enum", ())), None), int):
        found.add("boolean" if isinstance(value, bool) else "integer")
    return found


def wrong_values() -> Iterator[tuple[type[Entry], str, object]]:
    """For each field of each entry with a boolean or a number, values of other types."""
    for entry in OURS:
        for name, schema in entry.model_json_schema().get("properties", {}).items():
            kinds = plain_types(schema)
            if "string" in kinds or "$ref" in str(schema):
                continue
            for kind in kinds & WRONG.keys():
                for value in WRONG[kind]:
                    if not (type(value) in (int, float) and kinds & {"integer", "number"}):
                        yield entry, name, value


@pytest.mark.slow
def test_every_boolean_and_number_of_every_entry_takes_its_own_type() -> None:
    looked_at = set()
    for entry, name, value in wrong_values():
        with pytest.raises(ValidationError) as refused:
            entry.model_validate({name: value})
        found = [error["type"] for error in refused.value.errors() if error["loc"] == (name,)]
        assert found, (entry, name, value)
        assert set(found) <= {"bool_type", "int_type", "float_type"}, (entry, name, value)
        looked_at.add((entry.__name__, name))
    assert looked_at >= {
        *{("TrainSpec", "epochs"), ("NetworkSpec", "bias"), ("DatasetSpec", "label_strength")},
        *{
            ("Sgd", "lr"),
            ("TopK", "k"),
            ("TrainedWeights", "layer"),
            ("EvaluationSpec", "measures"),
        },
    }


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ({"kind": "check", "theorem": True}, ("theorem",)),
        ({"kind": "train", "seeds": [0, False]}, ("seeds", 1)),
        ({"kind": "train", "seeds": ["0"]}, ("seeds", 0)),
        ({"kind": "train", "network": {"widths": [True]}}, ("network", "widths", 0)),
        ({"kind": "train", "network": {"bias": 0}}, ("network", "bias")),
        ({"kind": "train", "monitor": {"theorems": [True]}}, ("monitor", "theorems", 0)),
        ({"kind": "train", "optimizer": {"lr": "0.1"}}, ("optimizer", "sgd", "lr")),
    ],
)
def test_the_place_of_the_wrong_value_is_told(
    spec: dict[str, Any], place: tuple[str | int, ...]
) -> None:
    with pytest.raises(ValidationError) as refused:
        Submission.model_validate({"spec": spec})
    assert refused.value.errors()[0]["loc"] == ("spec", spec["kind"], *place)


def test_weights_of_a_job_are_named_by_numbers() -> None:
    for wrong in ({"layer": False}, {"epoch": True}, {"epoch": "1"}):
        with pytest.raises(ValidationError):
            CheckSpec.model_validate({"at": {"job": JOB, "epoch": 1, **wrong}})


def test_a_grid_takes_what_its_field_takes() -> None:
    for grid in ({"epochs": [True, 2]}, {"network.bias": [0, 1]}, {"optimizer.lr": ["0.1"]}):
        study = StudySpec.model_validate({"base": {"kind": "train"}, "grid": grid})
        with pytest.raises(GridError):
            expand(study)
        assert len(expand(study, STORED)) == len(next(iter(grid.values())))


def test_whole_numbers_may_be_written_with_a_point_and_any_number_without() -> None:
    spec = TrainSpec.model_validate({"epochs": 3.0, "optimizer": {"lr": 1}})
    assert (spec.epochs, type(spec.epochs)) == (3, int)
    assert TrainSpec.model_validate({"epochs": 3}) == TrainSpec(epochs=3)


ADAPTER: TypeAdapter[Any] = TypeAdapter(AnySpec)
SCHEMA = Draft202012Validator(ADAPTER.json_schema())


@pytest.mark.parametrize(
    "fields",
    [{"negatives": {}}, {"objective": {}}, {"optimizer": {}}, {"negatives": {"redraw": "once"}}],
    ids=str,
)
def test_an_object_that_names_no_entry_is_the_usual_one_and_fits_the_schema(
    fields: dict[str, Any],
) -> None:
    document = {"kind": "train", **fields}
    ADAPTER.validate_python(document)
    assert SCHEMA.is_valid(document), [error.message for error in SCHEMA.iter_errors(document)]


def test_what_was_accepted_once_is_read() -> None:
    document = {"spec": {**CHECK, "theorem": True, "seeds": ["3"], "samples": "20"}}
    spec = Submission.model_validate(document, context=STORED).spec
    assert isinstance(spec, CheckSpec)
    assert (spec.theorem, spec.seeds, spec.samples) == (1, (3,), 20)


VALUES = st.none() | st.booleans() | st.integers(-5, 300) | st.floats() | st.sampled_from(["1", ""])


@given(
    st.sampled_from(["train", "check"]),
    st.dictionaries(
        st.sampled_from([*TrainSpec.model_fields, *CheckSpec.model_fields]),
        VALUES
        | st.lists(VALUES, max_size=2)
        | st.dictionaries(st.sampled_from(["bias", "lr"]), VALUES),
        max_size=2,
    ),
)
def test_what_is_accepted_fits_the_schema(kind: str, fields: dict[str, Any]) -> None:
    document = {**fields, "kind": kind}
    try:
        ADAPTER.validate_python(document)
    except ValidationError:
        return
    assert SCHEMA.is_valid(document), [error.message for error in SCHEMA.iter_errors(document)]
