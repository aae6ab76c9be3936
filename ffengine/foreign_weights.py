"""Weights of a network that another program trained, from a safetensors or .npz file.

Files are of unknown origin: header, names, sizes and types are checked before any number is read,
and nothing is ever unpickled. Layers are dense; a file's tensors are mapped to them by names.
"""

import io
import itertools
import json
import math
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from ffengine.archives import (
    DAMAGED,
    ILLEGIBLE,
    MOST_HEADER_BYTES,
    PREFIX_BYTES,
    refuse_long_directory,
)
from ffengine.arrays import DatasetError
from ffengine.datasets import Datasets
from ffengine.spec import DatasetSpec, NetworkSpec, TrainSpec
from ffengine.weights import FORMAT_OF_FFLAB, Float32, Weights

MAX_FILE_BYTES = 2**31
FLOAT32_BYTES = 4
MOST_TENSORS = 1_000
LONGEST_NAME = 200
LONGEST_KIND = 40
MOST_DIRECTORY = 2**18  # bytes of the list of so many members of an archive
LONGEST_HEADER = 2**20
NAMED = 20  # tensors that a message lists
MOST_AXES = 8
Layout = Literal["out_in", "in_out"]
# how safetensors writes types, and how many bytes a number has
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
SIZES = {**FLOATS, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "U64": 8, "U32": 4}
BIASES = {"weight": "bias", "kernel": "bias", "w": "b", "W": "b"}
_DIGITS = re.compile(r"(\d+)")


class Tensor(NamedTuple):
    """A tensor of a file: its shape, its type in the file's words, and what reads it."""

    shape: tuple[int, ...]
    kind: str
    read: Callable[[], npt.NDArray[np.generic]]


class LayerNames(NamedTuple):
    """The tensors of one layer, by name.

    **Attributes:**

    - `weight`: the name of its matrix.
    - `bias`: the name of its bias; None where the layer has none.
    """

    weight: str
    bias: str | None = None


def convert_weights(
    source: IO[bytes],
    *,
    dataset: DatasetSpec,
    network: Mapping[str, Any] | None = None,
    layers: Sequence[LayerNames] | None = None,
    layout: Layout = "out_in",
    labelled: bool = True,
    datasets: Datasets | None = None,
    max_bytes: int = MAX_FILE_BYTES,
) -> Weights:
    """Read the dense layers of a network that another program trained.

    **Arguments:**

    - `source`: a safetensors file, or an .npz.
    - `dataset`: on what it was trained: which samples, how they were scaled, where labels stood.
    - `network`: fields of a network's spec besides widths and bias, such as `activation` and
      `normalize`.
    - `layers`: the tensors of each layer, the first one first; None: by their names, where all
      matrices form a chain and every other tensor is the bias of one.
    - `layout`: whether a matrix is (outputs, inputs), as PyTorch has it, or (inputs, outputs).
    - `labelled`: whether the network's samples carry a label.
    - `datasets`: where data sets are; None: where the environment says.
    - `max_bytes`: how large the numbers of its layers may be as float32.

    **Returns:**

    The weights, as those of a run of one seed, 0, at the end of its one epoch, which stands for the
    end of training.

    **Raises:**

    - `ValueError`: the file cannot be read, its tensors are not such layers, or they do not fit the
      data set.
    - `DatasetError`: the data set cannot be found.
    """
    tensors = read_tensors(source)
    facts = (datasets or Datasets.of_environment()).facts_of(dataset.name)
    every_layer = labelled and dataset.labels == "every_layer"
    carried = dataset.label_code.label_inputs(facts.classes) if every_layer else 0
    chosen = guessed(tensors, layout, carried) if layers is None else _named(tensors, layers)
    refuse_large((tensors[name].shape for names in chosen for name in names if name), max_bytes)
    matrices = [_matrix(tensors, names, layout) for names in chosen]
    _refuse_broken_chain(tensors, chosen, matrices, carried)
    has_bias = any(names.bias for names in chosen)
    weights = tuple(
        _with_bias(matrix, tensors, names) if has_bias else matrix
        for matrix, names in zip(matrices, chosen, strict=True)
    )
    spec = _spec(dataset, network or {}, matrices, has_bias=has_bias, labelled=labelled)
    given, learnt = spec.inputs(facts), matrices[0].shape[1]
    if given != learnt:
        raise ValueError(
            f"{chosen[0].weight} has {learnt} inputs, but a sample of {dataset.name} has {given} "
            f"({'with' if labelled else 'without'} its label, labels: {dataset.labels})"
        )
    return Weights(spec, spec.epochs, tuple(weight[None] for weight in weights))


def read_tensors(source: IO[bytes]) -> dict[str, Tensor]:
    """List the tensors of a file, and check what it says of them.

    **Arguments:**

    - `source`: a safetensors file, or an .npz. It must stay open while tensors are read.

    **Returns:**

    The tensors by name.

    **Raises:**

    - `ValueError`: it is neither, is too large, or contradicts itself.
    """
    size = source.seek(0, 2)
    source.seek(0)
    head = source.read(8)
    source.seek(0)
    if size > MAX_FILE_BYTES:
        raise ValueError(f"the file has {size:,} bytes; at most {MAX_FILE_BYTES:,} are taken")
    if head[:2] == b"PK":
        return _of_npz(source)
    return _of_safetensors(source, size)


def refuse_large(shapes: Iterable[Sequence[int]], max_bytes: int) -> None:
    """Refuse tensors that would take up too much memory, before one is read.

    **Arguments:**

    - `shapes`: theirs.
    - `max_bytes`: how large they may be together as float32.

    **Raises:**

    - `ValueError`: they are larger.
    """
    size = sum(math.prod(shape) for shape in shapes) * FLOAT32_BYTES
    if size > max_bytes:
        raise ValueError(
            f"the layers have {size:,} bytes as float32; at most {max_bytes:,} are taken"
        )


def is_of_fflab(source: IO[bytes]) -> bool:
    """Whether a file is one that `export_weights` wrote, by its own account.

    **Arguments:**

    - `source`: any file. It is at its beginning afterwards.

    **Returns:**

    Whether it is a safetensors file that says so in its metadata.
    """
    size = source.seek(0, 2)
    source.seek(0)
    try:
        told = _header(source, size).get("__metadata__")
    except ValueError:
        return False
    finally:
        source.seek(0)
    return isinstance(told, dict) and str(told.get("format", "")).startswith(FORMAT_OF_FFLAB)


def guessed(tensors: Mapping[str, Tensor], layout: Layout, carried: int = 0) -> list[LayerNames]:
    """Map tensors to layers by their names.

    **Arguments:**

    - `tensors`: those of a file.
    - `layout`: as for `convert_weights`.
    - `carried`: how many inputs of a label each layer has beside the units of the one below.

    **Returns:**

    The layers: all matrices in the order of their names, in which numbers count as numbers, each
    with its bias.

    **Raises:**

    - `ValueError`: the matrices are no chain, or some tensor is neither a matrix nor a bias.
    """
    matrices = sorted((name for name, one in tensors.items() if len(one.shape) == 2), key=_order)
    found = [LayerNames(name, _bias_of(name, tensors, layout)) for name in matrices]
    used = {name for names in found for name in names if name}
    widths = [_shape(tensors[name], layout) for name in matrices]
    chained = all(carried + below[0] == above[1] for below, above in itertools.pairwise(widths))
    if not found or used != tensors.keys() or not chained:
        raise ValueError(
            f"the tensors cannot be told apart as dense layers in a chain; say which they are "
            f"(layers). The file has {listed(tensors)}"
        )
    return found


def listed(tensors: Mapping[str, Tensor]) -> str:
    """List tensors in words.

    **Arguments:**

    - `tensors`: those of a file.

    **Returns:**

    Names, types and shapes of the first few.
    """
    shown = [
        f"{name} {one.kind} {'x'.join(map(str, one.shape)) or 'scalar'}"
        for name, one in sorted(tensors.items(), key=lambda item: _order(item[0]))[:NAMED]
    ]
    more = f" and {len(tensors) - NAMED} more" if len(tensors) > NAMED else ""
    return f"{', '.join(shown) or 'no tensor'}{more}"


def _order(name: str) -> list[tuple[int, int, str]]:
    """Return a key by which layers.10 comes after layers.9."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in _DIGITS.split(name)
        if part
    ]


def _bias_of(name: str, tensors: Mapping[str, Tensor], layout: Layout) -> str | None:
    """Return the name of the bias of a matrix; None where there is none."""
    outputs = _shape(tensors[name], layout)[0]
    for weight, bias in BIASES.items():
        found = re.fullmatch(rf"(.*?){weight}(\d*)", name)
        if found is None:
            continue
        wanted = f"{found[1]}{bias}{found[2]}"
        if wanted in tensors and tensors[wanted].shape == (outputs,):
            return wanted
    return None


def _shape(tensor: Tensor, layout: Layout) -> tuple[int, int]:
    """Return outputs and inputs of a matrix."""
    first, second = tensor.shape
    return (first, second) if layout == "out_in" else (second, first)


def _named(tensors: Mapping[str, Tensor], layers: Sequence[LayerNames]) -> list[LayerNames]:
    """Return the layers as they are named; raise ValueError where a tensor is not there."""
    for name in (name for names in layers for name in names if name is not None):
        if name not in tensors:
            raise ValueError(
                f"there is no tensor {name[:LONGEST_NAME]!r}; there are {listed(tensors)}"
            )
    if not layers:
        raise ValueError("layers: name at least one")
    return list(layers)


def _matrix(tensors: Mapping[str, Tensor], names: LayerNames, layout: Layout) -> Float32:
    """Return the weights (n, m) of a layer."""
    tensor = tensors[names.weight]
    if len(tensor.shape) != 2:
        raise ValueError(
            f"{names.weight} has {len(tensor.shape)} axes; a dense layer has two, and others, such "
            f"as convolutions, are not taken"
        )
    found = _floats(names.weight, tensor)
    return np.ascontiguousarray(found if layout == "out_in" else found.T)


def _with_bias(matrix: Float32, tensors: Mapping[str, Tensor], names: LayerNames) -> Float32:
    """Return the weights with the bias as the last input; 0 where the layer has none."""
    bias = np.zeros(len(matrix), dtype=np.float32)
    if names.bias is not None:
        if tensors[names.bias].shape != bias.shape:
            raise ValueError(
                f"{names.bias} is of shape {tensors[names.bias].shape}, and {names.weight} has "
                f"{len(matrix)} units"
            )
        bias = _floats(names.bias, tensors[names.bias])
    return np.concatenate([matrix, bias[:, None]], axis=1)


def _floats(name: str, tensor: Tensor) -> Float32:
    """Return a tensor as float32; raise ValueError for numbers that float32 does not hold."""
    if tensor.kind not in FLOATS:
        raise ValueError(f"{name} is {tensor.kind}; expected floats ({', '.join(FLOATS)})")
    with np.errstate(over="ignore"):
        found = np.asarray(tensor.read()).astype(np.float32)
    if not np.isfinite(found).all():
        raise ValueError(f"{name} has numbers that are not finite in float32")
    return found


def _refuse_broken_chain(
    tensors: Mapping[str, Tensor],
    chosen: Sequence[LayerNames],
    matrices: Sequence[Float32],
    carried: int,
) -> None:
    """Raise ValueError where a layer does not take what the one below gives, and `carried` inputs
    of the label before that.
    """
    beside = f" and the label {carried} inputs" if carried else ""
    for below, above, names in zip(matrices, matrices[1:], chosen[1:], strict=False):
        if above.shape[1] != carried + len(below):
            raise ValueError(
                f"{names.weight} takes {above.shape[1]} inputs, and the layer below has "
                f"{len(below)} units{beside}; the file has {listed(tensors)}"
            )


def _spec(
    dataset: DatasetSpec,
    network: Mapping[str, Any],
    matrices: Sequence[Float32],
    *,
    has_bias: bool,
    labelled: bool,
) -> TrainSpec:
    """Return the spec of a run that has such weights; raise ValueError where there is none."""
    widths = [len(matrix) for matrix in matrices]
    try:
        whole = NetworkSpec.model_validate({**network, "widths": widths, "bias": has_bias})
        fields: dict[str, Any] = {} if labelled else {"negatives": {"strategy": "hybrid"}}
        return TrainSpec.model_validate(
            {"dataset": dataset, "network": whole, "epochs": 1, "seeds": [0], **fields}
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"network: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _refuse_odd_name(name: object) -> str:
    """Return the name of a tensor; raise ValueError for one that cannot be shown."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ValueError(
            f"a tensor is called {str(name)[:40]!r}; names have 1 to {LONGEST_NAME} characters "
            f"that can be seen"
        )
    return name


# safetensors


def _of_safetensors(source: IO[bytes], size: int) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, whose header says all of them."""
    header = _header(source, size)
    start = source.tell()
    header.pop("__metadata__", None)
    if len(header) > MOST_TENSORS:
        raise ValueError(
            f"the file has {len(header):,} tensors; at most {MOST_TENSORS:,} are taken"
        )
    return {
        _refuse_odd_name(name): _described(source, name, found, start, size)
        for name, found in header.items()
    }


def _header(source: IO[bytes], size: int) -> dict[str, Any]:
    """Return the header of a safetensors file, and leave the file where the tensors begin."""
    head = source.read(8)
    if len(head) < 8:
        raise ValueError("the file is empty or cut short; expected safetensors or .npz")
    (length,) = struct.unpack("<Q", head)
    if not 2 <= length <= min(LONGEST_HEADER, size - 8):
        raise ValueError(
            f"not a safetensors file or .npz: it would have a header of {length:,} bytes"
        )
    try:
        header = json.loads(source.read(length).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError("not a safetensors file: its header is no JSON") from error
    if not isinstance(header, dict):
        raise ValueError("not a safetensors file: its header is no object")
    return header


def _described(source: IO[bytes], name: str, found: object, start: int, size: int) -> Tensor:
    """Return a tensor as a header describes it; raise ValueError where that cannot be."""
    try:
        assert isinstance(found, dict)  # noqa: S101 - caught below
        kind, shape, (first, last) = found["dtype"], found["shape"], found["data_offsets"]
        numbers = [*shape, first, last]
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: the header does not describe it") from error
    if not all(type(one) is int and 0 <= one <= size for one in numbers):
        raise ValueError(f"{name}: shape and place are no numbers within the file")
    if not isinstance(kind, str) or kind not in SIZES or len(shape) > MOST_AXES:
        raise ValueError(f"{name}: {str(kind)[:20]} of {len(shape)} axes is not taken")
    if last - first != math.prod(shape) * SIZES[kind] or start + last > size:
        raise ValueError(f"{name}: {kind} {tuple(shape)} is not the size of its data")

    def read() -> npt.NDArray[np.generic]:
        source.seek(start + first)
        raw = source.read(last - first)
        if kind == "BF16":  # the upper half of a float32
            return (
                (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
            )
        return np.frombuffer(raw, f"<f{SIZES[kind]}").reshape(shape)

    return Tensor(tuple(shape), kind, read)


# .npz


def _of_npz(source: IO[bytes]) -> dict[str, Tensor]:
    """Return the arrays of an .npz, by what their headers say."""
    try:
        refuse_long_directory(source, MOST_DIRECTORY, f"at most {MOST_TENSORS:,} arrays")
        archive = zipfile.ZipFile(source)
        infos = archive.infolist()
        if len(infos) > MOST_TENSORS:
            raise ValueError(f"it has {len(infos):,} members; at most {MOST_TENSORS:,} are taken")
        unpacked = sum(info.file_size for info in infos)
        if unpacked > MAX_FILE_BYTES:  # deflate packs zeros a thousand times smaller
            raise ValueError(f"its arrays would have {unpacked:,} bytes")
        found: dict[str, Tensor] = {}
        for info in infos:
            name = _refuse_odd_name(info.filename.removesuffix(".npy"))
            if name in found or info.filename != f"{name}.npy":
                raise ValueError(f"{info.filename[:80]!r} is no array, or is there twice")
            found[name] = _member(archive, info)
    except (*DAMAGED, DatasetError) as error:
        raise ValueError(f"not a readable .npz ({' '.join(str(error).split())[:200]})") from error
    return found


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Tensor:
    """Return an array of an .npz. Raises ValueError where it declares what it has not."""
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is encrypted or packed as numpy does not")
    with archive.open(info) as file:
        # numpy would read a header of any length before it looks at the length
        head = io.BytesIO(file.read(PREFIX_BYTES + MOST_HEADER_BYTES))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{info.filename}: format version {version} of .npy")
    header = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    try:
        shape, fortran, dtype = header(head, max_header_size=MOST_HEADER_BYTES)
    except ILLEGIBLE as error:
        raise ValueError(f"{info.filename}: its header is none") from error
    offset = head.tell()
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects, which are never unpickled")
    size = math.prod(shape) * dtype.itemsize
    if any(one < 0 for one in shape) or len(shape) > MOST_AXES or offset + size != info.file_size:
        told = f"{dtype} {shape}"[:LONGEST_NAME]
        raise ValueError(f"{info.filename}: {told} is not the size of its data")
    kind = f"F{8 * dtype.itemsize}" if dtype.kind == "f" else str(dtype)[:LONGEST_KIND]

    def read() -> npt.NDArray[np.generic]:
        try:
            with archive.open(info) as file:
                file.read(offset)
                raw = np.frombuffer(file.read(size), dtype=dtype)
                file.read(1)  # the end: now the checksum is compared
        except DAMAGED as error:
            raise ValueError(f"{info.filename} is damaged ({error})") from error
        return raw.reshape(shape, order="F" if fortran else "C")

    return Tensor(tuple(shape), kind, read)
