"""Routes of share links: make, list, revoke."""

import secrets
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from service.encoding.viewer import VIEWER
from service.schemas import NewShare, SharePage, ShareRequest
from service.store import TooManyShares
from service.web import problems
from service.web.dependencies import SettingsDep, StoreDep
from service.web.json_bodies import body_of, json_body
from service.web.lookup import find_job, find_own_job
from service.web.problems import responses
from service.web.routes.jobs import JobId
from service.web.sharing import address_of, base_address, digest_of, new_secret, share_of

router = APIRouter(tags=["shares"])

ShareBody = Annotated[ShareRequest, Depends(json_body(ShareRequest))]


@router.post(
    "/jobs/{job_id}/shares",
    status_code=201,
    summary="Make a share link",
    openapi_extra=body_of(ShareRequest),
    responses=responses(problems.NoSuchJob, problems.NotYours, problems.EnoughShares),
)
def share_job(
    job_id: JobId, body: ShareBody, request: Request, store: StoreDep, settings: SettingsDep
) -> NewShare:
    """Make an address at which anybody may read this job, without a key.

    It shows the job's page, charts, results and report, of a study those of its runs, and nothing
    else. This answer alone has the address: the service stores a hash of it.
    """
    find_own_job(store, job_id)
    secret = new_secret()
    try:
        made = store.shares.add(
            f"share_{secrets.token_hex(6)}",
            job_id,
            digest_of(secret),
            created_by=VIEWER.get().name,
            expires_in_seconds=body.expires_seconds,
        )
    except LookupError as error:
        raise problems.NoSuchJob from error
    except TooManyShares as error:
        raise problems.EnoughShares from error
    address = address_of(secret, base_address(request, settings.public_url))
    return NewShare(**share_of(made).model_dump(), url=address)


@router.get(
    "/jobs/{job_id}/shares", summary="The share links", responses=responses(problems.NoSuchJob)
)
def list_shares(job_id: JobId, store: StoreDep) -> SharePage:
    """The links of this job that are valid, oldest first, without their addresses."""
    find_job(store, job_id, unread=True)
    return SharePage(items=[share_of(one) for one in store.shares.of(job_id)])


@router.delete(
    "/jobs/{job_id}/shares",
    status_code=204,
    summary="Revoke all share links",
    responses=responses(problems.NoSuchJob, problems.NotYours),
)
def revoke_shares(job_id: JobId, store: StoreDep) -> Response:
    """Revoke all links of this job: their addresses answer 404 from now on."""
    find_own_job(store, job_id)
    store.shares.revoke(job_id)
    return Response(status_code=204)


@router.delete(
    "/jobs/{job_id}/shares/{share_id}",
    status_code=204,
    summary="Revoke a share link",
    responses=responses(problems.NoSuchJob, problems.NotYours, problems.NoSuchShare),
)
def revoke_share(
    job_id: JobId,
    share_id: Annotated[str, Path(max_length=100, pattern="^[!-~]*$", description="its `id`")],
    store: StoreDep,
) -> Response:
    """Revoke a link: its address answers 404 from now on."""
    find_own_job(store, job_id)
    if not store.shares.revoke(job_id, share_id):
        raise problems.NoSuchShare(f"{job_id} has no link {share_id}")
    return Response(status_code=204)
