"""Whose job is claimed next: fair shares between owners, and what one owner may have at once."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from ffengine.spec import TrainSpec
from service.jobs import Priority
from service.store import Store
from service.store.fairness import Turn, in_order
from service.store.inserts import PRIORITY_SECONDS
from service.web.auth import create_key
from tests.factories import LEASE, claimed, read, submit
from tests.service.samples import train_result


def queued(store: Store, owner: str | None, count: int, priority: Priority = "normal") -> list[str]:
    """Jobs of an owner that are not alike."""
    return [
        submit(store, submitted_by=owner, priority=priority, fresh=True).id for _ in range(count)
    ]


def taken(store: Store, count: int, **how: Any) -> list[str]:
    """The jobs that workers claim, one after the other, and go on with."""
    claims = [store.queue.claim_next(f"w{n}", LEASE, **how) for n in range(count)]
    return [claim.job_id for claim in claims if claim]


def owners(store: Store, job_ids: Sequence[str]) -> str:
    return "".join(str(read(store, job_id).submitted_by or "-") for job_id in job_ids)


def test_one_owner_has_the_order_of_the_queue(either_store: Store) -> None:
    ids = [
        *queued(either_store, "a", 2, "low"),
        *queued(either_store, "a", 2),
        *queued(either_store, "a", 2, "high"),
    ]
    assert taken(either_store, 7) == [*ids[4:], *ids[2:4], *ids[:2]]


def test_running_jobs_are_shared_among_owners(either_store: Store) -> None:
    many, few = queued(either_store, "a", 9), queued(either_store, "b", 2)
    nobody = queued(either_store, None, 1)
    found = taken(either_store, 12)
    assert owners(either_store, found) == "ab-abaaaaaaa"
    assert [one for one in found if one in many] == many
    assert [one for one in found if one in few] == few
    assert found[2] == nobody[0]


def test_one_worker_takes_turns(either_store: Store) -> None:
    queued(either_store, "a", 6)
    queued(either_store, "b", 3)
    found = []
    for _ in range(9):
        claim = either_store.queue.claim_next("w", LEASE)
        assert claim is not None
        found.append(claim.job_id)
        either_store.queue.finish(claim.job_id, claim.attempt, train_result())
    assert owners(either_store, found) == "abababaaa"


def test_a_level_goes_first_unless_the_other_was_queued_an_hour_earlier(
    either_store: Store,
) -> None:
    old = queued(either_store, "a", 1)
    new = queued(either_store, "a", 1)
    high = queued(either_store, "b", 2, "high")
    with either_store.database.writing() as session:
        moved = {"by": PRIORITY_SECONDS + 60, "id": old[0]}
        session.execute(text("UPDATE jobs SET rank = rank - :by WHERE id = :id"), moved)
    assert taken(either_store, 4) == [old[0], *high, new[0]]


def test_no_more_jobs_of_an_owner_run_than_are_allowed(either_store: Store) -> None:
    queued(either_store, "a", 5)
    queued(either_store, "b", 2)
    queued(either_store, None, 3)
    create_key(either_store.api_keys, "b", max_running=2)
    found = taken(either_store, 10, max_running=1)
    assert sorted(owners(either_store, found)) == sorted("a" + "bb" + "---")


def test_the_head_of_each_owner_is_looked_up_in_the_index(either_store: Store) -> None:
    queued(either_store, "a", 1)
    claimed(either_store, submit(either_store, TrainSpec(epochs=3), submitted_by="b"))
    explain = "EXPLAIN QUERY PLAN " if either_store.database.is_sqlite else "EXPLAIN "
    query = (
        "SELECT id FROM jobs WHERE state = 'queued' AND submitted_by = 'a' "
        "ORDER BY rank, id LIMIT 1"
    )
    with either_store.database.reading() as session:
        if not either_store.database.is_sqlite:
            session.execute(text("SET LOCAL enable_seqscan = off"))
        plan = str(session.execute(text(explain + query)).all())
    assert "jobs_by_owner" in plan
    assert "sort" not in plan.lower().replace("b-tree", "sort")


TURNS = st.builds(
    Turn,
    owner=st.sampled_from("abcdef"),
    job_id=st.uuids().map(str),
    priority=st.integers(0, 2),
    rank=st.floats(-9_000, 9_000),
    running=st.integers(0, 3),
    began_at=st.floats(0, 10),
)


@given(st.lists(TURNS, max_size=6, unique_by=lambda turn: turn.owner))
def test_everyone_has_a_turn_and_nobody_goes_before_a_higher_level_that_is_older(
    turns: list[Turn],
) -> None:
    found = in_order(turns)
    assert sorted(found, key=str) == sorted(turns, key=str)
    assert in_order(turns[::-1]) == found
    for place, first in enumerate(found):
        for later in found[place + 1 :]:
            overtaken = later.priority > first.priority and later.rank < first.rank
            assert not overtaken or any(
                other.priority >= later.priority and first.rank <= other.rank for other in turns
            )
            if first.priority == later.priority == max(turn.priority for turn in turns):
                assert first.running <= later.running


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_is_claimed_where_nothing_waits(store: Store, count: int) -> None:
    made = queued(store, "a", count)
    assert taken(store, 2) == made


def test_an_expired_key_limits_nobody(either_store: Store) -> None:
    create_key(either_store.api_keys, "a", expires_in_seconds=-1.0, max_running=1)
    create_key(either_store.api_keys, "a")
    queued(either_store, "a", 3)
    assert len(taken(either_store, 3)) == 3
