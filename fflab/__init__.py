"""fflab for scripts and notebooks: the client, the specs it sends, and the results it reads.

    from fflab import Client, TrainSpec

    job = Client().submit(TrainSpec(epochs=3)).wait()
    job.curves, job.charts

What a spec is made of is in ffengine.spec; the same computations without a service are in ffengine.
"""

from ffengine.cost import Estimate
from ffengine.entry import explain_with
from ffengine.results import (
    AccuracyRow,
    CheckCell,
    CheckResult,
    Diagnostic,
    EpochRow,
    EpochsNeeded,
    ForecastPoint,
    ForecastResult,
    ForecastRow,
    Interval,
    Onset,
    Provenance,
    SelectionOnset,
    StudyCell,
    StudyResult,
    TrainResult,
)
from ffengine.spec import CheckSpec, ForecastSpec, StudySpec, TrainSpec
from ffengine.version import VERSION
from service.client import (
    AsyncClient,
    AsyncJobHandle,
    Charts,
    Client,
    FflabError,
    JobFailed,
    JobHandle,
    KeyRefused,
    NotFflab,
    NotFound,
    Picture,
    Refused,
    Result,
    StillRunning,
    Unreachable,
    VersionSkew,
)
from service.jobs import Event, Job, JobState
from service.results.paper_comparison import verdict_on
from service.specs.constructors import explain_construction

explain_with(explain_construction)

__version__ = VERSION

__all__ = [
    "AccuracyRow",
    "AsyncClient",
    "AsyncJobHandle",
    "Charts",
    "CheckCell",
    "CheckResult",
    "CheckSpec",
    "Client",
    "Diagnostic",
    "EpochRow",
    "EpochsNeeded",
    "Estimate",
    "Event",
    "FflabError",
    "ForecastPoint",
    "ForecastResult",
    "ForecastRow",
    "ForecastSpec",
    "Interval",
    "Job",
    "JobFailed",
    "JobHandle",
    "JobState",
    "KeyRefused",
    "NotFflab",
    "NotFound",
    "Onset",
    "Picture",
    "Provenance",
    "Refused",
    "Result",
    "SelectionOnset",
    "StillRunning",
    "StudyCell",
    "StudyResult",
    "StudySpec",
    "TrainResult",
    "TrainSpec",
    "Unreachable",
    "VersionSkew",
    "__version__",
    "verdict_on",
]
