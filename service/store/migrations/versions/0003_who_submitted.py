"""Whose job it is: the name of the API key that it came with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("submitted_by", sa.String()))


def downgrade() -> None:
    """Undo."""
    op.drop_column("jobs", "submitted_by")
