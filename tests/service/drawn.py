"""What a chart has: its document, its points with a mean, and its caption."""

import json
from typing import Any

import ffengine
from ffengine.interrupts import Control
from ffengine.results import TrainResult
from ffengine.spec import TrainSpec
from ffengine.training import EpochReport
from service.artifacts import Artifacts, epoch_name
from service.results.charts import ChartSource, render

Rows = list[dict[str, Any]]


def drawn(name: str, *sources: ChartSource) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render(name, sources, "json"))
    return found


def points(name: str, *sources: ChartSource) -> Rows:
    values = drawn(name, *sources)["datasets"].values()
    return [row for rows in values for row in rows if "mean" in row]


def caption(document: dict[str, Any]) -> str:
    return " ".join(document["title"]["subtitle"])


def trained_with_weights(spec: TrainSpec, artifacts: Artifacts, owner: str) -> TrainResult:
    """The result of a run whose weights are kept."""

    def keep(report: EpochReport) -> Control:
        name = epoch_name(report.layers[-1], report.epoch)
        artifacts.put(owner, name, report.checkpoint.to_bytes())
        return "run"

    return ffengine.train(spec, on_epoch=keep)
