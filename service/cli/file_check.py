"""`fflab check`: whether the files that the database counts on are there, and whole."""

from typing import Annotated

import typer

from service.cli.options import (
    EXIT_FAILED,
    EXIT_UNREACHABLE,
    HomeOption,
    JsonOption,
    fail,
    load_settings,
    open_store,
    require_extra,
    show_json,
)
from service.cli.output import table


def check(
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every file, and compare it with its digest.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the database with the files of jobs and uploads, and change nothing.

    It says what is missing, damaged or left over in the folder or the bucket of artifacts. Exit
    code 1 where a file is missing or damaged.
    """
    with require_extra("server"):
        from service.background.file_check import FileCheck
        from service.storage.place import unreachable

    settings = load_settings(home)
    with open_store(home) as store:
        looked = FileCheck(store, settings, deep=deep)
        try:
            found = list(looked.findings())
        except OSError as error:
            fail(unreachable(settings.artifact_place, error), EXIT_UNREACHABLE)
    lost = [one for one in found if one.wrong != "left over"]
    if as_json:
        findings = [one.model_dump() for one in found]
        show_json({"ok": not lost, "deep": deep, "files": looked.files, "findings": findings})
    else:
        if found:
            table(["wrong", "file", "of"], [[one.wrong, one.file, one.of] for one in found])
        read = "read" if deep else "looked for"
        left = len(found) - len(lost)
        typer.echo(
            f"{looked.files:,} files {read} in {looked.artifacts.place}: "
            f"{len(lost)} missing or damaged, {left} left over"
        )
    if lost:
        raise typer.Exit(EXIT_FAILED)
