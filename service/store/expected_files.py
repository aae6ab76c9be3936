"""Which artifacts of jobs the database counts on: checkpoints of measured epochs, and margins."""

from collections.abc import Iterator
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from ffengine.spec import CheckSpec, RunSpec, TrainSpec
from ffengine.text import STORED
from service.artifacts import epoch_name, margins_name
from service.jobs import JobState
from service.store.database import Database
from service.store.tables import CurveRow, JobRow

AT_ONCE = 200
WITHOUT_MARGINS = "0.2.0"  # checks of that version kept none
WAITING = (JobState.queued.value, JobState.paused.value)
_SPEC: TypeAdapter[RunSpec] = TypeAdapter(RunSpec)


class Expected(NamedTuple):
    """The artifacts of a job that must be there; `owner` is the job whose folder has them."""

    job_id: str
    version: int
    owner: str
    names: frozenset[str]


def expected_files(database: Database) -> Iterator[Expected]:
    """Yield what each job that was computed here counts on, in the order of the ids."""
    after = ""
    while True:
        with database.reading() as session:
            rows = session.scalars(
                select(JobRow)
                .where(JobRow.id > after, JobRow.kind.in_(["train", "check", "forecast"]))
                .order_by(JobRow.id)
                .limit(AT_ONCE)
            ).all()
            found = [
                Expected(row.id, row.version, row.cached_from or row.id, _names(session, row))
                for row in rows
            ]
        if not found:
            return
        yield from found
        after = found[-1].job_id


def version_of(database: Database, job_id: str) -> int | None:
    """The version of a job, which rises with every change; None: it is gone."""
    with database.reading() as session:
        return session.scalar(select(JobRow.version).where(JobRow.id == job_id))


def _names(session: Session, row: JobRow) -> frozenset[str]:
    names = {row.checkpoint} if row.checkpoint and row.state in WAITING else set()
    try:
        spec = _SPEC.validate_python(row.spec, context=STORED)
    except ValidationError:  # it uses a plug-in that is not here, or what a newer fflab brought
        return frozenset(names)
    measured = session.scalars(select(CurveRow.data).where(CurveRow.job_id == row.id))
    if isinstance(spec, TrainSpec):
        last = {layer: layers[-1] for layers in spec.stages for layer in layers}
        names |= {epoch_name(last[one["layer"]], one["epoch"]) for one in measured}
    elif isinstance(spec, CheckSpec) and not row.engine_version.startswith(WITHOUT_MARGINS):
        names |= {margins_name(one["seed"], one["width"]) for one in measured}
    return frozenset(names)
