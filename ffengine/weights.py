"""Trained weights as a safetensors file that other programs can read. The spec travels with them.

A layer l is `layers.l.weight` (R, n, m) and, where it has a bias, `layers.l.bias` (R, n); replica r
belongs to seeds[r]. No pickles are written or read. Weights beyond what float32 holds are written
as 2^-k W, and `exponents` in the metadata lists k of each seed for each layer: [[k, ...], ...].
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
from ffengine.spec import TrainSpec, digest

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
    """

    spec: TrainSpec
    epoch: int
    layers: tuple[Float32, ...]
    exponents: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def of_scaled(
        cls,
        spec: TrainSpec,
        epoch: int,
        layers: Sequence[Float32],
        exponents: Sequence[Sequence[int]],
    ) -> "Weights":
        """Return weights that a run keeps as 2^-k W, as W wherever float32 holds it exactly.

        **Arguments:**

        - `spec`: the spec of the run.
        - `epoch`: the epoch.
        - `layers`: 2^-k W (R, n, m) of each layer.
        - `exponents`: k (R,) of each layer; empty: all are 0.

        **Returns:**

        The weights, with the exponents that are left.
        """
        if not any(map(any, exponents)):
            return cls(spec, epoch, tuple(layers))
        pairs = [
            _restored(layer, exponent) for layer, exponent in zip(layers, exponents, strict=True)
        ]
        left = tuple(exponent for _, exponent in pairs)
        return cls(
            spec, epoch, tuple(layer for layer, _ in pairs), left if any(map(any, left)) else ()
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
            )
        except (SafetensorError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"checkpoint: damaged or not a checkpoint ({error})") from error


def export_weights(weights: Weights) -> bytes:
    """Write weights as a safetensors file.

    Its metadata hold the spec, its digest, the seeds, the epoch and the version of the numerics.
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
    metadata = {
        "format": "fflab weights 1",
        "engine_version": figures_version(weights.spec.dataset.name),
        "spec": weights.spec.model_dump_json(),
        "spec_digest": digest(weights.spec),
        "epoch": str(weights.epoch),
        "seeds": ",".join(map(str, weights.spec.seeds)),
    }
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
    except (SafetensorError, KeyError, TypeError, ValidationError, json.JSONDecodeError) as error:
        raise ValueError(
            f"weights: damaged, or not a file that fflab exported "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    below = layers[0].shape[-1] - spec.network.bias
    for layer, (weight, width) in enumerate(zip(layers, spec.network.widths, strict=True)):
        if weight.dtype != np.float32 or weight.shape != (
            len(spec.seeds),
            width,
            below + spec.network.bias,
        ):
            raise ValueError(
                f"weights: layer {layer} is {weight.dtype} {weight.shape}, which is not what its "
                f"spec says"
            )
        if not np.isfinite(weight).all():
            raise ValueError(f"weights: layer {layer} has numbers that are not finite")
        below = width
    return Weights(spec, epoch, layers, exponents)


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
