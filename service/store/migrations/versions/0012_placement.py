"""What workers are fit for, and what jobs need of them."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("needs", sa.JSON()))
    op.add_column("jobs", sa.Column("need_device", sa.String()))
    op.add_column("jobs", sa.Column("need_tags", sa.String()))
    op.add_column("jobs", sa.Column("need_memory_bytes", sa.BigInteger()))
    op.add_column("jobs", sa.Column("estimated_bytes", sa.BigInteger()))
    op.add_column("workers", sa.Column("host_memory_bytes", sa.BigInteger()))
    op.add_column("workers", sa.Column("threads", sa.Integer()))
    op.add_column("workers", sa.Column("tags", sa.JSON()))


def downgrade() -> None:
    """Undo."""
    for name in ("tags", "threads", "host_memory_bytes"):
        op.drop_column("workers", name)
    for name in ("estimated_bytes", "need_memory_bytes", "need_tags", "need_device", "needs"):
        op.drop_column("jobs", name)
