"""JSON pointers into the document that a user sent."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ffengine.entry import json_pointer

# the discriminator of each field that holds a discriminated union
UNIONS = {"spec": "kind", "base": "kind", "negatives": "strategy", "objective": "name"}
UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")


def pointer_of(location: Sequence[int | str], kind: str, body: object) -> str:
    """The JSON pointer, into the user's own document, of pydantic's location.

    pydantic adds steps that are not in the document: the tag of a discriminated union behind the
    field that holds it, and the names of a plain union's members. They are left out. The last step
    of a field that is missing is kept. Parameters of path, query and header are named as they are.
    """
    if not location or location[0] != "body":
        return "/".join(str(step) for step in location)
    steps: list[str] = []
    here, discriminator = body, None
    for number, step in enumerate(location[1:], 1):
        if discriminator and isinstance(here, dict) and here.get(discriminator) == step:
            discriminator = None  # the tag itself, even where the document has a field of that name
            continue
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and str(step).isdecimal() and int(step) < len(here):
            here = here[int(step)]  # fields of specs that say what is wrong have texts alone
        elif kind != "missing" or number != len(location) - 1:
            continue
        discriminator = UNIONS.get(str(step))
        steps.append(str(step))
    return json_pointer(steps)


def in_body(error: ValidationError) -> list[dict[str, Any]]:
    """The errors of a model validated by hand, located as FastAPI locates those of a body."""
    return [{**found, "loc": ("body", *found["loc"])} for found in error.errors(include_url=False)]


def deepest_pointer(
    location: Sequence[int | str], path: Sequence[str], kind: str, body: object
) -> tuple[str, Sequence[str]]:
    """The pointer of the deepest step of `path`, below a location, that is in the user's document.

    Returns the pointer, and the steps of the path that are not in the document.
    """
    pointer, found = pointer_of(location, kind, body), 0
    for count in range(1, len(path) + 1):
        deeper = pointer_of((*location, *path[:count]), kind, body)
        if not deeper.endswith(json_pointer(path[:count])) or len(deeper) <= len(pointer):
            break
        pointer, found = deeper, count
    return pointer, path[found:]


def unstorable(document: object) -> str | None:
    """The pointer of a text that no database stores (NUL, half of a surrogate pair); None: none."""
    waiting: list[tuple[str, object]] = [("", document)]
    while waiting:
        pointer, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(pointer, key) for key in value]
            waiting += [(pointer + json_pointer([str(key)]), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{pointer}/{index}", inner) for index, inner in enumerate(value)]
        elif isinstance(value, str) and UNSTORABLE.search(value):
            return pointer
    return None
