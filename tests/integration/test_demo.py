"""The demo with its real stack: what it prints first is what was found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.soak
def test_the_demo_says_what_was_found_first_and_leaves_report_and_result(tmp_path: Path) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")}
    command = [
        sys.executable,
        "-m",
        "service.cli",
        "demo",
        "--preset",
        "quick",
        "--output",
        str(tmp_path / "out"),
    ]
    environment = inherited | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary, sections = done.stdout.splitlines()[:6], done.stdout.split("\n\n")[1:]
    assert [line.split(":")[0].split(" (")[0] for line in summary] == [
        "Theorem 1 at initialisation",
        "Theorem 2 at initialisation",
        "Theorem 2 while training",
        "Sparsity S",
        "Signs",
        "Data",
    ]
    assert "it holds for less than half" in summary[2]
    assert "while units switch on, until tau = " in summary[2]
    assert all(line.endswith((": met.", ": open.", ": met / open.")) for line in summary[:4])
    assert [section.splitlines()[0] for section in sections] == [
        "Charts",
        "Measured beside the paper, arXiv 2311.05667 (data: mnist-mini)",
        "Files",
    ]
    charts, table, _ = (section.splitlines()[1:] for section in sections)
    assert [Path(line.split(":")[0]).name for line in charts] == ["sparsity.svg", "theorem2.svg"]
    assert table[0].startswith("quantity\tmeasured")
    assert done.stderr.splitlines()[0] == "starting the stack: API, worker, Redis"
    assert done.stderr.splitlines()[-1] == "stopping the stack"
    for name in ("theorem2", "sparsity"):
        assert (tmp_path / "out" / f"{name}.svg").read_text().startswith("<svg")
    report = (tmp_path / "out" / "report.html").read_text()
    assert "Sparsity S (1: a single unit is active) while training" in report
    cells = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert [cell["kind"] for cell in cells] == ["check", "check", "train"]
