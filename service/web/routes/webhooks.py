"""Routes of webhooks: which messages were sent, and sending one again."""

import math
from typing import Annotated

from fastapi import APIRouter, Path

from service.encoding.viewer import shown_address
from service.schemas import Delivery, DeliveryPage
from service.web import problems
from service.web.dependencies import ResourcesDep, StoreDep
from service.web.lookup import find_job, find_own_job
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

    They are signed as Standard Webhooks, and retried for a day. Of the address, keys other than
    that of the submitter see scheme, host and port.
    """
    job = find_job(store, job_id, unread=True)
    found = store.deliveries.webhook_address(job_id)
    return DeliveryPage(
        url=shown_address(found["url"], job.submitted_by) if found else None,
        states=found["states"] if found else [],
        items=[Delivery.model_validate(one) for one in store.deliveries.of(job_id)],
    )


@router.post(
    "/jobs/{job_id}/webhook/{delivery_id}/redeliver",
    status_code=202,
    summary="Send a message again",
    responses=responses(
        problems.NoSuchJob, problems.NotYours, problems.NoSuchDelivery, problems.SentTooOften
    ),
)
def redeliver_message(
    job_id: JobId,
    delivery_id: Annotated[
        str, Path(max_length=100, pattern="^[!-~]*$", description="as in the message's `id`")
    ],
    resources: ResourcesDep,
) -> Delivery:
    """Send a message again at once, with the same id and body.

    Messages that were delivered or given up may be sent again, too. Those of one job are sent again
    a few times a minute; beyond that, Retry-After says when.
    """
    find_own_job(resources.store, job_id)
    if wait := resources.redeliveries.wait_seconds(job_id):
        raise problems.SentTooOften(headers={"Retry-After": str(math.ceil(wait))})
    found = resources.store.deliveries.redeliver(job_id, delivery_id)
    if found is None:
        raise problems.NoSuchDelivery(f"{job_id} has no message {delivery_id}")
    resources.webhook_sender.wake()
    return Delivery.model_validate(found)
