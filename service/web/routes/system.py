"""Routes of the service itself: health, metrics, workers, retention, problems."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError

from service.background.retention import ExpiredJob, find_expired
from service.schemas import WorkerLine, WorkerPage
from service.settings import Retention
from service.store import DEAD_WORKER_SECONDS
from service.store.faults import DATABASE_ERRORS, fault_of
from service.web import problems
from service.web.dependencies import (
    ResourcesDep,
    SettingsDep,
    StoreDep,
    require_admin,
    require_key_for_metrics,
)
from service.web.metrics import MEDIA_TYPE
from service.web.problems import responses
from service.web.worker_changes import drain, undrain

router = APIRouter(tags=["system"])
v1_router = APIRouter(tags=["system"])


class Health(BaseModel):
    """Whether the process answers."""

    status: str


class Readiness(BaseModel):
    """Whether jobs can be accepted and run."""

    status: str
    database: bool
    broker: bool


@v1_router.get("/workers", summary="Live workers", responses=responses())
def list_workers(store: StoreDep) -> WorkerPage:
    """The workers that sent a sign of life within half a minute."""
    return WorkerPage(items=store.workers.alive(DEAD_WORKER_SECONDS))


WorkerId = Annotated[
    str,
    Path(
        description="a worker's id, as the list of live workers has it",
        max_length=300,
        pattern="^[ -~]*$",
    ),
]


@v1_router.post(
    "/workers/{worker_id}/drain",
    summary="Let a worker take no more jobs",
    dependencies=[Depends(require_admin)],
    responses=responses(problems.NoSuchWorker, problems.KeyMayNot),
)
def drain_worker(resources: ResourcesDep, worker_id: WorkerId) -> WorkerLine:
    """Let a live worker finish the job that it has and begin no other, until that is undone.

    A worker that was started anew begins jobs again. Needs a key with the scope `admin`.
    """
    return drain(resources, worker_id)


@v1_router.post(
    "/workers/{worker_id}/undrain",
    summary="Let a drained worker take jobs again",
    dependencies=[Depends(require_admin)],
    responses=responses(problems.NoSuchWorker, problems.KeyMayNot),
)
def undrain_worker(resources: ResourcesDep, worker_id: WorkerId) -> WorkerLine:
    """Undo the draining of a live worker. Needs a key with the scope `admin`."""
    return undrain(resources, worker_id)


class RetentionPage(BaseModel):
    """The retention policy, and the jobs that the next sweep would delete."""

    policy: Retention
    items: list[ExpiredJob]


@v1_router.get("/retention", summary="What is kept, and what would go", responses=responses())
def read_retention(
    store: StoreDep,
    settings: SettingsDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="of each kind of job")] = 100,
) -> RetentionPage:
    """List what the next sweep would delete; nothing is deleted.

    The operator sets the policy with FFLAB_RETENTION. Pinned jobs stay.
    """
    policy = settings.retention
    return RetentionPage(policy=policy, items=find_expired(store, policy, limit))


@router.get("/healthz", summary="Alive?")
def read_health() -> Health:
    """Answers whenever the process does."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Ready?",
    responses={503: {"model": Readiness, "description": "The database or the broker is away"}},
)
def read_readiness(resources: ResourcesDep, response: Response) -> Readiness:
    """Whether database and broker answer.

    Jobs are accepted without the broker as well; they start when it is back.
    """
    broker = resources.reconciler.broker_ok
    database, status = True, "ready" if broker else "not ready"
    try:
        resources.store.database.ping()
    except (*DATABASE_ERRORS, DBAPIError) as error:
        fault = fault_of(error)
        database, status = False, f"not ready: {fault}" if fault else "not ready"
    response.status_code = 200 if database and broker else 503
    return Readiness(status=status, database=database, broker=broker)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    dependencies=[Depends(require_key_for_metrics)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **responses(problems.DatabaseAway)},
)
def read_metrics(resources: ResourcesDep) -> Response:
    """Jobs by state, the longest wait, live workers, and the broker, from the database.

    Histograms of requests and of jobs' wait and run times count from the start of this process.
    Where keys are needed it asks for one, unless FFLAB_OPEN_METRICS is set.
    """
    return Response(resources.metrics.render(), media_type=MEDIA_TYPE)


@router.get(
    "/problems/{code}", summary="What a problem means", responses=responses(problems.NoSuchPage)
)
def read_problem(
    code: Annotated[
        str,
        Path(description="the code of a problem", json_schema_extra={"pattern": "^[a-z-]+$"}),
    ],
) -> dict[str, str | int]:
    """Title and advice of a problem. The `type` of every error is the address of this page."""
    kind = problems.PROBLEMS.get(code)
    if kind is None:
        raise problems.NoSuchPage(
            f"there is no problem {code!r}; there are {', '.join(problems.PROBLEMS)}"
        )
    return {"code": code, "status": kind.status, "title": kind.title, "advice": kind.advice}
