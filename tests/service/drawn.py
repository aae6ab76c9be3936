"""What a chart has: its document, its points with a mean, and its caption."""

import json
from typing import Any

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
