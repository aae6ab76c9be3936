"""Docstrings of the engine: one plain line first, then sections that fit the signature."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pydantic import BaseModel

import ffengine

SECTION = re.compile(r"^\*\*(\w+):\*\*$", re.MULTILINE)
ITEM = re.compile(r"^- ((?:`\w+`(?:, )?)+): ", re.MULTILINE)
ORDER = ["Attributes", "Arguments", "Returns", "Raises", "Source"]
MODULES = sorted(path.stem for path in Path(ffengine.__file__).parent.glob("[a-z]*.py"))
OWN_PARAMETERS = {"self", "cls"}


class Documented(NamedTuple):
    name: str
    found: Any
    doc: str

    @property
    def sections(self) -> list[str]:
        return SECTION.findall(self.doc)

    def items(self, section: str) -> set[str]:
        """The names that a section explains."""
        parts = SECTION.split(self.doc)
        text = dict(zip(parts[1::2], parts[2::2], strict=True)).get(section, "")
        return {name for names in ITEM.findall(text) for name in re.findall(r"`(\w+)`", names)}

    @property
    def parameters(self) -> set[str]:
        return set(inspect.signature(self.found).parameters) - OWN_PARAMETERS


def plain(value: Any) -> Any:
    """The function behind a property, class method or static method."""
    return value.fget if isinstance(value, property) else getattr(value, "__func__", value)


def defined(owner: Any, module: str, prefix: str) -> Iterator[Documented]:
    """Public functions and classes that an owner defines, with a docstring of their own."""
    for name, value in vars(owner).items():
        found = plain(value)
        if name.startswith("_") or getattr(found, "__module__", None) != module:
            continue
        if not (inspect.isclass(found) or inspect.isfunction(found)):
            continue
        if doc := inspect.cleandoc(found.__doc__ or ""):
            yield Documented(f"{prefix}.{name}", found, doc)
        if inspect.isclass(found):
            yield from defined(found, module, f"{prefix}.{name}")


ALL = [
    documented
    for module in MODULES
    for documented in defined(
        importlib.import_module(f"ffengine.{module}"), f"ffengine.{module}", module
    )
]
PUBLIC = [name for name in ffengine.__all__ if callable(getattr(ffengine, name))]


def test_the_first_paragraph_of_a_function_is_one_line() -> None:
    functions = [one for one in ALL if inspect.isfunction(one.found) and one.sections]
    assert len(functions) > 100
    assert [one.name for one in functions if "\n" in one.doc.partition("\n\n")[0]] == []


def test_sections_have_known_names_and_one_order() -> None:
    for one in ALL:
        assert one.sections == sorted(set(one.sections), key=ORDER.index), one.name


def test_arguments_are_the_parameters() -> None:
    for one in ALL:
        if "Arguments" in one.sections:
            assert one.items("Arguments") == one.parameters, one.name


def test_attributes_exist() -> None:
    for one in ALL:
        if "Attributes" in one.sections:
            fields = set(getattr(one.found, "__annotations__", {}))
            assert one.items("Attributes") <= (fields or one.parameters), one.name


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_explains_its_arguments_and_what_it_returns(name: str) -> None:
    found: Callable[..., Any] = getattr(ffengine, name)
    one = Documented(name, found, inspect.cleandoc(found.__doc__ or ""))
    assert one.doc
    if inspect.isclass(found):
        if not issubclass(found, BaseModel | Exception):
            assert one.items("Attributes") == set(found.__annotations__)
        return
    assert one.items("Arguments") == one.parameters
    assert "Returns" in one.sections
