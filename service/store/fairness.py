"""Whose turn it is: the owners of queued jobs, in the order in which they are served.

Within a level of priority, the owner with the fewest running jobs goes first; of several, the one
whose last job began longest ago. Of one owner's jobs, the first is the one of lowest rank. Each of
a few owners costs two look-ups in an index, however many jobs wait.
"""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import CTE, ColumnElement, func, select, text
from sqlalchemy.orm import Session

from service.jobs import JobState
from service.store.api_keys import OwnerLimits, limits_by_owner
from service.store.tables import JobRow

QUEUED = JobRow.state == JobState.queued.value
# built once, because every claim asks it
_JOBS = JobRow.__table__
_PAST, _FIRST = _JOBS.alias("past"), _JOBS.alias("first")
_NOBODY_BEGAN = select(func.max(_JOBS.c.started_at)).where(_JOBS.c.submitted_by.is_(None))
_SOME_OWNER = select(func.min(JobRow.submitted_by)).where(QUEUED)


def _names() -> CTE:
    """The owners of queued jobs in order; the index is asked for one after the other."""
    first = select(func.min(_JOBS.c.submitted_by).label("owner"))
    names = first.where(_JOBS.c.state == JobState.queued.value).cte("owners", recursive=True)
    following = select(func.min(_JOBS.c.submitted_by)).where(
        _JOBS.c.state == JobState.queued.value, _JOBS.c.submitted_by > names.c.owner
    )
    return names.union_all(select(following.scalar_subquery()).where(names.c.owner.is_not(None)))


_NAMES = _names()
_BEGAN = select(func.max(_PAST.c.started_at)).where(_PAST.c.submitted_by == _NAMES.c.owner)
_HEADS = select(
    _NAMES.c.owner,
    _FIRST.c.id,
    _FIRST.c.priority,
    _FIRST.c.rank,
    _BEGAN.correlate(_NAMES).scalar_subquery(),
)


class Turn(NamedTuple):
    """An owner of jobs that can be begun: the first of them, and what the owner has had.

    `running` counts the owner's jobs that run; `began_at` is when one of them began last, and
    `limit` how many may run.
    """

    owner: str | None
    job_id: str
    priority: int
    rank: float
    running: int = 0
    began_at: float = 0.0
    limit: int | None = None


def in_order(turns: Sequence[Turn]) -> list[Turn]:
    """The owners as they are served.

    Those go first whose first job has the highest priority, and those whose job was queued so much
    earlier that it goes before all of these by its rank: nobody waits for ever for those who say
    `high`.
    """
    left, found = list(turns), []
    while left:
        level = max(turn.priority for turn in left)
        bar = min(turn.rank for turn in left if turn.priority == level)
        now = [turn for turn in left if turn.priority == level or turn.rank <= bar]
        found += sorted(now, key=lambda one: (one.running, one.began_at, one.rank, one.job_id))
        left = [turn for turn in left if turn not in now]
    return found


def turns_of(
    session: Session,
    *claimable: ColumnElement[bool],
    max_running: int | None = None,
) -> list[Turn]:
    """The owners of jobs that can be begun, in the order in which they are served.

    **Arguments:**

    - `claimable`: which jobs can be begun.
    - `max_running`: how many jobs of an owner may run at once, where the owner's key does not say
      it; jobs without an owner are not limited.
    """
    found = [*_of_nobody(session, claimable), *_of_owners(session, claimable)]
    if not found or (len(found) == 1 and found[0].owner is None):
        return found
    nobody_began = session.scalar(_NOBODY_BEGAN) if found[0].owner is None else None
    running = _running(session)
    limits, usual = limits_by_owner(session), OwnerLimits(max_running=max_running)
    turns = [
        turn._replace(
            running=running.get(turn.owner, 0),
            began_at=(nobody_began or 0.0) if turn.owner is None else turn.began_at,
            limit=None
            if turn.owner is None
            else limits.get(turn.owner, usual).else_those_of(usual).max_running,
        )
        for turn in found
    ]
    return in_order([turn for turn in turns if _below(turn.running, turn.limit)])


def first_of(
    session: Session,
    turn: Turn,
    *claimable: ColumnElement[bool],
    is_sqlite: bool,
) -> str | None:
    """The first job of an owner, locked; None where others have taken what there was.

    Two workers at once do not go beyond what may run of an owner: one waits for the other.
    """
    if turn.owner is not None and turn.limit is not None:
        if not is_sqlite:  # which has one writer
            lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:owner, 4))")
            session.execute(lock, {"owner": turn.owner})
        if not _below(_running(session).get(turn.owner, 0), turn.limit):
            return None
    query = select(JobRow.id).where(_is_of(turn.owner), *claimable)
    first = query.order_by(JobRow.rank, JobRow.id).limit(1).with_for_update(skip_locked=True)
    return session.scalar(first)


def _below(running: int, limit: int | None) -> bool:
    return limit is None or running < limit


def _is_of(owner: str | None) -> ColumnElement[bool]:
    return JobRow.submitted_by.is_(None) if owner is None else JobRow.submitted_by == owner


def _of_nobody(session: Session, claimable: Sequence[ColumnElement[bool]]) -> list[Turn]:
    """The first job that has no owner, if there is one."""
    query = select(JobRow.id, JobRow.priority, JobRow.rank).where(_is_of(None), *claimable)
    found = session.execute(query.order_by(JobRow.rank, JobRow.id).limit(1)).first()
    return [] if found is None else [Turn(None, *found)]


def _of_owners(session: Session, claimable: Sequence[ColumnElement[bool]]) -> list[Turn]:
    """The first job of each owner; the index is asked for one owner after the other."""
    if session.scalar(_SOME_OWNER) is None:  # so on a service without keys
        return []
    head = (
        select(JobRow.id)
        .where(JobRow.submitted_by == _NAMES.c.owner, *claimable)
        .order_by(JobRow.rank, JobRow.id)
        .limit(1)
        .correlate(_NAMES)
        .scalar_subquery()
    )
    return [
        Turn(owner, job_id, priority, rank, began_at=began_at or 0.0)
        for owner, job_id, priority, rank, began_at in session.execute(
            _HEADS.select_from(_NAMES.join(_FIRST, _FIRST.c.id == head))
        )
    ]


def _running(session: Session) -> dict[str | None, int]:
    """How many jobs of each owner run; never more than there are workers."""
    running = (JobRow.state == JobState.running.value, JobRow.kind != "study")
    query = select(JobRow.submitted_by, func.count()).where(*running)
    return dict(session.execute(query.group_by(JobRow.submitted_by)).all())
