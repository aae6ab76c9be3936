"""The intervals of shares wherever they are served: within 0 and 1, around the value, and with a
width, also where all seeds agree.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffengine.intervals import interval_of
from ffengine.results import (
    COUNTED,
    SHARES,
    AccuracyRow,
    CheckResult,
    EpochRow,
    Interval,
    Split,
    StudyCell,
    StudyResult,
    TrainResult,
)
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.study import Cell, study_cell
from ffengine.summary_keys import figure_of
from service.cli.live_view import _with_interval
from service.results.charts import available, render
from service.results.csv_export import table
from service.results.measured_rows import MeasuredRun, measured_rows
from service.results.paper_comparison import comparison
from service.results.sentences import sentences
from service.results.sources import GridCell, Source, StudyGrid
from service.store import Store
from tests.factories import finished, submit
from tests.service.samples import check_cell, epoch_row, provenance

SPLITS: tuple[Split, ...] = ("positive", "negative")
SEEDS = (0, 1, 2)
SAMPLES = 40


class Served(NamedTuple):
    """An interval of a share as somebody sees it."""

    where: str
    low: float
    value: float
    high: float


def training(counts: list[int]) -> TrainResult:
    """A run of which each seed has a share of that many of its samples."""
    rows = [
        epoch_row(epoch, split, seed=seed, ratio=count / SAMPLES).model_copy(
            update={"samples": SAMPLES}
            | {
                name: count / SAMPLES
                for name in SHARES
                if name in EpochRow.model_fields and name != "theorem2_ratio"
            }
        )
        for seed, count in enumerate(counts)
        for epoch in (0, 1)
        for split in SPLITS
    ]
    accuracy = tuple(
        AccuracyRow(
            seed=seed,
            layer=None,
            layers=(0,),
            epoch=1,
            partition="test",
            samples=SAMPLES,
            correct=count,
            accuracy=count / SAMPLES,
        )
        for seed, count in enumerate(counts)
    )
    return TrainResult(
        curves=tuple(rows),
        accuracy=accuracy,
        diagnostics=(),
        provenance=provenance(tuple(range(len(counts)))),
    )


def checked(counts: list[int]) -> CheckResult:
    share = {
        "live": SAMPLES,
        "samples": SAMPLES,
        "theorem": 2,
        "theorem2_direction": "goodness_difference",
    }
    cells = tuple(
        check_cell(width, split, seed=seed).model_copy(
            update=share
            | {"satisfied": count, "method": method}
            | dict.fromkeys(("ratio", "agreement", "observed_increase_ratio"), count / SAMPLES)
        )
        for seed, count in enumerate(counts)
        for width in (64, 128)
        for split in SPLITS
        for method in ("exact", "infinite_width")
    )
    return CheckResult(
        theorem=2,
        cells=cells,
        diagnostics=(),
        provenance=provenance(tuple(range(len(counts)))),
    )


def of_tables(result: TrainResult | CheckResult, study: StudyResult) -> Iterator[Served]:
    rows = [
        row.model_dump(mode="json")
        for row in (result.curves if isinstance(result, TrainResult) else result.cells)
    ]
    means = measured_rows([MeasuredRun("job", result.kind, {})], lambda _: rows, means=True)
    for where, found in (("curves.csv?mean=true", means.rows), ("result.csv", table(study))):
        for row in found:
            if row["figure"] in SHARES:
                yield Served(f"{where} {row['figure']}", row["low"], row["mean"], row["high"])
    again = StudyResult.model_validate_json(study.model_dump_json())
    for cell in again.cells:
        for key, one in cell.summary.items():
            if figure_of(key) in SHARES:
                assert one.low is not None
                assert one.high is not None
                yield Served(f"result {key}", one.low, one.mean, one.high)


def of_words(source: Source, result: TrainResult | CheckResult) -> Iterator[Served]:
    for row in comparison([source]):
        if row.key.figure != "sparsity_rise":
            assert row.low is not None
            assert row.high is not None
            yield Served(f"comparison {row.quantity}", row.low, row.measured, row.high)
            low, high = map(float, row.interval.split(" to "))
            yield Served(f"in words {row.quantity}", low, round(row.measured, 4), high)
    for line in sentences([source]):
        for value, low, high in re.findall(r"([\d.]+) % \[([\d.]+), ([\d.]+)\]", line):
            yield Served(line, float(low) / 100, float(value) / 100, float(high) / 100)
    if isinstance(result, CheckResult):
        ratios = [(float(cell.ratio or 0), cell.live) for cell in result.cells if cell.width == 64]
        mean, bounds = _with_interval(ratios)
        low, high = map(float, bounds.split(" to "))
        yield Served("terminal", low, float(mean), high)


def of_charts(sources: list[Source | StudyGrid]) -> Iterator[Served]:
    shares = [name for name in available(sources) if name not in ("goodness", "loss", "margins")]
    for name in shares:
        for rows in json.loads(render(name, sources, "json"))["datasets"].values():
            for row in rows:
                if "low" in row:
                    value = row["mean"] if "mean" in row else row["value"]
                    yield Served(f"chart {name}", row["low"], value, row["high"])


def of_counts(
    counts: list[int],
) -> Iterator[tuple[Source, TrainResult | CheckResult, list[StudyCell]]]:
    """A training and a check, each in a study of two runs, whose seeds have those counts."""
    seeds = tuple(range(len(counts)))
    for spec, result in (
        (TrainSpec(epochs=1, seeds=seeds), training(counts)),
        (CheckSpec(seeds=seeds), checked(counts)),
    ):
        cells = [
            study_cell(Cell("", {"lr": lr}, spec), job="job", state="succeeded", result=result)
            for lr in (0.1, 0.2)
        ]
        yield Source("", result, spec), result, cells


@pytest.mark.slow
@given(
    st.lists(st.sampled_from([0, 1, 20, 39, 40]), min_size=2, max_size=3)
    | st.lists(st.integers(0, SAMPLES), min_size=2, max_size=5)
)
def test_no_interval_of_a_share_leaves_0_and_1_or_its_value(counts: list[int]) -> None:
    for source, result, cells in of_counts(counts):
        found = [
            *of_tables(result, StudyResult(cells=tuple(cells))),
            *of_words(source, result),
        ]
        assert {one.where.split()[0] for one in found} >= {"curves.csv?mean=true", "result.csv"}
        for one in found:
            assert 0 <= one.low <= one.value <= one.high <= 1, one


@pytest.mark.slow
@pytest.mark.parametrize("counts", [[0, 0], [40, 40, 40], [0, 40], [39, 40, 1], [7, 20]])
def test_no_interval_in_a_chart_leaves_0_and_1_or_its_value(counts: list[int]) -> None:
    for source, _, cells in of_counts(counts):
        assert source.spec is not None
        grid = StudyGrid("", [GridCell(cell, source.spec) for cell in cells])
        found = [*of_charts([source]), *of_charts([grid])]
        assert {one.where for one in found if one.where.startswith("chart grid_")}
        for one in found:
            assert 0 <= one.low <= one.value <= one.high <= 1, one


@pytest.mark.parametrize("count", [0, 39, 40])
def test_seeds_that_agree_are_no_certainty(count: int) -> None:
    """39 of 40 in each of three seeds is 117 of 120 samples: by Wilson 0.929 to 0.991."""
    result = training([count] * 3)
    rows = [row for row in result.curves if (row.epoch, row.split) == (1, "positive")]
    for figure in COUNTED & set(EpochRow.model_fields):
        found = interval_of(rows, figure)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.high - found.low > 0.02, figure
    one = interval_of(rows[:1], "theorem2_ratio")
    assert one is not None
    assert (one.low, one.high) == (None, None)


def test_the_interval_of_an_earlier_version_is_cut_to_0_and_1() -> None:
    beyond = Interval(mean=0.97, low=0.843, high=1.097, seeds=2)
    cell = StudyCell(
        part="",
        params={},
        kind="check",
        spec_digest="",
        state="succeeded",
        summary={"ratio[width=32 split=negative method=exact]": beyond},
    )
    (row,) = table(StudyResult(cells=(cell,)))
    assert (row["low"], row["mean"], row["high"]) == (0.843, 0.97, 1.0)
    assert (row["theorem"], row["theorem2_direction"]) == (None, None)


@pytest.mark.slow
def test_the_same_interval_is_on_the_page_in_the_report_and_in_the_tables(
    client: httpx.Client, store: Store
) -> None:
    job = submit(store, CheckSpec(widths=(64,), seeds=SEEDS))
    result = checked([40, 40, 39])
    cells = tuple(cell for cell in result.cells if cell.width == 64)
    finished(store, job.id, result.model_copy(update={"cells": cells}))
    rows = csv.DictReader(io.StringIO(client.get(f"/v1/jobs/{job.id}/curves.csv?mean=1").text))
    bounds: set[Any] = {
        (f"{float(row['low']):.4f}", f"{float(row['high']):.4f}")
        for row in rows
        if row["figure"] == "ratio"
    }
    assert len(bounds) == 1
    ((low, high),) = bounds
    assert high == "1.0000"
    for path in (f"/jobs/{job.id}", f"/v1/jobs/{job.id}/report.html"):
        assert f"{low} to {high}" in client.get(path).text
    chart = client.get(f"/v1/jobs/{job.id}/chart/theorem2_widths.json").json()
    drawn = [row for one in chart["datasets"].values() for row in one if "low" in row]
    assert {(f"{row['low']:.4f}", f"{row['high']:.4f}") for row in drawn} == bounds
