"""`fflab slurm`: workers as jobs of Slurm."""

import shutil
import subprocess
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from service.cli.options import EXIT_FAILED, EXIT_USAGE, fail, make_client
from service.cli.output import line
from service.client import Client, Unreachable
from service.encoding.escaping import for_terminal
from service.host.end_signals import interrupt_by_signals

COMPUTED = ("train", "check", "forecast")  # a study itself needs no worker
WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED"})
SLURM_SECONDS = 60.0  # in which Slurm's commands answer

slurm_app = typer.Typer(help="Workers as jobs of Slurm.", no_args_is_help=True)


class Scene(NamedTuple):
    """What there is at a moment.

    **Arguments:**

    - `queued`: jobs of the service that no worker has begun.
    - `free`, `busy`: live workers that could begin one, and those that have one.
    - `waiting`, `started`: workers that Slurm has not started yet, and those that it has.
    """

    queued: int
    free: int
    busy: int
    waiting: int
    started: int

    def missing(self, most: int) -> int:
        """How many workers to submit: one for each job that no worker is there or due for.

        One that Slurm has started needs a while until it is listed: those are due that can be none
        of the busy ones.
        """
        due = self.waiting + max(self.free, self.started - self.busy)
        return max(0, min(most - self.waiting - self.started, self.queued - due))


@slurm_app.callback()
def slurm() -> None:
    """Workers as jobs of Slurm."""


@slurm_app.command(epilog="Example: fflab slurm scale worker.sbatch --max 8 --every 60")
def scale(
    script: Annotated[Path, typer.Argument(help="A batch script that runs a worker.")],
    most: Annotated[int, typer.Option("--max", min=1, help="Most workers that Slurm has at once.")],
    name: Annotated[
        str, typer.Option(help="Name of the jobs in Slurm, by which they are counted.")
    ] = "fflab-worker",
    every: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Go on and look again; else once."),
    ] = None,
) -> None:
    """Submit a worker to Slurm for each queued job that no worker is there for.

    Workers that end by themselves (`--exit-when-idle`) make the number fall again.
    """
    for command in ("sbatch", "squeue"):
        if shutil.which(command) is None:
            fail(f"{command} is not here: run this on a machine that has Slurm", EXIT_USAGE)
    interrupt_by_signals()
    with make_client() as client:
        while True:
            try:
                _scale_once(client, script, most, name)
            except (Unreachable, SlurmError) as error:
                if every is None:
                    fail(str(error), EXIT_FAILED)
                line(f"{error}; goes on in {every:g} s")
            if every is None:
                return
            time.sleep(every)


class SlurmError(Exception):
    """A command of Slurm failed."""


def _scale_once(client: Client, script: Path, most: int, name: str) -> None:
    states = _slurm("squeue", "--me", "--noheader", "--format=%T", f"--name={name}").split()
    workers = client.get("/v1/workers")["items"]
    waiting = sum(state in WAITING for state in states)
    scene = Scene(
        queued=sum(
            client.count_jobs(state="queued", kind=kind, children="true") for kind in COMPUTED
        ),
        free=sum(one["job"] is None and not one.get("paused") for one in workers),
        busy=sum(one["job"] is not None for one in workers),
        waiting=waiting,
        started=len(states) - waiting,
    )
    missing = scene.missing(most)
    ids = [
        _slurm("sbatch", "--parsable", f"--job-name={name}", str(script)).partition(";")[0].strip()
        for _ in range(missing)
    ]
    said = f"submitted {', '.join(ids)}" if ids else "nothing to submit"
    line(
        f"{scene.queued:,} queued, {scene.free} free, {len(states)} of at most {most} in "
        f"Slurm: {said}"
    )


def _slurm(*command: str) -> str:
    """Run a command of Slurm; its output. Raises SlurmError with the first line that it says."""
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=SLURM_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]} has not answered for {SLURM_SECONDS:g} s") from None
    if done.returncode:
        said = for_terminal(next(iter(done.stderr.strip().splitlines()), "it says nothing"))
        raise SlurmError(f"{command[0]} failed with {done.returncode}: {said}")
    return done.stdout
