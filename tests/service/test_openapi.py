"""The OpenAPI document as a generator of clients reads it: valid, resolved, and true of real
answers.
"""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from ffengine.spec import Submission
from service.store import Store
from service.web import auth
from service.web.auth import create_key
from service.web.catalogue import build_catalog
from service.web.problems import MEDIA_TYPE, PROBLEMS
from tests.over_http import NOBODY, TRAIN, submit

OPEN = {"/healthz", "/readyz", "/problems/{code}", "/v1/schema/spec.json"}


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def references(part: Any) -> Iterator[str]:
    """Every $ref within a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from references(inner)


def resolved(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/"), reference
    found: Any = document
    for step in reference[2:].split("/"):
        found = found[step]
    return found


@pytest.mark.slow
def test_the_document_is_valid(document: dict[str, Any]) -> None:
    assert not [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()]  # type: ignore[arg-type]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))
    assert "#/components/schemas/FieldError" in found
    for reference in found:
        assert resolved(document, reference) is not None, reference
    unused = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} - found
    assert not unused


def test_shapes_have_titles_of_their_own(document: dict[str, Any]) -> None:
    titles = [
        shape["title"] for shape in document["components"]["schemas"].values() if "title" in shape
    ]
    assert len(set(titles)) == len(titles), "a generator makes one class of each title"


def test_defaults_are_plain(document: dict[str, Any]) -> None:
    for name, shape in document["components"]["schemas"].items():
        for field, described in shape.get("properties", {}).items():
            assert not isinstance(described.get("default"), dict), (
                f"{name}.{field}: generators leave such a shape out"
            )
    assert (
        '"redraw": "every_epoch"'
        in document["components"]["schemas"]["TrainSpec"]["properties"]["negatives"]["description"]
    )


def test_parameters_are_never_null(document: dict[str, Any]) -> None:
    """They are texts: `null` would be refused, or looked for as a name."""
    for _, path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert "null" not in str(parameter["schema"]), (path, parameter["name"])
            assert {"type", "$ref"} & parameter["schema"].keys(), (path, parameter["name"])
            assert "description" in parameter, (path, parameter["name"])


def test_operations_have_names_that_stay(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in names), names
    assert set(names) == {
        *("submit_job", "list_jobs", "read_job", "change_job", "delete_job", "estimate_job"),
        "record_run",
        *(
            "cancel_job",
            "pause_job",
            "resume_job",
            "retry_job",
            "read_events",
            "read_log",
            "read_curves",
        ),
        *(
            "read_result",
            "read_search",
            "read_csv",
            "read_curves_csv",
            "read_curves_parquet",
            "read_npz",
            "read_weights",
            "list_charts",
            "list_checkpoints",
            "read_chart",
            "read_report",
        ),
        *("read_tex", "read_methods", "read_references", "read_paper"),
        *("share_job", "list_shares", "revoke_share", "revoke_shares"),
        *(
            "read_deliveries",
            "redeliver_message",
            "read_catalog",
            "read_presets",
            "read_spec_schema",
        ),
        *("list_datasets", "read_dataset", "upload_dataset", "delete_dataset"),
        *("list_weights", "read_uploaded_weights", "upload_weights", "delete_weights"),
        *("list_workers", "drain_worker", "undrain_worker", "list_projects"),
        *("read_retention", "read_usage", "read_audit"),
        *("read_health", "read_readiness", "read_metrics", "read_problem"),
    }
    assert document["servers"][0]["url"] == "/"


def test_keys_are_security_schemes_and_no_parameters(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["type"], schemes["bearer"]["scheme"]) == ("http", "bearer")
    assert (schemes["key"]["type"], schemes["key"]["in"], schemes["key"]["name"]) == (
        "apiKey",
        "header",
        "X-API-Key",
    )
    for method, path, operation in operations(document):
        names = {parameter["name"].lower() for parameter in operation.get("parameters", ())}
        assert not names & {"authorization", "x-api-key"}, path
        assert operation.get("security", []) == (
            [] if path in OPEN else [{}, {"bearer": []}, {"key": []}]
        ), path
        assert ("401" in operation["responses"]) == (path not in OPEN), path
        of_administrators = path == "/v1/audit"
        assert ("403" in operation["responses"]) == (method != "get" or of_administrators), path


@pytest.mark.slow
def test_a_key_is_asked_for_where_the_document_says_so_and_taken_as_it_says(
    client: httpx.Client, store: Store, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)
    key = create_key(store.api_keys, "ada").secret
    for method, path, operation in operations(document):
        address = re.sub(r"{\w+}", "x", path)
        assert (client.request(method, address).status_code == 401) == ("security" in operation), (
            path
        )
    for headers in (
        {"Authorization": f"Bearer {key}"},
        {document["components"]["securitySchemes"]["key"]["name"]: key},
    ):
        assert client.get("/v1/jobs", headers=headers).status_code == 200


def test_every_problem_has_the_one_shape(document: dict[str, Any]) -> None:
    titles = {kind.title for kind in PROBLEMS.values()}
    for _, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if MEDIA_TYPE in answer.get("content", {}):
                assert answer["content"] == {
                    MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}
                }, (path, status)
                named = answer["description"].split(" Or: ")
                assert len(set(named)) == len(named)
                assert set(named) <= titles
    assert "HTTPValidationError" not in document["components"]["schemas"]


@pytest.mark.slow
def test_real_problems_are_documented_for_their_route_and_fit_their_shape(
    client: httpx.Client, store: Store, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(client).id
    form = {"content-type": "multipart/form-data; boundary=x"}
    idempotent = {"Idempotency-Key": "a"}
    client.post("/v1/jobs", json={"spec": TRAIN}, headers=idempotent)
    asked: list[tuple[int, str, str, str, dict[str, Any]]] = [
        (
            400,
            "post",
            "/v1/jobs",
            "/v1/jobs",
            {"content": b"{", "headers": {"content-type": "application/json"}},
        ),
        (415, "post", "/v1/jobs", "/v1/jobs", {"content": b"{}"}),
        (422, "post", "/v1/jobs", "/v1/jobs", {"json": {"spec": {"epochs": 1}}}),
        (
            422,
            "post",
            "/v1/jobs",
            "/v1/jobs",
            {"json": {"spec": {"kind": "train", "epochs": 10**9}}},
        ),
        (
            422,
            "post",
            "/v1/jobs",
            "/v1/jobs",
            {"json": {"spec": {"kind": "train", "seeds": [5]}}, "headers": idempotent},
        ),
        (
            403,
            "post",
            "/v1/jobs",
            "/v1/jobs",
            {"json": {"spec": TRAIN}, "headers": {"sec-fetch-site": "cross-site"}},
        ),
        (
            413,
            "post",
            "/v1/jobs",
            "/v1/jobs",
            {"content": b" " * 2_000_000, "headers": {"content-type": "application/json"}},
        ),
        (400, "get", "/v1/jobs", "/v1/jobs?cursor=x", {}),
        (422, "get", "/v1/jobs", "/v1/jobs?limit=0", {}),
        (404, "get", "/v1/jobs/{job_id}", f"/v1/jobs/{NOBODY}", {}),
        (409, "get", "/v1/jobs/{job_id}/result", f"/v1/jobs/{job}/result", {}),
        (409, "delete", "/v1/jobs/{job_id}", f"/v1/jobs/{job}", {}),
        (404, "get", "/v1/jobs/{job_id}/chart/{file}", f"/v1/jobs/{job}/chart/x.png", {}),
        (400, "post", "/v1/datasets", "/v1/datasets", {"content": b"nothing", "headers": form}),
        (
            400,
            "post",
            "/v1/datasets",
            "/v1/datasets",
            {"files": [("file", b"a"), ("other", b"b")], "data": {"name": "x"}},
        ),
        (422, "post", "/v1/datasets", "/v1/datasets", {"files": {"wrong": b"a"}}),
        (404, "get", "/v1/datasets/{name}", "/v1/datasets/nothing", {}),
        (422, "post", "/v1/weights", "/v1/weights?name=a&data=digits", {"content": b"nothing"}),
        (404, "get", "/v1/weights/{name}", "/v1/weights/nothing", {}),
        (404, "get", "/problems/{code}", "/problems/nothing", {}),
    ]
    answers = [
        (status, method, path, client.request(method, address, **given))
        for status, method, path, address, given in asked
    ]
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)
    create_key(store.api_keys, "ada")
    answers.append((401, "get", "/v1/jobs", client.get("/v1/jobs")))
    for status, method, path, answer in answers:
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["content-type"] == MEDIA_TYPE
        described = document["paths"][path][method]["responses"][str(status)]
        assert answer.json()["title"] in described["description"].split(" Or: "), path
        schema = described["content"][MEDIA_TYPE]["schema"]
        Draft202012Validator({**schema, "components": document["components"]}).validate(
            answer.json()
        )


@pytest.mark.slow
def test_a_form_that_cannot_be_read_is_not_called_json(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/datasets",
        content=b"nothing",
        headers={"content-type": "multipart/form-data; boundary=x"},
    ).json()
    assert answer["code"] == "bad-form"
    assert "JSON" not in answer["title"] + answer["detail"]
    assert "multipart/form-data" in answer["detail"]


def test_kind_is_required_where_it_is(app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    assert all(
        "kind" in schemas[name]["required"] for name in ("TrainSpec", "CheckSpec", "StudySpec")
    )
    inner = {"components": {"schemas": schemas}, "$ref": "#/components/schemas/JobRequest"}
    validator = Draft202012Validator(inner)
    assert validator.is_valid({"spec": {"kind": "train", "epochs": 3}})
    assert not validator.is_valid({"spec": {"epochs": 3}})
    assert not validator.is_valid({"spec": {"kind": "study", "base": {"epochs": 3}}})
    catalogue = Draft202012Validator(build_catalog().spec_schema)
    assert catalogue.is_valid({"kind": "train", "epochs": 3})
    assert not catalogue.is_valid({"epochs": 3})
    assert not catalogue.is_valid({"kind": "study", "base": {"epochs": 3}})
    with pytest.raises(ValueError, match="kind"):
        Submission.model_validate({"spec": {"epochs": 3}})


def test_the_reference_page_is_drawn_of_it(client: httpx.Client, document: dict[str, Any]) -> None:
    text = client.get("/docs").text
    for method, path, operation in operations(document):
        assert (
            f"<b>{method.upper()}</b> {path}</code> <span>{operation['summary']}</span>"
            in text.replace("&#39;", "'")
        ), path
    assert "x-api-key" not in text.lower().replace("x-api-key: key", "")
    assert "The form cannot be read." in text
