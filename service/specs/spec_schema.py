"""The JSON Schema of spec files, for editors: they complete fields and mark what is wrong.

It is that of the models, with what editors do not know of OpenAPI written out: which entry an
object without a name is, the names of presets, and the fields that a grid may vary.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from ffengine.presets import PRESETS
from service.schemas import SPEC
from service.specs.schema_fields import MODELS, fields_of

DRAFT = "http://json-schema.org/draft-07/schema#"
Document = dict[str, Any]


@cache
def spec_schema_text() -> str:
    """The schema as it is stored in a file."""
    return json.dumps(spec_file_schema(), indent=2, ensure_ascii=False) + "\n"


def spec_file_schema() -> Document:
    """The schema of a file that `fflab submit` takes."""
    found = json.loads(json.dumps(SPEC.json_schema()).replace("#/$defs/", "#/definitions/"))
    definitions: dict[str, Document] = found["$defs"]
    untagged = {_default_of(union) for union in _unions(definitions)}
    for union in _unions(definitions):
        _write_out(union, definitions, untagged)
    for name, definition in definitions.items():
        for field, schema in definition.get("properties", {}).items():
            _describe(field, schema, definitions, owner=name)
    _complete_study(definitions)
    for model in MODELS.values():
        definitions[model]["properties"]["$schema"] = {
            "type": "string",
            "description": "of JSON files, for editors: the address of this schema",
        }
    return {
        "$schema": DRAFT,
        "title": "fflab spec",
        "description": "What fflab is to compute: a training run, a check of a theorem, a "
        "forecast, or a study of several of them.",
        "type": "object",
        "required": ["kind"],
        "properties": {"kind": {"enum": list(MODELS), "description": "what is to be computed"}},
        "anyOf": [{"$ref": f"#/definitions/{model}"} for model in MODELS.values()],
        "definitions": definitions,
    }


def _unions(part: Any) -> Iterator[Document]:
    """Every schema of an object that is one of several kinds."""
    if isinstance(part, dict):
        if "discriminator" in part:
            yield part
        part = list(part.values())
    if isinstance(part, list):
        for one in part:
            yield from _unions(one)


def _default_of(union: Document) -> str | None:
    """The reference of the kind that an object without a tag is; None: it needs one."""
    tag, default = union["discriminator"], union.get("default")
    if isinstance(default, dict):
        reference = tag["mapping"].get(default.get(tag["propertyName"]))
        return str(reference) if reference else None
    return None


def _write_out(
    union: Document, definitions: dict[str, Document], untagged: set[str | None]
) -> None:
    """Let each kind but those without a tag need it: that says which of them an object is."""
    tag = union.pop("discriminator")
    union["anyOf"] = union.pop("oneOf")
    if tag["propertyName"] == "kind":
        return
    for reference in tag["mapping"].values():
        required = definitions[_name(reference)].setdefault("required", [])
        if reference not in untagged and tag["propertyName"] not in required:
            required.append(tag["propertyName"])


def _describe(
    field: str, schema: Document, definitions: dict[str, Document], *, owner: str
) -> None:
    """Give a field a title and a description where the model has none."""
    schema.setdefault("title", field.replace("_", " ").capitalize())
    if "description" in schema:
        return
    options = [schema, *schema.get("anyOf", ())]
    referred = [definitions[_name(one["$ref"])] for one in options if "$ref" in one]
    if "const" in schema:
        described = definitions[owner].get("description", "")
    elif len(referred) == 1:
        described = referred[0].get("description", "")
    elif referred:
        described = "one of the catalogue: " + ", ".join(
            str(next(iter(_tags(one)), one["title"])) for one in referred
        )
    else:
        described = f"default: {json.dumps(schema['default'])}" if "default" in schema else ""
    schema["description"] = described or field.replace("_", " ")


def _tags(definition: Document) -> Iterator[str]:
    return (one["const"] for one in definition.get("properties", {}).values() if "const" in one)


def _complete_study(definitions: dict[str, Document]) -> None:
    """Name the presets, and the fields that a grid may vary."""
    study, part = (definitions[name]["properties"] for name in ("StudySpec", "StudyPart"))
    study["preset"]["anyOf"] = [
        {"enum": list(PRESETS), "description": "; ".join(_preset_meanings())},
        {"type": "null"},
    ]
    part["base"]["required"] = ["kind"]  # the command line says it of a study's own base alone
    fields: dict[str, Document] = {}
    for kind in MODELS:
        if kind != "study":
            for name, field in fields_of({"kind": kind}).items():
                described = field.meaning or name.rpartition(".")[2].replace("_", " ")
                fields.setdefault(name, {"type": "array", "minItems": 1, "description": described})
    for properties in (study, part):
        properties["grid"]["properties"] = fields


def _preset_meanings() -> Iterator[str]:
    return (f"{preset.name}: {preset.meaning.rstrip('.')}" for preset in PRESETS.values())


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]
