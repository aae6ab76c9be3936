"""Share links: what they show, to whom, for how long, and that nothing tells of their secret."""

import asyncio
import json
import re
from collections.abc import Iterator, MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from playwright.sync_api import Browser, expect

from benchmarks.waiting import PATIENCE_SECONDS
from service.cli.share import seconds_of
from service.client import Client
from service.store import Store, TooManyShares
from service.store.shares import MOST_SHARES
from service.store.tables import ShareRow
from service.web.auth import create_key
from service.web.sharing import HEADERS, WRONG_GUESSES, digest_of, find_share, new_secret
from tests.chromium import chromium, faultless_page
from tests.commands import Fflab
from tests.over_http import NOBODY, refused, submit, succeed

PATIENCE = 1000 * PATIENCE_SECONDS  # milliseconds


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def job(client: httpx.Client, store: Store) -> str:
    found = submit(client, name="mine")
    succeed(store, found.id)
    return found.id


def shared(client: httpx.Client, job: str, **body: object) -> str:
    """The path of a new link."""
    made = client.post(f"/v1/jobs/{job}/shares", json=body)
    assert made.status_code == 201, made.text
    return str(httpx.URL(made.json()["url"]).path)


def lock(app: FastAPI, store: Store) -> dict[str, str]:
    """Let the service need keys from now on; the headers of one."""
    secret = create_key(store.api_keys, "alice").secret
    app.state.resources.authenticator.refresh()
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.slow
def test_a_link_shows_the_job_without_a_key_and_nothing_else(
    client: httpx.Client, app: FastAPI, store: Store, job: str
) -> None:
    other = submit(client, name="theirs").id
    link = shared(client, job)
    keyed = lock(app, store)
    assert client.get(f"/v1/jobs/{job}").status_code == 401
    page = client.get(link)
    assert page.status_code == 200
    assert "mine" in page.text
    for name in ("result", "result.csv", "result.tex", "curves", "curves.csv", "methods.md"):
        assert client.get(f"{link}/v1/jobs/{job}/{name}").status_code == 200, name
    assert client.get(f"{link}/jobs/{job}").status_code == 200
    for path in (
        f"/jobs/{other}",
        f"/v1/jobs/{other}/result",
        f"/v1/jobs/{job}",
        f"/v1/jobs/{job}/events",
        f"/v1/jobs/{job}/paper.zip/x",
        f"/v1/jobs/{job}/log",
        f"/v1/jobs/{job}/webhook",
        f"/v1/jobs/{job}/shares",
        f"/v1/jobs/{job}/weights.safetensors",
        f"/v1/jobs/{job}/result/../../..",
        "/v1/jobs",
        "/v1/workers",
        "/v1/usage",
        "/v1/audit",
        "/audit",
        "/jobs",
        "/new",
        "/login",
        "/metrics",
        "/openapi.json",
        f"/v1/jobs/{NOBODY}/result",
    ):
        assert client.get(f"{link}{path}").status_code == 404, path
    assert client.get(f"/v1/jobs/{other}", headers=keyed).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_link_reads_alone(client: httpx.Client, job: str, method: str) -> None:
    link = shared(client, job)
    for path in ("", f"/jobs/{job}", f"/v1/jobs/{job}/result"):
        assert client.request(method, f"{link}{path}").status_code == 405
    for action in ("cancel", "retry", "shares"):
        assert client.request(method, f"{link}/v1/jobs/{job}/{action}").status_code in (404, 405)
    assert client.get(f"/v1/jobs/{job}").status_code == 200


@pytest.mark.slow
def test_the_page_of_a_link_leads_to_no_other_page_and_to_no_action(
    client: httpx.Client, store: Store, job: str
) -> None:
    link = shared(client, job)
    text = client.get(link).text
    for marker in (
        "data-post",
        "data-delete",
        "data-patch",
        "data-share",
        "/new?",
        "/login",
        "curl",
    ):
        assert marker not in text, marker
    for address in re.findall(r'(?:href|src|data-\w+)="(/[^"]*)"', text):
        known = address.startswith((f"{link}/jobs/{job}", f"{link}/v1/jobs/{job}/", "/static/"))
        assert known or address == link, address
        if "/chart/" in address or "/report.html" in address:  # drawn by another test
            continue
        answer = client.get(address.replace("&amp;", "&"))
        assert answer.status_code in (200, 304), address


def test_no_answer_tells_another_site_of_the_link(client: httpx.Client, job: str) -> None:
    link = shared(client, job)
    for path in (
        link,
        f"{link}/v1/jobs/{job}/result",
        f"{link}/nothing",
        f"/shared/{new_secret()}",
    ):
        headers = client.get(path).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS
        assert headers["content-security-policy"]


@pytest.mark.slow
def test_charts_and_report_are_drawn_for_a_link(client: httpx.Client, job: str) -> None:
    link = shared(client, job)
    charts = client.get(f"{link}/v1/jobs/{job}/charts").json()["items"]
    address = next(one["links"]["svg"] for one in charts if one["name"] == "sparsity")
    assert address.startswith(link)
    assert client.get(address).text.startswith("<svg")
    report = client.get(f"{link}/v1/jobs/{job}/report.html")
    assert report.status_code == 200
    assert link not in report.text


@pytest.mark.slow
def test_a_link_of_a_study_shows_its_runs(client: httpx.Client, app: FastAPI, store: Store) -> None:
    spec = {"kind": "study", "base": {"kind": "train", "epochs": 1}, "grid": {"seeds": [[0], [1]]}}
    study = submit(client, spec).id
    other = submit(client).id
    runs = [run["id"] for run in client.get("/v1/jobs", params={"parent": study}).json()["items"]]
    assert len(runs) == 2
    succeed(store, runs[0])
    link, of_run = shared(client, study), shared(client, runs[0])
    lock(app, store)
    assert client.get(f"{link}/v1/jobs/{runs[0]}/result").status_code == 200
    assert client.get(f"{link}/jobs/{runs[1]}").status_code == 200
    assert client.get(f"{link}/jobs/{other}").status_code == 404
    assert client.get(of_run).status_code == 200
    page = client.get(link).text
    addresses = re.findall(r'(?:href|src|data-chart)="(/[^"#]*)', page)
    assert any(address.endswith(f"/jobs/{runs[0]}") for address in addresses)
    for address in addresses:
        if "/chart/" not in address and "/report.html" not in address:  # drawn by another test
            assert client.get(address.replace("&amp;", "&")).status_code in (200, 304), address
    assert 'type="checkbox"' not in page  # nothing could be done with what is selected
    assert client.get(f"{of_run}/jobs/{study}").status_code == 404
    assert client.get(f"{of_run}/jobs/{runs[1]}").status_code == 404


def test_a_link_is_listed_without_its_secret_and_is_gone_when_revoked(
    client: httpx.Client, app: FastAPI, store: Store, job: str
) -> None:
    keyed = lock(app, store)
    made = client.post(
        f"/v1/jobs/{job}/shares", json={"expires_seconds": 3600}, headers=keyed
    ).json()
    link = str(httpx.URL(made["url"]).path)
    listed = client.get(f"/v1/jobs/{job}/shares", headers=keyed)
    (one,) = listed.json()["items"]
    assert (one["id"], one["created_by"]) == (made["id"], "alice")
    assert one["expires_at"] is not None
    assert link.removeprefix("/shared/") not in listed.text
    refused(client.get(f"/v1/jobs/{job}/shares"), 401, "key-needed")
    refused(client.post(f"/v1/jobs/{job}/shares", json={}), 401, "key-needed")
    page = client.get(f"/jobs/{job}", headers=keyed).text
    assert made["id"] in page
    assert link not in page
    address = f"/v1/jobs/{job}/shares/{made['id']}"
    refused(client.delete(f"{address}x", headers=keyed), 404, "no-such-share")
    assert client.get(link).status_code == 200
    assert client.delete(address, headers=keyed).status_code == 204
    refused(client.get(link), 404, "no-such-share")
    refused(client.delete(address, headers=keyed), 404, "no-such-share")


def test_all_links_are_revoked_at_once_and_those_of_other_jobs_stay(
    client: httpx.Client, job: str
) -> None:
    links = [shared(client, job) for _ in range(3)]
    stays = shared(client, submit(client).id)
    assert client.delete(f"/v1/jobs/{job}/shares").status_code == 204
    assert {client.get(link).status_code for link in links} == {404}
    assert client.get(stays).status_code == 200


def test_a_link_ends_with_its_time_and_with_its_job(
    client: httpx.Client, store: Store, job: str
) -> None:
    short, long = shared(client, job, expires_seconds=60), shared(client, job)
    with store.database.writing() as session:
        digest = digest_of(short.removeprefix("/shared/"))
        row = session.query(ShareRow).filter_by(digest=digest).one()
        row.expires_at = row.created_at - 1
    refused(client.get(short), 404, "no-such-share")
    assert len(client.get(f"/v1/jobs/{job}/shares").json()["items"]) == 1
    assert client.get(long).status_code == 200
    assert client.delete(f"/v1/jobs/{job}").status_code == 204
    refused(client.get(long), 404, "no-such-share")
    refused(client.get(f"/v1/jobs/{job}/shares"), 404, "no-such-job")
    with store.database.reading() as session:
        assert session.query(ShareRow).filter_by(job_id=job).count() == 0


def test_the_secret_is_stored_as_a_hash(either_store: Store) -> None:
    from tests.factories import submit as queued

    job = queued(either_store).id
    secret = new_secret()
    either_store.shares.add(
        "share_1", job, digest_of(secret), created_by=None, expires_in_seconds=None
    )
    found = find_share(either_store, secret)
    assert found is not None
    assert found.job_id == job
    assert find_share(either_store, secret[:-1] + ("A" if secret[-1] != "A" else "B")) is None
    assert find_share(either_store, digest_of(secret)) is None
    with either_store.database.reading() as session:
        row = session.get_one(ShareRow, "share_1")
        assert secret not in json.dumps([row.id, row.digest, row.job_id])


def test_a_job_has_so_many_links_and_no_more(store: Store) -> None:
    from tests.factories import submit as queued

    job = queued(store).id
    for number in range(MOST_SHARES):
        store.shares.add(
            f"share_{number}", job, digest_of(str(number)), created_by=None, expires_in_seconds=None
        )
    with pytest.raises(TooManyShares):
        store.shares.add("more", job, "digest", created_by=None, expires_in_seconds=None)
    assert store.shares.revoke(job) == MOST_SHARES


@pytest.mark.slow
def test_who_guesses_is_stopped(client: httpx.Client, job: str) -> None:
    link = shared(client, job)
    for _ in range(WRONG_GUESSES):
        refused(client.get(f"/shared/{new_secret()}"), 404, "no-such-share")
    answer = client.get("/shared/guess")
    refused(answer, 429, "too-many-guesses")
    assert int(answer.headers["retry-after"]) > 0
    assert client.get(link).status_code == 200
    page = client.get("/shared/guess", headers={"Accept": "text/html"})
    assert (page.status_code, page.headers["content-type"][:9]) == (429, "text/html")
    assert "/new" not in page.text


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"expires_seconds": 1}, "/expires_seconds"),
        ({"expires_seconds": 1e12}, "/expires_seconds"),
        ({"expires": "30d"}, "/expires"),
    ],
)
def test_a_wrong_request_is_refused(
    client: httpx.Client, job: str, body: dict[str, object], pointer: str
) -> None:
    problem = refused(client.post(f"/v1/jobs/{job}/shares", json=body), 422, "invalid")
    assert problem.errors
    assert problem.errors[0].pointer == pointer
    refused(client.post(f"/v1/jobs/{NOBODY}/shares", json={}), 404, "no-such-job")


@pytest.mark.parametrize("more", ["", "x", "/v1/jobs", "/nothing"])
def test_what_logs_and_metrics_read_of_a_request_is_without_the_secret(
    client: httpx.Client, app: FastAPI, job: str, more: str
) -> None:
    link = shared(client, job)
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": f"{link}{more}",
        "raw_path": f"{link}{more}".encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "server": ("localhost", 80),
        "app": app,
    }
    seen: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            seen.append(f"{message['status']} {scope['path']} {scope['raw_path']!r}")

    asyncio.run(app.build_middleware_stack()(scope, receive, send))
    assert len(seen) == 1
    assert link.removeprefix("/shared/") not in seen[0]
    metrics = client.get("/metrics").text
    assert link.removeprefix("/shared/") not in metrics


def test_links_on_the_command_line(fflab: Fflab, client: httpx.Client, job: str) -> None:
    made = fflab("share", job, "--expires", "30d")
    assert made.code == 0, made.err
    link = httpx.URL(made.out.strip()).path
    assert client.get(link).status_code == 200
    listed = json.loads(fflab("share", job, "--list", "--json").out)
    assert [set(one) for one in listed] == [{"id", "job", "created_at", "created_by", "expires_at"}]
    assert "never" not in fflab("share", job, "--list").out
    assert fflab("share", job, "--revoke", listed[0]["id"]).code == 0
    assert client.get(link).status_code == 404
    assert fflab("share", job, "--revoke", listed[0]["id"]).code == 4
    assert fflab("share", job, "--revoke", "all").code == 0
    wrong = fflab("share", job, "--expires", "soon")
    assert (wrong.code, "as in 30d" in wrong.err) == (2, True)
    assert fflab("share", job, "--list", "--revoke", "all").code == 2
    assert [seconds_of(one) for one in ("5m", "12h", "2w")] == [300, 43_200, 1_209_600]


def test_links_in_python(client: httpx.Client, job: str) -> None:
    with Client(str(client.base_url)) as own:
        made = own.share(job, expires_seconds=3600)
        assert [one.id for one in own.shares(job)] == [made.id]
        own.revoke_share(job, made.id)
        assert own.shares(job) == []


def test_the_page_makes_and_revokes_a_link(browser: Browser, client: httpx.Client) -> None:
    job = submit(client).id
    expect.set_options(timeout=PATIENCE)
    with faultless_page(browser, client, PATIENCE) as page:
        page.on("dialog", lambda asked: asked.accept())
        page.goto(f"/jobs/{job}", wait_until="networkidle")
        page.get_by_role("button", name="Make a link for 30 days").click()
        address = page.locator("#shared a").inner_text()
        assert client.get(str(httpx.URL(address).path)).status_code == 200
        page.get_by_text("Copy it now").get_by_role("button", name="Copy").click()
        expect(page.locator("#shared button")).to_have_text("Copied")
        revoke = page.get_by_role("button", name=re.compile("^Revoke share_"))
        revoke.click()
        expect(revoke).to_have_count(0)
        gone = client.get(str(httpx.URL(address).path))
        assert gone.status_code == 404
        assert "ask for a new one" in gone.text
        assert "All jobs" not in gone.text, "who has no key cannot see them"
