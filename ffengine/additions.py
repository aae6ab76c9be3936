"""What plug-ins add to the catalogues, and what stands for an entry of one that is not installed.

The unions of the catalogues are written out for type checkers. `OpenUnion` and `OpenNames` let
them take more entries: those that are here when a model with such a field is built.
`ffengine.plugins` adds them before `ffengine.spec` has any such model.
"""

import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Union

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from ffengine.text import is_stored

Catalogue = Literal["negatives", "objectives", "goodness", "optimizers", "activations", "inits"]
# the entries that plug-ins have added, by the names that specs have for them
ADDED: dict[Catalogue, dict[str, Any]] = {
    "negatives": {},
    "objectives": {},
    "goodness": {},
    "optimizers": {},
    "activations": {},
    "inits": {},
}


class NotInstalled(ValueError):
    """An entry is used whose plug-in is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is of a plug-in that is not installed here")


class OpenUnion:
    """Lets a discriminated union take the entries of plug-ins.

    Stored documents are readable without the plug-in that they used: an entry that is not known is
    read as one that has its name and its fields, and raises NotInstalled where it is used.

    **Attributes:**

    - `catalogue`: whose union it is.
    - `bases`: what its entries inherit from, one or another.
    - `discriminator`: the field that names the entry.
    """

    def __init__(
        self, catalogue: Catalogue, bases: tuple[type[BaseModel], ...], discriminator: str
    ) -> None:
        self.catalogue, self.bases, self.discriminator = catalogue, bases, discriminator
        self.missing = [_missing(base, discriminator) for base in bases]

    @property
    def added(self) -> list[Any]:
        """The classes that plug-ins have added."""
        return list(ADDED[self.catalogue].values())

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Build the union with the classes that were added, and a way round it for stored ones."""
        known = {
            entry.model_fields[self.discriminator].default
            for entry in (*(typing.get_args(source) or (source,)), *self.added)
        }

        def read(value: Any, inner: Any, info: ValidationInfo) -> Any:
            if is_stored(info) and isinstance(value, Mapping):
                tag = value.get(self.discriminator)
                if isinstance(tag, str) and tag not in known:
                    return self._stand_in(value).model_validate(value, context=info.context)
            return inner(value)

        return core_schema.with_info_wrap_validator_function(
            read,
            handler(Union[(source, *self.added)] if self.added else source),
            # by the entry's own class, which the union does not list where a plug-in is missing
            serialization=core_schema.simple_ser_schema("any"),
        )

    def _stand_in(self, stored: Mapping[str, Any]) -> type[BaseModel]:
        """Return what stands for an entry: of the first base of which a stored one has fields."""
        given = stored.keys() - {self.discriminator}
        fitting = (one for one in self.missing if one.model_fields.keys() & given)
        return next(fitting, self.missing[-1])


class OpenNames:
    """Lets a choice of names take those of plug-ins; a stored document may have any name.

    **Attributes:**

    - `catalogue`: whose names they are.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Build the choice with the names that were added, and a way round it for stored ones."""
        own = typing.get_args(source)
        names = core_schema.literal_schema([*own, *ADDED[self.catalogue]])

        def read(value: Any, inner: Any, info: ValidationInfo) -> Any:
            return value if is_stored(info) and isinstance(value, str) else inner(value)

        return core_schema.with_info_wrap_validator_function(
            read, names, serialization=core_schema.simple_ser_schema("any")
        )


def is_missing(entry: object) -> bool:
    """Whether an entry stands for one of a plug-in that is not installed.

    **Arguments:**

    - `entry`: an entry of a catalogue.

    **Returns:**

    True where it has the name and the fields alone.
    """
    return bool(getattr(entry, "is_missing", False))


def _missing(base: type[BaseModel], discriminator: str) -> type[BaseModel]:
    """Return the class of entries of a catalogue whose own class is not here."""

    def refuse(self: Any, *_given: object, **_named: object) -> Any:
        raise NotInstalled(getattr(self, discriminator))

    def body(namespace: dict[str, Any]) -> None:
        abstract = getattr(base, "__abstractmethods__", ())
        namespace |= {
            "__doc__": "An entry of a plug-in that is not installed here.",
            "__module__": __name__,
            "__annotations__": {discriminator: str, "is_missing": ClassVar[bool]},
            "model_config": ConfigDict(extra="allow"),
            "is_missing": True,
            **dict.fromkeys(abstract, refuse),
        }

    return types.new_class(f"{base.__name__}OfPlugin", (base,), exec_body=body)
