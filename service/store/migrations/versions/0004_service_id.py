"""Which service this is: an id that the database shares with its folder of artifacts, made once."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply.

    Whoever migrates holds the database alone, so that there is one id however many begin at once.
    """
    service = op.create_table(
        "service",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("id", sa.String(), nullable=False),
        sa.CheckConstraint("number = 1", name="one_service"),
    )
    op.bulk_insert(service, [{"number": 1, "id": str(uuid.uuid4())}])


def downgrade() -> None:
    """Undo."""
    op.drop_table("service")
