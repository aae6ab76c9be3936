"""Bounds on descriptors, streams and logs: beyond them the service goes on answering."""

import errno
import logging
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from fflab import Client
from service.host import limits
from service.settings import Settings
from service.stack import child_process
from service.stack.child_process import ChildProcess
from service.store import Store
from service.web import server
from service.web.dependencies import Resources
from tests.factories import submit
from tests.over_http import refused, succeed
from tests.ports import free_port
from tests.serving import http_client


@pytest.mark.slow
def test_streams_beyond_the_bound_are_refused_and_clients_read_pages(
    client: httpx.Client,
    resources: Resources,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resources.event_feed, "_most_clients", 1)
    job = submit(store)
    address = f"/v1/jobs/{job.id}/events"
    with client.stream("GET", address) as held:
        lines = held.iter_lines()  # kept: the stream is closed with it
        next(lines)
        answer = client.get(address)
        refused(answer, 503, "too-many-streams")
        assert answer.headers["retry-after"] == "2"
        page = client.get(address, headers={"Accept": "application/json"})
        assert page.json()["items"]
        assert client.get(f"/v1/jobs/{job.id}", params={"wait": 60}).json()["state"] == "queued"
        succeed(store, job.id)
        monkeypatch.setattr("service.client.retries.LONGEST_ASKED_SECONDS", 0.01)
        with Client(str(client.base_url)) as own:
            monkeypatch.setattr(resources.event_feed, "_most_clients", 0)
            assert [event.type for event in own.events(job.id)][-1] == "end"


@pytest.mark.slow
def test_of_many_streams_asked_for_at_once_only_so_many_are_held(
    client: httpx.Client,
    resources: Resources,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database is slow to tell the first one its place; the others ask meanwhile."""
    monkeypatch.setattr(resources.event_feed, "_most_clients", 2)
    job, newest, held = submit(store), resources.store.events.newest, threading.Event()

    def slow() -> int:
        held.wait(PATIENCE_SECONDS)
        return newest()

    monkeypatch.setattr(resources.store.events, "newest", slow)

    def status(_number: int) -> int:
        with client.stream("GET", f"/v1/jobs/{job.id}/events") as answer:
            if answer.is_success:
                held.wait(PATIENCE_SECONDS)
            return answer.status_code

    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(status, number) for number in range(6)]
        try:
            wait_until(lambda: sum(one.done() for one in asked) >= 4, "four are refused")
            assert resources.event_feed.waiting <= 2
        finally:
            held.set()
        statuses = sorted(one.result(timeout=PATIENCE_SECONDS) for one in asked)
    assert statuses == [200, 200, 503, 503, 503, 503]
    wait_until(lambda: resources.event_feed.waiting == 0, "their places are free again")


@pytest.mark.slow
def test_an_api_that_has_few_descriptors_answers_beside_many_streams(
    settings: Settings, store: Store
) -> None:
    job, port = submit(store), free_port()
    log = settings.root / "api.log"
    command = f"ulimit -n 64; exec {sys.executable} -P -m service.serve --port {port}"
    with ExitStack() as held, log.open("wb") as output:
        process = held.enter_context(
            subprocess.Popen(
                ["sh", "-c", command],
                env=os.environ | {"FFLAB_HOME": str(settings.root)},
                stdout=output,
                stderr=output,
            )
        )
        held.callback(process.terminate)

        def answers() -> bool:
            try:
                return httpx.get(
                    f"http://127.0.0.1:{port}/healthz", trust_env=False, timeout=5.0
                ).is_success
            except httpx.TransportError:
                return False

        wait_until(answers, "the API answers")
        for _ in range(80):
            asking = held.enter_context(
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
            )
            asking.sendall(
                f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
        wait_until(answers, "it answers beside them", seen=lambda: log.read_text()[-2000:])
        assert log.stat().st_size < 100_000


@pytest.mark.slow
def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    code = (
        "import resource; from service.host.limits import raise_descriptor_limit as up; "
        "print(up(), resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    command = f'ulimit -Sn 100; ulimit -Hn 512; exec {sys.executable} -c "{code}"'
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "512 (512, 512)"


def test_streams_take_a_share_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, most in ((64, 8), (16, 4), (1024, 128), (1 << 20, 500)):
        monkeypatch.setattr(limits.resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert limits.stream_limit(500) == most


@pytest.mark.slow
def test_a_log_is_bounded_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "LOG_BYTES", 10_000)
    code = "import time\nwhile True: print('x' * 99, flush=True); time.sleep(0.0005)"
    child = ChildProcess(
        "child",
        [sys.executable, "-c", code],
        environment=os.environ,
        log_file=tmp_path / "child.log",
    )
    child.start()
    try:
        aside = tmp_path / "child.log.1"

        def turned() -> bool:
            child.restart_if_dead()
            return aside.exists() and 0 < child.log_file.stat().st_size < 10_000

        wait_until(turned, "the log was put aside, and goes on")
        assert set(aside.read_text()) == {"x", "\n"}
    finally:
        child.stop(0)


@pytest.mark.slow
def test_a_flood_of_long_paths_does_not_grow_the_log(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "LOG_BYTES", 100_000)
    port = free_port()
    child = ChildProcess(
        "api",
        [sys.executable, "-P", "-m", "service.serve", "--port", str(port)],
        environment=os.environ | {"FFLAB_HOME": str(settings.root)},
        log_file=tmp_path / "api.log",
    )
    child.start()
    sizes = [0]
    try:
        with http_client(f"http://127.0.0.1:{port}") as http:

            def asked(path: str) -> bool:
                child.restart_if_dead()
                sizes.append(sum(file.stat().st_size for file in tmp_path.glob("api.log*")))
                try:
                    http.get(path)
                except httpx.TransportError:
                    return False
                return True

            wait_until(lambda: asked("/healthz"), "the API answers")
            for number in range(100):
                assert asked(f"/v1/jobs/{number}{'a' * 60_000}")
        assert max(sizes) < 400_000
        assert child.failures == 0
    finally:
        child.stop(0)


def test_a_log_that_cannot_be_put_aside_is_bounded_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "LOG_BYTES", 100)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(child_process.shutil, "copyfileobj", full)
    log_file = tmp_path / "child.log"
    log_file.write_bytes(b"x" * 1000)
    ChildProcess("child", ["true"], environment={}, log_file=log_file)._bound_log()
    assert log_file.read_bytes() == b""


def test_a_failed_accept_is_one_line_in_ten_seconds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "asyncio")
    faults = logging.getLogger("asyncio")
    only = server.AcceptFaults()
    faults.addFilter(only)
    try:
        for _ in range(1000):
            faults.error("%s\nsocket: 5", server.ACCEPT_FAULT, exc_info=OSError(24, "too many"))
        faults.error("another")
    finally:
        faults.removeFilter(only)
    assert caplog.messages == [f"{server.ACCEPT_FAULT}: raise the limit of open files", "another"]
    assert caplog.records[0].exc_info is None
