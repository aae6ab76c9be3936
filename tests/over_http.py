"""Jobs over HTTP, and what a refusal says."""

from typing import Any

import httpx

from ffengine.results import TrainResult
from service.jobs import Job
from service.store import Store
from service.web.problems import ProblemDetails
from tests.factories import HALF, LEASE
from tests.service.samples import check_result, train_result

TRAIN = {"kind": "train", "epochs": 2}
NOBODY = "job_" + "0" * 32


def submit(client: httpx.Client, spec: dict[str, Any] | None = None, **fields: Any) -> Job:
    response = client.post("/v1/jobs", json={"spec": spec or TRAIN, **fields})
    assert response.status_code == 202, response.text
    assert response.headers["location"] == f"/v1/jobs/{response.json()['id']}"
    return Job.model_validate(response.json())


def succeed(store: Store, job_id: str) -> None:
    claim = store.queue.claim(job_id, "w", LEASE)
    assert claim is not None
    result = train_result() if claim.spec.kind == "train" else check_result()
    rows = result.curves if isinstance(result, TrainResult) else result.cells
    store.queue.record(job_id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    store.queue.finish(job_id, claim.attempt, result)


def refused(response: httpx.Response, status: int, code: str) -> ProblemDetails:
    """The problem of a refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = ProblemDetails.model_validate(response.json())
    assert (problem.status, problem.code, problem.type) == (status, code, f"/problems/{code}")
    return problem
