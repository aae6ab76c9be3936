"""The public contract as texts: the REST interface, the command line, the public names, what
`python -m` runs.

Each text lies beside this file. `python -m tests.contract` writes them anew: for a change that is
meant, and is then seen in review.
"""

import ast
import importlib.util
import json
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

import ffengine
import fflab
import service.cli
from service.settings import Settings
from service.web.app import create_app

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
WIDTH = 100
PROGRAMS = (
    "service.cli",
    "service.serve",
    "workers",
    "workers.health",
    "benchmarks",
    "benchmarks.datasets",
    "benchmarks.faults",
    "benchmarks.numerics",
    "benchmarks.onset",
    "benchmarks.pages",
    "benchmarks.recipes",
    "benchmarks.service",
)


def rest() -> str:
    """The OpenAPI document, without the version that it is of."""
    with tempfile.TemporaryDirectory() as home:
        document: dict[str, Any] = create_app(Settings(home=Path(home))).openapi()
    document |= {"info": document["info"] | {"version": "any"}}
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def command_line() -> str:
    """What `--help` says of `fflab` and of every command below it."""
    return "\n".join(_help(typer.main.get_command(service.cli.app), "fflab", None))


def _help(command: Any, name: str, parent: Any) -> Iterator[str]:
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
    )
    title = f"$ {context.command_path} --help"
    yield f"{title}\n{command.get_help(context)}\n"
    for word, below in sorted(getattr(command, "commands", {}).items()):
        yield from _help(below, word, context)


def names() -> str:
    """The public names of both packages, the installed programs, and what `python -m` runs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [
        f"{package.__name__}.{name}"
        for package in (fflab, ffengine)
        for name in sorted(package.__all__)
    ]
    lines += [f"{name} = {target}" for name, target in sorted(project["scripts"].items())]
    return (
        "\n".join([*lines, *(f"python -m {module}" for module in PROGRAMS if is_program(module))])
        + "\n"
    )


def is_program(module: str) -> bool:
    """Whether `python -m` runs a `main()` there.

    The module itself is not imported: that of the command line runs at once.
    """
    found = importlib.util.find_spec(module)
    if found is not None and found.submodule_search_locations is not None:
        found = importlib.util.find_spec(f"{module}.__main__")
    if found is None or found.origin is None:
        return False
    calls = [
        ast.unparse(line) for line in ast.parse(Path(found.origin).read_text(encoding="utf-8")).body
    ]
    return "main()" in calls or "if __name__ == '__main__':\n    main()" in calls


CONTRACT: dict[str, Callable[[], str]] = {
    "openapi.json": rest,
    "help.txt": command_line,
    "names.txt": names,
}
