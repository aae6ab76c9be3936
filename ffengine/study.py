"""Studies: a grid becomes runs, and their results become means with intervals over seeds."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Literal, NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError

from ffengine.entry import Entry, SpecFieldError, field_error_of, message_of
from ffengine.intervals import (  # some are names that earlier versions had here
    AnyRow,
    interval,
    interval_of,
    student_t,  # noqa: F401
    wilson,  # noqa: F401
)
from ffengine.plugins import PRESET_GROUP, REGISTRY
from ffengine.presets import PRESETS, Preset
from ffengine.results import (
    AccuracyRow,
    CheckResult,
    EpochAccuracyRow,
    EpochRow,
    ForecastResult,
    Interval,
    RunResult,
    StudyCell,
    TrainResult,
)
from ffengine.search_spec import Range, SearchSpec
from ffengine.spec import (
    MAX_STUDY_CELLS,
    CheckSpec,
    ForecastSpec,
    RunSpec,
    StudyPart,
    StudySpec,
    TrainedWeights,
    TrainSpec,
    digest,
)
from ffengine.spec_values import varied_columns
from ffengine.summary_keys import ALL_LAYERS, PLACE_COLUMNS, SummaryKey
from ffengine.text import STORED, visible
from ffengine.theorems import FIGURE_DIRECTIONS, Direction

_RUN_SPEC: TypeAdapter[TrainSpec | CheckSpec | ForecastSpec] = TypeAdapter(RunSpec)

TRAIN_FIGURES = (
    "sparsity",
    "zero_fraction",
    "goodness",
    "theorem1_ratio",
    "theorem2_ratio",
    "observed_increase_ratio",
    "agreement",
    "tau",
    "active_share",
    "kappa",
    "kappa_gap",
    "theorem2_margin",
    "theorem2_difference_ratio",
    "theorem2_expected_ratio",
    "theorem2_total_ratio",
    "joint_increase_ratio",
    "total_agreement",
    "local_agreement",
    "log_goodness",
    "effective_units",
    "position_sparsity",
    "pooled_sparsity",
    "theorem1_position_ratio",
    "theorem1_map_ratio",
    "theorem1_pooled_ratio",
    "theorem2_position_ratio",
    "theorem2_pooled_ratio",
)
TAU_STAR = "tau_star"
CHECK_FIGURES = ("ratio", "observed_increase_ratio", "agreement")
# of a study's table, beside those of its varied fields
FIGURE_COLUMNS = (
    *("part", "job", "state", "theorem", "figure", *PLACE_COLUMNS),
    *("act", "theorem2_direction", "mean", "low", "high", "seeds"),
)


class GridError(SpecFieldError):
    """A study cannot be expanded: `path` says where in its spec, `message` what is wrong."""


class Cell(NamedTuple):
    """One run of a study.

    **Attributes:**

    - `part`: the name of the part that it comes from.
    - `params`: the values that the grid sets, by dotted field.
    - `spec`: the complete spec of the run.
    """

    part: str
    params: dict[str, JsonValue]
    spec: TrainSpec | CheckSpec | ForecastSpec


def expand(study: StudySpec, context: dict[str, str] | None = None) -> list[Cell]:
    """List all runs of a study, in the order of its parts and grids.

    The trials of a search depend on its results: `ffengine.search` chooses them.

    **Arguments:**

    - `study`: the study.
    - `context`: pydantic's validation context, such as `ffengine.text.STORED`.

    **Returns:**

    The runs; none of a search.

    **Raises:**

    - `GridError`: a preset or field is unknown, a value is refused, or there are too many runs.
    """
    parts = parts_of(study, context)
    if search_of(study) is not None:
        return []
    count = sum(math.prod(len(values) for values in part.grid.values()) for part in parts.values())
    if count > MAX_STUDY_CELLS:
        raise GridError(
            ("grid",), f"{count} cells; at most {MAX_STUDY_CELLS} are allowed in one study"
        )
    paths = {name: ("parts", name, "grid") if study.parts else ("grid",) for name in parts}
    return [
        cell
        for name, part in parts.items()
        for cell in expand_part(name, part, paths[name], context)
    ]


def resolved(study: StudySpec, context: dict[str, str] | None = None) -> StudySpec:
    """Write a study out: its base or parts with every default, and with its preset applied.

    The result has the same cells, whatever later becomes of the preset and of the defaults.

    **Arguments:**

    - `study`: the study as it was given.
    - `context`: pydantic's validation context, such as `ffengine.text.STORED`.

    **Returns:**

    The study, with the preset's name as a label.

    **Raises:**

    - `GridError`: there is no such preset, or a field does not fit it.
    """
    parts = parts_of(study, context)
    written = {
        name: {"base": part.base.model_dump(mode="json"), "grid": part.grid}
        for name, part in parts.items()
    }
    label = {} if study.preset is None else {"preset": study.preset}
    whole = written[""] if study.preset is None and not study.parts else {**label, "parts": written}
    if search := search_of(study, context):
        whole = {**whole, "search": search.model_dump(mode="json")}
    return StudySpec.model_validate(
        whole, context=STORED
    )  # its texts were validated when it was read


def written_out(
    spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec, context: dict[str, str] | None = None
) -> TrainSpec | CheckSpec | ForecastSpec | StudySpec:
    """Write a spec out: a study is resolved, any other spec stays as it is.

    **Arguments:**

    - `spec`: a run or a study.
    - `context`: pydantic's validation context, such as `ffengine.text.STORED`.

    **Returns:**

    The spec that runs.

    **Raises:**

    - `GridError`: as for `resolved`.
    """
    return resolved(spec, context) if isinstance(spec, StudySpec) else spec


def trainings_named(spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec) -> set[str]:
    """Collect the training jobs whose weights a spec asks for.

    **Arguments:**

    - `spec`: the spec.

    **Returns:**

    The ids of the jobs.

    **Raises:**

    - `GridError`: as for `resolved`.
    """
    if isinstance(spec, TrainSpec | ForecastSpec):
        return set()
    if isinstance(spec, CheckSpec):
        return {spec.at.job} if isinstance(spec.at, TrainedWeights) else set()
    found: set[str] = set()
    search = search_of(spec, STORED)
    grids: list[Mapping[str, Range | Sequence[JsonValue]]] = [search.space] if search else []
    for part in parts_of(spec, STORED).values():
        found |= trainings_named(part.base)
        grids.append(part.grid)
    for grid in grids:
        jobs, weights = (grid.get(field, ()) for field in ("at.job", "at"))
        found |= {str(job) for job in jobs if not isinstance(jobs, Range)}
        found |= {
            str(at["job"])
            for at in weights
            if not isinstance(weights, Range) and isinstance(at, dict) and "job" in at
        }
    return found


def search_of(study: StudySpec, context: dict[str, str] | None = None) -> SearchSpec | None:
    """Return what a study searches; its own fields override those of its preset.

    **Arguments:**

    - `study`: the study.
    - `context`: pydantic's validation context, such as `ffengine.text.STORED`.

    **Returns:**

    The search; None of a study of grids.

    **Raises:**

    - `GridError`: the fields do not fit each other.
    """
    own, preset = study.search, PRESETS.get(study.preset or "")
    base = preset.spec.search if preset else None
    if "search" not in study.model_fields_set:
        return base
    if own is None or base is None:
        return own
    try:
        return SearchSpec.model_validate(merged(base, own), context=context)
    except ValidationError as error:
        first = error.errors()[0]
        raise GridError(("search", *map(str, first["loc"])), message_of(first)) from error


def is_resolved(study: StudySpec) -> bool:
    """Whether a study is written out, so that it does not depend on presets and defaults.

    **Arguments:**

    - `study`: the study.

    **Returns:**

    True where resolving it changes nothing.
    """
    try:
        return digest(resolved(study, STORED)) == digest(study)
    except GridError:
        return False


def parts_of(study: StudySpec, context: dict[str, str] | None = None) -> dict[str, StudyPart]:
    """Return the named parts of a study; its own fields override those of its preset.

    **Arguments:**

    - `study`: the study.
    - `context`: pydantic's validation context, such as `ffengine.text.STORED`.

    **Returns:**

    The parts by name; the only part of a study without parts is named "".

    **Raises:**

    - `GridError`: there is no such preset, or a field does not fit it.
    """
    if study.preset is None:
        return study.parts or {"": StudyPart.model_construct(base=study.base, grid=study.grid)}
    given = study.model_fields_set
    if "parts" in given and not study.parts:
        raise GridError(
            ("parts",),
            f"is empty, which leaves nothing of the preset {study.preset!r}; leave it out, or "
            f"name a part",
        )
    parts = study.parts or _parts_of_preset(study.preset)
    if "base" in given:
        parts = {
            name: part.model_copy(update={"base": overridden(part.base, study.base, context)})
            for name, part in parts.items()
        }
    if "grid" in given:
        parts = {name: part.model_copy(update={"grid": study.grid}) for name, part in parts.items()}
    return parts


def _parts_of_preset(name: str) -> dict[str, StudyPart]:
    """Return the parts of a preset; raise GridError where there is none of that name."""
    if name not in PRESETS:
        raise GridError(
            ("preset",), f"{name!r} is not a preset; choose one of {', '.join(PRESETS)}"
        )
    return parts_of(PRESETS[name].spec)


def overridden(
    base: TrainSpec | CheckSpec | ForecastSpec,
    changes: TrainSpec | CheckSpec | ForecastSpec,
    context: dict[str, str] | None,
) -> TrainSpec | CheckSpec | ForecastSpec:
    """Override a base spec with the fields that were set in another spec of the same kind.

    **Arguments:**

    - `base`: the spec of the preset.
    - `changes`: the spec that was given; where it is of another kind, `base` is returned.
    - `context`: pydantic's validation context.

    **Returns:**

    The spec.

    **Raises:**

    - `GridError`: the fields do not fit each other.
    """
    if base.kind != changes.kind:
        return base
    try:
        return _RUN_SPEC.validate_python(merged(base, changes), context=context)
    except ValidationError as error:
        first = error.errors()[0]
        raise GridError(("base", *map(str, first["loc"][1:])), message_of(first)) from error


def merged(base: Entry, changes: Entry) -> dict[str, JsonValue]:
    """Return the document of an entry, overridden with the fields that were set in another.

    Another choice of a catalogue replaces the whole choice.

    **Arguments:**

    - `base`: the entry.
    - `changes`: the entry whose set fields override it.

    **Returns:**

    The document.
    """
    document: dict[str, JsonValue] = base.model_dump(mode="json")
    for name in changes.model_fields_set:
        held, value = getattr(base, name), getattr(changes, name)
        within = type(held) is type(value) and isinstance(value, Entry)
        document[name] = (
            merged(held, value) if within else changes.model_dump(mode="json", include={name})[name]
        )
    return document


def expand_part(
    name: str, part: StudyPart, path: tuple[str, ...], context: dict[str, str] | None
) -> list[Cell]:
    """List the runs of one part: every combination of the values of its grid.

    **Arguments:**

    - `name`: of the part.
    - `part`: base and grid.
    - `path`: where the grid is in the spec of the study.
    - `context`: pydantic's validation context.

    **Returns:**

    The runs.

    **Raises:**

    - `GridError`: a field is unknown or a value is refused.
    """
    cells = []
    for values in itertools.product(*part.grid.values()):
        params = dict(zip(part.grid, values, strict=True))
        cells.append(Cell(name, params, with_params(part.base, params, path, context)))
    return cells


def with_params(
    base: TrainSpec | CheckSpec | ForecastSpec,
    params: dict[str, JsonValue],
    path: tuple[str, ...],
    context: dict[str, str] | None,
) -> TrainSpec | CheckSpec | ForecastSpec:
    """Set dotted fields in a spec.

    **Arguments:**

    - `base`: the spec.
    - `params`: the values by dotted field.
    - `path`: where the grid of these fields is in the spec of the study.
    - `context`: pydantic's validation context, such as `ffengine.text.STORED`.

    **Returns:**

    The spec.

    **Raises:**

    - `GridError`: a field is unknown or a value is refused; the path leads to it.
    """
    document: dict[str, JsonValue] = base.model_dump(mode="json")
    for field, value in params.items():
        set_dotted(document, field, value, (*path, field))
    if isinstance(base, TrainSpec) and base.has_usual_negatives and not _names_negatives(params):
        del document["negatives"]  # another objective may have others
    try:
        return _RUN_SPEC.validate_python(document, context=context)
    except ValidationError as error:
        first = error.errors()[0]
        cause = field_error_of(first)
        location = (*first["loc"], *(cause.path if cause else ()))
        where = next(
            (field for field in params if touches(field, location)), next(iter(params), "")
        )
        raise GridError((*path, where), f"{params.get(where)!r}: {message_of(first)}") from error


def _names_negatives(params: dict[str, JsonValue]) -> bool:
    """Whether a field of negatives is among those that are set."""
    return any(field.partition(".")[0] == "negatives" for field in params)


def set_dotted(
    document: dict[str, JsonValue], field: str, value: JsonValue, path: tuple[str, ...]
) -> None:
    """Set `a.b.c` in nested objects, in place; `a.b.0` is the first item of a list.

    A new discriminator drops the parameters of the entry before.

    **Arguments:**

    - `document`: the outermost object.
    - `field`: the dotted field.
    - `value`: its new value.
    - `path`: the place that an error names.

    **Raises:**

    - `GridError`: an object on the way does not exist.
    """
    *parents, last = field.split(".")
    for parent in parents:
        inner = document.get(parent)
        if isinstance(inner, list) and parent == parents[-1]:
            inner[_place_in(inner, last, path)] = value
            return
        if not isinstance(inner, dict):
            raise GridError(
                path, f"{field!r} is not a field of this spec: there is no object {parent!r}"
            )
        document = inner
    if last in ("strategy", "name") and parents[-1:] in (
        ["negatives"],
        ["objective"],
        ["optimizer"],
    ):
        document.clear()
    document[last] = value


def _place_in(values: list[JsonValue], step: str, path: tuple[str, ...]) -> int:
    """Return the place in a list that a step of a dotted field names; raise GridError for none."""
    if not step.isascii() or not step.isdigit() or int(step) >= len(values):
        raise GridError(path, f"{step!r} is no place in a list of {len(values)}, counted from 0")
    return int(step)


def touches(field: str, location: tuple[int | str, ...]) -> bool:
    """Whether a validation error lies within the first object of a dotted field."""
    return field.split(".", maxsplit=1)[0] in location


# Summaries of results, by figure


def summarise(result: RunResult) -> dict[str, Interval]:
    """Summarise each figure of a result as an interval over its seeds.

    A training run is summarised at its first and last epoch: `theorem2_ratio[layer=0 epoch=10
    split=positive]`, and by `tau_star`, the flow time at which S was expected to be lowest, with
    the range of its conjecture; a check by its cells: `ratio[width=64 split=negative
    method=exact]`. The accuracy by the goodness of all layers is `accuracy[layer=all
    partition=test]`; other classifiers name their layers and method. A forecast is
    summarised at its first and last epoch, for each width and for the limit: `sparsity[epoch=17
    width=256 split=positive]`, with the bounds of the forecast in place of those over seeds, and
    `tau_star`, where act 1 ends: theorem 2 of both splits crosses one half.

    **Arguments:**

    - `result`: of a run.

    **Returns:**

    Intervals by the text of their SummaryKey; a figure that no row has is left out.
    """
    if isinstance(result, ForecastResult):
        return {str(key): found for key, found in _of_forecast(result)}
    groups: dict[SummaryKey, list[AnyRow]] = defaultdict(list)
    for key, row in _keyed_rows(result):
        groups[key].append(row)
    found = {key: interval_of(rows, key.figure) for key, rows in groups.items()}
    told = {str(key): one for key, one in _best_epochs(result)}
    return {str(key): one for key, one in found.items() if one} | told | _expected(result)


def _best_epochs(result: TrainResult | CheckResult) -> Iterator[tuple[SummaryKey, Interval]]:
    """Yield the best accuracy on validation samples with its epoch, and the epoch that was chosen:
    means over seeds, of each layer and of all together.
    """
    if not isinstance(result, TrainResult):
        return
    curves: dict[SummaryKey, dict[int, list[EpochAccuracyRow]]] = defaultdict(
        lambda: defaultdict(list)
    )
    told = [row for row in result.accuracy_curves if row.method == "goodness"]
    everything = max((row.layers for row in told), key=len, default=())
    for row in told:
        is_whole = row.layer is None and row.layers == everything
        layer: int | Literal["all"] | None = ALL_LAYERS if is_whole else row.layer
        if row.partition == "validation" and row.accuracy is not None and layer is not None:
            key = SummaryKey("best_accuracy", layer=layer, partition="validation")
            curves[key][row.seed].append(row)
    for key, by_seed in curves.items():
        best = [
            max(rows, key=lambda row: (row.accuracy or 0, -row.epoch)) for rows in by_seed.values()
        ]
        shares, counts = [row.accuracy or 0.0 for row in best], [row.samples for row in best]
        yield key, interval(shares, share=True, samples=counts)
        yield key._replace(figure="best_epoch"), interval([float(row.epoch) for row in best])
    chosen: dict[int, list[float]] = defaultdict(list)
    for selected in result.selected:
        chosen[selected.layer].append(float(selected.epoch))
    for number, epochs in chosen.items():
        yield SummaryKey("selected_epoch", layer=number), interval(epochs)


def _expected(result: TrainResult | CheckResult) -> dict[str, Interval]:
    """Return where S of a training run was expected to be lowest, if that is known."""
    onset = result.onset if isinstance(result, TrainResult) else None
    if onset is None or onset.tau_star is None:
        return {}
    seeds = len(result.provenance.seeds)
    low, high = onset.tau_star_low, onset.tau_star_high
    return {TAU_STAR: Interval(mean=onset.tau_star, low=low, high=high, seeds=seeds)}


def acts_of(result: RunResult) -> dict[str, str]:
    """Name the act in which a training run is at its last epoch.

    **Arguments:**

    - `result`: of a run.

    **Returns:**

    The acts by layer, epoch and split, as text of a SummaryKey: `act[layer=0 epoch=10
    split=positive]` -> `selecting`; where seeds differ all of theirs, with "or" between them.
    """
    if not isinstance(result, TrainResult):
        return {}
    found: dict[SummaryKey, dict[str, None]] = defaultdict(dict)
    for epoch, row in _first_and_last(result.curves):
        if row.act is not None:
            found[SummaryKey("act", layer=row.layer, epoch=epoch, split=row.split)][row.act] = None
    return {str(key): " or ".join(acts) for key, acts in found.items()}


def _of_forecast(result: ForecastResult) -> Iterator[tuple[SummaryKey, Interval]]:
    """Yield what is forecast at initialisation and at the end, and where act 1 ends."""
    last = max((row.epoch for row in result.rows), default=0)
    for row in result.rows:
        if row.epoch not in (0, last):
            continue
        key = SummaryKey("sparsity", epoch=row.epoch, width=row.width, split=row.split)
        yield key, Interval(mean=row.sparsity, low=row.low, high=row.high, seeds=row.seeds)
        # the same for all widths, and at initialisation no forecast
        if row.width is None and row.epoch and row.theorem2_ratio is not None:
            yield (
                key._replace(figure="theorem2_ratio"),
                Interval(
                    mean=row.theorem2_ratio,
                    low=row.theorem2_low,
                    high=row.theorem2_high,
                    seeds=row.seeds,
                ),
            )
    onset, seeds = result.onset, max((row.seeds for row in result.rows), default=0)
    if onset.tau is not None:
        bounded = onset.high is not None
        yield (
            SummaryKey(TAU_STAR),
            Interval(
                mean=onset.tau, low=onset.low if bounded else None, high=onset.high, seeds=seeds
            ),
        )


def _keyed_rows(result: TrainResult | CheckResult) -> Iterator[tuple[SummaryKey, AnyRow]]:
    """Yield the rows that are summarised, each under the key of every figure that it has."""
    if isinstance(result, CheckResult):
        for cell in result.cells:
            for figure in CHECK_FIGURES:
                key = SummaryKey(figure, width=cell.width, split=cell.split, method=cell.method)
                yield key, cell
        return
    for epoch, row in _first_and_last(result.curves):
        for figure in TRAIN_FIGURES:
            yield SummaryKey(figure, layer=row.layer, epoch=epoch, split=row.split), row
    for accuracy in result.accuracy:
        yield _accuracy_key(accuracy, result), accuracy


def _accuracy_key(row: AccuracyRow, result: TrainResult) -> SummaryKey:
    """Return the key of an accuracy; its layers are a number, several, or all of the network."""
    key = SummaryKey(
        "accuracy",
        partition=row.partition,
        method=None if row.method == "goodness" else row.method,
    )
    if row.layer is not None:
        return key._replace(layer=row.layer)
    if result.is_of_all_layers(row):
        return key._replace(layer=ALL_LAYERS)
    return key._replace(layers=row.layers)


def _first_and_last(rows: Iterable[EpochRow]) -> list[tuple[int, EpochRow]]:
    """Return the rows of each layer's first and last epoch, with the epoch that they stand for.

    A seed that stopped early has its own last epoch; it stands for the last of all seeds.
    """
    rows = list(rows)
    own, ends = dict[tuple[int, int], int](), dict[int, int]()
    for row in rows:
        own[row.layer, row.seed] = max(row.epoch, own.get((row.layer, row.seed), 0))
        ends[row.layer] = max(row.epoch, ends.get(row.layer, 0))
    return [
        (ends[row.layer] if row.epoch else 0, row)
        for row in rows
        if row.epoch in (0, own[row.layer, row.seed])
    ]


def figure_rows(cells: Sequence[StudyCell]) -> list[dict[str, str | int | float | bool | None]]:
    """Return the summaries of a study's runs as a tidy table.

    **Arguments:**

    - `cells`: the runs.

    **Returns:**

    A row for each run and figure, all with the same columns: the run's part, a column for each
    varied field, and what the figure is of.
    """
    columns_of_runs = varied_columns([cell.params for cell in cells], FIGURE_COLUMNS)
    rows = [
        {
            "part": cell.part,
            **varied,
            "job": cell.job,
            "state": cell.state,
            "theorem": cell.theorem,
            "figure": (key := SummaryKey.parse(text)).figure,
            **key.columns(),
            "act": cell.acts.get(str(key._replace(figure="act"))),
            "theorem2_direction": FIGURE_DIRECTIONS.get(key.figure)
            if cell.kind == "train"
            else cell.theorem2_direction,
            **found.model_dump(mode="json"),
        }
        for cell, varied in zip(cells, columns_of_runs, strict=True)
        for text, found in cell.summary.items()
    ]
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in columns} for row in rows]


def direction_of(result: RunResult | None) -> Direction | None:
    """Return the step along which a check looked at theorem 2.

    **Arguments:**

    - `result`: of a run; None while there is none.

    **Returns:**

    The direction; None where the run is no such check.
    """
    cells = result.cells if isinstance(result, CheckResult) else ()
    return cells[0].theorem2_direction if cells else None


def study_cell(cell: Cell, *, job: str | None, state: str, result: RunResult | None) -> StudyCell:
    """Return what a study reports of one run.

    **Arguments:**

    - `cell`: the run.
    - `job`: the id of its job.
    - `state`: the state of the job.
    - `result`: None while there is none.

    **Returns:**

    The row of the study.
    """
    return StudyCell(
        part=cell.part,
        params=cell.params,
        kind=cell.spec.kind,
        theorem=cell.spec.theorem if isinstance(cell.spec, CheckSpec) else None,
        theorem2_direction=direction_of(result),
        spec_digest=digest(cell.spec),
        job=job,
        state=state,
        summary=summarise(result) if result else {},
        acts=acts_of(result) if result else {},
        diagnostics=result.diagnostics if result else (),
    )


def read_preset(found: object) -> tuple[str, StudySpec]:
    """Return meaning and study of what the entry point of a plug-in's preset names.

    **Arguments:**

    - `found`: a mapping with `meaning` and `spec`: a study, or its document.

    **Raises:**

    - `ValueError`: it is none, or its runs cannot be made; the message says why.
    """
    if not isinstance(found, Mapping) or set(found) != {"meaning", "spec"}:
        raise ValueError('a preset is a mapping {"meaning": TEXT, "spec": STUDY}')
    meaning = found["meaning"]
    if not isinstance(meaning, str) or not meaning.strip():
        raise ValueError("meaning: say in a sentence what the study answers")
    try:
        study = StudySpec.model_validate(found["spec"])
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise ValueError(f"spec: {path + ': ' if path else ''}{message_of(first)}") from error
    if study.preset:
        raise ValueError("spec.preset: a preset stands for itself; write the study out")
    resolved(study)
    if study.search is None:
        expand(study)
    return meaning, study


def load_plugin_presets(points: Iterable[EntryPoint]) -> None:
    """Put the presets of plug-ins beside fflab's own, or note why not.

    **Arguments:**

    - `points`: the entry points that name them.
    """
    for name, (meaning, study) in REGISTRY.load_presets(points, OWN_PRESETS, read_preset).items():
        owner = REGISTRY.owner("presets", name)
        plugin = f"{owner.package} {owner.version}" if owner else None
        said = f"{visible(meaning).strip()} Of the plug-in {plugin}."
        PRESETS[name] = Preset(name, said, study, plugin)


OWN_PRESETS = frozenset(PRESETS)
# here, not where presets are: one whose runs cannot be made is refused
load_plugin_presets(entry_points(group=PRESET_GROUP))
