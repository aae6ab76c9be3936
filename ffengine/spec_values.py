"""Values of a spec in words, and as cells of a table."""

import json
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from typing import TypeGuard

from pydantic import JsonValue

LARGEST_WHOLE = 1e15  # of a float that is spelled out; larger ones have an exponent
NAMING = ("name", "strategy")  # fields that say which entry of a catalogue an object is

Scalar = str | int | float | bool | None


def value_in_words(value: JsonValue) -> str:
    """Write a value in words: a list by its members, an object by its name and its fields.

    **Arguments:**

    - `value`: of a field.

    **Returns:**

    The words, such as `8 · 16` or `sgd lr 0.5`.
    """
    if isinstance(value, list):
        return " · ".join(value_in_words(one) for one in value)
    if isinstance(value, Mapping):
        names = [value_in_words(value[field]) for field in NAMING if field in value]
        fields = [
            f"{field} {value_in_words(one)}" for field, one in value.items() if field not in NAMING
        ]
        return " ".join([*names, *fields])
    return value if isinstance(value, str) else json.dumps(plain(value))


def plain(value: JsonValue) -> JsonValue:
    """Give a number one spelling: 2 and 2.0 are the same value of a field.

    **Arguments:**

    - `value`: of a field.

    **Returns:**

    The value, each whole number in it as an integer.
    """
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {field: plain(one) for field, one in value.items()}
    if isinstance(value, float) and value.is_integer() and abs(value) < LARGEST_WHOLE:
        return int(value)
    return value


def params_in_words(params: Mapping[str, JsonValue]) -> str:
    """Write the varied fields of a run with their values.

    **Arguments:**

    - `params`: the values by dotted field.

    **Returns:**

    The words, such as `lr 0.5, widths 8 · 8, seed 3`; a field is named by its last part where that
    tells it from the others.
    """
    short = Counter(_last_name(field) for field in params)
    return ", ".join(
        f"{_field_in_words(field, value, is_short=short[_last_name(field)] == 1)} "
        f"{value_in_words(value)}"
        for field, value in params.items()
    )


def _field_in_words(field: str, value: JsonValue, *, is_short: bool) -> str:
    if field == "seeds" and isinstance(value, list) and len(value) == 1:
        return "seed"
    return _last_name(field) if is_short else field


def _last_name(field: str) -> str:
    """The last step of a dotted field; a place in a list has the list's name before it."""
    *_, above, last = ("", *field.split("."))
    return f"{above}.{last}" if last.isdigit() else last


def flatten(document: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """Return the values of a nested document by dotted fields.

    **Arguments:**

    - `document`: the document.
    - `prefix`: what stands before each field, with its dot.

    **Returns:**

    The values.
    """
    found: dict[str, JsonValue] = {}
    for name, value in document.items():
        field = f"{prefix}{name}"
        found |= flatten(value, f"{field}.") if isinstance(value, dict) else {field: value}
    return found


def varied_columns(
    runs: Sequence[Mapping[str, JsonValue]], taken: Container[str]
) -> list[dict[str, Scalar]]:
    """Return a column for each field that a study varies.

    A list of one is its item. A column has numbers, or texts where one of its values is no number.

    **Arguments:**

    - `runs`: for each run its varied fields with their values.
    - `taken`: names that other columns of the table have; a field of that name is `params.NAME`.

    **Returns:**

    For each run its cells by column.
    """
    found = [{field: _item(value) for field, value in params.items()} for params in runs]
    worded = {field for params in found for field, value in params.items() if not _is_number(value)}
    return [
        {
            f"params.{field}" if field in taken else field: _cell(value, in_words=field in worded)
            for field, value in params.items()
        }
        for params in found
    ]


def _cell(value: JsonValue, *, in_words: bool) -> Scalar:
    """Return a value as one cell of a table; a missing one stays missing."""
    if value is None or (not in_words and _is_number(value)):
        return value
    return value_in_words(value)


def _item(value: JsonValue) -> JsonValue:
    """Return what a list of one holds; other values stay as they are."""
    return _item(value[0]) if isinstance(value, list) and len(value) == 1 else value


def _is_number(value: JsonValue) -> TypeGuard[Scalar]:
    """Whether a value can be in a column of numbers, where it may be missing."""
    return value is None or isinstance(value, bool | int | float)
