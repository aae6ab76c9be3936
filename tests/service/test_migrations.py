"""Each change of the schema can be undone and made again on both databases, and fills in data."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

import service.store
from service.store import Store
from service.store.database import Database
from service.store.tables import Base
from tests.factories import history, read, submit

MIGRATIONS = Path(service.store.__file__).parent / "migrations"
PROVENANCE = {"dataset": {"digest": "of the data"}, "device": "cuda:1"}
SUCCEEDED = {
    "id": "job_a",
    "kind": "train",
    "tags": "[]",
    "priority": 1,
    "state": "succeeded",
    "wanted": "run",
    "version": 1,
    "last_event": 0,
    "spec": "{}",
    "spec_digest": "of the spec",
    "engine_version": "0",
    "attempt": 1,
    "losses": 0,
    "fraction": 1.0,
    "message": "done",
    "created_at": 1.0,
    "queued_at": 1.0,
    "provenance": json.dumps(PROVENANCE),
}


@contextmanager
def configured(database: Database) -> Iterator[Config]:
    """Alembic over one transaction of a database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.engine.execution_options(write=True).begin() as connection:
        config.attributes["connection"] = connection
        yield config


def versions() -> list[str]:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]


@pytest.mark.parametrize("version", [*versions()[1:], "base"])
def test_a_schema_goes_back_and_comes_again_as_declared(either_store: Store, version: str) -> None:
    with configured(either_store.database) as config:
        command.downgrade(config, version)
    with configured(either_store.database) as config:
        command.upgrade(config, "head")
    with either_store.database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_jobs_outlive_the_way_back_to_the_first_schema(either_store: Store) -> None:
    job = submit(either_store, name="kept", tags=["a"])
    before = read(either_store, job.id)
    with configured(either_store.database) as config:
        command.downgrade(config, "0001")
    with configured(either_store.database) as config:
        command.upgrade(config, "head")
    after = read(either_store, job.id)
    facts = {"id", "name", "tags", "spec", "state", "priority", "created_at"}
    assert after.model_dump(include=facts) == before.model_dump(include=facts)
    assert history(either_store, job.id) == ["state queued"]


def test_results_of_the_first_version_know_data_and_device_for_identical_jobs(
    database_url: str,
) -> None:
    database = Database(database_url)
    names = ", ".join(SUCCEEDED)
    values = ", ".join(f":{name}" for name in SUCCEEDED)
    with configured(database) as config:
        command.upgrade(config, "0001")
        connection = config.attributes["connection"]
        connection.execute(text(f"INSERT INTO jobs ({names}) VALUES ({values})"), SUCCEEDED)  # noqa: S608
        command.upgrade(config, "0002")
        found = connection.execute(text("SELECT dataset_digest, device_class FROM jobs")).all()
    assert [tuple(row) for row in found] == [("of the data", "cuda")]
    database.close()
