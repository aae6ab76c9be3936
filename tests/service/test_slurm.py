"""`fflab slurm scale`: how many workers are submitted, against a stub of Slurm that keeps jobs."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffengine.spec import TrainSpec
from service.cli.slurm import Scene
from service.store import Store
from tests.commands import Fflab
from tests.factories import submit

# Keeps a line "id name state" for each job, as squeue prints them; each call is another process.
STUB = """\
#!{python} -S
import pathlib, sys
jobs = pathlib.Path({jobs!r})
lines = jobs.read_text().splitlines() if jobs.exists() else []
given = dict(one.lstrip("-").partition("=")[::2] for one in sys.argv[1:])
if {fails!r} in sys.argv[0]:
    sys.exit("slurm_load_jobs error: Unable to contact slurm controller\\x1b[2J (connect failure)")
if sys.argv[0].endswith("squeue"):
    assert {{"me", "noheader"}} <= set(given) and given["format"] == "%T"
    print("\\n".join(line.split()[2] for line in lines if line.split()[1] == given["name"]))
else:
    assert pathlib.Path(sys.argv[-1]).read_text().startswith("#!")
    lines.append(f"{{len(lines) + 1}} {{given['job-name']}} PENDING")
    jobs.write_text("\\n".join(lines))
    print(f"{{len(lines)}};cluster" if "parsable" in given else "Submitted batch job")
"""


class Slurm:
    """A folder on PATH with sbatch and squeue."""

    def __init__(self, folder: Path, fails: str = "nothing") -> None:
        self.jobs = folder / "jobs"
        self.script = folder / "worker.sbatch"
        self.script.write_text("#!/bin/bash\nsrun fflab worker\n")
        self.path = folder / "bin"
        self.path.mkdir()
        for name in ("sbatch", "squeue"):
            stub = self.path / name
            stub.write_text(STUB.format(python=sys.executable, jobs=str(self.jobs), fails=fails))
            stub.chmod(0o700)

    def change(self, before: str, after: str) -> None:
        """Let Slurm change the state of its jobs."""
        self.jobs.write_text(self.jobs.read_text().replace(before, after))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    made = Slurm(tmp_path)
    monkeypatch.setenv("PATH", f"{made.path}{os.pathsep}{os.environ['PATH']}")
    return made


@given(
    queued=st.integers(0, 50),
    free=st.integers(0, 10),
    busy=st.integers(0, 10),
    waiting=st.integers(0, 10),
    started=st.integers(0, 10),
    most=st.integers(1, 20),
)
def test_there_are_never_too_many_nor_fewer_than_needed(
    queued: int, free: int, busy: int, waiting: int, started: int, most: int
) -> None:
    missing = Scene(queued, free, busy, waiting, started).missing(most)
    assert missing >= 0
    assert not missing or missing + waiting + started <= most
    assert not missing or missing + waiting + free <= queued
    enough = missing + waiting + max(free, started - busy) >= queued
    assert enough or missing + waiting + started >= most


@pytest.mark.slow
def test_a_worker_is_submitted_for_each_job_that_none_is_there_for(
    fflab: Fflab, store: Store, slurm: Slurm
) -> None:
    scale = ("slurm", "scale", str(slurm.script), "--max", "3")
    assert fflab(*scale).out == "0 queued, 0 free, 0 of at most 3 in Slurm: nothing to submit\n"
    for seed in range(2):
        submit(store, TrainSpec(seeds=(seed,)))
    assert fflab(*scale).out == "2 queued, 0 free, 0 of at most 3 in Slurm: submitted 1, 2\n"
    assert fflab(*scale).out == "2 queued, 0 free, 2 of at most 3 in Slurm: nothing to submit\n"
    slurm.change("PENDING", "RUNNING")  # they start, and are not listed yet
    assert fflab(*scale).out == "2 queued, 0 free, 2 of at most 3 in Slurm: nothing to submit\n"
    for seed in range(2, 9):
        submit(store, TrainSpec(seeds=(seed,)))
    assert fflab(*scale).out == "9 queued, 0 free, 2 of at most 3 in Slurm: submitted 3\n"
    others = fflab(*scale, "--name", "others")
    assert others.out == "9 queued, 0 free, 0 of at most 3 in Slurm: submitted 4, 5, 6\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["squeue", "sbatch"])
def test_a_command_of_slurm_that_fails_is_said_in_a_line(
    fflab: Fflab, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    slurm = Slurm(tmp_path, fails=command)
    monkeypatch.setenv("PATH", f"{slurm.path}{os.pathsep}{os.environ['PATH']}")
    submit(store, TrainSpec())
    ended = fflab("slurm", "scale", str(slurm.script), "--max", "1")
    assert ended.code == 1
    assert ended.err == (
        f"fflab: {command} failed with 1: slurm_load_jobs error: Unable to contact slurm "
        "controller\\x1b[2J (connect failure)\n"
    )


def test_without_slurm_a_line_says_where_to_run_it(
    fflab: Fflab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script = tmp_path / "worker.sbatch"
    script.touch()
    ended = fflab("slurm", "scale", str(script), "--max", "1")
    said = "fflab: sbatch is not here: run this on a machine that has Slurm\n"
    assert (ended.code, ended.err) == (2, said)
