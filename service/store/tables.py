"""The tables. All times are seconds since 1970 by the database's own clock."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    UniqueConstraint,
    false,
    literal,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from service.jobs import JobState, Wanted

Document = dict[str, Any]
# the jobs whose figures may have changed since they were stored; word for word as in the index,
# which is used for nothing else
WITHOUT_FIGURES = "figured_version <> version AND state <> 'queued' AND kind <> 'study'"


# indexes of lists, see service.store.list_indexes: what is read of each job is in the index itself
LISTED: dict[str, tuple[str, ...]] = {
    "name": ("name", "id", "state", "private", "submitted_by"),
    "project": ("project", "id", "state", "private", "submitted_by"),
    "owner": ("submitted_by", "id", "state", "private"),
    "time": ("created_at", "id", "state", "private", "submitted_by"),
    "kind": ("kind", "id", "state", "private", "submitted_by"),
    "state": ("state", "id", "private", "submitted_by"),
}
WHICH = {"alone": "parent_id IS NULL", "runs": "parent_id IS NOT NULL"}


def any_number(number: int) -> ColumnElement[int]:
    """Bind a number that a client chose, which may be more than the column holds.

    PostgreSQL fails where such a number is bound as one of the column's type.
    """
    return literal(number, BigInteger())


class now_seconds(FunctionElement[float]):  # noqa: N801 - a function in SQL
    """The database's clock, so that machines whose clocks differ agree on leases."""

    type = Float()
    inherit_cache = True


@compiles(now_seconds, "sqlite")
def _now_sqlite(_element: now_seconds, _compiler: SQLCompiler, **_options: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now_seconds, "postgresql")
def _now_postgresql(_element: now_seconds, _compiler: SQLCompiler, **_options: object) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


class statement_seconds(FunctionElement[float]):  # noqa: N801 - a function in SQL
    """The database's clock at the beginning of a statement, which is the same for all its rows."""

    type = Float()
    inherit_cache = True


@compiles(statement_seconds, "sqlite")
def _statement_sqlite(
    _element: statement_seconds, _compiler: SQLCompiler, **_options: object
) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(statement_seconds, "postgresql")
def _statement_postgresql(
    _element: statement_seconds, _compiler: SQLCompiler, **_options: object
) -> str:
    return "extract(epoch from statement_timestamp())::double precision"


def _one_of(column: str, values: list[str], name: str) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=name)


class Base(DeclarativeBase):
    """The metadata of all tables."""

    type_annotation_map = {Document: JSON, list[str]: JSON, list[Document]: JSON}  # noqa: RUF012 - SQLAlchemy's way of declaring it


class JobRow(Base):
    """A job.

    `version` rises with every change, `last_event` counts its events, and the number of the
    `attempt` fences the writes of its worker. `rank` orders the queue, see inserts.rank_of. A job
    that `waits_for` another is not claimed: it shares the result of that identical job. `returns`
    counts the attempts that failed because of their machine, and `avoid_host` is the last host that
    lost the job or gave it back: another one gets it first. `in_parts`: it ran out of memory, and
    is computed in smaller parts; those on whose memory that was not enough either are its
    `outgrown_hosts`, as `need_tags` has tags: they do not get it again. `cells` is how many runs a
    study has, `cells_made` how many of them have a row. `plugins` are the identities of the
    plug-ins that its spec uses, separated by blanks: a worker without them does not claim it.
    `spec_version` is the
    lowest version of specs that has all that its spec uses (null: the first): a worker that knows
    only older ones does not claim it. Workers from before that column do not look at it, so such a
    job also waits for itself, see service.store.understanding. `needs` is what its submitter asks
    of a worker; `need_device`, `need_tags` and `need_memory_bytes` say the same to the queue, the
    memory being `estimated_bytes` where none is asked for. `figures` are those of the headline, as
    they were at version `figured_version`: lists are filtered and sorted by them.
    """

    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str | None] = mapped_column(index=True)
    tags: Mapped[list[str]]
    project: Mapped[str | None] = mapped_column(index=True)
    note: Mapped[str | None]
    submitted_by: Mapped[str | None]
    priority: Mapped[int]
    rank: Mapped[float]
    needs: Mapped[Document | None] = mapped_column(JSON(none_as_null=True))
    need_device: Mapped[str | None]
    need_tags: Mapped[str | None]
    need_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    estimated_bytes: Mapped[int | None] = mapped_column(BigInteger)
    pinned: Mapped[bool] = mapped_column(default=False)
    private: Mapped[bool] = mapped_column(default=False, server_default=false())
    fresh: Mapped[bool] = mapped_column(default=False)
    state: Mapped[str]
    wanted: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    last_event: Mapped[int] = mapped_column(default=0)
    spec: Mapped[Document]
    spec_digest: Mapped[str]
    engine_version: Mapped[str]  # NUMERICS_VERSION
    dataset_digest: Mapped[str | None]
    device_class: Mapped[str | None]
    plugins: Mapped[str | None]
    spec_version: Mapped[int | None]
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    cell: Mapped[int | None]
    place: Mapped[Document | None] = mapped_column(JSON(none_as_null=True))
    cells: Mapped[int | None]
    cells_made: Mapped[int | None]
    cached_from: Mapped[str | None]
    waits_for: Mapped[str | None]
    webhook: Mapped[Document | None] = mapped_column(JSON(none_as_null=True))
    attempt: Mapped[int] = mapped_column(default=0)
    losses: Mapped[int] = mapped_column(default=0)
    returns: Mapped[int] = mapped_column(default=0, server_default="0")
    avoid_host: Mapped[str | None]
    in_parts: Mapped[bool] = mapped_column(default=False, server_default=false())
    outgrown_hosts: Mapped[str | None]
    worker: Mapped[str | None]
    lease_until: Mapped[float | None]
    timeout_seconds: Mapped[float | None]
    claimed_at: Mapped[float | None]
    deadline_at: Mapped[float | None]
    ran_seconds: Mapped[float] = mapped_column(default=0.0)
    # that workers with a GPU, and with none, spent on it, before retries too
    gpu_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    cpu_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    # of its folder of artifacts, measured every few minutes
    artifact_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    # the column keeps the name that it had in 0.2.0
    dispatched_at: Mapped[float | None] = mapped_column("rung_at")
    checkpoint: Mapped[str | None]
    fraction: Mapped[float] = mapped_column(default=0.0)
    message: Mapped[str] = mapped_column(default="")
    eta_seconds: Mapped[float | None]
    created_at: Mapped[float]
    queued_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    error: Mapped[Document | None]
    provenance: Mapped[Document | None]
    figures: Mapped[Document | None] = mapped_column(JSON(none_as_null=True))
    figured_version: Mapped[int] = mapped_column(default=0, server_default="0")

    __table_args__ = (
        _one_of("state", [state.value for state in JobState], "state_known"),
        _one_of("wanted", [wanted.value for wanted in Wanted], "wanted_known"),
        Index("jobs_by_state", "state", "id"),
        Index("jobs_by_rank", "state", "rank", "id"),
        Index("jobs_by_owner", "state", "submitted_by", "rank", "id"),
        Index("jobs_begun_by_owner", "submitted_by", "started_at"),
        Index("jobs_ended_by_owner", "submitted_by", "finished_at"),
        Index("jobs_by_parent", "parent_id", "cell"),
        Index("jobs_in_order", "parent_id", "id"),
        Index("jobs_of_parent", "parent_id", "state", "private", "submitted_by"),
        *(
            Index(
                f"jobs_{which}_by_{name}",
                *columns,
                sqlite_where=text(condition),
                postgresql_where=text(condition),
            )
            for which, condition in WHICH.items()
            for name, columns in LISTED.items()
        ),
        Index("jobs_by_digest", "spec_digest", "state"),
        Index("jobs_by_source", "cached_from"),
        Index("jobs_by_leader", "waits_for"),
        Index(
            "jobs_without_figures",
            "id",
            sqlite_where=text(WITHOUT_FIGURES),
            postgresql_where=text(WITHOUT_FIGURES),
        ),
        Index(
            "jobs_with_artifacts",
            "submitted_by",
            "artifact_bytes",
            sqlite_where=text("artifact_bytes > 0"),
            postgresql_where=text("artifact_bytes > 0"),
        ),
    )


class AttemptRow(Base):
    """An attempt at a job: where it ran, which rows it brought, and how it ended.

    `in_parts`: what needs much memory at once was computed in smaller parts. `ended_as` says why it
    ended, for people; null: it runs. Layers and epochs are those of its first row and of its last;
    null: it brought none, or its rows are not of epochs.
    """

    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    worker: Mapped[str]
    host: Mapped[str | None]
    device: Mapped[str | None]
    device_name: Mapped[str | None]
    threads: Mapped[int | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    in_parts: Mapped[bool] = mapped_column(default=False, server_default=false())
    began_at: Mapped[float]
    ended_at: Mapped[float | None]
    ended_as: Mapped[str | None]
    first_layer: Mapped[int | None]
    first_epoch: Mapped[int | None]
    last_layer: Mapped[int | None]
    last_epoch: Mapped[int | None]


class JobTagRow(Base):
    """A tag of a job, or of a run of a study; triggers copy it from the job."""

    __tablename__ = "job_tags"

    tag: Mapped[str] = mapped_column(primary_key=True)
    is_run: Mapped[bool] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)

    __table_args__ = (Index("job_tags_of_job", "job_id"),)


class PastUsageRow(Base):
    """What deleted jobs have used that ended on a day since 1970 (UTC); "" is no name."""

    __tablename__ = "past_usage"

    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    owner: Mapped[str] = mapped_column(primary_key=True)
    project: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str] = mapped_column(primary_key=True)
    private: Mapped[bool] = mapped_column(primary_key=True)
    jobs: Mapped[int]
    runs: Mapped[int]
    cpu_seconds: Mapped[float]
    gpu_seconds: Mapped[float]


class ResultRow(Base):
    """The result of a job that has succeeded, as JSON text."""

    __tablename__ = "results"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    document: Mapped[str]


class SummaryRow(Base):
    """The summary of an ended run of a study: a StudyCell as JSON text."""

    __tablename__ = "summaries"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    document: Mapped[str]


class CurveRow(Base):
    """One tidy row of a job; `key` is unique within the job, see schemas.row_key."""

    __tablename__ = "curve_rows"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    key: Mapped[str]
    data: Mapped[Document]

    __table_args__ = (UniqueConstraint("job_id", "key", name="row_once"),)


class EventRow(Base):
    """Something that happened to a job: `seq` counts from 1 within the job, `id` over all jobs."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    seq: Mapped[int]
    type: Mapped[str]
    at: Mapped[float]
    data: Mapped[Document]

    # without AUTOINCREMENT, SQLite reuses the number of a deleted last event, and a reader that
    # follows the numbers misses the new event
    __table_args__ = (
        UniqueConstraint("job_id", "seq", name="event_once"),
        {"sqlite_autoincrement": True},
    )


class IdempotencyRow(Base):
    """An Idempotency-Key with the fingerprint of its request, and the job that it made."""

    __tablename__ = "idempotency_keys"

    owner: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    created_at: Mapped[float]


class DeliveryRow(Base):
    """A message to a job's webhook.

    It is due at `next_at`, which is null once it was delivered or given up; `attempts` describes
    each attempt to send it. It outlives its job while it is due: `webhook` is that of a job that
    was deleted, and null before.
    """

    __tablename__ = "deliveries"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(index=True)
    webhook: Mapped[Document | None] = mapped_column(JSON(none_as_null=True))
    type: Mapped[str]
    body: Mapped[str]
    created_at: Mapped[float]
    next_at: Mapped[float | None] = mapped_column(index=True)
    delivered_at: Mapped[float | None]
    attempts: Mapped[list[Document]]


class SecretRow(Base):
    """A secret that the service made for itself."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class ServiceRow(Base):
    """The id of the service, in one row that is made with the table.

    The folder of artifacts has the same id, see service.store.identity. `usable_from` is the oldest
    schema whose programs may use this one, see Database.migrate; null: this one alone.
    """

    __tablename__ = "service"

    number: Mapped[int] = mapped_column(primary_key=True, default=1)
    id: Mapped[str]
    usable_from: Mapped[str | None]

    __table_args__ = (CheckConstraint("number = 1", name="one_service"),)


class AuditRow(Base):
    """Something that somebody did; triggers keep it as it is, and for a day at least.

    `actor` is the name of the key, and `via` one of service.encoding.viewer.Via.
    """

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    at: Mapped[float]
    actor: Mapped[str | None]
    key_id: Mapped[str | None]
    address: Mapped[str | None]
    via: Mapped[str]
    action: Mapped[str]
    target: Mapped[str | None]
    details: Mapped[Document]

    __table_args__ = (
        Index("audit_by_actor", "actor", "id"),
        Index("audit_by_action", "action", "id"),
        Index("audit_by_target", "target", "id"),
        Index("audit_by_time", "at"),
        {"sqlite_autoincrement": True},
    )


class KeyRow(Base):
    """An API key, as its hash; `scope` is one of service.encoding.viewer.Scope."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    digest: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]
    scope: Mapped[str] = mapped_column(default="submit", server_default="submit")
    expires_at: Mapped[float | None]
    used_at: Mapped[float | None]
    max_queued: Mapped[int | None]
    max_running: Mapped[int | None]
    max_gpu_seconds: Mapped[int | None]
    max_bytes: Mapped[int | None] = mapped_column(BigInteger)


class ShareRow(Base):
    """A link by which anybody may read one job, as the hash of its secret."""

    __tablename__ = "shares"

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    digest: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]
    created_by: Mapped[str | None]
    expires_at: Mapped[float | None]


class UploadRow(Base):
    """An uploaded data set or network; `kind` is one of service.store.uploads.Kind.

    `digest` is of its arrays, and `file_digest` of the file with them, which is among the
    artifacts under that name: equal files are there once. `facts` are those of the engine.
    """

    __tablename__ = "uploads"

    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    file_digest: Mapped[str]
    file_bytes: Mapped[int] = mapped_column(BigInteger)
    uploaded_by: Mapped[str | None]
    created_at: Mapped[float]
    facts: Mapped[Document]

    __table_args__ = (
        Index("uploads_by_digest", "kind", "digest"),
        Index("uploads_by_file", "file_digest"),
    )


class WorkerRow(Base):
    """A worker and its last heartbeat."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    device: Mapped[str]
    device_name: Mapped[str | None]
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    host_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    threads: Mapped[int | None]
    tags: Mapped[list[str] | None]
    version: Mapped[str]
    job: Mapped[str | None]
    paused: Mapped[str | None]
    plugins: Mapped[list[Document] | None]
    spec_version: Mapped[int | None]
    seen_at: Mapped[float]


class DrainRow(Base):
    """A worker that is drained: it finishes its job, and claims none.

    Not a column of the worker's row, which the worker writes anew with each heartbeat.
    """

    __tablename__ = "drains"

    worker_id: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[float]
    by: Mapped[str | None]
