"""The charts of a page by theme, folded where they are secondary."""

from collections import Counter

import httpx
import pytest

from ffengine.spec import NetworkSpec, TrainSpec
from service.results.chart_groups import THEMES, Size, grouped, panels_of
from service.results.charts import CHARTS
from service.results.charts.finish import finished as finished_chart
from service.store import Store
from tests.factories import finished, submit
from tests.service.courses import training


def test_every_chart_has_one_theme() -> None:
    assert Counter(name for _, names in THEMES for name in names) == Counter(list(CHARTS))


def test_the_first_theme_is_open_and_further_ones_while_there_are_few_panels() -> None:
    charts = ["basins", "loss", "goodness", "theorem1"]
    assert [(one.title, one.charts, one.is_open) for one in grouped(charts, Size())] == [
        ("Loss, accuracy, goodness", ["loss", "goodness"], True),
        ("The theorems while training", ["theorem1"], True),
        ("Units", ["basins"], True),
    ]
    assert [one.is_open for one in grouped(charts, Size(runs=8, layers=2))] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "panels"),
    [
        ("loss", 6),
        ("accuracy", 3),
        ("accuracy_epochs", 9),
        ("loss_epochs", 6),
        ("deep_theorem2", 3),
        ("phases", 18),
        ("study_scatter", 1),
        ("grid_sparsity", 4),
    ],
)
def test_the_panels_of_a_chart_follow_from_runs_and_layers(name: str, panels: int) -> None:
    assert panels_of(name, Size(runs=3, layers=2)) == panels
    assert panels_of("loss", Size(runs=60, layers=3)) == 24


def test_cards_say_how_many_panels_they_will_have(client: httpx.Client, store: Store) -> None:
    job = submit(store, TrainSpec(epochs=1, seeds=(0,), network=NetworkSpec(widths=(8, 8)))).id
    finished(store, job, training([(0.7, 0.47), (0.1, 0.40)], seeds=1))
    page = client.get(f"/jobs/{job}").text
    assert 'data-name="goodness" data-panels="2"' in page
    assert '<details class="theme folded" id="charts-loss-accuracy-goodness" open>' in page


def test_a_layer_that_no_row_has_a_place_for_is_left_out() -> None:
    rows = [{"epoch": 0, "mean": 0.5, "low": None, "high": None, "word": "right"}]
    places = {name: {"field": name, "type": "quantitative"} for name in ("epoch", "mean", "low")}
    line = {"mark": "line", "encoding": {"x": places["epoch"], "y": places["mean"]}}
    band = {"mark": "area", "encoding": {"x": places["epoch"], "y": places["low"]}}
    turn = line | {"transform": [{"filter": "isValid(datum.turn)"}]}
    word = line | {"transform": [{"filter": "isValid(datum.word)"}]}
    document = finished_chart(
        {"datasets": {"rows": rows}, "data": {"name": "rows"}, "layer": [line, band, turn, word]}
    )
    assert document["layer"] == [line, word]
