"""What a spec may contain. The API answers with these documents and the pages show them."""

from functools import cache
from typing import Any

from pydantic import BaseModel

from ffengine.activations import ACTIVATIONS
from ffengine.entry import Described, describe, entries, meaning_of
from ffengine.inits import INITS
from ffengine.negatives import AnyNegatives
from ffengine.objectives import AnyObjective, GoodnessEntry
from ffengine.optimizers import SCHEDULES, AnyOptimizer
from ffengine.presets import PRESETS
from ffengine.search_spec import METHOD_MEANING, PRUNER_MEANING, SAMPLER_MEANING
from ffengine.spec import (
    BASELINE_MEANING,
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
    baselines: list[Described]
    search_methods: list[Described]
    samplers: list[Described]
    pruners: list[Described]
    theorems: list[Described]
    kinds: list[Described]
    spec_schema: dict[str, Any]


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


@cache
def build_catalog() -> Catalog:
    """Return the name, meaning and parameters of every entry, and the JSON Schema of all specs.

    All callers are given the same object, which they must not change.
    """
    return Catalog(
        datasets=catalogue_datasets(),
        preprocess=[_line(name, meaning) for name, meaning in PREPROCESS_MEANING.items()],
        negatives=[describe(entry, "strategy") for entry in entries(AnyNegatives)],
        activations=[
            _line(name, meaning_of(type(activation))) for name, activation in ACTIVATIONS.items()
        ],
        objectives=[describe(entry, "name") for entry in entries(AnyObjective)],
        goodness=[describe(entry, "name") for entry in entries(GoodnessEntry)],
        optimizers=[describe(entry, "name") for entry in entries(AnyOptimizer)],
        schedules=[_line(name, schedule.meaning) for name, schedule in SCHEDULES.items()],
        inits=[_line(name, init.meaning) for name, init in INITS.items()],
        baselines=[_line(name, meaning) for name, meaning in BASELINE_MEANING.items()],
        search_methods=[_line(name, meaning) for name, meaning in METHOD_MEANING.items()],
        samplers=[_line(name, meaning) for name, meaning in SAMPLER_MEANING.items()],
        pruners=[_line(name, meaning) for name, meaning in PRUNER_MEANING.items()],
        theorems=[_line(str(number), theorem.statement) for number, theorem in THEOREMS.items()],
        kinds=[describe(entry, "kind") for entry in KINDS],
        spec_schema=_spec_schema(),
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


def build_presets() -> list[PresetLine]:
    """Return the ready-made specs, written out."""
    return [
        PresetLine(
            name=preset.name,
            meaning=preset.meaning,
            spec=resolved(StudySpec(preset=preset.name)).model_dump(mode="json"),
        )
        for preset in PRESETS.values()
    ]


def _line(name: str, meaning: str) -> Described:
    return Described(name=name, meaning=meaning, parameters={})
