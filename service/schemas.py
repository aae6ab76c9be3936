"""The bodies of answers that the service writes and the client reads, beside `Job`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from ffengine.results import (
    AnyResult,
    CheckResult,
    ForecastResult,
    PluginUse,
    RecordedResult,
    StudyResult,
    TrainResult,
)
from ffengine.search_spec import Direction
from ffengine.spec import AnySpec, CheckSpec, ForecastSpec, StudySpec, TrainSpec
from ffengine.text import StoredText
from service.jobs import Event, Job, JobState

Result = TrainResult | CheckResult | ForecastResult | StudyResult | RecordedResult
Spec = TrainSpec | CheckSpec | ForecastSpec | StudySpec
StoredResult = Annotated[AnyResult | RecordedResult, Field(discriminator="kind")]
RESULT: TypeAdapter[Result] = TypeAdapter(StoredResult)
SPEC: TypeAdapter[Spec] = TypeAdapter(AnySpec)


class JobPage(BaseModel):
    """Some jobs, newest first unless another order is asked for."""

    items: list[Job]
    next_cursor: str | None = Field(description="for the next page; null on the last")
    total: int | None = Field(
        None, description="how many pass the filters, on all pages; null unless it is asked for"
    )
    states: dict[JobState, int] | None = Field(
        None, description="how many of these are in each state; null unless `total` is asked for"
    )
    values: list[dict[str, Any]] | None = Field(
        None,
        description="of each item its values in the columns that are asked for: times in seconds "
        "since 1970, durations in seconds; null where none is asked for",
    )


class ProjectLine(BaseModel):
    """A project: some job names it."""

    name: StoredText
    jobs: int = Field(description="how many jobs it has; a study is one, whatever its runs")
    unfinished: int = Field(description="how many of these have not ended")
    last_activity: datetime = Field(
        description="when one of its jobs, or a run of its studies, was submitted, begun or ended "
        "last"
    )


class ProjectPage(BaseModel):
    """All projects, the one with the newest activity first."""

    items: list[ProjectLine]


class AuditLine(BaseModel):
    """Something that somebody did."""

    id: int
    at: datetime
    actor: StoredText | None = Field(
        description="the name of the key; null where none was needed, and of the service itself"
    )
    key: str | None = Field(description="the id of the key")
    address: StoredText | None = Field(
        description="where the request came from; of a command, its user and host"
    )
    via: str = Field(
        description="`request`; `command`, on the machine of the service; or `service`, by itself"
    )
    action: str = Field(description="as `submit`, `cancel`, `delete`, `make-key`")
    target: StoredText | None = Field(
        description="the id of the job or key that it was done to, or the name of the upload"
    )
    details: dict[str, Any] = Field(description="what else is known of it; no secrets")


class AuditPage(BaseModel):
    """Some of what was done, the newest first."""

    items: list[AuditLine]
    next_cursor: str | None = Field(description="for the next page; null on the last")


class UsageLine(BaseModel):
    """What one owner, one project or one kind of device has used, or is used for."""

    name: StoredText | None = Field(
        description="of the owner, the project or the device (`cpu`, `cuda`); null: of none"
    )
    jobs: int = Field(description="jobs; a study is one, whatever its runs")
    runs: int = Field(description="runs of studies")
    cpu_seconds: float = Field(description="that workers without a GPU computed them")
    gpu_seconds: float = Field(description="that workers with a GPU computed them")
    artifact_bytes: int = Field(
        description="what their checkpoints and other files take up; measured every five minutes"
    )
    upload_bytes: int | None = Field(description="what uploads take up; null unless by owner")


class UsagePage(BaseModel):
    """What is used; jobs that were deleted count with what they used."""

    by: Literal["owner", "project", "device"]
    since: datetime | None
    items: list[UsageLine]


class EventPage(BaseModel):
    """Some events of a job, oldest first."""

    items: list[Event]
    next_cursor: int | None = Field(
        description="the id after which the next page begins; null where there are no more yet"
    )


class RowPage(BaseModel):
    """The tidy rows of a job so far, oldest first: all of them, unless a limit is asked for."""

    items: list[dict[str, Any]]
    next_cursor: str | None = Field(
        None, description="for the next page; null where there are no more yet"
    )


class TrialLine(BaseModel):
    """A run of a study, as a trial."""

    number: int = Field(description="its place in the study, from 0")
    job: str | None
    params: dict[str, JsonValue] = Field(description="the values of the searched or varied fields")
    state: Literal["complete", "pruned", "failed", "unfinished"]
    value: float | None = Field(description="the objective; null where the run does not have it")
    pruned_at: int | None = Field(
        description="the epoch at which it was stopped, worse than others"
    )
    best_so_far: float | None = Field(description="the best value of this trial and those before")


class SearchReport(BaseModel):
    """What a search has found so far; of any study, its runs compared by one figure."""

    objective: StoredText = Field(description="the figure, as a key of a run's summary")
    direction: Direction
    trials: list[TrialLine]
    best: TrialLine | None = Field(description="null while no run has the objective")


def row_key(row: Mapping[str, Any]) -> str:
    """Return what makes a tidy row, or a check's cell, unique within its job.

    The row needs no fields but these.
    """
    place = ("seed", "width", "layer", "epoch", "split", "method")
    fields = place if "method" in row else ("seed", "layer", "epoch", "split")
    return "/".join(str(row[field]) for field in fields)


class ChartLine(BaseModel):
    """A chart of a job."""

    name: str
    meaning: str = Field(description="what it shows")
    links: dict[str, str] = Field(description="its address in each format")


class ChartList(BaseModel):
    """The charts that a job has by now."""

    items: list[ChartLine]


class Checkpoint(BaseModel):
    """Weights of a training job that are kept."""

    layer: int = Field(
        description="of greedy layers, the one that was learning; of others, the last"
    )
    epoch: int
    weights: str = Field(description="the address of the weights")


class CheckpointList(BaseModel):
    """The weights that a training job has by now, in the order in which they came."""

    items: list[Checkpoint]


CANNOT_COMPUTE = "cannot compute: "  # begins `paused` of a worker that no job can be computed on


class WorkerInfo(BaseModel):
    """What a worker reports of itself."""

    id: str
    host: str
    pid: int
    device: str
    device_name: str | None
    memory_bytes: int | None = Field(
        description="memory of the device: a GPU's own; of a CPU, what the worker may use of the "
        "machine's"
    )
    host_memory_bytes: int | None = Field(
        None,
        description="memory of the machine that the worker may use: not beyond the limits of its "
        "cgroup and its address space",
    )
    threads: int | None = Field(None, description="with which it computes on the CPU")
    tags: list[str] = Field(default=[], description="what its operator says it is fit for")
    version: str
    job: str | None
    paused: str | None = Field(
        None,
        description="why it begins no job at present, as where the disk has no room, or where "
        "PyTorch cannot be loaded (`cannot compute: ...`)",
    )
    plugins: list[PluginUse] = Field(
        default=[], description="the plug-ins that it has: it begins jobs that need these alone"
    )
    spec_version: int | None = Field(
        None,
        description="the newest version of specs that it understands: it begins jobs that need no "
        "newer one; null: it is older than such versions and understands the first",
    )


class WorkerLine(WorkerInfo):
    """A live worker, and the seconds since its last sign of life."""

    silent_seconds: float
    can_compute: bool = Field(
        True, description="false where what computes does not start; `paused` says why"
    )
    differs: str | None = Field(
        None,
        description="where it is of another version than the API: how, and what that means",
    )
    draining: bool = Field(
        False, description="whether it finishes the job that it has, and begins no other"
    )


class WorkerPage(BaseModel):
    """All live workers."""

    items: list[WorkerLine]


class DeliveryAttempt(BaseModel):
    """One attempt to deliver a message."""

    at: datetime
    status: int | None = Field(description="of the answer; null: there was none")
    seconds: float
    error: str | None = Field(description="why there was no answer")


class Delivery(BaseModel):
    """A message; the header webhook-id holds its id."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    type: str
    state: Literal["pending", "delivered", "given_up"]
    created_at: datetime
    delivered_at: datetime | None
    next_at: datetime | None = Field(description="when it is tried next")
    attempts: list[DeliveryAttempt]


class DeliveryPage(BaseModel):
    """The webhook of a job, the states that a message is sent for, and the messages."""

    url: StoredText | None
    states: list[JobState]
    items: list[Delivery]


class ShareRequest(BaseModel):
    """A share link to make."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"expires_seconds": 30 * 86_400}]}
    )

    expires_seconds: int | None = Field(
        None,
        ge=60,
        le=10 * 366 * 86_400,
        description="after so many seconds the link is not valid any more; null: never",
    )


class Share(BaseModel):
    """A link by which anybody may read one job; its address was shown when it was made."""

    id: str
    job: str
    created_at: datetime
    created_by: StoredText | None = Field(description="the name of the key that made it")
    expires_at: datetime | None = Field(description="null: never")


class NewShare(Share):
    """A link that was just made; nothing shows its address again."""

    url: str = Field(description="the address to pass on")


class SharePage(BaseModel):
    """The valid share links of a job."""

    items: list[Share]
