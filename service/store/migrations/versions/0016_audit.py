"""Who did what, and when: rows that are never changed, and not deleted while they are young."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

DAY_SECONDS = 86_400  # for which a row cannot be deleted
NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "extract(epoch from clock_timestamp())",
}


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "audit",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String()),
        sa.Column("key_id", sa.String()),
        sa.Column("address", sa.String()),
        sa.Column("via", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("target", sa.String()),
        sa.Column("details", sa.JSON(), nullable=False),
        sqlite_autoincrement=True,
    )
    for column in ("actor", "action", "target"):
        op.create_index(f"audit_by_{column}", "audit", [column, "id"])
    op.create_index("audit_by_time", "audit", ["at"])
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _sqlite() -> None:
    refusal = "BEGIN SELECT RAISE(ABORT, 'what is in the audit log stays as it is'); END"
    op.execute(f"CREATE TRIGGER audit_kept BEFORE UPDATE ON audit FOR EACH ROW {refusal}")
    op.execute(
        f"CREATE TRIGGER audit_young BEFORE DELETE ON audit FOR EACH ROW "
        f"WHEN OLD.at > {NOW['sqlite']} - {DAY_SECONDS} {refusal}"
    )


def _postgresql() -> None:
    op.execute(
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger AS $$ "
        "BEGIN RAISE EXCEPTION 'what is in the audit log stays as it is' "
        "USING ERRCODE = 'integrity_constraint_violation'; END $$ LANGUAGE plpgsql"
    )
    refusal = "EXECUTE FUNCTION refuse_audit_change()"
    op.execute(f"CREATE TRIGGER audit_kept BEFORE UPDATE ON audit FOR EACH ROW {refusal}")
    op.execute(f"CREATE TRIGGER audit_whole BEFORE TRUNCATE ON audit {refusal}")
    op.execute(
        f"CREATE TRIGGER audit_young BEFORE DELETE ON audit FOR EACH ROW "
        f"WHEN (OLD.at > {NOW['postgresql']} - {DAY_SECONDS}) {refusal}"
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("audit")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION refuse_audit_change()")
