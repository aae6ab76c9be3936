"""Webhooks: signed, tried again, given up, sent once by many, and never to where they must not go.

The receiver is a real server.
"""

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from sqlalchemy import select, update

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from ffengine.spec import TrainSpec
from service.artifacts import Artifacts
from service.background import webhooks
from service.background.retention import sweep
from service.background.webhooks import (
    LONGEST_RETRY_PAUSE,
    RETRY_PAUSES,
    AddressRefused,
    WebhookSender,
    is_public,
    resolve,
    retry_pause_seconds,
    validate_secret,
    validate_url,
)
from service.jobs import Job, Webhook
from service.settings import Retention, Settings
from service.store import PendingDelivery, Store
from service.store.tables import DeliveryRow, now_seconds
from service.web import auth
from service.web.app import create_app
from service.web.auth import create_key
from service.web.dependencies import REDELIVERIES
from service.web.rate_limit import MOST_KEYS, RateLimit
from tests.factories import ERROR, STUDY, aged, claimed, end, submit
from tests.over_http import refused
from tests.service.samples import train_result
from tests.serving import client_of

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
PUBLIC = "https://lab.example.org/fflab"
Answer = tuple[int, dict[str, str]]


class Receiver:
    """A server that keeps what it receives, and answers 200 or what `answers` holds."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], str]] = []
        self.answers: list[Answer] = []
        self.before: Callable[[], object] = lambda: None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                receiver.before()
                receiver.received.append(
                    (self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                )
                status, headers = receiver.answers.pop(0) if receiver.answers else (200, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/hook?lab=7"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def private(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, webhook_allow_private=True)


@pytest.fixture
def webhook_sender(either_store: Store, private: Settings) -> Iterator[WebhookSender]:
    found = WebhookSender(either_store.deliveries, private)
    found.start()
    yield found
    found.stop()


def succeeded_job(store: Store, url: str, secret: str | None = SECRET, **fields: Any) -> Job:
    """A job with a webhook that has succeeded."""
    job = submit(
        store,
        TrainSpec(epochs=len(store.jobs.page(limit=99).jobs) + 1),
        webhook=Webhook.model_validate({"url": url, "secret": secret, **fields}),
    )
    end(store, job, well=True)
    return job


@pytest.mark.parametrize(
    ("setting", "begin"),
    [
        ({}, ""),
        ({"root_path": "/fflab"}, "/fflab"),
        ({"root_path": "/x", "public_url": "https://Lab.example.org:443/fflab/"}, PUBLIC),
    ],
)
def test_the_link_of_a_message_is_what_people_see(
    either_store: Store,
    private: Settings,
    receiver: Receiver,
    setting: dict[str, str],
    begin: str,
) -> None:
    sender = WebhookSender(
        either_store.deliveries, Settings(**private.model_dump(exclude_unset=True), **setting)
    )
    sender.start()
    try:
        job = succeeded_job(either_store, receiver.url)
        wait_until(lambda: len(receiver.received) == 1, "it is sent")
    finally:
        sender.stop()
    _, headers, body = receiver.received[0]
    assert json.loads(body)["data"]["href"] == f"{begin}/v1/jobs/{job.id}"
    assert headers["webhook-signature"] == signature(SECRET, headers, body)


@pytest.mark.parametrize(
    "url",
    ["lab.example.org", "ftp://lab", "https://lab/?a=1", "https://a:b@lab", "https://lab/../x"],
)
def test_a_public_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="is not an address, such as https://"):
        Settings(public_url=url)


def hurry(store: Store) -> None:
    """Let what waits for its next try be due."""
    with store.database.writing() as session:
        session.execute(
            update(DeliveryRow)
            .where(DeliveryRow.next_at.is_not(None))
            .values(next_at=now_seconds() - 1)
        )


def signature(secret: str, headers: dict[str, str], body: str) -> str:
    """The signature that the standard prescribes.

    It is the base64 of HMAC-SHA256 with the decoded secret over id.timestamp.body.
    """
    key = base64.b64decode(secret.split("_", 1)[1])
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()


def test_the_end_of_a_job_is_sent_once_and_signed(
    either_store: Store, webhook_sender: WebhookSender, receiver: Receiver
) -> None:
    job = succeeded_job(either_store, receiver.url)
    wait_until(lambda: len(receiver.received) == 1, "it is sent")
    path, headers, body = receiver.received[0]
    message = json.loads(body)
    assert path == "/hook?lab=7"
    assert headers["host"] == receiver.url.split("/")[2]
    assert headers["webhook-signature"] == signature(SECRET, headers, body)
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    assert (message["type"], message["data"]["id"], message["data"]["state"]) == (
        "job.succeeded",
        job.id,
        "succeeded",
    )
    wait_until(
        lambda: either_store.deliveries.of(job.id)[0].delivered_at is not None, "it is recorded"
    )
    [delivery] = either_store.deliveries.of(job.id)
    assert (delivery.id, delivery.next_at, [tried["status"] for tried in delivery.attempts]) == (
        headers["webhook-id"],
        None,
        [200],
    )
    hurry(either_store)
    webhook_sender.tick()
    assert len(receiver.received) == 1


def test_the_services_own_secret_signs_where_a_job_has_none(
    either_store: Store, webhook_sender: WebhookSender, receiver: Receiver
) -> None:
    succeeded_job(either_store, receiver.url, secret=None)
    wait_until(lambda: len(receiver.received) == 1, "it is sent")
    _, headers, body = receiver.received[0]
    assert headers["webhook-signature"] == signature(
        either_store.deliveries.signing_secret(), headers, body
    )
    assert (
        validate_secret(either_store.deliveries.signing_secret())
        == either_store.deliveries.signing_secret()
    ), "it is kept"


@pytest.mark.slow
def test_a_failed_try_is_repeated_with_the_same_words(
    either_store: Store, webhook_sender: WebhookSender, receiver: Receiver
) -> None:
    receiver.answers = [(500, {}), (302, {"location": receiver.url})]
    job = succeeded_job(either_store, receiver.url)
    for count in (1, 2):
        wait_until(
            lambda count=count: len(either_store.deliveries.of(job.id)[0].attempts) == count,
            f"try {count} is recorded",
        )  # type: ignore[misc]
        hurry(either_store)
        webhook_sender.wake()
    wait_until(
        lambda: either_store.deliveries.of(job.id)[0].delivered_at is not None, "it is delivered"
    )
    assert len({(headers["webhook-id"], body) for _, headers, body in receiver.received}) == 1
    assert [tried["status"] for tried in either_store.deliveries.of(job.id)[0].attempts] == [
        500,
        302,
        200,
    ], "a redirect is not followed"


@pytest.mark.slow
def test_who_is_gone_is_not_asked_again(
    either_store: Store, webhook_sender: WebhookSender, receiver: Receiver
) -> None:
    receiver.answers = [(410, {})]
    job = succeeded_job(either_store, receiver.url)
    wait_until(lambda: bool(either_store.deliveries.of(job.id)[0].attempts), "it is tried")
    [delivery] = either_store.deliveries.of(job.id)
    assert (delivery.next_at, delivery.delivered_at) == (None, None)


def test_who_does_not_answer_is_tried_again(
    either_store: Store, webhook_sender: WebhookSender
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        job = succeeded_job(either_store, f"http://127.0.0.1:{closed.getsockname()[1]}/")
        wait_until(lambda: bool(either_store.deliveries.of(job.id)[0].attempts), "it is tried")
    [delivery] = either_store.deliveries.of(job.id)
    assert delivery.attempts[0]["status"] is None
    assert delivery.attempts[0]["error"]
    assert delivery.next_at is not None
    assert (
        0
        < delivery.next_at.timestamp()
        - datetime.fromisoformat(delivery.attempts[0]["at"]).timestamp()
        < 6
    )


@pytest.mark.slow
def test_a_slow_receiver_does_not_hold_up_the_others(
    either_store: Store, webhook_sender: WebhookSender, receiver: Receiver
) -> None:
    slow, release = Receiver(), threading.Event()
    slow.before = lambda: release.wait(PATIENCE_SECONDS)
    for _ in range(3):
        succeeded_job(either_store, slow.url)
    succeeded_job(either_store, receiver.url)
    wait_until(
        lambda: len(receiver.received) == 1,
        "the other receives its message while the slow one has not answered",
    )
    assert not slow.received
    release.set()
    wait_until(lambda: len(slow.received) == 3, "the slow one receives all")
    slow.close()


@pytest.mark.slow
def test_two_senders_send_each_message_once(
    either_store: Store, private: Settings, receiver: Receiver
) -> None:
    jobs = [succeeded_job(either_store, receiver.url) for _ in range(12)]
    senders = [WebhookSender(either_store.deliveries, private) for _ in range(2)]
    for webhook_sender in senders:
        webhook_sender.start()
    wait_until(
        lambda: all(either_store.deliveries.of(job.id)[0].delivered_at for job in jobs),
        "all are delivered",
    )
    for webhook_sender in senders:
        webhook_sender.stop()
    assert sorted(json.loads(body)["data"]["id"] for _, _, body in receiver.received) == sorted(
        job.id for job in jobs
    )


def test_only_the_states_that_were_asked_for_are_sent_and_of_a_study_its_own(
    either_store: Store,
) -> None:
    asked = {"url": "https://example.org/", "states": ["running", "failed"]}
    job = submit(either_store, webhook=Webhook.model_validate(asked))
    job_id, attempt = claimed(either_store, job)
    either_store.queue.fail(job_id, attempt, ERROR)
    assert [row.type for row in either_store.deliveries.of(job_id)] == ["job.failed", "job.running"]
    assert (
        json.loads(either_store.deliveries.of(job_id)[0].body)["data"]["error"]["code"]
        == ERROR.code
    )
    study = submit(either_store, STUDY, fresh=True, webhook=Webhook(url="https://example.org/"))
    children = [child for child, _ in either_store.jobs.children(study.id)]
    for child in children:
        end(either_store, child, well=True)
    either_store.studies.advance(study.id)
    assert [row.type for row in either_store.deliveries.of(study.id)] == ["job.succeeded"]
    assert [either_store.deliveries.of(child.id) for child in children] == [[], [], []]


def test_what_is_answered_from_the_cache_or_cancelled_is_sent_too(either_store: Store) -> None:
    source, attempt = claimed(either_store)
    either_store.queue.finish(source, attempt, train_result())
    hook = Webhook(url="https://example.org/")
    assert [
        row.type for row in either_store.deliveries.of(submit(either_store, webhook=hook).id)
    ] == ["job.succeeded"]
    waiting = submit(either_store, TrainSpec(epochs=7), webhook=hook)
    either_store.actions.cancel(waiting.id)
    assert [row.type for row in either_store.deliveries.of(waiting.id)] == ["job.cancelled"]


# Where and when


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "10.1.2.3",
        "192.168.0.9",
        "169.254.169.254",
        "0.0.0.0",  # noqa: S104
        "100.64.0.1",
        "224.0.0.1",
        "fd00::1",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "::",
    ],
)
def test_addresses_that_are_not_public_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"]
)
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org/",
        "https://",
        "example.org",
        "https://user:secret@example.org/",
        "https://example.org/#a",
        "https://127.0.0.1/",
        "https://[::1]:8000/",
        "https://localhost/",
        "https://example.org:99999/",
        "https://exa mple.org/",
        "https://a.b/\n",
    ],
)
def test_addresses_that_show_what_they_are_are_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        validate_url(url, allow_private=False)


def test_the_operator_may_allow_private_addresses() -> None:
    for url in ("https://example.org/hook", "http://127.0.0.1:9/", "http://localhost/"):
        assert validate_url(url, allow_private=True) == url


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_!!!",
        "whsec_c2hvcnQ=",
        SECRET.removeprefix("whsec_"),
        SECRET + "A" * 100,
    ],
)
def test_a_secret_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        validate_secret(secret)


def test_a_name_is_looked_up_once_and_what_was_found_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """Whoever answers differently the second time gains nothing."""
    asked: list[str] = []
    true = socket.getaddrinfo

    def rebinding(host: str, *arguments: Any, **options: Any) -> Any:
        if host != "rebind.example.org":
            return true(host, *arguments, **options)
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(webhooks, "is_public", lambda address: address == "127.0.0.1")
    port = receiver.url.split(":")[2].split("/")[0]
    due = PendingDelivery("msg_1", "{}", f"http://rebind.example.org:{port}/x", SECRET, 0)
    assert webhooks.send(due, SECRET, allow_private=False).status_code == 200
    assert asked == ["rebind.example.org"]
    assert receiver.received[0][1]["host"] == f"rebind.example.org:{port}"
    with pytest.raises(AddressRefused, match=r"127\.0\.0\.2, which is not public"):
        webhooks.send(due, SECRET, allow_private=False)


def test_a_name_of_this_machine_is_not_reached() -> None:
    with pytest.raises(AddressRefused, match="not public"):
        resolve("localhost", 443, allow_private=False)
    with pytest.raises(AddressRefused, match="cannot be resolved"):
        resolve("no-such-host.invalid", 443, allow_private=False)


def test_tries_go_on_for_a_day_and_a_receiver_may_ask_for_time() -> None:
    assert 23 * 3600 < sum(RETRY_PAUSES) < 26 * 3600
    assert retry_pause_seconds(len(RETRY_PAUSES) + 1, None) is None
    assert all(
        0.9 * pause <= (retry_pause_seconds(number, None) or 0) <= 1.1 * pause
        for number, pause in enumerate(RETRY_PAUSES[:-2], 1)
    )
    assert retry_pause_seconds(1, httpx.Response(503, headers={"retry-after": "90"})) == 90
    assert (
        retry_pause_seconds(1, httpx.Response(429, headers={"retry-after": "9999999"}))
        == LONGEST_RETRY_PAUSE
    )
    assert (retry_pause_seconds(1, httpx.Response(503, headers={"retry-after": "soon"})) or 0) < 6
    assert (retry_pause_seconds(1, httpx.Response(500, headers={"retry-after": "90"})) or 0) < 6


# Over HTTP


@pytest.fixture
def app_private(private: Settings) -> FastAPI:
    return create_app(private)


@pytest.mark.slow
def test_a_job_names_its_webhook_and_its_messages_can_be_read_and_sent_again(
    app_private: FastAPI, receiver: Receiver
) -> None:
    with client_of(app_private) as client:
        spec = {"kind": "train", "epochs": 2}
        given = {"url": receiver.url, "secret": SECRET}
        job = client.post("/v1/jobs", json={"spec": spec, "webhook": given}).json()
        assert job["webhook"] == receiver.url
        assert SECRET not in client.get(f"/v1/jobs/{job['id']}").text
        client.post(f"/v1/jobs/{job['id']}/cancel")
        wait_until(lambda: len(receiver.received) == 1, "it is sent")
        wait_until(
            lambda: (
                client.get(f"/v1/jobs/{job['id']}/webhook").json()["items"][0]["state"]
                == "delivered"
            ),
            "it is recorded",
        )
        page = client.get(f"/v1/jobs/{job['id']}/webhook")
        assert (page.json()["url"], page.json()["states"]) == (
            receiver.url,
            ["succeeded", "failed", "cancelled"],
        )
        assert SECRET not in page.text
        [item] = page.json()["items"]
        assert (
            client.post(f"/v1/jobs/{job['id']}/webhook/{item['id']}/redeliver").json()["state"]
            == "pending"
        )
        wait_until(lambda: len(receiver.received) == 2, "it is sent again")
        assert receiver.received[0][2] == receiver.received[1][2]
        refused(
            client.post(f"/v1/jobs/{job['id']}/webhook/msg_x/redeliver"), 404, "no-such-delivery"
        )
        bad = client.post(
            "/v1/jobs", json={"spec": spec, "webhook": {"url": receiver.url, "secret": "short"}}
        )
        assert [error.pointer for error in refused(bad, 422, "invalid").errors] == [
            "/webhook/secret"
        ]


def test_other_keys_see_no_more_of_an_address_than_its_origin(
    app_private: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)
    url = "http://127.0.0.1:9/hooks/T0/secret?token=secret"
    with client_of(app_private) as client:
        keys = app_private.state.resources.store.api_keys
        ada, bob = (
            {"X-API-Key": create_key(keys, name, scope=scope).secret}
            for name, scope in (("ada", "submit"), ("bob", "admin"))
        )
        request = {"spec": {"kind": "train", "epochs": 2}, "webhook": url}
        job = client.post("/v1/jobs", json=request, headers=ada).json()
        assert job["webhook"] == url
        addresses = [f"/v1/jobs/{job['id']}", "/v1/jobs", "/v1/jobs?fields=webhook"]
        addresses.append(f"/v1/jobs/{job['id']}/webhook")
        for address in addresses:
            assert url in client.get(address, headers=ada).text
            of_another = client.get(address, headers=bob).text
            assert "secret" not in of_another
            assert "http://127.0.0.1:9/…" in of_another
        pinned = {"pinned": True}
        for answer in (
            client.patch(f"/v1/jobs/{job['id']}", json=pinned, headers=bob),
            client.post(f"/v1/jobs/{job['id']}/cancel", headers=bob),
        ):
            assert answer.is_success
            assert "secret" not in answer.text
        assert client.get(f"/v1/jobs/{job['id']}", headers=ada).json()["webhook"] == url


@pytest.mark.slow
def test_messages_are_sent_again_a_few_times_a_minute(
    app_private: FastAPI, receiver: Receiver
) -> None:
    with client_of(app_private) as client:
        spec = {"kind": "train", "epochs": 2}
        jobs = []
        for _ in range(2):
            body = {"spec": spec, "webhook": receiver.url, "fresh": True}
            jobs.append(f"/v1/jobs/{client.post('/v1/jobs', json=body).json()['id']}")
            client.post(f"{jobs[-1]}/cancel")
        first, second = (
            f"{job}/webhook/{client.get(f'{job}/webhook').json()['items'][0]['id']}/redeliver"
            for job in jobs
        )
        assert [client.post(first).status_code for _ in range(REDELIVERIES)] == (
            [202] * REDELIVERIES
        )
        answer = client.post(first)
        refused(answer, 429, "sent-too-often")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert client.post(second).status_code == 202, "another job has a limit of its own"


def test_a_limit_lets_through_again_and_forgets() -> None:
    now = 0.0
    limit = RateLimit(2, 60.0, lambda: now)
    assert [limit.wait_seconds("a") for _ in range(2)] == [0, 0]
    now = 45.0
    assert limit.wait_seconds("a") == 15
    assert limit.wait_seconds("b") == 0
    now = 60.0
    assert [limit.wait_seconds("a") for _ in range(3)] == [0, 0, 60]
    for number in range(MOST_KEYS):
        now += 61.0
        assert limit.wait_seconds(str(number)) == 0
    assert len(limit._done) < MOST_KEYS


@pytest.mark.slow
def test_the_log_says_with_whose_key_something_was_asked(
    app_private: FastAPI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)
    caplog.set_level("INFO", "service")
    with client_of(app_private) as client:
        spec = {"kind": "train", "epochs": 2}
        job = f"/v1/jobs/{client.post('/v1/jobs', json={'spec': spec}).json()['id']}"
        client.post(f"{job}/pause")
        key = create_key(app_private.state.resources.store.api_keys, "ada")
        client.headers["X-API-Key"] = key.secret
        assert client.patch(job, json={"name": "mine", "tags": []}).is_success
        for action in ("resume", "cancel", "retry", "pause", "cancel"):
            assert client.post(f"{job}/{action}").is_success
        assert client.delete(job).status_code == 204
    said = [line.partition(": ")[2] for line in caplog.messages if line.startswith("job_")]
    by = " with the key of ada"
    assert [line for line in said if not line.startswith("deleted")] == [
        *("submitted", "paused"),
        *(f"{one}{by}" for one in ("name, tags changed", "resumed", "cancelled", "retried")),
        *(f"{one}{by}" for one in ("paused", "cancelled")),
    ]
    assert any(line.startswith("deleted") and by in line for line in said)


# Messages of jobs that are deleted


def due_or_sent(store: Store) -> list[str]:
    with store.database.reading() as session:
        return list(session.scalars(select(DeliveryRow.id)))


@pytest.mark.parametrize("how", ["delete", "retention"])
def test_the_message_of_a_deleted_job_is_sent_until_it_is_delivered(
    how: str,
    either_store: Store,
    private: Settings,
    webhook_sender: WebhookSender,
    receiver: Receiver,
) -> None:
    receiver.answers = [(503, {}), (500, {})]
    job = succeeded_job(either_store, receiver.url)
    wait_until(lambda: len(receiver.received) == 1, "it is tried")
    wait_until(lambda: bool(either_store.deliveries.of(job.id)[0].attempts), "it is recorded")
    if how == "delete":
        assert either_store.actions.delete(job.id) == [job.id]
    else:
        aged(either_store, job.id, 40)
        policy = Retention.model_validate({"train": {"days": 30}})
        [gone] = sweep(either_store, Artifacts(private.artifact_place), policy)
        assert gone.id == job.id
    assert either_store.jobs.get(job.id) is None
    for count in (2, 3):
        hurry(either_store)
        webhook_sender.wake()
        wait_until(lambda count=count: len(receiver.received) == count, "it is tried again")
    wait_until(lambda: due_or_sent(either_store) == [] or None, "nothing is left of it")
    assert len({headers["webhook-id"] for _, headers, _ in receiver.received}) == 1
    for _, headers, body in receiver.received:
        assert headers["webhook-signature"] == signature(SECRET, headers, body)
        assert json.loads(body)["data"]["id"] == job.id


@pytest.mark.slow
def test_a_job_may_be_deleted_by_who_is_told_of_its_end(
    either_store: Store, webhook_sender: WebhookSender, receiver: Receiver
) -> None:
    deleted: list[str] = []

    def delete_it() -> None:
        for told in either_store.jobs.page(limit=2).jobs:
            deleted.extend(either_store.actions.delete(told.id))

    receiver.before = delete_it
    job = succeeded_job(either_store, receiver.url)
    wait_until(lambda: due_or_sent(either_store) == [] or None, "it is delivered, and nothing left")
    assert deleted == [job.id]
    # more than one request where the answer to the first took too long
    assert len({headers["webhook-id"] for _, headers, _ in receiver.received}) == 1


def test_a_message_of_a_deleted_job_is_given_up_as_any_other(
    either_store: Store, webhook_sender: WebhookSender, receiver: Receiver
) -> None:
    receiver.answers = [(503, {}), (410, {})]
    job = succeeded_job(either_store, receiver.url)
    wait_until(lambda: bool(either_store.deliveries.of(job.id)[0].attempts), "it is tried")
    either_store.actions.delete(job.id)
    hurry(either_store)
    webhook_sender.wake()
    wait_until(lambda: due_or_sent(either_store) == [] or None, "it is given up")
    assert len(receiver.received) == 2
