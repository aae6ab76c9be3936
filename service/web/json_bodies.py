"""JSON bodies: read, parsed and validated, away from the event loop where they are large."""

import json
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from pydantic import BaseModel, JsonValue, ValidationError
from starlette.concurrency import run_in_threadpool

from ffengine.entry import json_pointer
from service.specs.json_pointers import in_body
from service.specs.validation_errors import FieldError
from service.web import problems
from service.web.dependencies import require_json

M = TypeVar("M", bound=BaseModel)
SMALL_BYTES = 16_384  # parsed and validated in about a millisecond
MANY_ERRORS = 500  # more take seconds to describe, during which nothing else runs
CUTS = (50, 2_000)  # items of a list or object
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]')


def json_body(model: type[M]) -> Callable[[Request], Coroutine[Any, Any, M]]:
    """Return the dependency that reads the body of a request as this model.

    It raises WrongMediaType, MalformedBody and ValidationProblem.
    """

    async def read(request: Request) -> M:
        await require_json(request)
        content = await request.body()
        if len(content) <= SMALL_BYTES:
            return _validated(model, content)
        return await run_in_threadpool(_validated, model, content)

    return read


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return what the OpenAPI document says of a route with such a body."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _validated(model: type[M], content: bytes) -> M:
    if not content:
        raise problems.validation_problem(
            [{"type": "missing", "loc": ("body",), "msg": "Field required"}], None
        )
    document = parsed(content)
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise problems.validation_problem(
            in_body(_first_errors(error, model, document)), document, list(model.model_fields)
        ) from error


def parsed(content: bytes) -> JsonValue:
    """Parse JSON. Raises MalformedBody, and ValidationProblem for a name that is there twice."""
    try:
        text = content.decode(json.detect_encoding(content), "surrogatepass")
        found: JsonValue = json.loads(text, object_pairs_hook=_object)
    except _NamedTwiceError:
        raise problems.validation_of([_named_twice(text)]) from None
    except (ValueError, RecursionError) as error:
        raise problems.MalformedBody(_reason(error)) from error
    return found


def _reason(error: Exception) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return ""
    return (
        f"line {error.lineno}, column {error.colno}: {error.msg}. {problems.MalformedBody.advice}"
    )


class _NamedTwiceError(Exception):
    pass


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NamedTwiceError
    return found


class _Name(NamedTuple):
    """A name of an object: the pointer of its value, and where in the text it is."""

    pointer: str
    offset: int


def _named_twice(text: str) -> FieldError:
    """Return the error of the first name that an object has twice, with both places."""
    seen: dict[str, int] = {}
    for name in _names(text):
        if name.pointer in seen:
            first, second = _place(text, seen[name.pointer]), _place(text, name.offset)
            return FieldError(
                pointer=name.pointer, message=f"is there twice, at {first} and at {second}"
            )
        seen[name.pointer] = name.offset
    return FieldError(pointer="", message="an object has a name twice")


def _names(text: str) -> Iterator[_Name]:
    """Yield the names of all objects of a JSON text, in its order."""
    path: list[str] = []  # the step into each object or list that is open
    is_object: list[bool] = []
    last: re.Match[str] | None = None
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "{[":
            is_object.append(sign == "{")
            path.append("" if sign == "{" else "0")
        elif sign in "}]":
            is_object.pop()
            path.pop()
        elif sign == "," and not is_object[-1]:
            path[-1] = str(int(path[-1]) + 1)
        elif sign == ":" and last is not None:
            path[-1] = json.loads(last[0])
            yield _Name(json_pointer(path), last.start())
        last = token if sign[0] == '"' else None


def _place(text: str, offset: int) -> str:
    line = text.count("\n", 0, offset) + 1
    return f"line {line}, column {offset - text.rfind(chr(10), 0, offset)}"


def _first_errors(error: ValidationError, model: type[M], document: JsonValue) -> ValidationError:
    """Return the error, or where it lists very many, that of the beginning of each list."""
    if error.error_count() <= MANY_ERRORS:
        return error
    for most in CUTS:
        try:
            model.model_validate(_cut(document, most, _field_names(model)))
        except ValidationError as fewer:
            return fewer
    return error


def _cut(document: JsonValue, most: int, kept: frozenset[str]) -> JsonValue:
    """Return the document with the first items of its lists and objects, and all known fields."""
    if isinstance(document, list):
        return [_cut(item, most, kept) for item in document[:most]]
    if isinstance(document, Mapping):
        return {
            name: _cut(value, most, kept)
            for number, (name, value) in enumerate(document.items())
            if number < most or name in kept
        }
    return document


@cache
def _field_names(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of all fields of a model and of the models within it."""
    schema = model.model_json_schema()
    shapes = [schema, *schema.get("$defs", {}).values()]
    return frozenset(name for shape in shapes for name in shape.get("properties", {}))
