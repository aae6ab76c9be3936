"""Reads a spec for the command line: from a file or a preset, with fields changed by --set."""

import copy
import difflib
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue, ValidationError

from ffengine.plugins import REGISTRY
from ffengine.presets import PRESETS
from ffengine.search import example_cells
from ffengine.spec import (
    CheckSpec,
    ForecastSpec,
    StoredSpec,
    StudySpec,
    Submission,
    TrainSpec,
    as_document,
)
from ffengine.study import GridError, resolved
from service.schemas import Spec
from service.specs.plain_yaml import NotPlain, parsed, written
from service.specs.schema_fields import bases_of, fields_of
from service.specs.suggestions import (
    Mistake,
    explain,
    explain_refused,
    format_value,
    not_one_of,
    unknown,
    value_at,
)

if TYPE_CHECKING:
    from service.client import Refused

DEFAULTS: dict[str, Spec] = {
    "train": TrainSpec(),
    "check": CheckSpec(),
    "forecast": ForecastSpec(),
    "study": StudySpec(),
}
STANDARD_INPUT = "-"
MOST_VALUES_TRIED = 100  # of a grid, to say which of them is wrong


class SpecError(Exception):
    """The spec cannot be used; the message is one line that says what, where and what to do."""


def read_spec(source: str, settings: Sequence[str] = ()) -> tuple[Spec, dict[str, JsonValue]]:
    """Read and validate a spec.

    **Arguments:**

    - `source`: the name of a YAML or JSON file, or of a preset.
    - `settings`: changes, as in `epochs=3`.

    **Returns:**

    The spec and the document that it came from.

    **Raises:**

    - `SpecError`: the document cannot be read, or the spec is not valid.
    """
    document = read_document(source)
    if source in PRESETS and any(setting.startswith("parts.") for setting in settings):
        # written out, so that a part is changed and not replaced
        document = as_document(resolved(StudySpec(preset=source)))
    for setting in settings:
        apply(document, setting)
    name_base(document)
    try:
        spec = Submission.model_validate({"spec": document}).spec
        if isinstance(spec, StudySpec):
            example_cells(spec)  # only the service knows uploaded data sets
    except ValidationError as error:
        raise SpecError(_lines(explain(error, document))) from error
    except GridError as error:
        raise SpecError(_lines(explain_grid(error, document))) from error
    return spec, document


def read_document(source: str) -> dict[str, JsonValue]:
    """Read the document of a preset or of a file; `-` is standard input. Raises SpecError."""
    if source in PRESETS:
        return {"kind": "study", "preset": source}
    path, name = Path(source), "standard input" if source == STANDARD_INPUT else source
    if source != STANDARD_INPUT and not path.is_file():
        if reason := REGISTRY.why_refused("presets", source):
            raise SpecError(reason)
        near = difflib.get_close_matches(source, PRESETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; presets are {', '.join(PRESETS)}"
        raise SpecError(f"{source!r} is neither a file nor a preset{hint}")
    try:
        content = sys.stdin.buffer.read() if source == STANDARD_INPUT else path.read_bytes()
        document = parsed(content.decode("utf-8"))
    except (OSError, UnicodeDecodeError, NotPlain) as error:
        raise SpecError(
            f"{name}: cannot be read as YAML ({' '.join(str(error).split())})"
        ) from error
    if isinstance(document, dict) and "spec" in document:
        document = document["spec"]
    if not isinstance(document, dict):
        raise SpecError(f"{name}: expected an object such as `kind: train`")
    document.pop("$schema", None)  # of JSON files, for editors
    return document


def apply(document: dict[str, JsonValue], setting: str) -> None:
    """Set a dotted field to a YAML value, as in `network.widths=[64, 64]`. Raises SpecError."""
    field, equals, text = setting.partition("=")
    if not equals or not field:
        raise SpecError(f"--set {setting}: expected FIELD=VALUE, as in --set epochs=3")
    *parents, last = steps_of(field)
    here = document
    for parent in parents:
        inner = here.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise SpecError(f"--set {setting}: {parent!r} is {format_value(inner)}, not an object")
        here = inner
    try:
        here[last] = parsed(text)
    except NotPlain as error:
        raise SpecError(f"--set {setting}: the value is not YAML ({error})") from error


def steps_of(field: str) -> list[str]:
    """Split a dotted field into steps; a field within a grid or a space stays whole."""
    if field.startswith("search.space."):
        return ["search", "space", field.removeprefix("search.space.")]
    before, grid, within = field.partition("grid.")
    if grid and (not before or before.startswith("parts.")):
        return [*before.strip(".").split("."), "grid", within] if before else ["grid", within]
    return field.split(".")


def name_base(document: dict[str, JsonValue]) -> None:
    """Add the kind to a study's `base` that has none: the kind that has its fields.

    Raises SpecError where several kinds have them.
    """
    base = document.get("base")
    if document.get("kind") != "study" or not isinstance(base, dict) or "kind" in base:
        return
    fitting = [
        kind
        for kind in ("train", "check", "forecast")
        if set(base) <= set(fields_of({"kind": kind}))
    ]
    varied = (
        {str(one["kind"]) for one in bases_of(document)}
        if document.get("preset") in PRESETS
        else {"train"}
    )
    likely = [kind for kind in fitting if kind in varied] or sorted(varied)
    if len(likely) > 1:
        raise SpecError(
            f"base.kind: say which of its runs are meant, as in --set base.kind={likely[0]}"
        )
    base["kind"] = likely[0]


def explain_grid(error: GridError, document: dict[str, JsonValue]) -> list[Mistake]:
    """Say which field or value of a study is wrong, and what may stand there."""
    field, pointer = ".".join(error.path), f"/spec{error.pointer}"
    if error.path == ("preset",):
        return [Mistake(pointer, field, not_one_of(document.get("preset"), list(PRESETS)))]
    *_, above, varied = ("", *error.path)
    if error.path[:-1] == ("search", "space"):
        fields = fields_of(bases_of(document)[0])
        outer, _, place = varied.rpartition(".")
        known = varied in fields or (place.isdigit() and outer in fields)  # a place in a list
        message = error.message if known else unknown(varied, fields, bases_of(document)[0])
        return [Mistake(pointer, field, message)]
    if above != "grid":
        return [Mistake(pointer, field, error.message)]
    study = _grid_and_bases(error, document)
    bases = bases_of(study)
    if f"grid.{varied}" not in fields_of(study):
        return [Mistake(pointer, field, unknown(varied, fields_of(bases[0]), bases[0]))]
    if isinstance(error.__cause__, ValidationError):
        values = value_at(study, f"grid.{varied}")
        some = values[:MOST_VALUES_TRIED] if isinstance(values, list) else []
        for value, base in itertools.product(some, bases):
            changed = copy.deepcopy(dict(base))
            apply(changed, f"{varied}={json.dumps(value)}")
            if found := mistakes_of(changed):
                parents = ".".join(error.path[:-1])
                return [
                    mistake._replace(pointer=pointer, field=f"{parents}.{mistake.field}")
                    for mistake in found
                ]
    return [Mistake(pointer, field, error.message)]


def _grid_and_bases(error: GridError, document: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The study whose grid an error is about: a part of the document, or all of it."""
    parts = document.get("parts")
    part = (
        parts.get(error.path[1]) if error.path[0] == "parts" and isinstance(parts, dict) else None
    )
    return {"kind": "study", **part} if isinstance(part, dict) else document


def _lines(found: Sequence[Mistake]) -> str:
    return "; ".join(mistake.line for mistake in found)


def explain_refusal(error: "Refused", document: dict[str, JsonValue]) -> Exception:
    """A SpecError with what the service found wrong with a spec; another error unchanged."""
    wrong = [
        found
        for found in error.problem.get("errors", ())
        if str(found.get("pointer", "")).startswith("/spec")
    ]
    return SpecError("; ".join(explain_refused(wrong, document))) if wrong else error


def mistakes_of(document: dict[str, JsonValue]) -> list[Mistake]:
    """What is wrong with a spec; empty: nothing."""
    try:
        Submission.model_validate({"spec": document})
    except ValidationError as error:
        return explain(error, document)
    return []


def as_yaml(spec: StoredSpec) -> str:
    """Write the spec as a file that `fflab submit` takes, unless it is of a recorded run."""
    return written(as_document(spec))
