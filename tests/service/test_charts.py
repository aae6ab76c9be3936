"""Charts, the comparison and the report: every chart in every format from real results, their
values against their definitions.
"""

import csv
import gc
import html
import io
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pytest
import torch

import ffengine
from ffengine.checking import CellsReport
from ffengine.findings import FINDINGS
from ffengine.infinite_width import limit_kernel
from ffengine.interrupts import Control
from ffengine.intervals import wilson
from ffengine.margin_files import CellMargins, write_margins
from ffengine.results import (
    SHARES,
    CheckResult,
    Interval,
    Onset,
    Split,
    StudyCell,
    StudyResult,
    TrainResult,
)
from ffengine.spec import CheckSpec, ForecastSpec, StudySpec, TrainSpec, digest
from ffengine.study import expand, study_cell, summarise, with_params
from ffengine.summary_keys import figure_of
from service.artifacts import Artifacts, margins_name
from service.jobs import Job
from service.results.charts import (
    CHARTS,
    FORMATS,
    ChartSource,
    GridCell,
    NothingToDraw,
    PartialRun,
    Source,
    StudyGrid,
    available,
    overlay,
    render,
)
from service.results.charts.finish import (
    DARK_COLOURS,
    DARK_INK,
    DARK_PAGE,
    svg_with_dark_variant,
)
from service.results.charts.geometry import limit_curve
from service.results.charts.overlay import OVERLAID
from service.results.charts.style import MOST_PANELS
from service.results.compared_runs import compared
from service.results.csv_export import table, to_csv
from service.results.finding_runs import what_was_found
from service.results.histograms import (
    BINS,
    EDGES,
    MOST_FILES,
    cells_with_margins,
    margin_histograms,
)
from service.results.paper_comparison import MEANINGS, ComparisonRow, Verdict, comparison, legend
from service.results.paper_setting import is_papers_setting
from service.results.report import report
from service.results.run_labels import run_keys
from service.results.weight_figures import reader_of
from tests.service.courses import training
from tests.service.drawn import trained_with_weights
from tests.service.samples import check_cell, check_result, epoch_row, provenance, train_result

TINY: dict[str, Any] = {
    "dataset": {"train_samples": 100, "test_samples": 20},
    "network": {"widths": [12]},
    "epochs": 2,
    "batch_size": 50,
}
TRAIN = TrainSpec.model_validate({**TINY, "seeds": [0, 1, 2]})
DEEP = TrainSpec.model_validate(
    {
        **TINY,
        "dataset": {**TINY["dataset"], "validation_samples": 30},
        "network": {"widths": [12, 8], "normalize": "l2"},
        "objective": {"name": "softplus", "collaboration": {}},
        "layers": "simultaneous",
        "monitor": {"accuracy": True, "measures": ["weights"]},
        "evaluation": {
            "usage": True,
            "selectivity": True,
            "lesions": {"shares": [0.5]},
            "ood": {"dataset": "mnist-mini", "samples": 30},
        },
    }
)
CHECKS = [
    CheckSpec(
        theorem=number,
        widths=(8, 16),
        samples=60,
        batch_size=30,
        seeds=(0, 1),
        decomposition=number == 2,
    )
    for number in (1, 2)
]
FORECAST = ForecastSpec.model_validate(
    {"dataset": TINY["dataset"], "units": 16, "widths": [64], "blocks": 4, "until_tau": 0.3}
)
STUDY = StudySpec(
    base=TrainSpec.model_validate({**TINY, "epochs": 1, "seeds": [0, 1]}),
    grid={"optimizer.lr": [0.5, 1.0], "negatives.strategy": ["wrong_label", "noise", "hybrid"]},
)
OF_SEVERAL_RUNS = ("sparsity_widths", "theorem2_inputs")
OF_OTHER_RUNS = (*OF_SEVERAL_RUNS, "phases")  # than those of `sources`
OWNER = "job_" + "0" * 31 + "7"
SPLITS: tuple[Split, Split] = ("positive", "negative")
Rows = list[dict[str, Any]]


class Checked(NamedTuple):
    """A check whose margins are kept."""

    spec: CheckSpec
    result: CheckResult
    margins: list[CellMargins]
    artifacts: Artifacts
    owner: str

    @property
    def source(self) -> Source:
        kept = cells_with_margins(self.result.cells, self.artifacts, self.owner)
        return Source(
            "",
            self.result,
            self.spec,
            partial(margin_histograms, kept, self.artifacts, self.owner) if kept else None,
        )


def checked(spec: CheckSpec, artifacts: Artifacts, owner: str = OWNER) -> Checked:
    margins: list[CellMargins] = []

    def keep(found: CellsReport) -> Control:
        artifacts.put(
            owner,
            margins_name(found.cells[0].seed, found.cells[0].width),
            write_margins(found.margins),
        )
        margins.extend(found.margins)
        return "run"

    return Checked(spec, ffengine.check(spec, on_cells=keep), margins, artifacts, owner)


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> list[Checked]:
    return [checked(spec, Artifacts(tmp_path_factory.mktemp("artifacts"))) for spec in CHECKS]


@pytest.fixture(scope="module")
def centering() -> list[ChartSource]:
    """The finished study of a finding, each run a small one."""
    cells = [
        cell._replace(spec=with_params(cell.spec, FINDINGS["centering"].tiny, (), None))
        for cell in expand(FINDINGS["centering"].study)
    ]
    results = [ffengine.train(cell.spec) for cell in cells if isinstance(cell.spec, TrainSpec)]
    found = [
        GridCell(study_cell(cell, job=None, state="succeeded", result=result), cell.spec)
        for cell, result in zip(cells, results, strict=True)
    ]
    runs = [
        Source(key.label, result, run=key)
        for key, result in zip(run_keys(cells), results, strict=True)
    ]
    return [StudyGrid("", found, "centering"), *runs]


@pytest.mark.slow
def test_the_chart_of_a_finding_is_there_once_all_its_runs_are(
    centering: list[ChartSource], sources: list[ChartSource]
) -> None:
    assert "finding" in available(centering)
    assert "finding" not in available(centering[:-1])
    assert "finding" not in available(centering[1:])
    grid = centering[0]
    assert isinstance(grid, StudyGrid)
    fewer = [grid._replace(cells=grid.cells[1:]), *centering[2:]]
    assert "finding" not in available(fewer)  # another study under the name of the preset
    with pytest.raises(NothingToDraw):
        render("finding", sources, "json")
    first, *_ = what_was_found(centering)
    assert first.startswith("`unit`: S ")


@pytest.fixture(scope="module")
def grid() -> StudyGrid:
    return StudyGrid(
        "",
        [
            GridCell(
                study_cell(cell, job=None, state="succeeded", result=ffengine.train(cell.spec)),
                cell.spec,
            )
            for cell in expand(STUDY)
            if isinstance(cell.spec, TrainSpec)
        ],
    )


@pytest.fixture(scope="module")
def sources(
    checks: list[Checked], grid: StudyGrid, tmp_path_factory: pytest.TempPathFactory
) -> list[ChartSource]:
    artifacts = Artifacts(tmp_path_factory.mktemp("weights"))
    first = Source("", trained_with_weights(TRAIN, artifacts, OWNER), TRAIN)
    trained = [
        first._replace(weights=reader_of(artifacts, OWNER, TRAIN)),
        Source("deep", ffengine.train(DEEP), DEEP),
    ]
    forecast = Source("forecast", ffengine.forecast(FORECAST), FORECAST)
    return [*trained, *(check.source for check in checks), forecast, grid]


@pytest.fixture(scope="module")
def alike() -> list[ChartSource]:
    """Runs that differ in their width alone, in their preprocessing alone, and in their phases."""
    changes: list[dict[str, Any]] = [
        {},
        {"network": {"widths": [16]}, "optimizer": {"name": "sgd", "lr": 2.0}},
        {"dataset": {**TINY["dataset"], "preprocess": "center"}, "epochs": 1},
        {"phases": {"positive_steps": 1, "negative_steps": 1, "unit": "epochs"}},
    ]
    specs = [TrainSpec.model_validate({**TINY, "seeds": [0, 1], **change}) for change in changes]
    return [Source(str(at), ffengine.train(spec), spec) for at, spec in enumerate(specs)]


def rows_of(name: str, sources: Sequence[ChartSource], key: str) -> Rows:
    """The values of a chart that have a field."""
    document = json.loads(render(name, sources, "json"))
    return [row for values in document["datasets"].values() for row in values if key in row]


def caption_of(name: str, sources: Sequence[ChartSource]) -> str:
    return " ".join(json.loads(render(name, sources, "json"))["title"]["subtitle"])


def trained_of(source: ChartSource) -> TrainResult:
    assert isinstance(source, Source)
    assert isinstance(source.result, TrainResult)
    return source.result


def many_cells(sources: list[ChartSource]) -> StudyGrid:
    """The study among the sources, with its cells several times over."""
    grid = next(source for source in sources if isinstance(source, StudyGrid))
    return grid._replace(cells=[*grid.cells] * 3)


def test_every_chart_is_available_where_its_rows_are(sources: list[ChartSource]) -> None:
    of_many = {"search_importance"}
    assert set(available(sources)) == set(CHARTS) - {"finding", *OF_OTHER_RUNS} - of_many
    assert of_many <= set(available([many_cells(sources)]))
    assert available(sources[2:3]) == ["theorem1_widths", "margins", "geometry", "agreement_widths"]
    assert available(sources[:1]) == [
        "loss",
        "accuracy",
        "theorem2",
        "sparsity",
        "goodness",
        "prediction",
        "theorem1",
        "agreement",
        "theorem2_expected",
        "kappa_gap",
        "used_units",
        "basins",
        "effective_sizes",
        "weight_norm",
        "log_goodness_flow",
        "sparsity_flow",
        "theorem2_flow",
        "receptive_fields",
        "weight_histogram",
        "unit_lengths",
    ]
    assert available([]) == []
    with pytest.raises(NothingToDraw):
        render("sparsity", sources[2:], "json")


@pytest.mark.parametrize("name", ["sparsity_flow", "theorem2_flow", "log_goodness_flow"])
def test_charts_over_flow_time_have_the_tau_of_each_row(
    sources: list[ChartSource], name: str
) -> None:
    source = sources[0]
    assert isinstance(source, Source)
    assert isinstance(source.result, TrainResult)
    taus = {row.tau for row in source.result.curves}
    for drawn in (render(name, [source], "json"), overlay(name, [source, source])):
        text = json.loads(drawn)
        assert '"field": "tau"' in json.dumps(text)
        [data] = [rows for rows in text["datasets"].values() if {"tau", "epoch"} <= set(rows[0])]
        assert {row["tau"] for row in data} == taus
    earlier = source.result.model_copy(
        update={
            "curves": tuple(row.model_copy(update={"tau": None}) for row in source.result.curves)
        }
    )
    assert name not in available([source._replace(result=earlier)])


@pytest.mark.slow
def test_curves_of_several_jobs_lie_over_each_other(sources: list[ChartSource]) -> None:
    jobs = [
        source._replace(label=f"job {number}") for number, source in enumerate([sources[0]] * 9)
    ]
    assert set(OVERLAID) <= set(available(jobs))
    for name in available(jobs):
        drawn = json.loads(overlay(name, jobs))
        if name in OVERLAID:
            rows = [row for rows in drawn["datasets"].values() for row in rows if "job" in row]
            assert {(row["job"], row["series"]) for row in rows} == {
                (f"job {number}", f"{split} samples")
                for number in range(9)
                for split in ("positive", "negative")
            }
            scales = [
                layer["encoding"]["strokeDash"]["scale"]
                for layer in drawn["spec"]["layer"]
                if "strokeDash" in layer.get("encoding", {})
            ]
            looks = list(
                zip(
                    drawn["spec"]["layer"][-1]["encoding"]["color"]["scale"]["range"],
                    map(str, scales[-1]["range"]),
                    strict=True,
                )
            )
            assert len(set(looks)) == 9  # no two alike


QUICKLY_RENDERED = ("theorem2", "grid_theorem1")  # one of a run, one of a study


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICKLY_RENDERED else pytest.mark.soak)
        for name in CHARTS
    ],
)
def test_every_chart_renders_in_every_format(
    sources: list[ChartSource],
    centering: list[ChartSource],
    alike: list[ChartSource],
    name: str,
) -> None:
    drawn = centering if name == "finding" else alike if name in OF_OTHER_RUNS else sources
    drawn = [many_cells(sources)] if name == "search_importance" else drawn
    CHARTS[name].draw(drawn).to_dict(validate=True)  # by the schema of Vega-Lite
    starts = {
        "png": b"\x89PNG",
        "svg": b"<svg",
        "pdf": b"%PDF",
        "json": b"{",
        "html": b"<!DOCTYPE html>",
        "csv": b"",
    }
    for fmt in FORMATS:
        assert render(name, drawn, fmt).lstrip().startswith(starts[fmt]), fmt


@pytest.mark.parametrize("name", CHARTS)
def test_no_two_series_of_a_chart_look_alike(
    sources: list[ChartSource],
    centering: list[ChartSource],
    alike: list[ChartSource],
    name: str,
) -> None:
    """Series differ in colour, and by dash or shape too, for readers who see no colours."""
    drawn = centering if name == "finding" else alike if name in OF_OTHER_RUNS else sources
    drawn = [many_cells(sources)] if name == "search_importance" else drawn
    document = json.loads(render(name, drawn, "json"))
    for views in layered(document):
        coloured = series_by(views, "color")
        assert coloured or name in WITHOUT_SERIES
        for field, colours in coloured.items():
            assert len(set(colours)) == len(colours) or name in BY_METHOD
            others = [
                found[field]
                for channel in ("strokeDash", "shape")
                if field in (found := series_by(views, channel))
            ]
            beside = [list(map(str, found)) for found in others if len(found) == len(colours)]
            assert name in BY_SIDE or any(len(set(found)) == len(colours) for found in beside)


WITHOUT_SERIES = {  # one series in each panel, or a colour for each number
    *("search_history", "search_importance", "search_parallel", "study_scatter"),
    *("receptive_fields", "weight_histogram", "unit_lengths", "selectivity"),
    *("grid_theorem1", "grid_theorem2", "grid_sparsity", "grid_accuracy", "grid_agreement"),
}
BY_SIDE = {"geometry"}  # bars above and below zero, and a line
BY_METHOD = {"margins"}  # the lines of both methods have the colour of their samples


def layered(part: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The layers of each plot of a chart; those of a plot share scales."""
    if "layer" in part:
        return [[one for layer in part["layer"] for one in units(layer)]]
    inner = [*part.get("vconcat", ()), *part.get("hconcat", ()), *part.get("concat", ())]
    inner += [part["spec"]] if "spec" in part else []
    return [views for one in inner for views in layered(one)]


def units(part: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for layer in part["layer"] for one in units(layer)] if "layer" in part else [part]


def series_by(views: list[dict[str, Any]], channel: str) -> dict[str, list[Any]]:
    """By the field of the series: what each of them has on a channel."""
    return {
        found["field"]: found["scale"]["range"]
        for view in views
        if (found := view.get("encoding", {}).get(channel)) and "range" in found.get("scale", {})
        if found["type"] == "nominal"
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_names_its_data_and_leaves_the_colours_of_text_to_the_page(
    sources: list[ChartSource],
    centering: list[ChartSource],
    alike: list[ChartSource],
    name: str,
) -> None:
    there = [source for source in sources if available([source]) and name in available([source])]
    there = centering if name == "finding" else alike if name in OF_OTHER_RUNS else there
    there = [many_cells(sources)] if name == "search_importance" else there
    assert "mnist-mini" in caption_of(name, there)
    document = render(name, there, "json").decode()
    assert re.search(r"\bseed", caption_of(name, there))
    for field in ("subtitleColor", "labelColor", "titleColor", '"background"'):
        assert field not in document
    if '"strokeDash": [6, 4]' in document:  # a dashed line is named
        assert "dashed line" in caption_of(name, there) or '"field": "word"' in document


def test_widths_share_a_plot_without_the_factor_of_their_width(alike: list[ChartSource]) -> None:
    assert set(OF_SEVERAL_RUNS) <= set(available(alike))
    rows = rows_of("sparsity_widths", alike, "job")
    assert {row["job"] for row in rows} == {"n = 12", "n = 16"}
    assert {row["series"] for row in rows} == {"positive samples", "negative samples"}
    for source, width in zip(alike, (12, 16), strict=False):
        for row in trained_of(source).curves:
            alone = [
                other.sparsity or 0.0
                for other in trained_of(source).curves
                if (other.epoch, other.split) == (row.epoch, row.split)
            ]
            expected = sum(alone) / 2 * (width**0.5 - 1) / width**0.5
            [drawn] = [
                one
                for one in rows
                if (one["job"], one["epoch"], one["series"])
                == (f"n = {width}", row.epoch, f"{row.split} samples")
            ]
            assert drawn["mean"] == pytest.approx(expected)
            assert drawn["low"] < drawn["mean"] < drawn["high"]


def test_theorem_2_has_a_panel_for_each_preprocessing(alike: list[ChartSource]) -> None:
    rows = rows_of("theorem2_inputs", alike, "panel")
    assert [row["panel"] for row in rows if row["epoch"] == 0] == ["pixels as they are"] * 2 + [
        "centred pixels"
    ] * 2
    caption = caption_of("theorem2_inputs", alike)
    assert caption.startswith(
        "Data: mnist-mini; mean over 2 seeds; 200 samples per point; n = 12. Band"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_SEVERAL_RUNS)
def test_the_predicted_turn_is_drawn_where_one_is_predicted(
    alike: list[ChartSource], name: str
) -> None:
    onset = Onset(tau_star=0.04)
    predicted = [
        source._replace(result=trained_of(source).model_copy(update={"onset": onset}))
        if isinstance(source, Source) and source.label != "2"  # centred: S does not fall
        else source
        for source in alike
    ]
    assert "predicted turn τ* = 0.04, where S is expected to be lowest" in caption_of(
        name, predicted
    )
    rows = [row for row in rows_of(name, predicted, "panel") if row.get("turn") is not None]
    panels = ["positive samples", "negative samples"]
    assert [row["panel"] for row in rows] == (
        panels if name == "sparsity_widths" else ["pixels as they are"]
    )
    without = [
        source._replace(result=trained_of(source).model_copy(update={"onset": None}))
        for source in predicted
        if isinstance(source, Source)
    ]
    assert "dotted" not in caption_of(name, without)


# Intervals


def test_a_figure_has_the_same_interval_in_charts_table_file_and_summary(
    checks: list[Checked], sources: list[ChartSource]
) -> None:
    check = checks[1]
    lines = {line.quantity: line for line in comparison([check.source])}
    summary = summarise(check.result)
    drawn = [
        point
        for point in rows_of("theorem2_widths", [check.source], "width")
        if point["method"] == "exact"
    ]
    assert len(drawn) == 4
    for point in drawn:
        line = lines[
            f"Theorem 2 along the step on G(negative) - G(positive), at initialisation, "
            f"{point['split']} samples, n = {point['width']}"
        ]
        found = summary[f"ratio[width={point['width']} split={point['split']} method=exact]"]
        assert (found.mean, found.low, found.high) == (point["mean"], point["low"], point["high"])
        assert (line.measured, line.low, line.high) == (point["mean"], point["low"], point["high"])
        assert line.seeds == found.seeds == 2
    result = trained_of(sources[0])
    table_lines, figures = comparison(sources[:1]), summarise(result)
    for point in rows_of("theorem2", sources[:1], "epoch"):
        if point["epoch"] in (0, 2):
            found = figures[
                f"theorem2_ratio[layer=0 epoch={point['epoch']} split={point['split']}]"
            ]
            (line,) = (
                one
                for one in table_lines
                if f"epoch {point['epoch']}, {point['split']}" in one.quantity
                and "Theorem" in one.quantity
            )
            assert (found.low, found.high) == (line.low, line.high) == (point["low"], point["high"])
    cell = study_cell(
        expand(StudySpec(base=CHECKS[1]))[0], job=None, state="succeeded", result=check.result
    )
    rows = table(StudyResult(cells=(cell,)))
    for row, found in zip(rows, summary.values(), strict=True):
        assert (row["mean"], row["low"], row["high"]) == (
            found.mean,
            found.low,
            found.high,
        )


def test_no_interval_of_a_share_leaves_0_and_1(grid: StudyGrid) -> None:
    """Two seeds have a t of 12.7: without bounds, their intervals reach far beyond."""
    found = [
        one
        for cell in grid.cells
        for key, one in cell.found.summary.items()
        if figure_of(key) in SHARES
    ]
    assert len(found) > 100
    assert all(0 <= (one.low or 0) <= one.mean <= (one.high or 1) <= 1 for one in found)
    assert any(one.low == 0 or one.high == 1 for one in found)


# Curves


def test_a_curves_values_are_means_over_seeds(sources: list[ChartSource]) -> None:
    from scipy import stats  # slow to import: every lane of the tests imports this file

    points = rows_of("sparsity", sources[:1], "epoch")
    assert len(points) == 6
    for point in points:
        rows = [
            row
            for row in trained_of(sources[0]).curves
            if (row.epoch, row.split) == (point["epoch"], point["split"])
        ]
        values = [row.sparsity or 0 for row in rows]
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        assert (point["mean"], point["low"], point["high"]) == pytest.approx(
            (np.mean(values), max(0, low), min(1, high)), abs=1e-3
        )
        assert (point["seeds"], point["samples"]) == (
            3,
            sum(row.samples - row.dead_samples for row in rows),
        )


def test_one_seed_has_no_interval(sources: list[ChartSource]) -> None:
    """Its samples share weights: how far they scatter says nothing of other seeds."""
    result = trained_of(sources[0])
    one = [
        Source(
            "",
            result.model_copy(
                update={"curves": tuple(row for row in result.curves if row.seed == 1)}
            ),
            TRAIN,
        )
    ]
    for point in rows_of("theorem2", one, "epoch"):
        (row,) = (
            r
            for r in result.curves
            if (r.seed, r.epoch, r.split) == (1, point["epoch"], point["split"])
        )
        assert point["mean"] == row.theorem2_ratio
        assert (point["low"], point["high"]) == (None, None)
    assert "the wider of Student's" in caption_of("theorem2", sources[:1])
    for name in ("sparsity", "theorem2"):
        assert "One seed has no interval." in caption_of(name, one)


def test_predicted_and_observed_shares_lie_beside_each_other(sources: list[ChartSource]) -> None:
    points = rows_of("prediction", sources[:1], "what")
    curves = trained_of(sources[0]).curves
    for what, figure in (("predicted", "theorem2_ratio"), ("observed", "observed_increase_ratio")):
        for point in (point for point in points if point["what"] == what):
            rows = [
                row for row in curves if (row.epoch, row.split) == (point["epoch"], point["split"])
            ]
            assert point["mean"] == pytest.approx(np.mean([getattr(row, figure) for row in rows]))


def test_goodness_has_the_threshold_of_the_objective_and_only_where_there_is_one(
    sources: list[ChartSource],
) -> None:
    assert [row["value"] for row in rows_of("goodness", sources[1:2], "label")] == [0.0]
    assert "the objective's threshold, 2" in caption_of("goodness", sources[1:2])
    assert rows_of("goodness", sources[:1], "label") == []  # difference has none
    so_far = PartialRun("", [epoch_row(0)], spec=DEEP)
    assert "the objective's threshold, 2" in caption_of("goodness", [so_far])
    objective = {"name": "softplus", "threshold": 2.0, "negative_threshold": 1.5}
    two = PartialRun("", [epoch_row(0)], spec=TrainSpec.model_validate({"objective": objective}))
    assert "threshold, 2 of positives and 1.5 of negatives" in caption_of("goodness", [two])


def test_what_is_left_of_a_gradient_is_seen_far_below_one_and_far_above() -> None:
    rows = [
        epoch_row(0, split).model_copy(update={"gradient_share": share})
        for split, share in (("positive", 0.02), ("negative", 30.0))
    ]
    document = json.loads(render("gradient_share", [PartialRun("", rows)], "json"))
    scales = re.findall(r'"scale": (\{"clamp": true[^}]*\})', json.dumps(document, sort_keys=True))
    assert [json.loads(scale) for scale in scales[:1]] == [
        {"clamp": True, "domain": [0.01, 60.0], "nice": False, "type": "log"}
    ]


def test_theorem_1_while_training_is_drawn_only_where_it_was_monitored() -> None:
    rows = [epoch_row(epoch, split) for epoch in (0, 1) for split in SPLITS]
    assert "theorem1" in available([PartialRun("", rows)])
    assert "theorem1" not in available(
        [PartialRun("", [row.model_copy(update={"theorem1_ratio": None}) for row in rows])]
    )


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [1_999, 2_000, 2_001])
def test_long_curves_are_bins_with_their_smallest_and_largest_values(epochs: int) -> None:
    """Compared with the full rows: no value is outside what is drawn, and none is invented."""
    draw = np.random.default_rng(0)
    values = draw.random((epochs + 1, 2))
    rows = [
        epoch_row(epoch, "positive", seed=seed).model_copy(
            update={"goodness": value, "tau": epoch / 10}
        )
        for epoch, pair in enumerate(values.tolist())
        for seed, value in enumerate(pair)
    ]
    source, means = PartialRun("", rows), values.mean(axis=1)
    points = rows_of("goodness", [source], "epoch")
    ends = [[int(end) for end in point["epochs"].split(" to ")] for point in points]
    assert [first for first, *_ in ends] == [0, *(last[-1] + 1 for last in ends[:-1])]
    assert (ends[0], ends[-1], len(points) <= 300) == ([0], [epochs], True)
    for point, (first, *last) in zip(points, ends, strict=True):
        there = means[first : (last or [first])[0] + 1]
        drawn = (point["least"], point["most"], point["mean"])
        assert drawn == pytest.approx((there.min(), there.max(), there.mean()))
        assert point["tau"] == point["epoch"] / 10
    assert f"{epochs + 1:,} epochs, drawn as {len(points)} bins with their smallest" in caption_of(
        "goodness", [source]
    )
    bands = drawn_layers("goodness", source, "area")
    assert [(band["y"]["field"], band["y2"]["field"]) for band in bands] == [
        ("low", "high"),
        ("least", "most"),
    ]


def test_few_epochs_are_drawn_one_by_one() -> None:
    source = PartialRun("", [epoch_row(epoch) for epoch in range(300)])
    assert [row["epoch"] for row in rows_of("goodness", [source], "epoch")] == list(range(300))
    assert "bins" not in caption_of("goodness", [source])
    assert drawn_layers("goodness", source, "area") == []  # one seed: no interval either


def drawn_layers(name: str, source: ChartSource, mark: str) -> list[dict[str, Any]]:
    """The encodings of the layers with such a mark."""
    document = json.loads(render(name, [source], "json"))
    return [layer["encoding"] for layer in document["layer"] if layer["mark"]["type"] == mark]


def test_the_loss_of_a_pair_is_the_sum_of_its_terms_seed_by_seed() -> None:
    terms: dict[tuple[Split, int], float] = {
        ("positive", 0): 1.0,
        ("negative", 0): 2.0,
        ("positive", 1): 5.0,
        ("negative", 1): 8.0,
    }
    rows = [
        epoch_row(0, split, seed=seed, layer=layer).model_copy(update={"loss": value * (layer + 1)})
        for layer in (0, 1)
        for (split, seed), value in terms.items()
    ]
    alone = epoch_row(0, "positive", seed=2).model_copy(update={"loss": 100.0})  # has no partner
    points = rows_of("loss", [PartialRun("", [*rows, alone])], "what")
    pairs = [point for point in points if point["what"] == "loss of a pair"]
    assert [(pair["series"], pair["mean"], pair["seeds"]) for pair in pairs] == [
        ("layer 0", 8.0, 2),
        ("layer 1", 16.0, 2),
    ]


def test_accuracy_is_that_after_the_last_epoch_for_each_way_to_tell_a_label(
    sources: list[ChartSource],
) -> None:
    for source, way, layers in (
        (sources[0], "by goodness, layer 0", (0,)),
        (sources[1], "by goodness, layers 0+1", (0, 1)),
    ):
        found = trained_of(source).accuracy
        points = rows_of("accuracy", [source], "way")
        assert len(points) == len({(r.layers, r.method, r.partition) for r in found})
        (point,) = (one for one in points if (one["way"], one["partition"]) == (way, "test"))
        rows = [
            r for r in found if (r.layers, r.method, r.partition) == (layers, "goodness", "test")
        ]
        assert point["mean"] == pytest.approx(np.mean([row.accuracy for row in rows]))
        samples = sum({row.seed: row.samples for row in rows}.values())
        assert (point["epoch"], point["samples"]) == (2, samples)
    assert "A guess is right for 0.1 of the samples." in caption_of("accuracy", sources[:1])


@pytest.mark.parametrize("layers", range(1, 7))
def test_axis_titles_never_collide_and_every_axis_has_a_panel(layers: int) -> None:
    """One title for the vertical axes of all panels, and axes of its own for each panel."""
    rows = [epoch_row(0, layer=layer) for layer in range(layers)]
    for name in ("goodness", "agreement", "theorem2"):
        document = json.loads(render(name, [PartialRun("", rows)], "json"))
        inner = document.get("spec", document)["layer"]
        encodings = [layer["encoding"] for layer in inner if "encoding" in layer]
        titles = {encoding["y"].get("title") for encoding in encodings if "y" in encoding}
        if layers == 1:
            assert len(titles - {None}) == 1
            continue
        assert titles == {None}
        assert document["facet"]["title"].startswith("↑ ")
        assert document["resolve"]["axis"] == {"x": "independent", "y": "independent"}


def test_the_collector_does_not_look_through_the_charting_library() -> None:
    assert gc.get_freeze_count() > 100_000


@pytest.mark.slow
def test_huge_values_have_short_tick_labels() -> None:
    rows = [
        epoch_row(epoch).model_copy(update={"goodness": epoch * 1.3333333e37}) for epoch in range(4)
    ]
    labels = re.findall(
        r'aria-label="([^" ]*e[+]?37)"', render("goodness", [PartialRun("", rows)], "svg").decode()
    )
    assert labels
    assert all(len(label) <= 8 for label in labels)
    tips = drawn_layers("goodness", PartialRun("", rows), "line")[0]["tooltip"]
    assert [tip["format"] for tip in tips if tip["field"] == "mean"] == [".4~g"]


def test_an_axis_with_one_value_is_spoken_of_as_that_value() -> None:
    for epochs, spoken in (
        (1, "linear scale at 0"),
        (3, "linear scale with values from 0.0 to 2.0"),
    ):
        rows = [epoch_row(epoch) for epoch in range(epochs)]
        labels = re.findall(
            'aria-label="X-axis ([^"]*)"',
            render("goodness", [PartialRun("", rows)], "svg").decode(),
        )
        assert [label.partition(" for a ")[2] for label in labels] == [spoken]


@pytest.mark.slow
def test_a_dark_chart_has_a_dark_page_and_colours_that_are_seen_on_it(
    sources: list[ChartSource],
) -> None:
    light, dark = (
        render("sparsity", sources[:1], "svg", theme).decode() for theme in ("light", "dark")
    )
    assert (DARK_PAGE in light, DARK_PAGE in dark) == (False, True)
    for colour, instead in DARK_COLOURS.items():
        assert colour.lower() not in dark.lower()
        assert contrast(instead, DARK_PAGE) >= 4.5
    assert contrast(DARK_INK, DARK_PAGE) >= 7
    texts = re.findall(r'<g role="img" aria-label[^>]*>', dark)  # outlines of words
    assert texts
    assert all(f'fill="{DARK_INK}"' in text for text in texts)


def test_a_chart_of_the_report_is_dark_where_the_reader_wants_dark_pages(
    sources: list[ChartSource],
) -> None:
    plain = render("sparsity", sources[:1], "svg").decode()
    both = svg_with_dark_variant(plain)
    style = both.partition("<style>")[2].partition("</style>")[0]
    assert both == plain.replace(">", f"><style>{style}</style>", 1)
    used = set(re.findall(r'(?:fill|stroke)="(#[0-9A-Fa-f]{3,6}|black|white)"', plain))
    assert {colour for colour in used if f'"{colour}"' not in style} == set()
    assert style.startswith("@media (prefers-color-scheme:dark)")


def test_a_chart_as_csv_has_the_rows_that_it_draws(sources: list[ChartSource]) -> None:
    rows = list(csv.DictReader(io.StringIO(render("sparsity", sources[:1], "csv").decode())))
    drawn = rows_of("sparsity", sources[:1], "epoch")
    assert [float(row["mean"]) for row in rows] == [row["mean"] for row in drawn]
    assert "value" not in rows[0]  # of a reference line


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_many_runs_are_as_many_panels_as_can_be_looked_at_in_the_order_given() -> None:
    many = [Source(f"lr {number}", train_result()) for number in range(100)]
    document = json.loads(render("theorem2", many, "json"))
    assert document["facet"]["sort"] == [f"lr {number}" for number in range(MOST_PANELS)]
    assert f"the first {MOST_PANELS} of 100 are drawn" in " ".join(document["title"]["subtitle"])


def test_layers_show_the_last_sparsity_of_each_and_held_out_samples(
    sources: list[ChartSource],
) -> None:
    result = trained_of(sources[1])
    points = rows_of("layers", sources, "stage")
    assert {point["series"] for point in points} == {"deep"}  # the other run has one layer
    for point in points:
        rows: list[Any]
        if point["kind"] in SPLITS:
            epoch = 0 if point["stage"] == "before training" else 2
            rows = [
                row
                for row in result.curves
                if (row.layer, row.epoch, row.split) == (point["layer"], epoch, point["kind"])
            ]
        else:
            rows = [
                row
                for row in result.measures
                if (row.layer, row.partition) == (point["layer"], point["kind"])
            ]
        assert point["mean"] == pytest.approx(np.mean([row.sparsity for row in rows]))
    assert {point["kind"] for point in points} >= set(SPLITS)
    assert len({(point["layer"], point["kind"], point["stage"]) for point in points}) == len(points)


# Checks


def test_shares_by_width_take_all_samples(checks: list[Checked]) -> None:
    for name, figure in (("theorem2_widths", "ratio"), ("agreement_widths", "agreement")):
        for point in rows_of(name, [checks[1].source], "width"):
            method = "infinite_width" if "infinite width" in point["method"] else "exact"
            cells = [
                c
                for c in checks[1].result.cells
                if (c.width, c.split, c.method) == (point["width"], point["split"], method)
            ]
            trials = sum(
                cell.live - ((cell.undecided or 0) if figure == "agreement" else 0)
                for cell in cells
            )
            assert point["mean"] == pytest.approx(
                np.mean([getattr(cell, figure) for cell in cells])
            )
            assert (point["samples"], point["seeds"]) == (trials, 2)
            low, high = wilson(round(point["mean"] * trials), trials)
            assert point["low"] <= low + 1e-9
            assert point["high"] >= high - 1e-9


def test_margins_are_the_histogram_of_all_samples(checks: list[Checked]) -> None:
    for check in checks:
        drawn = rows_of("margins", [check.source], "at")
        found = margin_histograms(check.result.cells, check.artifacts, check.owner)
        assert len(found) == 2 * len({(m.split, m.method) for m in check.margins})
        for one in found:
            mine = [
                m
                for m in check.margins
                if (m.width, m.split, m.method) == (one.width, one.split, one.method)
            ]
            scaled = np.concatenate(
                [m.margin[~m.dead] / np.median(np.abs(m.margin[~m.dead])) for m in mine]
            )
            counts, _ = np.histogram(scaled.clip(-EDGES[-1], EDGES[-1]), EDGES)
            assert one.counts == tuple(counts)
            assert (one.live, one.seeds) == (len(scaled), 2)
            assert one.satisfied == sum(int(m.satisfied.sum()) for m in mine)
            steps = [
                row
                for row in drawn
                if (row["width"], row["method"]) == (one.width, one.method.replace("_", " "))
                and row["kind"] in ("all samples", one.split)
            ]
            assert sum(row["share"] for row in steps) == pytest.approx(1, abs=1e-4)
            assert {row["above"] for row in steps} == {one.satisfied / one.live}


def test_bins_are_equal_on_the_axis_and_zero_is_an_edge() -> None:
    assert EDGES[BINS // 2] == 0
    places = np.sign(EDGES) * np.log1p(np.abs(EDGES))
    assert np.diff(places) == pytest.approx(np.full(BINS, places[-1] / (BINS // 2)))


def test_margins_that_are_gone_or_damaged_are_not_drawn(tmp_path: Path) -> None:
    check = checked(CHECKS[0], Artifacts(tmp_path))
    source = check.source
    assert "margins" in available([source])
    damaged = tmp_path / OWNER / margins_name(0, 8)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    found = margin_histograms(check.result.cells, check.artifacts, OWNER)
    assert {(one.width, one.seeds) for one in found} == {(8, 1), (16, 2)}
    check.artifacts.delete(OWNER)
    assert "margins" not in available([check.source])
    with pytest.raises(NothingToDraw):
        render("margins", [source], "json")


def test_of_many_seeds_some_margins_are_read_and_the_rest_is_said(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    cells = [check_cell(width, seed=seed) for width in (4, 8) for seed in range(MOST_FILES)]
    for cell in cells:
        arrays = {
            "sample": np.arange(4),
            "margin": np.array([1.0, -2, 3, 4]),
            "satisfied": np.array([True, False, True, True]),
        }
        none = np.zeros(4, dtype=bool)
        artifacts.put(
            OWNER,
            margins_name(cell.seed, cell.width),
            write_margins([CellMargins.of(cell, {**arrays, "dead": none, "undecided": none})]),
        )
    found = margin_histograms(cells, artifacts, OWNER)
    assert [(one.seeds, one.left_out) for one in found] == [(MOST_FILES // 2, MOST_FILES // 2)] * 2
    source = Source(
        "", check_result().model_copy(update={"cells": tuple(cells)}), margins=lambda: found
    )
    assert "32 more seeds are kept and not read" in caption_of("margins", [source])


def test_the_curve_of_the_angles_is_the_limits_kernel() -> None:
    degrees = np.linspace(0, 180, 37)
    kernel = limit_kernel(torch.cos(torch.deg2rad(torch.from_numpy(degrees))))
    assert limit_curve(degrees) == pytest.approx(kernel.numpy(), abs=1e-12)


def test_bars_are_the_energy_of_the_angles_with_the_theorems_signs(checks: list[Checked]) -> None:
    for check, signs in zip(
        checks, ({"negative": 1}, {"positive": -1, "negative": 1}), strict=True
    ):
        bars = rows_of("geometry", [check.source], "pairs")
        total = sum(sum(row.energy) for row in check.result.geometry)
        for row in check.result.geometry:
            mine = [
                bar
                for bar in bars
                if bar["push"] == "all samples" or bar["push"].startswith(row.split)
            ]
            assert {bar["from"]: bar["pairs"] for bar in mine} == {
                2.0 * place: count for place, count in enumerate(row.pairs) if count
            }
            assert sum(bar["share"] for bar in mine) == pytest.approx(
                signs[row.split] * sum(row.energy) / total
            )
    caption = caption_of("geometry", [checks[0].source])
    assert "100 % of the energy is at angles below 90°" in caption
    assert "The line is for relu and squares" not in caption


def test_the_line_of_the_angles_says_that_it_is_of_squares(checks: list[Checked]) -> None:
    other = CheckSpec.model_validate({"goodness": {"name": "power_sum", "q": 4}})
    caption = caption_of("geometry", [checks[0].source._replace(spec=other)])
    assert "The line is for relu and squares; these checks use power_sum" in caption


# Studies


def test_a_heat_map_has_the_figures_of_the_runs(grid: StudyGrid) -> None:
    keys = {
        "grid_theorem2": "theorem2_ratio[layer=0 epoch=1 split={}]",
        "grid_sparsity": "sparsity[layer=0 epoch=1 split={}]",
        "grid_agreement": "agreement[layer=0 epoch=1 split={}]",
        "grid_accuracy": "accuracy[layer=all partition=test]",
    }
    for name, key in keys.items():
        rows = rows_of(name, [grid], "x")
        assert len(rows) == (6 if name == "grid_accuracy" else 12)
        for row in rows:
            (cell,) = (
                one.found
                for one in grid.cells
                if one.found.params
                == {"negatives.strategy": row["x"], "optimizer.lr": json.loads(row["y"])}
            )
            found = cell.summary.get(key.format(row["split"]))
            if found is None:
                assert (row["value"], row["text"]) == (None, "–")  # hybrid has no labels to be told
                continue
            assert (row["value"], row["seeds"]) == (found.mean, found.seeds)
            assert (row["low"], row["high"]) == (found.low, found.high)


def test_a_running_study_shows_what_is_there_and_marks_the_rest(grid: StudyGrid) -> None:
    states = ["succeeded", "running", "failed", "queued", "cancelled", "succeeded"]
    cells = [
        GridCell(
            cell.found.model_copy(
                update={
                    "state": state,
                    "summary": cell.found.summary if state == "succeeded" else {},
                }
            ),
            cell.spec,
        )
        for cell, state in zip(grid.cells, states, strict=True)
    ]
    rows = rows_of("grid_theorem2", [StudyGrid("", cells)], "x")
    assert sorted(
        row["text"] for row in rows if row["split"] == "positive" and row["value"] is None
    ) == ["×", "×", "…", "…"]
    assert "× failed or cancelled: 2; … not finished: 2" in caption_of(
        "grid_theorem2", [StudyGrid("", cells)]
    )
    waiting = [
        GridCell(cell.found.model_copy(update={"state": "queued", "summary": {}}), cell.spec)
        for cell in grid.cells
    ]
    assert available([StudyGrid("", waiting)]) == []


def grid_of(
    params: Sequence[dict[str, Any]], figure: str = "theorem2_ratio[layer=0 epoch=3 split={}]"
) -> StudyGrid:
    found = Interval(mean=0.6, low=0.5, high=0.7, seeds=3)
    cells = [
        StudyCell(
            part="",
            params=one,
            kind="train",
            spec_digest="",
            state="succeeded",
            summary={figure.format(split): found for split in SPLITS},
        )
        for one in params
    ]
    return StudyGrid("", [GridCell(cell) for cell in cells])


def test_one_varied_field_is_points_with_intervals_more_than_two_are_panels() -> None:
    one = [grid_of([{"optimizer.lr": lr} for lr in (0.1, 1.0, 10.0)])]
    document = json.loads(render("grid_theorem2", one, "json"))
    assert "facet" not in document
    assert {(row["x"], row["low"], row["high"]) for row in rows_of("grid_theorem2", one, "x")} == {
        (x, 0.5, 0.7) for x in ("0.1", "1", "10")
    }
    three = [
        grid_of(
            [
                {"lr": lr, "epochs": e, "widths": [w, w]}
                for lr in (1, 2, 3, 4)
                for e in (1, 2, 3)
                for w in (8, 16)
            ]
        )
    ]
    document = json.loads(render("grid_theorem2", three, "json"))
    assert document["facet"]["sort"] == [
        f"widths {w} · {w}, {split} samples" for split in SPLITS for w in (8, 16)
    ]
    layer = document["spec"]["layer"][0]["encoding"]
    assert (layer["x"]["title"], layer["y"]["title"]) == ("lr", None)
    assert document["facet"]["title"] == "↑ epochs"  # once, over all panels
    assert layer["x"]["sort"] == ["1", "2", "3", "4"]
    assert layer["color"]["scale"]["domainMid"] == 0.5


@pytest.mark.slow
def test_a_study_of_checks_has_their_widths_as_an_axis() -> None:
    specs = [
        cell.spec
        for cell in expand(
            StudySpec(base=CHECKS[1], grid={"dataset.preprocess": ["unit", "center"]})
        )
    ]
    cells = [
        GridCell(study_cell(cell, job=None, state="succeeded", result=ffengine.check(spec)), spec)
        for cell, spec in zip(
            expand(StudySpec(base=CHECKS[1], grid={"dataset.preprocess": ["unit", "center"]})),
            specs,
            strict=True,
        )
        if isinstance(spec, CheckSpec)
    ]
    assert available([StudyGrid("", cells)]) == ["grid_theorem2", "grid_agreement"]
    rows = rows_of("grid_theorem2", [StudyGrid("", cells)], "x")
    for row in rows:
        (cell,) = (
            one.found
            for one in cells
            if one.found.params["dataset.preprocess"] in (row["x"], row["y"])
        )
        width = row["x"] if row["x"].isdigit() else row["y"]
        assert (
            row["value"]
            == cell.summary[f"ratio[width={width} split={row['split']} method=exact]"].mean
        )
    assert len(rows) == 8


@pytest.mark.slow
def test_a_large_study_is_drawn_without_numbers_in_its_cells() -> None:
    large = [grid_of([{"a": a, "b": b} for a in range(50) for b in range(40)])]
    document = render("grid_theorem2", large, "json")
    assert len(document) < 2_000_000
    assert b'"type": "text"' not in document
    assert b'"type": "text"' in render(
        "grid_theorem2", [grid_of([{"a": a, "b": b} for a in range(3) for b in range(2)])], "json"
    )


# The table and the report


def test_the_comparison_judges_by_the_interval(sources: list[ChartSource]) -> None:
    lines = comparison([source for source in sources if isinstance(source, Source)])
    judged = [line for line in lines if line.verdict in ("met", "NOT met", "open")]
    judged_or_early = [*judged, *(line for line in lines if line.verdict.startswith("before the"))]
    assert (
        len(judged_or_early)
        == len([line for line in lines if line.published and "deep" not in line.quantity])
        > len(judged)
        > 8
    )
    for line in judged:
        assert line.low is not None
        assert line.high is not None
        reference = float(line.published.removeprefix("> "))
        expected = "met" if line.low > reference else "open" if line.high > reference else "NOT met"
        assert line.verdict == line.judgement == expected, line
    assert {line.verdict for line in lines if not line.published} == {""}


def figures_of(
    spec: TrainSpec | CheckSpec, trained: TrainSpec | None = None
) -> list[ComparisonRow]:
    """The comparison with the paper for a spec: results of three seeds, with a ratio of 0.75."""
    seeds = (0, 1, 2)
    if isinstance(spec, TrainSpec):
        rows = [
            epoch_row(epoch, split, seed=seed)
            for epoch in (0, 1)
            for split in SPLITS
            for seed in seeds
        ]
        return comparison(
            [Source("", train_result().model_copy(update={"curves": tuple(rows)}), spec)]
        )
    return [
        line
        for line in comparison([Source("", check_result(seeds), spec, trained=trained)])
        if line.published
    ]


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({}, ""),
        ({"dataset": {"preprocess": "center"}}, ""),
        (
            {
                "network": {"widths": [32]},
                "optimizer": {"lr": 10.0, "scale_lr_by_width": False},
                "batch_size": 50,
                "epochs": 99,
            },
            "",
        ),
        ({"network": {"init": "he"}, "negatives": {"redraw": "once"}, "precision": "bf16"}, ""),
        (
            {"objective": {"name": "softplus"}},
            "objective.name softplus, objective.goodness.name mean_squares",
        ),
        (
            {"objective": {"name": "difference", "goodness": {"name": "l2"}}},
            "objective.goodness.name l2",
        ),
        ({"optimizer": {"name": "momentum"}}, "optimizer.name momentum"),
        ({"optimizer": {"schedule": "cosine"}}, "optimizer.schedule cosine"),
        ({"optimizer": {"weight_decay": 0.1}}, "optimizer.weight_decay 0.1"),
        ({"network": {"activation": "tanh"}}, "network.activation tanh"),
        (
            {"network": {"bias": True, "init": "orthogonal"}},
            "network.bias True, network.init orthogonal",
        ),
        ({"network": {"normalize": "l2", "normalize_first": True}}, "network.normalize_first True"),
        ({"negatives": {"strategy": "hybrid"}}, "negatives.strategy hybrid"),
        ({"negatives": {"image": "any"}}, "negatives.image any"),
        (
            {"dataset": {"name": "digits", "preprocess": "standardize"}},
            "dataset.name digits, dataset.preprocess standardize",
        ),
    ],
)
def test_only_the_papers_setting_is_judged(changes: dict[str, Any], differs: str) -> None:
    spec = TrainSpec.model_validate(changes)
    assert is_papers_setting(spec) == (not differs)
    lines = [line for line in figures_of(spec) if line.published]
    assert len(lines) == 6
    for line in lines:
        assert line.differs == differs
        assert (line.verdict == "not the paper's setting") == bool(differs)
        assert line.judgement == (
            f"not the paper's setting ({differs})" if differs else line.verdict
        )


def test_of_several_layers_only_the_first_is_judged() -> None:
    deep = TrainSpec.model_validate(
        {**TINY, "network": {"widths": [6, 6, 6]}, "epochs": 1, "seeds": [0, 1]}
    )
    lines = [
        line for line in comparison([Source("", ffengine.train(deep), deep)]) if line.published
    ]
    assert [line.differs for line in lines] == [""] * 6 + ["layer 1"] * 6 + ["layer 2"] * 6
    assert {line.verdict for line in lines[:6]} <= {
        "met",
        "NOT met",
        "open",
        "rounding: no verdict",
        "before the turn: no verdict",
    }


AT = {"job": "job_" + "0" * 32, "epoch": 3}


@pytest.mark.parametrize(
    ("check", "trained", "verdict", "differs"),
    [
        ({}, None, "open", ""),
        ({"theorem": 1, "negatives": {"strategy": "noise"}}, None, "open", ""),
        (
            {"negatives": {"strategy": "noise"}},
            None,
            "not the paper's setting",
            "negatives.strategy noise",
        ),
        ({"activation": "gelu"}, None, "not the paper's setting", "activation gelu"),
        (
            {"goodness": {"name": "power_sum", "q": 4}},
            None,
            "not the paper's setting",
            "goodness power_sum",
        ),
        ({"at": AT}, {}, "open", ""),
        ({"at": AT}, None, "setting unknown", ""),
        (
            {"at": {**AT, "layer": 1}},
            {"network": {"widths": [8, 8]}},
            "not the paper's setting",
            "at.layer 1",
        ),
        (
            {"at": AT},
            {"objective": {"name": "swish"}},
            "not the paper's setting",
            "objective.name swish of the training job",
        ),
    ],
)
def test_a_check_is_judged_where_its_weights_are_of_the_papers_setting(
    check: dict[str, Any], trained: dict[str, Any] | None, verdict: str, differs: str
) -> None:
    (line,) = figures_of(
        CheckSpec.model_validate(check),
        None if trained is None else TrainSpec.model_validate(trained),
    )
    if verdict == "open":
        assert line.verdict in ("met", "NOT met", "open")
    else:
        assert line.verdict == verdict
    assert line.differs.startswith(differs)
    assert bool(line.differs) == bool(differs)


def test_one_seed_has_no_verdict() -> None:
    """0.75 of one seed is no proof that more than one half is the rule."""
    for source in (
        Source("", check_result((0,)), CheckSpec(theorem=1)),
        Source("", train_result(), TrainSpec()),
    ):
        lines = [line for line in comparison([source]) if line.published]
        assert lines
        assert {(line.verdict, line.interval) for line in lines} == {
            ("one seed: no verdict", "one seed")
        }


def test_verdicts_are_explained_where_they_are_shown(sources: list[ChartSource]) -> None:
    lines = comparison([source for source in sources if isinstance(source, Source)])
    there = {line.verdict for line in lines if line.verdict}
    assert {told.partition(": ")[0] for told in legend(lines)} <= {
        verdict.partition(": ")[0] for verdict in there
    }
    assert len(legend(lines)) == len(there)
    open_line = lines[0]._replace(verdict="open")
    assert legend([open_line]) == [
        "open: the interval includes the paper's figure, so these seeds do not decide."
    ]
    assert legend([]) == []
    assert set(get_args(Verdict)) == {*MEANINGS, ""}


def test_the_table_tells_accuracy_by_the_goodness_of_all_layers_alone() -> None:
    deep = TrainSpec.model_validate({**TINY, "network": {"widths": [6, 6, 6]}, "epochs": 1})
    result = ffengine.train(deep)
    (line,) = (
        line
        for line in comparison([Source("", result)])
        if line.quantity == "Test accuracy by goodness"
    )
    (row,) = (
        r
        for r in result.accuracy
        if (r.layers, r.method, r.partition) == ((0, 1, 2), "goodness", "test")
    )
    assert (line.measured, line.seeds, line.samples) == (row.accuracy, 1, 20)


def test_the_table_has_a_row_for_each_row_of_the_result(sources: list[ChartSource]) -> None:
    for source in sources:
        if isinstance(source, Source):
            rows = table(source.result)
            assert len(to_csv(source.result).splitlines()) == len(rows) + 1
            assert len({tuple(row) for row in rows}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("value", [0.4, 0.6, 0.25])
def test_the_one_tick_of_an_axis_with_one_value_has_that_value(value: float) -> None:
    row = epoch_row(0).model_copy(update={"sparsity": value})
    drawn = render("sparsity", [PartialRun("", [row])], "svg").decode()
    said = re.findall(r'aria-label="([\d.]+)"', drawn)  # letters are outlines
    assert said == ["0", str(value)]  # of the epoch, and of S


@pytest.mark.slow
def test_the_report_stands_alone(sources: list[ChartSource]) -> None:
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
    drawn = set(CHARTS) - {"finding", "search_importance", *OF_OTHER_RUNS}
    assert page.count("data:image/svg+xml") == len(drawn)
    assert "<b>bold" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page
    assert "<script" not in page
    assert provenance().dataset.digest[:16] in page
    assert ">verdict<" in page
    for meaning in legend(comparison([source for source in sources if isinstance(source, Source)])):
        assert meaning in html.unescape(page)


def test_widths_of_a_grid_are_compared_where_all_else_is_equal_and_the_caption_says_so() -> None:
    """Of a grid of widths and rates the first run of each width was drawn, without a word."""
    runs = [
        Source(f"{lr} {width}", training([(0.5, 0.4), (0.6, 0.5)]), a_run(lr, width))
        for width in (8, 16)
        for lr in (0.5, 2.0)
    ]
    assert [run.label for run in compared(runs, "network.widths")] == ["0.5 8", "0.5 16"]
    caption = caption_of("sparsity_widths", runs)
    assert "Of the runs of this study, those with lr 0.5 are drawn." in caption
    longest = [*runs, Source("longer", runs[0].result, a_run(2.0, 8, epochs=9))]
    assert [run.label for run in compared(longest, "network.widths")] == ["0.5 8", "0.5 16"]
    unlike = [runs[0], runs[3]]
    assert compared(unlike, "network.widths") == unlike
    assert "those with lr 0.5 / 2 are drawn" in caption_of("sparsity_widths", unlike)
    assert "Of the runs" not in caption_of("sparsity_widths", [runs[0], runs[2]])


def a_run(lr: float, width: int, epochs: int = 2) -> TrainSpec:
    return TrainSpec.model_validate(
        {
            **TINY,
            "network": {"widths": [width]},
            "epochs": epochs,
            "optimizer": {"name": "sgd", "lr": lr},
        }
    )


@pytest.mark.slow
def test_points_of_a_few_epochs_tell_splits_of_a_long_line_apart() -> None:
    run = Source("", training([(0.5, 0.4 + epoch / 1_000) for epoch in range(200)]))
    rows = [row for row in rows_of("prediction", [run], "marked") if row["split"] == "positive"]
    assert 10 <= sum(row["marked"] for row in rows if row["what"] == "predicted") <= 12
    assert "marked" not in render("prediction", [run], "csv").decode().splitlines()[0]


@pytest.mark.parametrize("name", ["sparsity", "loss", "sparsity_flow"])
def test_the_first_and_the_last_label_of_an_axis_of_time_stand_below_their_ticks(
    name: str, sources: list[ChartSource]
) -> None:
    document = json.loads(render(name, sources[:1], "json"))
    axes = re.findall(r'"axis": ?({[^{}]*"labelOverlap"[^{}]*})', json.dumps(document))
    assert axes
    assert all(json.loads(axis)["labelFlush"] is False for axis in axes)
