"""What to write instead: a mistake in a spec in one line, with the nearest field or value that
there is.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import JsonValue, ValidationError

from service.specs.json_pointers import pointer_of
from service.specs.schema_fields import MODELS, Field, fields_of
from service.specs.validation_errors import in_body, message_of

NEAR, ELSEWHERE_NEAR = 0.6, 0.75  # likeness, from 0 to 1
LONGEST_VALUE = 60
UNION_NOISE = frozenset(
    {"literal_error", "model_type", "dataclass_type", "too_short", "none_required"}
)
AS_THEY_ARE = frozenset({"missing", "value_error", "assertion_error"})

Document = Mapping[str, JsonValue]


def explain(error: ValidationError, document: Document) -> list[str]:
    """One line for each mistake: the dotted field, what is wrong, and what may stand there."""
    known = fields_of(document)
    found: dict[str, Mapping[str, Any]] = {}
    for wrong in in_body(error):
        pointer = pointer_of(wrong["loc"], wrong["type"], {"spec": document})
        found.setdefault(dotted(pointer), wrong)
    deeper = {
        field
        for field, wrong in found.items()
        if wrong["type"] in UNION_NOISE and any(one.startswith(f"{field}.") for one in found)
    }
    return [
        _line(field, wrong, known, document)
        for field, wrong in found.items()
        if field not in deeper
    ]


def refused(errors: Iterable[Mapping[str, Any]], document: Document) -> list[str]:
    """The same of what the service has found wrong with the document."""
    known = fields_of(document)
    lines = []
    for error in errors:
        field = dotted(str(error.get("pointer", "")))
        entry = known.get(field)
        hint = did_you_mean(str(value_at(document, field)), entry.choices) if entry else ""
        lines.append(f"{field or 'spec'}: {error.get('message', '')}{hint}")
    return lines


def dotted(pointer: str) -> str:
    """The field of a spec that a pointer into a request leads to."""
    return pointer.removeprefix("/spec").strip("/").replace("/", ".")


def unknown(field: str, known: Mapping[str, Field], document: Document) -> str:
    """That a field is not known, and the one that was meant: beside it, of another entry, or in
    another place.
    """
    parent, _, last = field.rpartition(".")
    beside = [name.rpartition(".")[2] for name in known if name.rpartition(".")[0] == parent]
    near = difflib.get_close_matches(last, beside, n=1, cutoff=NEAR)
    same = [
        name for name in known if name.rpartition(".")[2] == last and not name.startswith("grid.")
    ]
    if near and (difflib.SequenceMatcher(None, last, near[0]).ratio() > ELSEWHERE_NEAR or not same):
        return f"is not a known field; did you mean '{_joined(parent, near[0])}'?"
    if elsewhere := _of_another_entry(parent, last, known):
        return elsewhere
    if same:
        return f"is not a known field; did you mean {' or '.join(repr(name) for name in same[:3])}?"
    kinds = [
        kind
        for kind in MODELS
        if kind != document.get("kind") and field in fields_of({"kind": kind})
    ]
    if kinds:
        return f"is a field of `kind: {kinds[0]}`, and this spec is a {document.get('kind')}"
    ends = {name.rpartition(".")[2]: name for name in known if not name.startswith("grid.")}
    far = difflib.get_close_matches(last, ends, n=1, cutoff=ELSEWHERE_NEAR)
    return (
        f"is not a known field; did you mean '{ends[far[0]]}'?"
        if far
        else f"is not a known field; known are {', '.join(beside)}"
    )


def _of_another_entry(parent: str, last: str, known: Mapping[str, Field]) -> str:
    """That a parameter belongs to other entries of the catalogue than the one chosen; "" where none
    has one like it.
    """
    parameters = known[parent].parameters if parent in known else {}
    near = difflib.get_close_matches(last, parameters, n=1, cutoff=ELSEWHERE_NEAR)
    if not near:
        return ""
    tag = f"{parent}.{known[parent].discriminator}"
    return (
        f"is not a field of the one chosen; did you mean '{parent}.{near[0]}', with "
        f"{tag}={' or '.join(parameters[near[0]])}?"
    )


def not_one_of(value: object, choices: Sequence[str]) -> str:
    """That a value is none of the names that may stand there, and the one that was meant."""
    return f"{shown(value)} is not one of {', '.join(choices)}{did_you_mean(str(value), choices)}"


def did_you_mean(text: str, choices: Sequence[str]) -> str:
    """The choice that a text looks most like, as the end of a sentence."""
    if text in choices:
        return ""
    if len(beginning := [choice for choice in choices if text and choice.startswith(text)]) == 1:
        return f"; did you mean {beginning[0]!r}?"
    by_letters = {"".join(filter(str.isalnum, choice.lower())): choice for choice in choices}
    near = difflib.get_close_matches(
        "".join(filter(str.isalnum, text.lower())), by_letters, n=1, cutoff=NEAR
    )
    return f"; did you mean {by_letters[near[0]]!r}?" if near else ""


def shown(value: object) -> str:
    """A value as it is written in a file, shortened."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def value_at(document: JsonValue | Document, field: str) -> JsonValue | Document:
    """What stands in a dotted field; None where nothing does."""
    if not field or document is None:
        return document
    if isinstance(document, Mapping) and field in document:  # a study's grid has dotted keys
        return document[field]
    step, _, rest = field.partition(".")
    if isinstance(document, Mapping):
        return value_at(document.get(step), rest)
    if isinstance(document, list) and step.isdigit() and int(step) < len(document):
        return value_at(document[int(step)], rest)
    return None


def _line(
    field: str, wrong: Mapping[str, Any], known: Mapping[str, Field], document: Document
) -> str:
    kind, message = wrong["type"], message_of(wrong)
    if kind == "extra_forbidden":
        return f"{field}: {unknown(field, known, document)}"
    if kind in AS_THEY_ARE:
        inner = _joined(field, message.partition(": ")[0])
        return (
            f"{inner}: {message.partition(': ')[2]}"
            if inner in known
            else f"{field or 'spec'}: {message}"
        )
    value = value_at(document, field)
    if kind == "union_tag_invalid":
        field = _joined(field, known[field].discriminator or "") if field in known else "kind"
        value = value if isinstance(value, str) else value_at(document, field)
    entry = _entry(field, known)
    if entry is None:
        return f"{field or 'spec'}: {message}"
    return f"{field}: {_expectation(field, entry, value)}"


def _expectation(field: str, entry: Field, value: object) -> str:
    """What may stand in a field in which `value` does not fit."""
    if isinstance(value, str) and entry.choices:
        return not_one_of(value, entry.choices)
    if (
        isinstance(value, str)
        and (name := f"{field}.{entry.discriminator or 'name'}")
        and _is_object(entry)
    ):
        return f"is an object; did you mean '{name}={value}'?"
    if value is None:
        return f"expected {entry.expected}, got nothing"
    listed = (
        f"; did you mean '{field}={json.dumps([value])}'?"
        if entry.expected.startswith("a list") and not isinstance(value, list)
        else ""
    )
    return f"expected {entry.expected}, got {shown(value)}{listed}"


def _is_object(entry: Field) -> bool:
    return "object" in entry.expected


def _entry(field: str, known: Mapping[str, Field]) -> Field | None:
    """The field, or what may stand in the list that it is a place of."""
    parent, _, last = field.rpartition(".")
    return (
        known[parent].item
        if field not in known and last.isdigit() and parent in known
        else known.get(field)
    )


def _joined(*steps: str) -> str:
    return ".".join(step for step in steps if step)
