"""The demo with its real stack: what it prints first is what was found."""

import json
import os
import subprocess
import sys
from pathlib import Path


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
    summary, lines = done.stdout.splitlines()[:5], done.stdout.splitlines()[5:]
    assert [line.split(":")[0].split(",")[0] for line in summary] == [
        "Theorem 1 at initialisation",
        "Theorem 2 at initialisation",
        "Theorem 2 while training",
        "S while training",
        "Predicted sign of the change of S",
    ]
    assert "below one half while units are recruited (tau < " in summary[2]
    assert all(line.endswith((": met.", ": open.", ": met / open.")) for line in summary[:4])
    how, theorem1, theorem2, headline, fall, rise, *table = lines
    assert how.startswith("Data: mnist-mini; 3 seeds.")
    assert theorem1.startswith("Theorem 1 at initialisation, n = 256, holds for ")
    assert theorem2.startswith(
        "Theorem 2 along the step on G(negative) - G(positive), at initialisation, n = 256, holds "
    )
    assert headline.startswith(
        "Training with pixels as they are, n = 128: S falls first, while theorem 2 holds for less "
        "than half of both"
    )
    assert fall.startswith("  From epoch 0 to 7 S falls from 0.469 / 0.468 to 0.39")
    assert rise.startswith("  From epoch 7 to 15 S rises from 0.39")
    assert table[1].startswith("quantity\tmeasured")
    assert done.stderr.splitlines()[0] == "starting the stack: API, worker, Redis"
    assert done.stderr.splitlines()[-1] == "stopping the stack"
    for name in ("theorem2", "sparsity"):
        assert (tmp_path / "out" / f"{name}.svg").read_text().startswith("<svg")
    report = (tmp_path / "out" / "report.html").read_text()
    assert headline in report
    cells = json.loads((tmp_path / "out" / "result.json").read_text())["cells"]
    assert [cell["kind"] for cell in cells] == ["check", "check", "train"]
