"""What a spec may contain. The API answers with these documents and the pages show them."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, Field

from ffengine.activations import ACTIVATIONS
from ffengine.additions import Catalogue
from ffengine.baselines import BaselineEntry
from ffengine.entry import Described, describe, entries, meaning_of
from ffengine.inits import INITS
from ffengine.label_codes import LabelCodeEntry
from ffengine.negatives import AnyNegatives
from ffengine.objectives import AnyObjective, GoodnessEntry
from ffengine.optimizers import SCHEDULES, AnyOptimizer
from ffengine.plugins import REGISTRY
from ffengine.presets import PRESETS
from ffengine.results import PluginUse
from ffengine.search_spec import METHOD_MEANING, PRUNER_MEANING, SAMPLER_MEANING
from ffengine.spec import (
    PREPROCESS_MEANING,
    CheckSpec,
    ForecastSpec,
    StudySpec,
    TrainSpec,
)
from ffengine.study import resolved
from ffengine.theorems import THEOREMS
from service.schemas import SPEC
from service.web.dataset_facts import DatasetFacts, catalogue_datasets

KINDS = (TrainSpec, CheckSpec, ForecastSpec, StudySpec)


class Catalog(BaseModel):
    """Everything that a spec may contain."""

    datasets: list[DatasetFacts]
    preprocess: list[Described]
    negatives: list[Described]
    activations: list[Described]
    objectives: list[Described]
    goodness: list[Described]
    optimizers: list[Described]
    schedules: list[Described]
    inits: list[Described]
    label_codes: list[Described]
    baselines: list[Described]
    search_methods: list[Described]
    samplers: list[Described]
    pruners: list[Described]
    theorems: list[Described]
    kinds: list[Described]
    plugins: list["PluginLine"] = Field(
        default=[], description="the packages whose entries are beside fflab's own"
    )
    spec_schema: dict[str, Any]


class PluginLine(Described):
    """An installed plug-in: `name` is that of the package, `meaning` says what is in it."""

    version: str
    code_digest: str | None = Field(
        description="sha256 of its code; null where none of its entries is in a catalogue"
    )
    entries: list[str] = Field(description="each as CATALOGUE.NAME")
    faults: list[str] = Field(description="what is wrong with others, or a drawback of these")


class PresetPage(BaseModel):
    """Ready-made specs."""

    items: list["PresetLine"]


class PresetLine(BaseModel):
    """A ready-made spec.

    Submit `{"kind": "study", "preset": NAME}`, or the spec itself, changed.
    """

    name: str
    meaning: str
    spec: dict[str, Any]
    plugin: str | None = Field(
        None, description="name and version of the plug-in that it is of; null: fflab's own"
    )


@cache
def build_catalog() -> Catalog:
    """Return the name, meaning and parameters of every entry, and the JSON Schema of all specs.

    All callers are given the same object, which they must not change.
    """
    return Catalog(
        datasets=catalogue_datasets(),
        preprocess=[_line(name, meaning) for name, meaning in PREPROCESS_MEANING.items()],
        negatives=_described("negatives", AnyNegatives, "strategy"),
        activations=_lines(
            "activations",
            {name: meaning_of(type(activation)) for name, activation in ACTIVATIONS.items()},
        ),
        objectives=_described("objectives", AnyObjective, "name"),
        goodness=_described("goodness", GoodnessEntry, "name"),
        optimizers=_described("optimizers", AnyOptimizer, "name"),
        schedules=[_line(name, schedule.meaning) for name, schedule in SCHEDULES.items()],
        inits=_lines("inits", {name: init.meaning for name, init in INITS.items()}),
        label_codes=[describe(entry, "name") for entry in entries(LabelCodeEntry)],
        baselines=[describe(entry, "name") for entry in entries(BaselineEntry)],
        search_methods=[_line(name, meaning) for name, meaning in METHOD_MEANING.items()],
        samplers=[_line(name, meaning) for name, meaning in SAMPLER_MEANING.items()],
        pruners=[_line(name, meaning) for name, meaning in PRUNER_MEANING.items()],
        theorems=[_line(str(number), theorem.statement) for number, theorem in THEOREMS.items()],
        kinds=[describe(entry, "kind") for entry in KINDS],
        plugins=build_plugins(),
        spec_schema=_spec_schema(),
    )


def build_plugins() -> list[PluginLine]:
    """Return the plug-ins that this process has found, with what is wrong with them."""
    used = {plugin.package: plugin for plugin in REGISTRY.plugins}
    versions = {fault.package: fault.version for fault in REGISTRY.faults}
    versions |= {package: plugin.version for package, plugin in used.items()}
    return [
        _plugin_line(package, versions[package], used.get(package)) for package in sorted(versions)
    ]


def _plugin_line(package: str, version: str, plugin: PluginUse | None) -> PluginLine:
    entries = [*plugin.entries] if plugin else []
    faults = [fault.line for fault in REGISTRY.faults if fault.package == package]
    said = [", ".join(entries) or "no entry", *faults]
    return PluginLine(
        name=package,
        meaning=f"version {version}: {'; '.join(said)}",
        parameters={},
        version=version,
        code_digest=plugin.code_digest if plugin else None,
        entries=entries,
        faults=faults,
    )


def _spec_schema() -> dict[str, Any]:
    found = SPEC.json_schema()
    require_kind(found["$defs"])
    return found


def require_kind(shapes: dict[str, dict[str, Any]]) -> None:
    """Say that the specs of all kinds need `kind`: each is one of a union that it discriminates."""
    for kind in KINDS:
        shape = shapes[kind.__name__]
        shape["required"] = ["kind", *shape.get("required", ())]


@cache
def build_presets() -> tuple[PresetLine, ...]:
    """Return the ready-made specs, written out.

    All callers are given the same objects, which they must not change.
    """
    return tuple(
        PresetLine(
            name=preset.name,
            meaning=preset.meaning,
            spec=resolved(StudySpec(preset=preset.name)).model_dump(mode="json"),
            plugin=preset.plugin,
        )
        for preset in PRESETS.values()
    )


def _described(catalogue: Catalogue, union: object, discriminator: str) -> list[Described]:
    return [_of(catalogue, describe(entry, discriminator)) for entry in entries(union)]


def _lines(catalogue: Catalogue, meanings: Mapping[Any, str]) -> list[Described]:
    return [_of(catalogue, _line(name, meaning)) for name, meaning in meanings.items()]


def _of(catalogue: Catalogue, line: Described) -> Described:
    """Return a line of a catalogue, which names the plug-in that the entry is of."""
    plugin = REGISTRY.owner(catalogue, line.name)
    if plugin is None:
        return line
    meaning = f"{line.meaning} Of the plug-in {plugin.package} {plugin.version}."
    return line.model_copy(update={"meaning": meaning})


def _line(name: str, meaning: str) -> Described:
    return Described(name=name, meaning=meaning, parameters={})
