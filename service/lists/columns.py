"""The columns of a list of jobs: facts of the job, fields of its spec, and figures.

A name is that of a column, a short name such as `lr`, a dotted field of a spec such as
`optimizer.lr`, or the end of one that no other field has. No SQL, no HTTP.
"""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

from pydantic import JsonValue

from ffengine.spec import CheckSpec, ForecastSpec, TrainSpec
from ffengine.text import shortened
from service.headline import FIGURES, MINUS
from service.jobs import Job, JobKind, JobState, Priority

ColumnType = Literal["number", "text", "flag", "time", "duration"]
ColumnGroup = Literal["job", "spec", "figure"]
Value = str | float | bool | None
Values = Value | list[Value]

NEAR = 0.6  # likeness, from 0 to 1
LONGEST_NAME = 100  # longer ones resemble no column
MOST_COLUMNS = 30


@dataclass(frozen=True)
class Column:
    """A column: its values are those at the first of the `paths` of the spec that is there.

    `several` columns have a list of values for each job.
    """

    name: str
    meaning: str
    type: ColumnType = "text"
    group: ColumnGroup = "job"
    paths: tuple[tuple[str, ...], ...] = ()
    several: bool = False
    choices: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What stands above the column."""
        return self.name.replace("-", MINUS) if self.group == "figure" else self.name

    @property
    def is_number(self) -> bool:
        """Whether its values are right-aligned."""
        return self.type in ("number", "time", "duration")


class UnknownColumn(ValueError):
    """No column has that name; the message says which one may be meant."""


_JOB_COLUMNS = (
    Column("name", "the name that people gave it"),
    Column("id", "the job's id"),
    Column("kind", "train, check, forecast, study or recorded", choices=get_args(JobKind)),
    Column("state", "where it is in its life", choices=tuple(state.value for state in JobState)),
    Column("progress", "how far it is, from 0 to 1", "number"),
    Column("priority", "where it stands in the queue", choices=get_args(Priority)),
    Column("tag", "its tags", several=True),
    Column("project", "the project that it belongs to"),
    Column("note", "what people noted about it"),
    Column("owner", "the name of the API key that it came with"),
    Column("pinned", "whether it is kept, whatever the retention says", "flag"),
    Column("cached", "whether an earlier, identical job answered it", "flag"),
    Column("duration", "how long it ran, from its first start to its end", "duration"),
    Column("submitted", "when it was submitted", "time"),
    Column("started", "when a worker began it first", "time"),
    Column("finished", "when it ended", "time"),
    Column("attempts", "how often a worker has claimed it", "number"),
    Column("device", "the kind of device that computed it"),
    Column("error", "the code of its error"),
    Column("part", "of a study's run: the part of the study"),
    Column("run", "of a study's run: its number in the study", "number"),
)
_SHORT = {
    "dataset": ("dataset.name",),
    "preprocess": ("dataset.preprocess",),
    "widths": ("network.widths", "widths"),
    "activation": ("network.activation", "activation"),
    "normalize": ("network.normalize",),
    "objective": ("objective.name",),
    "threshold": ("objective.threshold",),
    "goodness": (
        "objective.goodness",
        "objective.goodness.name",
        "goodness",
        "goodness.name",
    ),
    "negatives": ("negatives.strategy",),
    "optimizer": ("optimizer.name",),
    "lr": ("optimizer.lr",),
    "samples": ("samples", "monitor.samples"),
}
# other words for a column, and words that people write for values
_ALIASES = {
    "tags": "tag",
    "who": "owner",
    "submitted_by": "owner",
    "by": "owner",
    "created": "submitted",
    "created_at": "submitted",
    "started_at": "started",
    "finished_at": "finished",
    "ended": "finished",
    "time": "duration",
    "acc": "accuracy",
    "cell": "run",
    "learning_rate": "lr",
    "data": "dataset",
    "momentum": "optimizer.momentum",  # not that of a goodness or of its peers
}


@cache
def columns() -> Mapping[str, Column]:
    """All columns by name: those of jobs, figures, then fields of specs."""
    known = {column.name: column for column in _JOB_COLUMNS}
    known |= {
        name: Column(name, meaning, "number", "figure", ((name,),))
        for name, meaning in FIGURES.items()
    }
    fields = _fields()
    for name, dotted in _SHORT.items():
        known[name] = _spec_column(name, dotted, fields)
    for name in fields:
        if name not in known:
            known[name] = _spec_column(name, (name,), fields)
    return known


def column_of(name: str) -> Column:
    """The column that a name means. Raises UnknownColumn."""
    known = columns()
    asked = name.strip().replace(MINUS, "-")
    if found := known.get(asked) or known.get(_ALIASES.get(asked.lower(), "")):
        return found
    by_case = {one.lower(): one for one in known}
    if found := known.get(by_case.get(asked.lower(), "")):
        return found
    ends = [one for one in known if one.endswith(f".{asked}")]
    if len(ends) == 1:
        return known[ends[0]]
    raise UnknownColumn(_unknown(asked, ends))


def field_column(path: str) -> Column:
    """The column of a dotted field of a spec; its short one where there is one."""
    for name, dotted in _SHORT.items():
        if path in dotted:
            return columns()[name]
    return column_of(path)


def spec_values(column: Column, spec: Mapping[str, Any]) -> Values:
    """What a spec's document holds in a column of its fields."""
    for path in column.paths:
        found: Any = spec
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if isinstance(found, list | tuple):
            return [one for one in found if isinstance(one, str | int | float)]
        if isinstance(found, str | bool | int | float):
            return found
    return None


def values_of(
    columns: Sequence[Column], job: Job, figures: Mapping[str, float], now: float
) -> dict[str, Values]:
    """The values of a job in columns, by name; times and durations in seconds, times since 1970.

    **Arguments:**

    - `figures`: those of its headline.
    - `now`: the time, for jobs that run.
    """
    of_spec = any(column.group == "spec" for column in columns)
    spec = job.spec.model_dump(mode="json") if of_spec else {}
    found: dict[str, Values] = {}
    for column in columns:
        if column.group == "figure":
            found[column.name] = figures.get(column.name)
        elif column.group == "spec":
            found[column.name] = spec_values(column, spec)
        else:
            found[column.name] = _of_job(column.name, job, now)
    return found


def _of_job(name: str, job: Job, now: float) -> Values:
    """A fact of the job itself."""
    value: Values = _FACTS[name](job, now) if name in _FACTS else getattr(job, name)
    return value


def seconds_run(job: Job, now: float) -> float | None:
    """How long a job ran until now; None where it has not begun, or waits for its turn again."""
    if job.started_at is None or job.state == JobState.queued:
        return None
    end = job.finished_at.timestamp() if job.finished_at else now
    return max(0.0, end - job.started_at.timestamp())


_FACTS: Mapping[str, Callable[[Job, float], Any]] = {
    "state": lambda job, now: job.state.value,
    "progress": lambda job, now: job.progress.fraction,
    "tag": lambda job, now: list(job.tags),
    "owner": lambda job, now: job.submitted_by,
    "duration": seconds_run,
    "submitted": lambda job, now: job.created_at.timestamp(),
    "started": lambda job, now: job.started_at and job.started_at.timestamp(),
    "finished": lambda job, now: job.finished_at and job.finished_at.timestamp(),
    "device": lambda job, now: job.provenance and job.provenance.device.partition(":")[0],
    "error": lambda job, now: job.error and job.error.code,
    "part": lambda job, now: (job.place or {}).get("part"),
    "run": lambda job, now: job.cell,
}


def _spec_column(name: str, dotted: tuple[str, ...], fields: Mapping[str, "_Field"]) -> Column:
    paths = tuple(tuple(path.split(".")) for path in dotted if path in fields)
    first = fields[".".join(paths[0])]
    meaning = f"{' or '.join(dotted)} of the spec"
    return Column(name, meaning, first.type, "spec", paths, first.several)


@dataclass(frozen=True)
class _Field:
    """What a field of a spec holds."""

    type: ColumnType
    several: bool = False


_TYPES: Mapping[str, ColumnType] = {
    "number": "number",
    "integer": "number",
    "boolean": "flag",
    "string": "text",
}


@cache
def _fields() -> Mapping[str, _Field]:
    """The fields of all kinds of spec that hold a number, a text, a truth, or a list of these."""
    found: dict[str, _Field] = {}
    for model in (TrainSpec, CheckSpec, ForecastSpec):
        schema = model.model_json_schema()
        for path, field in _walk(schema, schema.get("$defs", {}), ()):
            found.setdefault(path, field)
    del found["kind"]
    return found


def _walk(
    schema: Mapping[str, Any], defined: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[str, _Field]]:
    """Yield the dotted name of each field in a schema, with what it holds."""
    if "$ref" in schema:
        schema = defined[schema["$ref"].rsplit("/", 1)[1]]
    for option in [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        yield from _walk(option, defined, path)
    for name, inner in schema.get("properties", {}).items():
        yield from _walk(inner, defined, (*path, name))
    type_ = str(schema.get("type"))
    if type_ == "array":
        inner = schema.get("items") or next(iter(schema.get("prefixItems", ())), {})
        for _, item in _walk(inner, defined, path):
            yield ".".join(path), _Field(item.type, several=True)
    elif type_ in _TYPES:
        yield ".".join(path), _Field(_TYPES[type_])


def _unknown(name: str, ends: list[str]) -> str:
    """Say that no column has a name, and which may be meant."""
    said = f"{shortened(name, 40)!r} is not a column"
    signed = [figure for figure in FIGURES if figure[:-1].lower() == name.lower()]
    if signed:
        return (
            f"{said}; write {' or '.join(signed)}, of positive or of negative samples (in an "
            f"address, + is written %2B)"
        )
    if ends:
        return f"{said}; did you mean {' or '.join(ends[:3])}?"
    short = [one for one in columns() if "." not in one]
    near = difflib.get_close_matches(name[:LONGEST_NAME].lower(), short, n=1, cutoff=NEAR)
    near = near or difflib.get_close_matches(name[:LONGEST_NAME], columns(), n=1, cutoff=NEAR)
    if near:
        return f"{said}; did you mean {near[0]!r}?"
    return f"{said}; some are {', '.join(short[:6])}, lr, widths, T2+ and accuracy"


def as_json(values: Values) -> JsonValue:
    """A value as JSON has it."""
    return [*values] if isinstance(values, list) else values
