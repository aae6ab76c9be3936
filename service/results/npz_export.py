"""A result as one .npz archive, sent while it is made: the margins of every sample of a check, or
the curves of a training run. `numpy.load(file, allow_pickle=False)` reads it.

The member `header` describes the arrays as JSON. The order of the members and their times are
fixed, so that the same job always gives the same bytes. One artifact is in memory at a time.
"""

import hashlib
import io
import itertools
import json
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ffengine.margin_files import cell_name, read_margins
from ffengine.results import CheckResult, EpochRow, ForecastResult, Split, StudyResult, TrainResult
from service.artifacts import Artifacts, margins_name
from service.jobs import Job

if TYPE_CHECKING:
    from typing_extensions import Buffer

FORMAT = 1  # of the header and the members' names
CHUNK_BYTES = 2**16
UNITS = {
    "sample": "index into the training partition; of a negative, that of the positive it was made "
    "for",
    "margin": "rate of the sample's sparsity, in units of 1 / eta for the step W + eta D; it has "
    "the factor 2 of D, see docs/numerics.md",
    "satisfied": "margin > rounding",
    "dead": "h = 0: no sparsity, margin 0",
    "undecided": "live, and |margin| <= rounding",
}
Array = npt.NDArray[Any]


def stream_npz(
    job: Job,
    result: TrainResult | CheckResult | ForecastResult | StudyResult,
    artifacts: Artifacts,
    owner: str,
) -> Iterator[bytes]:
    """The archive of a job's result, in chunks of at most CHUNK_BYTES.

    All arrays are read twice: at the call, for their digest, and while the chunks are taken.

    **Arguments:**

    - `owner`: the id of the job that computed the result and has the artifacts.

    **Raises** at the call: LookupError for a study or a forecast, which have no arrays of their
    own, and ArtifactDamaged.
    """
    if isinstance(result, ForecastResult):
        raise LookupError(f"{job.id} is a forecast: its figures are in result.csv")
    if isinstance(result, StudyResult):
        raise LookupError(f"{job.id} is a study: the samples are in the archives of its runs")
    header = json.dumps(_header(job, result, artifacts, owner), ensure_ascii=False)
    return _chunks(
        itertools.chain([("header", np.array(header))], _members(result, artifacts, owner))
    )


def _members(
    result: TrainResult | CheckResult, artifacts: Artifacts, owner: str
) -> Iterator[tuple[str, Array]]:
    """Names and arrays in the order of the archive."""
    return (
        _columns(result) if isinstance(result, TrainResult) else _margins(result, artifacts, owner)
    )


def _margins(result: CheckResult, artifacts: Artifacts, owner: str) -> Iterator[tuple[str, Array]]:
    """The arrays (N,) of each cell that has any, in the order of the result's cells."""
    kept = set(artifacts.names(owner))
    for (seed, width), cells in itertools.groupby(
        result.cells, key=lambda cell: (cell.seed, cell.width)
    ):
        if (name := margins_name(seed, width)) in kept:
            for margins in read_margins(artifacts.get(owner, name), cells):
                yield from margins.members.items()


def _columns(result: TrainResult) -> Iterator[tuple[str, Array]]:
    """The rows by column, each an array (rows,): integers as int64, splits and acts as text, ""
    for none, other figures as float64 with NaN for null.
    """
    kinds: dict[Any, str] = {int: "<i8", Split: "<U8"}
    for name, field in EpochRow.model_fields.items():
        values = [getattr(row, name) for row in result.curves]
        if name == "act":
            yield f"curves/{name}", np.array([act or "" for act in values], dtype="<U10")
        else:
            yield f"curves/{name}", np.array(values, dtype=kinds.get(field.annotation, "<f8"))


def _header(
    job: Job, result: TrainResult | CheckResult, artifacts: Artifacts, owner: str
) -> dict[str, object]:
    """What a reader needs to know about the arrays; reads all of them for their digest."""
    digest, there = hashlib.sha256(), set()
    for name, array in _members(result, artifacts, owner):
        digest.update(_bytes(array))
        there.add(name.partition("/")[0])
    source = result.provenance
    header: dict[str, object] = {
        "format": FORMAT,
        "job": job.id,
        "computed_by": owner,
        "kind": result.kind,
        "spec_digest": source.spec_digest,
        "dataset": {"name": source.dataset.name, "digest": source.dataset.digest},
        "engine_version": source.engine_version,
        "seeds": source.seeds,
        "digest": digest.hexdigest(),
        "digest_of": "sha256 over the bytes of all arrays but this one, in the archive's order",
    }
    if isinstance(result, TrainResult):
        return {**header, "columns": list(EpochRow.model_fields), "rows": len(result.curves)}
    return {**header, "theorem": result.theorem, "units": UNITS, **_contents(result, there)}


def _contents(result: CheckResult, there: set[str]) -> dict[str, object]:
    """The cells whose samples are in the archive, and a note where some cells are missing."""
    fields = {
        "seed",
        "width",
        "layer",
        "epoch",
        "split",
        "method",
        "batch_size",
        "samples",
        "live",
        "satisfied",
        "undecided",
        "ratio",
    }
    cells = [
        {"name": cell_name(cell), **cell.model_dump(mode="json", include=fields)}
        for cell in result.cells
        if cell_name(cell) in there
    ]
    if missing := len(result.cells) - len(cells):
        note = (
            f"{missing} of {len(result.cells)} cells were computed before margins were kept; "
            f'submit the spec with "fresh": true for them'
        )
        return {"cells": cells, "note": note}
    return {"cells": cells}


class ChunkBuffer(io.RawIOBase):
    """A file that cannot be rewound: it holds what is written until it is taken."""

    def __init__(self) -> None:
        self.held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: "Buffer", /) -> int:
        self.held += data
        return memoryview(data).nbytes

    def take(self, least: int) -> Iterator[bytes]:
        """The bytes that are held, in chunks of at most CHUNK_BYTES, while there are `least`."""
        while len(self.held) >= least:
            yield bytes(self.held[:CHUNK_BYTES])
            del self.held[:CHUNK_BYTES]


def _chunks(members: Iterator[tuple[str, Array]]) -> Iterator[bytes]:
    """The archive of the members, without compression."""
    buffer = ChunkBuffer()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in members:
            head = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                head, np.lib.format.header_data_from_array_1_0(array)
            )
            body = _bytes(array)
            entry = zipfile.ZipInfo(f"{name}.npy")  # its time is 1980-01-01
            entry.file_size = len(head.getvalue()) + len(body)
            with archive.open(entry, "w") as member:
                member.write(head.getvalue())
                for start in range(0, len(body), CHUNK_BYTES):
                    member.write(body[start : start + CHUNK_BYTES])
                    yield from buffer.take(CHUNK_BYTES)
    yield from buffer.take(1)


def _bytes(array: Array) -> memoryview:
    """The array's memory."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
