"""A spec from the command line: a YAML or JSON file, or a preset's name, with fields set by --set."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import JsonValue, TypeAdapter, ValidationError

from ffengine.presets import PRESETS
from ffengine.spec import ELSEWHERE, AnySpec, CheckSpec, StudySpec, Submission, TrainSpec
from ffengine.study import GridError, expand

Spec = TrainSpec | CheckSpec | StudySpec
DEFAULTS: dict[str, Spec] = {"train": TrainSpec(), "check": CheckSpec(), "study": StudySpec()}
_SPEC: TypeAdapter[Spec] = TypeAdapter(AnySpec)


class SpecError(Exception):
    """The spec cannot be used; the message is one line that says what, where and what to do."""


def read_spec(source: str, settings: Sequence[str] = ()) -> tuple[Spec, dict[str, JsonValue]]:
    """The validated spec and the document that it came from. Raises SpecError."""
    document = read_document(source)
    for setting in settings:
        apply(document, setting)
    try:
        spec = Submission.model_validate({"spec": document}, context=ELSEWHERE).spec
        if isinstance(spec, StudySpec):
            expand(spec, ELSEWHERE)  # the service knows what was uploaded to it
    except ValidationError as error:
        raise SpecError(explain(error, document)) from error
    except GridError as error:
        raise SpecError(f"{error.pointer}: {error}") from error
    return spec, document


def read_document(source: str) -> dict[str, JsonValue]:
    """The document of a preset's name or of a file. Raises SpecError."""
    if source in PRESETS:
        return {"kind": "study", "preset": source}
    path = Path(source)
    if not path.is_file():
        near = difflib.get_close_matches(source, PRESETS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; presets are {', '.join(PRESETS)}"
        raise SpecError(f"{source!r} is neither a file nor a preset{hint}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if isinstance(document, dict) and "spec" in document:
        document = document["spec"]
    if not isinstance(document, dict):
        raise SpecError(f"{path}: expected an object such as `kind: train`")
    return document


def apply(document: dict[str, JsonValue], setting: str) -> None:
    """Set a dotted field to a YAML value, as in `network.widths=[64, 64]`. Raises SpecError."""
    field, equals, text = setting.partition("=")
    if not equals or not field:
        raise SpecError(f"--set {setting}: expected FIELD=VALUE, as in --set epochs=3")
    *parents, last = field.split(".")
    here = document
    for parent in parents:
        inner = here.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise SpecError(f"--set {setting}: {parent!r} is not an object")
        here = inner
    try:
        here[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {setting}: the value is not YAML") from error


def explain(error: ValidationError, document: dict[str, JsonValue]) -> str:
    """One line for each error: where, what, and for an unknown field the nearest known one."""
    from service.problems import of_validation

    lines = []
    for found in of_validation(error, {"spec": document}).errors:
        field = found.pointer.removeprefix("/spec").strip("/").replace("/", ".")
        hint = nearest(field, document) if "not a known field" in found.message else ""
        lines.append(f"{field or 'spec'}: {found.message}{hint}")
    return "; ".join(lines)


def nearest(field: str, document: dict[str, JsonValue]) -> str:
    """The known field that an unknown dotted one looks most like, as a hint."""
    default = DEFAULTS.get(str(document.get("kind")), TrainSpec())
    known: object = default.model_dump(mode="json")
    *parents, last = field.split(".")
    for parent in parents:
        known = known.get(parent) if isinstance(known, dict) else None
    if not isinstance(known, dict):
        return ""
    near = difflib.get_close_matches(last, known, n=1, cutoff=0.4)
    return f"; did you mean {'.'.join([*parents, near[0]])!r}?" if near else f"; known are {', '.join(known)}"


def as_yaml(spec: Spec) -> str:
    """The spec as a file that `fflab submit` takes."""
    return yaml.safe_dump(spec.model_dump(mode="json", exclude_defaults=True) | {"kind": spec.kind}, sort_keys=False)
