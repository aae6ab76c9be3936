"""Jobs have a project, a note, and the figures that lists are filtered and sorted by."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

WITHOUT_FIGURES = "figured_version <> version AND state <> 'queued' AND kind <> 'study'"


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("project", sa.String()))
    op.add_column("jobs", sa.Column("note", sa.String()))
    op.add_column("jobs", sa.Column("figures", sa.JSON()))
    # the API works out the figures of jobs that are there, a portion at a time
    op.add_column(
        "jobs", sa.Column("figured_version", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_index("ix_jobs_project", "jobs", ["project"])
    op.create_index(
        "jobs_without_figures",
        "jobs",
        ["id"],
        sqlite_where=sa.text(WITHOUT_FIGURES),
        postgresql_where=sa.text(WITHOUT_FIGURES),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("jobs_without_figures", "jobs")
    op.drop_index("ix_jobs_project", "jobs")
    for name in ("figured_version", "figures", "note", "project"):
        op.drop_column("jobs", name)
