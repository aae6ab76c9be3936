"""Workers and APIs of neighbouring versions: who claims what, who waits, and what is said."""

import ast
import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import service.store
from ffengine.objectives import Polar
from ffengine.spec import TrainSpec
from ffengine.spec_versions import SPEC_VERSION
from ffengine.version import VERSION
from service.background.waiting import why_not_understood
from service.jobs import JobState
from service.lists.conditions import parse_filter
from service.placement import GB
from service.schemas import WorkerInfo
from service.store import Store
from service.store.database import USABLE_FROM, DatabaseRefused
from service.store.queue import NEEDS, Queue
from service.store.tables import JobRow
from tests.commands import Fflab
from tests.factories import (
    LEASE,
    STUDY,
    end,
    history,
    let_lease_run_out,
    losses,
    read,
    set_values,
    submit,
)

NEW = TrainSpec(objective=Polar(), epochs=3)  # of version 2
PLAIN = TrainSpec(epochs=4)  # of version 1
NEWER = SPEC_VERSION + 1
# how workers of 0.2.0 look for a job, and workers of today until they knew versions
AS_OF_OLD = "SELECT id FROM jobs WHERE state = 'queued' AND kind <> 'study' AND waits_for IS NULL"


def older(store: Store, knows: int = 1) -> Queue:
    """The queue as a worker sees it that knows no newer version of specs."""
    return Queue(store.database, knows=knows)


def listed(store: Store, name: str, spec_version: int | None, **facts: Any) -> None:
    """Let a worker be alive that knows this version of specs."""
    worker = WorkerInfo(
        id=name,
        host=name,
        pid=1,
        device="cpu",
        device_name=None,
        memory_bytes=64 * GB,
        version="0.2.0",
        job=None,
        spec_version=spec_version,
        **facts,
    )
    store.workers.heartbeat(worker)


def seen_by_old(store: Store) -> list[str]:
    with store.database.engine.connect() as connection:
        return list(connection.scalars(text(AS_OF_OLD)))


def stored(store: Store, job_id: str) -> JobRow:
    with store.database.reading() as session:
        return session.get_one(JobRow, job_id)


def explained(store: Store) -> None:
    workers = store.workers.alive(60.0)
    store.queue.explain_waiting(None, -1.0, not_understood=partial(why_not_understood, workers))


def test_a_worker_passes_a_job_that_it_does_not_understand_and_claims_others(
    either_store: Store,
) -> None:
    first, second = submit(either_store, NEW), submit(either_store, PLAIN)
    queue = older(either_store)
    claim = queue.claim_next("old", LEASE)
    assert claim is not None
    assert claim.job_id == second.id
    assert queue.claim_next("old", LEASE) is None
    assert queue.claim(first.id, "old", LEASE) is None
    assert read(either_store, first.id).attempts == 0
    assert history(either_store, first.id) == ["state queued"]
    newer = either_store.queue.claim_next("new", LEASE)
    assert newer is not None
    assert (newer.job_id, newer.spec) == (first.id, NEW)


def test_a_worker_from_before_versions_does_not_see_such_a_job_whatever_happens_to_it(
    either_store: Store,
) -> None:
    job = submit(either_store, NEW)
    assert seen_by_old(either_store) == []
    assert read(either_store, job.id).waits_for is None
    claim = either_store.queue.claim(job.id, "new", LEASE)
    assert claim is not None
    let_lease_run_out(either_store, job.id)
    assert either_store.queue.expire_leases(3) == [job.id]
    assert seen_by_old(either_store) == []
    either_store.actions.pause(job.id)
    either_store.actions.resume(job.id)
    assert seen_by_old(either_store) == []
    assert either_store.queue.resolve_duplicates() == 0
    assert either_store.queue.due_for_dispatch(9, 5.0) == [job.id]
    assert either_store.queue.length(9) == 1
    end(either_store, job, well=True)
    assert read(either_store, job.id).state == JobState.succeeded


def test_identical_jobs_wait_for_one_that_waits_for_itself(either_store: Store) -> None:
    leader, follower, third = (submit(either_store, NEW) for _ in range(3))
    assert read(either_store, follower.id).waits_for == leader.id
    either_store.actions.cancel(leader.id)
    assert either_store.queue.resolve_duplicates() == 2
    assert read(either_store, follower.id).waits_for is None
    assert read(either_store, third.id).waits_for == follower.id
    assert seen_by_old(either_store) == []
    end(either_store, follower, well=True)
    assert either_store.queue.resolve_duplicates() == 1
    assert read(either_store, third.id).cached_from == follower.id


def test_what_says_nothing_new_is_stored_so_that_older_programs_read_it(
    either_store: Store,
) -> None:
    plain, study = submit(either_store, PLAIN), submit(either_store, STUDY)
    run = either_store.jobs.children(study.id)[0][0]
    for job_id in (plain.id, run.id):
        row = stored(either_store, job_id)
        assert (row.spec_version, row.waits_for) == (1, None)
        assert "select" not in row.spec
    assert read(either_store, plain.id).spec == PLAIN
    assert stored(either_store, submit(either_store, NEW).id).spec_version == SPEC_VERSION


def test_a_job_of_wrong_version_is_left_to_newer_workers_and_blocks_nobody(
    either_store: Store,
) -> None:
    wrong, behind = submit(either_store, TrainSpec(epochs=1)), submit(either_store, PLAIN)
    document = stored(either_store, wrong.id).spec | {"of_tomorrow": 1}
    set_values(either_store, wrong.id, spec=document)
    claim = either_store.queue.claim_next("w", LEASE)
    assert claim is not None
    assert claim.job_id == behind.id
    row = stored(either_store, wrong.id)
    assert (row.state, row.attempt, row.spec_version) == ("queued", 0, NEWER)
    assert losses(either_store, wrong.id) == 0
    assert seen_by_old(either_store) == []
    said = either_store.events.of(wrong.id, after=0, limit=9)[-1].data["message"]
    assert said.startswith(f"w (fflab {VERSION}) does not understand its spec, and leaves it to a")
    assert "of_tomorrow" in said
    assert either_store.queue.claim_next("w", LEASE) is None
    assert len(history(either_store, wrong.id)) == 2, "it is said once"


def test_a_worker_is_not_starved_by_jobs_that_it_does_not_understand(either_store: Store) -> None:
    submit(either_store, NEW)
    assert older(either_store).longest_wait_seconds(able=True) is None
    assert either_store.queue.longest_wait_seconds(able=True) is not None


def test_a_job_that_no_live_worker_understands_says_so_until_one_comes(
    either_store: Store,
) -> None:
    listed(either_store, "w0", None)
    job, plain = submit(either_store, NEW), submit(either_store, PLAIN)
    explained(either_store)
    assert read(either_store, job.id).held_up == (
        f"needs version 2 of specs, and the live workers know 1 (fflab 0.2.0), while this API is "
        f"fflab {VERSION} and knows {SPEC_VERSION}: upgrade a worker"
    )
    assert read(either_store, job.id).progress.message.startswith(NEEDS)
    assert read(either_store, plain.id).held_up is None
    listed(either_store, "w1", NEWER)
    explained(either_store)
    assert read(either_store, job.id).held_up is None


def test_the_host_that_lost_a_job_gets_it_again_where_no_other_understands_it(
    either_store: Store,
) -> None:
    listed(either_store, "elsewhere", 1)
    job = submit(either_store, NEW)
    claim = either_store.queue.claim(job.id, "here-1", LEASE)
    assert claim is not None
    either_store.queue.lose(job.id, claim.attempt, "it died", 3)
    set_values(either_store, job.id, avoid_host="here")
    here = Queue(either_store.database, host="here")
    again = here.claim_next("here-2", LEASE)
    assert again is not None
    assert again.job_id == job.id


def test_the_answer_of_a_submit_says_that_no_worker_understands_it(
    client: httpx.Client, store: Store, fflab: Fflab
) -> None:
    listed(store, "w0", 1)
    spec = {"kind": "train", "epochs": 2, "objective": {"name": "polar"}}
    job = client.post("/v1/jobs", json={"spec": spec}).json()
    assert job["held_up"].startswith("needs version 2 of specs, and the live workers know 1")
    assert "needs version 2 of specs" in client.get(f"/jobs/{job['id']}").text
    study = {"kind": "study", "base": spec, "grid": {"epochs": [3, 4]}}
    answer = client.post("/v1/jobs", json={"spec": study}).json()
    assert answer["held_up"].startswith("needs version 2 of specs")
    plain = client.post("/v1/jobs", json={"spec": {"kind": "train", "epochs": 2}}).json()
    assert plain["held_up"] is None
    sent = fflab("submit", "quick", "--set", "base.objective.name=polar")
    assert sent.err.startswith("waits: needs version 2 of specs")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("select=last", 1),
        ("select=best_validation", 0),
        ("monitor.accuracy=true", 0),
        ("monitor.accuracy=false", 1),
        ("dataset.label_code.name=one_hot", 1),
    ],
)
def test_lists_are_filtered_by_defaults_that_are_not_stored(
    either_store: Store, asked: str, found: int
) -> None:
    submit(either_store, PLAIN)
    page = either_store.jobs.page(limit=9, where=parse_filter(asked))
    assert len(page.jobs) == found


# The schema


def as_newer(store: Store, usable_from: str | None) -> None:
    """Let the schema be one of a newer version."""
    with store.database.engine.execution_options(write=True).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("UPDATE service SET usable_from = :it"), {"it": usable_from})


def test_a_newer_schema_that_may_be_used_is_used_and_left_as_it_is(either_store: Store) -> None:
    as_newer(either_store, USABLE_FROM)
    either_store.migrate()
    either_store.database.check()
    job = submit(either_store, PLAIN)
    end(either_store, job, well=True)
    assert read(either_store, job.id).state == JobState.succeeded
    with either_store.database.engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


@pytest.mark.parametrize("usable_from", [None, "9998"])
def test_a_newer_schema_that_may_not_be_used_is_refused_in_one_line(
    either_store: Store, usable_from: str | None
) -> None:
    as_newer(either_store, usable_from)
    for use in (either_store.migrate, either_store.database.check):
        with pytest.raises(DatabaseRefused, match="was written by a newer fflab") as refused:
            use()
        assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_an_upgrade_that_cannot_have_its_locks_says_so_and_changes_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.database.MIGRATION_LOCK_SECONDS", 1.0)
    store = Store(postgres_url)
    config = Config()
    config.set_main_option("script_location", "service.store:migrations")
    with store.database.engine.execution_options(write=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0013")
    with store.database.engine.begin() as holder:
        holder.execute(text("SELECT count(*) FROM jobs"))  # as a backup does for hours
        with pytest.raises(DatabaseRefused, match="others keep its tables locked") as refused:
            store.migrate()
    assert "\n" not in str(refused.value)
    store.migrate()
    assert submit(store, PLAIN).state == JobState.queued
    store.close()


def operations_of(migration: Path) -> set[str]:
    """The operations of Alembic by which a migration changes a schema."""
    module = ast.parse(migration.read_text())
    upgrade = next(
        part for part in module.body if isinstance(part, ast.FunctionDef) and part.name == "upgrade"
    )
    return {
        call.func.attr
        for call in ast.walk(upgrade)
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    }


def statements_of(migration: Path) -> str:
    """The SQL that a migration executes at an upgrade, beside what Alembic writes."""
    module = ast.parse(migration.read_text())
    parts = [part for part in module.body if getattr(part, "name", "") != "downgrade"]
    texts = [
        node.value for part in parts for node in ast.walk(part) if isinstance(node, ast.Constant)
    ]
    return "\n".join(text for text in texts if isinstance(text, str))


def needs_a_value(migration: Path) -> list[int]:
    """The lines of new columns of old tables that older programs could not leave out."""
    module, found = ast.parse(migration.read_text()), []
    of_new_tables = {
        id(column)
        for call in ast.walk(module)
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "create_table"
        for column in ast.walk(call)
    }
    for call in ast.walk(module):
        if id(call) in of_new_tables:
            continue
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "Column":
            given = {word.arg: word.value for word in call.keywords}
            strict = getattr(given.get("nullable"), "value", True) is False
            if strict and "server_default" not in given:
                found.append(call.lineno)
    return found


def later_migrations() -> list[Path]:
    """The migrations since the oldest schema whose programs may use today's."""
    folder = Path(service.store.__file__).parent / "migrations" / "versions"
    return [file for file in sorted(folder.glob("0*.py")) if file.name[:4] >= USABLE_FROM]


def test_migrations_since_the_oldest_usable_schema_only_add() -> None:
    for migration in later_migrations():
        taken = {one for one in operations_of(migration) if one.startswith(("drop_", "alter_"))}
        assert not taken | {one for one in operations_of(migration) if one.startswith("rename_")}, (
            f"{migration.name}: programs of {USABLE_FROM} use today's schema, see USABLE_FROM"
        )
        assert "create_check_constraint" not in operations_of(migration)
        assert not re.search(r"\b(ALTER|DROP|RENAME|CONSTRAINT)\b", statements_of(migration))
        assert needs_a_value(migration) == [], f"{migration.name}: give it a server_default"


# What people see of versions


@pytest.mark.slow
def test_workers_of_other_versions_say_how_they_differ_and_what_it_means(
    client: httpx.Client, store: Store, fflab: Fflab
) -> None:
    listed(store, "old", None)
    listed(store, "new", NEWER)
    same = WorkerInfo(
        id="same",
        host="same",
        pid=1,
        device="cpu",
        device_name=None,
        memory_bytes=None,
        version=VERSION,
        job=None,
        spec_version=SPEC_VERSION,
    )
    store.workers.heartbeat(same)
    there = {one["id"]: one["differs"] for one in client.get("/v1/workers").json()["items"]}
    passes = "it passes jobs that ask for what came later; upgrade it"
    assert there["old"] == f"fflab 0.2.0 (specs 1) beside the API's {VERSION} (2): {passes}"
    assert there["new"].endswith("upgrade the API to ask for what came later")
    assert there["same"] is None
    assert "upgrade it" in client.get("/workers").text
    assert f"old: {there['old']}" in fflab("workers").out
    checks = fflab("doctor").out
    assert "beside the API's" in checks
    assert passes in checks
