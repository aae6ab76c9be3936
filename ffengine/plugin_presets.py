"""Presets of plug-ins: ready-made studies of installed packages, beside fflab's own.

They are loaded where this module is imported first, which `ffengine.study` does: what makes the
runs of a study must be there, so that a preset without runs is refused.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from pydantic import ValidationError

from ffengine.entry import message_of
from ffengine.plugins import PRESET_GROUP, REGISTRY
from ffengine.presets import PRESETS, Preset
from ffengine.spec import StudySpec
from ffengine.study import expand, resolved
from ffengine.text import visible

OWN_PRESETS = frozenset(PRESETS)


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


load_plugin_presets(entry_points(group=PRESET_GROUP))
