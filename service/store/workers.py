"""Workers: what each reports about itself, and its last heartbeat."""

from datetime import UTC, datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from ffengine.spec_versions import FIRST_VERSION, SPEC_VERSION
from ffengine.version import VERSION
from service.jobs import JobState
from service.schemas import CANNOT_COMPUTE, WorkerInfo, WorkerLine
from service.store.audit import note
from service.store.database import Database
from service.store.tables import DrainRow, JobRow, WorkerRow, now_seconds

DEAD_WORKER_SECONDS = 30.0  # without a heartbeat, after which a worker counts as dead


class Workers:
    """The workers that run jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heartbeat(self, worker: WorkerInfo) -> bool:
        """Record that a worker is alive, and return whether it is drained."""
        long_dead = now_seconds() - 10 * DEAD_WORKER_SECONDS
        with self._database.writing() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.id == worker.id))
            session.execute(insert(WorkerRow).values(**worker.model_dump(), seen_at=now_seconds()))
            gone = session.scalars(
                delete(WorkerRow).where(WorkerRow.seen_at < long_dead).returning(WorkerRow.id)
            ).all()
            if gone:
                session.execute(delete(DrainRow).where(DrainRow.worker_id.in_(gone)))
            drained = select(DrainRow.worker_id).where(DrainRow.worker_id == worker.id)
            return session.scalar(drained) is not None

    def sign_off(self, worker_id: str) -> None:
        """Record that a worker has ended."""
        with self._database.writing() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))
            session.execute(delete(DrainRow).where(DrainRow.worker_id == worker_id))

    def drain(self, worker_id: str, by: str | None = None) -> WorkerLine | None:
        """Let a live worker finish what it has and claim nothing more; None: there is none.

        It lasts until it is undone or the worker ends. `by` is the name of who asked for it.
        """
        with self._database.writing() as session:
            if session.get(WorkerRow, worker_id) is None:
                return None
            if session.get(DrainRow, worker_id) is None:
                session.execute(
                    insert(DrainRow).values(worker_id=worker_id, since=now_seconds(), by=by)
                )
                note(session, "drain", worker_id)
            return self._line_of(session, worker_id)

    def undrain(self, worker_id: str) -> WorkerLine | None:
        """Let a drained worker claim jobs again; None: no such worker is alive."""
        with self._database.writing() as session:
            mine = delete(DrainRow).where(DrainRow.worker_id == worker_id)
            if session.execute(mine.returning(DrainRow.worker_id)).first():
                note(session, "undrain", worker_id)
            return self._line_of(session, worker_id)

    def alive(self, silent_seconds: float) -> list[WorkerLine]:
        """The workers with a heartbeat within the last `silent_seconds`, host by host."""
        with self._database.reading() as session:
            return _lines(session, silent_seconds)

    @staticmethod
    def _line_of(session: Session, worker_id: str) -> WorkerLine | None:
        lines = _lines(session, DEAD_WORKER_SECONDS)
        return next((one for one in lines if one.id == worker_id), None)


def _lines(session: Session, silent_seconds: float) -> list[WorkerLine]:
    """What the live workers report, with what the service knows of them."""
    now = Database.now(session)
    rows = session.execute(
        select(WorkerRow, DrainRow)
        .outerjoin(DrainRow, DrainRow.worker_id == WorkerRow.id)
        .where(WorkerRow.seen_at > now - silent_seconds)
        .order_by(WorkerRow.host, WorkerRow.device, WorkerRow.id)
    ).all()
    return [_to_line(session, row, drain, now) for row, drain in rows]


def _to_line(session: Session, row: WorkerRow, drain: DrainRow | None, now: float) -> WorkerLine:
    said = {name: getattr(row, name) for name in WorkerInfo.model_fields}
    if drain is not None:
        said |= {"paused": row.paused or _draining(drain), "job": _job_of(session, row.id)}
    return WorkerLine(
        **said | {"plugins": row.plugins or [], "tags": row.tags or []},
        silent_seconds=round(max(0.0, now - row.seen_at), 1),
        can_compute=not (row.paused or "").startswith(CANNOT_COMPUTE),
        differs=difference_of(row.version, row.spec_version),
        draining=drain is not None,
    )


def _draining(drain: DrainRow) -> str:
    """Say since when a worker is drained, and by whom."""
    since = datetime.fromtimestamp(drain.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"draining since {since}{f' by {drain.by}' if drain.by else ''}"


def _job_of(session: Session, worker_id: str) -> str | None:
    """The job that a worker holds: its last heartbeat may be older than its last claim."""
    held = (JobRow.worker == worker_id, JobRow.state == JobState.running.value)
    return session.scalar(select(JobRow.id).where(*held).limit(1))


def difference_of(version: str, spec_version: int | None) -> str | None:
    """How a worker of this version differs from this program, and what that means; None: it is one.

    **Arguments:**

    - `version`: of its fflab.
    - `spec_version`: the newest version of specs that it knows; None: the first.
    """
    known = spec_version or FIRST_VERSION
    if (version, known) == (VERSION, SPEC_VERSION):
        return None
    theirs = f"fflab {version} (specs {known}) beside the API's {VERSION} ({SPEC_VERSION})"
    if known < SPEC_VERSION:
        return f"{theirs}: it passes jobs that ask for what came later; upgrade it"
    if known > SPEC_VERSION:
        return f"{theirs}: it takes all jobs; upgrade the API to ask for what came later"
    return f"{theirs}: it takes all jobs"
