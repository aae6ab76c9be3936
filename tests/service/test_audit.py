"""The audit log: who did what, in the transaction that did it; nobody changes what it says."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Executable, delete, func, select, text, update
from sqlalchemy.exc import IntegrityError

from service.schemas import AuditLine
from service.settings import Settings
from service.store import Store
from service.store.audit import FORGOTTEN_AT_ONCE
from service.store.tables import AuditRow, JobRow
from service.web import auth
from service.web.app import create_app
from service.web.auth import create_key
from tests.commands import Fflab
from tests.factories import submit as stored
from tests.over_http import refused, submit
from tests.service.arrays import X, Y, npz
from tests.serving import client_of, http_client

STUDY = {"kind": "study", "base": {"kind": "train", "epochs": 1}, "grid": {"epochs": [1, 2]}}
SECRET = "token-of-the-hook"


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)


@pytest.fixture
def ada(client: httpx.Client, store: Store) -> httpx.Client:
    """The client with a key of an administrator."""
    key = create_key(store.api_keys, "ada", scope="admin")
    client.headers["X-API-Key"] = key.secret
    return client


def lines(store: Store) -> list[AuditLine]:
    """What is noted, the oldest first."""
    return store.audit.page(limit=500).items[::-1]


def done(store: Store) -> list[str]:
    return [one.action for one in lines(store)]


def test_what_is_done_to_jobs_is_noted_with_key_and_address(
    ada: httpx.Client, store: Store
) -> None:
    job, study = submit(ada), submit(ada, STUDY)
    for action in ("pause", "resume", "cancel", "retry", "cancel"):
        ada.post(f"/v1/jobs/{job.id}/{action}").raise_for_status()
    ada.patch(f"/v1/jobs/{job.id}", json={"name": "x", "pinned": True}).raise_for_status()
    ada.delete(f"/v1/jobs/{job.id}").raise_for_status()
    made, *found = lines(store)
    assert (made.action, made.via, made.actor) == ("make-key", "service", None)
    assert [one.action for one in found] == [
        *("submit", "submit", "pause", "resume", "cancel", "retry", "cancel", "change", "delete")
    ]
    assert {(one.actor, one.key, one.address, one.via) for one in found} == {
        ("ada", made.target, "127.0.0.1", "request")
    }
    assert [one.target for one in found if one.target != job.id] == [study.id]
    assert found[1].details == {"kind": "study", "runs": 2}
    assert found[-2].details == {"fields": ["name", "pinned"]}
    assert abs(datetime.now(UTC) - found[0].at) < timedelta(minutes=5)


def test_links_uploads_and_keys_are_noted(ada: httpx.Client, store: Store) -> None:
    job = submit(ada)
    made = ada.post(f"/v1/jobs/{job.id}/shares", json={"expires_seconds": 60}).json()
    ada.delete(f"/v1/jobs/{job.id}/shares/{made['id']}")
    for _again in range(2):  # the second changes nothing
        sent = ada.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
        sent.raise_for_status()
    ada.delete("/v1/datasets/mine").raise_for_status()
    store.api_keys.limit("ada", {"max_queued": 7})
    store.api_keys.limit("ada", {})
    store.api_keys.revoke("ada")
    assert not store.api_keys.revoke("ada")
    store.api_keys.clear()
    key, _submitted, shared, unshared, uploaded, removed, *limited = lines(store)
    assert shared.details == {"link": made["id"], "expires_in_seconds": 60}
    assert (unshared.action, unshared.details) == ("unshare", {"links": [made["id"]]})
    assert (uploaded.action, uploaded.target, uploaded.actor) == ("upload", "mine", "ada")
    assert uploaded.details["kind"] == "dataset"
    assert (removed.action, removed.target) == ("remove-upload", "mine")
    assert [(one.action, one.target) for one in limited] == [
        ("limit-key", key.target),
        ("revoke-key", key.target),
        ("clear-keys", None),
    ]
    assert limited[0].details == {"max_queued": 7}


def test_what_is_refused_is_not_noted(ada: httpx.Client, store: Store) -> None:
    job = submit(ada)
    before = done(store)
    assert ada.delete(f"/v1/jobs/{job.id}").status_code == 409
    assert ada.post("/v1/jobs/job_0/cancel").status_code == 404
    assert done(store) == before


def test_no_secret_is_noted(ada: httpx.Client, store: Store) -> None:
    hook = {
        "url": f"https://example.org/{SECRET}",
        "secret": "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw",
    }
    job = submit(ada, name="a private name", webhook=hook)
    made = ada.post(f"/v1/jobs/{job.id}/shares", json={}).json()
    with store.database.reading() as session:
        rows = [str(row) for row in session.execute(select(AuditRow.__table__))]
    told = "\n".join(rows)
    for secret in (ada.headers["X-API-Key"], SECRET, "whsec_", made["url"].split("/")[-1]):
        assert secret not in told
    assert "private name" not in told


def test_what_is_noted_stays_as_it_is(either_store: Store) -> None:
    stored(either_store)
    changes: list[Executable] = [update(AuditRow).values(actor="bob"), delete(AuditRow)]
    if not either_store.database.is_sqlite:
        changes.append(text("TRUNCATE audit"))
    for change in changes:
        with (
            pytest.raises(IntegrityError, match="stays as it is"),
            either_store.database.writing() as session,
        ):
            session.execute(change)
    assert done(either_store) == ["submit"]


def test_nothing_is_done_without_a_note(either_store: Store) -> None:
    """Both are of one transaction: where the note cannot be written, nothing is."""
    with either_store.database.writing() as session:
        session.execute(text("ALTER TABLE audit RENAME TO audit_away"))
    with pytest.raises(Exception, match="audit"):
        stored(either_store)
    with either_store.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(JobRow)) == 0


def _old(store: Store, days: float, count: int = 1) -> None:
    """Note something as if it were done so many days ago."""
    with store.database.writing() as session:
        now = store.database.now(session)
        values = {"at": now - days * 86_400, "via": "service", "action": "cancel", "details": {}}
        session.execute(AuditRow.__table__.insert(), [values] * count)


def test_old_lines_are_forgotten(either_store: Store) -> None:
    for days in (0, 0.5, 2, 40):
        _old(either_store, days)
    assert either_store.audit.forget(30) == 1
    assert either_store.audit.forget(0.1) == 1, "a day is kept, whatever is asked for"
    assert len(lines(either_store)) == 2


def test_the_service_forgets_by_itself(tmp_path: Path, settings: Settings) -> None:
    quick = settings.model_copy(update={"audit_days": 30.0})
    app = create_app(quick)
    with client_of(app):
        resources = app.state.resources
        _old(resources.store, 40, FORGOTTEN_AT_ONCE + 1)
        reconciler = resources.reconciler
        reconciler._sweep_due = 0.0
        while reconciler._sweep():
            pass
        assert resources.store.audit.page(limit=1).items == []


def test_the_log_is_read_by_administrators_in_pages_and_by_filters(
    ada: httpx.Client, store: Store
) -> None:
    jobs = [submit(ada, {"kind": "train", "epochs": n}) for n in (1, 2, 3)]
    ada.post(f"/v1/jobs/{jobs[0].id}/cancel")
    found, cursor = [], None
    while cursor is not None or not found:
        page = ada.get("/v1/audit", params={"limit": 2, **({"cursor": cursor} if cursor else {})})
        found += page.json()["items"]
        cursor = page.json()["next_cursor"]
        assert len(page.json()["items"]) <= 2
    assert [one["action"] for one in found] == ["cancel", *["submit"] * 3, "make-key"]

    def count(**filters: str) -> int:
        return len(ada.get("/v1/audit", params=filters).json()["items"])

    assert count(actor="ada") == 4
    assert count(action="submit") == 3
    assert count(target=jobs[0].id) == 2
    assert count(target=jobs[0].id, action="cancel", actor="bob") == 0
    now = datetime.now(UTC)
    assert count(since=(now - timedelta(hours=1)).isoformat()) == 5
    assert count(since=(now + timedelta(hours=1)).isoformat()) == 0
    assert count(until=(now - timedelta(hours=1)).isoformat()) == 0
    refused(ada.get("/v1/audit?cursor=x"), 422, "invalid")
    with http_client(str(ada.base_url)) as bob:
        bob.headers["X-API-Key"] = create_key(store.api_keys, "bob").secret
        refused(bob.get("/v1/audit"), 403, "key-may-not")
        assert bob.get("/audit").status_code == 403
        assert bob.get("/usage").status_code == 200


def test_administrators_have_a_page(ada: httpx.Client, store: Store) -> None:
    job = submit(ada)
    page = ada.get("/audit").text
    assert f'href="/jobs/{job.id}"' in page
    assert "make-key" in page
    assert job.id not in ada.get("/audit", params={"action": "cancel"}).text
    for n in range(101):
        store.audit.note("show-secret", str(n))
    older = ada.get("/audit?action=show-secret").text
    assert "cursor=" in older
    assert "<td>0</td>" not in older


def test_a_service_without_keys_notes_the_address(client: httpx.Client, store: Store) -> None:
    submit(client)
    (line,) = lines(store)
    assert (line.actor, line.key, line.address, line.via) == (None, None, "127.0.0.1", "request")


def test_commands_are_noted_and_show_the_log(fflab: Fflab, store: Store) -> None:
    fflab("keys", "create", "ada", "--max-bytes", "50GB")
    store.api_keys.clear()
    line = lines(store)[0]
    assert (line.action, line.via) == ("make-key", "command")
    assert "@" in (line.address or "")
    assert line.details == {"scope": "submit", "max_bytes": 50_000_000_000}


def test_the_command_pages_through_the_log(fflab: Fflab, store: Store) -> None:
    for n in range(3):
        store.audit.note("show-secret", str(n))
    shown = fflab("audit", "--since", "1h").lines
    assert [one.split("\t")[3:5] for one in shown[1:]] == [
        ["show-secret", str(n)] for n in (2, 1, 0)
    ]
    assert len(fflab("audit", "--limit", "2").lines) == 3
    as_json = json.loads(fflab("audit", "--target", "1", "--json").out)
    assert [one["target"] for one in as_json] == ["1"]
    assert fflab("audit", "--since", "soon").code == 2
