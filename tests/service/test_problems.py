"""Problems: pointers that exist in the user's own document, words for every kind, and nothing the
database cannot hold.
"""

import json
import re
import subprocess
import sys
import time
from functools import reduce
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ffengine.entry import entries
from ffengine.negatives import AnyNegatives
from ffengine.objectives import AnyObjective
from ffengine.spec import StudyPart, Submission
from service.schemas import ShareRequest
from service.specs.json_pointers import UNIONS, in_body, pointer_of, unstorable
from service.specs.suggestions import plain_message
from service.specs.validation_errors import MAX_REPORTED_ERRORS, FieldError, field_errors
from service.web.problems import MEDIA_TYPE, PROBLEMS, ValidationProblem
from tests.over_http import refused


def mistakes(document: dict[str, Any], *known: str) -> list[FieldError]:
    with pytest.raises(ValidationError) as caught:
        Submission.model_validate(document)
    return field_errors(in_body(caught.value), document, known)


def pointers(document: dict[str, Any]) -> list[str]:
    return [error.pointer for error in mistakes(document)]


def resolve(document: Any, pointer: str) -> Any:
    """What a pointer (RFC 6901) leads to; KeyError, IndexError or TypeError where it leads
    nowhere.
    """
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
    return reduce(
        lambda here, step: here[int(step)] if isinstance(here, list) else here[step],
        steps,
        document,
    )


NOISE = {"strategy": "noise", "scale": 0}
REPEATS = {"kind": "train", "seeds": [0, 0]}
BASELINES = ["cross_entropy", "cross_entropy"]
DATASET = ["/spec/dataset/validation_samples"]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"kind": "train", "negatives": NOISE}, ["/spec/negatives/scale"]),
        ({"kind": "train", "epochs": 0}, ["/spec/epochs"]),
        ({"kind": "train", "train": {"epochs": 3}, "epochs": 0}, ["/spec/epochs", "/spec/train"]),
        (
            {"kind": "train", "negatives": {"strategy": "noise", "noise": 1}},
            ["/spec/negatives/noise"],
        ),
        ({"kind": "train", "network": {"widths": [64, 1, 64]}}, ["/spec/network/widths/1"]),
        ({"kind": "train", "dataset": {"train_samples": 10**6}}, ["/spec/dataset/train_samples"]),
        ({"kind": "train", "dataset": {"validation_samples": 5999}}, DATASET),
        ({"kind": "train", "seeds": [0, 0]}, ["/spec/seeds"]),
        ({"kind": "train", "evaluation": {"baselines": BASELINES}}, ["/spec/evaluation/baselines"]),
        ({"kind": "study", "parts": {"a/b": {"base": REPEATS}}}, ["/spec/parts/a~1b/base/seeds"]),
        ({"kind": "train", "a/b~c": 1}, ["/spec/a~1b~0c"]),
        (
            {"kind": "train", "objective": {"name": "softplus", "threshold": "x"}},
            ["/spec/objective/threshold"],
        ),
        ({"kind": "dance"}, ["/spec/kind"]),
        ({}, ["/spec"]),
        ({"kind": "train", "negatives": {"strategy": "dance"}}, ["/spec/negatives/strategy"]),
        ({"kind": "train", "negatives": "dance"}, ["/spec/negatives"]),
        ({"kind": "check", "at": {"job": "x", "epoch": 1}}, ["/spec/at/job"]),
        ({"kind": "check", "at": {"epoch": 1}}, ["/spec/at/job"]),
        ({"kind": "check", "at": "init"}, ["/spec/at"]),
        (
            {"kind": "study", "base": {"kind": "train", "negatives": NOISE}},
            ["/spec/base/negatives/scale"],
        ),
        (
            {"kind": "study", "parts": {"train": {"base": {"kind": "train", "negatives": NOISE}}}},
            ["/spec/parts/train/base/negatives/scale"],
        ),
        (
            {"kind": "study", "parts": {"base": {"base": {"kind": "train", "epochs": 0}}}},
            ["/spec/parts/base/base/epochs"],
        ),
        ({"kind": "study", "grid": {"epochs": []}}, ["/spec/grid/epochs"]),
    ],
)
def test_pointers_lead_to_the_users_own_fields(spec: dict[str, Any], expected: list[str]) -> None:
    document = {"spec": spec}
    found = pointers(document)
    assert sorted(found) == sorted(expected)
    for pointer in found:
        if pointer != "/spec/at/job" or "job" in spec["at"]:
            resolve(document, pointer)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "train", "epoch": 3}, "is not a known field; did you mean 'epochs'?"),
        (
            {"kind": "train", "network": {"width": [3]}},
            "is not a known field; did you mean 'network.widths'?",
        ),
        ({"kind": "check", "epochs": 3}, "is a field of `kind: train`, and this spec is a check"),
        (
            {"kind": "trian"},
            "'trian' is not one of train, check, forecast, study; did you mean 'train'?",
        ),
        ({}, "kind: expected one of train, check, forecast, study, got nothing"),
        ({"kind": "train", "epochs": 1.5}, "expected a whole number at least 1 and at most"),
        ({"kind": "train", "seeds": [0, 0]}, "each value once, got [0, 0]"),
        (
            {"kind": "train", "dataset": {"validation_samples": 6000}},
            "6000 leaves no samples to train on",
        ),
        (
            {"kind": "check", "dataset": {"name": "digits"}, "samples": 1438},
            "1438 asked, but the data set gives 1437; set samples to 1437 or less, or to "
            "null for all",
        ),
    ],
)
def test_a_mistake_in_a_spec_names_what_was_meant(spec: dict[str, Any], message: str) -> None:
    (found,) = mistakes({"spec": spec})
    assert found.message.startswith(message)


CHOSEN = {"name": "digits", "validation_samples": 50}


@pytest.mark.parametrize(
    ("baseline", "pointer", "message"),
    [
        (
            {"name": "cross_entropi"},
            "/name",
            "'cross_entropi' is not one of cross_entropy, ff_objective, greedy_cross_entropy, "
            "deep_supervision; did you mean 'cross_entropy'?",
        ),
        ("cross_entropi", "", "name: 'cross_entropi' is not one of cross_entropy, ff_objective"),
        ({"epochs": 3}, "", "name: is missing"),
        ({"name": "cross_entropy", "rates": [0.1, 0.1]}, "/rates", "each value once, got"),
        ({"name": "cross_entropy", "epochs": 0}, "/epochs", "expected at least 1, got 0"),
        (
            {"name": "cross_entropy", "optimizer": {"name": "sdg"}},
            "/optimizer/name",
            "'sdg' is not one of sgd, momentum, nesterov, adam, adamw; did you mean 'sgd'?",
        ),
    ],
)
def test_a_mistake_in_an_item_of_a_list_is_named_at_its_place(
    baseline: object, pointer: str, message: str
) -> None:
    spec = {"kind": "train", "dataset": CHOSEN, "evaluation": {"baselines": [baseline]}}
    (found,) = mistakes({"spec": spec})
    assert found.pointer == f"/spec/evaluation/baselines/0{pointer}"
    assert found.message.startswith(message)


def test_a_field_of_the_request_that_is_not_known_names_the_nearest_one() -> None:
    document = {"spec": {"kind": "train"}}
    error = {"type": "extra_forbidden", "loc": ("body", "nmae"), "msg": "Extra inputs"}
    known = ["spec", "name", "tags"]
    (near,) = field_errors([error], {**document, "nmae": "x"}, known)
    assert near == FieldError(pointer="/nmae", message="is not a known field; did you mean 'name'?")
    (far,) = field_errors([{**error, "loc": ("body", "xyz")}], {**document, "xyz": 1}, known)
    assert far.message == "is not a known field; known are spec, name, tags"
    (alone,) = field_errors([error], {**document, "nmae": "x"})
    assert alone.message == "is not a known field"


@pytest.mark.slow
@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "train", **{f"field{number}": 0 for number in range(50_000)}},
        {"kind": "study", "parts": {str(number): 0 for number in range(50_000)}},
        {"kind": "train", "x" * 1_000_000: 0},
        {"kind": "train", "network": {"activation": "x" * 1_000_000}},
        {"kind": "train", "seeds": ["x"] * 50_000},
    ],
)
def test_a_hostile_spec_is_explained_quickly(spec: dict[str, Any]) -> None:
    began = time.process_time()
    assert 0 < len(mistakes({"spec": spec})) <= MAX_REPORTED_ERRORS
    assert time.process_time() - began < 20


def test_a_missing_field_is_named_where_it_should_be() -> None:
    assert pointers({}) == ["/spec"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["kind", "epochs", "base", "x", "~/", "strategy"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "kind",
        "dataset",
        "network",
        "negatives",
        "objective",
        "epochs",
        "seeds",
        "base",
        "grid",
        "parts",
        "at",
        "train",
        "x",
    ]
)


@given(st.sampled_from(["train", "check", "study"]), st.dictionaries(FIELDS, JSON, max_size=5))
def test_every_pointer_of_every_mistake_exists(kind: str, fields: dict[str, Any]) -> None:
    document = {"spec": {"kind": kind, **fields}}
    try:
        Submission.model_validate(document)
    except ValidationError as error:
        for found in error.errors():
            pointer = pointer_of(("body", *found["loc"]), found["type"], document)
            resolve(document, pointer if found["type"] != "missing" else pointer.rpartition("/")[0])


def test_the_fields_that_hold_a_union_are_known() -> None:
    assert UNIONS["negatives"] == "strategy"
    assert all("strategy" in entry.model_fields for entry in entries(AnyNegatives))
    assert all(UNIONS["objective"] in entry.model_fields for entry in entries(AnyObjective))
    assert "base" in StudyPart.model_fields


def test_parameters_are_named_as_they_are() -> None:
    assert pointer_of(("query", "limit"), "int_parsing", None) == "query/limit"


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"a": [1, {"b": "\x00"}]}, "/a/1/b"),
        ({"a": "\ud800"}, "/a"),
        ({"a": {"\udfff": 1}}, "/a"),
        ("\x00", ""),
        ({"a": ["\U0001f600", "\x01", "ok", None, 1.5]}, None),
    ],
)
def test_what_no_database_stores_is_found(document: object, pointer: str | None) -> None:
    assert unstorable(document) == pointer


@pytest.mark.slow
def test_depth_is_no_danger() -> None:
    document: object = "\x00"
    for _ in range(100_000):
        document = [document]
    assert unstorable(document) == "/0" * 100_000
    while isinstance(document, list):  # taken apart by hand: an interpreter may recurse to free it
        document = document.pop()


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_says_what_is_wrong_and_what_to_do(code: str) -> None:
    kind = PROBLEMS[code]
    response = kind().response()
    body = json.loads(bytes(response.body))
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
    assert (body["type"], body["status"], body["code"]) == (f"/problems/{code}", kind.status, code)
    assert 400 <= kind.status < 600
    assert body["title"].endswith(".")
    assert len(body["detail"]) > 20
    assert body["title"] != body["detail"]
    assert response.media_type == MEDIA_TYPE


def test_what_cannot_be_written_in_utf8_can_be_answered() -> None:
    assert json.loads(bytes(ValidationProblem("\ud800").response().body))["detail"] == "\ud800"


TEXTS = """
import json
from service.web.problems import PROBLEMS
print(json.dumps([[kind.status, code, kind.title, kind.advice] for code, kind in PROBLEMS.items()]))
"""


@pytest.mark.slow
def test_public_texts_do_not_hang_on_docstrings() -> None:
    plain, stripped = (
        subprocess.check_output([sys.executable, *options, "-c", TEXTS])
        for options in ((), ("-OO",))
    )
    assert json.loads(stripped) == json.loads(plain)
    assert all(map(all, json.loads(plain)))


def test_every_problem_states_its_own_code_title_and_advice() -> None:
    for kind in PROBLEMS.values():
        assert {"code", "title", "advice"} <= vars(kind).keys()


@pytest.mark.parametrize(
    ("method", "address", "body", "detail"),
    [
        ("POST", "/v1/jobs", [], "body: expected an object, got []"),
        ("POST", "/v1/jobs", "x", "body: expected an object, got 'x'"),
        ("POST", "/v1/jobs", [[]] * 9, "body: expected an object, got a list of 9 items"),
        ("POST", "/v1/jobs", {"spec": []}, "/spec: expected an object, got []"),
        ("POST", "/v1/jobs", {}, "/spec: is missing"),
        ("GET", "/v1/jobs?limit=abc", None, "query/limit: expected a whole number, got 'abc'"),
        ("GET", "/v1/jobs?limit=1.5", None, "query/limit: expected a whole number, got '1.5'"),
        ("GET", "/v1/jobs?limit=0", None, "query/limit: expected at least 1, got '0'"),
        ("GET", "/v1/jobs?total=maybe", None, "query/total: expected true or false, got 'maybe'"),
        (
            "GET",
            "/v1/jobs?created_after=monday",
            None,
            "query/created_after: expected a time with its zone, such as 2026-11-26T08:00:00Z, got "
            "'monday'",
        ),
        (
            "POST",
            "/v1/jobs",
            {"spec": {"kind": "train"}, "timeout_seconds": -1},
            "/timeout_seconds: expected more than 0, got -1",
        ),
        (
            "POST",
            "/v1/jobs",
            {"spec": {"kind": "train"}, "tags": ["a"] * 30, "priority": "hihg"},
            "/tags: expected no more items than 20, got 30 (and 1 more, in `errors`)",
        ),
    ],
)
def test_what_is_wrong_is_said_in_plain_words_and_how_much_more(
    client: httpx.Client, method: str, address: str, body: object, detail: str
) -> None:
    json = {"json": body} if method == "POST" else {}
    found = refused(client.request(method, address, **json), 422, "invalid")
    assert found.detail == detail
    assert not [error for error in found.errors if "Input should" in error.message]


@pytest.mark.parametrize("name", ["Idempotency-Key", "X-API-Key", "Last-Event-ID", "Range"])
def test_a_header_that_says_one_thing_is_refused_where_it_is_there_twice(
    client: httpx.Client, name: str
) -> None:
    headers = [(name, "1"), (name, "2")]
    answer = client.post("/v1/jobs", json={"spec": {"kind": "train"}}, headers=headers)
    found = refused(answer, 422, "invalid")
    assert found.detail == (f"header/{name.lower()}: is given more than once; it takes one value")
    assert client.get("/v1/jobs").json()["items"] == []


def test_a_number_that_no_integer_holds_is_refused_in_plain_words() -> None:
    with pytest.raises(ValidationError) as refusal:
        ShareRequest.model_validate({"expires_seconds": 1e300})
    (error,) = refusal.value.errors()
    assert plain_message(error) == "expected a smaller whole number, got 1e+300"
