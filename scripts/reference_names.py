"""`python -m scripts.reference_names`: writes into each page of docs/reference the names that it is
about, with a line each, so that it is of use where the site is not built, as on a forge.
"""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import ffengine.spec
from scripts.docs_reference import (
    CATALOGUES,
    METHODS,
    ROOT,
    SPECS,
    by_status,
    catalog,
    commands_of,
    openapi,
    setting_rows,
    table,
)

BEGIN, END = "<!-- names -->\n", "<!-- end of names -->\n"
FOLDER = ROOT / "docs" / "reference"
VALUES = {  # names without a docstring
    "__version__": "The version of the package",
    "NUMERICS_VERSION": "Names a set of figures: it changes when a figure could change",
    "ENGINE_VERSION": "The former name of `NUMERICS_VERSION`",
    "Result": "What a job of any kind results in",
}
Lines = Iterator[list[str]]


def first_sentence(text: str | None) -> str:
    """What a docstring or a description begins with."""
    words = " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[a-z0-9)`\"])\. (?=[A-Z`])", words)[0].rstrip(".")


def rest() -> Lines:
    """The routes."""
    for path, ways in openapi()["paths"].items():
        for method in METHODS:
            if method in ways:
                yield [f"`{method.upper()} {path}`", ways[method].get("summary", "")]


def commands() -> Lines:
    """The commands."""
    import typer

    import service.cli

    for name, found in commands_of(typer.main.get_command(service.cli.app), "fflab"):
        yield [f"`{name}`", first_sentence(found.help)]


def presets() -> Lines:
    """The presets."""
    from ffengine.presets import PRESETS

    for preset in PRESETS.values():
        yield [f"`{preset.name}`", preset.meaning]


def catalogue() -> Lines:
    """The entries of the catalogues, a line for each catalogue."""
    found = catalog()
    for key, (title, field) in CATALOGUES.items():
        names = ", ".join(f"`{entry['name']}`" for entry in found[key])
        yield [f"{title}: {field}", names]
    yield ["Data sets: `dataset.name`", ", ".join(f"`{one['name']}`" for one in found["datasets"])]


def problems() -> Lines:
    """The kinds of problem."""
    from service.web.problems import PROBLEMS

    for name, kind in sorted(PROBLEMS.items(), key=by_status):
        yield [f"`{name}` ({kind.status})", kind.title]


def settings() -> Lines:
    """The variables of the environment."""
    from service.settings import Settings

    for variable, *_, meaning in setting_rows("FFLAB_", Settings, Settings()):
        yield [variable, meaning]


def specs() -> Lines:
    """The kinds of spec, and the fields of each."""
    for name in SPECS:
        kind: Any = getattr(ffengine.spec, name)
        fields = ", ".join(f"`{field}`" for field in kind.model_fields)
        about = first_sentence(kind.__doc__)
        yield [f"`{name}`", f"{about}{'' if about.endswith('?') else '.'} Fields: {fields}"]


def python() -> Lines:
    """The public names of the two packages."""
    for package in ("fflab", "ffengine"):
        module = importlib.import_module(package)
        for name in sorted(module.__all__, key=str.lower):
            found = getattr(module, name)
            documented = callable(found) or inspect.ismodule(found)
            about = found.__doc__ if documented else VALUES.get(name, "")
            yield [f"`{package}.{name}`", first_sentence(about)]


NAMES: dict[str, Callable[[], Lines]] = {
    make.__name__: make
    for make in (rest, commands, presets, catalogue, problems, settings, specs, python)
}


def block(page: str) -> str:
    """The names of a page as a table between its marks."""
    head = ["choice", "entries"] if page == "catalogue" else ["name", "what it is"]
    return f"{BEGIN}{table(head, list(NAMES[page]()))}\n{END}"


def written(page: str) -> str:
    """A page with its names as they are now."""
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    mark = f"<!-- generated: {page} -->\n"
    before, _, after = text.partition(mark)
    before = before.partition(BEGIN)[0].rstrip()
    return f"{before}\n\n{block(page)}\n{mark}{after}"


if __name__ == "__main__":
    for one in NAMES:
        (FOLDER / f"{one}.md").write_text(written(one), encoding="utf-8")
