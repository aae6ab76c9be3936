"""The alerts and the dashboard of examples/monitoring: they ask for metrics that there are."""

import json
import re
import shutil
import subprocess

import httpx
import pytest
import yaml

from tests.documents import ROOT
from tests.needs import lacking

FOLDER = ROOT / "examples" / "monitoring"
RULES, DASHBOARD = FOLDER / "fflab.rules.yml", FOLDER / "fflab.dashboard.json"


def asked(text: str) -> set[str]:
    """The metrics that expressions ask for, without the endings of histograms."""
    return {re.sub("_(bucket|count|sum)$", "", name) for name in re.findall(r"\bfflab_\w+", text)}


def expressions() -> dict[str, str]:
    found = {}
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
        found |= {rule["alert"]: rule["expr"] for rule in group["rules"]}
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        found[panel["title"]] = " ".join(target["expr"] for target in panel["targets"])
    return found


def test_what_is_asked_for_is_there(client: httpx.Client) -> None:
    types = re.findall(r"^# TYPE (fflab_\w+) ", client.get("/metrics").text, re.MULTILINE)
    for name, expression in expressions().items():
        assert asked(expression) <= set(types), name


def test_each_alert_has_a_row_that_says_what_to_do() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(Fflab\w+)` \|", page, re.MULTILINE)
    assert documented == [name for name in expressions() if name.startswith("Fflab")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["check", "rules", "fflab.rules.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "fflab.rules.test.yml"],
    ],
    ids=" ".join,
)
def test_prometheus_accepts_them(command: list[str]) -> None:
    if shutil.which("promtool") is None:
        lacking("promtool", "none is on PATH")
    done = subprocess.run(["promtool", *command], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
