"""A database with very many jobs that have ended, made by the database itself in seconds."""

from sqlalchemy import text

from ffengine.spec import TrainSpec
from service.jobs import NewJob
from service.store import Store
from service.store.tables import JobRow

STUDIES, OWNERS = 40, 50
_STUDY = f"(n % {STUDIES}) + 1"
_NUMBERS = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < :count)",
    "postgresql": "WITH s AS (SELECT generate_series(1, CAST(:count AS bigint)) AS n)",
}
# half of the jobs are runs of studies; a hundredth have a rare tag, an error or are private
_VALUES = {
    "kind": f"CASE WHEN n <= {STUDIES} THEN 'study' WHEN n % 10 = 0 THEN 'check' ELSE 'train' END",
    "name": "CASE WHEN n % 2 = 0 THEN NULL ELSE 'sweep ' || n END",
    "tags": "CASE WHEN n % 100 = 7 THEN '[\"rare\", \"t' || (n % 1000) || '\"]' "
    "ELSE '[\"sweep\"]' END",
    "project": "CASE WHEN n % 4 = 0 THEN NULL ELSE 'project ' || (n % 20) END",
    "submitted_by": f"'owner ' || (n % {OWNERS})",
    "private": "n % 100 = 0",
    "state": "CASE WHEN n % 100 = 3 THEN 'failed' WHEN n % 1000 = 1 THEN 'cancelled' "
    "ELSE 'succeeded' END",
    "version": "2",
    "figured_version": "2",
    "spec_digest": "'digest ' || n",
    "created_at": "1.7e9 + n",
    "queued_at": "1.7e9 + n",
    "started_at": "1.7e9 + n + 1",
    "finished_at": "1.7e9 + n + 2",
    "rank": "1.7e9 + n",
    "cpu_seconds": "1.0",
    "artifact_bytes": "1000",
    "device_class": "'cpu'",
}


def fill(store: Store, count: int) -> None:
    """Add `count` jobs that have ended, and are older than all others."""
    is_sqlite = store.database.is_sqlite
    template = store.jobs.submit(NewJob(spec=TrainSpec(), fresh=True), max_queued=10**9).job.id
    store.actions.cancel(template)
    is_run = f"n % 2 = 0 AND n > {STUDIES}"
    values = _VALUES | {
        "id": _id("n", is_sqlite=is_sqlite),
        "parent_id": f"CASE WHEN {is_run} THEN {_id(_STUDY, is_sqlite=is_sqlite)} END",
        "cell": f"CASE WHEN {is_run} THEN n END",
        "tags": _VALUES["tags"] if is_sqlite else f"CAST({_VALUES['tags']} AS json)",
    }
    names = [column.name for column in JobRow.__table__.columns]
    into = f"INSERT INTO jobs ({', '.join(names)})"
    numbers = _NUMBERS["sqlite" if is_sqlite else "postgresql"]
    chosen = ", ".join(values.get(name, f"t.{name}") for name in names)
    rows = f"SELECT {chosen} FROM s, jobs AS t WHERE t.id = :template"  # noqa: S608 - no user text
    with store.database.writing() as session:
        session.execute(
            text(f"{into} {numbers} {rows}" if is_sqlite else f"{numbers} {into} {rows}"),
            {"count": count, "template": template},
        )
    if not is_sqlite:  # as its own autovacuum does, later
        with store.database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT").execute(
                text("VACUUM ANALYZE")
            )


def _id(number: str, *, is_sqlite: bool) -> str:
    """The id of the job of that number, in SQL."""
    if is_sqlite:
        return f"printf('job_%032x', {number})"
    return f"'job_' || lpad(to_hex({number}), 32, '0')"
