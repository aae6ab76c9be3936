"""The real stack, as `fflab up` starts it, in a temporary home: Redis, API and worker, and what tests need to look at it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.stack import Processes, wait_until
from service.settings import Settings
from service.stack.redis_server import BrokerError, find_server
from service.stack.stack import Stack

LEASE_SECONDS = 5.0


class Lab(Processes):
    """A running stack, seen from outside: over HTTP, and by its processes."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self.http = httpx.Client(base_url=stack.url, timeout=75.0, transport=httpx.HTTPTransport(retries=5))

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_error: object) -> None:
        self.http.close()

    def submit(self, spec: dict[str, Any], **fields: Any) -> str:
        answer = self.http.post("/v1/jobs", json={"spec": spec, "fresh": True, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_for(self, job_id: str, condition: Callable[[dict[str, Any]], bool], description: str, seconds: float = 60.0) -> dict[str, Any]:
        def seen() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if condition(job) else None

        return wait_until(seen, f"{job_id}: {description}", seconds)

    def until_state(self, job_id: str, *states: str, seconds: float = 60.0) -> dict[str, Any]:
        return self.wait_for(job_id, lambda job: job["state"] in states, " or ".join(states), seconds)

    def until_midway(self, job_id: str) -> dict[str, Any]:
        """Wait until the job is well into its run, with something to resume from."""
        job = self.wait_for(job_id, lambda job: job["progress"]["fraction"] >= 0.15 or job["state"] not in ("queued", "running"), "midway")
        assert job["state"] == "running", job
        return job

    def succeeded(self, job_id: str) -> dict[str, Any]:
        """The result of a job that is to succeed."""
        job = self.until_state(job_id, "succeeded", "failed", "cancelled")
        assert job["state"] == "succeeded", job["error"]
        return dict(self.http.get(f"/v1/jobs/{job_id}/result").json())


def lab_settings(home: Path) -> Settings:
    """A stack that notices a lost worker soon and checkpoints often."""
    return Settings(home=home, lease_seconds=LEASE_SECONDS, checkpoint_seconds=0.5, data=Settings().data)


@pytest.fixture(scope="session")
def redis_server() -> Path:
    """A Redis server to start; where there is none, CI fails and everybody else skips."""
    try:
        return find_server()
    except BrokerError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="fflab-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def stack(redis_server: Path) -> Iterator[Stack]:
    """The real stack, for all tests of the session."""
    folder = Path(tempfile.mkdtemp(prefix="fflab-"))
    with Stack(lab_settings(folder), port=0, device="cpu") as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture
def lab(stack: Stack) -> Iterator[Lab]:
    """The stack with a client and a view of its processes."""
    with Lab(stack) as seen:
        yield seen
