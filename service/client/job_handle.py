"""What the handles of both clients share."""

import io
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from service.client.errors import JobFailed, NotFflab, StillRunning
from service.client.notebook_display import job_html
from service.jobs import TERMINAL, Job, JobState

LONGEST_WAIT_SECONDS = 30.0  # of one long poll; the server allows 60
WATCHED_SECONDS = 1.0  # the same while progress is shown
PLAIN_SECONDS = 1.0  # between reads of a job, where long polls do not get through

Arrays = dict[str, npt.NDArray[Any]]


class Handle:
    """A submitted job: `job` is its last known state."""

    def __init__(self, url: str, job: Job) -> None:
        self._url, self.job = url, job

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def state(self) -> JobState:
        """The job's last known state."""
        return self.job.state

    @property
    def page(self) -> str:
        """The address of the job's page on the dashboard."""
        return f"{self._url}/jobs/{self.id}"

    def __repr__(self) -> str:
        return f"<{self.job.kind} {self.id} {self.state.value} {self.job.progress.fraction:.0%}>"

    def _repr_html_(self) -> str:
        return job_html(self.job, self._url)


class PollInterval:
    """How long each request for a job may take while a client waits for its end."""

    def __init__(self, timeout_seconds: float | None, *, watched: bool) -> None:
        self._timeout = timeout_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._longest = WATCHED_SECONDS if watched else LONGEST_WAIT_SECONDS

    @property
    def is_plain(self) -> bool:
        """Whether long polls were given up: wait here, then read the job as it is."""
        return self._longest < PLAIN_SECONDS

    def broken(self) -> None:
        """Take note of a long poll that something in between has cut: the next one is shorter."""
        self._longest /= 2

    def seconds(self, job: Job) -> float:
        """Return the seconds for the next request; 0 if the job has ended.

        Raises StillRunning when the time is over.
        """
        if job.state in TERMINAL:
            return 0.0
        if self._timeout is None or self._deadline is None:
            return PLAIN_SECONDS if self.is_plain else self._longest
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise StillRunning(job, self._timeout)
        return max(0.01, min(PLAIN_SECONDS if self.is_plain else self._longest, left))


def refuse_failure(job: Job) -> None:
    """Raise JobFailed if the job ended without success."""
    if job.state != JobState.succeeded:
        raise JobFailed(job)


def archive_of(data: str | Path | bytes | Mapping[str, npt.ArrayLike]) -> bytes:
    """Return the bytes of an .npz file, or of arrays as one. Raises OSError."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, str | Path):
        return Path(data).read_bytes()
    archive = io.BytesIO()
    np.savez_compressed(
        archive, allow_pickle=False, **{name: np.asarray(array) for name, array in data.items()}
    )
    return archive.getvalue()


def curves_file(ending: str, *, mean: bool) -> str:
    """Return the download that holds the rows, or their means over seeds, in that format."""
    return f"curves.{ending}{'?mean=true' if mean else ''}"


def arrays_of(content: bytes, url: str) -> Arrays:
    """Return the arrays of an .npz archive; nothing is unpickled. Raises NotFflab."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise NotFflab(
            f"{url}: what came is not an .npz archive ({error}); look at proxies in between"
        ) from error
