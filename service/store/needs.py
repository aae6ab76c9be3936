"""Which jobs are needed by others that have not ended, and are therefore kept."""

import contextlib
from collections.abc import Collection, Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from ffengine.spec import Submission
from ffengine.study import trainings_named
from ffengine.text import STORED
from service.jobs import TERMINAL, JobState
from service.store.tables import JobRow

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
        # of a study that today's code cannot read, no more runs are made
        with contextlib.suppress(ValueError):
            spec = Submission.model_validate({"spec": document}, context=STORED).spec
            yield job_id, trainings_named(spec)
