"""Lists and rows that are read while others write: whole, each once, and never an error."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.store import Store
from tests.factories import HALF, LEASE
from tests.factories import submit as submit_to
from tests.over_http import submit
from tests.service.samples import epoch_row

READERS = 8
ROWS = 40


@pytest.mark.slow
def test_pages_of_jobs_have_each_once_while_others_are_submitted(
    client: httpx.Client, store: Store
) -> None:
    before = [submit_to(store).id for _ in range(60)]
    found: list[str] = []
    address: str | None = "/v1/jobs?limit=5"
    while address:
        page = client.get(address).json()
        found += [job["id"] for job in page["items"]]
        submit_to(store)
        cursor = page["next_cursor"]
        address = cursor and f"/v1/jobs?limit=5&cursor={cursor}"
    assert len(found) == len({*found}), "none twice"
    assert {*before} <= {*found}, "none missed"


@pytest.mark.slow
def test_readers_meet_no_error_while_a_writer_adds_rows(client: httpx.Client, store: Store) -> None:
    job = submit(client).id
    claim = store.queue.claim(job, "w", LEASE)
    assert claim is not None
    paths = ("/v1/jobs", f"/v1/jobs/{job}/curves", f"/v1/jobs/{job}/events")
    begun, written = threading.Barrier(READERS + 1), threading.Event()

    def read(_: int) -> set[int]:
        begun.wait()
        statuses = set()
        while True:
            last = written.is_set()
            statuses |= {
                client.get(path, headers={"Accept": "application/json"}).status_code
                for path in paths
            }
            if last:
                return statuses

    with ThreadPoolExecutor(READERS) as pool:
        readers = pool.map(read, range(READERS))
        begun.wait()
        try:
            for epoch in range(ROWS):
                store.queue.record(
                    job,
                    claim.attempt,
                    lease_seconds=LEASE,
                    progress=HALF,
                    rows=[epoch_row(epoch)],
                )
        finally:
            written.set()
        assert set().union(*readers) == {200}
    rows = client.get(f"/v1/jobs/{job}/curves").json()["items"]
    assert [row["epoch"] for row in rows] == [*range(ROWS)]
