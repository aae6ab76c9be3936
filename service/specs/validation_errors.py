"""Converts pydantic's errors about a request to JSON pointers with messages."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from ffengine.text import shortened
from service.specs.json_pointers import pointer_of
from service.specs.suggestions import (
    LONGEST_NAME,
    NEAR,
    Mistake,
    dotted,
    explained,
    plain_message,
)

MAX_REPORTED_ERRORS = 20
# a name or a value of the request may have as many characters as the request
LONGEST_POINTER, LONGEST_MESSAGE = 500, 1_000


class FieldError(BaseModel):
    """One thing that is wrong, and where: a JSON pointer into the body, or the name of a
    parameter.
    """

    pointer: Annotated[str, AfterValidator(lambda text: shortened(text, LONGEST_POINTER))] = Field(
        description="a JSON pointer into the body, which begins with /; or a parameter: "
        "query/NAME, path/NAME or header/NAME; cut where it is very long"
    )
    message: Annotated[str, AfterValidator(lambda text: shortened(text, LONGEST_MESSAGE))]


def field_errors(
    errors: Sequence[Mapping[str, Any]], body: object, known: Sequence[str] = ()
) -> list[FieldError]:
    """Convert pydantic's errors about a request.

    **Arguments:**

    - `errors`: pydantic's, located as FastAPI locates them.
    - `body`: the document that was sent.
    - `known`: the names of the fields that the body may have.

    **Returns:**

    The errors, each with a pointer into the document; at most MAX_REPORTED_ERRORS.
    """
    spec = body.get("spec") if isinstance(body, dict) else None
    about_spec = [error for error in errors if tuple(error["loc"][:2]) == ("body", "spec")]
    if not isinstance(spec, dict) or not about_spec:
        return [_of_body(error, body, known) for error in errors[:MAX_REPORTED_ERRORS]]
    found = [_of_spec(mistake) for mistake in explained(about_spec, spec)]
    others = [error for error in errors if tuple(error["loc"][:2]) != ("body", "spec")]
    found += [_of_body(error, body, known) for error in others[:MAX_REPORTED_ERRORS]]
    return found[:MAX_REPORTED_ERRORS]


def _of_spec(mistake: Mistake) -> FieldError:
    """The error of a mistake; a field that is not in the document is named by the message."""
    absent = mistake.field.removeprefix(dotted(mistake.pointer)).strip(".")
    message = f"{absent}: {mistake.message}" if absent else mistake.message
    return FieldError(pointer=mistake.pointer, message=message)


def _of_body(error: Mapping[str, Any], body: object, known: Sequence[str]) -> FieldError:
    pointer = pointer_of(error["loc"], error["type"], body)
    if error["type"] != "extra_forbidden":
        return FieldError(pointer=pointer, message=plain_message(error))
    message = "is not a known field"
    if known and len(error["loc"]) == 2:  # a field of the body itself
        name = str(error["loc"][1])[:LONGEST_NAME]
        near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
        message += f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
    return FieldError(pointer=pointer, message=message)
