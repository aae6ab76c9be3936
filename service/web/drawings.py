"""Charts and reports as answers: drawn by a renderer, and only where the client needs them."""

from starlette.responses import Response

from service.jobs import Job
from service.results.chart_formats import FORMATS
from service.web import problems
from service.web.drawing.pictures import Pictures
from service.web.drawing.pool import RenderersBusy
from service.web.drawing.process import RendererFailed, too_much
from service.web.drawing.protocol import NAMES, NamesRequest, Request
from service.web.file_responses import FileRequest, etag_of, file_response, is_known
from service.web.security_headers import INERT

BUSY_RETRY_SECONDS = 5


async def drawn(pictures: Pictures, request: Request, version: int) -> bytes:
    """Return what is drawn from a version of a job.

    Raises NoSuchJob, NoSuchChart, NotDrawn, RenderersAreBusy and DatabaseAway.
    """
    try:
        answer, content = await pictures.get(request, version)
    except RenderersBusy as error:
        raise problems.RenderersAreBusy(headers={"Retry-After": str(BUSY_RETRY_SECONDS)}) from error
    except RendererFailed as error:
        raise _not_drawn(str(error)) from error
    match answer.outcome:
        case "done":
            return content
        case "nothing":
            raise problems.NoSuchChart(answer.detail)
        case "no_job":
            raise problems.NoSuchJob
        case "memory":
            raise _not_drawn(too_much(pictures.memory_bytes))
        case "database_away":
            raise problems.DatabaseAway(headers={"Retry-After": str(problems.RETRY_SECONDS)})
        case "failed":
            raise _not_drawn(answer.detail)


async def chart_names(pictures: Pictures, job: Job, version: int) -> dict[str, str]:
    """Return the charts that a job has, each with its meaning. Raises as `drawn` does."""
    content = await drawn(pictures, NamesRequest(job_id=job.id), version)
    return NAMES.validate_json(content)


def no_such_chart(file: str, names: dict[str, str]) -> problems.NoSuchChart:
    """Return the problem for a chart that the job does not have."""
    return problems.NoSuchChart(
        f"{file!r} is not a chart of this job; there are {', '.join(names) or 'none'}, each as "
        f"{', '.join(FORMATS)}"
    )


async def drawing_response(
    pictures: Pictures,
    job: Job,
    version: int,
    what: str,
    request: Request,
    media_type: str,
    asked: FileRequest,
    *,
    policy: str = INERT,
) -> Response:
    """Send what is drawn; a client that has it, or asks for the head, has nothing drawn."""
    needed = not (asked.head_only or is_known(etag_of(job, version, what), asked.if_none_match))
    content = await drawn(pictures, request, version) if needed else b""
    return file_response(
        job,
        version,
        what,
        media_type,
        lambda: content,
        asked,
        inline=True,
        policy=policy,
        costly=True,
        in_parts=False,
    )


def _not_drawn(why: str) -> problems.NotDrawn:
    return problems.NotDrawn(
        f"The process that drew it has ended: {why}. {problems.NotDrawn.advice}"
    )
