"""Following a job: what is known of it so far, kept up to date by its events; a service that is
away is waited for.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from service.client import Client, Refused, Unreachable
from service.jobs import Event, Job
from service.schemas import row_key

AWAY_SECONDS = 600.0  # a service that is away for longer is given up
AWAY_STATUS = frozenset({502, 503, 504})
PAUSE_SECONDS = 1.0
RUNS_SECONDS = 1.0  # between two looks at the runs of a study
MOST_RUNS = 500

Row = Mapping[str, Any]
T = TypeVar("T")


class JobProgress:
    """One job as its events tell of it."""

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
        """What has happened."""
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
            self._rows |= {
                row_key(row): row for row in data["rows"]
            }  # a job that was resumed may measure an epoch again
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
        """Seconds that it will take still."""
        return (
            None
            if self.eta_seconds is None
            else max(0.0, self.eta_seconds - (time.monotonic() - self.heard))
        )

    def curve(self, figure: str, split: str) -> list[tuple[float, float]]:
        """A figure of the layer that was measured last, epoch by epoch, as the mean over seeds."""
        layer, found = self.layer, defaultdict(list)
        for row in self.rows:
            if row["layer"] == layer and row["split"] == split and row.get(figure) is not None:
                found[int(row["epoch"])].append(float(row[figure]))
        return [
            (float(epoch), sum(values) / len(values)) for epoch, values in sorted(found.items())
        ]

    def finish(self, client: Client, job: Job) -> None:
        """How it has ended."""
        self.job, self.state = job, job.state.value
        self.fraction, self.message, self.eta_seconds = (
            job.progress.fraction,
            job.progress.message,
            None,
        )
        self.read_runs(client, again=True)

    def read_runs(self, client: Client, *, again: bool = False) -> None:
        """Look at a study's runs, unless that was done a moment ago."""
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
    """The events of a job from the first to the last, also where the service is away for a
    while.
    """
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


def retry_while_unavailable(ask: Callable[[], T]) -> T:
    """The answer to a question, asked again while the service is away."""
    lost = time.monotonic()
    while True:
        try:
            return ask()
        except (Unreachable, Refused) as error:
            _refuse_for_good(error, lost)
            time.sleep(PAUSE_SECONDS)


def _refuse_for_good(error: Unreachable | Refused, lost: float) -> None:
    """Raise the error where waiting does not help, or has lasted long enough."""
    if (
        isinstance(error, Refused) and error.status not in AWAY_STATUS
    ) or time.monotonic() - lost > AWAY_SECONDS:
        raise error
