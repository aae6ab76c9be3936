"""The OpenAPI document: the framework's, corrected where it misstates keys and errors."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from service.jobs import RecordedRun
from service.schemas import ShareRequest
from service.submission import JobRequest
from service.web.catalogue import require_kind
from service.web.host_check import PROBES
from service.web.job_changes import JobChanges
from service.web.problems import (
    BadHost,
    DatabaseAway,
    KeyMayNot,
    KeyNeeded,
    Problem,
    ProblemDetails,
    TwoLengths,
    ValidationProblem,
    WrongHost,
    WrongMediaType,
    WrongOrigin,
    openapi_response,
)

REFERENCE = "#/components/schemas/{model}"
SERVERS = [{"url": "/", "description": "the service that answers with this document"}]
BODIES = (
    JobRequest,
    RecordedRun,
    JobChanges,
    ShareRequest,
)  # the framework does not see them, see service.web.json_bodies
FRAMEWORKS = (
    "HTTPValidationError",
    "ValidationError",
)  # its shapes of errors, which are never sent

Document = dict[str, Any]


def operation_id(route: APIRoute) -> str:
    """Return the name of a route in generated clients: that of its function."""
    return route.name


def openapi(*, title: str, version: str, description: str, routes: list[BaseRoute]) -> Document:
    """Build the document of these routes."""
    document = get_openapi(
        title=title,
        version=version,
        description=description,
        routes=routes,
        servers=SERVERS,
        # generators of clients refuse two shapes of one title
        separate_input_output_schemas=False,
    )
    for path, method, operation in operations(document):
        _correct(path, method, operation)
    schemas = document["components"]["schemas"]
    for name in FRAMEWORKS:
        schemas.pop(name, None)
    _, shapes = models_json_schema([(ProblemDetails, "serialization")], ref_template=REFERENCE)
    schemas |= shapes["$defs"]
    _, bodies = models_json_schema(
        [(body, "validation") for body in BODIES], ref_template=REFERENCE
    )
    schemas |= {name: shape for name, shape in bodies["$defs"].items() if name not in schemas}
    for shape in schemas.values():
        _say_object_defaults(shape)
    require_kind(schemas)
    return document


def _say_object_defaults(shape: Document) -> None:
    """Describe defaults that are objects in words, and leave out those that are null.

    Generators of clients cannot represent the ones, and leave the whole shape out; they ask for a
    value of the others.
    """
    for field in shape.get("properties", {}).values():
        if field.get("default", ...) is None:  # to be left out is the same, and no value is needed
            del field["default"]
        if isinstance(field.get("default"), dict):
            words = f"default: {json.dumps(field.pop('default'))}"
            field["description"] = (
                f"{field['description']}; {words}" if "description" in field else words
            )


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Document]]:
    """Yield path, method and operation of each route."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _without_null(schema: Document) -> Document:
    """Return the schema of a parameter that may be left out: an address or a header has no null."""
    kinds: list[Document] = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) != 1:
        return schema
    kept: Document = {name: value for name, value in schema.items() if name != "anyOf"}
    kept.update(kinds[0])
    return kept


def _correct(path: str, method: str, operation: Document) -> None:
    """Add the problems that every route, or every route with keys, may answer with."""
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _without_null(parameter["schema"])
    answers = operation["responses"]
    if "HTTPValidationError" in str(answers.get("422", {}).get("content")):
        del answers["422"]
    kinds: list[type[Problem]] = [] if path in PROBES else [BadHost, TwoLengths, WrongHost]
    if "security" in operation:
        operation["security"] = [
            {},
            *operation["security"],
        ]  # {}: without a key, while the service has none
        kinds += [
            KeyNeeded,
            ValidationProblem,
            DatabaseAway,
            *((WrongOrigin, KeyMayNot, WrongMediaType) if method != "get" else ()),
        ]
    for kind in kinds:
        answers[str(kind.status)] = openapi_response(kind, answers.get(str(kind.status)))
    operation["responses"] = dict(sorted(answers.items()))
