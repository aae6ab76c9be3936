"""Private jobs and GPU seconds of jobs; scopes, expiry, last use and limits of keys."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LIMITS = ("max_queued", "max_running", "max_gpu_seconds")


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "jobs", sa.Column("private", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column(
        "api_keys", sa.Column("scope", sa.String(), nullable=False, server_default="submit")
    )
    op.add_column("api_keys", sa.Column("expires_at", sa.Double()))
    op.add_column("api_keys", sa.Column("used_at", sa.Double()))
    for limit in LIMITS:
        op.add_column("api_keys", sa.Column(limit, sa.Integer()))
    op.add_column("jobs", sa.Column("gpu_seconds", sa.Double(), nullable=False, server_default="0"))
    op.create_index("jobs_by_owner", "jobs", ["state", "submitted_by", "rank", "id"])
    op.create_index("jobs_begun_by_owner", "jobs", ["submitted_by", "started_at"])
    op.create_index("jobs_ended_by_owner", "jobs", ["submitted_by", "finished_at"])


def downgrade() -> None:
    """Undo."""
    for index in ("jobs_ended_by_owner", "jobs_begun_by_owner", "jobs_by_owner"):
        op.drop_index(index, "jobs")
    op.drop_column("jobs", "gpu_seconds")
    for column in (*LIMITS, "used_at", "expires_at", "scope"):
        op.drop_column("api_keys", column)
    op.drop_column("jobs", "private")
