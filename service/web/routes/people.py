"""Routes about who uses the service: what is used, and who did what."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from ffengine.text import SearchText
from service.schemas import AuditPage, UsagePage
from service.store.usage import By
from service.web import problems
from service.web.dependencies import StoreDep, require_admin
from service.web.problems import responses
from service.web.routes.jobs import Time

router = APIRouter(tags=["people"])

ByQuery = Annotated[By, Query(description="what each line is of")]


@router.get("/usage", summary="What is used", responses=responses())
def read_usage(
    store: StoreDep,
    by: ByQuery = "owner",
    since: Annotated[
        Time | None,
        Query(
            description="only jobs that have not ended, or ended at this time or later, as "
            "2026-11-26T08:00:00Z; of deleted jobs, those that ended on that day or later"
        ),
    ] = None,
) -> UsagePage:
    """Jobs, seconds of devices and bytes of artifacts, the largest use of devices first.

    Jobs that were deleted count with what they used. Private jobs of others are left out, except
    for administrators.
    """
    return store.usage.page(by, since)


@router.get(
    "/audit",
    summary="Who did what",
    dependencies=[Depends(require_admin)],
    responses=responses(problems.KeyMayNot),
)
def read_audit(
    store: StoreDep,
    limit: Annotated[int, Query(ge=1, le=500, description="most lines of a page")] = 50,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9]{1,18}$", description="next_cursor of the page before")
    ] = None,
    actor: Annotated[SearchText | None, Query(description="the name of the key")] = None,
    action: Annotated[SearchText | None, Query(description="as `cancel` or `make-key`")] = None,
    target: Annotated[
        SearchText | None, Query(description="the id of the job or key, or the upload's name")
    ] = None,
    since: Annotated[Time | None, Query(description="only at this time or later")] = None,
    until: Annotated[Time | None, Query(description="only before this time")] = None,
) -> AuditPage:
    """What was done to jobs, keys, share links and uploads, the newest first.

    It is for administrators. It holds no secrets. FFLAB_AUDIT_DAYS says how long a line is kept;
    until then nothing changes it.
    """
    return store.audit.page(
        limit=limit,
        before=int(cursor) if cursor else None,
        actor=actor,
        action=action,
        target=target,
        since=since,
        until=until,
    )
