"""What is wrong with a document, and where: pydantic's errors as pointers with messages."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from service.specs.json_pointers import pointer_of

MAX_REPORTED_ERRORS = 20


class FieldError(BaseModel):
    """One thing that is wrong, and where: a JSON pointer into the body, or the name of a
    parameter.
    """

    pointer: str
    message: str


def mistakes(errors: Sequence[Any], body: object) -> list[FieldError]:
    """What pydantic's errors about a request whose body was `body` say."""
    found = [
        FieldError(pointer=pointer_of(error["loc"], error["type"], body), message=message_of(error))
        for error in errors
    ]
    return found[:MAX_REPORTED_ERRORS]


def message_of(error: Mapping[str, Any]) -> str:
    """The message of one of pydantic's errors."""
    if error["type"] == "extra_forbidden":
        return "is not a known field"
    return str(error["msg"]).removeprefix("Value error, ")


def in_body(error: ValidationError) -> list[dict[str, Any]]:
    """The errors of a model that was validated by hand, located as the framework locates those of a
    body.
    """
    return [
        {**found, "loc": ("body", *found["loc"])}
        for found in error.errors(include_url=False, include_context=False)
    ]
