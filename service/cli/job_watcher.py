"""Follows a job by its events, and waits for a service that is away."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from service.client import Client, Refused, Unreachable
from service.jobs import Event, Job
from service.schemas import row_key

AWAY_SECONDS = 600.0  # how long to wait for a service that is away
AWAY_STATUS = frozenset({502, 503, 504})
PAUSE_SECONDS = 1.0
RUNS_SECONDS = 1.0  # between two readings of a study's runs
MOST_RUNS = 500

Row = Mapping[str, Any]
T = TypeVar("T")


class JobProgress:
    """What the events of one job have said so far."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state.value
        self.fraction, self.message, self.eta_seconds = (
            job.progress.fraction,
            job.progress.message,
            job.progress.eta_seconds,
        )
        self.heard = time.monotonic()
        self.worker = ""
        self.away = False
        self.warnings: list[str] = []
        self.findings: list[Row] = []
        self.runs: list[Job] = []
        self._rows: dict[str, Row] = {}
        self._runs_read = 0.0

    def apply(self, event: Event) -> None:
        """Update the state, progress, rows and warnings from an event."""
        data, self.heard, self.away = event.data, time.monotonic(), False
        if event.type == "state":
            self.state, self.worker = str(data["state"]), str(data.get("worker") or self.worker)
            self.findings = list(data.get("diagnostics") or self.findings)
        elif event.type == "progress":
            self.fraction, self.message, self.eta_seconds = (
                data["fraction"],
                data["message"],
                data["eta_seconds"],
            )
        elif event.type == "rows":
            # a job that was resumed may measure an epoch again
            self._rows |= {row_key(row): row for row in data["rows"]}
        elif event.type == "log" and data.get("level") in ("warning", "error"):
            self.warnings.append(str(data["message"]))

    @property
    def rows(self) -> list[Row]:
        """The rows, or a check's cells, measured so far."""
        return list(self._rows.values())

    @property
    def layer(self) -> int:
        """The layer that was measured last."""
        return max((int(row["layer"]) for row in self.rows), default=0)

    @property
    def eta(self) -> float | None:
        """The seconds until the job is expected to end; None while unknown."""
        return (
            None
            if self.eta_seconds is None
            else max(0.0, self.eta_seconds - (time.monotonic() - self.heard))
        )

    def curve(self, figure: str, split: str) -> list[tuple[float, float]]:
        """Return (epoch, mean over seeds) of a figure, for the layer that was measured last."""
        layer, found = self.layer, defaultdict(list)
        for row in self.rows:
            if row["layer"] == layer and row["split"] == split and row.get(figure) is not None:
                found[int(row["epoch"])].append(float(row[figure]))
        return [
            (float(epoch), sum(values) / len(values)) for epoch, values in sorted(found.items())
        ]

    def finish(self, client: Client, job: Job) -> None:
        """Update everything from the job after its end."""
        self.job, self.state = job, job.state.value
        self.fraction, self.message, self.eta_seconds = (
            job.progress.fraction,
            job.progress.message,
            None,
        )
        self.read_runs(client, again=True)

    def read_runs(self, client: Client, *, again: bool = False) -> None:
        """Read a study's runs, unless they were read a moment ago."""
        if self.job.kind != "study" or (
            time.monotonic() - self._runs_read < RUNS_SECONDS and not again
        ):
            return
        self.runs = [
            job
            for job, _ in zip(
                client.jobs(parent=self.job.id, limit=MOST_RUNS), range(MOST_RUNS), strict=False
            )
        ]
        self._runs_read = time.monotonic()


def follow_events(client: Client, watched: JobProgress) -> Iterator[Event]:
    """Yield the events of a job from the first to the last, waiting for a service that is away."""
    after = 0
    lost: float | None = None
    while True:
        try:
            for event in client.events(watched.job.id, after=after):
                after, lost = event.id, None
                yield event
            return
        except (Unreachable, Refused) as error:
            lost = lost or time.monotonic()
            _refuse_for_good(error, lost)
            watched.away = True
            time.sleep(PAUSE_SECONDS)


def ask_while_unavailable(ask: Callable[[], T]) -> T:
    """Call `ask` until the service answers, and return the answer.

    Raises Unreachable or Refused after ten minutes, or for a refusal that waiting does not change.
    """
    lost = time.monotonic()
    while True:
        try:
            return ask()
        except (Unreachable, Refused) as error:
            _refuse_for_good(error, lost)
            time.sleep(PAUSE_SECONDS)


def _refuse_for_good(error: Unreachable | Refused, lost: float) -> None:
    """Raise the error if waiting does not help, or has lasted long enough."""
    if (
        isinstance(error, Refused) and error.status not in AWAY_STATUS
    ) or time.monotonic() - lost > AWAY_SECONDS:
        raise error
