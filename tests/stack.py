"""The real stack, seen from outside: over HTTP, and by its processes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks.stack import Processes
from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.settings import Settings
from service.stack.stack import Stack

LEASE_SECONDS = 5.0
STEADY_LEASE_SECONDS = 60.0  # for what must keep its lease: it outlasts a stall of a busy machine


class Lab(Processes):
    """A running stack, seen from outside: over HTTP, and by its processes."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self.http = httpx.Client(
            base_url=stack.url, timeout=PATIENCE_SECONDS, transport=httpx.HTTPTransport(retries=5)
        )

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

    def workers(self) -> list[dict[str, Any]]:
        answer = self.http.get("/v1/workers")
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    def wait_for(
        self, job_id: str, condition: Callable[[dict[str, Any]], bool], description: str
    ) -> dict[str, Any]:
        """The job as soon as the condition holds; patient as long as it gets on, or those before it
        do.
        """

        def found() -> dict[str, Any] | None:
            job = self.job(job_id)
            return job if condition(job) else None

        return wait_until(
            found, f"{job_id}: {description}", seen=lambda: self.progress(job_id), pause=0.05
        )

    def progress(self, job_id: str) -> tuple[Any, ...]:
        """How far a job is, with the steps of whatever runs, which it may wait for."""
        running = self.http.get("/v1/jobs", params={"state": "running", "limit": 20}).json()[
            "items"
        ]
        job = self.job(job_id)
        return (
            job["state"],
            job["attempts"],
            job["progress"]["fraction"],
            sum(one["progress"]["fraction"] for one in running),
        )

    def until_state(self, job_id: str, *states: str) -> dict[str, Any]:
        return self.wait_for(job_id, lambda job: job["state"] in states, " or ".join(states))

    def until_midway(self, job_id: str) -> dict[str, Any]:
        """Wait until the job is well into its run, with something to resume from."""
        job = self.wait_for(
            job_id,
            lambda job: (
                job["progress"]["fraction"] >= 0.15 or job["state"] not in ("queued", "running")
            ),
            "midway",
        )
        assert job["state"] == "running", job
        return job

    def succeeded(self, job_id: str) -> dict[str, Any]:
        """The result of a job that is to succeed."""
        job = self.until_state(job_id, "succeeded", "failed", "cancelled")
        assert job["state"] == "succeeded", job["error"]
        return dict(self.http.get(f"/v1/jobs/{job_id}/result").json())


def lab_settings(home: Path, *, lease_seconds: float = LEASE_SECONDS) -> Settings:
    """A stack that notices a lost worker soon and checkpoints often."""
    return Settings(
        home=home, lease_seconds=lease_seconds, checkpoint_seconds=0.5, data=Settings().data
    )


# a few seconds on two cores, in many epochs, or in few epochs of many batches
DATA = {"name": "mnist-mini", "train_samples": 3000, "test_samples": 100}
SPECS: dict[str, dict[str, Any]] = {
    "many epochs": {
        "kind": "train",
        "dataset": DATA,
        "network": {"widths": [200]},
        "epochs": 40,
        "batch_size": 50,
        "monitor": {"samples": 200},
    },
    "long epochs": {
        "kind": "train",
        "dataset": DATA,
        "network": {"widths": [200, 100]},
        "optimizer": {"lr": 0.001},
        "epochs": 2,
        "batch_size": 2,
        "monitor": {"samples": 200},
    },
}
CHECK = {"kind": "check", "dataset": DATA, "widths": [32], "samples": 500, "seeds": [0]}


def figures(result: dict[str, Any]) -> tuple[Any, Any]:
    """What must not depend on how often a run was interrupted."""
    return result["curves"], result["accuracy"]


def events(lab: Lab, job_id: str) -> list[dict[str, Any]]:
    """All events of a job."""
    found: list[dict[str, Any]] = []
    while True:
        answer = lab.http.get(
            f"/v1/jobs/{job_id}/events",
            params={"after": len(found)},
            headers={"Accept": "application/json"},
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()["items"]
        if not page:
            return found
        found += page


def answers(lab: Lab) -> bool:
    try:
        return lab.http.get("/readyz").is_success
    except httpx.TransportError:
        return False


@contextmanager
def frozen(process: psutil.Process) -> Iterator[None]:
    """Hold a process for a while."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()
