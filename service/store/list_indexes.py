"""Which index a list of jobs is read by, so that it costs the same however many jobs there are.

For each filter there is an index of the jobs that are no runs of studies, and one of the runs; each
is in the order of ids, and has all that counting needs. PostgreSQL finds them by its statistics.
SQLite, which keeps none here, is told.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from sqlalchemy import Select

from service.store.tables import JobRow

Query = TypeVar("Query", bound=Select[*tuple[Any, ...]])
ANY_STUDY = "any"  # as the parent that is asked for: the runs of all studies
# the index of each filter, the most selective first
_OF_FILTERS: Mapping[str, str] = {
    "name": "name",
    "search": "name",
    "project": "project",
    "submitted_by": "owner",
    "created_after": "time",
    "created_before": "time",
    "kind": "kind",
    "state": "state",
}


def list_index(**filters: Any) -> str | None:
    """The index by which jobs that pass filters are listed; None: the database chooses one.

    `filters` are those of Jobs.filtered.
    """
    parent = filters.get("parent")
    if filters.get("children") or parent not in (None, ANY_STUDY):
        return None
    given = next((index for name, index in _OF_FILTERS.items() if filters.get(name)), None)
    return given and f"jobs_{'runs' if parent else 'alone'}_by_{given}"


def counting_index(**filters: Any) -> str | None:
    """The index by which jobs that pass filters are counted; None: the database chooses one."""
    if found := list_index(**filters):
        return found
    if filters.get("children") or filters.get("tag") or filters.get("where"):
        return None
    parent = filters.get("parent")
    if parent not in (None, ANY_STUDY):
        return "jobs_of_parent"
    return f"jobs_{'runs' if parent else 'alone'}_by_state"


def by_index(query: Query, index: str | None) -> Query:
    """A query of jobs that SQLite reads by an index."""
    return query if index is None else query.with_hint(JobRow, f"INDEXED BY {index}", "sqlite")
