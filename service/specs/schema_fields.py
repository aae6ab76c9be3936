"""The fields that a spec may have, by dotted name, from the JSON Schema of the models."""

import itertools
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from pydantic import JsonValue

from ffengine.presets import PRESETS
from service.schemas import SPEC

Schema = Mapping[str, Any]
MODELS = {
    "train": "TrainSpec",
    "check": "CheckSpec",
    "forecast": "ForecastSpec",
    "study": "StudySpec",
}
BOUNDS = (
    ("exclusiveMinimum", "above"),
    ("minimum", "at least"),
    ("exclusiveMaximum", "below"),
    ("maximum", "at most"),
)
MOST_PARTS = 32  # as many as a study may have: a hostile document has more
LARGEST_BOUND_SHOWN = 10**12  # nobody meets larger ones


class Field(NamedTuple):
    """One field of a spec, with the schema of its value."""

    schema: Schema

    @property
    def meaning(self) -> str:
        """The description in the model; empty where it has none."""
        return str(self.schema.get("description", ""))

    @property
    def choices(self) -> tuple[str, ...]:
        """The names that are allowed; none for a number, a text or an object."""
        return tuple(dict.fromkeys(_choices(self.schema)))

    @property
    def expected(self) -> str:
        """What is allowed, in words."""
        return _words(self.schema)

    @property
    def discriminator(self) -> str | None:
        """The field of an object that selects one of several kinds; None: there is one kind."""
        tagged = _tagged(_resolved(self.schema))
        return str(tagged["discriminator"]["propertyName"]) if tagged else None

    @property
    def item(self) -> "Field":
        """The field of an item of this list."""
        return Field(next((one["items"] for one in _options(self.schema) if "items" in one), {}))

    @property
    def parameters(self) -> dict[str, list[str]]:
        """For an object of several kinds: each parameter, and the kinds that have it."""
        tagged = _tagged(_resolved(self.schema))
        found: dict[str, list[str]] = {}
        for name, reference in tagged["discriminator"]["mapping"].items() if tagged else ():
            for parameter in _resolved({"$ref": reference})["properties"]:
                found.setdefault(parameter, []).append(name)
        return found


def fields_of(document: Mapping[str, JsonValue]) -> dict[str, Field]:
    """All fields that a spec like `document` may have, by dotted name.

    Each part that is chosen from a catalogue has the fields of the entry that is chosen.
    """
    found: dict[str, Field] = {}
    kind = str(document.get("kind", "train"))
    _walk({"$ref": f"#/$defs/{MODELS.get(kind, 'TrainSpec')}"}, document, "", found)
    found["kind"] = Field({"enum": list(MODELS)})
    if kind == "study":
        found["preset"] = Field({"enum": list(PRESETS), "description": found["preset"].meaning})
        found |= {
            f"grid.{name}": Field(_several(field))
            for base in bases_of(document)
            for name, field in fields_of(base).items()
        }
    return found


def fields_of_item(
    listed: Field, value: JsonValue | Mapping[str, JsonValue], name: str
) -> dict[str, Field]:
    """The fields of an item of a list, which stands at `name`, by the kind of object that it is."""
    found = {name: listed.item}
    _walk(listed.item.schema, value, name, found)
    return found


def bases_of(document: Mapping[str, JsonValue]) -> list[Mapping[str, JsonValue]]:
    """The base documents that a study varies."""
    preset = PRESETS.get(str(document.get("preset")))
    if preset:
        return [part.base.model_dump(mode="json") for part in preset.spec.parts.values()]
    base = document.get("base")
    return [base if isinstance(base, dict) else {"kind": "train"}]


@cache
def definitions() -> dict[str, Schema]:
    """The JSON Schema of every model that a spec is made of."""
    found: dict[str, Schema] = SPEC.json_schema()["$defs"]
    return found


def _walk(
    schema: Schema, value: JsonValue | Mapping[str, JsonValue], name: str, found: dict[str, Field]
) -> None:
    """Add the fields of an object, and of the objects within it, to `found`."""
    chosen = _chosen(schema, value)
    held = value if isinstance(value, Mapping) else {}
    inside = dict(chosen.get("properties", {}))
    more = chosen.get("additionalProperties")
    if isinstance(more, dict) and "$ref" in more:  # named parts
        inside |= dict.fromkeys(itertools.islice(held, MOST_PARTS), more)
    for field, inner in inside.items():
        dotted = f"{name}.{field}" if name else field
        found[dotted] = Field(inner)
        _walk(inner, held.get(field, inner.get("default")), dotted, found)
    if tagged := _tagged(schema):  # the schema of an entry knows its own name only
        tag = tagged["discriminator"]
        found[f"{name}.{tag['propertyName']}"] = Field(
            {"enum": list(tag["mapping"]), "description": "which of them"}
        )


def _resolved(schema: Schema) -> Schema:
    return definitions()[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _options(schema: Schema) -> Iterator[Schema]:
    """The alternatives that a schema consists of, or the schema itself."""
    schema = _resolved(schema)
    alternatives = schema.get("anyOf") or schema.get("oneOf") or []
    if not alternatives:
        yield schema
    for one in alternatives:
        yield from _options(one)


def _tagged(schema: Schema) -> Schema | None:
    """The part of a schema that lists several kinds of object by a discriminator."""
    return next((one for one in (schema, *schema.get("anyOf", ())) if "discriminator" in one), None)


def _chosen(schema: Schema, value: object) -> Schema:
    """The schema of the kind of object that a value selects, or of the default kind."""
    schema = _resolved(schema)
    tagged = _tagged(schema)
    if tagged is None:
        objects = [
            one for one in _options(schema) if "properties" in one or "additionalProperties" in one
        ]
        held = value if isinstance(value, Mapping) else {}
        meant = (one for one in objects if not held.keys().isdisjoint(one.get("required", ())))
        return next(meant, objects[0] if objects else {})
    name, mapping = tagged["discriminator"]["propertyName"], tagged["discriminator"]["mapping"]
    for candidate in (value, schema.get("default")):
        tag = candidate.get(name) if isinstance(candidate, Mapping) else candidate
        if isinstance(tag, str) and tag in mapping:
            return _resolved({"$ref": mapping[tag]})
    return _resolved({"$ref": next(iter(mapping.values()))})


def _several(field: Field) -> Schema:
    """The schema of a list of values of a field."""
    return {
        "type": "array",
        "items": field.schema,
        "default": [field.schema.get("default")],
        "description": field.meaning,
    }


def _choices(schema: Schema) -> Iterator[str]:
    for one in _options(schema):
        if one.get("type") == "boolean":
            yield from ("true", "false")
        yield from (str(name) for name in one.get("enum", [one["const"]] if "const" in one else ()))
        if "items" in one:
            yield from _choices(one["items"])


def _words(schema: Schema) -> str:
    if "discriminator" in schema:
        tag = schema["discriminator"]
        return f"an object such as {{{tag['propertyName']}: {next(iter(tag['mapping']))}}}"
    return " or ".join(
        dict.fromkeys(_words_of_one(one, schema.get("default")) for one in _options(schema))
    )


def _words_of_one(schema: Schema, default: object) -> str:
    kind = schema.get("type")
    if "enum" in schema or "const" in schema:
        names = [str(name) for name in schema.get("enum", [schema.get("const")])]
        return f"one of {', '.join(names)}" if len(names) > 1 else names[0]
    if kind == "array":
        example = f", as in {json.dumps(default)}" if default else ""
        return (
            f"a list{example} (each {_words(schema['items'])})"
            if schema.get("items")
            else f"a list{example}"
        )
    if kind in ("integer", "number"):
        limits = " and ".join(
            f"{word} {schema[bound]:{',' if kind == 'integer' else 'g'}}"
            for bound, word in BOUNDS
            if bound in schema and abs(schema[bound]) <= LARGEST_BOUND_SHOWN
        )
        return f"{'a whole number' if kind == 'integer' else 'a number'} {limits}".strip()
    if "pattern" in schema:
        return f"a text of the form {schema['pattern']}"
    return {
        "boolean": "true or false",
        "null": "null",
        "string": "a text",
        "object": "an object",
    }.get(str(kind), "a value")
