"""Uploads: what is known of each, and which file of the artifacts has its arrays."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "uploads",
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("file_digest", sa.String(), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.Column("uploaded_by", sa.String()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
    )
    op.create_index("uploads_by_digest", "uploads", ["kind", "digest"])
    op.create_index("uploads_by_file", "uploads", ["file_digest"])


def downgrade() -> None:
    """Undo."""
    op.drop_index("uploads_by_file", "uploads")
    op.drop_index("uploads_by_digest", "uploads")
    op.drop_table("uploads")
