"""Trained weights as a safetensors file that other programs can read. The spec travels with them.

A layer l is `layers.l.weight` (R, n, m) and, where it has a bias, `layers.l.bias` (R, n); replica r
belongs to seeds[r]. Of a convolution n are its channels and m is (input channel, row, column), as
`torch.nn.Conv2d.weight.flatten(1)` has it; pools have no number. Class vectors that an objective
learnt are `layers.l.classes` (R, C, n). No pickles are written or read. Weights beyond what float32
holds are written as 2^-k W, and `exponents` in the metadata lists k of each seed for each layer:
[[k, ...], ...].
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ffengine.datasets import figures_version
from ffengine.layer_kinds import ConvLayer, DenseLayer, PoolLayer
from ffengine.objectives import MultiClass
from ffengine.spec import NetworkSpec, TrainSpec, digest

FORMAT_OF_FFLAB = "fflab weights"
HEAD = "classes_"  # and the layer: the name of its class vectors in a checkpoint
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """The weights of a training run at the end of an epoch.

    **Attributes:**

    - `spec`: the spec of the run.
    - `epoch`: the epoch, in each stage.
    - `layers`: (R, n, m) float32 of each layer; m counts the bias input where there is one.
    - `exponents`: k of each layer and seed: the true weights are 2^k times `layers`. It is 0 where
      float32 holds them; empty: 0 everywhere.
    - `heads`: class vectors (R, C, n) float32 of each layer; empty: the objective has none.
    """

    spec: TrainSpec
    epoch: int
    layers: tuple[Float32, ...]
    exponents: tuple[tuple[int, ...], ...] = ()
    heads: tuple[Float32, ...] = ()

    @property
    def label_inputs(self) -> int:
        """How many first inputs of each layer above the first are the label's."""
        return _label_inputs(self.spec, self.layers)

    @classmethod
    def of_scaled(
        cls,
        spec: TrainSpec,
        epoch: int,
        layers: Sequence[Float32],
        exponents: Sequence[Sequence[int]],
        heads: Sequence[Float32] = (),
    ) -> "Weights":
        """Return weights that a run keeps as 2^-k W, as W wherever float32 holds it exactly.

        **Arguments:**

        - `spec`: the spec of the run.
        - `epoch`: the epoch.
        - `layers`: 2^-k W (R, n, m) of each layer.
        - `exponents`: k (R,) of each layer; empty: all are 0.
        - `heads`: class vectors of each layer, if any.

        **Returns:**

        The weights, with the exponents that are left.
        """
        if not any(map(any, exponents)):
            return cls(spec, epoch, tuple(layers), heads=tuple(heads))
        pairs = [
            _restored(layer, exponent) for layer, exponent in zip(layers, exponents, strict=True)
        ]
        left = tuple(exponent for _, exponent in pairs)
        return cls(
            spec,
            epoch,
            tuple(layer for layer, _ in pairs),
            left if any(map(any, left)) else (),
            tuple(heads),
        )

    @classmethod
    def from_checkpoint(cls, data: bytes, spec: TrainSpec, epoch: int) -> "Weights":
        """Read the weights from the bytes of a checkpoint.

        **Arguments:**

        - `data`: what `Checkpoint.to_bytes` returned.
        - `spec`: the spec of the run.
        - `epoch`: the epoch at whose end the checkpoint was made.

        **Returns:**

        The weights.

        **Raises:**

        - `ValueError`: the bytes are damaged or not a checkpoint.
        """
        try:
            tensors = load(data)
            return cls.of_scaled(
                spec,
                epoch,
                [tensors[f"layer_{layer}"] for layer in range(len(spec.network.widths))],
                json.loads(tensors["state"].tobytes()).get("exponents", []),
                [tensors[f"{HEAD}{layer}"] for layer in range(_heads_of(spec))],
            )
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"checkpoint: damaged or not a checkpoint ({error})") from error


def export_weights(weights: Weights) -> bytes:
    """Write weights as a safetensors file.

    Its metadata hold the spec, its digest, the seeds, the epoch and the version of the numerics;
    where every layer receives the label, also how many first inputs of each layer are the label's.
    The same weights give the same bytes.

    **Arguments:**

    - `weights`: the weights of a run.

    **Returns:**

    The file.
    """
    tensors: dict[str, Float32] = {}
    for layer, weight in enumerate(weights.layers):
        inputs = weight.shape[-1] - weights.spec.network.bias
        tensors[f"layers.{layer}.weight"] = np.ascontiguousarray(weight[..., :inputs])
        if weights.spec.network.bias:
            tensors[f"layers.{layer}.bias"] = np.ascontiguousarray(weight[..., -1])
    for layer, head in enumerate(weights.heads):
        tensors[_head_name(layer)] = np.ascontiguousarray(head)
    metadata = {
        "format": f"{FORMAT_OF_FFLAB} 1",
        "engine_version": figures_version(weights.spec.dataset.name),
        "spec": weights.spec.model_dump_json(),
        "spec_digest": digest(weights.spec),
        "epoch": str(weights.epoch),
        "seeds": ",".join(map(str, weights.spec.seeds)),
    }
    if weights.label_inputs:  # the first columns of each layer's weight
        metadata["label_inputs"] = str(weights.label_inputs)
    if weights.exponents:
        metadata["exponents"] = json.dumps(weights.exponents)
    return canonical(save(tensors, metadata))


def canonical(file: bytes) -> bytes:
    """Return the same safetensors file with its header in order.

    The library writes the header in another order in every process.

    **Arguments:**

    - `file`: a safetensors file.

    **Returns:**

    The file, with its tensors still aligned to 8 bytes.
    """
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # keeps the tensors aligned
    return len(header).to_bytes(8, "little") + header + file[start:]


def import_weights(data: bytes) -> Weights:
    """Read weights from a file that `export_weights` wrote.

    **Arguments:**

    - `data`: the file.

    **Returns:**

    The weights with their spec.

    **Raises:**

    - `ValueError`: the file is damaged, comes from another program, has numbers that are not
      finite, or does not fit its own spec.
    """
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        spec = TrainSpec.model_validate_json(metadata["spec"])
        epoch = int(metadata["epoch"])
        exponents = _exponents(metadata.get("exponents"), spec)
        layers = tuple(
            _layer(tensors, layer, bias=spec.network.bias)
            for layer in range(len(spec.network.widths))
        )
        heads = tuple(_head(tensors, layer, spec) for layer in range(_heads_of(spec)))
    except (SafetensorError, KeyError, TypeError, ValidationError, json.JSONDecodeError) as error:
        raise ValueError(
            f"weights: damaged, or not a file that fflab exported "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    carried = _label_inputs(spec, layers)
    for layer, (weight, width) in enumerate(zip(layers, spec.network.widths, strict=True)):
        inputs = weight.shape[-1] - spec.network.bias
        if (
            weight.dtype != np.float32
            or weight.shape[:2] != (len(spec.seeds), width)
            or not inputs_fit(spec.network, layer, inputs, carried)
        ):
            raise ValueError(
                f"weights: layer {layer} is {weight.dtype} {weight.shape}, which is not what its "
                f"spec says"
            )
        if not np.isfinite(weight).all():
            raise ValueError(f"weights: layer {layer} has numbers that are not finite")
    return Weights(spec, epoch, layers, exponents, heads)


def _label_inputs(spec: TrainSpec, layers: Sequence[Float32]) -> int:
    """Return how many label inputs layers above the first have, by the size of the second."""
    if spec.dataset.labels != "every_layer" or len(layers) < 2:
        return 0
    inputs = int(layers[1].shape[-1]) - spec.network.bias
    return max(inputs - spec.network.widths[0], 0)


def inputs_fit(network: NetworkSpec, layer: int, inputs: int, carried: int = 0) -> bool:
    """Return whether the units of a layer can see so many numbers, whatever the samples are.

    **Arguments:**

    - `network`: the layers.
    - `layer`: the layer, from 0.
    - `inputs`: how many numbers a unit or a kernel sees, without the bias input.
    - `carried`: how many inputs every layer receives beside activations.
    """
    learning = [one for one in network.layers if not isinstance(one, PoolLayer)]
    own = learning[layer] if learning else None
    area = own.kernel**2 if isinstance(own, ConvLayer) else 1
    if layer == 0:
        return inputs % area == 0
    below = network.widths[layer - 1]
    if isinstance(own, DenseLayer) and isinstance(learning[layer - 1], ConvLayer):
        return inputs % below == 0  # once for each position of a map
    return inputs == carried + below * area


def _heads_of(spec: TrainSpec) -> int:
    """Return how many layers have class vectors."""
    has_head = isinstance(spec.objective, MultiClass) and spec.objective.has_head
    return len(spec.network.widths) if has_head else 0


def _head_name(layer: int) -> str:
    """Return the name of a layer's class vectors in a file."""
    return f"layers.{layer}.classes"


def _head(tensors: dict[str, npt.NDArray[np.generic]], layer: int, spec: TrainSpec) -> Float32:
    """Return the class vectors (R, C, n) of a layer of a file."""
    head, name = tensors[_head_name(layer)], _head_name(layer)
    shape = (len(spec.seeds), spec.network.widths[layer])
    if head.dtype != np.float32 or head.ndim != 3 or (head.shape[0], head.shape[2]) != shape:
        raise KeyError(f"{name} (R, C, n) of float32")
    if not np.isfinite(head).all():
        raise KeyError(f"{name} of finite numbers")
    return np.ascontiguousarray(head, dtype=np.float32)


def _exponents(text: str | None, spec: TrainSpec) -> tuple[tuple[int, ...], ...]:
    """Return the exponents of a file; raise TypeError where they do not fit its spec."""
    if text is None:
        return ()
    found = tuple(tuple(map(int, layer)) for layer in json.loads(text))
    if [len(layer) for layer in found] != [len(spec.seeds)] * len(spec.network.widths):
        raise TypeError("exponents: one for each layer and seed")
    return found


def _restored(layer: Float32, exponents: Sequence[int]) -> tuple[Float32, tuple[int, ...]]:
    """Return W from 2^-k W (R, n, m) where float32 holds it exactly, and the k that are left."""
    layer, left = layer.copy(), list(exponents)
    for replica, exponent in enumerate(exponents):
        with np.errstate(over="ignore", under="ignore"):
            true = np.ldexp(layer[replica], exponent)
        if np.isfinite(true).all() and (np.ldexp(true, -exponent) == layer[replica]).all():
            layer[replica], left[replica] = true, 0
    return layer, tuple(left)


def _layer(tensors: dict[str, npt.NDArray[np.generic]], layer: int, *, bias: bool) -> Float32:
    """Return the weights (R, n, m) of a layer of a file, with the bias as the last input."""
    weight = tensors[f"layers.{layer}.weight"]
    if bias:
        column = tensors[f"layers.{layer}.bias"]
        if column.shape != weight.shape[:2]:
            raise KeyError(f"layers.{layer}.bias of shape {weight.shape[:2]}")
        weight = np.concatenate([weight, column[..., None]], axis=-1)
    if weight.ndim != 3 or weight.dtype != np.float32:
        raise KeyError(f"layers.{layer}.weight (R, n, m) of float32")
    return np.ascontiguousarray(weight, dtype=np.float32)
