"""`python -m benchmarks.service [--only NAME ...]`: what the shell around the engine costs, on the
embedded stack; one JSON line a row.

Ratios are taken in one run on one machine; clients, API, worker and Redis share its cores.
"""

import argparse
import asyncio
import http.client
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
from sqlalchemy import insert

from benchmarks.long_job import cancelled_after
from benchmarks.many_jobs import fill
from benchmarks.stack import Processes, children, signalled
from benchmarks.waiting import wait_until
from ffengine.provenance import git_revision
from ffengine.spec import CheckSpec
from ffengine.version import VERSION
from service.settings import Settings
from service.stack.stack import Stack
from service.store import NewJob, Store
from service.store.inserts import draft
from service.store.tables import JobRow

PAGE = Path(__file__).parents[1] / "docs" / "service.md"
BEGIN, END = "<!-- measured -->", "<!-- end -->"
MANY_JOBS = 200_000
IDLE_SECONDS, PAGE_SECONDS = 30.0, 2.0
CHECK = {
    "kind": "check",
    "theorem": 1,
    "dataset": {"train_samples": 100, "test_samples": 10},
    "widths": [8],
    "samples": 20,
}
TRAIN = {
    "kind": "train",
    "network": {"widths": [500]},
    "objective": {"name": "softplus"},
    "batch_size": 100,
    "monitor": {"samples": 500},
}


class Row(NamedTuple):
    """One line of the table: a figure, and the bar that it is held against."""

    name: str
    meaning: str
    figure: float
    unit: str
    bar: float
    higher_is_better: bool
    detail: str

    @property
    def met(self) -> bool:
        """Whether the figure is on the right side of its bar."""
        return self.figure >= self.bar if self.higher_is_better else self.figure <= self.bar


class Lab(Processes):
    """A stack of its own, with a client."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self.http = httpx.Client(base_url=stack.url, timeout=70.0, trust_env=False)

    def submit(self, spec: dict[str, Any], **fields: Any) -> str:
        """The id of a new job."""
        answer = self.http.post("/v1/jobs", json={"spec": spec, "fresh": True, **fields})
        answer.raise_for_status()
        return str(answer.json()["id"])

    def ended(self, job_id: str) -> dict[str, Any]:
        """The job when it has ended."""
        while (job := self.http.get(f"/v1/jobs/{job_id}", params={"wait": 60}).json())[
            "state"
        ] not in ("succeeded", "failed"):
            pass
        if job["state"] == "failed":
            raise RuntimeError(f"{job_id}: {job['error']}")
        return dict(job)


@contextmanager
def lab() -> Iterator[Lab]:
    """A running stack in a folder of its own, its runner warm."""
    with tempfile.TemporaryDirectory(prefix="fflab-bench-") as folder:
        settings = Settings(home=Path(folder), max_queued=1_000_000)
        with Stack(settings, port=0, device="cpu") as stack:
            found = Lab(stack)
            found.ended(found.submit(CHECK))
            yield found
            found.http.close()


def at(quantile: float, values: list[float]) -> float:
    """A quantile of measured values, none of them invented."""
    return sorted(values)[min(len(values) - 1, int(quantile * len(values)))]


def submit_to_running() -> Row:
    """From the request to the claim, each job submitted to an idle worker."""
    seconds = []
    with lab() as there:
        for _ in range(100):
            time.sleep(0.05)
            began = time.time()
            job_id = there.submit(CHECK)
            there.ended(job_id)
            events = there.http.get(
                f"/v1/jobs/{job_id}/events", headers={"Accept": "application/json"}
            ).json()["items"]
            running = next(
                event["at"] for event in events if event["data"].get("state") == "running"
            )
            seconds.append(_timestamp(running) - began)
    detail = f"100 jobs; p95 {1e3 * at(0.95, seconds):.0f} ms, longest {1e3 * max(seconds):.0f} ms"
    return Row(
        "submit-to-running",
        "submit to running, idle worker, p50",
        1e3 * at(0.5, seconds),
        "ms",
        50,
        False,
        detail,
    )


def _timestamp(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def durable_submits() -> Row:
    """Acknowledged submits a second by four clients, each in its own synced transaction, the worker
    held still.
    """
    count, clients = 1_000, 4
    with lab() as there:
        signalled(there.worker_tree(), psutil.Process.suspend)

        def work(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", there.stack.port)
            for place in range(count // clients):
                body = json.dumps({"spec": {**CHECK, "seeds": [number * count + place]}})
                headers = {
                    "Content-Type": "application/json",
                    "Idempotency-Key": f"{number}-{place}",
                }
                connection.request("POST", "/v1/jobs", body, headers)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 202, answer.status  # noqa: S101 - what is measured is what was accepted
            connection.close()

        began = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(work, range(clients)))
        rate = count / (time.perf_counter() - began)
        signalled(there.worker_tree(), psutil.Process.resume)
        stored = there.http.get("/v1/jobs", params={"limit": 500}).json()["items"]
    return Row(
        "submits",
        "durable submits a second",
        rate,
        "1/s",
        200,
        True,
        f"{count} by {clients} clients; {len(stored)} on the first page",
    )


SERVER = """
import sys
from service.web.app import create_app
import uvicorn
app = create_app()

@app.get("/empty")
async def empty():
    return {}

uvicorn.run(app, port=int(sys.argv[1]), log_level="error")
"""
READER = """
import http.client, sys, time
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
count = int(sys.argv[3])
began = time.perf_counter()
for _ in range(count):
    connection.request("GET", sys.argv[2])
    connection.getresponse().read()
print(count / (time.perf_counter() - began))
"""


def reading_a_job() -> Row:
    """Requests a second of GET /v1/jobs/{id} over those of an empty route of the same server,
    alternating.
    """
    with (
        tempfile.TemporaryDirectory(prefix="fflab-bench-") as folder,
        _server(Path(folder)) as port,
    ):
        url = f"http://127.0.0.1:{port}"
        job_id = httpx.post(f"{url}/v1/jobs", json={"spec": TRAIN}, trust_env=False).json()["id"]
        rates: dict[str, list[float]] = {"/empty": [], f"/v1/jobs/{job_id}": []}
        for number in range(6):
            for path, found in rates.items():
                readers = [
                    _python(READER, str(port), path, "1500", stdout=subprocess.PIPE)
                    for _ in range(2)
                ]
                rate = sum(float(reader.communicate()[0]) for reader in readers)
                if number:
                    found.append(rate)
    empty, job = (statistics.median(found) for found in rates.values())
    detail = f"{job:.0f} / {empty:.0f} requests a second, two clients, medians of 5 rounds"
    return Row("read", "reading a job over an empty route", job / empty, "", 0.4, True, detail)


@contextmanager
def _server(home: Path) -> Iterator[int]:
    from service.stack.redis_server import free_port

    port = free_port()
    server = _python(SERVER, str(port), env=os.environ | {"FFLAB_HOME": str(home)})
    try:
        wait_until(lambda: _answers(f"http://127.0.0.1:{port}/healthz"), "the server answers")
        yield port
    finally:
        server.terminate()
        server.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _python(code: str, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code, *arguments], text=True, **options)


DIRECT = """
import json, sys, time
import ffengine
from ffengine.spec import TrainSpec
spec = TrainSpec.model_validate_json(sys.argv[1])
began = time.perf_counter()
ffengine.train(spec)
print(time.perf_counter() - began)
"""


def training() -> Row:
    """A training job on all of MNIST; each epoch leaves rows and a checkpoint."""
    return _over_direct(
        "training",
        "a training job over ffengine.train, mnist",
        {**TRAIN, "dataset": {"name": "mnist"}},
        60,
    )


def short_epochs() -> Row:
    """The same where epochs are short, so that their rows and checkpoints weigh most."""
    return _over_direct(
        "short-epochs", "the same with epochs a tenth as long, mnist-mini", TRAIN, 30
    )


def _over_direct(name: str, meaning: str, spec: dict[str, Any], seconds: float) -> Row:
    """A training job of about `seconds`, from its submit to its end, over the same run by
    ffengine.train in a process of its own.
    """
    one, nine = (_direct({**spec, "epochs": epochs}) for epochs in (1, 9))
    spec = {**spec, "epochs": max(2, round((seconds - one) / ((nine - one) / 8)))}
    direct, through = [], []
    with lab() as there:
        for _ in range(3):
            direct.append(_direct(spec))
            began = time.perf_counter()
            there.ended(there.submit(spec))
            through.append(time.perf_counter() - began)
    ratio = statistics.median(through) / statistics.median(direct)
    ours, bare = (", ".join(f"{taken:.1f}" for taken in times) for times in (through, direct))
    return Row(
        name, meaning, ratio, "", 1.05, False, f"{spec['epochs']} epochs; {ours} s / {bare} s"
    )


def _direct(spec: dict[str, Any]) -> float:
    ran = subprocess.run(
        [sys.executable, "-c", DIRECT, json.dumps(spec)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(ran.stdout)


def streams() -> Row:
    """How long after its time each of 300 clients has an event of a running job in hand."""
    with lab() as there:
        job_id = there.submit({**TRAIN, "epochs": 40, "network": {"widths": [200]}})
        late = asyncio.run(_late(there.stack.port, job_id, 300))
        there.http.post(f"/v1/jobs/{job_id}/cancel")
    detail = (
        f"{len(late)} events received; p50 {1e3 * at(0.5, late):.0f} ms, longest "
        f"{1e3 * max(late):.0f} ms"
    )
    return Row(
        "streams",
        "300 streams, each event after its time, p95",
        1e3 * at(0.95, late),
        "ms",
        250,
        False,
        detail,
    )


async def _late(port: int, job_id: str, count: int) -> list[float]:
    """Seconds between the time of an event and its receipt, of those that happened while all
    streams were open.
    """
    seen: list[tuple[float, str]] = []
    opened = asyncio.Semaphore(0)

    async def follow() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"id: 1\n")
        opened.release()
        while line := await reader.readline():
            if line.startswith(b"data: "):
                seen.append((time.time(), line.decode()))
        writer.close()

    streams = [asyncio.create_task(follow()) for _ in range(count)]
    for _ in range(count):
        await opened.acquire()
    began = time.time()
    await asyncio.sleep(20)
    for stream in streams:
        stream.cancel()
    found = [
        (received, _timestamp(json.loads(line.removeprefix("data: "))["at"]))
        for received, line in seen
    ]
    return [received - happened for received, happened in found if happened > began]


def listing() -> Row:
    """Time of page 1 000 of 100 000 jobs over that of page 1, 100 jobs a page."""
    with lab() as there:
        _fill(there.stack.settings.database, 100_000)
        cursor: str | None = None
        for _ in range(999):
            page = there.http.get(
                "/v1/jobs", params={"limit": 100, **({"cursor": cursor} if cursor else {})}
            ).json()
            cursor = page["next_cursor"]
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(30):
            for path, found in zip(
                ("/v1/jobs?limit=100", f"/v1/jobs?limit=100&cursor={cursor}"), seconds, strict=True
            ):
                began = time.perf_counter()
                there.http.get(path).raise_for_status()
                found.append(time.perf_counter() - began)
    first, last = (statistics.median(found) for found in seconds)
    detail = f"{1e3 * last:.1f} / {1e3 * first:.1f} ms"
    return Row(
        "listing",
        "page 1 000 of 100 000 jobs over page 1",
        max(last, first) / min(last, first),
        "",
        2.0,
        False,
        detail,
    )


def _fill(database: str | Path, count: int) -> None:
    """Insert `count` jobs that have ended, straight into the database."""
    store = Store(database)
    order = NewJob(spec=CheckSpec.model_validate(CHECK))
    for first in range(0, count, 5_000):
        rows = [
            {
                **draft(order).columns(),
                "state": "cancelled",
                "rank": 0.0,
                "created_at": 0.0,
                "queued_at": 0.0,
                "message": "",
                "name": f"job {first + place}",
            }
            for place in range(5_000)
        ]
        with store.database.writing() as session:
            session.execute(insert(JobRow), rows)
    store.close()


def study() -> Row:
    """How long the API takes to answer reads while a study of 2 000 trivial runs is worked off."""
    cells = 2_000
    spec = {
        "kind": "study",
        "base": CHECK,
        "grid": {"seeds": [[number] for number in range(cells)]},
    }
    reads: list[float] = []
    with lab() as there:
        began = time.perf_counter()
        answer = there.http.post("/v1/jobs", json={"spec": spec})
        accepted = time.perf_counter() - began
        job_id = answer.json()["id"]
        paths = (
            f"/v1/jobs/{job_id}",
            "/v1/jobs?limit=50",
            f"/v1/jobs?parent={job_id}&limit=50",
            "/v1/workers",
        )
        while not reads or there.http.get(f"/v1/jobs/{job_id}").json()["state"] not in (
            "succeeded",
            "failed",
        ):
            for path in paths:
                asked = time.perf_counter()
                there.http.get(path).raise_for_status()
                reads.append(time.perf_counter() - asked)
                time.sleep(0.02)
        seconds = time.perf_counter() - began
        result = there.http.get(f"/v1/jobs/{job_id}/result").json()
    done = sum(cell["state"] == "succeeded" for cell in result["cells"])
    detail = (
        f"{done} succeeded in {seconds:.0f} s, accepted in {accepted:.2f} s; {len(reads)} "
        f"reads, p50 {1e3 * at(0.5, reads):.0f} ms"
    )
    return Row(
        "study",
        "reads during a study of 2 000 runs, p99",
        1e3 * at(0.99, reads),
        "ms",
        100,
        False,
        detail,
    )


def charts() -> Row:
    """How long the API takes to answer reads while 8 people have 4 charts each drawn."""
    names = ("theorem1", "theorem2", "sparsity", "goodness")
    reads: list[float] = []
    with lab() as there:
        with Store(there.stack.settings.database) as store:
            jobs = [cancelled_after(store, rows=3_000) for _ in range(8)]

        def draw(job_id: str) -> None:
            with httpx.Client(base_url=there.stack.url, timeout=600.0, trust_env=False) as person:
                for name in names:
                    person.get(f"/v1/jobs/{job_id}/chart/{name}.png").raise_for_status()

        draw(jobs[0])  # the renderer runs
        idle = [_seconds_of_read(there) for _ in range(100)]
        began = time.perf_counter()
        with ThreadPoolExecutor(len(jobs)) as people:
            drawing = [people.submit(draw, cancelled) for cancelled in jobs]
            while not all(one.done() for one in drawing):
                reads.append(_seconds_of_read(there))
        for one in drawing:
            one.result()
        seconds = time.perf_counter() - began
        api = there.child("api")
        own, *renderers = (
            one.memory_info().rss / 2**20 for one in (api, *children(api, recursive=True))
        )
    detail = (
        f"drawn in {seconds:.1f} s; {len(reads)} reads, p50 {1e3 * at(0.5, reads):.0f} ms; without "
        f"drawing p50 {1e3 * at(0.5, idle):.0f}, p99 {1e3 * at(0.99, idle):.0f} ms; API "
        f"{own:.0f} MB, renderers {', '.join(f'{one:.0f}' for one in renderers)} MB"
    )
    return Row(
        "charts",
        "reads while 32 charts are drawn, p99",
        1e3 * at(0.99, reads),
        "ms",
        100,
        False,
        detail,
    )


def idle() -> Row:
    """What the API's process takes of a core beside very many old jobs, while nothing happens but
    that people look: open streams, and pages that ask for themselves again.
    """
    with lab() as there:
        with Store(there.stack.settings.database) as store:
            fill(store, MANY_JOBS)
            job_id = store.jobs.submit(
                NewJob(spec=CheckSpec.model_validate(CHECK), fresh=True), max_queued=10**9
            ).job.id
            store.actions.pause(job_id)
        api, done = there.child("api"), threading.Event()

        def follow() -> None:
            address = f"{there.stack.url}/v1/jobs/{job_id}/events"
            with httpx.stream("GET", address, timeout=600.0, trust_env=False) as stream:
                for _line in stream.iter_lines():
                    if done.is_set():
                        return

        def look(path: str) -> None:
            headers = {"fflab-refresh": "yes"}
            with httpx.Client(base_url=there.stack.url, timeout=60.0, trust_env=False) as person:
                while not done.wait(PAGE_SECONDS):
                    person.get(path, headers=headers).raise_for_status()

        people = [threading.Thread(target=follow, daemon=True) for _ in range(20)]
        paths = ("/", f"/jobs/{job_id}", "/workers")
        people += [threading.Thread(target=look, args=(path,), daemon=True) for path in paths]
        wait_until(lambda: _cpu_of(api, 5.0) < 0.5, "what the jobs left to do is done")
        alone = _cpu_of(api, IDLE_SECONDS)
        for person in people[:20]:
            person.start()
        with_streams = _cpu_of(api, IDLE_SECONDS)
        for person in people[20:]:
            person.start()
        looked_at = _cpu_of(api, IDLE_SECONDS)
        done.set()
    detail = (
        f"of one core, in {IDLE_SECONDS:.0f} s; alone {100 * alone:.2f} %, with 20 streams "
        f"{100 * with_streams:.2f} %; then the list, a job and the workers are open as well, each "
        f"asked for every {PAGE_SECONDS:.0f} s"
    )
    meaning = f"API beside {MANY_JOBS:,} old jobs, 20 streams and 3 pages open, nothing to do"
    return Row("idle", meaning, 100 * looked_at, "%", 1.0, False, detail)


def _cpu_of(process: psutil.Process, seconds: float) -> float:
    """Which part of a core a process takes."""
    before, began = sum(process.cpu_times()[:2]), time.perf_counter()
    time.sleep(seconds)
    return (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - began)


def filters() -> Row:
    """How long the slowest filter of a list takes at very many jobs, without counting them."""
    found: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(prefix="fflab-bench-") as folder,
        Store(Path(folder) / "fflab.db") as store,
    ):
        store.migrate()
        fill(store, MANY_JOBS)
        for name, asked in FILTERS.items():
            found[name] = min(_seconds_of_page(store, asked) for _ in range(5))
    slowest = max(found, key=lambda name: found[name])
    detail = ", ".join(f"{name} {1e3 * seconds:.1f}" for name, seconds in found.items())
    return Row(
        "filters",
        f"a page of {MANY_JOBS:,} jobs by {slowest}, the slowest filter",
        1e3 * found[slowest],
        "ms",
        20,
        False,
        f"{detail} ms",
    )


def _seconds_of_page(store: Store, asked: dict[str, Any]) -> float:
    began = time.perf_counter()
    store.jobs.page(limit=50, **asked)
    return time.perf_counter() - began


def _seconds_of_read(there: Lab) -> float:
    began = time.perf_counter()
    there.http.get("/v1/jobs?limit=50").raise_for_status()
    return time.perf_counter() - began


FILTERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "state": {"state": "cancelled"},
    "kind": {"kind": "study"},
    "tag": {"tag": "t507"},
    "project": {"project": "nothing"},
    "name": {"name": "sweep 77"},
    "owner": {"submitted_by": "nobody"},
    "study": {"parent": f"job_{1:032x}"},
    "time": {"created_before": datetime.fromtimestamp(1.7e9 + 100, UTC)},
}
MEASUREMENTS: dict[str, Callable[[], Row]] = {
    "submit-to-running": submit_to_running,
    "submits": durable_submits,
    "read": reading_a_job,
    "training": training,
    "short-epochs": short_epochs,
    "streams": streams,
    "listing": listing,
    "study": study,
    "charts": charts,
    "filters": filters,
    "idle": idle,
}


def main() -> None:
    """Measure, print, and write the page where all are measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(MEASUREMENTS), default=list(MEASUREMENTS))
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    rows = []
    for name in asked.only:
        row = MEASUREMENTS[name]()
        print(json.dumps({**row._asdict(), "met": row.met}), flush=True)
        rows.append(row)
    if set(asked.only) == set(MEASUREMENTS):
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}{END}{rest.split(END)[1]}")


def table(rows: list[Row]) -> str:
    """The rows as Markdown, with what they were measured on."""
    where = (
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, "
        f"SQLite and the embedded Redis"
    )
    lines = [f"fflab {VERSION} ({git_revision() or 'no revision'}), {where}.", ""]
    lines += ["| measurement | measured | bar | detail | |", "|---|---:|---:|---|---|"]
    for row in rows:
        bar = f"{'at least' if row.higher_is_better else 'at most'} {row.bar:g}"
        lines.append(
            f"| {row.meaning} | {row.figure:.3g} {row.unit} | {bar} {row.unit} | {row.detail} | "
            f"{'' if row.met else 'missed'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
