"""Artifacts in a bucket: an API and workers that have no folder in common, over S3 and HTTP."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmarks.stack import children, signalled
from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.artifacts import Artifacts
from service.settings import Settings
from service.stack.stack import Stack, environment_of
from service.storage.place import BucketPlace
from tests.postgres import PostgresServer, need_postgres
from tests.s3 import S3, s3_server
from tests.service.arrays import npz
from tests.stack import CHECK, SPECS, Lab, events, figures, lab_settings

SPEC = SPECS["many epochs"]
ON_MINE = {
    "kind": "train",
    "dataset": {"name": "mine"},
    "network": {"widths": [30]},
    "epochs": 3,
    "batch_size": 60,
    "monitor": {"samples": 50},
}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


@contextmanager
def worker_of(stack: Stack, home: Path) -> Iterator[psutil.Process]:
    """A worker with a home of its own, as on another machine."""
    url = stack.settings.database_url or f"sqlite:///{stack.home / 'fflab.db'}"
    settings = stack.settings.model_copy(update={"home": home, "database_url": url})
    settings.model_fields_set.add("database_url")
    home.mkdir(exist_ok=True)
    with (home / "worker.log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers", "--device", "cpu"],
            env=environment_of(settings, stack.redis_url),
            stdout=log,
            stderr=log,
        )
    process = psutil.Process(started.pid)
    try:
        yield process
    finally:
        kill(process)
        started.wait()


def kill(process: psutil.Process) -> None:
    """SIGKILL a worker with all that is below it, as a loss of power does."""
    family = [process, *children(process, recursive=True)]
    signalled(family, lambda one: one.kill())
    psutil.wait_procs(family[1:], timeout=PATIENCE_SECONDS)


@contextmanager
def without_its_worker(lab: Lab) -> Iterator[None]:
    """The stack with its own worker frozen, which is not started anew as a dead one is."""
    wait_until(lab.workers, "the stack's worker reports")
    tree = lab.worker_tree()
    signalled(tree, lambda one: one.send_signal(signal.SIGSTOP))
    try:
        yield
    finally:
        signalled(tree, lambda one: one.send_signal(signal.SIGCONT))


def file_check(stack: Stack, *, deep: bool) -> list[dict[str, str]]:
    """What the command `fflab check` finds, with the exit code that goes with it."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "service.cli", "check", "--json", *["--deep"][: int(deep)]],
        env=environment_of(stack.settings, stack.redis_url),
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(ended.stdout)
    assert ended.returncode == (0 if told["ok"] else 1), ended.stderr
    assert told["ok"] == (not told["findings"])
    return list(told["findings"])


def files_below(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_job_goes_on_on_a_machine_that_shares_no_folder(
    s3: S3, redis_server: Path, home: Path, tmp_path: Path
) -> None:
    place = s3.place(tmp_path / "cache")
    given = lab_settings(home).model_dump(exclude_unset=True) | {"artifacts": place.address}
    with Stack(Settings(**given), port=0, device="cpu") as stack, Lab(stack) as lab:
        with without_its_worker(lab):
            with worker_of(stack, tmp_path / "first") as first:
                job_id = lab.submit(SPEC)
                lab.until_midway(job_id)
                kill(first)
            with worker_of(stack, tmp_path / "second"):
                resumed = lab.succeeded(job_id)
                assert lab.job(job_id)["attempts"] == 2
                told = [event["data"].get("message") or "" for event in events(lab, job_id)]
                assert any("resume" in line for line in told), told
                assert figures(resumed) == figures(lab.succeeded(lab.submit(SPEC)))
                of_job = f"/v1/jobs/{job_id}"
                weights = lab.http.get(f"{of_job}/weights.safetensors")
                assert weights.is_success
                assert len(weights.content) > 100_000
                check = lab.submit(CHECK)
                lab.succeeded(check)
        archive = lab.http.get(f"/v1/jobs/{check}/result.npz")
        assert archive.is_success
        with np.load(io.BytesIO(archive.content)) as arrays:
            assert len(arrays.files) > 1
        assert [one["wrong"] for one in file_check(stack, deep=True)] == []
        margins = Artifacts(place).names(check)[0]
        stored = Artifacts(place).get(check, margins)
        Artifacts(place).files.write(f"{check}/{margins}", bytes(32), stored)
        assert [one["wrong"] for one in file_check(stack, deep=False)] == []
        assert [one["file"] for one in file_check(stack, deep=True)] == [f"{check}/{margins}"]
        Artifacts(place).remove(check, margins)
        assert [one["wrong"] for one in file_check(stack, deep=False)] == ["missing"]
        Artifacts(place).put(check, margins, stored)
        drawn = lab.http.get(f"/v1/jobs/{check}/chart/margins.svg")
        assert drawn.is_success, drawn.text
        artifacts = Artifacts(place)
        assert {job_id, check} <= set(artifacts.owners())
        assert lab.http.delete(of_job).status_code == 204
        assert job_id not in artifacts.owners()
    for folder in (home, tmp_path / "first", tmp_path / "second"):
        assert not (folder / "artifacts").exists()
        assert not [name for name in files_below(folder) if name.endswith(".safetensors")]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What the settings of a service say of its database."""
    if request.param == "sqlite":
        yield {}
        return
    need_postgres()
    with PostgresServer() as server:
        yield {"database_url": server.url}


def import_into(home: Path, name: str, arrays: bytes) -> None:
    """Bring other arrays under a name into the home of one machine, with the command."""
    file = home.with_suffix(".npz")
    file.write_bytes(arrays)
    home.mkdir()
    subprocess.run(
        [sys.executable, "-P", "-m", "service.cli", "data", "import", name, str(file)],
        env={"FFLAB_HOME": str(home), "PATH": os.environ["PATH"]},
        check=True,
        capture_output=True,
    )


def test_an_upload_is_computed_with_on_machines_that_share_no_folder(
    s3: S3, redis_server: Path, home: Path, tmp_path: Path, database: dict[str, str]
) -> None:
    place = s3.place(tmp_path / "cache")
    given = lab_settings(home).model_dump(exclude_unset=True) | {"artifacts": place.address}
    x = np.random.default_rng(0).integers(0, 256, (300, 36), dtype=np.uint8)
    y = np.arange(300) % 3
    import_into(tmp_path / "second", "mine", npz(x=255 - x, y=y))
    with Stack(Settings(**given, **database), port=0, device="cpu") as stack, Lab(stack) as lab:
        with without_its_worker(lab):
            answer = lab.http.post("/v1/datasets?name=mine", content=npz(x=x, y=y))
            assert answer.status_code == 201, answer.text
            digest = answer.json()["digest"]
            assert lab.http.get("/v1/datasets/mine").json() == answer.json()
            with worker_of(stack, tmp_path / "first"):
                alone = lab.succeeded(lab.submit(ON_MINE))
            with worker_of(stack, tmp_path / "second"):
                job_id = lab.submit(ON_MINE)
                again = lab.succeeded(job_id)
                assert figures(again) == figures(alone)
                assert again["provenance"]["dataset"]["digest"] == digest
                # without its copy, and with the file in the bucket gone, it has other arrays alone
                shutil.rmtree(tmp_path / "second" / "cache" / "uploads")
                remove_uploads(place)
                error = lab.until_state(lab.submit(ON_MINE), "failed", "succeeded")["error"]
                assert error["code"] == "dataset"
                assert error["evidence"]["submitted"] == digest
                assert error["evidence"]["here"] not in (None, digest)
                for part in ("mine: the job was submitted", digest[:16], "Upload it again"):
                    assert part in error["detail"]
        assert figures(lab.succeeded(lab.submit(ON_MINE))) == figures(alone), "at the API's home"
        assert lab.http.delete("/v1/datasets/mine").status_code == 204
        assert lab.http.get("/v1/datasets/mine").status_code == 404


def remove_uploads(place: BucketPlace) -> None:
    files = Artifacts(place).files
    [name] = files.names("uploads")
    files.remove(f"uploads/{name}")


def test_a_retry_after_the_name_was_given_to_other_arrays_begins_anew(
    s3: S3, redis_server: Path, home: Path, tmp_path: Path
) -> None:
    place = s3.place(tmp_path / "cache")
    given = lab_settings(home).model_dump(exclude_unset=True) | {"artifacts": place.address}
    x = np.random.default_rng(0).integers(0, 256, (300, 36), dtype=np.uint8)
    y = np.arange(300) % 3
    long = ON_MINE | {"epochs": 4000}
    with (
        Stack(Settings(**given), port=0, device="cpu") as stack,
        Lab(stack) as lab,
        without_its_worker(lab),
        worker_of(stack, tmp_path / "first"),
    ):
        lab.http.post("/v1/datasets?name=mine", content=npz(x=x, y=y)).raise_for_status()
        job_id = lab.submit(long)
        lab.wait_for(job_id, lambda job: job["progress"]["fraction"] > 0, "a first epoch")
        refused = lab.http.delete("/v1/datasets/mine")
        assert (refused.status_code, job_id in refused.text) == (409, True)
        lab.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
        lab.until_state(job_id, "cancelled")
        lab.http.delete("/v1/datasets/mine").raise_for_status()
        assert Artifacts(place).files.names("uploads") == []
        answer = lab.http.post("/v1/datasets?name=mine", content=npz(x=255 - x, y=y))
        assert answer.status_code == 201
        lab.http.post(f"/v1/jobs/{job_id}/retry").raise_for_status()
        lab.wait_for(job_id, lambda job: job["attempts"] == 2, "a second attempt")
        told = [event["data"].get("message") or "" for event in events(lab, job_id)]
        assert any("is of other arrays, which had the name mine" in line for line in told), told
        lab.http.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
        lab.until_state(job_id, "cancelled")


def test_a_bucket_that_is_away_is_said_in_one_line(s3: S3, home: Path) -> None:
    environment = os.environ | {
        "FFLAB_HOME": str(home),
        "FFLAB_ARTIFACTS": "s3://no-such-bucket/fflab",
        "FFLAB_REDIS_URL": "redis://127.0.0.1:9/0",
    }
    for program in (
        ("service.serve", "--port", "0"),
        ("workers", "--device", "cpu"),
        ("service.cli", "retention"),
        ("service.cli", "check"),
    ):
        ended = subprocess.run(
            [sys.executable, "-P", "-m", *program],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert ended.returncode == 3
        last = ended.stderr.strip().splitlines()[-1]
        assert "s3://no-such-bucket/fflab cannot be used (" in last, ended.stderr
        assert "AWS_ENDPOINT_URL" in last
        assert "Traceback" not in ended.stderr
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(home / "artifacts")
