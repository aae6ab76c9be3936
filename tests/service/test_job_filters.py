"""What people write to filter and sort a list of jobs, and that both databases find the same jobs
as a look at each of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import update

from ffengine.spec import AnySpec, CheckSpec, TrainSpec
from service.jobs import Job
from service.lists.columns import Column, UnknownColumn, column_of, columns, values_of
from service.lists.conditions import (
    Condition,
    FilterError,
    parse_columns,
    parse_filter,
    parse_order,
)
from service.store import CursorGone, Store
from service.store.tables import JobRow
from tests.factories import HALF, LEASE, claimed, end, read, submit
from tests.service.samples import epoch_row

HELD: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, other: one < other,
    "<=": lambda one, other: one <= other,
    ">": lambda one, other: one > other,
    ">=": lambda one, other: one >= other,
    "=": lambda one, other: one == other,
    "~": lambda one, other: other.lower() in one.lower(),
}


def written(text: str) -> list[tuple[str, str, tuple[object, ...]]]:
    return [
        (one.column.name if one.column else "", one.operator, one.values)
        for one in parse_filter(text)
    ]


def test_conditions_stand_side_by_side() -> None:
    assert written("widths>=256 T2+>0.5 state=done tag:x lr<0.1") == [
        ("widths", ">=", (256.0,)),
        ("T2+", ">", (0.5,)),
        ("state", "=", ("succeeded",)),
        ("tag", "=", ("x",)),
        ("lr", "<", (0.1,)),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  ", []),
        ("T2\u2212 <= 50%", [("T2-", "<=", (0.5,))]),
        ("t2->0", [("T2-", ">", (0.0,))]),
        ("paper", [("", "~", ("paper",))]),
        ('"two words" name~x', [("", "~", ("two words",)), ("name", "~", ("x",))]),
        (r'name="a \"b\""', [("name", "=", ('a "b"',))]),
        ("kind=train,Check", [("kind", "=", ("train", "check"))]),
        ("state!=ended", [("state", "!=", ("succeeded", "failed", "cancelled"))]),
        ("project=none", [("project", "=", (None,))]),
        ('project="none"', [("project", "=", ("none",))]),
        ("duration>10m", [("duration", ">", (600.0,))]),
        ("time<=1.5h", [("duration", "<=", (5400.0,))]),
        ("submitted<1970-01-02", [("submitted", "<", (86_400.0,))]),
        ("pinned=yes", [("pinned", "=", (1.0,))]),
        ("learning_rate==1e-3", [("lr", "=", (0.001,))]),
        ("momentum>0", [("optimizer.momentum", ">", (0.0,))]),
    ],
)
def test_a_filter_is_read(text: str, expected: object) -> None:
    assert written(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr<", "at 'lr<', character 1: no value stands after 'lr<'; write one, as in lr<0.1"),
        (
            "a lr<abc",
            "at 'lr<abc', character 3: 'abc' is not a number, and lr is one: write it as 0.1, "
            "1e-3 or 50%",
        ),
        ("lr<nan", "'nan' is not a number, and lr is one: write it as 0.1, 1e-3 or 50%"),
        ("kind<train", "kind is a text: it takes =, !=, not <"),
        ("lr~1", "lr is a number: it takes =, !=, <, <=, >, >=, not ~"),
        ("state=runing", "'runing' is not a state; did you mean 'running'?"),
        ("state=zzz", "'zzz' is not a state; known are queued, running, "),
        ('name="x', 'a quotation mark is not closed; write ", as in name="my run"'),
        ('"x', 'a quotation mark is not closed; write ", as in name="my run"'),
        ('""', "there is nothing between the quotation marks"),
        ("lr<0.1,0.2", "< takes one value; only = and != take several, or none"),
        ("lr<none", "< takes one value; only = and != take several, or none"),
        (">3", "a comparison needs a column before it, as in lr<0.1"),
        ("T3+>1", "'T3+' is not a column; did you mean 'T2+'?"),
        ("wdths>1", "'wdths' is not a column; did you mean 'widths'?"),
        ("T2 >1", "write T2+ or T2-, of positive or of negative samples (in an address, + is"),
        ("q>1", "'q' is not a column; did you mean objective.goodness.q or goodness.q?"),
        ("zzzzz=1", "'zzzzz' is not a column; some are name, id, "),
        ("pinned=maybe", "pinned is yes or no, not 'maybe'"),
        ("submitted=2026-11-26", "submitted is a time; compare with < or >, or with none"),
        ("submitted>never", "'never' is not a time; write submitted>2026-11-26 or "),
        ("duration>soon", "'soon' is not a duration; write duration>90s, 10m, 2h or 1d"),
        ("a " * 30, "a filter has at most 20 conditions, got 30"),
        ("lr=" + "1," * 60 + "1", "at most 50 values stand apart by commas"),
        ("x" * 1001, "a filter has at most 1,000 characters, got 1,001"),
    ],
)
def test_what_is_wrong_with_a_filter_is_said(text: str, message: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text)
    assert message in str(caught.value)


def test_orders_and_columns_are_named_as_in_filters() -> None:
    assert parse_order("-t2+").text == "-T2+"
    assert parse_order("created").text == "submitted"
    found = parse_columns(["lr, widths", "lr,T2\u2212"], 5)
    assert [column.name for column in found] == ["lr", "widths", "T2-"]
    for wrong in ("", "-", "lrr"):
        with pytest.raises(FilterError, match="is not a column"):
            parse_order(wrong)
    with pytest.raises(FilterError, match="a table has at most 2 columns, got 3"):
        parse_columns(["lr,widths,T1"], 2)
    with pytest.raises(UnknownColumn, match="did you mean 'lr'"):
        column_of("lrr")


# Both databases hold the same jobs, and each list is held beside a look at each job


def train(**fields: Any) -> TrainSpec:
    return TrainSpec.model_validate({"epochs": 2, **fields})


SPECS: Sequence[tuple[AnySpec, dict[str, Any]]] = (
    (train(network={"widths": [64]}, optimizer={"name": "sgd", "lr": 0.05}), {"name": "Small"}),
    (
        train(network={"widths": [256, 64]}, optimizer={"name": "adam", "lr": 0.001}),
        {"name": "100 %", "tags": ["x", "y"], "project": "Paper"},
    ),
    (
        train(network={"widths": [512]}, objective={"name": "softplus", "threshold": 2.0}),
        {"tags": ["x"], "project": "thesis", "priority": "high", "pinned": True},
    ),
    (train(seeds=[3, 4], network={"bias": True}), {"note": "look\nagain", "priority": "low"}),
    (CheckSpec(theorem=1, widths=(64, 512)), {"name": "a 'check' \\ _"}),
    (train(objective={"name": "softplus", "goodness": {"name": "top_k", "k": 3}}), {}),
)
FILTERS = (
    "widths>=256",
    "widths=64",
    "widths!=64",
    "widths>64 widths<500",
    "lr<0.01",
    "lr=0.05,1",
    "lr=none",
    "lr!=none",
    "optimizer=adam",
    "optimizer!=adam",
    "goodness=top_k",
    "goodness!=none kind=train",
    "tag:x",
    "tag=y,z",
    "tag!=x",
    "tag=none",
    "tag~X",
    "project=none",
    "project=thesis,Paper",
    "project!=thesis",
    'name="100 %"',
    "name~%",
    "name~_",
    r'name~"\\"',
    "name~'",
    "small",
    "note~AGAIN",
    "state=active",
    "state=done",
    "priority=high",
    "pinned=yes",
    "bias=yes",
    "bias=no",
    "threshold>1",
    "T2+>0.5",
    "T2+>0.5 T2+<0.9",
    "T2+=none",
    "T2+!=none state!=done",
    "progress>0",
    "duration>=0",
    "duration=none",
    "attempts>0",
    "attempts>0.5 attempts<1e300",
    "run=none run!=1e300",
    "seeds=1e300,3",
    f"duration<{'9' * 400}d",
    "seeds=3",
    "kind=check",
    "theorem=1",
    "error=none",
    "error!=none",
    "started!=none",
    "submitted>2020-01-01",
    "cached=no device=none",
)


@pytest.fixture
def jobs(either_store: Store) -> list[Job]:
    """One of each of SPECS; some have rows, and one each has failed and succeeded."""
    made = [submit(either_store, spec, **fields) for spec, fields in SPECS]
    for job, ratio in zip(made[1:4], (0.25, 0.75, 1.0), strict=True):
        job_id, attempt = claimed(either_store, job)
        rows = [epoch_row(seed=seed, ratio=ratio) for seed in getattr(job.spec, "seeds", ())]
        either_store.queue.record(job_id, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    end(either_store, made[0], well=True)
    end(either_store, made[4], well=False)
    while either_store.jobs.refresh_figures(limit=2):
        pass
    return [read(either_store, job.id) for job in made]


def value_in(store: Store, column: Column, job: Job) -> Any:
    figures = store.jobs.headlines([job])[job.id].figures
    return values_of([column], job, figures, now=job.created_at.timestamp() + 1)[column.name]


def passes(store: Store, condition: Condition, job: Job) -> bool:
    """Whether a job fits, from the words of the documentation."""
    column, operator = condition.column, condition.operator
    if column is None:
        return str(condition.values[0]).lower() in (job.name or "").lower()
    value = value_in(store, column, job)
    values = value if column.several and value is not None else [value]
    values = [one for one in values if one is not None]
    if operator == "!=":
        return not passes(store, Condition(column, "=", condition.values), job)
    return any(
        not values if wanted is None else any(HELD[operator](one, wanted) for one in values)
        for wanted in condition.values
    )


@pytest.mark.slow
def test_both_databases_find_what_a_look_at_each_job_finds(
    either_store: Store, jobs: list[Job]
) -> None:
    some = 0
    for text in FILTERS:
        conditions = parse_filter(text)
        expected = [
            job.id
            for job in reversed(jobs)
            if all(passes(either_store, one, job) for one in conditions)
        ]
        page = either_store.jobs.page(limit=50, where=conditions, total=True)
        assert [job.id for job in page.jobs] == expected, text
        assert page.total == len(expected) == sum((page.states or {}).values()), text
        assert either_store.jobs.ids(limit=50, where=conditions) == expected, text
        some += 0 < len(expected) < len(jobs)
    assert some > len(FILTERS) * 0.8, "most filters tell jobs apart"


UNSORTED = {"name", "id", "project", "note"}  # the databases sort letters in ways of their own
STATES = ("running", "queued", "paused", "failed", "cancelled", "succeeded")
PRIORITIES = ("low", "normal", "high")


def key_of(column: Column, value: Any) -> Any:
    """What a list is sorted by."""
    if column.several:
        found = list(value or ())
        return (max(found) if column.type == "number" else min(found)) if found else None
    if column.name == "state":
        return STATES.index(value)
    return PRIORITIES.index(value) if column.name == "priority" else value


@pytest.mark.slow
@pytest.mark.parametrize("descending", [False, True])
def test_every_column_sorts_the_whole_list_and_its_pages(
    either_store: Store, jobs: list[Job], descending: bool
) -> None:
    for column in [one for one in columns().values() if "." not in one.name]:
        order = parse_order(f"{'-' if descending else ''}{column.name}")
        found: list[str] = []
        before = None
        while True:
            page = either_store.jobs.page(limit=4, order=order, before=before)
            found += [job.id for job in page.jobs]
            before = page.next_id
            if before is None:
                break
        assert sorted(found) == sorted(job.id for job in jobs), column.name
        keys = {job.id: key_of(column, value_in(either_store, column, job)) for job in jobs}
        with_value = [one for one in found if keys[one] is not None]
        assert found[: len(with_value)] == with_value, f"{column.name}: those without are last"
        if column.type in ("time", "duration") or column.name in ("name", "id", "project", "note"):
            continue  # the clock goes on; the databases sort letters in ways of their own
        expected = sorted(
            sorted(with_value, reverse=True), key=keys.__getitem__, reverse=descending
        )
        if descending:  # of equal ones the newest first all the same
            expected = sorted(with_value, reverse=True)
            expected.sort(key=keys.__getitem__, reverse=True)
        assert with_value == expected, column.name


def test_a_page_behind_a_job_that_is_gone_is_refused(either_store: Store, jobs: list[Job]) -> None:
    with pytest.raises(CursorGone):
        either_store.jobs.page(limit=2, order=parse_order("lr"), before="job_" + "0" * 32)


def test_figures_are_worked_out_again_when_a_job_changes(either_store: Store) -> None:
    job_id, attempt = claimed(either_store)
    above = parse_filter("T2+>0.5")
    assert either_store.jobs.refresh_figures() == 1
    assert either_store.jobs.ids(limit=5, where=above) == []
    for epoch, ratio in ((0, 0.75), (1, 0.25)):
        rows = [epoch_row(epoch, split, ratio=ratio) for split in ("positive", "negative")]
        either_store.queue.record(job_id, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
        assert either_store.jobs.refresh_figures() == 1
        assert (either_store.jobs.ids(limit=5, where=above) == [job_id]) is (ratio > 0.5)
    assert either_store.jobs.refresh_figures() == 0, "nothing has changed"


def test_a_value_of_another_type_is_no_value(either_store: Store) -> None:
    """Documents of earlier versions may hold anything: they are no reason to fail."""
    job = submit(either_store)
    with either_store.database.writing() as session:
        spec = {"kind": "train", "optimizer": {"lr": "fast"}, "network": {"widths": "wide"}}
        session.execute(
            update(JobRow).where(JobRow.id == job.id).values(spec=spec, figures={"T2+": None})
        )
    for text in ("lr<1", "lr>1", "widths>1", "T2+>0", "seeds>0", "dataset~a"):
        assert either_store.jobs.ids(limit=5, where=parse_filter(text)) == [], text
    assert either_store.jobs.ids(limit=5, where=parse_filter("lr=none T2+=none")) == [job.id]
