"""Reads what people write to filter and to sort lists of jobs.

`widths>=256 T2+>0.5 state=done tag:x lr<0.1 "half a name"`: conditions that hold together. Each
is a column, a comparison and a value; values apart by commas mean one of them, `none` that there
is no value. A word alone is a part of a name, or an id. No SQL, no HTTP.
"""

import difflib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ffengine.text import LONGEST_FILTER, shortened
from service.jobs import TERMINAL, JobState
from service.lists.columns import NEAR, Column, UnknownColumn, column_of

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "~"]
Comparable = str | float | None

MOST_CONDITIONS, MOST_VALUES = 20, 50
NOTHING = "none"
UNIT_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
YES, NO = ("yes", "true", "1"), ("no", "false", "0")
# other words for values of a column
STATES = {
    "done": (JobState.succeeded.value,),
    "ended": tuple(state.value for state in JobState if state in TERMINAL),
    "active": tuple(state.value for state in JobState if state not in TERMINAL),
}
EQUALITY: tuple[Operator, ...] = ("=", "!=")
ORDER: tuple[Operator, ...] = ("<", "<=", ">", ">=")

_SPACE = re.compile(r"\s*")
_COMPARISON = re.compile(r"""(?P<column>[^\s<>=!~:"]+)\s*(?P<operator>>=|<=|!=|==|[<>=~:])\s*""")
_VALUE = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+)')
_WORD = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>\S+)')
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>s|min|m|h|d)?")


class FilterError(ValueError):
    """A filter, an order or a list of columns says nothing that is understood, and why."""


@dataclass(frozen=True)
class Condition:
    """That a column compares in this way with one of these values; None: it has no value.

    Without a column it is a part of a name, or an id.
    """

    column: Column | None
    operator: Operator
    values: tuple[Comparable, ...]


@dataclass(frozen=True)
class Order:
    """The order of a list: by a column, the jobs without a value last, then the newest first."""

    column: Column
    descending: bool = False

    @property
    def text(self) -> str:
        """The order as people write it."""
        return f"{'-' if self.descending else ''}{self.column.name}"


def parse_filter(text: str) -> list[Condition]:
    """Read the conditions of a filter. Raises FilterError, which says where it stops."""
    if len(text) > LONGEST_FILTER:
        raise FilterError(f"a filter has at most {LONGEST_FILTER:,} characters, got {len(text):,}")
    found = list(_conditions(text))
    if len(found) > MOST_CONDITIONS:
        raise FilterError(f"a filter has at most {MOST_CONDITIONS} conditions, got {len(found)}")
    return found


def parse_order(text: str) -> Order:
    """Read an order: the name of a column, behind `-` for the largest first. Raises FilterError."""
    stripped = text.strip()
    descending = stripped.startswith("-")
    try:
        return Order(column_of(stripped.removeprefix("-")), descending)
    except UnknownColumn as error:
        raise FilterError(str(error)) from error


def parse_columns(texts: Sequence[str], most: int) -> list[Column]:
    """Read names of columns, apart by commas. Raises FilterError."""
    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    try:
        found = list({column.name: column for column in map(column_of, names)}.values())
    except UnknownColumn as error:
        raise FilterError(str(error)) from error
    if len(found) > most:
        raise FilterError(f"a table has at most {most} columns, got {len(found)}")
    return found


def _conditions(text: str) -> Iterator[Condition]:
    """Yield the conditions of a text, from its beginning to its end."""
    place = _skip(text, 0)
    while place < len(text):
        begins = place
        try:
            if found := _COMPARISON.match(text, place):
                values, place = _values(text, found.end(), found[0].strip())
                yield _condition(found["column"], found["operator"], values)
            else:
                word, place = _word(text, place)
                yield Condition(None, "~", (word,))
        except (FilterError, UnknownColumn) as error:
            given = shortened(text[begins:].split(maxsplit=1)[0], 40)
            raise FilterError(f"at {given!r}, character {begins + 1}: {error}") from error
        place = _skip(text, place)


def _skip(text: str, place: int) -> int:
    """The next place that is no space."""
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _word(text: str, place: int) -> tuple[str, int]:
    """The word that begins there, and where it ends."""
    found = _WORD.match(text, place)
    if found is None or (found["plain"] or "").startswith('"'):
        raise FilterError('a quotation mark is not closed; write ", as in name="my run"')
    if found["quoted"] == "":
        raise FilterError("there is nothing between the quotation marks")
    word = found["plain"] or _unquoted(found["quoted"])
    if re.match(r"[<>=!~:]", word):
        raise FilterError("a comparison needs a column before it, as in lr<0.1")
    return word, found.end()


def _values(text: str, place: int, before: str) -> tuple[list[tuple[str, bool]], int]:
    """The values that begin there, each with whether it is quoted, and where they end."""
    values: list[tuple[str, bool]] = []
    while True:
        found = _VALUE.match(text, place)
        if found is None:
            if text[place : place + 1] == '"':
                raise FilterError('a quotation mark is not closed; write ", as in name="my run"')
            raise FilterError(f"no value stands after {before!r}; write one, as in lr<0.1")
        quoted = found["quoted"] is not None
        values.append((_unquoted(found["quoted"]) if quoted else found["plain"], quoted))
        place = found.end()
        if len(values) > MOST_VALUES:
            raise FilterError(f"at most {MOST_VALUES} values stand apart by commas")
        if text[place : place + 1] != ",":
            return values, place
        place += 1


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _condition(name: str, sign: str, given: Sequence[tuple[str, bool]]) -> Condition:
    """Return a condition whose values are of the column's type."""
    column = column_of(name)
    operator: Operator = _OPERATORS[sign]
    allowed = _allowed(column)
    if operator not in allowed:
        raise FilterError(
            f"{column.name} is {_KINDS[column.type]}: it takes {', '.join(allowed)}, not {sign}"
        )
    values: list[Comparable] = []
    for text, quoted in given:
        if text.lower() == NOTHING and not quoted and column.name != "id":
            values.append(None)
        else:
            values += _typed(column, operator, text)
    if operator not in EQUALITY and (len(values) > 1 or None in values):
        raise FilterError(f"{sign} takes one value; only = and != take several, or none")
    return Condition(column, operator, tuple(values))


_OPERATORS: dict[str, Operator] = {
    "=": "=",
    "==": "=",
    ":": "=",
    "!=": "!=",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
    "~": "~",
}
_KINDS = {
    "number": "a number",
    "text": "a text",
    "flag": "yes or no",
    "time": "a time",
    "duration": "a duration",
}


def _allowed(column: Column) -> tuple[Operator, ...]:
    if column.type in ("number", "duration"):
        return (*EQUALITY, *ORDER)
    if column.type == "time":
        return (*EQUALITY, *ORDER)
    return EQUALITY if column.type == "flag" or column.choices else (*EQUALITY, "~")


def _typed(column: Column, operator: Operator, text: str) -> Sequence[Comparable]:
    """A value of the column's type; several where a word stands for several."""
    if column.type == "number":
        return [_number(column, text)]
    if column.type == "duration":
        return [_duration(column, text)]
    if column.type == "time":
        if operator in EQUALITY:
            raise FilterError(f"{column.name} is a time; compare with < or >, or with none")
        return [_time(column, text)]
    if column.type == "flag":
        return [_flag(column, text)]
    return _choice(column, text) if column.choices else [text]


def _number(column: Column, text: str) -> float:
    percent = text.endswith("%")
    try:
        found = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise FilterError(
            f"{shortened(text, 40)!r} is not a number, and {column.name} is one: write it as 0.1, "
            f"1e-3 or 50%"
        )
    return found


def _duration(column: Column, text: str) -> float:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise FilterError(
            f"{shortened(text, 40)!r} is not a duration; write {column.name}>90s, 10m, 2h or 1d"
        )
    return float(found["number"]) * UNIT_SECONDS[found["unit"] or "s"]


def _time(column: Column, text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise FilterError(
            f"{shortened(text, 40)!r} is not a time; write {column.name}>2026-11-26 or "
            f"2026-11-26T08:00Z"
        ) from None


def _flag(column: Column, text: str) -> float:
    if text.lower() not in (*YES, *NO):
        raise FilterError(f"{column.name} is yes or no, not {shortened(text, 40)!r}")
    return float(text.lower() in YES)


def _choice(column: Column, text: str) -> Sequence[str]:
    lower = text.lower()
    if column.name == "state" and lower in STATES:
        return STATES[lower]
    if lower in column.choices:
        return [lower]
    known = [*column.choices, *(STATES if column.name == "state" else ())]
    near = difflib.get_close_matches(lower[:100], known, n=1, cutoff=NEAR)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    raise FilterError(f"{shortened(text, 40)!r} is not a {column.name}; {hint}")
