"""Links by which anybody may read one job."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "shares",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("digest", sa.String(), nullable=False, unique=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String()),
        sa.Column("expires_at", sa.Double()),
    )
    op.create_index("ix_shares_job_id", "shares", ["job_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_shares_job_id", table_name="shares")
    op.drop_table("shares")
