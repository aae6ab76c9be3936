"""What `fflab --version` says: the versions, and what to cite."""

from typing import Annotated

import typer

from ffengine.version import NUMERICS_VERSION, VERSION

VERSIONS = f"fflab {VERSION}, numerics {NUMERICS_VERSION}"
CITE = (
    f"cite: The fflab developers. fflab: a lab backend for research on the Forward-Forward "
    f"algorithm. Version {VERSION}, numerics {NUMERICS_VERSION}.",
    "      and the theorems: Y. Yang. A theory for the sparsity emerged in the Forward Forward "
    "algorithm. arXiv 2311.05667, 2023.",
    "      CITATION.cff names the sources of the methods.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo("\n".join((VERSIONS, *CITE)))
        raise typer.Exit


def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Say the version, that of the numerics, and what to cite.",
            callback=_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Take the options of the program itself."""
