"""The plug-ins that a job needs, and those that a worker has."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("plugins", sa.String()))
    op.add_column("workers", sa.Column("plugins", sa.JSON()))


def downgrade() -> None:
    """Undo."""
    op.drop_column("workers", "plugins")
    op.drop_column("jobs", "plugins")
