"""The template of a plug-in, built and installed as its README says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugins import EXAMPLE, answer, environment, install

BUILT = ("build", "*.egg-info", "__pycache__")


def run(*command: str, folder: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment(folder), cwd=cwd, capture_output=True, text=True, timeout=600
    )


def fflab(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "-m", "service.cli", *arguments, folder=folder)


@pytest.mark.soak
def test_the_template_installs_and_passes_its_tests_and_the_contract(tmp_path: Path) -> None:
    source = shutil.copytree(EXAMPLE, tmp_path / "plugin", ignore=shutil.ignore_patterns(*BUILT))
    site = tmp_path / "site"
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--target", str(site))
    installed = run(sys.executable, "-m", "pip", "install", *offline, str(source), folder=site)
    assert installed.returncode == 0, installed.stderr

    listed = json.loads(fflab(site, "plugin", "list", "--json").stdout)
    assert [(one["name"], one["version"], one["faults"]) for one in listed] == [
        ("fflab-example", "1.0.0", [])
    ]
    checked = fflab(site, "plugin", "test", "Fflab_Example")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.splitlines()[-1].endswith(" passed")
    tests = run(
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests", folder=site, cwd=source
    )
    assert tests.returncode == 0, tests.stdout


@pytest.mark.slow
def test_a_faulty_plugin_is_said_in_lines_and_does_no_harm(tmp_path: Path) -> None:
    site = install(tmp_path)
    methods = site / "fflab_example/methods.py"
    text = methods.read_text()
    methods.write_text(
        text.replace('Literal["lion"] = "lion"', 'Literal["lyon"] = "lyon"').replace(
            "if TYPE_CHECKING:", "import torch\n\nif TYPE_CHECKING:"
        )
    )
    listed = fflab(site, "plugin", "list")
    assert listed.returncode == 0
    assert 'Lion needs the field name: Literal["lion"] = "lion"' in listed.stdout
    assert "imports torch, which takes seconds" in listed.stdout

    (tmp_path / "spec.yaml").write_text("kind: train\noptimizer: {name: lion}\n")
    refused = fflab(site, "run", str(tmp_path / "spec.yaml"))
    assert refused.returncode == 2
    assert "optimizers lion: Lion needs the field" in refused.stderr
    assert refused.stderr.count("\n") == 1

    presets = site / "fflab_example/presets.py"
    presets.write_text(presets.read_text().replace('"widths"', '"width"'))
    for words, code in ((("presets", "lion-rates"), 4), (("estimate", "lion-rates"), 2)):
        left_out = fflab(site, *words)
        assert left_out.returncode == code
        assert "presets lion-rates: " in left_out.stderr
        assert "network.width" in left_out.stderr

    missing = fflab(site, "plugin", "test", "nobody")
    assert (missing.returncode, missing.stderr) == (
        4,
        "fflab: PACKAGE: no plug-in nobody is installed; installed: fflab-example\n",
    )


@pytest.mark.slow
def test_a_plugin_that_a_script_imports_first_is_loaded_all_the_same(tmp_path: Path) -> None:
    code = """
import json
from fflab_example.methods import Lion
import fflab
from ffengine.plugins import REGISTRY
print(json.dumps([isinstance(fflab.TrainSpec(optimizer={"name": "lion"}).optimizer, Lion),
                  [fault.line for fault in REGISTRY.faults]]))
"""
    assert answer(code, install(tmp_path)) == [True, []]
