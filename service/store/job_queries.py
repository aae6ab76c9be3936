"""SQL of the columns that lists of jobs are filtered and sorted by, for SQLite and PostgreSQL.

Values in JSON documents are compared only where they have the type of their column.
"""

from collections.abc import Callable, Iterable
from functools import reduce
from operator import eq, ge, gt, le, lt
from typing import Any
from typing import cast as cast_to

from pydantic import JsonValue
from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    SQLColumnExpression,
    String,
    TableValuedAlias,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    literal_column,
    not_,
    null,
    or_,
    select,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION

from ffengine.entry import entries, name_of
from ffengine.spec import RunSpec
from ffengine.spec_versions import later_defaults
from service.jobs import JobState
from service.lists.columns import Column
from service.lists.conditions import Comparable, Condition, Order
from service.store.inserts import PRIORITIES
from service.store.tables import JobRow, statement_seconds

Compare = Callable[[Any, Any], Any]
_COMPARE: dict[str, Compare] = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}
# as people look for them: what is under way first
_STATES_IN_ORDER = (
    JobState.running,
    JobState.queued,
    JobState.paused,
    JobState.failed,
    JobState.cancelled,
    JobState.succeeded,
)
_TYPES_IN_SQLITE = {"number": ("integer", "real"), "text": ("text",), "flag": ("true", "false")}
_TYPES_IN_POSTGRESQL = {"number": "number", "text": "string", "flag": "boolean"}
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$"
Expression = SQLColumnExpression[Any]
Test = ColumnElement[bool]


class JobQueries:
    """Conditions and orders in SQL, for one of the two databases."""

    def __init__(self, *, is_sqlite: bool) -> None:
        self._is_sqlite = is_sqlite

    def where(self, conditions: Iterable[Condition]) -> list[Test]:
        """Every condition in SQL; they hold together."""
        return [self._matches(one) for one in conditions]

    def has_value(self, column: Column) -> Test:
        """That a job has a value in a column."""
        return self.value(column).is_not(None)

    def value(self, column: Column) -> Expression:
        """What a list is sorted by: of several values the largest number, or the first text."""
        if column.several:
            return self._of_several(column)
        if column.group == "job":
            return _OF_JOB[column.name]()
        document = JobRow.figures if column.group == "figure" else JobRow.spec
        found = [self._or_default(column, path, document) for path in column.paths]
        return func.coalesce(*found) if len(found) > 1 else found[0]

    def _matches(self, condition: Condition) -> Test:
        column, operator = condition.column, condition.operator
        if column is None:
            word = str(condition.values[0])
            return JobRow.name.icontains(word, autoescape=True) | (JobRow.id == word)
        if operator == "!=":
            return not_(self._is_one_of(column, condition.values))
        if operator == "=":
            return self._is_one_of(column, condition.values)
        if column.several:
            return self._some(column, operator, condition.values[0])
        return func.coalesce(
            _compared(self.value(column), operator, self._bound(column, condition.values[0])),
            false(),
        )

    def _is_one_of(self, column: Column, values: tuple[Comparable, ...]) -> Test:
        """That the value is one of these, never null."""
        found: list[Test] = []
        for value in values:
            if value is None:
                found.append(self.value(column).is_(None))
            elif column.several:
                found.append(self._some(column, "=", value))
            else:
                same = self.value(column) == self._bound(column, value)
                found.append(func.coalesce(same, false()))
        return reduce(or_, found)

    @staticmethod
    def _bound(column: Column, value: Comparable) -> object:
        """A value as the database holds it."""
        if column.name == "priority":
            return PRIORITIES.index(str(value))
        if column.name == "state":
            return _STATES_IN_ORDER.index(JobState(str(value)))
        return value

    # Values in JSON

    def _typed(self, document: Expression, column: Column, path: tuple[str, ...]) -> Expression:
        """The value at a path of a document, null where it has another type than the column."""
        if self._is_sqlite:
            place = "$" + "".join(f'."{step}"' for step in path)
            known: Test = func.json_type(document, place).in_(_TYPES_IN_SQLITE[column.type])
            return case((known, func.json_extract(document, place, type_=_sql_type(column))))
        inner = func.json_extract_path(document, *path)
        right: Test = func.json_typeof(inner) == _TYPES_IN_POSTGRESQL[column.type]
        text = func.json_extract_path_text(document, *path, type_=String())
        return case((right, _from_text(text, column)))

    def _or_default(
        self, column: Column, path: tuple[str, ...], document: Expression
    ) -> Expression:
        """The value at a path; where a stored spec leaves it out, the default that it had then."""
        value = self._typed(document, column, path)
        kinds = _LEFT_OUT.get(path) if column.group == "spec" else None
        if kinds is None:
            return value
        defaults = [(JobRow.kind == kind, literal(_bound(one))) for kind, one in kinds.items()]
        return func.coalesce(value, case(*defaults))

    def _of_several(self, column: Column) -> Expression:
        """The largest number or the first text of a column of several values."""
        largest = func.max if column.type == "number" else func.min
        found = [
            select(largest(value)).select_from(source).scalar_subquery()
            for source, value in self._each(column)
        ]
        return func.coalesce(*found) if len(found) > 1 else found[0]

    def _some(self, column: Column, operator: str, value: Comparable) -> Test:
        """That one of several values compares so."""
        return reduce(
            or_,
            (
                exists(select(1).select_from(source).where(_compared(each, operator, value)))
                for source, each in self._each(column)
            ),
        )

    def _each(self, column: Column) -> Iterable[tuple[TableValuedAlias, Expression]]:
        """The values of a column as tables of one column, for each of its paths."""
        paths = column.paths or ((),)
        document = JobRow.spec if column.paths else JobRow.tags
        for path in paths:
            yield self._elements(document, column, path)

    def _elements(
        self, document: Expression, column: Column, path: tuple[str, ...]
    ) -> tuple[TableValuedAlias, Expression]:
        if self._is_sqlite:
            place = "$" + "".join(f'."{step}"' for step in path)
            table = func.json_each(document, place).table_valued("value", "type", name="each")
            right = table.c.type.in_(_TYPES_IN_SQLITE[column.type])
            return table, case((right, type_coerce(table.c.value, _sql_type(column))))
        inner = func.json_extract_path(document, *path) if path else document
        listed = case(
            (func.json_typeof(inner) == "array", inner), else_=literal_column("'[]'::json")
        )
        table = func.json_array_elements_text(listed).table_valued("value", name="each")
        text = type_coerce(table.c.value, String())
        if column.type != "number":
            return table, text
        return table, case((text.regexp_match(_NUMBER), cast(text, DOUBLE_PRECISION())))


def ordered(query: Select[str, int], value: Expression, order: Order) -> Select[str, int]:
    """A query in an order: jobs without a value last, then the newest first."""
    direction = value.desc() if order.descending else value.asc()
    return query.order_by(case((value.is_(None), 1), else_=0), direction, JobRow.id.desc())


def behind(value: Expression, order: Order, last_id: str, *, has_value: bool) -> Test:
    """That a job stands behind the one of this id in the order.

    Both values are read by one statement: how long jobs have run changes all the time.

    **Arguments:**

    - `has_value`: whether the job of this id has one.
    """
    earlier = JobRow.id < last_id
    if not has_value:
        return and_(value.is_(None), earlier)
    last = select(value).where(JobRow.id == last_id).correlate(None).scalar_subquery()
    further = value < last if order.descending else value > last
    return or_(value.is_(None), further, and_(value == last, earlier))


def _compared(value: Expression, operator: str, bound: object) -> Test:
    if operator == "~":
        part: Test = value.icontains(str(bound), autoescape=True)
        return part
    found: Test = _COMPARE[operator](value, bound)
    return found


def _sql_type(column: Column) -> Float[float] | String:
    return String() if column.type == "text" else Float()


def _from_text(text: Expression, column: Column) -> Expression:
    if column.type == "number":
        return cast(text, DOUBLE_PRECISION())
    return case((text == "true", 1.0), else_=0.0) if column.type == "flag" else text


def _state() -> Expression:
    ranks = {state.value: rank for rank, state in enumerate(_STATES_IN_ORDER)}
    return case(ranks, value=JobRow.state)


def _duration() -> Expression:
    return case(
        (JobRow.state == JobState.queued.value, null()),
        else_=func.coalesce(JobRow.finished_at, statement_seconds()) - JobRow.started_at,
    )


def _in_json(column: Expression, name: str) -> Expression:
    found: Expression = column[name].as_string()
    return found


def _left_out() -> dict[tuple[str, ...], dict[str, JsonValue]]:
    """The defaults of fields that stored specs may leave out: by path, then by kind of job."""
    found: dict[tuple[str, ...], dict[str, JsonValue]] = {}
    for spec in entries(RunSpec):
        for path, default in later_defaults(spec).items():
            found.setdefault(path, {})[name_of(spec, "kind")] = default
    return found


def _bound(value: JsonValue) -> str | float:
    """A value of a spec as `_typed` has it."""
    return value if isinstance(value, str) else float(cast_to("Any", value))


_LEFT_OUT = _left_out()
_OF_JOB: dict[str, Callable[[], Expression]] = {
    "name": lambda: JobRow.name,
    "id": lambda: JobRow.id,
    "kind": lambda: JobRow.kind,
    "state": _state,
    "progress": lambda: JobRow.fraction,
    "priority": lambda: JobRow.priority,
    "project": lambda: JobRow.project,
    "note": lambda: JobRow.note,
    "owner": lambda: JobRow.submitted_by,
    "pinned": lambda: case((JobRow.pinned, literal(1.0)), else_=literal(0.0)),
    "cached": lambda: case((JobRow.cached_from.is_not(None), literal(1.0)), else_=literal(0.0)),
    "duration": _duration,
    "submitted": lambda: JobRow.created_at,
    "started": lambda: JobRow.started_at,
    "finished": lambda: JobRow.finished_at,
    "attempts": lambda: cast(JobRow.attempt, Float),
    "device": lambda: JobRow.device_class,
    "error": lambda: _in_json(JobRow.error, "code"),
    "part": lambda: _in_json(JobRow.place, "part"),
    "run": lambda: cast(JobRow.cell, Float),
}
