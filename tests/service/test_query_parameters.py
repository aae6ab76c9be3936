"""Query parameters that a route does not know are refused, with the nearest one that it does."""

import httpx
import pytest
from fastapi import FastAPI

from service.store import Store
from tests.over_http import refused, submit, succeed


@pytest.mark.parametrize(
    ("query", "pointer", "message"),
    [
        ("sate=running", "query/sate", "is not a known parameter; did you mean 'state'?"),
        ("limt=5", "query/limt", "is not a known parameter; did you mean 'limit'?"),
        ("zzz=1", "query/zzz", "is not a known parameter; known are limit, cursor, "),
        ("State=running", "query/State", "is not a known parameter; did you mean 'state'?"),
        ("%00=1", "query/\x00", "is not a known parameter; known are"),
        ("=1&x", "query/", "is not a known parameter; known are"),
    ],
)
def test_a_misspelt_parameter_is_refused(
    client: httpx.Client, query: str, pointer: str, message: str
) -> None:
    problem = refused(client.get(f"/v1/jobs?{query}"), 422, "invalid")
    assert problem.errors[0].pointer == pointer
    assert problem.errors[0].message.startswith(message)


def test_all_unknown_parameters_are_named_once(client: httpx.Client) -> None:
    problem = refused(client.get("/v1/jobs?a=1&b=2&a=3&limit=5"), 422, "invalid")
    assert [error.pointer for error in problem.errors] == ["query/a", "query/b"]
    many = "&".join(f"x{number}=1" for number in range(500))
    assert len(refused(client.get(f"/v1/jobs?{many}"), 422, "invalid").errors) == 20


@pytest.mark.parametrize("query", ["limit=5&limit=6", "kind=train&kind=check", "total=1&total=0"])
def test_a_parameter_that_takes_one_value_is_given_once(client: httpx.Client, query: str) -> None:
    problem = refused(client.get(f"/v1/jobs?{query}"), 422, "invalid")
    assert problem.errors[0].pointer == f"query/{query.partition('=')[0]}"
    assert problem.errors[0].message == "is given more than once; it takes one value"


def test_states_are_given_as_often_as_wished(client: httpx.Client) -> None:
    assert client.get("/v1/jobs?state=queued&state=running").status_code == 200


@pytest.mark.slow
def test_every_route_of_the_api_refuses_unknown_parameters(
    client: httpx.Client, app: FastAPI, store: Store
) -> None:
    job = submit(client).id
    succeed(store, job)
    for path, methods in app.openapi()["paths"].items():
        if not path.startswith("/v1"):
            continue  # probes are sent with whatever a monitor adds
        filled = path.replace("{job_id}", job).replace("{name}", "mnist-mini")
        filled = filled.replace("{file}", "sparsity.svg").replace("{delivery_id}", "1")
        for method in methods:
            response = client.request(method, f"{filled}?nonsense=1", json={})
            problem = refused(response, 422, "invalid")
            assert problem.errors[0].pointer == "query/nonsense", (method, path)


def test_pages_take_what_others_add_to_an_address(client: httpx.Client) -> None:
    assert client.get("/?utm_source=chat").status_code == 200
    assert client.get("/healthz?probe=1").status_code == 200


def test_a_bad_value_is_named_as_a_parameter(client: httpx.Client) -> None:
    problem = refused(client.get("/v1/jobs?limit=0"), 422, "invalid")
    assert problem.errors[0].pointer == "query/limit"
