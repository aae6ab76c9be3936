"""Lists of jobs are read by indexes, whatever they are filtered by: their cost stays the same."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from benchmarks.many_jobs import fill
from service.encoding.viewer import Viewer, seen_by
from service.store import ANY_STUDY, Store
from service.store.list_indexes import counting_index, list_index
from service.store.tables import JobTagRow
from tests.factories import STUDY, TRAIN, end, submit
from tests.statements import plans

COUNT = 10_000
STUDY_ID = f"job_{1:032x}"
OLD = datetime.fromtimestamp(1.7e9 + 100, UTC)
NEW = datetime(2026, 11, 1, tzinfo=UTC)
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "a rare state": {"state": "cancelled"},
    "a state": {"state": "succeeded"},
    "several states": {"state": ["failed", "cancelled"]},
    "a kind": {"kind": "train"},
    "a rare kind": {"kind": "study"},
    "a kind of none": {"kind": "forecast"},
    "a rare tag": {"tag": "t507"},
    "a tag of none": {"tag": "nothing"},
    "a project": {"project": "project 3"},
    "a project of none": {"project": "nothing"},
    "a name": {"name": "sweep 77"},
    "a part of a name": {"search": "weep 77"},
    "an owner": {"submitted_by": "owner 3"},
    "an owner of none": {"submitted_by": "nobody"},
    "before": {"created_before": OLD},
    "after": {"created_after": NEW},
    "a study": {"parent": STUDY_ID},
    "runs": {"parent": ANY_STUDY},
    "runs of a kind": {"parent": ANY_STUDY, "kind": "check"},
    "two": {"project": "project 3", "state": "failed", "kind": "train"},
}
VIEWERS = {"an administrator": Viewer(), "an owner": Viewer("owner 3", "submit")}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def full(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store with many jobs."""
    if request.param == "sqlite":
        where = f"sqlite:///{tmp_path_factory.mktemp('many') / 'fflab.db'}"
    else:
        where = request.getfixturevalue("postgres_of_module")
    with closing(Store(where)) as store:
        store.migrate()
        fill(store, COUNT)
        yield store


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_is_read_by_an_index(full: Store, name: str, viewer: str) -> None:
    with seen_by(VIEWERS[viewer]), plans(full) as found:
        full.jobs.page(limit=50, **FILTERS[name])
    assert found
    for plan in found:
        lines = [line for line in plan.splitlines() if "jobs" in line]
        whole = [line for line in lines if line.startswith("SCAN") and "INDEX" not in line]
        assert not whole, plan
        # a part of a name is looked for in all names, which an index has beside nothing else
        if name != "a part of a name":
            assert "Seq Scan on jobs" not in plan, plan


@pytest.mark.parametrize("name", [name for name in FILTERS if FILTERS[name]])
def test_what_is_listed_by_an_index_is_what_passes_the_filter(full: Store, name: str) -> None:
    """The same without any index is the reference."""
    for viewer in VIEWERS.values():
        with seen_by(viewer):
            page = full.jobs.page(limit=50, total=True, **FILTERS[name])
            whole = full.jobs.ids(limit=COUNT, **FILTERS[name])
            assert page.total == len(whole) == full.jobs.count(**FILTERS[name])
            assert [job.id for job in page.jobs] == whole[:50] == sorted(whole, reverse=True)[:50]
            if len(whole) > 50:
                following = full.jobs.page(limit=50, before=page.next_id, **FILTERS[name])
                assert [job.id for job in following.jobs] == whole[50:100]


def test_sqlite_is_told_an_index_for_each_filter() -> None:
    assert list_index() is None
    assert list_index(kind="train", project="x") == "jobs_alone_by_project"
    assert list_index(state="failed", parent=ANY_STUDY) == "jobs_runs_by_state"
    assert list_index(state="failed", children=True) is None
    assert list_index(state="failed", parent=STUDY_ID) is None
    assert counting_index() == "jobs_alone_by_state"
    assert counting_index(parent=STUDY_ID) == "jobs_of_parent"
    assert counting_index(tag="x") is None


def tags(store: Store) -> set[tuple[str, bool, str]]:
    with store.database.reading() as session:
        return {(row.tag, row.is_run, row.job_id) for row in session.scalars(select(JobTagRow))}


def test_tags_are_copied_whoever_writes_them(either_store: Store) -> None:
    single = submit(either_store, TRAIN, tags=["a", "ü b"])
    study = submit(either_store, STUDY, tags=["a"])
    runs = [run.id for run, _ in either_store.jobs.children(study.id)]
    assert tags(either_store) == {
        ("a", False, single.id),
        ("ü b", False, single.id),
        ("a", False, study.id),
        *(("a", True, run) for run in runs),
    }
    either_store.actions.update(single.id, given={"tags": ["c", "c"]})
    assert ("c", False, single.id) in tags(either_store)
    assert ("ü b", False, single.id) not in tags(either_store)
    end(either_store, single, well=False)
    either_store.actions.delete(single.id)
    assert all(job_id != single.id for _, _, job_id in tags(either_store))


def test_a_tag_of_many_jobs_is_found_as_one_of_few(
    either_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [submit(either_store, TRAIN, tags=["a"], fresh=True).id for _ in range(3)]
    study = submit(either_store, STUDY, tags=["a"])
    submit(either_store, TRAIN, tags=["b"], fresh=True)
    for few in (500, 1):
        monkeypatch.setattr("service.store.jobs.FEW_JOBS", few)
        assert either_store.jobs.ids(limit=9, tag="a") == [study.id, *ids[::-1]]
        assert either_store.jobs.count(tag="a", children=True) == 7
        assert either_store.jobs.count(tag="a", parent=ANY_STUDY) == 3
        assert either_store.jobs.count(tag="a", parent=study.id, state="queued") == 3
        assert either_store.jobs.count(tag="a", kind="train") == 3
