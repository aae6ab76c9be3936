"""A database that is damaged or cannot be written: it is told at once, in words, and with what to
do, by the probe, the answers, the start, and the doctor.
"""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import event

from benchmarks.waiting import PROGRAM_SECONDS
from service.cli.doctor import Check, _database
from service.host.start_failures import MARK, ServeError
from service.settings import Settings
from service.store import Store, database
from service.store.database import DatabaseDamaged
from service.store.start_checks import refuse_damage, refuse_others_state
from service.web.dependencies import Resources
from tests.commands import Fflab
from tests.factories import submit
from tests.over_http import refused
from tests.over_http import submit as submit_over

API = ("-m", "service.serve", "--port", "0")
WORKER = ("-m", "workers", "--device", "cpu")


def ruin_root_page(file: Path, name: str) -> None:
    """Flip the first byte of the page where a table begins."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (root,) = connection.execute(query, (name,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as opened:
        opened.seek((root - 1) * size)
        opened.write(b"\xff")


def ready(client: httpx.Client, resources: Resources) -> tuple[int, str]:
    resources.reconciler.broker_ok = True
    answer = client.get("/readyz")
    assert answer.json()["database"] is answer.is_success
    return answer.status_code, answer.json()["status"]


def doctors_word(settings: Settings) -> Check:
    [found] = _database(settings)
    return found


def test_a_page_that_is_damaged_while_the_service_runs(
    client: httpx.Client, resources: Resources, settings: Settings
) -> None:
    submit_over(client)
    assert ready(client, resources) == (200, "ready")
    resources.store.database.close()  # pages that a connection has in memory hide the damage
    ruin_root_page(settings.root / "fflab.db", "jobs")
    status, said = ready(client, resources)
    assert (status, said.partition(" (")[0]) == (503, "not ready: The database file is damaged")
    problem = refused(client.get("/v1/jobs"), 503, "database-away")
    assert "damaged" in problem.detail
    assert "backup" in problem.detail
    assert doctors_word(settings).verdict == "fail"


def test_a_database_that_may_be_read_only(
    client: httpx.Client, resources: Resources, store: Store
) -> None:
    job = submit_over(client)
    store.database.close()
    event.listen(
        store.database.engine,
        "connect",
        lambda connection, _record: connection.execute("PRAGMA query_only=ON"),
    )
    problem = refused(
        client.post("/v1/jobs", json={"spec": {"kind": "check"}}), 503, "database-away"
    )
    assert "The database is read-only" in problem.detail
    status, said = ready(client, resources)
    assert status == 503
    assert "The database is read-only" in said
    assert client.get(f"/v1/jobs/{job.id}").is_success


def test_the_probe_writes_only_where_nothing_was_written_lately(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    event.listen(
        store.database.engine,
        "before_cursor_execute",
        lambda *call: written.append(call[2]) if call[2].startswith("UPDATE service") else None,
    )
    submit(store)
    store.database.ping()
    assert not written
    monkeypatch.setattr(database, "WRITTEN_LATELY_SECONDS", -1.0)
    store.database.ping()
    assert len(written) == 1


@pytest.mark.slow
@pytest.mark.parametrize("program", [API, WORKER], ids=["the API", "a worker"])
@pytest.mark.parametrize("fault", ["no database", "cut short"])
def test_a_file_that_is_no_database_is_refused_in_one_line(
    settings: Settings, fault: str, program: tuple[str, ...], fflab: Fflab
) -> None:
    file = settings.root / "fflab.db"
    if fault == "cut short":
        os.truncate(file, 20_000)
    else:
        file.write_bytes(b"this is no database\n" * 1000)
    environment = {
        **os.environ,
        "FFLAB_HOME": str(settings.root),
        "FFLAB_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    ended = subprocess.run(
        [sys.executable, "-P", *program],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PROGRAM_SECONDS,
    )
    assert ended.returncode == 3
    name, _, said = ended.stderr.strip().splitlines()[-1].partition(f" {MARK}")
    assert name in ("fflab api", "fflab worker")
    assert said.startswith(f"the database file {file} is damaged (")
    assert "restore it from a backup (docs/howto/backup.md)" in said
    assert "Traceback" not in ended.stderr
    check = doctors_word(settings)
    assert (check.verdict, f"{check.finding}: {check.advice}") == ("fail", said)
    listed = fflab("keys", "list", "--home", str(settings.root))
    assert (listed.code, listed.err.strip().splitlines()[-1]) == (3, f"fflab: {said}")


def test_damage_that_no_statement_meets_is_found_at_the_start(settings: Settings) -> None:
    refuse_damage(settings)
    assert "checked for damage in" in doctors_word(settings).finding
    ruin_root_page(settings.root / "fflab.db", "deliveries")
    refuse_others_state(settings)
    with pytest.raises(ServeError, match=r"damaged \(.*Page.*\): .*docs/howto/backup.md"):
        refuse_damage(settings)
    assert doctors_word(settings).verdict == "fail"


def test_the_check_for_damage_takes_no_longer_than_it_may(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(settings.database) as store:
        monkeypatch.setattr(database, "STEPS_BETWEEN_LOOKS", 1)
        assert "the rest was not checked" in store.database.check(seconds=0.0)
        assert store.jobs.page(limit=1).jobs == [], "the connection is used further"
        monkeypatch.setattr(database, "CHECKED_BYTES", 1000)
        assert "larger than" in store.database.check()


def test_what_is_damaged_is_named_by_the_file(settings: Settings) -> None:
    (settings.root / "fflab.db").write_bytes(b"x" * 5000)
    with (
        pytest.raises(DatabaseDamaged, match="file is not a database"),
        Store(settings.database) as store,
    ):
        store.jobs.page(limit=1)
