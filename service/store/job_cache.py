"""Converts stored rows to what the API shows, and keeps the last jobs that were shown."""

import sqlite3
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ffengine.results import Provenance
from ffengine.spec import Stored, UnreadSpec
from ffengine.text import STORED, shortened, visible
from ffengine.version import VERSION
from service.jobs import EVENT_TYPES, Event, Job, JobError, JobState, Progress, label_of
from service.store.inserts import PRIORITIES, WAITS
from service.store.tables import EventRow, JobRow

REMEMBERED_JOBS = 1_000
# fields of a job whose values are documents of their own, which another version may write otherwise
_UNSURE = frozenset({"priority", "needs", "error", "provenance", "place", "label", "webhook"})


class JobCache:
    """The jobs shown last, each with its version: an unchanged job is not converted again.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, tuple[Job, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, job_id: str, version: int) -> tuple[Job, int] | None:
        """The job, if this version of it is kept."""
        with self._lock:
            found = self._jobs.get(job_id)
            if found is None or found[1] != version:
                return None
            self._jobs.move_to_end(job_id)
            return found

    def job_of(self, row: JobRow) -> tuple[Job, int]:
        """The job of a row, converted and kept where it is not there yet."""
        if known := self.get(row.id, row.version):
            return known
        job = to_job(row)
        with self._lock:
            self._jobs[job.id] = (job, row.version)
            self._jobs.move_to_end(job.id)
            if len(self._jobs) > REMEMBERED_JOBS:
                self._jobs.popitem(last=False)
        return job, row.version


class VersionReader:
    """Reads the version of a job from SQLite in microseconds, never waiting.

    So the event loop may call it itself. It has a connection of its own, because writers that
    wait for each other may hold all connections of the pool.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def version(self, job_id: str) -> int | None:
        """The version of a job; None where there is no such job, or the database is busy.

        Only the thread of the event loop may call it.
        """
        try:
            if self._connection is None:
                address = f"{Path(self._path).absolute().as_uri()}?mode=ro"
                self._connection = sqlite3.connect(
                    address, uri=True, timeout=0.0, isolation_level=None, check_same_thread=False
                )
            found = self._connection.execute(
                "SELECT version FROM jobs WHERE id = ?", (job_id,)
            ).fetchall()
        except sqlite3.Error:
            return None
        return found[0][0] if found else None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def to_event(row: EventRow) -> Event:
    """Convert a row to the event that the API shows; one of an unknown type to a note of it."""
    kind, data = row.type, row.data
    if kind not in EVENT_TYPES:
        note = f"an event of another version of fflab: {shortened(visible(kind))}"
        kind, data = "log", {"level": "info", "message": note}
    return Event.model_validate(
        {"id": row.seq, "job": row.job_id, "type": kind, "at": _time(row.at), "data": data}
    )


def to_job(row: JobRow) -> Job:
    """Convert a row to the job that the API shows.

    A row that this version of fflab cannot read, as one of a newer version, becomes a job of kind
    `unread` that says so.
    """
    try:
        return _shown(row)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return _unread(row, error)


def _unread(row: JobRow, error: Exception) -> Job:
    """What can be said of a job whose row cannot be read: what, since when, in which state."""
    why = (
        f"this {row.kind} job was stored by another version of fflab; this one, fflab {VERSION}, "
        f"does not understand {_what_is_wrong(error)}"
    )
    spec = UnreadSpec(stored_kind=shortened(visible(row.kind)), why=why)
    made = _facts(row) | dict.fromkeys(_UNSURE) | {"priority": "normal"}
    made |= {"kind": "unread", "spec": spec}
    columns = {name: getattr(row, name) for name in Job.model_fields if name not in made}
    return Job.model_validate(columns | made)


def _what_is_wrong(error: Exception) -> str:
    """What of a row is not understood, in one line."""
    if not isinstance(error, ValidationError):
        return shortened(visible(f"a part of it ({type(error).__name__}: {error})"))
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    return shortened(visible(f"{where}: {first['msg']}" if where else str(first["msg"])))


def _shown(row: JobRow) -> Job:
    made = _facts(row) | {
        "priority": PRIORITIES[row.priority],
        "spec": Stored.model_validate({"spec": row.spec}, context=STORED).spec,
        "error": JobError.model_validate(row.error) if row.error else None,
        "provenance": Provenance.model_validate(row.provenance) if row.provenance else None,
        "label": label_of(row.place),
        "webhook": row.webhook["url"] if row.webhook else None,
    }
    columns = {name: getattr(row, name) for name in Job.model_fields if name not in made}
    return Job.model_validate(columns | made)


def _facts(row: JobRow) -> dict[str, Any]:
    """What a job shows that is not a column of its row, but for what a newer version may change."""
    base = f"/v1/jobs/{row.id}"
    links = {
        "self": base,
        "events": f"{base}/events",
        "result": f"{base}/result",
        "curves": f"{base}/curves",
        "curves_csv": f"{base}/curves.csv",
        "curves_parquet": f"{base}/curves.parquet",
        "cancel": f"{base}/cancel",
    }
    if row.parent_id:
        links["parent"] = f"/v1/jobs/{row.parent_id}"
    if row.kind == "study":
        links["children"] = f"/v1/jobs?parent={row.id}"
    return {
        "progress": Progress(
            fraction=row.fraction, message=row.message, eta_seconds=row.eta_seconds
        ),
        "held_up": _held_up(row),
        "created_at": _time(row.created_at),
        "started_at": _time(row.started_at),
        "finished_at": _time(row.finished_at),
        "attempts": row.attempt,
        "parent": row.parent_id,
        "cached": row.cached_from is not None,
        "waits_for": _leader_of(row),
        "links": links,
    }


def _leader_of(row: JobRow) -> str | None:
    """The identical job that a job waits for; some wait for themselves, see understanding."""
    waits = row.state == JobState.queued and row.waits_for != row.id
    return row.waits_for if waits else None


def _held_up(row: JobRow) -> str | None:
    """Why no worker can begin a job; of a study, its runs, behind what it says of those."""
    _, mark, why = row.message.partition(WAITS)
    unfinished = row.state in (JobState.queued, JobState.running)
    return why if mark and unfinished else None


def _time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
