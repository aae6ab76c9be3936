"""Which jobs a viewer sees: private ones are their owner's, and administrators'."""

from sqlalchemy import ColumnElement, or_, true

from service.encoding.viewer import VIEWER, Viewer
from service.jobs import Job
from service.store.tables import JobRow


def visible() -> ColumnElement[bool]:
    """The jobs that the viewer sees, in SQL."""
    viewer = VIEWER.get()
    if viewer.sees_all:
        return true()
    shared = (JobRow.id == viewer.shared, JobRow.parent_id == viewer.shared)
    return or_(
        JobRow.private.is_(False),
        JobRow.submitted_by == viewer.name,
        *(shared if viewer.shared else ()),
    )


def shown_to(viewer: Viewer, job: Job) -> bool:
    """Whether the viewer sees a job."""
    if not job.private or viewer.sees_all or job.submitted_by == viewer.name:
        return True
    return viewer.shared is not None and viewer.shared in (job.id, job.parent)


def open_to(owner: str | None) -> ColumnElement[bool]:
    """The jobs whose results may answer those of an owner, in SQL."""
    own = JobRow.submitted_by.is_(None) if owner is None else JobRow.submitted_by == owner
    return or_(JobRow.private.is_(False), own)
