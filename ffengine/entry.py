"""The base of every catalogue entry, and how a catalogue lists and describes itself."""

import typing

from pydantic import BaseModel, BeforeValidator, ConfigDict, JsonValue


class Entry(BaseModel):
    """One choice of a catalogue: immutable, hashable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Described(BaseModel):
    """What the catalogue says of one entry: its name, its meaning and its parameters."""

    name: str
    meaning: str
    parameters: dict[str, JsonValue]


def default_choice(discriminator: str, name: str) -> BeforeValidator:
    """Lets an object that does not say which entry it is mean the one of that name."""

    def fill(value: object) -> object:
        return {discriminator: name, **value} if isinstance(value, dict) else value

    return BeforeValidator(fill)


def entries(union: object) -> list[type[Entry]]:
    """The classes of a catalogue, in order, from its (discriminated) union or its only class."""
    if isinstance(union, type) and issubclass(union, Entry):
        return [union]
    arguments = typing.get_args(union)
    if typing.get_origin(union) is typing.Annotated:
        return entries(arguments[0])
    return [entry for argument in arguments for entry in entries(argument)]


def describe(entry: type[Entry], discriminator: str) -> Described:
    """The catalogue line of one entry; parameters are the JSON Schema of its other fields."""
    schema = entry.model_json_schema()
    parameters = {key: value for key, value in schema.get("properties", {}).items() if key != discriminator}
    return Described(name=name_of(entry, discriminator), meaning=meaning_of(entry), parameters=parameters)


def name_of(entry: type[Entry], discriminator: str) -> str:
    """The value of the discriminating field, which users write in a spec."""
    return str(entry.model_fields[discriminator].default)


def meaning_of(documented: type) -> str:
    """The first paragraph of a class docstring, on one line."""
    return " ".join((documented.__doc__ or "").strip().split("\n\n")[0].split())
