"""The tidy rows of a job: each once, by what makes it unique."""

from collections.abc import Sequence
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
    keyed = {row_key(dict(row)): row.model_dump(mode="json") for row in rows}
    known = (
        set(
            session.scalars(
                select(CurveRow.key).where(CurveRow.job_id == job_id, CurveRow.key.in_(keyed))
            )
        )
        if keyed
        else set()
    )
    new = {key: data for key, data in keyed.items() if key not in known}
    if new:
        session.execute(
            insert(CurveRow),
            [{"job_id": job_id, "key": key, "data": data} for key, data in new.items()],
        )
    return list(new.values())
