"""Shows the progress of a job: a bar on a terminal, a line in a notebook, nothing in a pipe."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from service.client.notebook_display import job_html
from service.jobs import TERMINAL, Job

ProgressCallback = Callable[[Job], None]


@contextmanager
def progress_reporter(
    on_progress: ProgressCallback | None, *, progress: bool, url: str
) -> Iterator[ProgressCallback | None]:
    """Yield the function that is called with the job at each look; None where nobody looks on.

    **Arguments:**

    - `on_progress`: called instead of showing the progress.
    - `progress`: whether a terminal or a notebook shows the progress.
    - `url`: the address of the service, for links.
    """
    if on_progress or not progress:
        yield on_progress
    elif in_notebook():
        yield NotebookProgress(url)
    elif sys.stderr.isatty():
        bar = TerminalBar()
        try:
            yield bar
        finally:
            bar.close()
    else:
        yield None


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook. IPython is not imported for that."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


class TerminalBar:
    """A bar on standard error, shown as soon as a job is seen that has not ended."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}", markup=False),
        )
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._bar = self._progress.add_task("", total=1.0, message="")
        self._started = False

    def __call__(self, job: Job) -> None:
        if not self._started and job.state in TERMINAL:
            return
        self._progress.update(
            self._bar,
            completed=job.progress.fraction,
            description=job.state.value,
            message=job.progress.message,
        )
        if not self._started:
            self._progress.start()
            self._started = True

    def close(self) -> None:
        """Stop updating the bar, and leave it visible."""
        if self._started:
            self._progress.stop()


class Html:
    """A piece of HTML with a plain text."""

    def __init__(self, html: str, text: str) -> None:
        self._html, self._text = html, text

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


class DisplayHandle(Protocol):
    """What IPython returns for something that was displayed."""

    def update(self, piece: Html) -> None: ...


class NotebookProgress:
    """A line below the cell, rewritten while the job goes on.

    rich's bar would need ipywidgets for that.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._display = importlib.import_module("IPython.display").display
        self._shown: DisplayHandle | None = None
        self._html = ""

    def __call__(self, job: Job) -> None:
        html = job_html(job, self._url)
        if html == self._html:
            return
        self._html = html
        piece = Html(html, f"{job.id} {job.state.value} {job.progress.fraction:.0%}")
        if self._shown is None:
            self._shown = self._display(piece, display_id=True)
        else:
            self._shown.update(piece)
