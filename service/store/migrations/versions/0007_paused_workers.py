"""Why a worker begins no job at present."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("workers", sa.Column("paused", sa.String()))


def downgrade() -> None:
    """Undo."""
    op.drop_column("workers", "paused")
