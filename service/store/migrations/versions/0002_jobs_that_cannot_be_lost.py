"""Jobs that cannot be lost: rank, deadlines, identical jobs, pins, webhooks, summaries; legal
transitions enforced.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Every change of state that there is; tests hold it against service.jobs.TRANSITIONS.
LEGAL = (
    "queued>running",
    "queued>paused",
    "queued>succeeded",
    "queued>failed",
    "queued>cancelled",
    "running>queued",
    "running>paused",
    "running>succeeded",
    "running>failed",
    "running>cancelled",
    "paused>queued",
    "paused>running",
    "paused>succeeded",
    "paused>failed",
    "paused>cancelled",
    "failed>queued",
    "cancelled>queued",
)
LEGAL_OF_STUDIES = "succeeded>queued"  # where some of its runs have failed
HOUR = 3600.0  # what a level of priority was worth when this was written


def upgrade() -> None:
    """Apply."""
    new: list[sa.Column[object]] = [
        sa.Column("rank", sa.Double(), nullable=False, server_default="0"),
        sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("fresh", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("dataset_digest", sa.String()),
        sa.Column("device_class", sa.String()),
        sa.Column("place", sa.JSON()),
        sa.Column("cells", sa.Integer()),
        sa.Column("cells_made", sa.Integer()),
        sa.Column("waits_for", sa.String()),
        sa.Column("webhook", sa.JSON()),
        sa.Column("timeout_seconds", sa.Double()),
        sa.Column("claimed_at", sa.Double()),
        sa.Column("deadline_at", sa.Double()),
        sa.Column("ran_seconds", sa.Double(), nullable=False, server_default="0"),
    ]
    for column in new:
        op.add_column("jobs", column)
    op.create_index("jobs_by_rank", "jobs", ["state", "rank", "id"])
    op.create_index("jobs_in_order", "jobs", ["parent_id", "id"])
    op.create_index("jobs_by_source", "jobs", ["cached_from"])
    op.create_index("jobs_by_leader", "jobs", ["waits_for"])
    op.create_table(
        "summaries",
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("document", sa.String(), nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column(
            "job_id",
            sa.String(),
            sa.ForeignKey("jobs.id", ondelete="CASCADE"),
            nullable=False,
            index=True,
        ),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("body", sa.String(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("next_at", sa.Double(), index=True),
        sa.Column("delivered_at", sa.Double()),
        sa.Column("attempts", sa.JSON(), nullable=False),
    )
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("value", sa.String(), nullable=False),
    )
    _fill()
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _fill() -> None:
    """What the new columns would hold, had they been there before."""
    op.execute(f"UPDATE jobs SET rank = queued_at - priority * {HOUR}")  # noqa: S608 - no user text
    op.execute(
        "UPDATE jobs SET cells = (SELECT count(*) FROM jobs AS c WHERE c.parent_id = jobs.id) "
        "WHERE kind = 'study'"
    )
    op.execute("UPDATE jobs SET cells_made = cells WHERE kind = 'study'")
    found = sa.text(
        "SELECT id, provenance FROM jobs WHERE state = 'succeeded' AND provenance IS NOT NULL"
    ).columns(provenance=sa.JSON)
    connection = op.get_bind()
    for job_id, provenance in connection.execute(found).all():
        if provenance:
            values = {
                "id": job_id,
                "digest": provenance["dataset"]["digest"],
                "device": provenance["device"].partition(":")[0],
            }
            connection.execute(
                sa.text(
                    "UPDATE jobs SET dataset_digest = :digest, device_class = :device WHERE id = "
                    ":id"
                ),
                values,
            )


def _illegal() -> str:
    legal = ", ".join(f"'{change}'" for change in LEGAL)
    change = "OLD.state || '>' || NEW.state"
    return (
        f"OLD.state <> NEW.state AND {change} NOT IN ({legal}) AND NOT (OLD.kind = 'study' "
        f"AND {change} = '{LEGAL_OF_STUDIES}')"
    )


def _sqlite() -> None:
    with op.batch_alter_table(
        "events", recreate="always", table_kwargs={"sqlite_autoincrement": True}
    ):
        pass  # its numbers are never given twice from now on
    op.execute(
        f"CREATE TRIGGER legal_transitions BEFORE UPDATE OF state ON jobs FOR EACH ROW WHEN "
        f"{_illegal()} "
        "BEGIN SELECT RAISE(ABORT, 'a job cannot change its state so'); END"
    )


def _postgresql() -> None:
    op.alter_column("events", "id", type_=sa.BigInteger())
    op.execute("ALTER SEQUENCE events_id_seq AS bigint")
    op.execute(
        "CREATE FUNCTION refuse_transition() RETURNS trigger AS $$ "
        "BEGIN RAISE EXCEPTION 'a job cannot change its state so: % > %', OLD.state, NEW.state "
        "USING ERRCODE = 'integrity_constraint_violation'; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        "CREATE TRIGGER legal_transitions BEFORE UPDATE OF state ON jobs FOR EACH ROW "
        f"WHEN ({_illegal()}) EXECUTE FUNCTION refuse_transition()"
    )


def downgrade() -> None:
    """Undo."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER legal_transitions")
    else:
        op.execute("DROP TRIGGER legal_transitions ON jobs")
        op.execute("DROP FUNCTION refuse_transition()")
    for table in ("secrets", "deliveries", "summaries"):
        op.drop_table(table)
    for index in ("jobs_by_leader", "jobs_by_source", "jobs_in_order", "jobs_by_rank"):
        op.drop_index(index, "jobs")
    names = (
        "rank",
        "pinned",
        "fresh",
        "dataset_digest",
        "device_class",
        "place",
        "cells",
        "cells_made",
        "waits_for",
        "webhook",
    )
    for name in (*names, "timeout_seconds", "claimed_at", "deadline_at", "ran_seconds"):
        op.drop_column("jobs", name)
