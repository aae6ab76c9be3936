"""The JSON Schema of spec files: what `fflab submit` takes it takes, what is refused it marks."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from ffengine.presets import PRESETS
from ffengine.spec import StudySpec, as_document
from ffengine.study import resolved
from service.specs.files import DEFAULTS, mistakes_of, read_spec
from service.specs.plain_yaml import parsed
from service.specs.spec_schema import DRAFT, spec_file_schema, spec_schema_text
from tests.commands import Fflab

ROOT = Path(__file__).parents[2]
YAML_BLOCK = re.compile(r"^```yaml[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    schema = spec_file_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def of_the_pages() -> list[Any]:
    """Every spec in a YAML block of the documentation, and the spec files of examples/."""
    pages = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    blocks = [block for page in pages for block in YAML_BLOCK.findall(page.read_text())]
    files = [file.read_text() for file in (ROOT / "examples").glob("*.yaml")]
    found = [parsed(text) for text in [*blocks, *files] if re.match(r"(#.*\n)*kind:", text)]
    assert len(found) >= 5
    return found


@pytest.mark.slow
def test_presets_defaults_and_the_specs_of_the_pages_are_valid(
    validator: jsonschema.Draft7Validator,
) -> None:
    studies = [StudySpec(preset=name) for name in PRESETS]
    documents = [
        *({"kind": "study", "preset": name} for name in PRESETS),
        *(as_document(resolved(study)) for study in studies),
        *(resolved(study).model_dump(mode="json") for study in studies),
        *(spec.model_dump(mode="json") for spec in DEFAULTS.values()),
        *of_the_pages(),
    ]
    for document in documents:
        assert validator.is_valid(document), document


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "train", "optimizer": {"lr": 0.5}},
        {"kind": "train", "objective": {"name": "softplus", "threshold": 2}},
        {"kind": "train", "$schema": "./fflab.schema.json"},
        {"kind": "check", "goodness": "l2"},
        {"kind": "check", "goodness": {"name": "top_k", "k": 3}},
        {"kind": "check", "at": {"job": "job_" + "0" * 32, "epoch": 1}},
        {"kind": "study", "base": {"epochs": 3}, "grid": {"network.widths": [[8]]}},
        {"kind": "train", "dataset": {"name": "an-upload"}},
    ],
)
def test_what_can_be_submitted_is_valid(
    validator: jsonschema.Draft7Validator, spec: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec))
    read_spec(str(file))
    assert validator.is_valid(spec), list(validator.iter_errors(spec))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"kind": "trian"},
        {"kind": "train", "epoch": 3},
        {"kind": "train", "epochs": 0},
        {"kind": "train", "network": {"widths": 64}},
        {"kind": "train", "optimizer": {"name": "sdg"}},
        {"kind": "train", "optimizer": "sgd"},
        {"kind": "train", "objective": {"threshold": 2}},
        {"kind": "train", "seeds": ["a"]},
        {"kind": "check", "theorem": 3},
        {"kind": "study", "preset": "papper"},
        {"kind": "study", "grid": {"epochs": 3}},
        {"kind": "study", "parts": {"a": {"base": {"epochs": 3}}}},
    ],
)
def test_what_is_refused_is_marked(
    validator: jsonschema.Draft7Validator, spec: dict[str, Any]
) -> None:
    assert not validator.is_valid(spec)
    if "preset" not in spec:  # which the models take, and the study's expansion refuses
        assert mistakes_of(spec)


def test_an_editor_has_something_to_say_of_every_field() -> None:
    schema = spec_file_schema()
    assert schema["$schema"] == DRAFT
    assert "discriminator" not in spec_schema_text()
    for name, definition in schema["definitions"].items():
        for field, described in definition.get("properties", {}).items():
            assert described["description"], (name, field)
            assert described.get("title") or field == "$schema", (name, field)
    study = schema["definitions"]["StudySpec"]["properties"]
    assert "paper" in study["preset"]["anyOf"][0]["enum"]
    varied = study["grid"]["properties"]
    assert {"network.widths", "optimizer.lr", "negatives.strategy"} <= set(varied)
    assert varied["epochs"]["description"]


def test_the_command_and_the_address_give_it_and_need_no_key(
    fflab: Fflab, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.get("/v1/schema/spec.json")
    assert answer.headers["content-type"].startswith("application/schema+json")
    file = tmp_path / "fflab.schema.json"
    assert fflab("schema", "-o", str(file)).out == f"{file}\n"
    assert answer.json() == json.loads(file.read_text()) == json.loads(fflab("schema").out)
    fflab("keys", "create", "ada")
    assert client.get("/v1/schema/spec.json").status_code == 200


def test_a_spec_is_read_from_standard_input(
    fflab: Fflab, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    given("kind: train\nepochs: 2\n")
    (job,) = fflab("submit", "-", "--set", "seeds=[3]").lines
    spec = client.get(f"/v1/jobs/{job}").json()["spec"]
    assert (spec["epochs"], spec["seeds"]) == (2, [3])
    given('{"$schema": "x", "kind": "train", "epochs": 4}')
    assert "epochs" not in fflab("estimate", "-").err
    given("[1, 2")
    refused = fflab("submit", "-")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert refused.err.startswith("fflab: standard input: cannot be read as YAML (")
