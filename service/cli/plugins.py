"""Commands of plug-ins: packages whose entries are in the catalogues beside fflab's own."""

import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, NamedTuple

import typer

from ffengine.arrays import DatasetError
from ffengine.availability import check_available
from ffengine.datasets import Datasets
from ffengine.plugins import GROUPS, PRESET_GROUP, REGISTRY, Registry
from ffengine.presets import PRESETS
from ffengine.search import example_cells
from ffengine.spec import StudySpec
from service.cli.options import (
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    JsonOption,
    as_typed,
    fail,
    require_extra,
    show_json,
)
from service.cli.output import line, out, table
from service.web.catalogue import build_plugins

plugin_app = typer.Typer(
    no_args_is_help=True,
    help="Plug-ins: installed packages with methods of their own. List them, test one.",
)
# what the service's processes import: without torch, which would cost each seconds and memory
WITHOUT_TORCH = "import sys, ffengine.spec\n{imports}\nsys.exit(3 if 'torch' in sys.modules else 0)"


class Line(NamedTuple):
    """The outcome of one check of one entry, or of the package."""

    entry: str
    check: str
    passed: bool
    found: str


@plugin_app.command("list")
def plugin_list(as_json: JsonOption = False) -> None:
    """List the plug-ins of this installation.

    Shows their versions, their entries, and what is wrong with them.
    """
    found = build_plugins()
    if as_json:
        show_json([plugin.model_dump(mode="json", exclude={"parameters"}) for plugin in found])
        return
    rows = [
        [plugin.name, plugin.version, ", ".join(plugin.entries), "; ".join(plugin.faults)]
        for plugin in found
    ]
    table(["plug-in", "version", "entries", "faults"], rows)
    if not found and out.is_terminal:
        line("no plug-in is installed; examples/plugin is one to start from")


@plugin_app.command("test", epilog="Example: fflab plugin test fflab-example")
def plugin_test(
    package: Annotated[
        str,
        typer.Argument(
            metavar="PACKAGE", help="The name that it is installed by.", callback=as_typed
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Check that each entry of a plug-in keeps what every entry of the catalogues keeps.

    A line for each check, and exit code 1 where one is not passed. It takes some seconds an entry,
    and is the same contract that fflab's own entries are tested by.
    """
    groups = (*GROUPS, PRESET_GROUP)
    points = [point for group in groups for point in entry_points().select(group=group)]
    own = [point for point in points if _plain(_package(point)) == _plain(package)]
    if not own:
        there = ", ".join(sorted({_package(point) for point in points})) or "there is none"
        fail(f"PACKAGE: no plug-in {package} is installed; installed: {there}", EXIT_NOT_FOUND)
    with require_extra("worker"):
        importlib.import_module("torch")
    lines = []
    for found in _checked(own, REGISTRY):
        lines.append(found)
        if not as_json:
            verdict = "ok" if found.passed else "fail"
            typer.echo(f"{verdict:<5} {found.entry}: {found.check}: {found.found}")
    failed = sum(not found.passed for found in lines)
    if as_json:
        show_json([found._asdict() for found in lines])
    else:
        typer.echo(f"{failed} of {len(lines)} checks failed" if failed else f"{len(lines)} passed")
    if failed:
        sys.exit(EXIT_FAILED)


def _checked(points: Sequence[EntryPoint], registry: Registry) -> Iterator[Line]:
    """Check the package of these entry points, then each of its entries."""
    package = _package(points[0])
    yield _without_torch(package, points)
    contract = importlib.import_module("ffengine.contract")
    for point in sorted(points, key=lambda one: (one.group, one.name)):
        catalogue = GROUPS.get(point.group)
        entry = f"{catalogue or 'presets'}.{point.name}"
        reason = registry.why_refused(catalogue or "presets", point.name)
        yield Line(entry, "It is in the catalogue", reason is None, reason or "as specs write it")
        if reason is None and catalogue is None:
            yield _runs_of(entry, PRESETS[point.name].spec)
        elif reason is None and catalogue is not None:
            for outcome in contract.contract(catalogue, point.name):
                yield Line(entry, *outcome)


def _runs_of(entry: str, study: StudySpec) -> Line:
    """Check that the runs of a preset can be made here, with the data that they name."""
    check = "Its runs can be made here"
    try:
        cells = example_cells(study)
        check_available(study, Datasets.of_environment(), cells)
    except (DatasetError, ValueError) as error:
        return Line(entry, check, False, str(error))
    return Line(entry, check, True, f"{len(cells)} runs")


def _without_torch(package: str, points: Sequence[EntryPoint]) -> Line:
    """Check in a process of its own that what the API imports does not import torch."""
    modules = sorted({re.split("[:]", point.value)[0] for point in points})
    code = WITHOUT_TORCH.format(imports="\n".join(f"import {module}" for module in modules))
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    check = "The API, which has no PyTorch, can import it"
    if ended.returncode == 3:
        found = "importing it imports torch; import it in the methods that need it"
        return Line(package, check, False, found)
    said = (ended.stderr.strip().splitlines() or [""])[-1]
    return Line(package, check, ended.returncode == 0, said or ", ".join(modules))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _plain(name: str) -> str:
    """The name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
