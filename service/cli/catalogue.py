"""Commands of what a spec may contain: presets, catalog, and the JSON Schema for editors."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ffengine.entry import Described
from ffengine.plugins import REGISTRY
from ffengine.presets import PRESETS
from ffengine.spec import StudySpec, as_document
from ffengine.spec_values import value_in_words
from ffengine.study import resolved
from service.cli import completion
from service.cli.options import (
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    JsonOption,
    fail,
    show_json,
    write_output,
)
from service.cli.output import table
from service.specs.files import as_yaml
from service.specs.spec_schema import spec_schema_text
from service.specs.suggestions import not_one_of
from service.web.catalogue import build_catalog, build_presets


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="PRESET",
            help="Print this one as a spec file.",
            autocompletion=completion.presets,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List ready-made studies, or print one as a spec file."""
    if name is not None and name not in PRESETS:
        reason = REGISTRY.why_refused("presets", name) or not_one_of(name, list(PRESETS))
        fail(f"PRESET: {reason}", EXIT_NOT_FOUND)
    if name is None and as_json:
        show_json([preset.model_dump(mode="json") for preset in build_presets()])
    elif name is None:
        rows = [[preset.name, " ".join(preset.meaning.split())] for preset in PRESETS.values()]
        table(["preset", "what it answers"], rows)
    else:
        spec = resolved(StudySpec(preset=name))
        if as_json:
            show_json(as_document(spec))
        else:
            typer.echo(as_yaml(spec), nl=False)


def catalog(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT",
            help="One part of it, such as negatives or objectives, with the parameters.",
            autocompletion=completion.sections,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what a spec may contain.

    These are data sets, negatives, activations, objectives and the like.
    """
    found = build_catalog()
    sections = _sections(found.model_dump(exclude={"spec_schema"}))
    if what is not None and what not in sections:
        fail(f"WHAT: {not_one_of(what, list(sections))}", EXIT_NOT_FOUND)
    if as_json:
        document = found.model_dump(mode="json")
        show_json(document if what is None else document[what])
    elif what is None:
        rows = [
            [part, name, meaning] for part, lines in sections.items() for name, meaning, _ in lines
        ]
        table(["part", "name", "meaning"], rows)
    else:
        rows = [[name, parameters, meaning] for name, meaning, parameters in sections[what]]
        table(["name", "parameters", "meaning"], rows)


def _sections(catalogue: dict[str, Any]) -> dict[str, list[tuple[str, str, str]]]:
    """For each part of the catalogue its entries: name, meaning, parameters in words."""
    found = {}
    for part, entries in catalogue.items():
        described = [Described.model_validate({"parameters": {}} | entry) for entry in entries]
        found[part] = [(one.name, one.meaning, _parameters(one)) for one in described]
    return found


def _parameters(entry: Described) -> str:
    """The parameters of an entry, with their defaults where these are short."""
    defaults = {
        name: described.get("default")
        for name, described in entry.parameters.items()
        if isinstance(described, dict)
    }
    return ", ".join(
        name
        if default is None or isinstance(default, dict)
        else f"{name} = {value_in_words(default)}"
        for name, default in defaults.items()
    )


def schema(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .json file; `-`: standard output.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON Schema of spec files, for editors.

    With it an editor completes fields and marks what is wrong.
    A YAML file names it in its first line: `# yaml-language-server: $schema=fflab.schema.json`.
    """
    text = spec_schema_text()
    if output is None or str(output) == "-":
        typer.echo(text, nl=False)
    elif output.suffix != ".json":
        fail(f"{output}: the schema is JSON; choose a name that ends in .json", EXIT_USAGE)
    else:
        write_output(output, text.encode(), as_json=as_json)
