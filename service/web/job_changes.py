"""Changes of a job that a user asks for; what is not allowed is raised as the problem that says so.

Routes of the API and forms of the pages share them.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

from pydantic import ConfigDict, Field

from ffengine.entry import ExactTypes
from ffengine.text import NoteText, UserText
from service.background.retention import remove_job
from service.encoding.viewer import by_key
from service.jobs import Job, Priority
from service.placement import Needs
from service.store import NotAllowed, OwnerLimitReached, PartOfStudy, StillNeeded, WeightsGone
from service.submission import limits_of_owners
from service.web import problems
from service.web.dependencies import Resources
from service.web.lookup import find_own_job

Action = Literal["cancel", "pause", "resume", "retry"]
MOST_NAMED = 5  # of the jobs that need one that is to be deleted
PARTICIPLES = {"cancel": "cancelled", "pause": "paused", "resume": "resumed", "retry": "retried"}

log = logging.getLogger(__name__)


class JobChanges(ExactTypes):
    """The fields of a job that may be changed in any state; a field that is left out stays."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"pinned": True, "priority": "high"}]}
    )

    name: UserText | None = None
    tags: list[UserText] = Field(default=[], max_length=20)
    project: UserText | None = Field(None, description="null: it belongs to none")
    note: NoteText | None = Field(None, description="a remark for people; not that of its runs")
    priority: Priority = Field(
        "normal", description="where it stands in the queue; of a study, its runs"
    )
    needs: Needs | None = Field(
        None,
        description="what it needs of the worker that computes it, and of a study, of those of "
        "its runs; null: nothing but the memory of the estimate",
    )
    pinned: bool = Field(False, description="keep it, whatever the retention says")


def act_on(resources: Resources, job_id: str, action: Action) -> Job:
    """Ask for an action on a job.

    Raises NoSuchJob, NotYours, WrongState, QueueIsFull and LimitReached.
    """
    on = resources.store.actions
    most, limits = resources.settings.max_queued, limits_of_owners(resources.settings)
    actions: dict[str, Callable[[str], Job]] = {
        "cancel": on.cancel,
        "pause": on.pause,
        "resume": partial(on.resume, max_queued=most, limits=limits),
        "retry": partial(on.retry, max_queued=most, limits=limits),
    }
    find_own_job(resources.store, job_id)
    try:
        job = actions[action](job_id)
    except LookupError as error:
        raise problems.NoSuchJob from error
    except NotAllowed as error:
        raise problems.WrongState(
            f"{job_id} is {error.state.value}: it cannot be {PARTICIPLES[action]}",
            state=error.state.value,
        ) from error
    except OwnerLimitReached as error:
        raise problems.limit_reached(error) from error
    except WeightsGone as error:
        raise problems.WrongState(
            f"{job_id} cannot be retried: it needs the weights of {error.job}, which was deleted"
        ) from error
    log.info("%s: %s%s", job_id, PARTICIPLES[action], by_key(), extra={"job_id": job_id})
    resources.reconciler.wake()
    return job


def change(resources: Resources, job_id: str, given: Mapping[str, Any]) -> Job:
    """Change fields that do not affect the computation.

    Raises NoSuchJob, NotYours and LimitReached.
    """
    find_own_job(resources.store, job_id)
    try:
        job = resources.store.actions.update(
            job_id, given=given, max_high=resources.settings.max_high_per_key
        )
    except LookupError as error:
        raise problems.NoSuchJob from error
    except OwnerLimitReached as error:
        raise problems.limit_reached(error) from error
    fields = ", ".join(sorted(given))
    log.info("%s: %s changed%s", job_id, fields or "nothing", by_key(), extra={"job_id": job_id})
    resources.reconciler.wake()
    return job


def remove(resources: Resources, job_id: str) -> None:
    """Delete a job that has ended, with its artifacts.

    Raises NoSuchJob, NotYours and WrongState.
    """
    find_own_job(resources.store, job_id)
    try:
        remove_job(
            resources.store,
            resources.artifacts,
            job_id,
            f"DELETE was asked for{by_key()}",
        )
    except LookupError as error:
        raise problems.NoSuchJob from error
    except PartOfStudy as error:
        raise problems.WrongState(
            f"{job_id} is a run of {error.study}: delete the study as a whole", study=error.study
        ) from error
    except StillNeeded as error:
        raise problems.WrongState(
            f"{job_id} is needed by {_some(error.by)}: wait for the end of "
            f"{'that' if len(error.by) == 1 else 'these'}, or cancel and then delete",
            needed_by=error.by[:MOST_NAMED],
        ) from error
    except NotAllowed as error:
        raise problems.WrongState(
            f"{job_id} is {error.state.value}: only jobs that have ended can be deleted; cancel "
            f"it first"
        ) from error


def _some(job_ids: list[str]) -> str:
    more = len(job_ids) - MOST_NAMED
    return ", ".join(job_ids[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
