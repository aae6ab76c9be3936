"""Events: streams that begin where the client left off and end with the job, pages, long polls, and
one tail for all who wait.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.jobs import Event
from service.store import Store
from service.web import event_feed
from service.web.dependencies import Resources
from tests.factories import HALF, LEASE
from tests.over_http import NOBODY, refused, submit
from tests.service.samples import epoch_row, train_result
from tests.serving import http_client


def frames(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The fields of each message of a stream; a comment is the field ""."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields
            fields = {}


def streamed(client: httpx.Client, job_id: str, **headers: str) -> list[Event]:
    """All events of a stream that ends by itself."""
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        found = [frame for frame in frames(response) if "data" in frame]
    decoded = [Event.model_validate_json(frame["data"]) for frame in found]
    assert [(frame["event"], frame["id"]) for frame in found] == [
        (event.type, str(event.id)) for event in decoded
    ]
    return decoded


def work(store: Store, job_id: str) -> None:
    """Run a job to its end, as a worker would."""
    claim = store.queue.claim(job_id, "w", LEASE)
    assert claim is not None
    for epoch in range(3):
        store.queue.record(
            job_id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=[epoch_row(epoch)]
        )
    store.queue.finish(job_id, claim.attempt, train_result())


def test_a_stream_tells_everything_once_and_ends_with_the_job(
    client: httpx.Client, store: Store
) -> None:
    job = submit(client)
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(streamed, client, job.id)
        work(store, job.id)
        found = stream.result(timeout=PATIENCE_SECONDS)
    assert [event.id for event in found] == list(range(1, len(found) + 1))
    assert [event.type for event in found] == [
        "state",
        "state",
        *(["rows", "progress"] * 3),
        "state",
        "end",
    ]
    assert found[-1].data == {"state": "succeeded"}
    assert [
        row["epoch"] for event in found if event.type == "rows" for row in event.data["rows"]
    ] == [0, 1, 2]
    assert {event.job for event in found} == {job.id}


def test_a_stream_resumes_after_the_last_event_that_was_received(
    client: httpx.Client, store: Store
) -> None:
    job = submit(client)
    work(store, job.id)
    whole = streamed(client, job.id)
    for last in (1, 4, len(whole) - 1):
        assert streamed(client, job.id, **{"Last-Event-ID": str(last)}) == whole[last:]
    assert streamed(client, job.id, **{"Last-Event-ID": str(len(whole))}) == []
    assert streamed(client, job.id, **{"Last-Event-ID": "999999"}) == [], (
        "beyond the end there is nothing to wait for"
    )


def test_events_come_in_pages_for_those_who_ask_for_json(
    client: httpx.Client, store: Store
) -> None:
    job = submit(client)
    work(store, job.id)
    whole = streamed(client, job.id)
    seen: list[Event] = []
    after: int | None = 0
    while after is not None:
        response = client.get(
            f"/v1/jobs/{job.id}/events",
            params={"after": after, "limit": 4},
            headers={"Accept": "application/json"},
        )
        seen += [Event.model_validate(item) for item in response.json()["items"]]
        after = response.json()["next_cursor"]
    assert seen == whole


def test_a_stream_of_a_job_that_is_not_there_is_refused(client: httpx.Client) -> None:
    refused(client.get(f"/v1/jobs/{NOBODY}/events"), 404, "no-such-job")


def test_an_idle_stream_is_kept_alive(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert event_feed.HEARTBEAT_SECONDS == 15.0
    monkeypatch.setattr(event_feed, "HEARTBEAT_SECONDS", 0.05)
    job = submit(client)
    with client.stream("GET", f"/v1/jobs/{job.id}/events") as response:
        stream = frames(response)
        assert next(stream)["event"] == "state"
        assert next(stream) == {"": "ping"}
        store.actions.cancel(job.id)
        kinds = [frame["event"] for frame in stream if "event" in frame]
    assert kinds == ["state", "end"]


def test_a_wait_ends_with_the_job_or_with_its_time(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    began = time.monotonic()
    assert client.get(f"/v1/jobs/{job.id}?wait=0.3").json()["state"] == "queued"
    assert time.monotonic() - began >= 0.3
    with ThreadPoolExecutor(2) as pool:
        waits = [
            pool.submit(client.get, f"/v1/jobs/{job.id}?wait=60"),
            pool.submit(
                client.get, f"/v1/jobs/{job.id}", headers={"Prefer": "respond-async, wait=60"}
            ),
        ]
        store.actions.cancel(job.id)
        answers = [wait.result(timeout=PATIENCE_SECONDS) for wait in waits]
    assert [answer.json()["state"] for answer in answers] == ["cancelled", "cancelled"]
    assert [answer.headers.get("preference-applied") for answer in answers] == [None, "wait=60"]


@pytest.mark.parametrize("prefer", ["wait=x", "wait=-5", "wait=", "waiting=9", "", "wait=\u00b2"])
def test_a_preference_that_is_none_is_ignored(client: httpx.Client, prefer: str) -> None:
    job = submit(client)
    began = time.monotonic()
    assert client.get(f"/v1/jobs/{job.id}", headers={"Prefer": prefer.encode()}).status_code == 200  # type: ignore[dict-item]
    assert (
        time.monotonic() - began < 30.0
    )  # the least that any of them could be taken for is none or for ever


@pytest.mark.slow
def test_a_hundred_wait_without_a_thread_each_and_hear_of_the_end_at_once(
    client: httpx.Client, resources: Resources
) -> None:
    job = submit(client)
    threads = threading.active_count()
    limits = httpx.Limits(max_connections=100)
    with (
        http_client(str(client.base_url), limits=limits) as many,
        ThreadPoolExecutor(100) as pool,
    ):
        waits = [pool.submit(many.get, f"/v1/jobs/{job.id}?wait=60") for _ in range(100)]
        wait_until(lambda: resources.event_feed.waiting == 100, "all wait")
        assert threading.active_count() - threads <= 100 + 45, (
            "the clients' own threads, and the server's pool"
        )
        assert client.get("/healthz").status_code == 200
        began = time.monotonic()
        resources.store.actions.cancel(job.id)
        ended = [wait.result(timeout=PATIENCE_SECONDS).json()["state"] for wait in waits]
    assert set(ended) == {"cancelled"}
    assert time.monotonic() - began < 50.0  # not each at the end of its own wait
    wait_until(lambda: resources.event_feed.waiting == 0, "nobody waits any more")


def test_the_tail_asks_nothing_while_nobody_waits(
    client: httpx.Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    beyond = resources.store.events.beyond

    def counted(number: int, limit: int) -> list[tuple[int, str]]:
        asked.append(time.monotonic())
        return beyond(number, limit)

    monkeypatch.setattr(resources.store.events, "beyond", counted)
    job = submit(client)
    began = time.monotonic()
    client.get(f"/v1/jobs/{job.id}?wait=0.5")
    during = len(asked)
    assert 1 <= during <= (time.monotonic() - began) / event_feed.POLL_SECONDS + 3
    client.get(f"/v1/jobs/{job.id}?wait=0")
    began = time.monotonic()
    wait_until(
        lambda: time.monotonic() - began > 4 * event_feed.POLL_SECONDS,
        "several polls could have been made",
    )
    assert len(asked) <= during + 1


def test_nothing_is_missed_between_reading_and_waiting(
    client: httpx.Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event comes after the waiting client has read, and is polled before it waits."""
    job = submit(client)
    get_with_version, beyond, cancelled = (
        resources.store.jobs.get_with_version,
        resources.store.events.beyond,
        threading.Event(),
    )
    polls: list[int] = []

    def counted(number: int, limit: int) -> list[tuple[int, str]]:
        polls.append(number)
        return beyond(number, limit)

    def slow(job_id: str) -> object:
        found = get_with_version(job_id)
        if resources.event_feed.waiting and not cancelled.is_set():
            cancelled.set()
            resources.store.actions.cancel(job_id)
            polled = len(polls)
            wait_until(lambda: len(polls) >= polled + 3, "the tail has seen the end")
        return found

    monkeypatch.setattr(resources.store.events, "beyond", counted)
    monkeypatch.setattr(resources.store.jobs, "get_with_version", slow)
    began = time.monotonic()
    assert client.get(f"/v1/jobs/{job.id}?wait=60").json()["state"] == "cancelled"
    assert time.monotonic() - began < 50.0  # not at the end of the wait


def test_a_client_that_hangs_up_is_forgotten(client: httpx.Client, resources: Resources) -> None:
    job = submit(client)
    with (
        http_client(str(client.base_url)) as other,
        other.stream("GET", f"/v1/jobs/{job.id}/events") as response,
    ):
        stream = frames(response)  # kept: a generator that is dropped closes its response
        assert next(stream)["event"] == "state"
        wait_until(lambda: resources.event_feed.waiting == 1, "it waits")
    resources.store.actions.pause(
        job.id
    )  # something to send is what reveals a closed connection at the latest
    wait_until(lambda: resources.event_feed.waiting == 0, "it is forgotten")
