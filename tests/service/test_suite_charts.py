"""The charts and tables of what units do and of other data, against rows made by hand."""

import csv
import io
from typing import Any

import httpx
import pytest

from ffengine.intervals import wilson
from ffengine.results import LesionRow, OodRow, SelectivityRow, TrainResult, UsageRow
from ffengine.spec import CheckSpec
from service.results.charts import CHARTS, NothingToDraw, Source, available, render
from service.store import Store
from tests.factories import finished, submit
from tests.service.drawn import caption, drawn, points
from tests.service.samples import check_result, epoch_row, train_result

NAMES = ("lesions", "usage", "selectivity", "ood")
TENTHS = tuple(tenth / 10 for tenth in range(11))


def lesion(seed: int, share: float, **changes: Any) -> LesionRow:
    fields: dict[str, Any] = {
        "seed": seed,
        "baseline": None,
        "place": None,
        "layer": None,
        "removed": "units",
        "by": "usage",
        "share": share,
        "lost": int(10 * share),
        "total": 10,
        "samples": 100,
        "correct": 90 - int(40 * share) - seed,
    } | changes
    return LesionRow(**fields, accuracy=fields["correct"] / 100)


LESIONS = tuple(
    lesion(seed, share, removed=removed, by=by)
    for removed in ("units", "weights")
    for by in ("usage", "random")
    for share in (0.0, 0.5)
    for seed in (0, 4)
)
RIVAL = tuple(
    row.model_copy(update={"baseline": "cross_entropy", "place": 0, "correct": 10, "accuracy": 0.1})
    for row in LESIONS
)
USAGE = tuple(
    UsageRow(
        seed=seed,
        layer=layer,
        partition=partition,
        samples=50,
        units=8,
        dead_samples=0,
        dead_units=1,
        used_units=6,
        usage=0.75,
        population_sparsity=0.4,
        lifetime_sparsity=0.6,
        usage_deciles=tuple(tenth ** (1 + seed) for tenth in TENTHS),
    )
    for layer in (0, 1)
    for partition in ("validation", "test")
    for seed in (0, 1)
)
SELECTIVITY = tuple(
    SelectivityRow(
        seed=seed,
        layer=0,
        partition="test",
        samples=50,
        inputs="neutral",
        units=8,
        dead_units=2,
        selectivity=0.5,
        deciles=TENTHS,
        histogram=(2 + seed, 0, 0, 0, 4 - seed, 0, 0, 0, 0, 0),
        one_class=0.5,
        mixed=0.25,
        every_class=0.25,
        classes_per_unit=3.0,
        preferred=(3, 3),
    )
    for seed in (0, 1)
)
OOD = tuple(
    OodRow(
        seed=seed,
        layer=layer,
        figure=figure,
        inputs="predicted",
        dataset="fashion-mnist",
        samples=50,
        other_samples=40,
        auroc=0.8 + seed / 10,
        auroc_low=0.7,
        auroc_high=0.9,
        fpr95=0.3,
    )
    for figure, layers in (("goodness", (0, 1, None)), ("sparsity", (0, 1)))
    for layer in layers
    for seed in (0, 1)
)


def source_of(label: str = "", **rows: Any) -> Source:
    result = train_result().model_copy(update=rows)
    assert isinstance(result, TrainResult)
    return Source(label, result)


WHOLE = source_of(lesions=LESIONS, usage=USAGE, selectivity=SELECTIVITY, ood=OOD)


def table(name: str, *sources: Source) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(name, sources, "csv").decode())))


def test_other_data_have_a_point_for_each_layer_and_figure() -> None:
    found = table("ood", WHOLE)
    assert {(row["series"], row["line"], row["x"]) for row in found} == {
        (panel, line, layer)
        for panel in ("AUROC", "FPR95")
        for line, layers in (("goodness", "01"), ("S of activations", "01"))
        for layer in (*layers, *(["all"] if line == "goodness" else []))
    }
    (point,) = (row for row in found if (row["series"], row["x"]) == ("AUROC", "all"))
    assert float(point["mean"]) == pytest.approx(0.85)
    assert (float(point["low"]), float(point["high"])) == (pytest.approx(0.2147, abs=1e-3), 1)


def test_other_data_of_one_seed_have_the_interval_over_samples() -> None:
    found = table("ood", source_of(ood=tuple(row for row in OOD if row.seed == 0)))
    bounds = {(row["series"], row["low"], row["high"]) for row in found}
    assert bounds == {("AUROC", "0.7", "0.9"), ("FPR95", "", "")}


def test_orders_of_removal_are_lines_and_units_and_weights_panels() -> None:
    found = table("lesions", WHOLE)
    assert {(row["series"], row["line"]) for row in found} == {
        (removed, line)
        for removed in ("units", "weights")
        for line in ("least used first", "at random")
    }
    (point,) = (
        row
        for row in found
        if (row["series"], row["line"], row["x"]) == ("units", "at random", "0.5")
    )
    assert float(point["mean"]) == pytest.approx((0.70 + 0.66) / 2)
    low, high = wilson(136, 200)
    assert float(point["low"]) <= low
    assert float(point["high"]) >= high


def test_baselines_are_lines_beside_the_network_and_orders_are_panels() -> None:
    found = table("lesions", source_of(lesions=(*LESIONS, *RIVAL)))
    assert {row["line"] for row in found} == {"Forward-Forward", "cross entropy"}
    assert {row["series"] for row in found} == {
        f"{removed}, {first}"
        for removed in ("units", "weights")
        for first in ("least used first", "at random")
    }
    assert {row["mean"] for row in found if row["line"] == "cross entropy"} == {"0.1"}
    twice = tuple(row.model_copy(update={"place": 1}) for row in RIVAL)
    found = table("lesions", source_of(lesions=(*LESIONS, *RIVAL, *twice)))
    assert {"cross entropy (1)", "cross entropy (2)"} < {row["line"] for row in found}
    layers = tuple(row.model_copy(update={"layer": 1}) for row in LESIONS)
    names = {row["series"] for row in table("lesions", source_of("a", lesions=layers))}
    assert names == {"a units, layer 1", "a weights, layer 1"}


def test_usage_is_drawn_by_layer_and_partition() -> None:
    found = table("usage", WHOLE)
    assert {(row["series"], row["partition"]) for row in found} == {
        (f"layer {layer}", partition) for layer in (0, 1) for partition in ("validation", "test")
    }
    (point,) = (
        row
        for row in found
        if (row["series"], row["partition"], row["x"]) == ("layer 0", "test", "0.5")
    )
    assert float(point["mean"]) == pytest.approx((0.5 + 0.25) / 2)


def test_selectivity_is_shares_of_live_units() -> None:
    found = table("selectivity", WHOLE)
    assert len(found) == 10
    assert float(found[0]["mean"]) == pytest.approx((2 / 6 + 3 / 6) / 2)
    assert (found[4]["bottom"], found[4]["top"]) == ("0.4", "0.5")
    assert sum(float(row["mean"]) for row in found) == pytest.approx(1)


@pytest.mark.slow
def test_captions_say_what_is_drawn() -> None:
    assert "Removed at once, without training afterwards" in caption(drawn("lesions", WHOLE))
    assert "Samples carry a neutral label." in caption(drawn("selectivity", WHOLE))
    assert "Grey lines are 95 % intervals" in caption(drawn("selectivity", WHOLE))
    alone = source_of(lesions=tuple(row for row in LESIONS if row.seed == 0))
    assert "One seed has no interval." in caption(drawn("lesions", alone))


def test_charts_are_there_where_their_rows_are() -> None:
    assert set(NAMES) <= set(available([WHOLE]))
    assert not set(NAMES) & set(available([source_of()]))
    for name in NAMES:
        with pytest.raises(NothingToDraw, match=rf"evaluation\.{name}"):
            CHARTS[name].draw([source_of()])


@pytest.mark.slow
def test_sparsity_of_weights_is_drawn_once_for_both_splits() -> None:
    figures = {"weight_sparsity": 0.25, "weight_gini": 0.5, "excitatory_share": 0.75}
    rows = tuple(
        epoch_row(epoch, split).model_copy(update=figures)
        for epoch in (0, 1)
        for split in ("positive", "negative")
    )
    found = points("weight_sparsity", source_of(curves=rows))
    assert sorted((row["epoch"], row["what"], row["mean"]) for row in found) == [
        (epoch, what, value)
        for epoch in (0, 1)
        for what, value in (
            ("Gini index", 0.5),
            ("Hoyer sparsity", 0.25),
            ("positive share", 0.75),
        )
    ]


def test_the_rows_are_tables(client: httpx.Client, store: Store) -> None:
    job = submit(store).id
    result = WHOLE.result
    assert isinstance(result, TrainResult)
    finished(store, job, result)
    page = client.get(f"/jobs/{job}").text
    check = submit(store, CheckSpec()).id
    finished(store, check, check_result())
    for kind in NAMES:
        text = client.get(f"/v1/jobs/{job}/result.csv?rows={kind}").text
        found, rows = list(csv.DictReader(io.StringIO(text))), getattr(result, kind)
        assert [row["seed"] for row in found] == [str(row.seed) for row in rows]
        assert f"result.csv?rows={kind}" in page
        assert client.get(f"/v1/jobs/{check}/result.csv?rows={kind}").status_code == 409
    deciles = "0; 0.1; 0.2; 0.3; 0.4; 0.5; 0.6; 0.7; 0.8; 0.9; 1"
    usage = client.get(f"/v1/jobs/{job}/result.csv?rows=usage").text
    assert next(csv.DictReader(io.StringIO(usage)))["usage_deciles"] == deciles
