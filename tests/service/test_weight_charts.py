"""Pictures of trained weights, compared with the weights themselves."""

import base64
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ffengine.spec import TrainSpec
from ffengine.weights import Weights
from service.artifacts import Artifacts, epoch_name
from service.results import weight_figures
from service.results.charts import NothingToDraw, Source, available, render
from service.results.weight_figures import MOST_STORED, WeightReader, reader_of
from tests.service.drawn import caption, drawn, trained_with_weights

OWNER = "job_" + "0" * 31 + "8"
SPEC = TrainSpec.model_validate(
    {
        "dataset": {"name": "digits", "train_samples": 60, "test_samples": 20},
        "network": {"widths": [30, 6], "bias": True},
        "epochs": 1,
        "batch_size": 30,
        "seeds": [3, 4],
    }
)
CHARTS = ["receptive_fields", "weight_histogram", "unit_lengths"]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    return Artifacts(tmp_path_factory.mktemp("artifacts"))


@pytest.fixture(scope="module")
def source(artifacts: Artifacts) -> Source:
    result = trained_with_weights(SPEC, artifacts, OWNER)
    return Source("", result, SPEC, weights=reader_of(artifacts, OWNER, SPEC))


@pytest.fixture(scope="module")
def layers(artifacts: Artifacts, source: Source) -> list[npt.NDArray[np.float64]]:
    """The weights after the last epoch, without those of the bias."""
    stored = artifacts.get(OWNER, epoch_name(1, 1))
    found = Weights.from_checkpoint(stored, SPEC, 1).layers
    return [layer[..., :-1].astype(np.float64) for layer in found]


@pytest.mark.parametrize("name", ["weight_histogram", "unit_lengths"])
def test_histograms_count_all_weights_and_all_units(
    source: Source, layers: list[npt.NDArray[np.float64]], name: str
) -> None:
    data = [row for rows in drawn(name, source)["datasets"].values() for row in rows]
    for number, layer in enumerate(layers):
        lengths = [float(np.sqrt((unit**2).sum())) for seed in layer for unit in seed]
        values = np.array(lengths) if name == "unit_lengths" else layer.ravel()
        bins = [row for row in data if row["series"] == f"layer {number}"]
        assert sum(row["count"] for row in bins) == len(values)
        assert sum(row["share"] for row in bins) == pytest.approx(1)
        for row in bins[:-2]:  # the last bin has its upper edge, too
            inside = (values >= row["at"] - 1e-8) & (values < row["to"] - 1e-8)
            assert abs(int(inside.sum()) - row["count"]) <= 1  # on an edge that is rounded
    assert "2 seeds together, after epoch 1" in caption(drawn(name, source))


def test_images_are_those_of_the_longest_and_of_the_shortest_units(
    source: Source, layers: list[npt.NDArray[np.float64]]
) -> None:
    assert isinstance(source.weights, WeightReader)
    assert source.weights.found is not None
    tiles = source.weights.found.tiles
    lengths = np.linalg.norm(layers[0][0], axis=1)
    order = sorted(range(30), key=lambda unit: -lengths[unit])
    shown = [int(tile.words.split()[1].removesuffix(":")) for tile in tiles]
    assert shown == [*order[:12], *order[-12:]]
    unit = layers[0][0][order[0]].reshape(8, 8)
    image = np.frombuffer(base64.b64decode(tiles[0].pixels), np.uint8).reshape(3, 8, 8)
    strongest = np.unravel_index(np.abs(unit).argmax(), unit.shape)
    assert tuple(image[:, *strongest]) == ((213, 94, 0) if unit[strongest] > 0 else (0, 114, 178))
    assert ((image[0] < image[2]) == (unit < 0))[np.abs(unit) > 0.1 * np.abs(unit).max()].all()
    text = caption(drawn("receptive_fields", source))
    assert (
        "Units are chosen by the length of their weights: of 30 the 12 longest and the 12 shortest"
        in text
    )
    assert "of seed 3" in text


def test_inputs_that_are_no_image_have_histograms_alone(
    source: Source, artifacts: Artifacts
) -> None:
    spec = SPEC.model_copy(update={"dataset": SPEC.dataset.model_copy(update={"name": "mine"})})
    assert isinstance(source.weights, WeightReader)
    reader = WeightReader(artifacts, OWNER, epoch_name(1, 1), spec)
    names = available([source._replace(weights=reader)])
    assert [name for name in CHARTS if name in names] == CHARTS[1:]


def test_large_layers_are_counted_up_to_a_limit_that_the_caption_says(
    source: Source, artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_figures, "MOST_COUNTED", 1_000)
    limited = source._replace(weights=reader_of(artifacts, OWNER, SPEC))
    text = caption(drawn("weight_histogram", limited))
    assert "Of the 3,840 weights of layer 0 the first 960 are counted." in text  # whole units
    widths = {"network": {"widths": [20_000, 20_000]}}
    large = TrainSpec.model_validate(SPEC.model_dump() | widths)
    assert weight_figures.stored_bytes(large) > MOST_STORED
    assert reader_of(artifacts, OWNER, large) is None


def test_weights_that_are_gone_or_damaged_are_not_drawn(source: Source, tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    assert reader_of(artifacts, OWNER, SPEC) is None
    artifacts.put(OWNER, epoch_name(1, 1), b"no weights")
    damaged = source._replace(weights=reader_of(artifacts, OWNER, SPEC))
    for name in CHARTS:
        with pytest.raises(NothingToDraw):
            render(name, [damaged], "json")
