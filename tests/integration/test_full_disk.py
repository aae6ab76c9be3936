"""A home on a disk that another program fills to the last byte: the stack goes on, jobs can be
deleted, and it starts again.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.waiting import wait_until
from service.host.disk import free_bytes
from service.settings import Settings
from service.stack.stack import Stack, StackError
from tests.disks import mounted
from tests.stack import CHECK, Lab, lab_settings

DISK_BYTES, RESERVE_BYTES = 80 * 2**20, 8 * 2**20


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own in memory; to mount one needs the rights of root."""
    with mounted(f"size={DISK_BYTES}") as folder:
        yield folder


def settings_on(disk: Path) -> Settings:
    return lab_settings(disk / "home").model_copy(update={"disk_reserve": RESERVE_BYTES})


def fill(disk: Path) -> Path:
    """Write until there is no room left."""
    hog = disk / "hog"
    with hog.open("ab", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    assert free_bytes(disk) == 0
    return hog


@pytest.mark.soak
def test_a_stack_on_a_full_disk_goes_on_and_starts_again(
    redis_server: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_on(small_disk)
    ballast = settings.root / "ballast"
    with Stack(settings, port=0, device="cpu") as stack, Lab(stack) as lab:
        jobs = [lab.submit(CHECK) for _ in range(3)]
        for job in jobs:
            lab.succeeded(job)
        wait_until(ballast.exists, "there is a ballast")
        hog = fill(small_disk)
        answer = lab.http.delete(f"/v1/jobs/{jobs[0]}")
        assert answer.status_code == 204, answer.text
        assert lab.http.get(f"/v1/jobs/{jobs[0]}").status_code == 404
        wait_until(lambda: not ballast.exists(), "the ballast is dropped")
        fill(small_disk)  # what the ballast has left as well
        before = lab.child("worker").pid
        lab.child("worker").kill()
        wait_until(
            lambda: stack.children["worker"].pid not in (None, before), "there is another worker"
        )
        time.sleep(1)  # the supervisor looks after its children ten times meanwhile
        assert stack._thread is not None
        assert stack._thread.is_alive(), "a full disk does not end the supervisor"
        assert lab.http.get(f"/v1/jobs/{jobs[1]}/result").is_success
        assert lab.http.get("/healthz").is_success
        hog.unlink()
        lab.succeeded(lab.submit(CHECK))
        wait_until(ballast.exists, "there is a ballast again")
        fill(small_disk)
    with Stack(settings, port=0, device="cpu") as stack, Lab(stack) as lab:
        assert lab.http.delete(f"/v1/jobs/{jobs[1]}").status_code == 204
        assert not ballast.exists()
        fill(small_disk)
    refusal = ""
    try:
        with Stack(settings, port=0, device="cpu"):
            pass
    except StackError as error:  # there was not even room for what it needs to start
        refusal = str(error)
    assert not refusal or ("\n" not in refusal and f"the home {settings.root} cannot" in refusal)
    hog.unlink()
    with Stack(settings, port=0, device="cpu") as stack, Lab(stack) as lab:
        assert lab.http.get(f"/v1/jobs/{jobs[2]}/result").is_success
        lab.succeeded(lab.submit(CHECK))
    assert "Traceback" not in capfd.readouterr().err
    for log in (settings.root / "logs").glob("*.log"):
        assert "Traceback" not in log.read_text(errors="replace"), log.read_text(errors="replace")


@pytest.mark.soak
def test_below_the_reserve_jobs_wait_and_say_so_until_there_is_room(
    redis_server: Path, small_disk: Path
) -> None:
    settings = settings_on(small_disk)
    settings = settings.model_copy(update={"disk_reserve": DISK_BYTES // 2})
    with Stack(settings, port=0, device="cpu") as stack, Lab(stack) as lab:
        lab.succeeded(lab.submit(CHECK))
        hog = small_disk / "hog"
        hog.write_bytes(b"x" * (DISK_BYTES // 2))
        waiting = lab.submit(CHECK)
        job = lab.wait_for(
            waiting, lambda job: "waits: " in job["progress"]["message"], "it says why it waits"
        )
        assert "less than the reserve of 40 MiB" in job["progress"]["message"]
        assert job["state"] == "queued"
        assert "no job is begun" in (settings.root / "logs" / "worker.log").read_text()
        hog.unlink()
        lab.succeeded(waiting)
