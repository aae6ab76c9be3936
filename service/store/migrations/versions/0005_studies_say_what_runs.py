"""Studies say what runs: what a preset and defaults stand for is written out, where the runs show
that it is still the same.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from ffengine.spec import AnySpec, StudySpec, Submission, digest
from ffengine.study import expand, resolved
from ffengine.text import STORED

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

JOBS = sa.table(
    "jobs",
    *(sa.column(name, sa.String()) for name in ("id", "kind", "parent_id", "spec_digest")),
    *(sa.column(name, sa.Integer()) for name in ("cell", "cells", "version")),
    sa.column("spec", sa.JSON()),
)


def upgrade() -> None:
    """Apply."""
    connection = op.get_bind()
    studies = connection.execute(
        sa.select(JOBS.c.id, JOBS.c.spec, JOBS.c.cells).where(JOBS.c.kind == "study")
    ).all()
    for study_id, document, cells in studies:
        runs = connection.scalars(
            sa.select(JOBS.c.spec).where(JOBS.c.parent_id == study_id).order_by(JOBS.c.cell)
        ).all()
        if study := written_out(document, runs, cells):
            values = {
                "spec": study.model_dump(mode="json"),
                "spec_digest": digest(study),
                "version": JOBS.c.version + 1,
            }
            connection.execute(sa.update(JOBS).where(JOBS.c.id == study_id).values(**values))


def written_out(
    document: dict[str, Any], runs: Sequence[dict[str, Any]], cells: int | None
) -> StudySpec | None:
    """The study with its runs' settings; None where a preset or a default is another one now than
    when the runs were made.
    """
    try:
        study = _read(document)
        now = (
            [digest(cell.spec) for cell in expand(study, STORED)]
            if isinstance(study, StudySpec)
            else []
        )
        then = [digest(_read(run)) for run in runs]
    except ValueError:
        return None
    same = bool(then) and now[: len(then)] == then and len(now) == cells
    return resolved(study, STORED) if same and isinstance(study, StudySpec) else None


def _read(document: dict[str, Any]) -> AnySpec:
    return Submission.model_validate({"spec": document}, context=STORED).spec


def downgrade() -> None:
    """Undo: what is written out means the same without this change."""
