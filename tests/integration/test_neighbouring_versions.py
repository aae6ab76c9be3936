"""API and workers of an older version and of today on one home, as in the middle of an upgrade."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.waiting import wait_until
from tests.ports import free_port

pytestmark = pytest.mark.soak
ROOT = Path(__file__).parents[2]
# the last commits of the versions that today's must live beside; a release adds its own
OLDER = {
    "0.2.0": "b1215f5a8d78923d44c388687b627d56395320c3",
    "before spec versions": "45f4638e09612a46dd72831c745df847ce194738",
}
DATA = {"name": "digits", "train_samples": 400, "test_samples": 100}
SHORT = {
    "kind": "train",
    "dataset": DATA,
    "network": {"widths": [16]},
    "batch_size": 100,
    "epochs": 2,
}
LONG = SHORT | {"network": {"widths": [200]}, "batch_size": 2, "epochs": 40}
NEW = SHORT | {"objective": {"name": "polar"}}


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, check=False)


@pytest.fixture(params=OLDER.values(), ids=OLDER)
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkout of an older version."""
    revision = str(request.param)
    if git("rev-list", "--max-count=1", revision).returncode:
        pytest.skip(f"this checkout has no history back to {revision[:8]}")
    folder = tmp_path / "older"
    folder.mkdir()
    archive = git("archive", revision).stdout
    subprocess.run(["tar", "x", "-C", folder], input=archive, check=True)
    return folder


class Fleet:
    """Programs of several versions on one home."""

    def __init__(self, home: Path, redis: str, stack: ExitStack) -> None:
        self.home, self.stack = home, stack
        self.environment = {
            **os.environ,
            "FFLAB_HOME": str(home),
            "FFLAB_REDIS_URL": redis,
            "FFLAB_CHECKPOINT_SECONDS": "0.5",
        }

    def start(self, code: Path, *arguments: str) -> subprocess.Popen[bytes]:
        log = (self.home / f"{arguments[1]}-{code.name}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            cwd=self.home,
            env={**self.environment, "PYTHONPATH": str(code)},
            stdout=log,
            stderr=log,
        )
        self.stack.callback(log.close)
        self.stack.callback(ended, process)
        return process

    def api(self, code: Path) -> httpx.Client:
        port = free_port()
        self.start(code, "-m", "service.serve", "--host", "127.0.0.1", "--port", str(port))
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60.0)
        self.stack.callback(client.close)
        wait_until(lambda: answers(client) or None, "the API answers")
        return client

    def worker(self, code: Path) -> subprocess.Popen[bytes]:
        return self.start(code, "-m", "workers", "--device", "cpu")


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a program as a service manager does."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def fleet(home: Path, redis_server: Path) -> Iterator[Fleet]:
    with ExitStack() as stack, redis_of(redis_server) as address:
        yield Fleet(home, address, stack)
        stack.close()


@contextmanager
def redis_of(server: Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [server, "--port", str(port), "--save", "", "--maxmemory-policy", "noeviction"],
        stdout=subprocess.DEVNULL,
    )
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait()


def submitted(api: httpx.Client, spec: dict[str, Any]) -> str:
    answer = api.post("/v1/jobs", json={"spec": spec, "fresh": True})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def until(api: httpx.Client, job: str, state: str) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        seen: dict[str, Any] = api.get(f"/v1/jobs/{job}").json()
        assert seen["state"] not in {"failed", "cancelled"}, seen
        return seen if seen["state"] == state else None

    return wait_until(
        found, f"{job} is {state}", seen=lambda: api.get(f"/v1/jobs/{job}").json()["progress"]
    )


def test_an_upgrade_box_by_box_loses_no_job(older: Path, fleet: Fleet) -> None:
    old_api, old_worker = fleet.api(older), fleet.worker(older)
    until(old_api, submitted(old_api, SHORT), "succeeded")

    api = fleet.api(ROOT)  # the schema is upgraded beside the old programs
    new, plain, behind = (submitted(api, spec) for spec in (NEW, SHORT, SHORT))
    for job in (plain, behind):
        until(api, job, "succeeded")
    waiting = api.get(f"/v1/jobs/{new}").json()
    assert (waiting["state"], waiting["attempts"]) == ("queued", 0)
    assert waiting["held_up"].startswith("needs version 2 of specs")

    long = submitted(api, LONG)
    wait_until(
        lambda: api.get(f"/v1/jobs/{long}").json()["progress"]["fraction"] > 0.02 or None,
        "the long job has begun",
    )
    ended(old_worker)  # the long job changes hands
    fleet.worker(ROOT)
    until(api, new, "succeeded")
    assert until(api, long, "succeeded")["attempts"] == 2
    log = api.get(f"/v1/jobs/{long}/log").text
    assert "resumed at epoch" in log or "begins anew" in log
    # today's worker computes what the old API takes, which itself cannot read its provenance and
    # answers 500: the upgrade page says to stop it
    until(api, submitted(old_api, SHORT), "succeeded")
