"""Explains the mistakes of specs that a script constructs, as those of a spec file."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from service.specs.schema_fields import MODELS
from service.specs.suggestions import explained, value_at


def explain_construction(
    model: str, fields: Mapping[str, Any], error: ValidationError
) -> ValidationError:
    """Return the error with each of its messages in the words of the command line.

    **Arguments:**

    - `model`: the name of the class.
    - `fields`: the arguments of its constructor.
    - `error`: pydantic's error about them.
    """
    kinds = {name: kind for kind, name in MODELS.items()}
    document = {"kind": kinds[model], **json.loads(json.dumps(fields, default=_plain))}
    located = [
        {**found, "loc": ("body", "spec", kinds[model], *found["loc"])}
        for found in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(
        model,
        [
            InitErrorDetails(
                type=PydanticCustomError("spec", "{message}", {"message": mistake.message}),
                loc=tuple(mistake.field.split(".")) if mistake.field else (),
                input=value_at(document, mistake.field),
            )
            for mistake in explained(located, document)
        ],
    )


def _plain(value: object) -> object:
    """A value as JSON has it, near enough to be shown in a message."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_unset=True)
    return list(value) if isinstance(value, set | frozenset | range) else str(value)
