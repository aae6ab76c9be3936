"""Makes the home of a lab in the middle of its work, as the code that is imported keeps it, for
tests of later code.

    PYTHONPATH=CHECKOUT python -P tests/data/make_home.py home-VERSION [upload | bundled]

writes home-VERSION.tar.gz and, as home-VERSION.json, what is in it. It is as small as can be and
names no machine: a data set that was uploaded, a training run and checks that have ended, a
training run that was paused, a study that was stopped in its second run, a key. The jobs run on the
upload, or on a part of a bundled data set.
"""

import gzip
import hashlib
import io
import json
import platform
import sqlite3
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from service.auth import create_key
from service.local import Stack

import service
from ffengine.version import ENGINE_VERSION
from ffengine.weights import import_weights
from service.settings import Settings
from service.store import Store

DATASETS: dict[str, dict[str, Any]] = {
    "upload": {"name": "tiny"},
    "bundled": {"name": "digits", "train_samples": 72, "test_samples": 18},
}
DATA: dict[str, Any] = {"dataset": DATASETS[(*sys.argv, "upload")[2]]}
NETWORK: dict[str, Any] = {
    "network": {"widths": [8], "normalize": "l2"},
    "optimizer": {"name": "adam", "lr": 0.01},
    "batch_size": 30,
}
RARELY: dict[str, Any] = {"monitor": {"every_epochs": 60, "theorems": [2]}}
TRAIN = {"kind": "train", **DATA, **NETWORK, "epochs": 2, "seeds": [0, 1]}
CHECK = {
    "kind": "check",
    **DATA,
    "theorem": 2,
    "widths": [12],
    "samples": 60,
    "batch_size": 30,
    "seeds": [0],
}
LONG = {"kind": "train", **DATA, **NETWORK, **RARELY, "epochs": 240}
PART = {"base": {**LONG, "seeds": [5]}, "grid": {"epochs": [3, 241], "optimizer.lr": [0.01, 0.02]}}
STUDY = {"kind": "study", "parts": {"slow": PART}}
LEFT_OUT = ("redis", "logs", "stack.lock", "stack.json")
WORKERS = {
    f'"{platform.node()}-': '"lab-',
    f" on {platform.node()},": " on lab,",
}  # as events and logs name them
SECONDS = 120.0


def tiny() -> bytes:
    """A data set of three classes."""
    draw = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = (
        draw.integers(0, 90, (90, 5, 5))
        + 60 * (np.arange(25).reshape(5, 5) % 3 == labels[:, None, None])
    ).astype(np.uint8)
    file = io.BytesIO()
    np.savez_compressed(file, x=images, y=labels)
    return file.getvalue()


class Lab:
    """A running stack, over HTTP."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60.0, trust_env=False)

    def post(self, path: str, **how: Any) -> dict[str, Any]:
        answer = self.http.post(path, **how)
        answer.raise_for_status()
        return dict(answer.json())

    def get(self, path: str) -> Any:
        answer = self.http.get(path)
        answer.raise_for_status()
        return answer.json()

    def submit(self, spec: dict[str, Any], name: str) -> str:
        return str(self.post("/v1/jobs", json={"spec": spec, "name": name, "tags": ["old"]})["id"])

    def until(self, job_id: str, state: str, fraction: float = 0.0) -> None:
        deadline = time.monotonic() + SECONDS
        while True:
            job = self.get(f"/v1/jobs/{job_id}")
            if job["state"] == state and job["progress"]["fraction"] >= fraction:
                return
            if job["state"] in ("failed", "cancelled") or time.monotonic() > deadline:
                raise SystemExit(
                    f"{job['name']} is {job['state']} at {job['progress']['fraction']}: "
                    f"{job['error']}"
                )
            time.sleep(0.02)


def work(lab: Lab) -> dict[str, Any]:
    """Fill the home with a data set and jobs in several states; what was done."""
    lab.post(
        "/v1/datasets",
        params={"name": "tiny"},
        content=tiny(),
        headers={"content-type": "application/octet-stream"},
    )
    jobs = {"train": lab.submit(TRAIN, "trained"), "check": lab.submit(CHECK, "checked")}
    at_weights = {
        **CHECK,
        "at": {"job": jobs["train"], "epoch": 2, "layer": 0},
        "methods": ["exact"],
        "widths": [8],
        "activation": "relu",
    }
    lab.until(jobs["train"], "succeeded")
    jobs["check at weights"] = lab.submit(at_weights, "checked where trained")
    for job_id in jobs.values():
        lab.until(job_id, "succeeded")
    results = {name: lab.get(f"/v1/jobs/{job_id}/result") for name, job_id in jobs.items()}
    weights = import_weights(lab.http.get(f"/v1/jobs/{jobs['train']}/weights.safetensors").content)
    jobs["paused"] = lab.submit(LONG, "paused")
    lab.until(jobs["paused"], "running", 0.3)
    lab.post(f"/v1/jobs/{jobs['paused']}/pause")
    lab.until(jobs["paused"], "paused")
    jobs["study"] = lab.submit(STUDY, "stopped")
    runs = lab.get(f"/v1/jobs?parent={jobs['study']}&limit=100")["items"]
    runs.sort(key=lambda run: run["id"])
    long = [run["id"] for run in runs if run["spec"]["epochs"] > 3]
    for run in runs:
        if run["id"] not in long:
            lab.until(run["id"], "succeeded")
    lab.until(long[0], "running", 0.3)
    return {
        "specs": {
            "train": TRAIN,
            "check": CHECK,
            "check at weights": at_weights,
            "paused": LONG,
            "study": STUDY,
        },
        "jobs": jobs,
        "results": results,
        "weights": [hashlib.sha256(layer.tobytes()).hexdigest() for layer in weights.layers],
    }


def scrub(home: Path) -> None:
    """Take out of the database who worked where, and leave it as one file."""
    with sqlite3.connect(home / "fflab.db") as database:
        database.execute("DELETE FROM workers")
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                for told, instead in (
                    WORKERS.items() if kind.startswith(("VARCHAR", "TEXT", "JSON")) else ()
                ):
                    statement = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"  # noqa: S608
                    database.execute(statement, (told, instead))
    database.execute("PRAGMA journal_mode=DELETE")
    database.execute("VACUUM")
    database.close()


def packed(home: Path) -> bytes:
    """The home as an archive, without times and owners."""
    bare = io.BytesIO()
    with tarfile.open(fileobj=bare, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(home.rglob("*")):
            name = path.relative_to(home)
            if name.parts[0] in LEFT_OUT or path.name.startswith("fflab.db-"):
                continue
            entry = tarfile.TarInfo(name.as_posix())
            entry.mode = 0o755 if path.is_dir() else 0o644
            entry.type = tarfile.DIRTYPE if path.is_dir() else tarfile.REGTYPE
            content = b"" if path.is_dir() else path.read_bytes()
            for told in (*WORKERS, str(home)):
                assert told.encode() not in content, f"{name} says {told}"
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(bare.getvalue(), mtime=0)


def main(target: str) -> None:
    """Make the home and pack it."""
    sys.stderr.write(f"code: {Path(str(service.__file__)).parents[1]}\n")
    with tempfile.TemporaryDirectory(prefix="fflab-") as folder:
        settings = Settings(home=Path(folder), checkpoint_seconds=0.2)
        with Stack(settings, port=0, device="cpu") as stack:
            facts = work(Lab(stack.url))
        store = Store(settings.database)
        facts["key"] = create_key(store, "ada").secret
        store.close()
        scrub(settings.root)
        Path(f"{target}.tar.gz").write_bytes(packed(settings.root))
    facts |= {"engine_version": ENGINE_VERSION, "torch": torch.__version__}
    lines = [f"{json.dumps(name)}: {json.dumps(fact)}" for name, fact in facts.items()]
    Path(f"{target}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main(sys.argv[1])
