"""Bodies over HTTP: encodings, doubled names, what is not JSON, very many errors."""

import gzip
import json
import threading
import time

import httpx
import pytest
from pydantic import ValidationError

from benchmarks.waiting import PATIENCE_SECONDS
from service.specs.json_pointers import in_body
from service.web.json_bodies import MANY_ERRORS
from tests.over_http import NOBODY, refused, submit

JSON = {"Content-Type": "application/json"}
SPEC = b'{"spec": {"kind": "train", "epochs": 1}}'


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("POST", "/v1/jobs"),
        ("POST", "/v1/estimate"),
        ("PATCH", f"/v1/jobs/{NOBODY}"),
        ("POST", f"/v1/jobs/{NOBODY}/cancel"),
        ("POST", "/v1/datasets?name=packed"),
        ("POST", "/spec.yaml"),
        ("POST", "/spec.json"),
        ("POST", "/login"),
    ],
)
def test_an_encoded_body_is_refused_and_told_what_is_taken(
    client: httpx.Client, method: str, address: str
) -> None:
    headers = {**JSON, "Content-Encoding": "gzip"}
    response = client.request(method, address, content=gzip.compress(SPEC), headers=headers)
    problem = refused(response, 415, "wrong-media-type")
    assert "gzip" in problem.detail
    assert response.headers["accept-encoding"] == "identity"
    assert client.get("/healthz").status_code == 200, "the connection goes on"


def test_a_body_that_says_that_it_is_not_encoded_is_taken(client: httpx.Client) -> None:
    headers = {**JSON, "Content-Encoding": "identity"}
    assert client.post("/v1/jobs", content=SPEC, headers=headers).status_code == 202


@pytest.mark.parametrize(
    ("body", "pointer", "places"),
    [
        (
            '{"spec": {"kind": "train", "seeds": [1], "seeds": [2]}}',
            "/spec/seeds",
            ("line 1, column 28", "line 1, column 42"),
        ),
        (
            '{"spec": {"kind": "train"},\n "name": "a",\n  "name": "b"}',
            "/name",
            ("line 2, column 2", "line 3, column 3"),
        ),
        (
            '{"spec": {"kind": "train", "epochs": 1, "\\u0065pochs": 2}}',
            "/spec/epochs",
            ("line 1, column 28", "line 1, column 41"),
        ),
        (
            '{"spec": {"kind": "study", "parts": [{"name": "{,:"}, {"a/b": 1, "a/b": 1}]}}',
            "/spec/parts/1/a~1b",
            ("line 1, column 56", "line 1, column 66"),
        ),
    ],
)
@pytest.mark.parametrize("padding", [0, 50_000])
def test_a_name_that_is_there_twice_is_refused_with_both_places(
    client: httpx.Client, body: str, pointer: str, places: tuple[str, str], padding: int
) -> None:
    response = client.post("/v1/jobs", content=body + " " * padding, headers=JSON)
    problem = refused(response, 422, "invalid")
    assert [error.pointer for error in problem.errors] == [pointer]
    assert problem.errors[0].message == f"is there twice, at {places[0]} and at {places[1]}"


def test_a_name_may_be_in_two_objects_and_in_texts(client: httpx.Client) -> None:
    submit(client, {"kind": "train", "epochs": 1}, name='"name": "name"', tags=["name", "epochs"])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "line 1, column 2"),
        (b'{"spec":\n  nope}', "line 2, column 3"),
        (b"\xff\xfe\xfa", ""),
        (b"[" * 100_000, ""),
        (b'{"a": ' + b"9" * 10_000 + b"}", ""),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(
    client: httpx.Client, body: bytes, detail: str
) -> None:
    problem = refused(client.post("/v1/jobs", content=body, headers=JSON), 400, "malformed-body")
    assert detail in problem.detail


def test_no_body_is_refused(client: httpx.Client) -> None:
    refused(client.post("/v1/jobs", headers=JSON), 422, "invalid")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_json_in_any_unicode_encoding_is_taken(client: httpx.Client, encoding: str) -> None:
    body = SPEC.decode().encode(encoding)
    assert client.post("/v1/jobs", content=body, headers=JSON).status_code == 202


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"pinned": 0}, "/pinned"),
        ({"pinned": "yes"}, "/pinned"),
        ({"fresh": 1}, "/fresh"),
        ({"timeout_seconds": True}, "/timeout_seconds"),
        ({"timeout_seconds": "60"}, "/timeout_seconds"),
        ({"spec": {"kind": "train", "network": {"bias": 0}}}, "/spec/network/bias"),
        (
            {"spec": {"kind": "check", "at": {"job": NOBODY, "epoch": 1, "layer": False}}},
            "/spec/at/layer",
        ),
        ({"spec": {"kind": "train", "epochs": "3"}}, "/spec/epochs"),
        ({"spec": {"kind": "study", "grid": {"epochs": [True, 2]}}}, "/spec/grid/epochs"),
    ],
)
def test_a_boolean_is_no_number_and_a_text_is_neither(
    client: httpx.Client, fields: dict[str, object], pointer: str
) -> None:
    for route in ("/v1/jobs", "/v1/estimate"):
        response = client.post(route, json={"spec": {"kind": "train"}, **fields})
        assert refused(response, 422, "invalid").errors[0].pointer == pointer
    if "pinned" in fields:
        response = client.patch(f"/v1/jobs/{submit(client).id}", json=fields)
        assert refused(response, 422, "invalid").errors[0].pointer == pointer


HOSTILE = {
    "190,000 seeds": {"spec": {"kind": "train", "seeds": ["x"] * 190_000}},
    "70,000 fields of the spec": {
        "spec": {**{f"f{n}": 1 for n in range(70_000)}, "kind": "train"},
    },
    "70,000 fields of the body": {**{f"f{n}": 1 for n in range(70_000)}, "spec": {"kind": "train"}},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", HOSTILE)
def test_the_first_of_very_many_errors_are_told(client: httpx.Client, what: str) -> None:
    body = json.dumps(HOSTILE[what])
    problem = refused(client.post("/v1/jobs", content=body, headers=JSON), 422, "invalid")
    assert 1 <= len(problem.errors) <= 20
    first = "/spec/seeds/0" if "seeds" in what else "/f0" if "body" in what else "/spec/f0"
    assert problem.errors[0].pointer == first
    assert not [error for error in problem.errors if "missing" in error.message]


def test_errors_beyond_the_first_items_are_told(client: httpx.Client) -> None:
    seeds = [*range(10_000), *["x"] * 20_000]
    body = json.dumps({"spec": {"kind": "train", "seeds": seeds}})
    problem = refused(client.post("/v1/jobs", content=body, headers=JSON), 422, "invalid")
    assert problem.errors[0].pointer.startswith("/spec/seeds")


@pytest.mark.slow
def test_others_are_answered_while_a_hostile_body_is_looked_at(client: httpx.Client) -> None:
    body = json.dumps(HOSTILE["190,000 seeds"])
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(client.post("/v1/jobs", content=body, headers=JSON))

    client.get("/healthz")
    sender = threading.Thread(target=send)
    longest = 0.0
    sender.start()
    while sender.is_alive():
        began = time.monotonic()
        assert client.get("/healthz").status_code == 200
        longest = max(longest, time.monotonic() - began)
    sender.join(PATIENCE_SECONDS)
    refused(answers[0], 422, "invalid")
    print(f"the longest answer took {longest:.2f} s")  # noqa: T201 - for who looks; load varies it


@pytest.mark.slow
def test_no_more_errors_than_are_told_are_described(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Describing an error takes much longer than finding it, and nothing else runs meanwhile."""
    described = []

    def counted(error: ValidationError) -> object:
        described.append(error.error_count())
        return in_body(error)

    monkeypatch.setattr("service.web.json_bodies.in_body", counted)
    for body in HOSTILE.values():
        client.post("/v1/jobs", content=json.dumps(body), headers=JSON)
    assert len(described) == len(HOSTILE)
    assert max(described) <= MANY_ERRORS
