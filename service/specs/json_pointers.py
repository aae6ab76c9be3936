"""JSON pointers into the document that a user sent."""

import re
from collections.abc import Sequence

UNIONS = {
    "spec": "kind",
    "base": "kind",
    "negatives": "strategy",
    "objective": "name",
}  # field -> its discriminator
UNSTORABLE = re.compile("[\\x00\\ud800-\\udfff]")


def pointer_of(location: Sequence[int | str], kind: str, body: object) -> str:
    """The JSON pointer, into the user's own document, of pydantic's location.

    pydantic puts the tag of a discriminated union behind the field that holds it, and the names of
    the members of a plain
    one: those are left out. The last step of a field that is missing is kept. Parameters of path,
    query and header are
    named as they are.
    """
    if not location or location[0] != "body":
        return "/".join(str(step) for step in location)
    steps: list[str] = []
    here, discriminator = body, None
    for place, step in enumerate(location[1:], 1):
        if discriminator and isinstance(here, dict) and here.get(discriminator) == step:
            discriminator = None  # the tag itself, even where the document has a field of that name
            continue
        if (isinstance(here, dict) and step in here) or (
            isinstance(here, list) and isinstance(step, int) and step < len(here)
        ):
            here = here[step]  # type: ignore[index]
        elif kind != "missing" or place != len(location) - 1:
            continue
        discriminator = UNIONS.get(str(step))
        steps.append(str(step))
    return "".join(f"/{escaped(step)}" for step in steps)


def unstorable(document: object) -> str | None:
    """Where a text of a JSON document holds what no database stores: NUL, or half of a surrogate
    pair.
    """
    waiting: list[tuple[str, object]] = [("", document)]
    while waiting:
        pointer, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(pointer, key) for key in value]
            waiting += [(f"{pointer}/{escaped(str(key))}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{pointer}/{place}", inner) for place, inner in enumerate(value)]
        elif isinstance(value, str) and UNSTORABLE.search(value):
            return pointer
    return None


def escaped(step: str) -> str:
    """One step of a pointer (RFC 6901)."""
    return step.replace("~", "~0").replace("/", "~1")
