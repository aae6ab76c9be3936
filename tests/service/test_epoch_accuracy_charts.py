"""The charts of accuracy, AUC and loss by layer and epoch: what they draw, against the rows."""

import csv
import io
import json
from typing import Any

import httpx
import pytest

from ffengine.intervals import wilson
from ffengine.results import AccuracyRow, EpochAccuracyRow, SelectedRow, TrainResult
from ffengine.spec import CheckSpec
from service.results.charts import CHARTS, NothingToDraw, Source, available, render
from service.store import Store
from tests.factories import finished, submit
from tests.service.samples import check_result, train_result

NAMES = ["accuracy_epochs", "auc_epochs", "loss_epochs"]


def row(
    seed: int, layers: tuple[int, ...], epoch: int, partition: str, **changes: object
) -> EpochAccuracyRow:
    correct = 10 * epoch + seed + 5 * len(layers)
    fields: dict[str, Any] = {
        "seed": seed,
        "layer": layers[0] if len(layers) == 1 else None,
        "layers": layers,
        "method": "goodness",
        "epoch": epoch,
        "partition": partition,
        "samples": 100,
        "correct": correct,
        "accuracy": correct / 100,
        "auc": 0.5 + epoch / 10,
        "loss": 2.0 - epoch - seed / 10 if len(layers) == 1 else None,
    }
    return EpochAccuracyRow(**fields | changes)


ROWS = tuple(
    row(seed, layers, epoch, partition)
    for partition in ("train", "validation")
    for layers in ((0,), (1,), (0, 1))
    for epoch in (0, 1, 2)
    for seed in (4, 7)
)


def source_of(rows: tuple[EpochAccuracyRow, ...], label: str = "") -> Source:
    result = train_result().model_copy(update={"accuracy_curves": rows})
    assert isinstance(result, TrainResult)
    return Source(label, result)


def drawn(name: str, *sources: Source) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(name, sources, "csv").decode())))


def test_each_layer_and_all_together_have_a_panel_with_both_partitions() -> None:
    found = drawn("accuracy_epochs", source_of(ROWS))
    assert {(one["series"], one["partition"]) for one in found} == {
        (series, partition)
        for series in ("layer 0", "layer 1", "all layers")
        for partition in ("monitored training samples", "validation samples")
    }
    [point] = [
        one
        for one in found
        if (one["series"], one["partition"], one["epoch"])
        == ("all layers", "validation samples", "2")
    ]
    assert float(point["mean"]) == pytest.approx((0.34 + 0.37) / 2)
    assert (point["seeds"], point["samples"]) == ("2", "200")
    low, high = wilson(71, 200)
    assert float(point["low"]) <= low
    assert float(point["high"]) >= high


def test_a_sum_of_layers_has_no_line_in_the_chart_of_losses() -> None:
    found = drawn("loss_epochs", source_of(ROWS))
    assert {one["series"] for one in found} == {"layer 0", "layer 1"}
    means = [float(one["mean"]) for one in found if one["epoch"] == "1"]
    assert means == pytest.approx([(0.6 + 0.3) / 2] * 4)


def test_epochs_whose_weights_are_kept_are_marked_in_the_panel_of_their_layer() -> None:
    chosen = tuple(
        SelectedRow(
            seed=seed,
            layer=0,
            epoch=1,
            last_epoch=last,
            stopped=last < 2,
            measure="accuracy",
            best_epoch=1,
            best=0.2,
        )
        for seed, last in ((4, 1), (7, 2))
    )
    source = source_of(ROWS)
    source = source._replace(result=source.result.model_copy(update={"selected": chosen}))
    found = drawn("accuracy_epochs", source)
    kept = {(one["series"], one["epoch"], one["kept"]) for one in found if one["kept"]}
    assert kept == {("layer 0", "1", "2")}
    text = json.loads(render("accuracy_epochs", [source], "json"))
    caption = text["usermeta"]["caption"]
    assert "Dotted lines: epochs whose weights a seed keeps." in caption
    assert "A seed that stopped early is in the means up to its last epoch." in caption
    plain = json.loads(render("accuracy_epochs", [source_of(ROWS)], "json"))
    assert not any("seed" in line for line in plain["usermeta"]["caption"][2:])


def test_an_accuracy_after_training_has_all_seeds_though_they_chose_other_epochs() -> None:
    rows = tuple(
        AccuracyRow(
            seed=seed,
            layer=0,
            layers=(0,),
            epoch=epoch,
            partition="test",
            samples=100,
            correct=correct,
            accuracy=correct / 100,
        )
        for seed, epoch, correct in ((4, 2, 50), (7, 9, 70))
    )
    source = source_of(())
    source = source._replace(result=source.result.model_copy(update={"accuracy": rows}))
    [found] = drawn("accuracy", source)
    assert (float(found["mean"]), found["seeds"]) == (pytest.approx(0.6), "2")
    text = json.loads(render("accuracy", [source], "json"))
    assert "with the weights that each seed ended with" in text["usermeta"]["caption"][0]


def test_softmax_and_sets_of_some_layers_are_not_drawn() -> None:
    more = (
        row(4, (0, 1), 1, "train", method="softmax", auc=None, correct=99, accuracy=0.99),
        row(4, (1, 2), 1, "train", correct=98, accuracy=0.98),
        row(4, (0, 1, 2), 1, "train", correct=97, accuracy=0.97),
    )
    found = drawn("accuracy_epochs", source_of((*ROWS, *more)))
    means = {float(one["mean"]) for one in found}
    assert 0.97 in means
    assert not means & {0.99, 0.98}


def test_a_network_of_one_layer_needs_no_names() -> None:
    rows = tuple(one for one in ROWS if one.layers == (0,))
    assert {one["series"] for one in drawn("auc_epochs", source_of(rows))} == {""}
    two = drawn("auc_epochs", source_of(rows, "a"), source_of(rows, "b"))
    assert {one["series"] for one in two} == {"a", "b"}


def test_charts_are_there_where_their_figures_are() -> None:
    assert set(NAMES) <= set(available([source_of(ROWS)]))
    assert not set(NAMES) & set(available([source_of(())]))
    plain = tuple(one.model_copy(update={"correct": None, "accuracy": None}) for one in ROWS)
    assert set(NAMES) & set(available([source_of(plain)])) == {"auc_epochs", "loss_epochs"}
    for name in NAMES:
        with pytest.raises(NothingToDraw, match=r"monitor\.accuracy"):
            CHARTS[name].draw([source_of(())])


def test_the_rows_are_a_table(client: httpx.Client, store: Store) -> None:
    job = submit(store).id
    result = source_of(ROWS).result
    assert isinstance(result, TrainResult)
    finished(store, job, result)
    address = f"/v1/jobs/{job}/result.csv?rows=accuracy"
    found = list(csv.DictReader(io.StringIO(client.get(address).text)))
    assert len(found) == len(ROWS)
    assert found[-1] == {
        "seed": "7",
        "layer": "",
        "layers": "0+1",
        "method": "goodness",
        "epoch": "2",
        "partition": "validation",
        "samples": "100",
        "correct": "37",
        "accuracy": "0.37",
        "auc": "0.7",
        "loss": "",
    }
    assert "accuracy, AUC and loss by seed" in client.get(f"/jobs/{job}").text
    check = submit(store, CheckSpec()).id
    finished(store, check, check_result())
    refused = client.get(f"/v1/jobs/{check}/result.csv?rows=accuracy")
    assert refused.status_code == 409
    assert "only a training run has accuracy" in refused.text


def test_many_epochs_are_bins_and_the_caption_says_so() -> None:
    rows = tuple(
        row(4, (0,), epoch, "validation", correct=50, accuracy=0.5, auc=0.5, loss=float(epoch % 2))
        for epoch in range(700)
    )
    text = json.loads(render("loss_epochs", [source_of(rows)], "json"))
    [data] = [rows for rows in text["datasets"].values() if "binned" in rows[0]]
    assert len(data) <= 300
    assert sum(one["binned"] for one in data) == 700
    assert any("700 epochs, drawn as" in line for line in text["usermeta"]["caption"])
