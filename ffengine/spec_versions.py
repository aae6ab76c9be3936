"""Versions of specs: which programs understand which spec.

SPEC_VERSION rises with each change by which a spec can say what an older program does not
understand: a field, an entry of a catalogue, a value of a choice. `ADDED` says which came with
which version; what is not named there is of version 1, which is that of fflab 0.2.0. So a spec
needs the version of the newest thing that it uses, and programs of that version and later ones
understand it.

A field that came later and has its default is not written into stored documents: without it, a
program that does not know it reads the same spec.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, JsonValue

from ffengine.entry import Entry

SPEC_VERSION = 2
FIRST_VERSION = 1

# by version: CLASS, CLASS.FIELD, or CLASS.FIELD=VALUE of a choice
ADDED: Mapping[int, frozenset[str]] = {
    2: frozenset(
        {
            # fields
            "Bce.collaboration",
            "Bce.negative_threshold",
            "CheckSpec.along",
            "CheckSpec.decomposition",
            "CheckSpec.goodness",
            "DatasetSpec.held_out_classes",
            "DatasetSpec.label_code",
            "DatasetSpec.label_strength",
            "EvaluationSpec.layer_range",
            "EvaluationSpec.lesions",
            "EvaluationSpec.ood",
            "EvaluationSpec.selectivity",
            "EvaluationSpec.usage",
            "LinearThreshold.collaboration",
            "LinearThreshold.negative_threshold",
            "MonitorSpec.accuracy",
            "MonitorSpec.decomposition",
            "NetworkSpec.label_gains",
            "NetworkSpec.layers",
            "SoftplusLoss.collaboration",
            "SoftplusLoss.negative_threshold",
            "TopK.of",
            "TopK.share",
            "TrainSpec.phases",
            "TrainSpec.select",
            "TrainSpec.stop",
            # values of choices
            "DatasetSpec.labels=every_layer",
            "DatasetSpec.name=cifar100",
            "MonitorSpec.measures=readings",
            "MonitorSpec.measures=spectral_norm",
            "MonitorSpec.measures=weights",
            "NetworkSpec.normalize=group",
            "NetworkSpec.normalize=halves",
            "NetworkSpec.normalize=instance",
            "NetworkSpec.normalize=layer",
            # kinds of spec, and entries of catalogues
            "ChannelAssignment",
            "ClassBlock",
            "Collaboration",
            "ConvLayer",
            "CrossEntropy",
            "DeepSupervision",
            "DenseLayer",
            "Entmax",
            "FFObjective",
            "ForecastSpec",
            "FourierPatterns",
            "GreedyCrossEntropy",
            "Kurtosis",
            "LesionsSpec",
            "Moment",
            "MonoForward",
            "NoNegatives",
            "OneHot",
            "OneLayerSpec",
            "OtherDataSpec",
            "PhasesSpec",
            "PlannedRun",
            "Polar",
            "PoolLayer",
            "PowerMean",
            "PowerSum",
            "Prototypes",
            "RandomPatterns",
            "StopSpec",
            "UploadedWeights",
            "Whitened",
        }
    ),
}
_VERSION_OF = {word: version for version, words in ADDED.items() for word in words}


def version_of(word: str) -> int:
    """Return the version with which something of specs came.

    **Arguments:**

    - `word`: CLASS, CLASS.FIELD or CLASS.FIELD=VALUE.

    **Returns:**

    The version; FIRST_VERSION where `ADDED` does not name it.
    """
    return _VERSION_OF.get(word, FIRST_VERSION)


def version_needed(spec: BaseModel) -> int:
    """Return the lowest version of specs that has all that a spec uses.

    **Arguments:**

    - `spec`: a spec, or a part of one.

    **Returns:**

    The version. Entries of plug-ins do not count: see `ffengine.plugins`.
    """
    return max(map(version_of, _words(spec)))


def stored_document(spec: BaseModel) -> dict[str, Any]:
    """Return a spec as it is stored: without fields that came later and have their defaults.

    **Arguments:**

    - `spec`: a run.

    **Returns:**

    JSON, which reads back as the same spec.
    """
    document: dict[str, Any] = spec.model_dump(mode="json")
    _leave_out(spec, document)
    return document


@cache
def later_defaults(spec: type[Entry]) -> Mapping[tuple[str, ...], JsonValue]:
    """Return what stands in fields of a kind of spec that a stored document may leave out.

    **Arguments:**

    - `spec`: the class of a run.

    **Returns:**

    By the path of each value. Of entries that are chosen from a catalogue nothing is said.
    """
    return dict(_defaults(spec, ()))


def _defaults(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[Any, JsonValue]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if _is_later(model, name):
            default = field.get_default(call_default_factory=True)
            shown = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
            yield from _leaves(shown, (*path, name))
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _defaults(kind, (*path, name))


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[Any, JsonValue]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, str | bool | int | float):
        yield path, value


def _is_later(model: type[BaseModel], field: str) -> bool:
    """Whether a field came later than its class."""
    return version_of(f"{model.__name__}.{field}") > version_of(model.__name__)


def _is_left_out(entry: BaseModel, field: str) -> bool:
    """Whether a field came later, and has its default."""
    model = type(entry)
    default = model.model_fields[field].get_default(call_default_factory=True)
    return _is_later(model, field) and bool(getattr(entry, field) == default)


def _words(entry: BaseModel) -> Iterator[str]:
    """Yield what a spec uses: classes, fields that are written, and chosen values."""
    model = type(entry)
    yield model.__name__
    for name in model.model_fields:
        if _is_left_out(entry, name):
            continue
        value = getattr(entry, name)
        yield f"{model.__name__}.{name}"
        for part in _parts(value):
            if isinstance(part, BaseModel):
                yield from _words(part)
            elif isinstance(part, str):
                yield f"{model.__name__}.{name}={part}"


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else (value,)


def _leave_out(entry: BaseModel, document: Any) -> None:
    """Take out of the document of an entry what need not be written."""
    if not isinstance(document, dict):
        return  # an entry that is written as its name
    for name in type(entry).model_fields:
        if _is_left_out(entry, name):
            document.pop(name, None)
            continue
        value, written = getattr(entry, name), document.get(name)
        if isinstance(value, BaseModel):
            _leave_out(value, written)
        elif isinstance(value, list | tuple) and isinstance(written, list):
            for inner, one in zip(value, written, strict=True):
                if isinstance(inner, BaseModel):
                    _leave_out(inner, one)
