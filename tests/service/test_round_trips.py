"""How often a tiny job makes its worker and the API wait for the database: pinned, so that it grows
for a reason only. Each is a round trip, and the network may be slow.
"""

import pytest

from service.store import Store
from tests.factories import HALF, LEASE, TRAIN, submit, worker_info
from tests.service.samples import train_result
from tests.statements import statements

# transactions' beginnings, which SQLite alone has as statements, are left out
WITHOUT = ("BEGIN", "BEGIN IMMEDIATE")
# one each of claim, record and finish is for the attempt, which the result lists
OF_TINY_JOB = {"submit": 7, "claim": 8, "record": 6, "finish": 7}
WITH_OWNER = {"submit": 8, "claim": 11, "record": 6, "finish": 7}


def trips(found: list[str]) -> int:
    return sum(one not in WITHOUT for one in found)


@pytest.mark.parametrize(
    ("owner", "expected"), [(None, OF_TINY_JOB), ("ada", WITH_OWNER)], ids=["nobody", "an owner"]
)
def test_a_tiny_job_takes_so_many_round_trips(
    either_store: Store, owner: str | None, expected: dict[str, int]
) -> None:
    # the queue was counted lately, as on a service in use; what asks the schema has done so
    submit(either_store, submitted_by=owner, fresh=True)
    result, found = train_result(), {}
    with statements(either_store) as found["submit"]:
        submit(either_store, TRAIN, submitted_by=owner, fresh=True)
    with statements(either_store) as found["claim"]:
        claim = either_store.queue.claim_next("w1", LEASE)
    assert claim is not None
    held = {"lease_seconds": LEASE, "progress": HALF}
    with statements(either_store) as found["record"]:
        either_store.queue.record(claim.job_id, claim.attempt, rows=result.curves, **held)
    with statements(either_store) as found["finish"]:
        either_store.queue.finish(claim.job_id, claim.attempt, result)
    assert {name: trips(sent) for name, sent in found.items()} == expected


def test_a_heartbeat_takes_five_round_trips(either_store: Store) -> None:
    with statements(either_store) as found:
        either_store.workers.heartbeat(worker_info())
    assert trips(found) == 5
