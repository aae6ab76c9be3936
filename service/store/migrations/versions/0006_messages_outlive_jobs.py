"""Messages to webhooks outlive their jobs until they are delivered or given up."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OF_JOBS = "fk_deliveries_job_id_jobs"
# SQLite gives foreign keys no names, and PostgreSQL these
NAMED = {"fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s"}
IN_POSTGRESQL = "deliveries_job_id_fkey"


def upgrade() -> None:
    """Apply."""
    op.add_column("deliveries", sa.Column("webhook", sa.JSON()))
    if op.get_bind().dialect.name == "sqlite":
        with op.batch_alter_table("deliveries", naming_convention=NAMED) as table:
            table.drop_constraint(OF_JOBS, type_="foreignkey")
    else:
        op.drop_constraint(IN_POSTGRESQL, "deliveries", type_="foreignkey")


def downgrade() -> None:
    """Undo; messages of deleted jobs are not sent."""
    op.execute("DELETE FROM deliveries WHERE job_id NOT IN (SELECT id FROM jobs)")
    name = OF_JOBS if op.get_bind().dialect.name == "sqlite" else IN_POSTGRESQL
    with op.batch_alter_table("deliveries") as table:
        table.create_foreign_key(name, "jobs", ["job_id"], ["id"], ondelete="CASCADE")
        table.drop_column("webhook")
