"""What happens when: each fault of the design's table, on real processes, seen over HTTP."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import redis

from benchmarks.stack import signalled
from benchmarks.waiting import PATIENCE_SECONDS, PROGRAM_SECONDS, wait_until
from service.stack.stack import Stack, StackError, read_state
from tests.stack import CHECK, SPECS, Lab, answers, events, figures, lab_settings


def kill_worker_tree(lab: Lab) -> None:
    worker = lab.child("worker")
    for process in [worker, *worker.children(recursive=True)]:
        process.kill()


KILLS: dict[str, Callable[[Lab], object]] = {
    "the whole worker": kill_worker_tree,
    "Celery's main process": lambda lab: lab.child("worker").kill(),
    "Celery's child": lambda lab: lab.pool_child().kill(),
    "the runner": lambda lab: lab.runner().kill(),
}


@pytest.mark.parametrize(
    ("victim", "spec"),
    [
        ("the whole worker", "many epochs"),
        pytest.param("Celery's main process", "long epochs", marks=pytest.mark.soak),
        pytest.param("Celery's child", "many epochs", marks=pytest.mark.soak),
        pytest.param("the runner", "long epochs", marks=pytest.mark.soak),
    ],
)
def test_a_job_whose_worker_is_killed_resumes_with_the_same_bits(
    hasty_lab: Lab, undisturbed: dict[str, tuple[Any, Any]], victim: str, spec: str
) -> None:
    job_id = hasty_lab.submit(SPECS[spec])
    before = hasty_lab.until_midway(job_id)
    KILLS[victim](hasty_lab)
    killed = time.monotonic()
    resumed = hasty_lab.wait_for(job_id, lambda job: job["attempts"] == 2, "claimed again")
    recovered = time.monotonic() - killed
    assert recovered < 1800, recovered  # not the hour after which a broker sends again
    assert figures(hasty_lab.succeeded(job_id)) == undisturbed[spec]
    assert hasty_lab.job(job_id)["attempts"] == 2
    assert resumed["progress"]["fraction"] >= before["progress"]["fraction"] - 0.1, (
        "it began again from the start"
    )
    rows = [event["data"]["rows"] for event in events(hasty_lab, job_id) if event["type"] == "rows"]
    assert [row for batch in rows for row in batch] == undisturbed[spec][0], (
        "each row was announced once, in order"
    )


@pytest.mark.soak
def test_a_worker_that_was_frozen_past_its_lease_is_fenced_off(
    hasty_lab: Lab, undisturbed: dict[str, tuple[Any, Any]]
) -> None:
    job_id = hasty_lab.submit(SPECS["many epochs"])
    hasty_lab.until_midway(job_id)
    worker = hasty_lab.child("worker")
    frozen = [worker, *worker.children(recursive=True)]
    for process in frozen:
        process.suspend()
    try:
        hasty_lab.until_state(job_id, "queued")
    finally:  # the tests after this one share the worker
        for process in frozen:
            process.resume()
    assert figures(hasty_lab.succeeded(job_id)) == undisturbed["many epochs"]
    assert hasty_lab.job(job_id)["attempts"] == 2


def test_a_worker_that_is_asked_to_end_hands_its_job_back(
    lab: Lab, undisturbed: dict[str, tuple[Any, Any]]
) -> None:
    job_id = lab.submit(SPECS["long epochs"])
    lab.until_midway(job_id)
    worker = lab.child("worker")
    family = [worker, *worker.children(recursive=True)]
    worker.terminate()
    lab.until_state(job_id, "queued")
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
    assert not alive
    assert figures(lab.succeeded(job_id)) == undisturbed["long epochs"]
    handed_back = [
        event["data"] for event in events(lab, job_id) if event["data"].get("state") == "queued"
    ][-1]
    assert not handed_back.get("losses")


def test_five_stops_of_all_processes_at_once_cost_nothing(
    lab: Lab, undisturbed: dict[str, tuple[Any, Any]]
) -> None:
    """systemd and Slurm send SIGTERM to every process of a worker, runner and pool included."""
    job_id = lab.submit(SPECS["long epochs"])
    for stops in range(5):
        lab.wait_for(
            job_id,
            lambda job, stops=stops: job["state"] == "running" and job["attempts"] > stops,  # type: ignore[misc]
            f"running after {stops} stops",
        )
        family = lab.worker_tree()
        signalled(family, lambda process: process.terminate())
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
        assert not alive
        name = f"-{family[1].pid}"
        assert not [one for one in lab.workers() if one["id"].endswith(name)], "it signed off"
    assert figures(lab.succeeded(job_id)) == undisturbed["long epochs"]
    stored = events(lab, job_id)
    assert not [event for event in stored if event["data"].get("losses")]
    assert lab.job(job_id)["attempts"] == 6


def test_a_paused_job_goes_on_with_the_same_bits(
    lab: Lab, undisturbed: dict[str, tuple[Any, Any]]
) -> None:
    job_id = lab.submit(SPECS["long epochs"])
    lab.until_midway(job_id)
    assert lab.http.post(f"/v1/jobs/{job_id}/pause").is_success
    lab.until_state(job_id, "paused")
    assert lab.http.post(f"/v1/jobs/{job_id}/resume").is_success
    assert figures(lab.succeeded(job_id)) == undisturbed["long epochs"]


@pytest.mark.soak
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    lab: Lab, undisturbed: dict[str, tuple[Any, Any]]
) -> None:
    job_id = lab.submit(SPECS["many epochs"])
    lab.until_midway(job_id)
    assert lab.http.post(f"/v1/jobs/{job_id}/pause").is_success
    lab.until_state(job_id, "paused")
    folder = lab.stack.settings.artifact_place / job_id
    for name in ("step.safetensors", sorted(path.name for path in folder.glob("epoch-*"))[-1]):
        if (folder / name).exists():
            with (folder / name).open("r+b") as file:
                file.seek(200)
                file.write(b"damage")
    assert lab.http.post(f"/v1/jobs/{job_id}/resume").is_success
    assert figures(lab.succeeded(job_id)) == undisturbed["many epochs"]


def flush(lab: Lab) -> None:
    with redis.Redis.from_url(lab.stack.redis_url) as client:
        client.flushall()


def kill_redis_and_drop_its_data(lab: Lab) -> None:
    lab.child("redis").kill()
    for folder in lab.stack.home.joinpath("redis").glob("appendonly*"):
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "disaster", [pytest.param(flush, marks=pytest.mark.soak), kill_redis_and_drop_its_data]
)
def test_losing_all_of_redis_loses_no_job(
    lab: Lab, undisturbed: dict[str, tuple[Any, Any]], disaster: Callable[[Lab], None]
) -> None:
    running = lab.submit(SPECS["many epochs"])
    waiting = lab.submit(CHECK)
    lab.until_midway(running)
    disaster(lab)
    meanwhile = lab.submit(CHECK)
    assert figures(lab.succeeded(running)) == undisturbed["many epochs"]
    assert lab.job(running)["attempts"] == 1
    cells = [lab.succeeded(job_id)["cells"] for job_id in (waiting, meanwhile)]
    assert cells[0] == cells[1]
    assert len(cells[0]) == 4


def test_an_api_that_is_killed_comes_back_and_the_job_goes_on(
    lab: Lab, undisturbed: dict[str, tuple[Any, Any]]
) -> None:
    job_id = lab.submit(SPECS["many epochs"])
    lab.until_midway(job_id)
    api = lab.child("api")
    api.kill()
    api.wait()
    wait_until(lambda: answers(lab), "the API answers again")
    assert figures(lab.succeeded(job_id)) == undisturbed["many epochs"]
    assert lab.job(job_id)["attempts"] == 1


def test_cancelling_stops_the_computation(lab: Lab) -> None:
    running = lab.submit({**SPECS["long epochs"], "epochs": 500})
    queued = lab.submit(SPECS["long epochs"])
    lab.wait_for(
        running,
        lambda job: job["state"] == "running" and job["progress"]["message"] != "",
        "running",
    )
    runner = lab.runner()

    assert lab.http.post(f"/v1/jobs/{queued}/cancel").json()["state"] == "cancelled"
    assert lab.http.post(f"/v1/jobs/{running}/cancel").is_success
    lab.until_state(running, "cancelled")

    assert lab.job(queued)["attempts"] == 0
    wait_until(lambda: not runner.is_running() or is_idle(runner), "the runner computes no more")
    wait_until(
        lambda: [
            worker for worker in lab.http.get("/v1/workers").json()["items"] if not worker["job"]
        ],
        "the worker says that it is idle",
    )


def is_idle(process: psutil.Process) -> bool:
    """Whether a process uses no processor for a while."""
    return bool(process.cpu_percent(interval=0.3) < 10.0)


@pytest.mark.soak
def test_time_in_which_the_stack_was_stopped_is_not_running_time(lab: Lab) -> None:
    limit, still = 10.0, 12.0
    job_id = lab.submit({**SPECS["long epochs"], "epochs": 500}, timeout_seconds=limit)
    lab.until_state(job_id, "running")
    processes = [*lab.worker_tree(), lab.child("api"), lab.child("redis")]
    signalled(processes, psutil.Process.suspend)
    time.sleep(still)
    signalled(processes, psutil.Process.resume)
    job = lab.until_state(job_id, "succeeded", "failed")
    assert job["error"]["code"] == "timeout"
    began, ended = (datetime.fromisoformat(job[name]) for name in ("started_at", "finished_at"))
    assert (ended - began).total_seconds() > limit + still - 2.0


# The stack itself


def test_a_second_stack_on_the_same_home_is_refused(stack: Stack) -> None:
    with pytest.raises(StackError, match="is running already"):
        Stack(stack.settings, port=0, device="cpu").start()


def test_a_port_in_use_is_said(stack: Stack, home: Path) -> None:
    with pytest.raises(StackError, match=f"port {stack.port} of 127.0.0.1 is in use"):
        Stack(lab_settings(home), port=stack.port, device="cpu").start()
    api = subprocess.run(
        [sys.executable, "-P", "-m", "service.serve", "--port", str(stack.port)],
        capture_output=True,
        text=True,
        env=os.environ | {"FFLAB_HOME": str(home)},
        timeout=PROGRAM_SECONDS,
    )
    assert api.returncode == 3
    assert len(api.stderr.splitlines()) == 1
    assert "is in use" in api.stderr


def test_an_open_address_needs_keys(home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    api = subprocess.run(
        [sys.executable, "-P", "-m", "service.serve", "--host", "0.0.0.0", "--port", str(port)],  # noqa: S104
        capture_output=True,
        text=True,
        env=os.environ | {"FFLAB_HOME": str(home)},
        timeout=PROGRAM_SECONDS,
    )
    assert api.returncode == 3
    assert "fflab keys create" in api.stderr


@contextmanager
def fflab_up(home: Path) -> Iterator[tuple["subprocess.Popen[str]", list[psutil.Process], str]]:
    """`fflab up` as a program with a job running: the supervisor, all of its family, and the
    job.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "service.cli",
        "up",
        "--port",
        "0",
        "--home",
        str(home),
        "--device",
        "cpu",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        try:
            assert supervisor.stdout is not None
            assert "fflab is up: http://127.0.0.1:" in supervisor.stdout.readline()
            state = read_state(home / "stack.json")
            assert state is not None
            job_id = httpx.post(
                f"{state.url}/v1/jobs", json={"spec": {**SPECS["long epochs"], "epochs": 500}}
            ).json()["id"]
            wait_until(
                lambda: httpx.get(f"{state.url}/v1/jobs/{job_id}").json()["state"] == "running",
                "the job runs",
            )
            family = psutil.Process(supervisor.pid).children(recursive=True)
            assert len(family) == 5, "Redis, API, worker, its child, its runner"
            yield supervisor, family, job_id
        finally:
            supervisor.kill()


def running(family: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run so much later; one that has ended and waits for the system to take note
    does not.
    """
    alive = psutil.wait_procs(family, timeout=seconds)[1]
    return [
        process
        for process in alive
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.soak)]
)
def test_nothing_is_left_of_a_stack_that_was_stopped(
    redis_server: Path, home: Path, number: signal.Signals
) -> None:
    with fflab_up(home) as (supervisor, family, _):
        supervisor.send_signal(number)
        assert supervisor.wait(PATIENCE_SECONDS) == 0
        assert not running(family, PATIENCE_SECONDS)
        assert not (home / "stack.json").exists()


def test_nothing_is_left_of_a_stack_that_was_killed_and_the_next_one_goes_on(
    redis_server: Path, home: Path
) -> None:
    with fflab_up(home) as (supervisor, family, job_id):
        supervisor.kill()
        supervisor.wait()
        with Stack(lab_settings(home), port=0, device="cpu") as stack, Lab(stack) as lab:
            # what the kernel has killed may need a moment; the job would run for minutes
            assert not running(family, 5.0), (
                "the next stack begins when all of the last one is gone"
            )
            lab.wait_for(
                job_id,
                lambda job: job["state"] == "running" and job["attempts"] == 2,
                "the job goes on",
            )
            lab.http.post(f"/v1/jobs/{job_id}/cancel")
            lab.until_state(job_id, "cancelled")
