"""Logs as JSON, of a real stack: a job is followed from its request to where it is computed."""

import json
from pathlib import Path

import httpx
import pytest

from benchmarks.waiting import wait_until
from service.client import Client
from service.settings import Settings
from service.stack.stack import Stack

SPEC = {"kind": "train", "epochs": 1, "network": {"widths": [8]}}


def lines_of(log: Path) -> list[dict[str, object]]:
    """The lines of a log; each that is not JSON fails."""
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.stack
def test_a_job_is_followed_from_its_request_to_its_runner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFLAB_LOG_FORMAT", "json")
    with Stack(Settings(home=tmp_path), port=0, device="cpu") as stack:
        answer = httpx.post(
            f"{stack.url}/v1/jobs", json={"spec": SPEC}, headers={"X-Request-ID": "from-a-proxy"}
        )
        job = answer.json()["id"]
        with Client(stack.url) as client:
            client.job(job).wait()
        every = lines_of(tmp_path / "logs/worker.log")
        runner = wait_until(lambda: of_job(tmp_path / "logs/worker.log", job), "the runner's lines")
    api = [one for one in lines_of(tmp_path / "logs/api.log") if "request" in one]
    submitted = [one for one in api if one.get("job_id") == job]
    assert [one["request"] for one in submitted] == ["from-a-proxy"]
    asked = [one for one in api if one["logger"] == "uvicorn.access"]
    parts = {(one["method"], one["path"], one["status"], one["request"]) for one in asked}
    assert ("POST", "/v1/jobs", 202, "from-a-proxy") in parts
    assert {one["attempt"] for one in runner} == {1}
    assert {one["process"] for one in every} == {"worker", "runner"}


def of_job(log: Path, job: str) -> list[dict[str, object]]:
    """The lines of a job's attempts in the worker's log; none before the last is there."""
    found = [one for one in lines_of(log) if one.get("job_id") == job]
    return found if any("succeeded" in str(one["message"]) for one in found) else []
