"""Which version of specs jobs need and workers know; which older programs may use the schema."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("jobs", sa.Column("spec_version", sa.Integer()))
    op.add_column("workers", sa.Column("spec_version", sa.Integer()))
    op.add_column("service", sa.Column("usable_from", sa.String()))


def downgrade() -> None:
    """Undo."""
    op.drop_column("service", "usable_from")
    op.drop_column("workers", "spec_version")
    op.drop_column("jobs", "spec_version")
