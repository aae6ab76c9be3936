"""Charts, the comparison and the report: every chart in every format from real results, intervals against their definition."""

import json
import math
from datetime import UTC, datetime

import pytest

import ffengine
from ffengine.results import TrainResult
from ffengine.spec import CheckSpec, TrainSpec, digest
from service.charts import CHARTS, FORMATS, NothingToDraw, Source, available, render, wilson
from service.comparison import comparison
from service.export import table, to_csv
from service.jobs import Job
from service.report import report

TRAIN = TrainSpec.model_validate(
    {"dataset": {"train_samples": 100, "test_samples": 20}, "network": {"widths": [12]}, "epochs": 2, "batch_size": 50, "seeds": [0, 1, 2]}
)
CHECKS = [CheckSpec(theorem=number, widths=(8, 16), samples=60, batch_size=30, seeds=(0, 1)) for number in (1, 2)]


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    return [Source("", ffengine.train(TRAIN)), *(Source("", ffengine.check(spec)) for spec in CHECKS)]


def test_every_chart_is_available_where_its_rows_are(sources: list[Source]) -> None:
    assert set(available(sources)) == set(CHARTS)
    assert available(sources[1:2]) == ["theorem1_widths"]
    with pytest.raises(NothingToDraw):
        render("sparsity", sources[1:], "json")


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_renders_in_every_format(sources: list[Source], name: str) -> None:
    starts = {"png": b"\x89PNG", "svg": b"<svg", "json": b"{", "html": b"<!DOCTYPE html>"}
    for fmt in FORMATS:
        assert render(name, sources, fmt).lstrip().startswith(starts[fmt]), fmt


def test_a_curves_values_are_means_over_seeds(sources: list[Source]) -> None:
    document = json.loads(render("sparsity", sources, "json"))
    points = (
        next(values for values in document["datasets"].values() if "epoch" in values[0])
        if "datasets" in document
        else document["data"]["values"]
    )
    result = sources[0].result
    assert isinstance(result, TrainResult)
    for point in points:
        values = [row.sparsity for row in result.curves if (row.epoch, row.split) == (point["epoch"], point["split"])]
        assert point["mean"] == pytest.approx(sum(value or 0 for value in values) / 3)
        assert point["seeds"] == 3


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (5, 10), (10, 10), (29_998, 30_000)])
def test_wilsons_interval_solves_its_equation(successes: int, trials: int) -> None:
    share = successes / trials
    for bound in wilson(successes, trials):
        if 1e-12 < bound < 1 - 1e-12:  # |share - p| = z sqrt(p (1 - p) / trials)
            assert abs(share - bound) == pytest.approx(1.959964 * math.sqrt(bound * (1 - bound) / trials), rel=1e-6)


def test_the_comparison_judges_by_the_interval(sources: list[Source]) -> None:
    lines = comparison(sources)
    assert {line.verdict for line in lines} <= {"met", "NOT met", "open", ""}
    for line in lines:
        if line.published.startswith("> ") and line.low is not None and line.high is not None:
            reference = float(line.published.removeprefix("> "))
            expected = "met" if line.low > reference else "open" if line.high > reference else "NOT met"
            assert line.verdict == expected, line


def test_the_table_has_a_row_for_each_row_of_the_result(sources: list[Source]) -> None:
    for source in sources:
        rows = table(source.result)
        assert len(to_csv(source.result).splitlines()) == len(rows) + 1
        assert len({tuple(row) for row in rows}) == 1


def test_the_report_stands_alone(sources: list[Source]) -> None:
    now = datetime.now(UTC)
    job = Job.model_validate(
        {
            "id": "job_" + "0" * 32,
            "kind": "train",
            "name": "<b>bold</b>",
            "tags": [],
            "priority": "normal",
            "state": "succeeded",
            "wanted": "run",
            "spec": TRAIN,
            "spec_digest": digest(TRAIN),
            "created_at": now,
            "started_at": now,
            "finished_at": now,
            "progress": {"fraction": 1, "message": "done", "eta_seconds": None},
            "attempts": 1,
            "pinned": False,
            "timeout_seconds": None,
            "place": None,
            "waits_for": None,
            "webhook": None,
            "error": None,
            "provenance": None,
            "parent": None,
            "cached": False,
            "cached_from": None,
            "links": {},
        }
    )
    page = report(job, sources)
    assert page.count("data:image/svg+xml") == len(CHARTS)
    assert "<b>bold" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page
    assert "<script" not in page
    assert sources[0].result.provenance.dataset.digest[:16] in page
