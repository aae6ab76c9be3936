"""The base class of catalogue entries, and how a catalogue lists and describes its entries."""

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationError,
    ValidationInfo,
)
from pydantic._internal._model_construction import ModelMetaclass
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from ffengine.additions import OpenUnion
from ffengine.text import is_stored


class SpecFieldError(ValueError):
    """A field of a spec is not valid.

    **Attributes:**

    - `path`: names of the fields from the validated object down to the wrong one.
    - `message`: what is wrong with it, without its name.
    """

    def __init__(self, path: Sequence[str], message: str) -> None:
        self.path, self.message = tuple(path), message
        super().__init__(f"{'.'.join(self.path)}: {message}")

    @property
    def pointer(self) -> str:
        """Return the JSON pointer of the field."""
        return json_pointer(self.path)


def json_pointer(path: Sequence[str]) -> str:
    """Write a path as a JSON pointer (RFC 6901).

    **Arguments:**

    - `path`: names of fields, from the outermost object on.

    **Returns:**

    The pointer.
    """
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in path)


def field_error_of(error: Mapping[str, Any]) -> SpecFieldError | None:
    """Return the SpecFieldError that a validator raised to make one of pydantic's errors.

    **Arguments:**

    - `error`: one of the errors that pydantic's ValidationError lists.

    **Returns:**

    The error that was raised; None for pydantic's own errors.
    """
    cause = error.get("ctx", {}).get("error")
    return cause if isinstance(cause, SpecFieldError) else None


def message_of(error: Mapping[str, Any]) -> str:
    """Return what one of pydantic's errors says, without pydantic's own prefix.

    **Arguments:**

    - `error`: one of the errors that pydantic's ValidationError lists.

    **Returns:**

    The message.
    """
    return str(error["msg"]).removeprefix("Value error, ")


def _exact(part: Any) -> Any:
    """Return a part of pydantic's schema in which booleans and numbers refuse one another."""
    if isinstance(part, list | tuple):
        return type(part)(_exact(inner) for inner in part)
    if not isinstance(part, dict) or part.get("function") in _REFUSALS.values():
        return part
    inner = {
        name: value if name in ("metadata", "default", "expected") else _exact(value)
        for name, value in part.items()
    }
    kind = str(part.get("type"))
    if kind == "literal" and all(type(value) is int for value in part["expected"]):
        kind = "int"
    if kind not in _REFUSALS:
        return inner
    return {"type": "function-before", "function": _REFUSALS[kind], "schema": inner}


def _refuse(others: tuple[type, ...], kept: tuple[type, ...], error: Any) -> Any:
    """Return the function of a schema that refuses values of other types."""

    def refuse(value: object, info: ValidationInfo) -> object:
        if isinstance(value, others) and not isinstance(value, kept) and not is_stored(info):
            raise PydanticKnownError(error)
        return value

    return {"type": "with-info", "function": refuse}


_REFUSALS = {
    "bool": _refuse((int, float, str), (bool,), "bool_type"),
    "int": _refuse((bool, str), (), "int_type"),
    "float": _refuse((bool, str), (), "float_type"),
}


class ExactTypes(BaseModel):
    """A model whose fields take what their JSON Schema says: true and false where it has a boolean,
    and a number where it has a number.

    pydantic alone takes 0 for false, true for 1 and "3" for 3. Stored documents are read as they
    were accepted.
    """

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        found: CoreSchema = _exact(handler(source))
        return found


class Entry(ExactTypes):
    """One choice of a catalogue: immutable, hashable, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    _constants: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        constants = {
            name for name, field in cls.model_fields.items() if is_constant(field.annotation)
        }
        cls._constants = frozenset(constants)

    def model_post_init(self, _context: object) -> None:
        """Count the constants as given, so that `exclude_unset` keeps them.

        Without them the document would read back as another entry.
        """
        self.model_fields_set.update(self._constants)

    @property
    def derived(self) -> frozenset[str]:
        """Names of fields that follow from others, and so are written nowhere."""
        return frozenset()


Explanation = Callable[[str, Mapping[str, Any], ValidationError], ValidationError]
_explanations: list[Explanation] = []


def explain_with(explanation: Explanation) -> None:
    """Let mistakes of specs that are constructed in a program be explained.

    **Arguments:**

    - `explanation`: takes the name of the class, the arguments and pydantic's error, and returns
      the error that is raised in its place.
    """
    _explanations[:] = [explanation]


class SpecMeta(ModelMetaclass):
    """The metaclass of specs: it has what is wrong with the arguments of a constructor explained.

    Documents that are validated are explained by whoever validates them.
    """

    def __call__(cls, *args: Any, **fields: Any) -> Any:  # noqa: N805 - of a metaclass
        """Construct a spec. Raises ValidationError."""
        try:
            return super().__call__(*args, **fields)
        except ValidationError as error:
            for explanation in _explanations:
                raise explanation(cls.__name__, fields, error) from None
            raise


def is_constant(annotation: object) -> bool:
    """Whether a field can have one value only, which identifies the entry.

    **Arguments:**

    - `annotation`: the type of the field.

    **Returns:**

    True for a Literal of one value.
    """
    return typing.get_origin(annotation) is Literal and len(typing.get_args(annotation)) == 1


def brief(entry: Entry) -> dict[str, JsonValue]:
    """Return the shortest JSON that reads back as the same entry.

    **Arguments:**

    - `entry`: an entry.

    **Returns:**

    The fields that differ from their defaults, and those that identify the entry.
    """
    document: dict[str, JsonValue] = dict(entry.model_extra or {})  # of a plug-in that is missing
    for name, field in type(entry).model_fields.items():
        if name in entry.derived:
            continue
        value = getattr(entry, name)
        if not is_constant(field.annotation) and value == field.get_default(
            call_default_factory=True
        ):
            continue
        document[name] = (
            brief(value)
            if isinstance(value, Entry)
            else entry.model_dump(mode="json", include={name})[name]
        )
    return document


class Described(BaseModel):
    """What the catalogue says of one entry: its name, its meaning and its parameters."""

    name: str
    meaning: str
    parameters: dict[str, JsonValue]


class DefaultChoice:
    """Lets an object without a discriminator mean one entry of a union.

    In the JSON Schema each other entry requires its discriminator: an object without one would fit
    several entries, and so none.

    **Attributes:**

    - `discriminator`: the field that names the entry.
    - `name`: the entry that is meant where the field is missing.
    """

    def __init__(self, discriminator: str, name: str) -> None:
        self.discriminator, self.name = discriminator, name

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Fill in the discriminator before the union is told apart."""

        def fill(value: object) -> object:
            return {self.discriminator: self.name, **value} if isinstance(value, dict) else value

        return core_schema.no_info_before_validator_function(fill, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Require the discriminator in each entry but the one that is meant without."""
        schema = handler(core)
        for choice in handler.resolve_ref_schema(schema).get("oneOf", ()):
            entry = handler.resolve_ref_schema(choice)
            named = entry["properties"][self.discriminator]
            if named.get("const") != self.name:
                required = [one for one in entry.get("required", ()) if one != self.discriminator]
                entry["required"] = [self.discriminator, *required]
        return schema


def default_choice(discriminator: str, name: str) -> DefaultChoice:
    """Let an object without a discriminator mean the entry of a given name.

    **Arguments:**

    - `discriminator`: the field that names the entry.
    - `name`: the entry that is meant where the field is missing.

    **Returns:**

    An annotation for the union of the entries.
    """
    return DefaultChoice(discriminator, name)


def entries(union: object) -> list[type[Entry]]:
    """List the classes of a catalogue, in order; those of plug-ins come last.

    **Arguments:**

    - `union`: the catalogue's (discriminated) union, or its only class.

    **Returns:**

    The classes.
    """
    if isinstance(union, type) and issubclass(union, Entry):
        return [union]
    arguments = typing.get_args(union)
    if typing.get_origin(union) is typing.Annotated:
        added = [one.added for one in arguments[1:] if isinstance(one, OpenUnion)]
        return [*entries(arguments[0]), *(entry for some in added for entry in some)]
    return [entry for argument in arguments for entry in entries(argument)]


def describe(entry: type[Entry], discriminator: str) -> Described:
    """Describe one entry for the catalogue.

    **Arguments:**

    - `entry`: its class.
    - `discriminator`: the field that names the entry.

    **Returns:**

    Name, meaning, and the JSON Schema of the other fields.
    """
    schema = entry.model_json_schema()
    parameters = {
        key: _complete(value, schema.get("$defs", {}))
        for key, value in schema.get("properties", {}).items()
        if key != discriminator
    }
    return Described(
        name=name_of(entry, discriminator), meaning=meaning_of(entry), parameters=parameters
    )


def _complete(parameter: dict[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter with the shapes of objects that it may hold, not with references."""
    if "anyOf" not in parameter:
        return parameter
    return parameter | {
        "anyOf": [
            shapes[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
            for part in parameter["anyOf"]
        ]
    }


def name_of(entry: type[Entry], discriminator: str) -> str:
    """Return the value of the discriminating field, which users write in a spec.

    **Arguments:**

    - `entry`: its class.
    - `discriminator`: the field that names the entry.

    **Returns:**

    The name.
    """
    return str(entry.model_fields[discriminator].default)


def meaning_of(documented: type) -> str:
    """Return the first paragraph of a class's docstring, on one line.

    **Arguments:**

    - `documented`: a class.

    **Returns:**

    The text; "" without a docstring.
    """
    return " ".join((documented.__doc__ or "").strip().split("\n\n")[0].split())
