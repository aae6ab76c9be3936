"""Workers: what each reports about itself, and its last heartbeat."""

from sqlalchemy import delete, insert, select

from ffengine.spec_versions import FIRST_VERSION, SPEC_VERSION
from ffengine.version import VERSION
from service.schemas import CANNOT_COMPUTE, WorkerInfo, WorkerLine
from service.store.database import Database
from service.store.tables import WorkerRow, now_seconds

DEAD_WORKER_SECONDS = 30.0  # without a heartbeat, after which a worker counts as dead


class Workers:
    """The workers that run jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def heartbeat(self, worker: WorkerInfo) -> None:
        """Record that a worker is alive."""
        with self._database.writing() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.id == worker.id))
            session.execute(insert(WorkerRow).values(**worker.model_dump(), seen_at=now_seconds()))
            session.execute(
                delete(WorkerRow).where(
                    WorkerRow.seen_at < now_seconds() - 10 * DEAD_WORKER_SECONDS
                )
            )

    def sign_off(self, worker_id: str) -> None:
        """Record that a worker has ended."""
        with self._database.writing() as session:
            session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))

    def alive(self, silent_seconds: float) -> list[WorkerLine]:
        """The workers with a heartbeat within the last `silent_seconds`."""
        with self._database.reading() as session:
            now = Database.now(session)
            rows = session.scalars(
                select(WorkerRow)
                .where(WorkerRow.seen_at > now - silent_seconds)
                .order_by(WorkerRow.id)
            )
            return [_to_line(row, now) for row in rows]


def _to_line(row: WorkerRow, now: float) -> WorkerLine:
    said = {name: getattr(row, name) for name in WorkerInfo.model_fields}
    return WorkerLine(
        **said | {"plugins": row.plugins or [], "tags": row.tags or []},
        silent_seconds=round(max(0.0, now - row.seen_at), 1),
        can_compute=not (row.paused or "").startswith(CANNOT_COMPUTE),
        differs=difference_of(row.version, row.spec_version),
    )


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
