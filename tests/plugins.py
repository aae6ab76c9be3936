"""The example plug-in, installed into a folder without pip: what is on PYTHONPATH is installed."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parents[1] / "examples/plugin"
MODULE, PACKAGE = "fflab_example", "fflab-example"


def install(folder: Path, version: str = "1.0.0") -> Path:
    """Copy the example into a folder, with the metadata by which Python finds its entries."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    copy = shutil.copytree(EXAMPLE / MODULE, folder / MODULE, dirs_exist_ok=True)
    for cached in copy.rglob("__pycache__"):
        shutil.rmtree(cached)
    metadata = folder / f"{MODULE}-{version}.dist-info"
    metadata.mkdir()
    text = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n"
    (metadata / "METADATA").write_text(text)
    groups = project["entry-points"].items()
    lines = [
        line
        for group, points in groups
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return folder


def environment(*folders: Path) -> dict[str, str]:
    """The environment of a process in which these folders are installed."""
    here = Path(__file__).parents[1]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*folders, here)))}


def answer(code: str, *folders: Path) -> Any:
    """What a program prints as JSON in its last line, run where these folders are installed."""
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment(*folders),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout.splitlines()[-1])
