"""The bound on waiting jobs holds exactly, and what is far from it is not counted again."""

import pytest
from sqlalchemy.orm import Session

from service.jobs import NewJob
from service.store import QueueFull, Store, queue_limit
from tests.factories import TRAIN


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What each count of the waiting jobs found."""
    found: list[int] = []
    count = queue_limit.count_waiting

    def noted(session: Session) -> int:
        found.append(count(session))
        return found[-1]

    monkeypatch.setattr(queue_limit, "count_waiting", noted)
    monkeypatch.setattr(queue_limit, "RECOUNT_SECONDS", 1e9)
    return found


def send(store: Store, most: int) -> bool:
    try:
        store.jobs.submit(NewJob(spec=TRAIN, fresh=True), max_queued=most)
    except QueueFull:
        return False
    return True


def test_jobs_far_from_the_bound_are_counted_once(either_store: Store, counted: list[int]) -> None:
    assert all(send(either_store, 10_000) for _ in range(20))
    assert counted == [0]
    assert either_store.jobs.counts()["queued"] == 20


def test_jobs_near_the_bound_are_counted_each_time(either_store: Store, counted: list[int]) -> None:
    most = queue_limit.SPARE_JOBS + 3
    assert all(send(either_store, most) for _ in range(6))
    assert counted == [0, 3, 4, 5], "after the count and two more there is too little to spare"


def test_what_another_process_added_counts_near_the_bound(
    either_store: Store, counted: list[int]
) -> None:
    assert send(either_store, 10_000)
    other = Store(either_store.database.url.render_as_string(hide_password=False))
    try:
        assert all(send(other, 10_000) for _ in range(3))
    finally:
        other.close()
    assert not send(either_store, 4)
    assert counted == [0, 1, 4]
