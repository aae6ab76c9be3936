"""What is used, by owner, project or device: jobs, seconds of devices, bytes of artifacts.

Jobs that are deleted leave what they used in `past_usage`, by the day on which they ended, so that
a sum does not shrink when somebody tidies up.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Integer, case, cast, func, or_, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from service.encoding.viewer import VIEWER
from service.schemas import UsageLine, UsagePage
from service.store.database import Database
from service.store.tables import JobRow, PastUsageRow, UploadRow
from service.store.visibility import visible

By = Literal["owner", "project", "device"]
DAY_SECONDS = 86_400
AT_ONCE = 500
_OF_JOBS = {"owner": JobRow.submitted_by, "project": JobRow.project, "device": JobRow.device_class}
_OF_PAST = {
    "owner": PastUsageRow.owner,
    "project": PastUsageRow.project,
    "device": PastUsageRow.device,
}
_IS_JOB = case((JobRow.parent_id.is_(None), 1), else_=0)
_SUMS = (
    func.sum(_IS_JOB).label("jobs"),
    func.sum(1 - _IS_JOB).label("runs"),
    func.sum(JobRow.cpu_seconds).label("cpu_seconds"),
    func.sum(JobRow.gpu_seconds).label("gpu_seconds"),
)
_PAST_SUMS = tuple(
    func.sum(getattr(PastUsageRow, name)).label(name)
    for name in ("jobs", "runs", "cpu_seconds", "gpu_seconds")
)


class Usage:
    """Says what is used, and notes how much room artifacts take up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, by: By, since: datetime | None = None) -> UsagePage:
        """Sum up what is used, the largest use of devices first.

        **Arguments:**

        - `by`: what each line is of.
        - `since`: only jobs that have not ended, or ended at that time or later; of deleted jobs,
          those that ended on that day (UTC) or later. None: all.
        """
        seconds = None if since is None else since.timestamp()
        with self._database.reading() as session:
            lines = _jobs(session, by, seconds)
            for name, past in _past(session, by, seconds).items():
                for figure, more in past.items():
                    lines.setdefault(name, _nothing())[figure] += more
            uploads = _uploads(session) if by == "owner" else {}
        for name, size in uploads.items():
            lines.setdefault(name, _nothing())["upload_bytes"] = size
        found = [
            UsageLine(name=name, **{"upload_bytes": 0 if by == "owner" else None} | figures)
            for name, figures in lines.items()
        ]
        found.sort(key=lambda one: (-one.cpu_seconds - one.gpu_seconds, one.name or ""))
        return UsagePage(by=by, since=since and since.astimezone(UTC), items=found)

    def note_sizes(self, sizes: Mapping[str, int]) -> None:
        """Store how many bytes the artifacts of these jobs take up, where that has changed."""
        ids = list(sizes)
        for start in range(0, len(ids), AT_ONCE):
            some = ids[start : start + AT_ONCE]
            known = select(JobRow.id, JobRow.artifact_bytes).where(JobRow.id.in_(some))
            with self._database.reading() as session:
                changed = [
                    {"id": job_id, "artifact_bytes": sizes[job_id]}
                    for job_id, size in session.execute(known)
                    if size != sizes[job_id]
                ]
            if changed:
                with self._database.writing() as session:
                    session.bulk_update_mappings(JobRow, changed)


def keep_usage(session: Session, which: ColumnElement[bool], *, is_sqlite: bool) -> None:
    """Keep what jobs have used that are about to be deleted."""
    # the end of each job that may be deleted is known; a column that counts needs one all the same
    ended = func.coalesce(JobRow.finished_at, JobRow.created_at)
    keys = (
        cast(func.floor(ended / DAY_SECONDS), Integer).label("day"),
        func.coalesce(JobRow.submitted_by, "").label("owner"),
        func.coalesce(JobRow.project, "").label("project"),
        func.coalesce(JobRow.device_class, "").label("device"),
        JobRow.private.label("private"),
    )
    names = [one.name for one in (*keys, *_SUMS)]
    gone = select(*keys, *_SUMS).where(which).group_by(*(one.element for one in keys))
    make = sqlite.insert if is_sqlite else postgresql.insert
    kept = make(PastUsageRow).from_select(names, gone)
    summed = {
        one.name: getattr(PastUsageRow, one.name) + getattr(kept.excluded, one.name)
        for one in _SUMS
    }
    session.execute(
        kept.on_conflict_do_update(index_elements=[one.name for one in keys], set_=summed)
    )


def bytes_of(session: Session, owner: str) -> int:
    """How many bytes the artifacts of an owner's jobs take up; a partial index has it."""
    of_owner = (JobRow.submitted_by == owner, JobRow.artifact_bytes > 0)
    return int(session.scalar(select(func.sum(JobRow.artifact_bytes)).where(*of_owner)) or 0)


def _nothing() -> dict[str, Any]:
    return {"jobs": 0, "runs": 0, "cpu_seconds": 0.0, "gpu_seconds": 0.0, "artifact_bytes": 0}


def _jobs(session: Session, by: By, since: float | None) -> dict[str | None, dict[str, Any]]:
    """What the jobs have used that are there, of each owner, project or device."""
    column = _OF_JOBS[by]
    size = func.sum(JobRow.artifact_bytes).label("artifact_bytes")
    query = select(column, *_SUMS, size).where(visible()).group_by(column)
    if since is not None:
        query = query.where(or_(JobRow.finished_at.is_(None), JobRow.finished_at >= since))
    found = session.execute(query).all()
    return {row[0]: dict(zip(_nothing(), (*row[1:5], int(row[5])), strict=True)) for row in found}


def _past(session: Session, by: By, since: float | None) -> dict[str | None, dict[str, Any]]:
    """What the jobs have used that are deleted."""
    column, viewer = _OF_PAST[by], VIEWER.get()
    seen = (
        true()
        if viewer.sees_all
        else or_(PastUsageRow.private.is_(False), PastUsageRow.owner == viewer.name)
    )
    query = select(column, *_PAST_SUMS).where(seen).group_by(column)
    if since is not None:
        query = query.where(PastUsageRow.day >= int(since // DAY_SECONDS))
    return {
        row[0] or None: dict(zip(list(_nothing())[:4], row[1:], strict=True))
        for row in session.execute(query)
    }


def _uploads(session: Session) -> dict[str | None, int]:
    """How many bytes the uploads of each owner take up."""
    query = select(UploadRow.uploaded_by, func.sum(UploadRow.file_bytes))
    return {
        name: int(size) for name, size in session.execute(query.group_by(UploadRow.uploaded_by))
    }
