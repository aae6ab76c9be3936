"""Forecasts as they are shown: sentences, charts, tables, the line of a list, the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import ffengine
from ffengine.datasets import DATASETS
from ffengine.forecast_curves import epochs_needed
from ffengine.results import ForecastPoint, ForecastResult, SelectionOnset
from ffengine.spec import ForecastSpec, StudySpec
from service.cli import app
from service.results.charts import PartialRun, Source, available, render
from service.results.csv_export import table, to_csv
from service.results.descriptions import title_of
from service.results.finding_runs import what_was_found
from service.results.forecasts import epochs_columns, epochs_table, forecast_of
from service.results.load import drawable
from service.results.measured_rows import measured_rows, runs_of_study
from service.results.paper_comparison import comparison
from service.results.report import report
from service.results.sentences import sentences
from service.store import Store
from tests.factories import HALF, LEASE, claimed, finished, read, submit
from tests.service.samples import train_result

SPEC = ForecastSpec.model_validate(
    {
        "dataset": {"train_samples": 200, "test_samples": 10},
        "units": 32,
        "widths": [16, 256],
        "blocks": 4,
        "batch_size": 100,
        "samples": 60,
        "until_tau": 4.0,
        "every_epochs": 5,
        "optimizer": {"name": "sgd", "lr": 0.1, "scale_lr_by_width": False},
    }
)
CROSSED = SelectionOnset(outcome="crossed", tau=2.0, low=1.5, high=2.5)


@pytest.fixture(scope="module")
def result() -> ForecastResult:
    return ffengine.forecast(SPEC)


def with_onset(result: ForecastResult, onset: SelectionOnset) -> Source:
    rows = epochs_needed(SPEC, DATASETS["mnist-mini"], onset, 4.0)
    changed = result.model_copy(update={"onset": onset, "epochs_needed": rows})
    return Source("", changed, SPEC)


def test_the_first_sentence_says_how_s_goes(result: ForecastResult) -> None:
    first, *details, last = sentences([with_onset(result, CROSSED)])
    rows = [row for row in result.rows if row.width is None]
    start = " / ".join(f"{row.sparsity:.3f}" for row in rows[:2])
    assert first.startswith(
        f"Forecast for layers of any width on mnist-mini, from 1 run of 32 units: S falls from "
        f"{start} to "
    )
    assert "until act 1 ends at a flow time of 2 [1.5, 2.5], then rises to" in first
    assert first.endswith("at a flow time of 4.")
    assert all(line.startswith("  ") for line in details)
    text = "\n".join(details)
    assert "A single run of 256 units has S of" in text
    # 2 * 16 * 100 / (1 * 200) epochs
    assert "leaves act 1 after 16 epochs [12, 20]" in text
    assert "is biased, and is no forecast. With fewer than 4 seeds" in last
    assert last.startswith("A pair x / y is of positive / negative samples, [x, y] a 95 % interval")


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("never_below", "there is no act 1"), ("not_reached", "still in act 1")],
)
def test_a_forecast_without_an_onset_says_so(
    result: ForecastResult, outcome: Any, words: str
) -> None:
    source = with_onset(result, SelectionOnset(outcome=outcome, tau=None, low=None, high=None))
    first, *details = sentences([source])
    assert words in first
    assert "leaves act 1" not in "\n".join(details)
    assert isinstance(source.result, ForecastResult)
    assert {row[4] for row in epochs_columns(source.result.epochs_needed)} == {""}


def test_an_onset_without_an_upper_bound_is_beyond_the_end(result: ForecastResult) -> None:
    onset = SelectionOnset(outcome="crossed", tau=3.9, low=3.0, high=None)
    first = sentences([with_onset(result, onset)])[0]
    assert "3.9 [3, beyond the end]" in first


@pytest.mark.slow
def test_charts_are_drawn_of_the_result_and_of_the_points_so_far(result: ForecastResult) -> None:
    done = with_onset(result, CROSSED)
    some = PartialRun("", points=result.points[:4], spec=SPEC)
    for source in (done, some):
        assert available([source]) == ["forecast_sparsity", "forecast_theorem2"]
        for name in available([source]):
            drawn = json.dumps(json.loads(render(name, [source], "json")))
            assert '"onset"' in drawn or source is some
            assert render(name, [source], "svg").startswith(b"<svg")
    panels = render("forecast_sparsity", [done], "json").decode()
    for label in ("infinite width", "n = 16", "n = 256"):
        assert label in panels
    assert "biased" in render("forecast_theorem2", [done], "json").decode()


def test_a_run_that_has_just_begun_has_no_charts() -> None:
    assert available([PartialRun("", points=(), spec=SPEC)]) == []
    assert forecast_of(PartialRun("")) is None


def test_the_table_has_a_row_for_each_width_split_and_flow_time(result: ForecastResult) -> None:
    rows = table(result)
    assert len(rows) == len(result.rows) == 3 * 2 * len({row.tau for row in result.rows})
    header, first, *_ = to_csv(result).splitlines()
    assert header.startswith("width,split,epoch,tau,c,sparsity,low,high,run_low,run_high")
    assert first.startswith(",positive,0,0")


def test_the_paper_is_not_compared_with_a_forecast(result: ForecastResult) -> None:
    assert list(comparison([with_onset(result, CROSSED)])) == []


def record(store: Store, points: tuple[ForecastPoint, ...]) -> str:
    job_id, attempt = claimed(store, submit(store, SPEC, fresh=True))
    store.queue.record(job_id, attempt, lease_seconds=LEASE, progress=HALF, rows=points)
    return job_id


def test_a_list_shows_the_newest_complete_point(
    either_store: Store, result: ForecastResult
) -> None:
    last = [one for one in result.points if one.epoch == result.points[-1].epoch]
    job_id = record(either_store, result.points)
    job = read(either_store, job_id)
    found = either_store.jobs.headlines([job])[job_id]
    assert found.text == (
        f"τ = {last[0].tau:.3g}: C+ {last[0].c:.3f} C− {last[1].c:.3f} "
        f"T2+ {last[0].theorem2_ratio:.2f} T2− {last[1].theorem2_ratio:.2f}"
    )
    assert title_of(job) == "forecast on mnist-mini, width 16, 256 from 32 units"
    begun = read(either_store, record(either_store, result.points[:3]))
    assert either_store.jobs.headlines([begun])[begun.id].text.startswith("τ = 0:")


STUDY = StudySpec.model_validate(
    {
        "parts": {
            "small": {
                "base": SPEC.model_dump(mode="json"),
                "grid": {"until_tau": [3.0, 4.0]},
            },
            "wide": {"base": {"kind": "train", "epochs": 1}},
        }
    }
)


@pytest.mark.slow
def test_a_study_summarises_its_forecasts_and_shows_them(
    either_store: Store, result: ForecastResult
) -> None:
    store = either_store
    job = submit(store, STUDY, fresh=True)
    assert [run.kind for run, _ in store.jobs.children(job.id)] == ["forecast", "forecast", "train"]
    changed = with_onset(result, CROSSED).result
    assert isinstance(changed, ForecastResult)
    for run, _ in store.jobs.children(job.id):
        finished(store, run.id, changed if run.kind == "forecast" else train_result())
    while store.studies.advance(job.id):
        pass
    cells = store.studies.result(job.id).cells
    assert [cell.kind for cell in cells] == ["forecast", "forecast", "train"]
    assert cells[0].summary["tau_star"].mean == 2.0
    ended = read(store, job.id)
    assert ended.state == "succeeded"
    sources = drawable(store, ended)
    assert {"forecast_sparsity", "forecast_theorem2", "grid_sparsity"} <= set(available(sources))
    drawn = render("grid_sparsity", sources, "json").decode()
    assert "256" in drawn  # widths that are forecast are told apart
    assert render("forecast_sparsity", sources, "svg").startswith(b"<svg")
    epochs = epochs_table(sources)
    assert epochs.head[0] == "forecast"
    assert {row[0] for row in epochs.rows} == {"until_tau 3", "until_tau 4"}
    assert "Epochs needed" in report(ended, sources)
    lines = what_was_found(sources)
    assert any("until_tau 4: Forecast for" in line for line in lines)
    assert sum("A pair x / y is of" in line and "act 1" in line for line in lines) == 1
    many = sentences([with_onset(result, CROSSED)._replace(label=str(one)) for one in range(8)])
    assert sum("Forecast for layers" in line for line in many) == 6
    assert "The figures of 2 more forecasts are in the table." in many
    rows = table(store.studies.result(job.id))
    assert {row["figure"] for row in rows} >= {"tau_star", "sparsity", "agreement"}
    assert {row["until_tau"] for row in rows if row["figure"] == "tau_star"} == {3.0, 4.0}


def test_measured_rows_of_a_study_say_of_which_forecast_they_are(
    store: Store, result: ForecastResult
) -> None:
    job = submit(store, STUDY, fresh=True)
    for run, _ in store.jobs.children(job.id):
        finished(store, run.id, result if run.kind == "forecast" else train_result())
    while store.studies.advance(job.id):
        pass
    runs = runs_of_study(store.studies.result(job.id).cells)
    for means in (False, True):
        found = measured_rows(runs, store.jobs.each_row, means=means)
        rows = list(found.rows)
        assert {*found.columns} >= {key for row in rows for key in row if row[key] is not None}
        assert {row["until_tau"] for row in rows if row["part"] == "small"} == {3.0, 4.0}
        assert {row["job"] for row in rows} == {run.job for run in runs}


def test_the_command_line_runs_a_study_of_forecasts_here(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    base = SPEC.model_dump(mode="json") | {"every_epochs": 20, "samples": 20}
    file.write_text(json.dumps({"kind": "study", "base": base, "grid": {"until_tau": [1.0, 4.0]}}))
    done = CliRunner().invoke(app, ["run", str(file)], env={"FFLAB_HOME": str(tmp_path)})
    assert done.exit_code == 0, done.output
    assert "until_tau 4: Forecast for layers of any width" in done.output
    assert "forecast\twidth\tlr" in done.output
    assert "measured\t" not in done.output


@pytest.mark.slow
def test_the_report_has_the_table_of_epochs(store: Store, result: ForecastResult) -> None:
    job_id, attempt = claimed(store, submit(store, SPEC, fresh=True))
    store.queue.finish(job_id, attempt, result)
    page = report(read(store, job_id), [with_onset(result, CROSSED)])
    assert "Epochs needed" in page
    assert "Forecast for layers of any width" in page
    assert "Measured beside published" not in page


@pytest.mark.slow
def test_the_command_line_runs_a_forecast_here(tmp_path: Path) -> None:
    file = tmp_path / "forecast.json"
    file.write_text(SPEC.model_dump_json(exclude_unset=True))
    done = CliRunner().invoke(
        app, ["run", str(file), "-o", str(tmp_path / "rows.csv")], env={"FFLAB_HOME": str(tmp_path)}
    )
    assert done.exit_code == 0, done.output
    assert "Forecast for layers of any width" in done.output
    assert "epochs until act 1 ends" in done.output
    assert (tmp_path / "rows.csv").read_text().startswith("width,split,epoch,tau")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("network.widths=[500, 500]", "a forecast is of one layer"),
        ("objective.name=softplus", "4 seeds or more"),
        ("epoch=3", "did you mean"),
    ],
)
def test_the_command_line_says_in_one_line_what_is_wrong(
    tmp_path: Path, change: str, words: str
) -> None:
    file = tmp_path / "forecast.json"
    file.write_text(SPEC.model_dump_json(exclude_unset=True))
    done = CliRunner().invoke(app, ["run", str(file), "--set", change])
    assert done.exit_code != 0
    assert words in str(done.exception) + done.output
