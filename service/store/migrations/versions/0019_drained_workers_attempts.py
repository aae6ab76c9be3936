"""Workers that are drained, and what each attempt at a job was."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "drains",
        sa.Column("worker_id", sa.String(), primary_key=True),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("by", sa.String()),
    )
    op.create_table(
        "attempts",
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("worker", sa.String(), nullable=False),
        sa.Column("host", sa.String()),
        sa.Column("device", sa.String()),
        sa.Column("device_name", sa.String()),
        sa.Column("threads", sa.Integer()),
        sa.Column("memory_bytes", sa.BigInteger()),
        sa.Column("in_parts", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("began_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double()),
        sa.Column("ended_as", sa.String()),
        sa.Column("first_layer", sa.Integer()),
        sa.Column("first_epoch", sa.Integer()),
        sa.Column("last_layer", sa.Integer()),
        sa.Column("last_epoch", sa.Integer()),
    )
    op.add_column(
        "jobs", sa.Column("in_parts", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("jobs", sa.Column("outgrown_hosts", sa.String()))


def downgrade() -> None:
    """Undo."""
    op.drop_column("jobs", "outgrown_hosts")
    op.drop_column("jobs", "in_parts")
    op.drop_table("attempts")
    op.drop_table("drains")
