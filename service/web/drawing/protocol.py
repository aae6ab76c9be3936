"""The messages between the API and a renderer, over the renderer's standard input and output.

A message is one line of JSON. What is drawn follows its `Answer` as so many bytes.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ffengine.search_spec import Direction
from service.results.chart_formats import SCREEN, ChartFormat, ChartLook, Theme
from service.settings import Settings
from service.storage.place import Place


class NoSuchJob(LookupError):
    """The job is not there any more."""


class Message(BaseModel):
    """A message: immutable, so that equal requests are found by comparing them."""

    model_config = ConfigDict(frozen=True)


class Setup(Message):
    """To the renderer, once: where it reads, and how much memory it may take.

    The database is a URL, or the file of SQLite. Its URL may hold a password, so it is in no
    environment and no list of processes.
    """

    database_url: str | None = None
    database_file: Path | None = None
    artifacts: Place
    memory_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "Setup":
        """Return what these settings say."""
        where = settings.database
        return cls(
            database_url=where if isinstance(where, str) else None,
            database_file=where if isinstance(where, Path) else None,
            artifacts=settings.artifact_place,
            memory_bytes=settings.renderer_memory,
        )

    @property
    def database(self) -> str | Path:
        """The database, as a store is given it."""
        return self.database_url or self.database_file or ""


class ChartView(Message):
    """What somebody chose to see of a study: the figure that its runs are compared by, and the
    columns of which one is drawn over the other. None: what is chosen by itself.
    """

    objective: str | None = None
    direction: Direction | None = None
    x: str | None = None
    y: str | None = None

    @property
    def fields(self) -> tuple[str | None, Direction | None, str | None, str | None]:
        """The choices in order."""
        return self.objective, self.direction, self.x, self.y

    @property
    def parameters(self) -> dict[str, str]:
        """The choices that were made, as parameters of an address."""
        return self.model_dump(exclude_none=True)


class ChartRequest(Message):
    """Draw a chart of a job."""

    type: Literal["chart"] = "chart"
    job_id: str
    name: str
    fmt: ChartFormat
    theme: Theme = "light"
    view: ChartView = ChartView()
    look: ChartLook = SCREEN


class OverlayRequest(Message):
    """Draw a chart of several jobs as JSON. `jobs`: the id of each, and its label."""

    type: Literal["overlay"] = "overlay"
    name: str
    jobs: tuple[tuple[str, str], ...]
    theme: Theme = "light"


class ReportRequest(Message):
    """Make the report of a job that has a result."""

    type: Literal["report"] = "report"
    job_id: str


class NamesRequest(Message):
    """List the charts of a job as JSON: the meaning of each by its name. Nothing is drawn."""

    type: Literal["names"] = "names"
    job_id: str


Request = ChartRequest | OverlayRequest | ReportRequest | NamesRequest

REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="type")])
NAMES: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])

Outcome = Literal["done", "nothing", "no_job", "database_away", "memory", "failed"]


class Answer(Message):
    """From the renderer: how a request ended; `length` bytes follow.

    `detail` says why where the outcome is not `done`.
    """

    outcome: Outcome
    detail: str = ""
    length: int = 0


def line(message: Message) -> bytes:
    """Return a message as the bytes of one line."""
    return message.model_dump_json().encode() + b"\n"
