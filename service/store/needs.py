"""Which jobs are needed by others that have not ended, and are therefore kept.

A transaction that stores a job which needs others holds their rows, and one that deletes jobs locks
theirs before it asks who needs them. So the two wait for each other, and the second one sees what
the first one did.
"""

import contextlib
from collections.abc import Collection, Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from ffengine.spec import Submission
from ffengine.study import trainings_named
from ffengine.text import STORED
from service.jobs import TERMINAL, JobState
from service.store.tables import Document, JobRow

LOOKED_UP_AT_ONCE = 500
UNFINISHED = JobRow.state.in_([state.value for state in JobState if state not in TERMINAL])
_AT_JOB = JobRow.spec[("at", "job")].as_string()
# the training jobs whose weights unfinished checks ask for
NAMED_BY_CHECKS = select(_AT_JOB).where(JobRow.kind == "check", UNFINISHED, _AT_JOB.is_not(None))


class StillNeeded(Exception):
    """A job is needed by others that have not ended; `by` are their ids, in order."""

    def __init__(self, by: list[str]) -> None:
        super().__init__(", ".join(by))
        self.by = by


class WeightsGone(Exception):
    """The weights of a training job are asked for that is not there; `job` is its id."""

    def __init__(self, job: str) -> None:
        super().__init__(f"there is no training job {job}")
        self.job = job


def hold(session: Session, job_ids: Collection[str]) -> set[str]:
    """Keep jobs from being deleted until the transaction ends; which of them are there."""
    found: set[str] = set()
    asked = sorted(job_ids)
    for first in range(0, len(asked), LOOKED_UP_AT_ONCE):
        some = select(JobRow.id).where(JobRow.id.in_(asked[first : first + LOOKED_UP_AT_ONCE]))
        # others may change the rows, but not delete them
        held = some.order_by(JobRow.id).with_for_update(read=True, key_share=True)
        found |= set(session.scalars(held))
    return found


def hold_trainings(session: Session, job_ids: Collection[str]) -> None:
    """Keep the training jobs whose weights are asked for. Raises WeightsGone."""
    if missing := set(job_ids) - hold(session, job_ids):
        raise WeightsGone(min(missing))


def named_again(session: Session, job: JobRow) -> set[str]:
    """The training jobs whose weights are asked for if a job is queued again.

    Of a study these are the ones that its failed and cancelled runs name, and those that it has not
    made yet.
    """
    again = JobRow.state.in_([JobState.failed.value, JobState.cancelled.value])
    runs = (JobRow.id == job.id) | (JobRow.parent_id == job.id)
    named = select(_AT_JOB).where(runs, again, JobRow.kind == "check", _AT_JOB.is_not(None))
    found = {name for name in session.scalars(named.distinct()) if name}
    if job.kind == "study" and (job.cells_made or 0) < (job.cells or 0):
        found |= _named_by_study(job.spec)
    return found


def named_by_studies(session: Session) -> set[str]:
    """The training jobs whose weights unfinished studies ask for, in runs not made yet too."""
    return set[str]().union(*(named for _, named in _studies(session)))


def needed_by(session: Session, job_ids: Collection[str]) -> list[str]:
    """The unfinished jobs that need one of these jobs, in order.

    Those are checks and studies that ask for the weights of one, and jobs that share the result of
    an identical one and have not got it yet.
    """
    found = {study for study, named in _studies(session) if not named.isdisjoint(job_ids)}
    asked = sorted(job_ids)
    leader = aliased(JobRow)
    for first in range(0, len(asked), LOOKED_UP_AT_ONCE):
        some = asked[first : first + LOOKED_UP_AT_ONCE]
        checks = select(JobRow.id).where(JobRow.kind == "check", UNFINISHED, _AT_JOB.in_(some))
        waiting = (
            select(JobRow.id)
            .join(leader, leader.id == JobRow.waits_for)
            .where(
                JobRow.waits_for.in_(some),
                JobRow.state == JobState.queued.value,
                leader.state == JobState.succeeded.value,
            )
        )
        found |= {*session.scalars(checks), *session.scalars(waiting)}
    return sorted(found)


def on_weights_of(session: Session, dataset: str) -> set[str]:
    """The unfinished checks and studies that ask for weights which were trained on a data set."""
    training = aliased(JobRow)
    on_it = training.spec[("dataset", "name")].as_string() == dataset
    checks = select(JobRow.id).join(training, training.id == _AT_JOB)
    found = set(session.scalars(checks.where(JobRow.kind == "check", UNFINISHED, on_it)))
    for study, named in _studies(session):
        asked = sorted(named)
        for first in range(0, len(asked), LOOKED_UP_AT_ONCE):
            some = training.id.in_(asked[first : first + LOOKED_UP_AT_ONCE])
            if session.scalar(select(training.id).where(some, on_it).limit(1)):
                found.add(study)
    return found


def _studies(session: Session) -> Iterator[tuple[str, set[str]]]:
    """Each unfinished study with the training jobs whose weights it asks for."""
    rows = select(JobRow.id, JobRow.spec).where(JobRow.kind == "study", UNFINISHED)
    for job_id, document in session.execute(rows):
        yield job_id, _named_by_study(document)


def _named_by_study(document: Document) -> set[str]:
    """The training jobs that a stored study names.

    Of a study that today's code cannot read, no more runs are made.
    """
    with contextlib.suppress(ValueError):
        spec = Submission.model_validate({"spec": document}, context=STORED).spec
        return trainings_named(spec)
    return set()
