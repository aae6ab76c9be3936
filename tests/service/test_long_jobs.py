"""A job of 92 000 rows, and many who look at it: no answer is ever held whole, nor all its rows."""

import csv
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

import httpx
import psutil
import pytest

from benchmarks.long_job import PEAK_EPOCH, SEEDS, cancelled_after
from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.results.load import MOST_HELD_ROWS, drawable_in_pieces
from service.results.stored_rows import StoredRows
from service.settings import Settings
from service.stack.redis_server import free_port
from service.store import Store
from service.store.events import PAGE_BYTES
from tests.serving import http_client

ROWS = 92_000
AT_ONCE = 12
MIB = 2**20
# it takes 130 MiB with no charts and 260 with all of this; 12 charts took 6.8 GB of it
MOST_OF_API = 600 * MIB
MOST_OF_RENDERER = 700 * MIB

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells the peak"),
]


class Peaks:
    """The most memory that a process and its children ever had, while this is open."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.found: dict[int, int] = {}
        self._over = Event()
        self._thread = Thread(target=self._watch)

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def children(self) -> list[int]:
        return [peak for pid, peak in self.found.items() if pid != self.pid]

    def _watch(self) -> None:
        process = psutil.Process(self.pid)
        while not self._over.wait(0.05):
            for one in (self.pid, *(child.pid for child in process.children(recursive=True))):
                self.found[one] = max(peak_of(one), self.found.get(one, 0))


def peak_of(pid: int) -> int:
    """The peak of a process's resident memory in bytes; 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines.get("VmHWM", "0 kB").split()[0]) * 1024


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("long")


@pytest.fixture(scope="module")
def job(home: Path) -> str:
    """A cancelled job of so many rows."""
    with Store(Settings(home=home).database) as store:
        store.migrate()
        return cancelled_after(store, ROWS)


@pytest.fixture(scope="module")
def api(home: Path, job: str) -> Iterator[subprocess.Popen[bytes]]:
    """A real API process; its port is in its command."""
    command = [sys.executable, "-P", "-m", "service.serve", "--port", str(free_port())]
    with subprocess.Popen(command, env={**os.environ, "FFLAB_HOME": str(home)}) as process:
        with http_client(url_of(process)) as client:
            wait_until(lambda: answers(client), "the API answers")
        yield process
        process.kill()


def url_of(process: "subprocess.Popen[bytes]") -> str:
    return f"http://127.0.0.1:{process.args[-1]}"  # type: ignore[index]


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def client(api: "subprocess.Popen[bytes]") -> Iterator[httpx.Client]:
    with http_client(url_of(api), timeout=2 * PATIENCE_SECONDS) as client:
        yield client


def read(client: httpx.Client, address: str, **headers: str) -> tuple[int, int]:
    """The status and the length of an answer that is not kept."""
    with client.stream("GET", address, headers=headers) as response:
        return response.status_code, sum(map(len, response.iter_bytes()))


def at_once(client: httpx.Client, addresses: list[str], **headers: str) -> list[tuple[int, int]]:
    with ThreadPoolExecutor(len(addresses)) as threads:
        return list(threads.map(lambda address: read(client, address, **headers), addresses))


def test_many_charts_at_once_take_little_memory(
    api: "subprocess.Popen[bytes]", client: httpx.Client, job: str
) -> None:
    names = ["theorem2", "sparsity", "goodness", "prediction"]
    addresses = [
        f"/v1/jobs/{job}/chart/{names[number % len(names)]}.png" for number in range(AT_ONCE)
    ]
    with Peaks(api.pid) as peaks:
        found = at_once(client, addresses)
    assert {status for status, _ in found} == {200}
    assert peaks.found[api.pid] < MOST_OF_API
    assert 0 < max(peaks.children) < MOST_OF_RENDERER
    assert 1 <= len(peaks.children) <= 2


def test_rows_events_tables_and_pages_take_little_memory(
    api: "subprocess.Popen[bytes]", client: httpx.Client, job: str
) -> None:
    rows = f"/v1/jobs/{job}/curves"
    with Peaks(api.pid) as peaks:
        whole = at_once(client, [rows] * 6)
        assert {status for status, _ in whole} == {200}
        assert min(length for _, length in whole) > 30 * MIB
        tables = at_once(client, [f"{rows}.csv", f"{rows}.csv?mean=true", f"/jobs/{job}"] * 2)
        assert {status for status, _ in tables} == {200}
        pages = at_once(
            client, [f"/v1/jobs/{job}/events?limit=1000"] * 6, Accept="application/json"
        )
        assert max(length for _, length in pages) < 2 * PAGE_BYTES
        streams = at_once(client, [f"/v1/jobs/{job}/events"] * 6)
        assert min(length for _, length in streams) > 30 * MIB
    assert peaks.found[api.pid] < MOST_OF_API


def test_all_events_are_on_the_pages(client: httpx.Client, job: str) -> None:
    seen: list[int] = []
    after: int | None = 0
    while after is not None:
        page = client.get(
            f"/v1/jobs/{job}/events",
            params={"after": after, "limit": 1000},
            headers={"Accept": "application/json"},
        ).json()
        seen += [event["id"] for event in page["items"]]
        after = page["next_cursor"]
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > 300


def test_all_rows_are_in_the_table_and_the_means_are_of_all_seeds(
    client: httpx.Client, job: str
) -> None:
    table = client.get(f"/v1/jobs/{job}/curves.csv").text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert len(rows) == len({(row["epoch"], row["seed"], row["split"]) for row in rows}) >= ROWS
    means = client.get(f"/v1/jobs/{job}/curves.csv?mean=true").text
    lines = list(csv.DictReader(io.StringIO(means)))
    assert {line["seeds"] for line in lines} == {str(SEEDS)}
    assert [int(line["epoch"]) for line in lines] == sorted(int(line["epoch"]) for line in lines)


def test_a_peak_of_one_epoch_is_drawn_and_the_caption_says_how(
    client: httpx.Client, job: str
) -> None:
    chart = client.get(f"/v1/jobs/{job}/chart/theorem2.json").json()
    points = [one for data in chart["datasets"].values() for one in data if "epoch" in one]
    epochs = {point["epoch"] for point in points}
    last = ROWS // (2 * SEEDS)
    assert {0, last} <= epochs
    assert len(epochs) <= 300
    (peak,) = (point for point in points if point["split"] == "positive" and point["least"] < 0.2)
    first, end = map(int, peak["epochs"].split(" to "))
    assert first <= PEAK_EPOCH <= end
    caption = " ".join(chart["title"]["subtitle"])
    assert f"{last + 1:,} epochs, drawn as {len(epochs)} bins with their smallest and" in caption


def test_charts_of_a_long_result_are_those_of_its_rows(home: Path, job: str) -> None:
    """A result is read without its rows, which are read while the chart is drawn."""
    with Store(Settings(home=home).database) as store:
        found = store.jobs.get(job)
        assert found is not None
        (source,) = drawable_in_pieces(store, found)
    rows = source.curves if hasattr(source, "curves") else ()
    assert isinstance(rows, StoredRows)
    assert len(rows) >= ROWS > MOST_HELD_ROWS
    assert rows.last_epochs == {0: ROWS // (2 * SEEDS)}


def test_renderers_end_with_an_api_that_is_killed(home: Path, job: str, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "service.serve", "--port", str(free_port())]
    with subprocess.Popen(command, env={**os.environ, "FFLAB_HOME": str(home)}) as process:
        with http_client(url_of(process)) as client:
            wait_until(lambda: answers(client), "the API answers")
            assert client.get(f"/v1/jobs/{job}/chart/sparsity.svg").status_code == 200
        renderers = psutil.Process(process.pid).children()
        assert len(renderers) == 1
        renderers[0].suspend()  # so that it cannot notice by itself
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not any(one.is_running() for one in renderers), "the renderer has ended")
