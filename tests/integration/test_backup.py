"""The commands of docs/howto/backup.md, followed with the real stack: what is restored elsewhere is
what there was, byte for byte.
"""

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import ffengine
from benchmarks.waiting import PATIENCE_SECONDS, PROGRAM_SECONDS
from service.artifacts import Artifacts
from service.settings import Settings
from service.stack.stack import Stack
from service.store import Store
from tests.documents import titled
from tests.postgres import PostgresServer, need_postgres
from tests.stack import Lab, lab_settings

PAGE = titled("docs/howto/backup.md")
TRAIN = {
    "kind": "train",
    "dataset": {"name": "digits"},
    "network": {"widths": [16]},
    "epochs": 2,
    "monitor": {"samples": 100},
}
CHECK = {
    "kind": "check",
    "dataset": {"name": "digits"},
    "widths": [16],
    "samples": 100,
    "seeds": [0],
}
STUDY = {"kind": "study", "base": TRAIN, "grid": {"network.widths": [[8], [12]]}}
LONG = TRAIN | {
    "epochs": 3_000,
    "network": {"widths": [32]},
    "optimizer": {"lr": 1e-5},
}  # so small that it never diverges
FILES = ("", "/result", "/result.csv", "/events", "/log")


@pytest.fixture
def user(home: Path) -> Path:
    """Somebody's home directory, where the stack keeps its state where it does by default."""
    return home


def settings_of(user: Path) -> Settings:
    """Those of the stack that is backed up: nothing is lost here, so nobody has to notice soon."""
    return lab_settings(state_of(user)).model_copy(update={"data": None, "lease_seconds": 60.0})


def state_of(user: Path) -> Path:
    """The stack's home of that user."""
    return user / ".local" / "share" / "fflab"


def follow(title: str, user: Path, **more: str) -> None:
    """Type what the page says under a title, but for the start of the restored stack."""
    text = PAGE[title].replace("fflab up --home ~/restored --port 0", "")
    path = f"{Path(sys.executable).parent}:/usr/lib/postgresql/bin:{os.environ['PATH']}"
    environment = os.environ | {"HOME": str(user), "PATH": path} | more
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=user,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def restored(user: Path) -> Iterator[httpx.Client]:
    """The restored stack, started with the page's own command."""
    command = next(line for line in PAGE["restore"].splitlines() if line.startswith("fflab up"))
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")
    } | {"HOME": str(user)}
    program = [
        str(Path(sys.executable).parent / "fflab"),
        *command.replace("~", str(user)).split()[1:],
    ]
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = process.stdout.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+", line)
            assert url, line
            with httpx.Client(base_url=url[0], timeout=PATIENCE_SECONDS, trust_env=False) as http:
                yield http
        finally:
            process.send_signal(signal.SIGINT)


def seen(http: httpx.Client, jobs: list[str]) -> dict[str, bytes]:
    """All that the service says of some jobs, and its list."""
    found = {
        f"{job}{what}": answer(http, f"/v1/jobs/{job}{what}") for job in jobs for what in FILES
    }
    weights = ffengine.import_weights(answer(http, f"/v1/jobs/{jobs[0]}/weights.safetensors"))
    found |= {
        f"{jobs[0]} weights of {weights.spec}": b"".join(
            layer.tobytes() for layer in weights.layers
        )
    }
    found |= {f"{jobs[1]} margins": answer(http, f"/v1/jobs/{jobs[1]}/result.npz")}
    return found | {"data": answer(http, "/v1/datasets")}


def answer(http: httpx.Client, path: str) -> bytes:
    """The body of a good answer."""
    response = http.get(
        path, headers={"Accept": "application/json"} if path.endswith("/events") else {}
    )
    assert response.status_code == 200, (path, response.text)
    return response.content


def some_work(lab: Lab) -> list[str]:
    """A training run, a check and a study that have succeeded, and an upload."""
    jobs = [lab.submit(spec) for spec in (TRAIN, CHECK, STUDY)]
    for job in jobs:
        lab.succeeded(job)
    return jobs


def until_begun(lab: Lab, job: str) -> None:
    """Wait until a long job has something to resume from."""
    lab.wait_for(job, lambda seen: seen["progress"]["fraction"] > 0.005, "begun")


def upload(http: httpx.Client, user: Path) -> None:
    """A data set of the user's own."""
    make = (
        "import numpy as np; np.savez('mine.npz', x=np.arange(8000, "
        "dtype='uint8').reshape(40, 200), y=np.arange(40) % 2)"
    )
    subprocess.run([sys.executable, "-c", make], cwd=user, check=True)
    response = http.post("/v1/datasets?name=mine", content=(user / "mine.npz").read_bytes())
    assert response.status_code == 201, response.text


@pytest.mark.soak
def test_a_stack_that_is_copied_while_it_runs_or_stopped_and_started_elsewhere_has_everything(
    user: Path,
) -> None:
    with Stack(settings_of(user), port=0, device="cpu") as stack, Lab(stack) as lab:
        upload(lab.http, user)
        jobs = some_work(lab)
        before = seen(lab.http, jobs)
        begun = lab.submit(LONG)
        until_begun(lab, begun)
        follow("back up while it runs", user)
    follow("back up", user)
    for title in ("restore", "restore that"):
        follow(title, user)
        with restored(user) as http:
            assert seen(http, jobs) == before
            resumed = job_of(http, begun)
            assert resumed["state"] in ("queued", "running", "succeeded")
            assert resumed["attempts"] >= 1
            assert resumed["progress"]["fraction"] > 0
        shutil.rmtree(user / "restored")


def processes(lab: Lab) -> dict[str, int]:
    """The processes of a stack, by name."""
    children = {name: lab.child(name).pid for name in ("redis", "api", "worker")}
    return children | {"Celery's child": lab.pool_child().pid, "runner": lab.runner().pid}


def copy_whole(user: Path) -> None:
    """Copy the home with everything in it while it is in use, until the copy of the database is one
    that can be opened.
    """
    for _ in range(20):
        shutil.rmtree(user / "restored", ignore_errors=True)
        subprocess.run(
            ["cp", "-a", state_of(user), user / "restored"], check=False
        )  # a file of a running job may be gone meanwhile
        with (
            contextlib.suppress(sqlite3.DatabaseError),
            contextlib.closing(sqlite3.connect(user / "restored" / "fflab.db")) as connection,
        ):
            if connection.execute("PRAGMA quick_check").fetchone() == ("ok",):
                return
    raise AssertionError("no copy could be opened")


@pytest.mark.soak
def test_a_copy_that_is_started_beside_the_original_leaves_it_alone(user: Path) -> None:
    with Stack(settings_of(user), port=0, device="cpu") as stack, Lab(stack) as lab:
        job = lab.submit(LONG | {"epochs": 30_000})
        lab.wait_for(job, lambda seen: seen["progress"]["fraction"] > 0, "begun")
        before = processes(lab)
        follow("back up while it runs", user)
        follow("restore that", user)
        assert not list((user / "restored").glob("stack.*"))
        for copy in ("as the page says", "with cp -a"):
            if copy == "with cp -a":
                copy_whole(user)
                assert (user / "restored" / "stack.json").exists()
            with restored(user) as http:
                assert job_of(http, job)["state"] in ("queued", "running")
                assert processes(lab) == before, copy
            assert processes(lab) == before, copy
            assert lab.http.get("/readyz").status_code == 200
        seen = lab.job(job)
        assert (seen["state"], seen["attempts"]) == ("running", 1), seen["error"]


def job_of(http: httpx.Client, job: str) -> dict[str, Any]:
    """A job, as the service shows it."""
    return dict(http.get(f"/v1/jobs/{job}").json())


@pytest.mark.soak
def test_postgresql_is_dumped_and_restored_with_the_files(user: Path) -> None:
    need_postgres()
    with PostgresServer() as server:
        old, new = (user / name for name in ("old", "new"))
        url = server.url.replace("/postgres?", "/{}?")
        for name in ("before", "after"):
            with statements(server.url) as execute:
                execute(f"CREATE DATABASE {name}")
        settings = lab_settings(old).model_copy(
            update={"database_url": url.format("before"), "data": None}
        )
        with Stack(settings, port=0, device="cpu") as stack, Lab(stack) as lab:
            upload(lab.http, user)
            jobs = some_work(lab)
        environment = {"FFLAB_DATABASE_URL": url.format("before"), "FFLAB_HOME": str(old)}
        follow("back up PostgreSQL", user, **environment)
        follow("restore PostgreSQL", user, NEW_DATABASE_URL=url.format("after"), NEW_HOME=str(new))
        assert stored(Settings(home=new, database_url=url.format("after")), jobs) == stored(
            settings, jobs
        )


@contextmanager
def statements(url: str) -> Iterator[Any]:
    """A connection to PostgreSQL outside transactions: a way to execute statements."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection.execute


def stored(settings: Settings, jobs: list[str]) -> dict[str, Any]:
    """What database and folder hold of some jobs."""
    store, artifacts = Store(settings.database), Artifacts(settings.artifact_place)
    try:
        rows = {
            job: (
                store.jobs.get(job),
                store.jobs.rows(job),
                store.events.of(job, after=0, limit=1000),
            )
            for job in jobs
        }
    finally:
        store.close()
    return {
        "rows": rows,
        "files": {
            (job, name): artifacts.get(job, name) for job in jobs for name in artifacts.names(job)
        },
        "upload": settings.datasets.loaded("mine").digest,
    }
