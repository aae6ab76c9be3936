"""Thousands of requests that are made up of the OpenAPI document: no answer is a fault of the
service, and each is documented.

With another seed and more requests:

    FFLAB_FUZZ_SEED=7 FFLAB_FUZZ_EXAMPLES=300 .venv/bin/python -m pytest \\
        tests/service/test_fuzzing.py
"""

import copy
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from service.settings import Settings
from service.store import Store
from service.web.auth import create_key
from service.web.dashboard import pages, templating
from tests.furnished import furnish
from tests.fuzzing import Finding, Fuzzed, api, fuzz, is_fault
from tests.needs import program
from tests.serving import http_client

SEED = int(os.environ.get("FFLAB_FUZZ_SEED", "1"))
EXAMPLES = int(os.environ.get("FFLAB_FUZZ_EXAMPLES", "10"))  # of each operation; for stateful, too
OF_EACH_KIND = 10
LEAST_REQUESTS = {"sqlite": 4_000, "postgres": 700, "pages": 400}

LONGEST_SECONDS = 3_600


def refuse_faults(fuzzed: Fuzzed, log: Path) -> None:
    faults = list(filter(is_fault, fuzzed.findings))
    assert not faults, f"{len(faults)} of {fuzzed.requests} requests, the first: {faults[0]}"
    assert not fuzzed.errors, fuzzed.errors[0]
    assert "Traceback" not in log.read_text("utf-8")


@pytest.mark.soak
@pytest.mark.timeout(LONGEST_SECONDS)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_no_request_finds_a_fault(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    """Without keys on SQLite, with one on PostgreSQL.

    Schemas are gone through on SQLite, and the body of a job once for the two operations that have
    it: what requests pass before the database is the same code.
    """
    program("bin/schemathesis")
    environment = {"FFLAB_HOME": str(tmp_path / "home"), "FFLAB_WEBHOOK_ALLOW_PRIVATE": "true"}
    url = None if database == "sqlite" else request.getfixturevalue("migrated_postgres_url")
    if url:
        environment["FFLAB_DATABASE_URL"] = url
    settings = Settings(home=tmp_path / "home", database_url=url)
    there = furnish(settings, OF_EACH_KIND)
    key = None
    if database == "postgres":
        with closing(Store(settings.database)) as store:
            key = create_key(store.api_keys, "fuzz").secret
    options = ["--seed", str(SEED), "-n", str(EXAMPLES)]
    if database == "postgres":
        options += ["--phases", "examples,fuzzing,stateful"]
    with api(environment, tmp_path / "api.log") as url:
        with http_client(url) as client:
            document = client.get("/openapi.json").json()
        fuzzed = fuzz(
            url, document, there, tmp_path / "fuzz", options, key=key, uncovered=["estimate_job"]
        )
    refuse_faults(fuzzed, tmp_path / "api.log")
    assert fuzzed.requests >= LEAST_REQUESTS[database]


@pytest.mark.parametrize(
    ("check", "operation", "message", "status"),
    [
        ("not_a_server_error", "POST /v1/jobs", "", 500),
        ("not_a_server_error", "GET /v1/jobs", "", 503),
        ("status_code_conformance", "POST /v1/jobs", "Received: 418", 418),
        ("response_schema_conformance", "GET /v1/jobs", "'id' is a required property", 200),
        ("positive_data_acceptance", "GET /v1/workers", "", 422),
        ("positive_data_acceptance", "POST /v1/jobs", "", 404),
        ("negative_data_rejection", "POST /v1/jobs", "in body - spec: Missing required", 202),
        ("negative_data_rejection", "GET /v1/jobs", "in query - limit: Incorrect type", 200),
        ("negative_data_rejection", "POST /v1/jobs", "in body - pinned: Incorrect type", 202),
        ("negative_data_rejection", "POST /v1/runs", "rows: more items than allowed", 201),
    ],
)
def test_faults_are_told_from_what_schemas_cannot_say(
    check: str, operation: str, message: str, status: int
) -> None:
    assert is_fault(Finding(check, operation, message, "", status, ""))


def document_of_pages() -> dict[str, Any]:
    """What an OpenAPI document would say of the pages."""
    routes = []
    for router in (pages.router, pages.sign_in_router, pages.spec_router, templating.static_router):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            shown = copy.copy(route)
            shown.include_in_schema = True
            shown.operation_id = f"{route.name} {route.path}"
            routes.append(shown)
    return get_openapi(title="pages", version="0", routes=routes)


@pytest.mark.soak
@pytest.mark.timeout(LONGEST_SECONDS)
def test_no_request_for_a_page_finds_a_fault(tmp_path: Path) -> None:
    program("bin/schemathesis")
    there = furnish(Settings(home=tmp_path / "home"), 1)
    checks = "not_a_server_error,unsupported_method,allow_header_conformance"
    options = ["--seed", str(SEED), "-n", str(EXAMPLES), "--phases", "coverage,fuzzing"]
    options += ["--checks", checks]
    with api({"FFLAB_HOME": str(tmp_path / "home")}, tmp_path / "api.log") as url:
        fuzzed = fuzz(url, document_of_pages(), there, tmp_path / "fuzz", options)
    refuse_faults(fuzzed, tmp_path / "api.log")
    assert fuzzed.requests >= LEAST_REQUESTS["pages"]
