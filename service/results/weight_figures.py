"""What the charts of a layer's weights draw: histograms of weights and of the lengths of units, and
units as images. They are read from the stored weights with numpy, once for all charts.
"""

import base64
import math
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ffengine.datasets import DATASETS
from ffengine.findings import Tile
from ffengine.layer_kinds import ConvLayer, PoolLayer
from ffengine.spec import TrainSpec
from ffengine.weights import Weights
from service.artifacts import EPOCH_NAME, SELECTED_NAME, ArtifactDamaged, Artifacts

MOST_STORED = 256 * 2**20  # bytes of weights that are read for a chart
MOST_COUNTED = 4_000_000  # weights of one layer that a histogram counts
WEIGHT_BINS, LENGTH_BINS = 81, 40
SHOWN, COLUMNS = 12, 4  # units of each group, and beside each other
BELOW, ABOVE = np.array([0, 114, 178]), np.array([213, 94, 0])  # colours of negative and positive
Array = npt.NDArray[np.float64]


class Histogram(NamedTuple):
    """How many values are in each bin, by its edges."""

    counts: tuple[int, ...]
    edges: tuple[float, ...]


class LayerFigures(NamedTuple):
    """The weights of one layer over seeds; of `there` weights so many as `counted` are looked at.

    lengths: of the weights of each unit, without its bias.
    """

    layer: int
    seeds: int
    there: int
    counted: int
    weights: Histogram
    lengths: Histogram


class WeightFigures(NamedTuple):
    """What is drawn of the weights at the end of an epoch."""

    epoch: int
    seed: int
    units: int
    layers: tuple[LayerFigures, ...]
    tiles: tuple[Tile, ...]


class WeightReader:
    """Reads the newest weights of a training run when a chart first asks for them."""

    def __init__(self, artifacts: Artifacts, owner: str, name: str, spec: TrainSpec) -> None:
        self._artifacts, self._owner, self._name, self._spec = artifacts, owner, name, spec

    @property
    def has_images(self) -> bool:
        """Whether the inputs of the first layer are an image."""
        facts = DATASETS.get(self._spec.dataset.name)
        return facts is not None and facts.shape[0] in (1, 3) and min(facts.shape[1:]) > 1

    @cached_property
    def found(self) -> WeightFigures | None:
        """The figures; None where the file is gone or damaged."""
        match = SELECTED_NAME.fullmatch(self._name) or EPOCH_NAME.fullmatch(self._name)
        assert match  # noqa: S101 - narrows the type: reader_of has matched it
        epoch = int(match[match.re.groups])  # the last of a name
        try:
            stored = self._artifacts.get(self._owner, self._name)
            weights = Weights.from_checkpoint(stored, self._spec, epoch)
        except (KeyError, ValueError, ArtifactDamaged):
            return None
        inputs = [layer.shape[-1] - self._spec.network.bias for layer in weights.layers]
        return WeightFigures(
            epoch,
            self._spec.seeds[0],
            weights.layers[0].shape[1],
            tuple(
                _figures_of(number, layer[..., :own])
                for number, (layer, own) in enumerate(zip(weights.layers, inputs, strict=True))
            ),
            self._tiles(weights.layers[0][0, :, : inputs[0]]),
        )

    def _tiles(self, units: npt.NDArray[np.float32]) -> tuple[Tile, ...]:
        """The units with the longest and those with the shortest weights, as images."""
        shape = DATASETS[self._spec.dataset.name].shape if self.has_images else (0, 0, 0)
        learning = [one for one in self._spec.network.layers if not isinstance(one, PoolLayer)]
        if learning and isinstance(learning[0], ConvLayer):  # a unit is a kernel
            shape = (shape[0], learning[0].kernel, learning[0].kernel)
        if math.prod(shape) != units.shape[1]:
            return ()
        lengths = np.linalg.norm(units.astype(np.float64), axis=1)
        order = np.argsort(-lengths, kind="stable").tolist()
        if len(order) <= 2 * SHOWN:
            groups = {"all units, the longest first": order}
        else:
            groups = {
                "the units with the longest weights": order[:SHOWN],
                "the units with the shortest weights": order[-SHOWN:],
            }
        return tuple(
            Tile(
                group,
                place // COLUMNS,
                place % COLUMNS,
                f"unit {unit}: {lengths[unit]:.3g}",
                (3, *shape[1:]),
                base64.b64encode(_image(units[unit].reshape(shape)).tobytes()).decode(),
            )
            for group, chosen in groups.items()
            for place, unit in enumerate(chosen)
        )


def reader_of(artifacts: Artifacts | None, owner: str, spec: object) -> WeightReader | None:
    """A reader of the weights that a training run chose, else of its newest; None where none are
    kept, or where they are too many to be read for a chart.
    """
    if artifacts is None or not isinstance(spec, TrainSpec) or stored_bytes(spec) > MOST_STORED:
        return None
    names = artifacts.names(owner)
    kept = [name for name in names if EPOCH_NAME.fullmatch(name)]
    kept += [name for name in names if SELECTED_NAME.fullmatch(name)]
    return WeightReader(artifacts, owner, kept[-1], spec) if kept else None


def stored_bytes(spec: TrainSpec) -> int:
    """How many bytes the weights of a run take; of an uploaded data set, those above the first
    layer.
    """
    facts = DATASETS.get(spec.dataset.name)
    sizes = [facts.inputs if facts else 0, *spec.network.widths]
    return 4 * len(spec.seeds) * sum(m * n for m, n in pairwise(sizes))


def _figures_of(number: int, layer: npt.NDArray[np.float32]) -> LayerFigures:
    """The histograms of one layer (R, n, m): whole units, seed by seed, up to the limit."""
    seeds, units, inputs = layer.shape
    flat = layer.reshape(seeds * units, inputs)[: max(1, MOST_COUNTED // max(1, inputs))]
    values = flat.astype(np.float64)
    reach = float(np.abs(values).max()) or 1.0
    lengths = np.linalg.norm(values, axis=1)
    return LayerFigures(
        number,
        seeds,
        layer.size,
        flat.size,
        _histogram(values.ravel(), WEIGHT_BINS, (-reach, reach)),
        _histogram(lengths, LENGTH_BINS, (0.0, float(lengths.max()) or 1.0)),
    )


def _histogram(values: Array, bins: int, reach: tuple[float, float]) -> Histogram:
    counts, edges = np.histogram(values, bins, reach)
    return Histogram(tuple(counts.tolist()), tuple(edges.tolist()))


def _image(unit: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """A unit's weights as colours: of a grey input white for 0, blue below and orange above; of a
    coloured one the three channels around grey.
    """
    scaled = unit.astype(np.float64) / (float(np.abs(unit).max()) or 1.0)
    if len(unit) == 3:
        return _bytes_of(127.5 * (1 + scaled))
    height = np.abs(scaled[0])[None]
    ends = np.where(scaled < 0, BELOW[:, None, None], ABOVE[:, None, None])
    return _bytes_of(255 * (1 - height) + ends * height)


def _bytes_of(levels: Array) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = np.rint(levels).astype(np.uint8)
    return found
