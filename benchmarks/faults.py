"""`python -m benchmarks.faults --minutes 5 --seed N`: a real stack under a mixed load while it is
hurt at random, and an audit at the end.

Prints one JSON object; exits with 1 where anything was lost, doubled, wrong or left over. `--weaken
NAME` runs the stack without one of its safeguards: the audit must find that out.
"""

import argparse
import functools
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import func, select

from benchmarks.load import DONE, SPECS, Client, Load
from benchmarks.monkey import FAULTS, Monkey
from benchmarks.stack import Processes
from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.settings import Settings
from service.stack.stack import Stack
from service.store import Store
from service.store.tables import JobRow

LEASE_SECONDS = 5.0
STILL_SECONDS = PATIENCE_SECONDS  # without any progress: then what is queued is stuck
PAUSE_SECONDS = (0.2, 2.5)
NO_LIMIT = 1_000_000  # losses of a worker are what this is about

# What is put into every process of the stack before its own code runs.
WEAKENED = {
    "no-reconciler": "from service.background.reconciler import Reconciler\n"
    "Reconciler._expire_leases = lambda self: None\nimport "
    "service.background.reconciler\nservice.background.reconciler.DISPATCH_AGAIN_SECONDS "
    "= 1e9\n",
    "no-fence": "import service.store.leases as leases\nfrom service.store.tables import JobRow\n"
    "leases.lease_condition = lambda job_id, attempt: (JobRow.id == job_id, JobRow.kind != "
    "'study')\n"
    "import service.store.queue\nservice.store.queue.lease_condition = leases.lease_condition\n",
    "no-idempotency": "from service.store.jobs import Jobs\nJobs._known = lambda self, session, "
    "idempotency: None\n"
    "import sqlalchemy.sql.dml as dml\nimport service.store.jobs\nfrom service.store.tables "
    "import IdempotencyRow\n"
    "insert = service.store.jobs.insert\n"
    "service.store.jobs.insert = lambda table: insert(table).prefix_with('OR REPLACE') if table "
    "is IdempotencyRow else insert(table)\n",
}


def main() -> None:
    """Run, audit, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weaken", choices=list(WEAKENED))
    parser.add_argument(
        "--faults",
        nargs="*",
        choices=FAULTS,
        default=FAULTS,
        help="which are done; all where it is left out",
    )
    parser.add_argument(
        "--still",
        type=float,
        default=STILL_SECONDS,
        help="seconds without progress after which what is queued is stuck",
    )
    parser.add_argument("--keep", action="store_true", help="leave the stack's folder behind")
    asked = parser.parse_args()
    logging.disable(logging.WARNING)  # that children die is what this is about
    home = Path(tempfile.mkdtemp(prefix="fflab-faults-"))
    if asked.weaken:
        (home / "sitecustomize.py").write_text(WEAKENED[asked.weaken])
        folders = [str(home), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
        os.environ["PYTHONPATH"] = os.pathsep.join(folders)
    found = bench(home, asked)
    if not asked.keep:
        shutil.rmtree(home)
    print(
        json.dumps(
            {"minutes": asked.minutes, "seed": asked.seed, "weakened": asked.weaken, **found},
            indent=1,
        )
    )
    sys.exit(1 if found["violations"] else 0)


def bench(home: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run, with all violations of what must hold."""
    settings = Settings(
        home=home, lease_seconds=LEASE_SECONDS, checkpoint_seconds=0.5, max_losses=NO_LIMIT
    )
    violations: list[str] = []
    with Stack(settings, port=0, device="cpu") as stack:
        references = undisturbed(stack.url)
        load, monkey = (
            Load(stack.url, asked.seed),
            Monkey(stack, asked.seed, PAUSE_SECONDS, asked.faults),
        )
        load.start()
        monkey.start()
        time.sleep(asked.minutes * 60)
        monkey.stop()
        load.stop()
        began = time.monotonic()
        violations += drained(stack.url, list(load.accepted), asked.still)
        drain_seconds = time.monotonic() - began
        load.hang_up()
        violations += load.faults + wrong_results(stack.url, load.accepted, references)
        pids = {
            process.pid
            for name in ("redis", "api")
            for process in [Processes(stack).running(name)]
            if process
        }
    violations += left_over(home, pids)
    store = Store(settings.database)
    states, more = audited(store, load)
    figures = {
        "accepted": len(load.accepted),
        **{state: states[state] for state in (*DONE, "queued", "running", "paused")},
        "attempts": attempts(store),
        "streams": len(load.streams),
        "faults": sum(monkey.done.values()),
        "by_fault": dict(sorted(monkey.done.items())),
        "drain_seconds": round(drain_seconds, 1),
    }
    store.close()
    return {**figures, "violations": violations + more}


def figures_of(result: dict[str, Any]) -> object:
    """What of a result must not depend on what happened to it."""
    if result["kind"] == "study":
        return [
            {key: value for key, value in cell.items() if key != "job"} for cell in result["cells"]
        ]
    return {key: value for key, value in result.items() if key != "provenance"}


def has_succeeded(client: Client, path: str) -> bool:
    """Whether the job at this path has succeeded."""
    return bool(client.ask("GET", path).json()["state"] == "succeeded")


def undisturbed(url: str) -> dict[str, object]:
    """The figures of every spec, from runs that nothing happened to."""
    client = Client(url)
    jobs = {
        name: client.ask("POST", "/v1/jobs", json={"spec": spec, "fresh": True}).json()["id"]
        for name, spec in SPECS.items()
    }
    found = {}
    for name, job_id in jobs.items():
        path = f"/v1/jobs/{job_id}"
        succeeded = functools.partial(has_succeeded, client, path)
        wait_until(succeeded, f"{name} succeeds")
        found[name] = figures_of(client.ask("GET", f"{path}/result").json())
    client.close()
    return found


def drained(url: str, accepted: list[str], still_seconds: float) -> list[str]:
    """Let what is paused go on and wait until all have ended; what is stuck."""
    client = Client(url)
    moved, before = time.monotonic(), ""
    open_jobs = list(accepted)
    while open_jobs and time.monotonic() < moved + still_seconds:
        seen = [client.ask("GET", f"/v1/jobs/{job_id}") for job_id in open_jobs]
        jobs = [
            answer.json()
            for answer in seen
            if answer.status_code == 200 and answer.json()["state"] not in DONE
        ]
        open_jobs = [job["id"] for job in jobs]
        for job in jobs:
            if job["state"] == "paused" or job["wanted"] == "pause":
                client.ask("POST", f"/v1/jobs/{job['id']}/resume")
        now = json.dumps([[job["state"], job["progress"]["fraction"]] for job in jobs])
        if now != before:
            before, moved = now, time.monotonic()
        time.sleep(0.5)
    client.close()
    return [f"{job_id} is stuck" for job_id in open_jobs]


def wrong_results(url: str, accepted: dict[str, str], references: dict[str, object]) -> list[str]:
    """The jobs that are gone, or whose result is not that of an undisturbed run.

    A study with runs that were cancelled is left out.
    """
    client, wrong = Client(url), []
    for job_id, name in accepted.items():
        answer = client.ask("GET", f"/v1/jobs/{job_id}")
        if answer.status_code != 200:
            wrong.append(f"{job_id} was accepted and is gone")
        elif answer.json()["state"] == "failed":
            wrong.append(f"{job_id} ({name}) failed: {answer.json()['error']}")
        elif answer.json()["state"] == "succeeded":
            result = client.ask("GET", f"/v1/jobs/{job_id}/result").json()
            whole = result["kind"] != "study" or all(
                cell["state"] == "succeeded" for cell in result["cells"]
            )
            if whole and figures_of(result) != references[name]:
                wrong.append(f"{job_id} ({name}) has another result than an undisturbed run")
    client.close()
    return wrong


def left_over(home: Path, pids: set[int]) -> list[str]:
    """Processes of the stack that outlived it: those that were its children, and all that have its
    home in their environment.
    """
    time.sleep(1.0)
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.pid in pids or process.environ().get("FFLAB_HOME") == str(home)
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(
                    f"process {process.pid} is left over: {' '.join(process.cmdline())[:100]}"
                )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def audited(store: Store, load: Load) -> tuple[Counter[str], list[str]]:
    """What the database says: how many accepted jobs in which state, and what is wrong with leases,
    events and streams.
    """
    wrong: list[str] = []
    with store.database.reading() as session:
        roots = set(session.scalars(select(JobRow.id).where(JobRow.parent_id.is_(None))))
        leases = session.scalars(select(JobRow.id).where(JobRow.lease_until.is_not(None))).all()
        every = list(session.scalars(select(JobRow.id)))
    surplus = len(roots) - len(SPECS) - len(load.accepted)
    wrong += [f"{surplus} jobs more than were accepted"] if surplus > 0 else []
    wrong += [
        f"{job_id} was accepted and is not in the database"
        for job_id in load.accepted
        if job_id not in roots
    ]
    wrong += [f"{job_id} has a lease left" for job_id in leases]
    for job_id in every:
        wrong += wrong_events(store, job_id)
    for job_id, heard in load.streams.items():
        stored = [event.id for event in store.events.of(job_id, after=0, limit=1_000_000)]
        numbers = [json.loads(text)["id"] for text in heard]
        if numbers != stored[: len(numbers)]:
            wrong.append(f"{job_id}: its stream had a gap or a duplicate")
    found = [store.jobs.get(job_id) for job_id in load.accepted]
    return Counter(job.state.value for job in found if job), wrong


def wrong_events(store: Store, job_id: str) -> list[str]:
    """Gaps, ends in the wrong place, rows that were sent twice."""
    events = store.events.of(job_id, after=0, limit=1_000_000)
    wrong = (
        []
        if [event.id for event in events] == list(range(1, len(events) + 1))
        else [f"{job_id}: its events have a gap"]
    )
    states = [event.data["state"] for event in events if event.type == "state"]
    ends = [place for place, event in enumerate(events) if event.type == "end"]
    terminal = sum(state in DONE for state in states)
    if len(ends) != terminal or (states[-1] in DONE) != (events[-1].type == "end"):
        wrong.append(f"{job_id}: {len(ends)} ends for {terminal} terminal states {states}")
    rows = [
        json.dumps({key: value for key, value in row.items() if key in KEYS})
        for event in events
        for row in event.data.get("rows", ())
    ]
    return wrong if len(rows) == len(set(rows)) else [*wrong, f"{job_id}: rows were sent twice"]


KEYS = ("seed", "width", "layer", "epoch", "split", "method")


def attempts(store: Store) -> int:
    """How often a worker has claimed a job."""
    with store.database.reading() as session:
        return session.scalar(select(func.sum(JobRow.attempt))) or 0


if __name__ == "__main__":
    main()
