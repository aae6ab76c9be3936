"""What a lab meets in years: Redis that stands still, a database that cannot be written, poison,
deadlines, skewed clocks, no room.
"""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.stack.stack import Stack, environment_of
from tests.postgres import PostgresServer, need_postgres
from tests.stack import (
    CHECK,
    LEASE_SECONDS,
    SPECS,
    Lab,
    answers,
    events,
    figures,
    frozen,
    lab_settings,
)

Figures = tuple[Any, Any]
MANY, LONG = SPECS["many epochs"], SPECS["long epochs"]
ROOT = Path(__file__).parents[2]


def one_history(lab: Lab, job_id: str, attempts: int = 1) -> None:
    """The job was claimed so often, and its events have no gap, no duplicate, and one end."""
    stored = events(lab, job_id)
    assert [event["id"] for event in stored] == list(range(1, len(stored) + 1))
    assert [event["type"] for event in stored].count("end") == 1
    fields = ("seed", "width", "layer", "epoch", "split", "method")
    keys = [
        tuple(row.get(field) for field in fields)
        for event in stored
        for row in event["data"].get("rows", ())
    ]
    assert len(keys) == len(set(keys))
    assert lab.job(job_id)["attempts"] == attempts


# Redis


@pytest.mark.soak
@pytest.mark.parametrize("seconds", [5, 50])
def test_redis_may_stand_still(lab: Lab, undisturbed: dict[str, Figures], seconds: int) -> None:
    running = lab.submit(MANY)
    lab.until_midway(running)
    with frozen(lab.child("redis")):
        began = time.monotonic()
        meanwhile = lab.submit(CHECK)
        waited = time.monotonic() - began
        time.sleep(max(0.0, seconds - waited))
        assert waited < 2.0 or quickest_submit(lab) < 2.0, "a submit does not wait for Redis"
    assert figures(lab.succeeded(running)) == undisturbed["many epochs"]
    one_history(lab, running)
    lab.until_state(meanwhile, "succeeded")
    one_history(lab, meanwhile)


def quickest_submit(lab: Lab) -> float:
    """Seconds until a submit was answered, the least of several: on a busy machine one may take
    long.
    """
    seconds = []
    for _ in range(5):
        began = time.monotonic()
        lab.submit(CHECK)
        seconds.append(time.monotonic() - began)
    return min(seconds)


def test_an_api_that_is_killed_between_commit_and_message_loses_nothing(lab: Lab) -> None:
    wait_until(
        lambda: not lab.http.get("/v1/workers").json()["items"][0]["job"], "the worker is idle"
    )
    with frozen(lab.child("redis")):  # so that no message can have been sent when the API is killed
        job_id = lab.submit(CHECK)
        api = lab.child("api")
        api.kill()
        api.wait()
    wait_until(lambda: answers(lab), "the API answers again")
    lab.until_state(job_id, "succeeded")
    one_history(lab, job_id)


# The database


@pytest.mark.soak
def test_a_database_that_cannot_be_written_for_a_while_loses_nothing(
    hasty_lab: Lab, undisturbed: dict[str, Figures]
) -> None:
    running = hasty_lab.submit(LONG)
    hasty_lab.until_midway(running)
    database = sqlite3.connect(hasty_lab.stack.settings.root / "fflab.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        refused = pool.submit(hasty_lab.http.post, "/v1/jobs", json={"spec": CHECK, "fresh": True})
        time.sleep(0.5)
        assert hasty_lab.job(running)["state"] == "running", "reading goes on"
        answer = refused.result()
        assert answer.status_code == 503, answer.text
        assert answer.json()["code"] == "database-away"
        assert int(answer.headers["Retry-After"]) >= 1
        time.sleep(
            max(0.0, 20 - (time.monotonic() - began))
        )  # longer than the database lets anybody wait
    database.execute("COMMIT")
    database.close()
    assert figures(hasty_lab.succeeded(running)) == undisturbed["long epochs"]
    one_history(hasty_lab, running)
    hasty_lab.succeeded(hasty_lab.submit(CHECK))


@pytest.mark.soak
def test_postgres_may_be_away_for_longer_than_a_lease(
    redis_server: Path, home: Path, undisturbed: dict[str, Figures]
) -> None:
    need_postgres()
    with PostgresServer() as server:
        lease = 3 * LEASE_SECONDS  # all must be back in the time of one
        settings = lab_settings(home, lease_seconds=lease).model_copy(
            update={"database_url": server.url}
        )
        with Stack(settings, port=0, device="cpu") as stack, Lab(stack) as lab:
            running = lab.submit(LONG)
            lab.until_midway(running)
            waiting = lab.submit(CHECK)
            server.stop()
            began = time.monotonic()
            assert lab.http.get("/healthz").status_code == 200
            assert lab.http.get("/readyz").status_code == 503
            for answer in (
                lab.http.get(f"/v1/jobs/{running}"),
                lab.http.post("/v1/jobs", json={"spec": CHECK}),
            ):
                assert (answer.status_code, answer.json()["code"]) == (503, "database-away"), (
                    answer.text
                )
                assert int(answer.headers["Retry-After"]) >= 1
            time.sleep(max(0.0, lease + 3 - (time.monotonic() - began)))
            server.start()
            wait_until(
                lambda: lab.http.get("/readyz").status_code == 200, "the service is ready again"
            )
            assert figures(lab.succeeded(running)) == undisturbed["long epochs"]
            one_history(lab, running)
            lab.succeeded(waiting)


# No room


@contextmanager
def limited(process: psutil.Process, which: int, limit: int) -> Iterator[None]:
    """A process that may use so much of something, and no more."""
    before = resource.prlimit(process.pid, which)
    resource.prlimit(process.pid, which, (limit, before[1]))
    try:
        yield
    finally:
        if process.is_running():
            resource.prlimit(process.pid, which, before)


@pytest.mark.soak
def test_a_full_disk_fails_the_job_with_that_reason_and_earlier_results_stay(lab: Lab) -> None:
    earlier = lab.submit(CHECK)
    lab.succeeded(earlier)
    job_id = lab.submit(LONG)
    lab.until_midway(job_id)
    with limited(
        lab.runner(), resource.RLIMIT_FSIZE, 1000
    ):  # for this process, every write beyond it fails as on a full disk
        time.sleep(3)
        assert lab.job(job_id)["state"] == "running", (
            "its failure cannot be written either: it waits"
        )
        assert lab.http.get(f"/v1/jobs/{earlier}/result.csv").is_success
    job = lab.until_state(job_id, "failed")
    assert "folder of artifacts" in f"{job['error']['title']} {job['error']['detail']}", job[
        "error"
    ]
    assert lab.http.get(f"/v1/jobs/{job_id}/curves").is_success
    assert lab.http.post(f"/v1/jobs/{job_id}/retry").is_success
    lab.succeeded(job_id)


def test_a_run_that_finds_no_memory_fails_with_that_reason_and_its_runner_goes_on(lab: Lab) -> None:
    lab.succeeded(lab.submit(CHECK))
    runner = lab.runner()
    with limited(runner, resource.RLIMIT_AS, runner.memory_info().vms + 30_000_000):
        job = lab.until_state(
            lab.submit({**MANY, "network": {"widths": [8000, 8000]}}), "failed", "succeeded"
        )
    assert job["state"] == "failed"
    assert job["error"]["code"] == "out_of_memory", job["error"]
    assert job["attempts"] == 2, "the second one in smaller pieces"
    lab.succeeded(lab.submit(CHECK))
    assert lab.runner().pid == runner.pid


def test_a_poison_job_fails_after_three_workers_and_the_queue_goes_on(lab: Lab) -> None:
    poison = lab.submit({**LONG, "epochs": 500}, priority="high")
    others = [lab.submit(CHECK) for _ in range(2)]
    killed: set[int] = set()  # attempts: until a loss is noticed, another job may run

    def kill_its_worker() -> bool:
        job = lab.job(poison)
        if (
            job["state"] == "running"
            and job["attempts"] not in killed
            and job["progress"]["fraction"] >= 0
            and lab.http.get("/v1/workers").json()["items"][0]["job"] == poison
        ):
            killed.add(job["attempts"])
            lab.runner().kill()
        return bool(job["state"] == "failed")

    wait_until(kill_its_worker, "the poison job is given up")
    job = lab.job(poison)
    assert (job["error"]["code"], job["error"]["evidence"]) == ("worker_lost", {"losses": 3})
    for other in others:
        lab.succeeded(other)
        one_history(lab, other)


# Time


@pytest.mark.soak
def test_a_job_that_runs_for_too_long_fails_and_a_retry_goes_on_with_the_same_bits(
    lab: Lab, undisturbed: dict[str, Figures]
) -> None:
    job_id = lab.submit(LONG, timeout_seconds=1.0)
    job = lab.until_state(job_id, "failed")
    assert job["error"]["code"] == "timeout"
    for _ in range(1000):  # as many as a slow machine needs
        fraction = lab.job(job_id)["progress"]["fraction"]
        assert lab.http.post(f"/v1/jobs/{job_id}/retry").is_success
        job = lab.until_state(job_id, "failed", "succeeded")
        if job["state"] == "succeeded":
            break
        assert job["progress"]["fraction"] >= fraction, "no attempt begins anew"
    assert (
        figures(dict(lab.http.get(f"/v1/jobs/{job_id}/result").json()))
        == undisturbed["long epochs"]
    )


SKEW = """
import datetime, time
true_time, true_ns, Now = time.time, time.time_ns, datetime.datetime
time.time = lambda: true_time() + {seconds}
time.time_ns = lambda: true_ns() + {seconds} * 10**9
"""


@pytest.mark.soak
@pytest.mark.parametrize("seconds", [600, -600])
def test_a_worker_whose_clock_is_minutes_off_keeps_its_leases(
    lab: Lab, undisturbed: dict[str, Figures], tmp_path: Path, seconds: int
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SKEW.format(seconds=seconds))
    environment = environment_of(lab.stack.settings, lab.stack.redis_url) | {
        "PYTHONPATH": str(tmp_path)
    }
    with frozen_tree(lab.child("worker")):
        command = [sys.executable, "-P", "-m", "workers", "--device", "cpu"]
        with (tmp_path / "log").open("wb") as log:
            skewed = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=Path(__file__).parents[2]
            )
        try:
            job_id = lab.submit(MANY)
            assert figures(lab.succeeded(job_id)) == undisturbed["many epochs"]
            one_history(lab, job_id)
        finally:
            skewed.send_signal(signal.SIGTERM)
            skewed.wait(PATIENCE_SECONDS)


@contextmanager
def frozen_tree(process: psutil.Process) -> Iterator[None]:
    """Hold a process and all of its children for a while."""
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.suspend()
    try:
        yield
    finally:
        for one in family:
            one.resume()


# Workers that are guests of a scheduler

LATER = """
import os, time
true_time = time.time
time.time = lambda: true_time() + (595 if os.path.exists({mark!r}) else 0)
"""


@contextmanager
def guest(
    lab: Lab, folder: Path, *options: str, startup: str = ""
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker that stays for a while, beside that of the stack, which is held meanwhile."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(startup)
    environment = environment_of(lab.stack.settings, lab.stack.redis_url)
    command = [sys.executable, "-P", "-m", "service.cli", "worker", "--device", "cpu", *options]
    with frozen_tree(lab.child("worker")), (folder / "log").open("wb") as log:
        worker = subprocess.Popen(
            command,
            env=environment | {"PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))},
            stdout=log,
            stderr=log,
            cwd=folder,
        )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait(PATIENCE_SECONDS)


def is_listed(lab: Lab, worker: "subprocess.Popen[bytes]") -> bool:
    return any(one["pid"] == worker.pid for one in lab.http.get("/v1/workers").json()["items"])


def test_a_guest_ends_once_it_has_had_no_job_for_so_long(lab: Lab, tmp_path: Path) -> None:
    with guest(lab, tmp_path, "--exit-when-idle", "2") as worker:
        lab.succeeded(lab.submit(CHECK))
        assert worker.wait(PATIENCE_SECONDS) == 0
        assert "this worker ends: it has had no job for 2 s" in (tmp_path / "log").read_text()
        wait_until(lambda: not is_listed(lab, worker), "it has signed off")


def test_a_guest_hands_its_job_back_before_its_time_is_over(
    lab: Lab, undisturbed: dict[str, Figures], tmp_path: Path
) -> None:
    mark = tmp_path / "later"
    until = str(int(time.time()) + 600)
    with guest(lab, tmp_path, "--until", until, startup=LATER.format(mark=str(mark))) as worker:
        job_id = lab.submit(MANY)
        lab.until_state(job_id, "running")
        wait_until(lambda: lab.job(job_id)["progress"]["fraction"] > 0, "it has begun")
        mark.touch()
        assert worker.wait(PATIENCE_SECONDS) == 0
        assert "this worker ends: it stays until" in (tmp_path / "log").read_text()
        assert lab.job(job_id)["state"] == "queued"
    assert figures(lab.succeeded(job_id)) == undisturbed["many epochs"]
    one_history(lab, job_id, attempts=2)
    assert "lost" not in lab.http.get(f"/v1/jobs/{job_id}/log").text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--until", "soon"), "is no time"),
        (("--until", "2020-01-01"), "2020-01-01 is over"),
        (("--exit-when-idle", "-1"), "greater than or equal to 0"),
    ],
)
def test_a_stay_that_cannot_be_is_refused_in_a_line(
    lab: Lab, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    with guest(lab, tmp_path, *options) as worker:
        assert worker.wait(PATIENCE_SECONDS) == 2
    log = (tmp_path / "log").read_text()
    assert said in log
    assert "Traceback" not in log


# Order, identical jobs, studies


def test_the_queue_is_worked_off_by_priority(lab: Lab) -> None:
    holder = lab.submit({**LONG, "epochs": 500})
    lab.until_state(holder, "running")
    small = [{**CHECK, "seeds": [number]} for number in range(6)]
    order = ("low", "normal", "high", "low", "normal", "high")
    jobs = [
        lab.submit(spec, priority=priority) for spec, priority in zip(small, order, strict=True)
    ]
    assert lab.http.post(f"/v1/jobs/{holder}/cancel").is_success
    for job_id in jobs:
        lab.succeeded(job_id)
    begun = sorted(jobs, key=lambda job_id: str(lab.job(job_id)["started_at"]))
    assert begun == [jobs[place] for place in (2, 5, 1, 4, 0, 3)]


def test_identical_jobs_submitted_together_compute_once(lab: Lab) -> None:
    body = {"spec": {**CHECK, "seeds": [77]}}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: lab.http.post("/v1/jobs", json=body), range(6)))
    jobs = [answer.json()["id"] for answer in answers]
    results = [lab.succeeded(job_id) for job_id in jobs]
    assert all(result == results[0] for result in results)
    found = [lab.job(job_id) for job_id in jobs]
    assert sum(job["attempts"] for job in found) == 1
    assert sorted(job["cached"] for job in found) == [False] + [True] * 5
    again = lab.http.post("/v1/jobs", json=body).json()
    assert (again["state"], again["cached"]) == ("succeeded", True)


@pytest.mark.soak
def test_a_study_goes_through_a_killed_worker_and_a_failed_run(
    lab: Lab, undisturbed: dict[str, Figures]
) -> None:
    study = lab.submit(
        {"kind": "study", "base": LONG, "grid": {"epochs": [1, 2, 500], "seeds": [[0], [1]]}},
        timeout_seconds=1200,
    )
    cells = lab.http.get("/v1/jobs", params={"parent": study, "limit": 10}).json()["items"]
    hopeless = [cell["id"] for cell in cells if cell["spec"]["epochs"] == 500]
    lab.wait_for(study, lambda job: job["progress"]["fraction"] > 0.05, "begun")
    lab.runner().kill()
    for job_id in hopeless:
        assert lab.http.post(f"/v1/jobs/{job_id}/cancel").is_success
    result = lab.succeeded(study)
    states = {
        (cell["params"]["epochs"], *cell["params"]["seeds"]): cell["state"]
        for cell in result["cells"]
    }
    assert states == {
        (epochs, seed): "cancelled" if epochs == 500 else "succeeded"
        for epochs in (1, 2, 500)
        for seed in (0, 1)
    }
    same = next(cell for cell in result["cells"] if cell["params"] == {"epochs": 2, "seeds": [0]})
    assert figures(lab.succeeded(same["job"])) == undisturbed["long epochs"]


@pytest.mark.soak
def test_a_search_has_the_same_trials_after_kills_of_the_api_and_the_runner(lab: Lab) -> None:
    base = {
        "kind": "train",
        "dataset": {"train_samples": 100, "validation_samples": 50, "test_samples": 10},
        "network": {"widths": [8]},
        "epochs": 1,
        "batch_size": 50,
        "monitor": {"samples": 20, "theorems": []},
    }
    space = {
        "optimizer.lr": {"low": 0.01, "high": 10, "log": True},
        "network.widths.0": {"low": 4, "high": 64, "type": "int"},
    }
    # after ten trials each depends on the results of those before it
    spec = {"kind": "study", "base": base, "search": {"space": space, "trials": 14, "at_once": 2}}

    def trials_of(study: str) -> list[tuple[Any, Any]]:
        found = lab.http.get(f"/v1/jobs/{study}/search").json()["trials"]
        return [(trial["params"], trial["value"]) for trial in found]

    disturbed = lab.submit(spec, fresh=True)
    for fraction in (0.2, 0.75):
        lab.wait_for(
            disturbed,
            lambda job, least=fraction: job["progress"]["fraction"] > least,  # type: ignore[misc]
            "some trials have ended",
        )
        api = lab.child("api")
        api.kill()
        api.wait()
        wait_until(lambda: answers(lab), "the API answers again")
        lab.runner().kill()
    lab.succeeded(disturbed)
    calm = lab.submit(spec, fresh=True)
    lab.succeeded(calm)
    assert trials_of(disturbed) == trials_of(calm)
    assert len(trials_of(calm)) == 14
    assert len({str(params) for params, _ in trials_of(calm)}) > 10


def test_streams_survive_the_death_of_the_api_without_gap_or_duplicate(lab: Lab) -> None:
    job_id = lab.submit(MANY)
    seen: list[int] = []
    broken: list[int] = []

    def follow() -> None:
        while True:
            try:
                if seen and finished():
                    return
                with lab.http.stream(
                    "GET", f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": str(len(seen))}
                ) as response:
                    seen.extend(
                        int(line.removeprefix("id: "))
                        for line in response.iter_lines()
                        if line.startswith("id: ")
                    )
            except httpx.TransportError:
                broken.append(len(seen))
                time.sleep(0.2)

    def finished() -> bool:
        return (
            bool(broken)
            and lab.job(job_id)["state"] == "succeeded"
            and len(seen) >= len(events(lab, job_id))
        )

    follower = threading.Thread(target=follow)
    follower.start()
    lab.until_midway(job_id)
    api = lab.child("api")
    api.kill()
    api.wait()
    wait_until(
        lambda: not follower.is_alive(),
        "the follower has seen the end",
        seen=lambda: (len(seen), broken),
    )
    assert broken
    assert seen == list(range(1, len(events(lab, job_id)) + 1))


def test_an_api_with_open_streams_ends_soon(lab: Lab) -> None:
    job_id = lab.submit({**LONG, "epochs": 500})
    lab.until_state(job_id, "running")
    api = lab.child("api")
    try:
        with lab.http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            lines = response.iter_lines()
            next(lines)
            os.kill(api.pid, signal.SIGTERM)
            for _ in lines:
                pass  # to its end: a stream that the API would have had to cut off raises an error
            api.wait(PATIENCE_SECONDS)
    finally:  # it would hold up the tests of the same stack
        wait_until(lambda: answers(lab), "the API is back")
        lab.http.post(f"/v1/jobs/{job_id}/cancel")
    lab.until_state(job_id, "cancelled")
