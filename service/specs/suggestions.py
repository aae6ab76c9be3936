"""Says what to write instead: explains a mistake in a spec with the nearest field or value."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue, ValidationError

from ffengine.additions import Catalogue
from ffengine.entry import field_error_of, message_of
from ffengine.plugins import REGISTRY
from service.specs.json_pointers import deepest_pointer, in_body, pointer_of
from service.specs.schema_fields import MODELS, Field, fields_of, fields_of_item

NEAR, ELSEWHERE_NEAR = 0.6, 0.75  # likeness, from 0 to 1
LONGEST_VALUE = 60
LONGEST_NAME = 100  # longer ones resemble no field, and comparing them takes long
MOST_SHOWN = 5  # items of a list or an object that was given in place of something else
MOST_LOOKED_AT = 100  # errors of one document: a hostile one has 100,000
UNION_NOISE = frozenset(
    {"literal_error", "model_type", "dataclass_type", "too_short", "none_required"}
)
UNION_TAGS = frozenset({"union_tag_invalid", "union_tag_not_found"})
AS_THEY_ARE = frozenset({"missing", "value_error", "assertion_error"})
# what pydantic's kinds of error expect, without `_type` and `_parsing`
_EXPECTED = {
    "int": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "a text",
    "list": "a list",
    "tuple": "a list",
    "dict": "an object",
    "model": "an object",
    "model_attributes": "an object",
    "datetime": "a time with its zone, such as 2026-11-26T08:00:00Z",
    "datetime_from_date": "a time with its zone, such as 2026-11-26T08:00:00Z",
    "timezone_aware": "a time with its zone, such as 2026-11-26T08:00:00Z",
}
# the limits of pydantic's errors: the field of the context that has the limit, and the words for it
_LIMITS: dict[str, dict[str, str]] = {
    "ge": {"greater_than_equal": "at least"},
    "gt": {"greater_than": "more than"},
    "le": {"less_than_equal": "at most"},
    "lt": {"less_than": "less than"},
    "max_length": {
        "too_long": "no more items than",
        "string_too_long": "no more characters than",
    },
    "min_length": {
        "too_short": "no fewer items than",
        "string_too_short": "no fewer characters than",
    },
}

# the catalogue that a field of a spec, or an object below it, takes its name from
CATALOGUES: dict[str, Catalogue] = {
    "negatives": "negatives",
    "objective": "objectives",
    "goodness": "goodness",
    "optimizer": "optimizers",
    "activation": "activations",
    "init": "inits",
}

Document = Mapping[str, JsonValue]


class Mistake(NamedTuple):
    """One thing that is wrong with a spec.

    `pointer` leads to the deepest place of the request that is there (or, where a field is missing,
    should be), and `field` is the whole dotted name of the field.
    """

    pointer: str
    field: str
    message: str

    @property
    def line(self) -> str:
        """The mistake in one line, as the command line prints it."""
        return f"{self.field or 'spec'}: {self.message}"


def explain(error: ValidationError, document: Document) -> list[Mistake]:
    """What is wrong with a spec: each field once, with what may stand there."""
    return explained(in_body(error), document)


def explained(errors: Sequence[Mapping[str, Any]], document: Document) -> list[Mistake]:
    """Explain pydantic's errors about a request whose `spec` is `document`."""
    known = fields_of(document)
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for error in errors[:MOST_LOOKED_AT]:
        pointer = pointer_of(error["loc"], error["type"], {"spec": document})
        found.setdefault(dotted(pointer), (pointer, error))
    noise = {
        field
        for field, (_, error) in found.items()
        if error["type"] in UNION_NOISE and any(one.startswith(f"{field}.") for one in found)
    }
    return [
        _mistake(field, pointer, error, known, document)
        for field, (pointer, error) in found.items()
        if field not in noise
    ]


def plain_message(error: Mapping[str, Any]) -> str:
    """What one of pydantic's errors says, in words: what is expected, and what was given."""
    kind, limits = str(error["type"]), error.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if expected := _EXPECTED.get(kind.removesuffix("_parsing").removesuffix("_type")):
        return f"expected {expected}, got {_given(error.get('input'))}"
    if kind in ("enum", "literal_error"):
        choices = re.findall(r"'([^']*)'", str(limits.get("expected", "")))
        return not_one_of(error.get("input"), choices) if choices else message_of(error)
    if kind == "union_tag_not_found":
        return "is missing"
    if kind == "union_tag_invalid":
        return not_one_of(limits["tag"], re.findall(r"'([^']*)'", limits["expected_tags"]))
    if found := next((one for one in _LIMITS if one in limits and kind in _LIMITS[one]), None):
        limit = limits[found]
        shown = f"{limit:g}" if isinstance(limit, float) else f"{limit:,}"
        got = _measured(kind, error.get("input"), limits)
        return f"expected {_LIMITS[found][kind]} {shown}, got {got}"
    return message_of(error)


def _given(value: object) -> str:
    """What was given, in short: a long list or object by its size, which costs less to say."""
    if isinstance(value, list | dict) and len(value) > MOST_SHOWN:
        return f"{'a list' if isinstance(value, list) else 'an object'} of {len(value):,} items"
    return "nothing" if value is None else format_value(value)


def _measured(kind: str, value: object, limits: Mapping[str, Any]) -> str:
    """What a value that passes a limit has: itself, its items, or its characters."""
    if "actual_length" in limits:
        return f"{limits['actual_length']:,}"
    if kind.startswith("string") and isinstance(value, str):
        return f"{len(value):,}"
    return _given(value)


def explain_refused(errors: Iterable[Mapping[str, Any]], document: Document) -> list[str]:
    """One line for each error of a problem document that the service sent about a spec."""
    known = fields_of(document)
    lines = []
    for error in errors:
        field, message = dotted(str(error.get("pointer", ""))), str(error.get("message", ""))
        entry = known.get(field)
        if entry and "did you mean" not in message:  # an older service makes no suggestions
            message += did_you_mean(str(value_at(document, field)), entry.choices)
        lines.append(f"{field or 'spec'}: {message}")
    return lines


def dotted(pointer: str) -> str:
    """The field of a spec that a pointer into a request leads to."""
    return pointer.removeprefix("/spec").strip("/").replace("/", ".")


def unknown(field: str, known: Mapping[str, Field], document: Document) -> str:
    """Say that a field is not known, and suggest one: beside it, of another entry, or elsewhere."""
    parent, _, last = field[:LONGEST_NAME].rpartition(".")
    listed, _, place = parent.rpartition(".")
    if place.isdigit() and listed in known:
        known = {**known, **fields_of_item(known[listed], value_at(document, parent), parent)}
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
    if far:
        return f"is not a known field; did you mean '{ends[far[0]]}'?"
    return "is not a known field" + (f"; known are {', '.join(beside)}" if beside else "")


def _of_another_entry(parent: str, last: str, known: Mapping[str, Field]) -> str:
    """Say that a parameter belongs to other entries of the catalogue; "": none has one like it."""
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
    """Say that a value is none of the allowed names, and suggest the nearest one."""
    hint = did_you_mean(str(value), choices)
    return f"{format_value(value)} is not one of {', '.join(choices)}{hint}"


def did_you_mean(text: str, choices: Sequence[str]) -> str:
    """Suggest the choice that a text looks most like, as the end of a sentence."""
    text = text[:LONGEST_NAME]
    if text in choices:
        return ""
    if len(beginning := [choice for choice in choices if text and choice.startswith(text)]) == 1:
        return f"; did you mean {beginning[0]!r}?"
    by_letters = {"".join(filter(str.isalnum, choice.lower())): choice for choice in choices}
    near = difflib.get_close_matches(
        "".join(filter(str.isalnum, text.lower())), by_letters, n=1, cutoff=NEAR
    )
    return f"; did you mean {by_letters[near[0]]!r}?" if near else ""


def format_value(value: object) -> str:
    """A value as it is written in a file, shortened."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def value_at(document: JsonValue | Document, field: str) -> JsonValue | Document:
    """The value of a dotted field; None where there is none."""
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


def _mistake(
    field: str,
    pointer: str,
    error: Mapping[str, Any],
    known: Mapping[str, Field],
    document: Document,
) -> Mistake:
    """Explain one of pydantic's errors, about the field that its location leads to."""
    kind, body = error["type"], {"spec": document}
    if kind == "extra_forbidden":
        return Mistake(pointer, field, unknown(field, known, document))
    if cause := field_error_of(error):
        deeper, _ = deepest_pointer(error["loc"], cause.path, kind, body)
        return Mistake(deeper, _joined(field, *cause.path), cause.message)
    if kind in AS_THEY_ARE:
        return Mistake(pointer, field, plain_message(error))
    value = value_at(document, field)
    if kind in UNION_TAGS:
        # an item of a list is no field that is known by its name
        own = str(error.get("ctx", {}).get("discriminator", "")).strip("'")
        tag = (known[field].discriminator or "") if field in known else own
        pointer, _ = deepest_pointer(error["loc"], [tag], kind, body)
        field = _joined(field, tag)
        value = value if isinstance(value, str) else value_at(document, field)
    if reason := _of_refused_plugin(field, value):
        return Mistake(pointer, field, reason)
    entry = _entry(field, known)
    message = _expectation(field, entry, value) if entry else plain_message(error)
    return Mistake(pointer, field, message)


def _of_refused_plugin(field: str, value: object) -> str | None:
    """Say why an entry of an installed plug-in cannot be used; None: the value is none of these."""
    steps = [step for step in field.split(".") if step in CATALOGUES]
    if not steps or not isinstance(value, str):
        return None
    return REGISTRY.why_refused(CATALOGUES[steps[-1]], value)


def _expectation(field: str, entry: Field, value: object) -> str:
    """Say what may stand in a field that does not take `value`."""
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
    return f"expected {entry.expected}, got {format_value(value)}{listed}"


def _is_object(entry: Field) -> bool:
    return "object" in entry.expected


def _entry(field: str, known: Mapping[str, Field]) -> Field | None:
    """The field of that name, or of a list with such an item; None: there is none."""
    parent, _, last = field.rpartition(".")
    return (
        known[parent].item
        if field not in known and last.isdigit() and parent in known
        else known.get(field)
    )


def _joined(*steps: str) -> str:
    return ".".join(step for step in steps if step)
