"""Jobs that a machine gave back, and the host that is not to get them at once again."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("returns", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("avoid_host", sa.String()))


def downgrade() -> None:
    """Undo."""
    op.drop_column("jobs", "avoid_host")
    op.drop_column("jobs", "returns")
