"""Which workers understand a job's spec, in SQL.

A job needs a version of specs (ffengine.spec_versions), and a worker of today claims none that
needs a newer one than it knows. Workers from before there were such versions claim every queued job
that waits for no other. So a job that they do not understand waits for itself: they pass it, and
whoever knows versions takes it for one that waits for none.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, null, or_

from ffengine.spec_versions import FIRST_VERSION
from service.store.tables import JobRow, WorkerRow

NEEDED = func.coalesce(JobRow.spec_version, FIRST_VERSION)
# jobs that wait for no other one
LEADS: ColumnElement[bool] = or_(JobRow.waits_for.is_(None), JobRow.waits_for == JobRow.id)
FOLLOWS: ColumnElement[bool] = and_(JobRow.waits_for.is_not(None), JobRow.waits_for != JobRow.id)
# what a job waits for that is to wait for no other one
WAITS_FOR_NONE: ColumnElement[Any] = case((NEEDED > FIRST_VERSION, JobRow.id), else_=null())
# that a worker understands a job's spec
UNDERSTANDS = func.coalesce(WorkerRow.spec_version, FIRST_VERSION) >= NEEDED


def understood(version: int) -> ColumnElement[bool]:
    """The jobs whose specs are understood by programs that know this version."""
    return version >= NEEDED


def waits_for_itself(job_id: str, version: int | None) -> str | None:
    """What a new job waits for that waits for no other one."""
    return job_id if (version or FIRST_VERSION) > FIRST_VERSION else None
