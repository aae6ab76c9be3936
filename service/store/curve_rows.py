"""The tidy rows of a job: each once, by what makes it unique."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from ffengine.results import CheckCell, EpochRow, ForecastPoint, RecordedRow
from service.schemas import row_key
from service.store.tables import CurveRow

Row = EpochRow | CheckCell | ForecastPoint | RecordedRow


def insert_rows(session: Session, job_id: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Insert the rows that are not stored yet, and return them as JSON.

    A resumed run measures some of its rows again.
    """
    new = new_rows(session, job_id, rows)
    insert_new(session, job_id, new)
    return list(new.values())


def new_rows(session: Session, job_id: str, rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """The rows that are not stored yet as JSON, by their keys.

    Nobody else adds rows meanwhile: only the attempt that holds the job does.
    """
    keyed = {row_key(dict(row)): row.model_dump(mode="json") for row in rows}
    if not keyed:
        return {}
    there = select(CurveRow.key).where(CurveRow.job_id == job_id, CurveRow.key.in_(keyed))
    known = set(session.scalars(there))
    return {key: data for key, data in keyed.items() if key not in known}


def insert_new(session: Session, job_id: str, new: Mapping[str, dict[str, Any]]) -> None:
    """Insert rows that are not stored yet."""
    if new:
        session.execute(
            insert(CurveRow),
            [{"job_id": job_id, "key": key, "data": data} for key, data in new.items()],
        )
