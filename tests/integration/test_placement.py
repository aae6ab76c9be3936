"""Real workers take the jobs that they are fit for, and a job that none is fit for says so."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from fflab import Client
from service.stack.stack import Stack, environment_of
from tests.stack import Lab

pytestmark = pytest.mark.stack
SPEC = {
    "kind": "train",
    "dataset": {"train_samples": 100, "test_samples": 50},
    "network": {"widths": [8]},
    "epochs": 1,
    "batch_size": 50,
    "monitor": {"samples": 50},
}


@contextmanager
def tagged_worker(stack: Stack, tags: str) -> Iterator[None]:
    """A second worker of the stack, with tags."""
    command = [sys.executable, "-P", "-m", "workers", "--device", "cpu", "--tags", tags]
    environment = environment_of(stack.settings, stack.redis_url)
    worker = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(PATIENCE_SECONDS)


@pytest.fixture
def client(lab: Lab) -> Iterator[Client]:
    with Client(lab.stack.url) as client:
        yield client


def test_a_job_goes_to_the_worker_that_meets_its_needs(
    stack: Stack, lab: Lab, client: Client
) -> None:
    wait_until(lab.workers, "the stack's worker is alive")
    job = client.submit(SPEC, needs={"tags": ["a100"]}, fresh=True)
    assert (job.job.held_up or "").startswith("needs tags=a100, and ")
    other = client.submit(SPEC, fresh=True)
    assert other.wait(PATIENCE_SECONDS).job.state == "succeeded", "it goes before"
    assert client.read(job.id).state == "queued"
    with tagged_worker(stack, "80g,A100"):
        assert job.wait(PATIENCE_SECONDS).job.state == "succeeded"
        (able,) = [one for one in lab.workers() if one["tags"]]
        assert able["tags"] == ["80g", "a100"]
        assert able["memory_bytes"] == able["host_memory_bytes"] > 0
        assert able["threads"] > 0
        assert able["id"] in [event.data.get("worker") for event in client.events(job.id)]
    assert client.read(job.id).held_up is None
