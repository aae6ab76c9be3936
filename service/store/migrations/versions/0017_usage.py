"""What owners use: seconds of CPUs and bytes of artifacts, a limit, and what deleted jobs used."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("cpu_seconds", sa.Double(), nullable=False, server_default="0"))
    op.add_column(
        "jobs", sa.Column("artifact_bytes", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("api_keys", sa.Column("max_bytes", sa.BigInteger()))
    op.create_table(
        "past_usage",
        sa.Column("day", sa.Integer(), primary_key=True),
        sa.Column("owner", sa.String(), primary_key=True),
        sa.Column("project", sa.String(), primary_key=True),
        sa.Column("device", sa.String(), primary_key=True),
        sa.Column("private", sa.Boolean(), primary_key=True),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("cpu_seconds", sa.Double(), nullable=False),
        sa.Column("gpu_seconds", sa.Double(), nullable=False),
    )
    has_some = sa.text("artifact_bytes > 0")
    op.create_index(
        "jobs_with_artifacts",
        "jobs",
        ["submitted_by", "artifact_bytes"],
        sqlite_where=has_some,
        postgresql_where=has_some,
    )
    op.execute(  # as far as it is known: before the last retry it is not
        "UPDATE jobs SET cpu_seconds = ran_seconds - gpu_seconds "
        "WHERE ran_seconds > gpu_seconds AND kind <> 'study'"
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("jobs_with_artifacts", "jobs")
    op.drop_table("past_usage")
    op.drop_column("api_keys", "max_bytes")
    op.drop_column("jobs", "artifact_bytes")
    op.drop_column("jobs", "cpu_seconds")
