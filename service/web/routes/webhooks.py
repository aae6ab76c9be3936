"""Routes of webhooks: which messages were sent, and sending one again."""

from typing import Annotated

from fastapi import APIRouter, Path

from service.schemas import Delivery, DeliveryPage
from service.web import problems
from service.web.dependencies import ResourcesDep, StoreDep
from service.web.lookup import find_job
from service.web.problems import responses
from service.web.routes.jobs import JobId

router = APIRouter(tags=["webhooks"])


@router.get(
    "/jobs/{job_id}/webhook",
    summary="Messages to the job's webhook",
    responses=responses(problems.NoSuchJob),
)
def read_deliveries(job_id: JobId, store: StoreDep) -> DeliveryPage:
    """The messages to the job's webhook, newest first, with each attempt.

    They are signed as Standard Webhooks, and retried for a day.
    """
    find_job(store, job_id)
    address = store.deliveries.webhook_address(job_id) or {"url": None, "states": []}
    return DeliveryPage(
        **address,
        items=[Delivery.model_validate(found) for found in store.deliveries.of(job_id)],
    )


@router.post(
    "/jobs/{job_id}/webhook/{delivery_id}/redeliver",
    status_code=202,
    summary="Send a message again",
    responses=responses(problems.NoSuchJob, problems.NoSuchDelivery),
)
def redeliver_message(
    job_id: JobId,
    delivery_id: Annotated[
        str, Path(max_length=100, pattern="^[!-~]*$", description="as in the message's `id`")
    ],
    resources: ResourcesDep,
) -> Delivery:
    """Send a message again at once, with the same id and body.

    Messages that were delivered or given up may be sent again, too.
    """
    find_job(resources.store, job_id)
    found = resources.store.deliveries.redeliver(job_id, delivery_id)
    if found is None:
        raise problems.NoSuchDelivery(f"{job_id} has no message {delivery_id}")
    resources.webhook_sender.wake()
    return Delivery.model_validate(found)
