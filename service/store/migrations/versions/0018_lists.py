"""Indexes for every filter of a list, for jobs and for runs of studies; tags in a table."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# what a list reads of each job is in the index, so that its rows are not looked at
LISTED = {
    "name": ("name", "id", "state", "private", "submitted_by"),
    "project": ("project", "id", "state", "private", "submitted_by"),
    "owner": ("submitted_by", "id", "state", "private"),
    "time": ("created_at", "id", "state", "private", "submitted_by"),
    "kind": ("kind", "id", "state", "private", "submitted_by"),
    "state": ("state", "id", "private", "submitted_by"),
}
GONE = "DELETE FROM job_tags WHERE job_id = NEW.id"
WHICH = {"alone": "parent_id IS NULL", "runs": "parent_id IS NOT NULL"}


def upgrade() -> None:
    """Apply."""
    for which, condition in WHICH.items():
        for name, columns in LISTED.items():
            op.create_index(
                f"jobs_{which}_by_{name}",
                "jobs",
                list(columns),
                sqlite_where=sa.text(condition),
                postgresql_where=sa.text(condition),
            )
    op.create_index("jobs_of_parent", "jobs", ["parent_id", "state", "private", "submitted_by"])
    op.create_table(
        "job_tags",
        sa.Column("tag", sa.String(), primary_key=True),
        sa.Column("is_run", sa.Boolean(), primary_key=True),
        sa.Column(
            "job_id", sa.String(), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True
        ),
    )
    op.create_index("job_tags_of_job", "job_tags", ["job_id"])
    if op.get_bind().dialect.name == "sqlite":
        _sqlite()
    else:
        _postgresql()


def _sqlite() -> None:
    copied = (
        "INSERT OR IGNORE INTO job_tags (tag, is_run, job_id) "
        "SELECT t.value, {job}.parent_id IS NOT NULL, {job}.id FROM {source}json_each({job}.tags) t"
    )
    op.execute(copied.format(job="jobs", source="jobs, "))
    added = copied.format(job="NEW", source="")
    op.execute(
        "CREATE TRIGGER tags_of_new AFTER INSERT ON jobs FOR EACH ROW "
        f"WHEN NEW.tags <> '[]' BEGIN {added}; END"
    )
    op.execute(
        "CREATE TRIGGER tags_changed AFTER UPDATE OF tags ON jobs FOR EACH ROW "
        f"BEGIN {GONE}; {added}; END"
    )


def _postgresql() -> None:
    copied = (
        "INSERT INTO job_tags (tag, is_run, job_id) "
        "SELECT t, {job}.parent_id IS NOT NULL, {job}.id "
        "FROM {source}json_array_elements_text({job}.tags) t ON CONFLICT DO NOTHING"
    )
    op.execute(copied.format(job="jobs", source="jobs, "))
    op.execute(
        "CREATE FUNCTION copy_tags() RETURNS trigger AS $$ BEGIN "
        f"{GONE}; {copied.format(job='NEW', source='')}; RETURN NULL; END $$ LANGUAGE plpgsql"
    )
    op.execute(
        "CREATE TRIGGER tags_of_new AFTER INSERT ON jobs FOR EACH ROW "
        "WHEN (NEW.tags::text <> '[]') EXECUTE FUNCTION copy_tags()"
    )
    op.execute(
        "CREATE TRIGGER tags_changed AFTER UPDATE OF tags ON jobs FOR EACH ROW "
        "EXECUTE FUNCTION copy_tags()"
    )


def downgrade() -> None:
    """Undo."""
    on = "" if op.get_bind().dialect.name == "sqlite" else " ON jobs"
    for trigger in ("tags_changed", "tags_of_new"):
        op.execute(f"DROP TRIGGER {trigger}{on}")
    if on:
        op.execute("DROP FUNCTION copy_tags()")
    op.drop_table("job_tags")
    for which in WHICH:
        for name in LISTED:
            op.drop_index(f"jobs_{which}_by_{name}", "jobs")
    op.drop_index("jobs_of_parent", "jobs")
