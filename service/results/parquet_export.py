"""Measured rows as a Parquet file: the columns of curves.csv, with types and metadata."""

import io
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from ffengine.results import CheckCell, EpochRow, ForecastPoint
from ffengine.spec import digest
from ffengine.version import NUMERICS_VERSION, VERSION
from service.jobs import Job
from service.results.measured_rows import MEANS, MeasuredRun, RowTable

if TYPE_CHECKING:
    import pyarrow as pa

MEDIA_TYPE = "application/vnd.apache.parquet"
ROWS_AT_ONCE = 10_000  # of a row group, which is what is held in memory
_OF_MEANS: dict[str, type] = {
    **dict.fromkeys(MEANS, float),
    "figure": str,
    "theorem2_direction": str,
    "seeds": int,
}


def parquet_pieces(
    table: RowTable, runs: Sequence[MeasuredRun], about: Mapping[str, str]
) -> Iterator[bytes]:
    """A table as a Parquet file, ROWS_AT_ONCE rows at a time.

    **Arguments:**

    - `table`: the rows.
    - `runs`: whose rows they are; the values that they vary say the types of these columns.
    - `about`: the metadata of the file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = column_types(table.columns, runs)
    schema = _schema(kinds).with_metadata(dict(about))
    sink, rows = _Sink(), iter(table.rows)
    with pq.ParquetWriter(sink, schema) as writer:
        while some := list(islice(rows, ROWS_AT_ONCE)):
            columns = {
                name: pa.array(
                    [_cell(row.get(name), kind) for row in some], schema.field(name).type
                )
                for name, kind in kinds.items()
            }
            writer.write_table(pa.table(columns, schema=schema))
            yield sink.take()
    yield sink.take()


def about_file(job: Job) -> dict[str, str]:
    """The metadata of a job's file: which job it is, of which data, and of which versions."""
    found = job.provenance
    facts = {
        "job": job.id,
        "kind": job.kind,
        "state": job.state.value,
        "name": job.name,
        "spec_digest": found.spec_digest if found else digest(job.spec),
        "spec": job.spec.model_dump_json(),
        "fflab_version": (found and found.fflab_version) or VERSION,
        "numerics_version": found.engine_version if found else NUMERICS_VERSION,
        "torch_version": found.torch_version if found else None,
        "dataset": found.dataset.name if found else None,
        "dataset_digest": found.dataset.digest if found else None,
    }
    return {f"fflab.{name}": value for name, value in facts.items() if value}


def column_types(columns: Sequence[str], runs: Sequence[MeasuredRun]) -> dict[str, type]:
    """The type of each column of measured rows: str, bool, int or float."""
    declared: dict[str, type] = dict(_OF_MEANS)
    for model in (EpochRow, CheckCell, ForecastPoint):
        for name, field in model.model_fields.items():
            declared[name] = _plain_type(field.annotation)
    varied: dict[str, set[type]] = {}
    for run in runs:
        for name, value in run.about.items():
            varied.setdefault(name, set()).update(() if value is None else {type(value)})
    return {
        name: _common_type(varied[name]) if name in varied else declared.get(name, str)
        for name in columns
    }


def _schema(columns: Mapping[str, type]) -> "pa.Schema":
    import pyarrow as pa

    arrow = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    return pa.schema([pa.field(name, arrow[kind]) for name, kind in columns.items()])


def _plain_type(annotation: Any) -> type:
    """The type of a field's values: `float` for `Ratio | None`, `str` for a Literal of texts."""
    if get_origin(annotation) in (Union, types.UnionType):
        members = {_plain_type(one) for one in get_args(annotation) if one is not type(None)}
        return _common_type(members)
    values = get_args(annotation)
    if get_origin(annotation) is None:
        return annotation if annotation in (bool, int, float, str) else str
    if hasattr(annotation, "__metadata__"):
        return _plain_type(annotation.__origin__)
    return _common_type({type(value) for value in values})


def _common_type(kinds: Iterable[type]) -> type:
    """The type that holds values of all these types; str where that is none of them."""
    there = set(kinds)
    if len(there) == 1:
        (only,) = there
        return only if only in (bool, int, float) else str
    return float if there == {int, float} else str


def _cell(value: Any, kind: type) -> Any:
    """A value as a cell of a column; a figure that is no number is left out."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, kind) else kind(value)


class _Sink(io.RawIOBase):
    """A file that is written and read at once: what was written is taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        """Return what was written since the last call."""
        found = b"".join(self._pieces)
        self._pieces = []
        return found
