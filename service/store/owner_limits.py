"""What one owner may submit: jobs that wait or go first, time of GPUs in a day, room on disks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from service.jobs import JobState
from service.store.api_keys import OwnerLimits, limits_of
from service.store.needs import UNFINISHED
from service.store.queue_limit import UNMADE, WAITING_UNMADE
from service.store.tables import JobRow, now_seconds
from service.store.usage import bytes_of

DAY_SECONDS = 86_400.0
SOON_SECONDS = 30.0
MEASURE_SECONDS = 300.0  # the room that artifacts take up is measured so often
HIGH = 2  # the number of the priority high, see inserts.PRIORITIES


class SubmitLimits(NamedTuple):
    """The limits of owners whose keys have none of their own; None: there is none."""

    of_key: OwnerLimits = OwnerLimits()
    max_high: int | None = None


class OwnerLimitReached(Exception):
    """An owner has as much as is allowed of what `name` says: `has`, of `most`.

    `asked` is how much more was asked for; `again_seconds` is when it may be worth another try.
    """

    def __init__(
        self, owner: str, name: str, has: int, asked: int, most: int, again_seconds: float
    ) -> None:
        super().__init__(f"{owner} has {has} of {most} {name}")
        self.owner, self.name, self.has, self.asked, self.most = owner, name, has, asked, most
        self.again_seconds = again_seconds


def refuse_beyond(
    session: Session, owner: str | None, *, jobs: int, is_high: bool, limits: SubmitLimits
) -> None:
    """Raise OwnerLimitReached where an owner may not submit so many more jobs.

    Where no key was needed there is no owner, and no limit.
    """
    if owner is None:
        return
    own = limits_of(session, owner, limits.of_key)
    _refuse_used(session, owner, own)
    if own.max_queued is not None:
        _refuse_jobs(session, owner, "queued", jobs, own.max_queued)
    if is_high and limits.max_high is not None:
        _refuse_jobs(session, owner, "high", jobs, limits.max_high)


@contextmanager
def bounded(session: Session, owner: str | None, limits: SubmitLimits) -> Iterator[None]:
    """Let an action queue jobs of an owner again, as long as they stay within the limits.

    What was beyond a limit before may stay so. Raises OwnerLimitReached at the end; the transaction
    is undone with it.
    """
    if owner is None:
        yield
        return
    own = limits_of(session, owner, limits.of_key)
    bounds = {"queued": own.max_queued, "high": limits.max_high}
    most = {name: bound for name, bound in bounds.items() if bound is not None}
    measured = own.max_gpu_seconds is not None or own.max_bytes is not None
    counted = {*most, *(("queued",) if measured else ())}
    had = {name: _count(session, owner, name) for name in counted}
    yield
    has = {name: _count(session, owner, name) for name in counted}
    if measured and has["queued"] > had["queued"]:
        _refuse_used(session, owner, own)
    for name, bound in most.items():
        if has[name] > max(had[name], bound):
            more = has[name] - had[name]
            raise OwnerLimitReached(owner, name, had[name], more, bound, SOON_SECONDS)


def _refuse_used(session: Session, owner: str, own: OwnerLimits) -> None:
    """Refuse more jobs while those that were computed have used too much."""
    if own.max_gpu_seconds is not None:
        _refuse_time(session, owner, own.max_gpu_seconds)
    if own.max_bytes is not None and (has := bytes_of(session, owner)) >= own.max_bytes:
        raise OwnerLimitReached(owner, "bytes", has, 0, own.max_bytes, MEASURE_SECONDS)


def _refuse_jobs(session: Session, owner: str, name: str, jobs: int, most: int) -> None:
    """Refuse more jobs than may wait, or than may be unfinished with the priority high."""
    has = _count(session, owner, name)
    if has + jobs > most:
        raise OwnerLimitReached(owner, name, has, jobs, most, SOON_SECONDS)


def _count(session: Session, owner: str, name: str) -> int:
    """How many jobs of an owner wait (`queued`), or are unfinished with the priority `high`."""
    of_owner, going_on = [JobRow.submitted_by == owner], JobRow.state == JobState.queued.value
    unmade = WAITING_UNMADE
    if name == "high":
        of_owner, going_on, unmade = [*of_owner, JobRow.priority == HIGH], UNFINISHED, UNMADE
    own = select(func.count()).where(going_on, JobRow.kind != "study", *of_owner)
    both = own.scalar_subquery() + unmade.where(*of_owner).scalar_subquery()
    return session.scalar(select(both)) or 0


def _refuse_time(session: Session, owner: str, most: int) -> None:
    """Refuse submits while the jobs that ended within a day took too long on GPUs."""
    since = now_seconds() - DAY_SECONDS
    query = select(func.sum(JobRow.gpu_seconds), func.min(JobRow.finished_at), now_seconds()).where(
        JobRow.submitted_by == owner, JobRow.finished_at > since, JobRow.gpu_seconds > 0
    )
    took, oldest, now = session.execute(query).one()
    if (took or 0.0) >= most and oldest is not None:
        again = max(1.0, oldest + DAY_SECONDS - now)
        raise OwnerLimitReached(owner, "gpu-seconds", int(took or 0.0), 0, most, again)
