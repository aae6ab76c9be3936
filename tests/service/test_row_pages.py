"""Rows and events in pages: all of them, each once, and none too large."""

import asyncio
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.client import AsyncClient, Client
from service.client import requests as client_requests
from service.results.csv_export import to_csv
from service.results.load import drawable, drawable_in_pieces
from service.store import Store
from service.web.dashboard.shown_results import KeptShown
from tests.factories import HALF, LEASE, STUDY, finished
from tests.factories import submit as submit_to
from tests.over_http import refused, submit, succeed
from tests.service.samples import epoch_row, train_result


def measured(store: Store, job: str, rows: int) -> None:
    claim = store.queue.claim(job, "w", LEASE)
    assert claim is not None
    some = [epoch_row(epoch) for epoch in range(rows)]
    store.queue.record(job, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=some)


def pages(client: httpx.Client, address: str) -> list[dict[str, Any]]:
    """All pages, by the Link header, which says what next_cursor says."""
    found = []
    while True:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
        cursor = found[-1]["next_cursor"]
        if cursor is None:
            assert "link" not in answer.headers
            return found
        link = re.fullmatch(r'<(/v1/\S+)>; rel="next"', answer.headers["link"])
        assert link
        assert f"cursor={cursor}" in link[1]
        address = link[1]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_of_rows_have_each_row_once(client: httpx.Client, store: Store, limit: int) -> None:
    other, job = submit(client).id, submit(client, fresh=True).id
    measured(store, other, 3)
    measured(store, job, 7)
    whole = client.get(f"/v1/jobs/{job}/curves")
    assert whole.headers["content-type"] == "application/json"
    assert [row["epoch"] for row in whole.json()["items"]] == list(range(7))
    assert whole.json()["next_cursor"] is None
    assert whole.json()["items"] == store.jobs.rows(job)
    found = pages(client, f"/v1/jobs/{job}/curves?limit={limit}")
    assert [row for page in found for row in page["items"]] == whole.json()["items"]
    assert {len(page["items"]) for page in found[:-1]} <= {limit}
    assert 1 <= len(found[-1]["items"]) <= limit


def test_a_page_of_nothing(client: httpx.Client) -> None:
    job = submit(client).id
    for query in ("", "?limit=5", "?cursor=17"):
        answer = client.get(f"/v1/jobs/{job}/curves{query}").json()
        assert answer == {"items": [], "next_cursor": None}


def test_pages_of_a_study_have_each_ended_run_once(client: httpx.Client, store: Store) -> None:
    spec = {"kind": "study", "base": {"kind": "train"}, "grid": {"epochs": [1, 2, 3, 4, 5]}}
    study = submit(client, spec).id
    for number in (0, 2, 3):
        succeed(store, store.jobs.children(study)[number][0].id)
    while store.studies.advance(study):
        pass
    whole = client.get(f"/v1/jobs/{study}/curves").json()["items"]
    assert [cell["params"] for cell in whole] == [{"epochs": 1}, {"epochs": 3}, {"epochs": 4}]
    found = pages(client, f"/v1/jobs/{study}/curves?limit=2")
    assert [len(page["items"]) for page in found] == [2, 1]
    assert [cell for page in found for cell in page["items"]] == whole


@pytest.mark.parametrize("wrong", ["x", "-1", "1.5", "", "9" * 19, "\u0661"])
def test_a_cursor_that_is_none_is_refused(client: httpx.Client, wrong: str) -> None:
    job = submit(client).id
    refused(client.get(f"/v1/jobs/{job}/curves", params={"cursor": wrong}), 400, "bad-cursor")


@pytest.mark.parametrize("wrong", [0, -1, 10_001, "many"])
def test_a_limit_has_bounds(client: httpx.Client, wrong: object) -> None:
    job = submit(client).id
    refused(client.get(f"/v1/jobs/{job}/curves", params={"limit": wrong}), 422, "invalid")  # type: ignore[dict-item]


def test_both_clients_follow_the_pages(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_requests, "ROWS_AT_ONCE", 2)
    job = submit(client).id
    measured(store, job, 5)
    url = str(client.base_url)

    async def rows() -> list[dict[str, Any]]:
        async with AsyncClient(url) as waiting:
            return await waiting.rows(job)

    with Client(url) as plain:
        assert plain.rows(job) == store.jobs.rows(job) == asyncio.run(rows())


@pytest.mark.slow
def test_a_page_of_large_events_ends_early(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.events.PAGE_BYTES", 10_000)
    job = submit(client).id
    claim = store.queue.claim(job, "w", LEASE)
    assert claim is not None
    for epoch in range(6):
        rows = [epoch_row(epoch, seed=seed) for seed in range(10)]
        store.queue.record(job, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    whole = store.events.of(job, after=0, limit=1_000)
    seen: list[int] = []
    lengths, after = [], 0
    while after is not None:
        answer = client.get(
            f"/v1/jobs/{job}/events",
            params={"after": after, "limit": 1_000},
            headers={"Accept": "application/json"},
        ).json()
        lengths.append(len(answer["items"]))
        seen += [event["id"] for event in answer["items"]]
        after = answer["next_cursor"]
    assert seen == [event.id for event in whole]
    assert len(lengths) > 2
    assert min(lengths) >= 1
    store.actions.cancel(job)
    store.queue.finish_stopped(job, claim.attempt)
    with Client(str(client.base_url)) as reader:  # the stream is made of the same pages
        assert list(reader.events(job)) == store.events.of(job, after=0, limit=1_000)


def test_the_log_of_a_page_is_not_pushed_out_by_rows(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.web.dashboard.pages.LOG_LINES", 5)
    job = submit(client).id
    claim = store.queue.claim(job, "the-worker", LEASE)
    assert claim is not None
    for epoch in range(10):
        rows = [epoch_row(epoch)]
        store.queue.record(job, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    page = client.get(f"/jobs/{job}").text
    assert "worker the-worker" in page
    newest = store.events.of(job, after=0, limit=1_000)[-1].id
    assert f'/events?after={newest}"' in page, "the stream goes on after the newest event"


def test_a_long_result_is_drawn_from_its_stored_rows(
    either_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.results.charts import CHARTS, available, render

    job = submit_to(either_store).id
    finished(either_store, job, train_result(epochs=4))
    found = either_store.jobs.get(job)
    assert found is not None
    whole = drawable(either_store, found)
    monkeypatch.setattr("service.results.load.MOST_HELD_ROWS", 3)
    (source,) = pieces = drawable_in_pieces(either_store, found)
    assert source.result.curves == ()  # type: ignore[union-attr]
    assert source.rows is not None  # type: ignore[union-attr]
    assert available(pieces) == available(whole)
    assert {"sparsity", "theorem2"} <= set(available(whole)) <= set(CHARTS)
    for name in available(whole):
        assert render(name, pieces, "json") == render(name, whole, "json")


def test_the_result_of_a_training_run_as_csv_is_its_rows(
    client: httpx.Client, store: Store
) -> None:
    job = submit(client).id
    refused(client.get(f"/v1/jobs/{job}/result.csv"), 409, "no-result-yet")
    result = train_result(epochs=4)
    finished(store, job, result)
    assert client.get(f"/v1/jobs/{job}/result.csv").text == to_csv(result)


@pytest.mark.slow
def test_large_results_are_taken_into_memory_one_after_the_other(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(client).id
    finished(store, job, train_result(epochs=4))
    assert store.jobs.result_bytes([job]) == len(store.jobs.result(job) or "")
    held, most = set[int](), list[int]()

    def slow(*_: object) -> list[object]:
        held.add(threading.get_ident())
        most.append(len(held))
        time.sleep(0.05)
        held.discard(threading.get_ident())
        return []

    monkeypatch.setattr("service.results.paper_comparison.comparison", slow)
    for large_bytes, together in ((10, 1), (10**9, 2)):
        monkeypatch.setattr("service.web.large_results.LARGE_BYTES", large_bytes)
        most.clear()
        while max(most, default=0) < together:
            # what one visit showed is kept for the next
            monkeypatch.setattr("service.web.dashboard.shown_results.KEPT", KeptShown())
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda _: client.get(f"/jobs/{job}"), range(8)))
            assert {answer.status_code for answer in answers} == {200}
        assert together > 1 or max(most) == 1


def test_the_size_of_results_counts_a_studys_runs(either_store: Store) -> None:
    study = submit_to(either_store, STUDY)
    assert either_store.jobs.result_bytes([study.id]) == 0
    run = either_store.jobs.children(study.id)[0][0].id
    finished(either_store, run, train_result())
    whole = len(either_store.jobs.result(run) or "")
    assert either_store.jobs.result_bytes([study.id]) == whole
    assert either_store.jobs.result_bytes([run]) == whole
