"""What a request asks of a list of jobs: which pass, in which order, with which columns."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import JsonValue

from ffengine.text import visible
from service.jobs import Job
from service.lists.columns import MOST_COLUMNS, Column, as_json, values_of
from service.lists.conditions import (
    Condition,
    FilterError,
    Order,
    parse_columns,
    parse_filter,
    parse_order,
)
from service.store import Store
from service.web import problems

Asked = TypeVar("Asked")


def asked_filter(where: str | None) -> list[Condition]:
    """The conditions of the parameter `where`. Raises ValidationProblem."""
    return _read("where", lambda: parse_filter(where or ""))


def asked_order(sort: str | None) -> Order | None:
    """The order of the parameter `sort`. Raises ValidationProblem."""
    return _read("sort", lambda: parse_order(sort)) if sort is not None else None


def asked_columns(names: Sequence[str]) -> list[Column]:
    """The columns of the parameter `columns`. Raises ValidationProblem."""
    return _read("columns", lambda: parse_columns(names, MOST_COLUMNS))


def json_values(
    store: Store, jobs: Sequence[Job], columns: Sequence[Column]
) -> list[dict[str, JsonValue]]:
    """The values of each job in some columns, by the name of the column."""
    headlines = store.jobs.headlines(jobs)
    now = time.time()
    return [
        {
            name: as_json(value)
            for name, value in values_of(columns, job, headlines[job.id].figures, now).items()
        }
        for job in jobs
    ]


def _read(parameter: str, read: Callable[[], Asked]) -> Asked:
    try:
        return read()
    except FilterError as error:
        raise problems.field_problem(f"query/{parameter}", visible(str(error))) from error
