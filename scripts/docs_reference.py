"""Reference pages of the documentation, written from the program itself: routes, specs, catalogues,
commands, settings, problems.

Each function gives the Markdown of one page; scripts/docs_hooks.py puts it where a page says <!--
generated: NAME -->.
"""

import ast
import enum
import importlib
import inspect
import json
import re
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ffengine.spec import StudySpec, as_document

ROOT = Path(__file__).parents[1]
HERE = "http://127.0.0.1:8000"
METHODS = ("get", "post", "put", "patch", "delete")
EVERYWHERE = (
    "bad-host",
    "key-needed",
    "wrong-origin",
    "wrong-host",
    "invalid",
    "database-away",
)  # of every route: said once, at the top of the page
EXAMPLES = {
    "file": "sparsity.png",
    "name": "mnist-mini",
    "code": "no-such-job",
    "delivery_id": "$MESSAGE",
    "form": "md",
    "job_id": "$JOB",
    "share_id": "$SHARE",
    "worker_id": "$WORKER",
}
UPLOADED = {"/v1/datasets": "pictures.npz", "/v1/weights": "mine.safetensors"}
CATALOGUES = {
    "negatives": ("Negative strategies", "`negatives.strategy`"),
    "objectives": ("Objectives", "`objective.name`"),
    "goodness": (
        "Goodness",
        "`objective.goodness`: a name, or an object where the entry has parameters",
    ),
    "activations": ("Activations", "`network.activation`, and `activation` of a check"),
    "optimizers": ("Optimisers", "`optimizer.name`"),
    "schedules": ("Learning-rate schedules", "`optimizer.schedule`"),
    "inits": ("Initialisations", "`network.init`"),
    "preprocess": ("Preprocessing", "`dataset.preprocess`"),
    "label_codes": (
        "Label codes",
        "`dataset.label_code`: a name, or an object where the entry has parameters",
    ),
    "baselines": ("Baselines", "`evaluation.baselines`: a name, or an object with settings"),
    "search_methods": ("Searches", "`search.method` of a study"),
    "samplers": ("Samplers of a search", "`search.sampler`"),
    "pruners": ("Pruners of a search", "`search.prune`"),
    "theorems": ("Theorems", "`monitor.theorems`, and `theorem` of a check"),
}
SPECS = ("TrainSpec", "CheckSpec", "ForecastSpec", "StudySpec")
UNION_PAGES = {
    "negatives": "negatives",
    "objective": "objectives",
    "optimizer": "optimizers",
    "goodness": "goodness",
}

Schema = Mapping[str, Any]


# Markdown


def cell(text: object) -> str:
    """Text that may stand in a cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; "" without rows."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n"
        + "\n".join("| " + " | ".join(cell(entry) for entry in line) + " |" for line in lines)
        + "\n"
    )


def code(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"\n```{language}\n{text.strip()}\n```\n"


def tick(value: object) -> str:
    """A JSON value as code."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return f"`{text}`"


def slug(text: str) -> str:
    """An anchor."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


# JSON Schema


def target(schema: Schema, defs: Schema) -> tuple[str, Schema]:
    """The name and content of what a $ref points to."""
    name = str(schema["$ref"]).rsplit("/", 1)[-1]
    return name, defs[name]


def kind_of(schema: Schema, defs: Schema, link: Callable[[str, Schema], str]) -> str:
    """The type of a schema in words, with its bounds."""
    if "$ref" in schema:
        name, content = target(schema, defs)
        return choice(content["enum"]) if "enum" in content else link(name, content)
    for union in ("oneOf", "anyOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(kind_of(part, defs, link) for part in schema[union]))
    if len(schema.get("allOf", ())) == 1:
        return kind_of(schema["allOf"][0], defs, link)
    if "enum" in schema:
        return choice(schema["enum"])
    if "const" in schema:
        return tick(schema["const"])
    found = schema.get("type", "any value")
    if found == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        inside = " and ".join(dict.fromkeys(kind_of(item, defs, link) for item in items))
        return f"list of {inside}{length_of(schema)}"
    if found == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {kind_of(schema['additionalProperties'], defs, link)}"
    if found == "object" and "properties" in schema:
        return f"object with {choice(list(schema['properties']))}"
    return f"{found}{range_of(schema)}"


def choice(values: Sequence[object]) -> str:
    """One of some values."""
    return ", ".join(tick(value) for value in values)


def range_of(schema: Schema) -> str:
    """The bounds of a number, or the length and pattern of a text."""
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [
        f"{sign} {schema[key]:g}" if schema[key] < 1e15 else f"{sign} {schema[key]}"
        for key, sign in words.items()
        if key in schema
    ]
    if "maxLength" in schema:
        bounds.append(f"at most {schema['maxLength']} characters")
    if "format" in schema:
        bounds.append(str(schema["format"]))
    return f", {', '.join(bounds)}" if bounds else ""


def length_of(schema: Schema) -> str:
    """How many items a list may have."""
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if not least and most is None:
        return ""
    return (
        f", {least} to {most} of them"
        if most is not None and least != most
        else f", {most if least == most else f'at least {least}'} of them"
    )


def default_of(name: str, schema: Schema, owner: Schema) -> str:
    """The default of a field."""
    if "default" not in schema:
        return "**required**" if name in owner.get("required", ()) else ""
    shown = json.dumps(schema["default"], ensure_ascii=False)
    return tick(schema["default"]) if len(shown) <= 60 else "the defaults of its fields"


# Pages


@cache
def openapi() -> dict[str, Any]:
    """The OpenAPI document of the application."""
    from service.settings import Settings
    from service.web.app import create_app

    with tempfile.TemporaryDirectory() as home:
        return dict(create_app(Settings(home=Path(home))).openapi())


@cache
def catalog() -> dict[str, Any]:
    """What GET /v1/catalog answers."""
    from service.web.routes.catalog import read_catalog

    return read_catalog().model_dump(mode="json")


def rest() -> str:
    """Every route: what it does, parameters, body, answers, and a line for curl; then the shapes of
    bodies.
    """
    document = openapi()
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                tag = (operations[method].get("tags") or ["system"])[0]
                by_tag.setdefault(tag, []).append(
                    operation(path, method, operations[method], document["components"]["schemas"])
                )
    parts = [
        f"## {tag[0].upper()}{tag[1:]}\n\n" + "\n".join(sections)
        for tag, sections in by_tag.items()
    ]
    about = f"This is version {document['info']['version']}.\n"
    return "\n".join(
        [
            about,
            *parts,
            "## Shapes of bodies and answers\n",
            *shapes(document["components"]["schemas"]),
        ]
    )


def operation(path: str, method: str, operation: Schema, schemas: Schema) -> str:
    """One route."""
    name = f"{method.upper()} {path}"
    parts = [
        f"### `{name}` {{ #{slug(name)} }}\n",
        f"**{operation['summary'].rstrip('.')}.** {operation.get('description', '')}\n",
    ]
    rows = [
        [
            f"`{given['name']}`",
            given["in"],
            kind_of(given["schema"], schemas, linked),
            default_of(given["name"], given["schema"], {}),
            given.get("description", ""),
        ]
        for given in operation.get("parameters", ())
    ]
    parts.append(table(["parameter", "in", "type", "default", "meaning"], rows))
    if body := operation.get("requestBody"):
        kinds = [
            f"`{media}`: {kind_of(content['schema'], schemas, linked)}"
            for media, content in body["content"].items()
        ]
        parts.append("Body: " + "; ".join(kinds) + "\n")
    answers = [
        answer(status, found, schemas) for status, found in sorted(operation["responses"].items())
    ]
    parts.append(table(["status", "answer"], [line for line in answers if line[1]]))
    parts.append(code(curl(path, method, operation, schemas), "bash"))
    return "\n".join(part for part in parts if part)


def answer(status: str, found: Schema, schemas: Schema) -> list[str]:
    """One status of a route: what comes, or which problems it stands for."""
    from service.web.problems import MEDIA_TYPE, PROBLEMS

    content = found.get("content", {})
    if MEDIA_TYPE in content:
        titles = {kind.title: kind.code for kind in PROBLEMS.values()}
        given = [
            title
            for title in dict.fromkeys(str(found["description"]).split(" Or: "))
            if titles.get(title) not in EVERYWHERE
        ]
        return [
            status,
            "; ".join(
                f"[{title}](problems.md#{titles[title]})" if title in titles else title
                for title in given
            ),
        ]
    if status == "304":
        return [status, "what you have (`If-None-Match`) is what there is"]
    kinds = [
        f"`{media}`"
        + (f" {kind_of(shape['schema'], schemas, linked)}" if shape.get("schema") else "")
        for media, shape in content.items()
    ]
    said = (
        ""
        if found.get("description") in (None, "Successful Response")
        else f": {found['description']}"
    )
    return [status, ", ".join(kinds or ["no body"]) + said]


def linked(name: str, content: Schema) -> str:
    """A link to the shape of that name, or to where its fields are described."""
    plain = re.sub(r"-(Input|Output)$", "", name)
    if plain in SPECS:
        return f"[{plain}](specs.md#{plain[:-4].lower()})"
    if plain in spec_parts():
        return f"[{plain}](specs.md)"
    return f"[{plain}](#shape-{plain.lower()})" if content.get("properties") else "object"


@cache
def spec_parts() -> frozenset[str]:
    """The names of the models that a spec is made of."""
    return frozenset(catalog()["spec_schema"]["$defs"])


def shapes(schemas: Schema) -> Iterator[str]:
    """The fields of every body and answer that is no part of a spec."""
    for name, content in sorted(schemas.items()):
        if (
            name.endswith(("-Input", "-Output"))
            or name in spec_parts()
            or not content.get("properties")
        ):
            continue
        yield f"### {name} {{ #shape-{name.lower()} }}\n\n{content.get('description', '')}\n"
        described = content["properties"].items()
        rows = [
            [f"`{field}`", kind_of(schema, schemas, linked), schema.get("description", "")]
            for field, schema in described
        ]
        yield table(["field", "type", "meaning"], rows)


def curl(path: str, method: str, operation: Schema, schemas: Schema) -> str:
    """A command that asks this route; $JOB stands for a job's id."""
    examples = EXAMPLES | ({"name": "mine"} if path.startswith("/v1/weights/") else {})
    filled = re.sub(r"{(\w+)}", lambda found: examples[found[1]], path)
    words = ["curl -s", *([f"-X {method.upper()}"] if method in ("delete", "patch") else [])]
    body = operation.get("requestBody", {}).get("content", {})
    if "application/json" in body:
        _, content = target(body["application/json"]["schema"], schemas)
        words.append(
            f"-H 'Content-Type: application/json' -d '{json.dumps(content['examples'][0])}'"
        )
    elif body:
        return f"curl -s '{HERE}{filled}?name=mine' --data-binary @{UPLOADED[path]}"
    elif method == "post":
        words.append("-X POST")
    if path.endswith("/events"):
        words.append("-N")
    if path.endswith((".npz", ".safetensors", "{file}", ".html")):
        words.append("-OJ" if not path.endswith((".html", "{file}")) else "-O")
    return " ".join([*words, f'"{HERE}{filled}"' if "$" in filled else f"{HERE}{filled}"])


def specs() -> str:
    """Every field of every kind of spec."""
    schema = catalog()["spec_schema"]
    defs = schema["$defs"]
    parts = []
    for kind in ("Train", "Check", "Forecast", "Study"):
        content = defs[f"{kind}Spec"]
        parts.append(f"## {kind} {{ #{kind.lower()} }}\n\n{content['description']}\n")
        parts.append(
            table(["field", "type", "default", "meaning"], list(fields("", content, defs)))
        )
    return "\n".join(parts)


def fields(prefix: str, owner: Schema, defs: Schema) -> Iterator[list[str]]:
    """The rows of a model's fields; those of a nested model by their dotted names."""
    for name, schema in owner["properties"].items():
        dotted = f"{prefix}{name}"
        inner = schema.get("$ref") and target(schema, defs)[1]
        if inner and inner.get("properties"):
            yield from fields(f"{dotted}.", inner, defs)
        elif name in UNION_PAGES:
            yield [
                f"`{dotted}`",
                f"[catalogue](catalogue.md#{UNION_PAGES[name]})",
                tick(default_name(schema)),
                schema.get("description", ""),
            ]
        else:
            yield [
                f"`{dotted}`",
                kind_of(schema, defs, lambda found, _: found.removesuffix("Spec")),
                default_of(name, schema, owner),
                schema.get("description", ""),
            ]


def default_name(schema: Schema) -> str:
    """The discriminating value of a union's default."""
    default = schema.get("default", {})
    return (
        str(default.get("strategy") or default.get("name"))
        if isinstance(default, dict)
        else str(default)
    )


def catalogue() -> str:
    """Every entry of every catalogue, from what GET /v1/catalog answers."""
    found = catalog()
    parts = []
    for key, (title, field) in CATALOGUES.items():
        parts.append(f"## {title} {{ #{key} }}\n\nField: {field}.\n")
        if not any(entry["parameters"] for entry in found[key]):
            parts.append(
                table(
                    ["name", "meaning"],
                    [[f"`{entry['name']}`", entry["meaning"]] for entry in found[key]],
                )
            )
            continue
        parts += [entry_section(key, entry, shared(found[key])) for entry in found[key]]
        if common := shared(found[key]):
            parts.append(f"### Of all {title.lower()}\n" + parameters(common))
    parts.append("## Data sets { #datasets }\n\nField: `dataset.name`.\n")
    rows = [
        [
            f"`{facts['name']}`",
            facts["meaning"],
            " x ".join(map(str, facts["shape"])),
            f"{facts['train_samples']:,} + {facts['test_samples']:,}",
            facts["licence"],
            facts["source"],
        ]
        for facts in found["datasets"]
    ]
    parts.append(table(["name", "meaning", "shape", "samples", "licence", "source"], rows))
    return "\n".join(parts)


def shared(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The parameters that all entries of a catalogue have alike."""
    first, *others = [entry["parameters"] for entry in entries]
    return {
        name: schema
        for name, schema in first.items()
        if all(other.get(name) == schema for other in others)
    }


def entry_section(key: str, entry: Mapping[str, Any], common: Mapping[str, Any]) -> str:
    """One entry that may have parameters."""
    own = {name: schema for name, schema in entry["parameters"].items() if name not in common}
    return (
        f"### `{entry['name']}` {{ #{key}-{slug(entry['name'])} "
        f"}}\n\n{entry['meaning']}\n{parameters(own)}"
    )


def parameters(given: Mapping[str, Any]) -> str:
    """The table of an entry's parameters."""
    rows = []
    for name, schema in given.items():
        kind = (
            f"[{name}](#{UNION_PAGES[name]})"
            if name in UNION_PAGES
            else kind_of(schema, {}, lambda found, _: found)
        )
        rows.append(
            [f"`{name}`", kind, default_of(name, schema, {}), schema.get("description", "")]
        )
    return table(["parameter", "type", "default", "meaning"], rows)


def presets() -> str:
    """Every preset: what it shows, and the spec that it is."""
    from ffengine.presets import PRESETS

    return "\n".join(
        f"## {preset.name}\n\n{preset.meaning}\n"
        f"{code(f'fflab submit {preset.name} --wait', 'bash')}\n"
        f"The same as a file:\n{code(as_file(preset.spec), 'yaml')}"
        for preset in PRESETS.values()
    )


def as_file(study: StudySpec) -> str:
    """A study as a file that `fflab submit` takes."""
    return yaml.safe_dump(as_document(study), sort_keys=False, default_flow_style=None, width=120)


def commands() -> str:
    """Every command of `fflab`, with its arguments, options and an example; exit codes."""
    import typer

    import service.cli

    group = typer.main.get_command(service.cli.app)
    said = (service.cli.__doc__ or "").split("\n\n", 1)[-1]
    parts = [" ".join(said.split()) + "\n"]
    parts += [
        section
        for name, found in commands_of(group, "fflab")
        for section in command_section(name, found)
    ]
    return "\n".join(parts)


def commands_of(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All commands below a group, by their full names."""
    for word, found in sorted(group.commands.items()):
        if getattr(found, "hidden", False):
            continue
        inner = hasattr(found, "commands")
        if not inner or found.invoke_without_command:
            yield f"{name} {word}", found
        if inner:
            yield from commands_of(found, f"{name} {word}")


def command_section(name: str, found: Any) -> Iterator[str]:
    """One command."""
    yield f"## `{name}` {{ #{slug(name.removeprefix('fflab '))} }}\n\n{found.help or ''}\n"
    rows = []
    for given in found.params:
        if given.name == "help" or getattr(given, "hidden", False):
            continue
        is_option = given.param_type_name == "option"
        spelt = (
            ", ".join(f"`{word}`" for word in (*given.opts, *given.secondary_opts))
            if is_option
            else f"`{given.metavar or given.name.upper()}`"
        )
        default = (
            ""
            if callable(given.default) or given.default in (None, False, ())
            else tick(str(given.default))
        )
        rows.append(
            [
                spelt,
                default,
                "required"
                if given.required and not getattr(given, "help", None)
                else getattr(given, "help", None) or "",
            ]
        )
    yield table(["argument or option", "default", "meaning"], rows)
    if found.epilog:
        yield code(
            "\n".join(re.split(r", or (?=-)", found.epilog.removeprefix("Example: "))[:1]), "bash"
        ) + (f"\n{found.epilog}\n" if ", or " in found.epilog else "")


def problems() -> str:
    """Every kind of problem."""
    from service.web.problems import PROBLEMS

    rows = [
        [f"[`{name}`](#{name})", str(kind.status), kind.title]
        for name, kind in sorted(PROBLEMS.items(), key=by_status)
    ]
    parts = [table(["code", "status", "title"], rows)]
    for name, kind in sorted(PROBLEMS.items(), key=by_status):
        document = json.loads(bytes(kind().response().body))
        parts.append(
            f"## {name} {{ #{name} }}\n\n**{kind.status}. {kind.title}** "
            f"{kind.advice}\n{code(json.dumps(document, indent=2), 'json')}"
        )
    return "\n".join(parts)


def by_status(item: tuple[str, Any]) -> tuple[int, str]:
    """The order of problems."""
    return item[1].status, item[0]


def settings() -> str:
    """Every setting of the environment."""
    from service.settings import Settings

    return table(
        ["variable", "type", "default", "meaning"],
        list(setting_rows("FFLAB_", Settings, Settings())),
    )


def setting_rows(prefix: str, model: type[BaseModel], defaults: BaseModel) -> Iterator[list[str]]:
    """The variables of a settings model; those of a nested one by their full names."""
    for name, field in model.model_fields.items():
        variable = f"{prefix}{name.upper()}"
        inner = field.annotation
        described = f"{field.description}" if field.description else ""
        value = field.default
        if isinstance(inner, type) and issubclass(inner, BaseModel) and not described:
            yield from setting_rows(f"{variable}__", inner, value)
            continue
        kind = re.sub(r"\b(?:\w+\.)+(?=\w)", "", inspect.formatannotation(inner)).replace(
            " | None", ""
        )
        kind = {
            "SecretStr": "text",
            "str": "text",
            "Path": "folder",
            "bool": "`true` or `false`",
            "float": "number",
            "int": "integer",
        }.get(kind, kind)
        if isinstance(value, BaseModel):
            kind, value = "JSON", None
        yield [
            f"`{variable}`",
            kind,
            ""
            if value in (None, PydanticUndefined)
            else tick(str(value).lower() if isinstance(value, bool) else str(value)),
            described,
        ]


def findings() -> str:
    """The code, severity and advice of every finding, as the source has them."""
    rows = {}
    # a finding before the advice of the same code
    for module in (
        "advice.py",
        "diagnostics.py",
        "scale_runaway.py",
        "free_riding.py",
        "forecast_findings.py",
        "attempts.py",
    ):
        tree = ast.parse((ROOT / "ffengine" / module).read_text(encoding="utf-8"))
        for call in ast.walk(tree):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name)
                and call.func.id in ("Diagnostic", "Advice")
            ):
                said = {word.arg: word.value for word in call.keywords}
                if "code" not in said:  # a finding of another place, with more words
                    continue
                name, severity = (ast.literal_eval(said[key]) for key in ("code", "severity"))
                rows[name] = [f"[`{name}`](#{name})", severity, text_of(said["suggestion"])]
    return table(["finding", "severity", "what to try"], sorted(rows.values()))


def text_of(node: ast.expr) -> str:
    """A text of the source, with what is filled in at run time as an ellipsis."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values
        )
    return str(ast.literal_eval(node)) if isinstance(node, ast.Constant) else ast.unparse(node)


def python() -> str:
    """The public names of the two packages, with signatures and docstrings."""
    parts = []
    for package, about in (("fflab", "the client: needs no torch"), ("ffengine", "the numerics")):
        module = importlib.import_module(package)
        parts.append(f"## {package} {{ #{package} }}\n\n`import {package}`: {about}.\n")
        parts += [
            named(package, name, getattr(module, name))
            for name in sorted(module.__all__, key=str.lower)
        ]
    return "\n".join(parts)


def named(package: str, name: str, found: object) -> str:
    """One public name."""
    title = f"### `{package}.{name}` {{ #{package}-{slug(name)} }}\n"
    if inspect.isclass(found):
        return title + class_section(name, found)
    if callable(found):
        return title + code(f"{name}{signature(found)}", "python") + doc_of(found)
    return title + (f"\n`{found}`\n" if not isinstance(found, types.ModuleType) else doc_of(found))


def class_section(name: str, found: type) -> str:
    """A class: how it is made, what it is, its public methods and properties."""
    if issubclass(found, BaseModel) and name in SPECS:
        return f"\n{doc_of(found)}\n\nIts fields: [specs](specs.md#{name[:-4].lower()}).\n"
    if issubclass(found, enum.Enum):
        return f"\n{doc_of(found)}\n\n" + ", ".join(f"`{member.value}`" for member in found) + "\n"
    parts = [doc_of(found)]
    if issubclass(found, BaseModel):
        rows = [
            [f"`{field}`", f"`{type_name(info.annotation)}`", info.description or ""]
            for field, info in found.model_fields.items()
        ]
        parts.append(table(["field", "type", "meaning"], rows))
    elif not issubclass(found, BaseException):
        parts.insert(0, code(f"{name}{signature(found)}", "python"))
    parts += [member(name, word, value) for word, value in members(found)]
    return "\n".join(parts)


def members(found: type) -> Iterator[tuple[str, Any]]:
    """What a class of ours defines under public names, its bases' first."""
    seen: dict[str, Any] = {}
    for owner in reversed(found.__mro__):
        if owner.__module__.split(".")[0] in ("ffengine", "service", "fflab"):
            seen |= {word: value for word, value in vars(owner).items() if not word.startswith("_")}
    for word, value in seen.items():
        if isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value):
            yield word, value


def member(owner: str, word: str, value: Any) -> str:
    """A method or property."""
    plain = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    if not (text := doc_of(plain)):
        return ""
    shown = (
        f"{owner}.{word}" if isinstance(value, property) else f"{owner}.{word}{signature(plain)}"
    )
    return code(shown, "python") + text + "\n"


def signature(found: Any) -> str:
    """How it is called, without self and with short names of types; one parameter a line where that
    is long.
    """
    try:
        given = inspect.signature(found)
    except (TypeError, ValueError):
        return "(...)"
    shown = [
        parameter for word, parameter in given.parameters.items() if word not in ("self", "cls")
    ]
    text = short(str(given.replace(parameters=shown)))
    return (
        text
        if len(text) <= 100
        else re.sub(r"\(", "(\n    ", text.replace(", *, ", ",\n    *, "), count=1)
    )


def type_name(annotation: Any) -> str:
    """An annotation with short names."""
    return short(inspect.formatannotation(annotation)).replace("|", "or")


def short(text: str) -> str:
    """Without the modules that names come from, quotes and pydantic's fields."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations that are written as texts
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)
    return (
        re.sub(r"Annotated\[([^,\[\]]+(?:\[[^\]]*\])?), [^\]]*\]", r"\1", text)
        .replace("ForwardRef(", "")
        .replace("collections.abc.", "")
    )


def doc_of(found: Any) -> str:
    """The docstring; what is indented in it stays code."""
    return inspect.cleandoc(found.__doc__ or "") + "\n" if found.__doc__ else ""


def changelog() -> str:
    """What changed in each release, with links from a page of the documentation."""
    written = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    inside = written.partition("\n")[2].replace("](docs/", "](").strip()
    return re.sub(r"\[([^\]\n]+)\]\((?!https?:|#)(?=[A-Z]|examples/)[^)]*\)", r"\1", inside)


GENERATED: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        *(rest, specs, catalogue, presets, commands, problems, settings, findings, python),
        changelog,
    )
}


def preset_documents() -> list[dict[str, Any]]:
    """The presets as YAML documents, as the page shows them."""
    return [
        yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", presets(), re.DOTALL)
    ]
