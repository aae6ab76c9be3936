"""The finding `geometry`: what is read off rows that are made by hand."""

import math

import pytest

from ffengine.findings import FINDINGS, Run
from ffengine.findings.geometry import OTHER_CLASSES, OWN_CLASS, RELATIONS, stretches_of
from ffengine.intervals import interval
from ffengine.results import (
    ActName,
    EpochRow,
    PushedSample,
    Pusher,
    PushRow,
    Relation,
    SamplePicture,
    Split,
    TrainResult,
)
from ffengine.spec import TrainSpec
from tests.service.samples import epoch_row, provenance

SPLITS: tuple[Split, Split] = ("positive", "negative")
ACTS: tuple[ActName | None, ...] = (None, "recruiting", "recruiting", "selecting")
# by act: own class less other classes is clearly below 0, then clearly above
SIZES: dict[ActName | None, tuple[float, float]] = {
    None: (0.1, 0.2),
    "recruiting": (1.0, -3.0),
    "selecting": (3.0, -2.0),
}


def push_row(seed: int, epoch: int, split: Split, relation: Relation) -> PushRow:
    own, other = SIZES[ACTS[epoch]]
    size = {"own_pair": 0.01, "same_class": own, "other_class": other}.get(relation, 0.0)
    push = size + 0.01 * seed + 0.001 * epoch if size else 0.0
    angles = [0.0] * 18
    angles[4], angles[6] = 0.25 * push, 0.75 * push
    return PushRow(
        seed=seed,
        width=8,
        layer=0,
        epoch=epoch,
        method="exact",
        split=split,
        relation=relation,
        samples=4,
        pairs=12,
        push=push,
        agreement=None,
        margin=1.0,
        margin_deviation=1.0,
        by_angle=tuple(angles),
        pairs_by_angle=tuple(12 * (at in (4, 6)) for at in range(18)),
        tau=0.4 * epoch,
        act=ACTS[epoch],
    )


def pushed(epoch: int, split: Split) -> PushedSample:
    pusher = Pusher(
        sample=5, image_class=0, wrong_label=3, relation="other_class", push=-0.4, angle=61.0
    )
    return PushedSample(
        seed=0,
        layer=0,
        epoch=epoch,
        split=split,
        tau=0.4 * epoch,
        act=ACTS[epoch],
        sample=9,
        image_class=7,
        label=7 if split == "positive" else 2,
        margin=-3.0,
        pushers=(pusher,),
    )


def run_of(part: str, *, pictures: bool = True) -> Run:
    places = [(s, e, split) for s in range(3) for e in range(len(ACTS)) for split in SPLITS]
    curves: list[EpochRow] = [
        epoch_row(epoch, split, seed=seed, ratio=0.25 * epoch) for seed, epoch, split in places
    ]
    result = TrainResult(
        curves=tuple(curves),
        accuracy=(),
        decomposition=tuple(
            push_row(seed, epoch, split, relation)
            for seed, epoch, split in places
            for relation in RELATIONS
        ),
        most_pushed=tuple(pushed(epoch, split) for epoch in (1, 2, 3) for split in SPLITS),
        pictures=tuple(
            SamplePicture(sample=sample, shape=(1, 1, 3), pixels="AAEC") for sample in (5, 9)
        )
        * pictures,
        diagnostics=(),
        provenance=provenance((0, 1, 2)),
    )
    return Run(part, {}, TrainSpec(), result)


RUNS = [run_of("pixels"), run_of("centred")]


def test_epochs_of_an_act_are_averaged_for_each_seed() -> None:
    found = {(one.act, one.split): one for one in stretches_of(RUNS[0])}
    assert [act for act, _ in found] == [
        act for act in ("initialisation", "recruiting", "selecting") for _ in SPLITS
    ]
    act = found["recruiting", "negative"]
    expected = interval([1.0 + 0.01 * seed + 0.0015 for seed in range(3)])
    assert act.push(OWN_CLASS).mean == pytest.approx(expected.mean)
    assert act.push(OWN_CLASS).low == pytest.approx(expected.low)
    assert act.above.mean == pytest.approx(0.375)
    assert act.taus == pytest.approx((0.4, 0.8))
    parts = [act.push((relation,)).mean for relation in RELATIONS]
    assert act.margin.mean == pytest.approx(math.fsum(parts))
    assert act.push(OTHER_CLASSES).mean == pytest.approx(-3.0 + 0.01 + 0.0015)


def test_the_conclusion_says_of_each_statement_whether_it_holds() -> None:
    answer, *more = FINDINGS["geometry"].conclusion(RUNS)
    assert "in the recruiting act pairs of other classes push it down" in answer
    assert "(-2.99 against +1.01 on positives, -2.99 against +1.01 on negatives)" in answer
    assert "in the selecting act pairs of other classes push it down" in answer
    told = "\n".join(more)
    assert "Holds: while units are recruited, other classes push S down" in told
    assert "Holds: while some units are selected, the own class pushes S up" in told
    assert "Holds: while some units are selected, what pushes S up outweighs" in told
    assert "Holds: while training, the own pair is a small term" in told
    assert "Does not hold: with centred inputs" in told
    assert "Not tested: at infinite width" in told
    assert "own class up at 40 to 70 degrees (+1.01)" in told
    assert "recruiting: 100 % are of other classes, 100 % of class 0" in told


def test_each_most_pushed_sample_stands_beside_its_pushers_where_there_are_pictures() -> None:
    finding = FINDINGS["geometry"]
    tiles = finding.plot(RUNS).tiles
    assert [(tile.group, tile.row, tile.column, tile.words) for tile in tiles[:4]] == [
        ("recruiting, positives, tau = 0.8", 0, 0, "7: -3.0"),
        ("recruiting, positives, tau = 0.8", 0, 1, "0, 3: -0.40, 61°"),
        ("recruiting, negatives, tau = 0.8", 0, 0, "7 as 2: -3.0"),
        ("recruiting, negatives, tau = 0.8", 0, 1, "0, 3: -0.40, 61°"),
    ]
    without = [run_of(part, pictures=False) for part in ("pixels", "centred")]
    assert finding.plot(without).tiles == ()
    assert finding.plot(without).points == finding.plot(RUNS).points
    assert finding.table(without) == finding.table(RUNS)


def test_an_act_that_few_seeds_pass_through_is_left_out() -> None:
    """One seed of three is asleep at epoch 2: its row alone would have no interval."""
    run = RUNS[0]
    assert isinstance(run.result, TrainResult)
    rows = tuple(
        row.model_copy(update={"act": "sleeping"}) if (row.seed, row.epoch) == (1, 2) else row
        for row in run.result.decomposition
    )
    asleep = run._replace(result=run.result.model_copy(update={"decomposition": rows}))
    found = stretches_of(asleep)
    assert {one.act for one in found} == {"initialisation", "recruiting", "selecting"}
    assert all(len(one.batches) == 3 for one in found)
