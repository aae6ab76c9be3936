"""The service itself: alive, ready, measured; who works; what a problem means."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel

from service.background.retention import ExpiredJob, outdated
from service.schemas import WorkerPage
from service.settings import Retention
from service.store import DEAD_WORKER_SECONDS
from service.store.database import DATABASE_ERRORS, DatabaseReplaced
from service.web import problems
from service.web.dependencies import InState
from service.web.problems import responses

router = APIRouter(tags=["system"])
workers = APIRouter(tags=["system"])


class Health(BaseModel):
    """Whether the process answers."""

    status: str


class Readiness(BaseModel):
    """Whether jobs can be accepted and run."""

    status: str
    database: bool
    broker: bool


@workers.get("/workers", summary="Live workers", responses=responses())
def list_workers(state: InState) -> WorkerPage:
    """Workers that were heard of within half a minute."""
    return WorkerPage(items=state.store.workers.alive(DEAD_WORKER_SECONDS))


class RetentionPage(BaseModel):
    """What is kept, and what the next sweep would delete."""

    policy: Retention
    items: list[ExpiredJob]


@workers.get("/retention", summary="What is kept, and what would go", responses=responses())
def read_retention(
    state: InState,
    limit: Annotated[int, Query(ge=1, le=1000, description="of each kind of job")] = 100,
) -> RetentionPage:
    """A dry run: nothing is deleted.

    The policy is the operator's, FFLAB_RETENTION; a pinned job stays.
    """
    policy = state.settings.retention
    return RetentionPage(policy=policy, items=outdated(state.store, policy, limit))


@router.get("/healthz", summary="Alive?")
def read_health() -> Health:
    """The process answers."""
    return Health(status="ok")


@router.get(
    "/readyz",
    summary="Ready?",
    responses={503: {"model": Readiness, "description": "The database or the broker is away"}},
)
def read_readiness(state: InState, response: Response) -> Readiness:
    """Database and broker answer.

    Jobs are accepted without the broker as well; they start when it is back.
    """
    broker = state.reconciler.broker_ok
    database, status = True, "ready" if broker else "not ready"
    try:
        state.store.database.ping()
    except DatabaseReplaced as error:
        database, status = False, f"not ready: {problems.database_away(error).detail}"
    except DATABASE_ERRORS:
        database, status = False, "not ready"
    response.status_code = 200 if database and broker else 503
    return Readiness(status=status, database=database, broker=broker)


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **responses(problems.DatabaseAway)},
)
def read_metrics(state: InState) -> Response:
    """Jobs by state, the longest wait, live workers, the broker; from the database, so the same in
    every API process.
    """
    lines = ["# HELP fflab_jobs Jobs by state, studies left out.", "# TYPE fflab_jobs gauge"]
    lines += [
        f'fflab_jobs{{state="{name}"}} {count}' for name, count in state.store.jobs.counts().items()
    ]
    waited = state.store.queue.longest_wait_seconds() or 0.0
    gauges = {
        "fflab_longest_wait_seconds": (
            "Time that the job that waits longest has been queued.",
            waited,
        ),
        "fflab_workers": ("Live workers.", len(state.store.workers.alive(DEAD_WORKER_SECONDS))),
        "fflab_broker_up": ("1 where the broker answered last.", int(state.reconciler.broker_ok)),
    }
    for name, (meaning, value) in gauges.items():
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge", f"{name} {value:g}"]
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get(
    "/problems/{code}", summary="What a problem means", responses=responses(problems.NoSuchPage)
)
def read_problem(
    code: Annotated[str, Path(description="the code of a problem")],
) -> dict[str, str | int]:
    """Title and advice of a kind of problem: where the `type` of every error points."""
    kind = problems.PROBLEMS.get(code)
    if kind is None:
        raise problems.NoSuchPage(
            f"there is no problem {code!r}; there are {', '.join(problems.PROBLEMS)}"
        )
    return {"code": code, "status": kind.status, "title": kind.title(), "advice": kind.advice()}
