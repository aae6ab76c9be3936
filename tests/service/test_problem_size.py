"""A refusal is short, however much was sent: names and values of the request are cut."""

import json
import threading
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from benchmarks.waiting import PATIENCE_SECONDS
from service.specs.validation_errors import LONGEST_MESSAGE, LONGEST_POINTER, FieldError
from service.web import json_bodies
from service.web.problems import LONGEST_DETAIL, MOST_BYTES, PROBLEMS, ProblemDetails
from tests.examples import examples
from tests.over_http import refused

JSON = {"Content-Type": "application/json"}
LONG = "x" * 900_000
HALF = "y" * 400_000
SPECS: dict[str, dict[str, Any]] = {
    "a field": {"kind": "train", LONG: 1},
    "a field of a field": {"kind": "train", "network": {LONG: 1}},
    "kind": {"kind": LONG},
    "a preset": {"kind": "study", "preset": LONG},
    "a field of the grid": {"kind": "study", "grid": {LONG: [1]}},
    "a value of the grid": {"kind": "study", "grid": {"epochs": [LONG]}},
    "a part": {"kind": "study", "parts": {LONG: {"base": {"kind": "check"}}}},
    "a part that is none": {"kind": "study", "parts": {LONG: 1}},
    "a data set": {"kind": "train", "dataset": {"name": LONG}},
    "a job": {"kind": "check", "at": {"job": LONG, "epoch": 1}},
    "a seed": {"kind": "check", "seeds": [LONG]},
    "two fields": {"kind": "train", HALF: 1, HALF[1:]: {}},
    "one seed many times": {"kind": "train", "seeds": [7] * 256},
    "seeds": {"kind": "train", "seeds": ["x"] * 190_000},
    "letters of four bytes": {
        "kind": "train",
        **{f"{chr(0x1F600 + n)}{HALF[:20_000]}": 1 for n in range(40)},
    },
}
BODIES: dict[str, dict[str, Any]] = {
    **{f"{what} of a spec": {"spec": spec} for what, spec in SPECS.items()},
    "a field of the body": {"spec": {"kind": "train"}, LONG: 1},
    "a name": {"spec": {"kind": "train"}, "name": LONG},
    "a tag": {"spec": {"kind": "train"}, "tags": [LONG]},
    "a priority": {"spec": {"kind": "train"}, "priority": LONG},
    "an address": {"spec": {"kind": "train"}, "webhook": LONG},
    "a state": {"spec": {"kind": "train"}, "webhook": {"url": "https://a.b", "states": [LONG]}},
}


@pytest.mark.parametrize("what", BODIES)
def test_a_refusal_holds_little_of_what_was_sent(hardy: httpx.Client, what: str) -> None:
    body = json.dumps(BODIES[what], ensure_ascii=False).encode()
    for route in ("/v1/jobs", "/v1/estimate"):
        response = hardy.post(route, content=body, headers=JSON)
        problem = refused(response, 422, "invalid")
        assert len(response.content) < 20_000
        assert problem.errors
        assert all(len(error.pointer) <= LONGEST_POINTER for error in problem.errors)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"{HALF}": 1, "{HALF}": 2}}',
        f'{{"spec": {{"kind": "train"}}, "{HALF}": 1, "{HALF}": 2}}',
        f'"{LONG}"',
        f"[{LONG}",
    ],
)
def test_neither_does_one_of_what_is_no_request(hardy: httpx.Client, body: str) -> None:
    response = hardy.post("/v1/jobs", content=body, headers=JSON)
    assert response.status_code in (400, 422)
    assert len(response.content) < 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["kind: {0}", "{0}: 1", "kind: train\n{0}: 1", "!!{0} 1", "a: &{0} 1", '"{0}": 1', "- {0}"],
)
def test_neither_does_one_of_yaml(hardy: httpx.Client, text: str) -> None:
    for route in ("/spec.json", "/spec.yaml"):
        response = hardy.post(route, content=text.format("x" * 190_000))
        if response.status_code != 200:
            assert response.status_code in (400, 422), response.text[:200]
            assert len(response.content) < 10_000, route


@pytest.mark.parametrize(
    "address",
    [
        "/v1/jobs?limit={0}",
        "/v1/jobs?{0}=1",
        "/v1/jobs?name={0}",
        "/v1/jobs?fields={0}",
        "/v1/jobs?created_after={0}",
        "/v1/jobs?" + "&".join(["state=x"] * 5_000),
        "/v1/jobs?" + "&".join(f"a{n}=1" for n in range(5_000)),
        "/v1/jobs?fields=" + ",".join(map(str, range(9_000))),
        "/v1/datasets/{0}",
        "/v1/datasets?uploaded_by={0}",
        "/v1/jobs/{0}",
        "/v1/jobs/{0}/chart/{0}",
        "/problems/{0}",
        "/static/{0}",
        "/datasets/{0}.png",
        "/?name={0}",
        "/new?like={0}",
        "/{0}",
    ],
)
def test_neither_does_one_of_an_address(hardy: httpx.Client, address: str) -> None:
    response = hardy.get(address.format("x" * 20_000))
    assert 400 <= response.status_code < 500
    assert len(response.content) < 10_000
    headers = sum(len(name) + len(value) for name, value in response.headers.raw)
    assert headers < 2_000


def test_neither_does_one_of_headers(hardy: httpx.Client) -> None:
    for name in ("Host", "Origin", "Content-Type", "Content-Encoding", "Idempotency-Key", "Cookie"):
        response = hardy.post("/v1/jobs", content=b"{", headers={**JSON, name: "x" * 20_000})
        assert 400 <= response.status_code < 500, name
        assert len(response.content) < 10_000, name


TEXTS = st.builds(
    lambda text, times: text * times,
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
    | st.sampled_from(["\U0001f600"]),
    st.sampled_from([1, 100, 10_000]),
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=examples(60))
@given(
    st.sampled_from(["/v1/jobs", "/v1/estimate", "/spec.json"]),
    st.dictionaries(st.sampled_from(["kind", "grid", "parts", "base"]) | TEXTS, DOCUMENTS),
)
def test_no_document_makes_a_refusal_long(
    hardy: httpx.Client, route: str, spec: dict[str, Any]
) -> None:
    body = spec if route == "/spec.json" else {"spec": spec, **spec}
    response = hardy.post(route, content=json.dumps(body, ensure_ascii=False), headers=JSON)
    assert response.status_code in (400, 413, 422)
    assert len(response.content) <= MOST_BYTES


@settings(max_examples=examples(60))
@given(
    st.sampled_from(sorted(PROBLEMS)), TEXTS, st.lists(st.tuples(TEXTS, TEXTS), max_size=40), TEXTS
)
def test_every_problem_has_a_bound_and_keeps_its_first_error(
    code: str, detail: str, errors: list[tuple[str, str]], extra: str
) -> None:
    wrong = [FieldError(pointer=pointer, message=message) for pointer, message in errors]
    response = PROBLEMS[code](detail, errors=wrong, jobs=[extra] * 100).response()
    assert len(response.body) <= MOST_BYTES
    told = ProblemDetails.model_validate_json(bytes(response.body))
    assert len(told.detail) <= LONGEST_DETAIL
    assert told.errors[:1] == wrong[:1]
    assert all(len(error.message) <= LONGEST_MESSAGE for error in told.errors)


def test_a_name_that_is_cut_says_so(hardy: httpx.Client) -> None:
    body = json.dumps({"spec": {"kind": "train", "epocks" + LONG: 1}})
    problem = refused(hardy.post("/v1/jobs", content=body, headers=JSON), 422, "invalid")
    assert problem.errors[0].pointer.startswith("/spec/epocksxxx")
    assert problem.errors[0].pointer.endswith("x…")


@pytest.mark.slow
def test_the_service_answers_while_a_large_body_is_validated(
    hardy: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation waits until others were answered: in the event loop nobody would be."""
    begun, may_end = threading.Event(), threading.Event()
    validated = json_bodies._validated

    def slow(model: type[BaseModel], content: bytes) -> BaseModel:
        begun.set()
        assert may_end.wait(PATIENCE_SECONDS)
        return validated(model, content)

    monkeypatch.setattr(json_bodies, "_validated", slow)
    answers: list[httpx.Response] = []
    body = json.dumps(BODIES["seeds of a spec"])
    sender = threading.Thread(
        target=lambda: answers.append(hardy.post("/v1/jobs", content=body, headers=JSON))
    )
    sender.start()
    try:
        assert begun.wait(PATIENCE_SECONDS)
        assert hardy.get("/healthz").json() == {"status": "ok"}
        assert hardy.get("/v1/jobs").status_code == 200
        assert not answers
    finally:
        may_end.set()
        sender.join(PATIENCE_SECONDS)
    refused(answers[0], 422, "invalid")
