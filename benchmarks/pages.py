"""The dashboard as a browser meets it: what a page weighs, when it is first painted, and how soon a
newcomer sees a curve.

    python -m benchmarks.pages

Needs Chromium on the PATH. Prints JSON. Each page is opened in a fresh browser profile (cold) and
once more in the same (warm); weights are bytes as they are sent, headers included.
`first_curve_seconds`: from the start of `fflab up` in an empty home to the first chart on the
screen, for somebody who clicks "Start with the paper's experiments", then "Submit".
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, sync_playwright
from pydantic import JsonValue

from service.client import Client
from service.settings import Settings
from service.stack.stack import Stack

RUNS = 5
SIZE = {"width": 1280, "height": 900}
FIRST_JOB: dict[str, JsonValue] = {
    "kind": "train",
    "epochs": 10,
    "seeds": [0, 1, 2],
    "network": {"widths": [128]},
}
PAINTS = """() => new Promise((done) => {
  const largest = [];
  new PerformanceObserver((list) => largest.push(...list.getEntries()))
    .observe({ type: "largest-contentful-paint", buffered: true });
  let shift = 0;
  const add = (one) => { shift += one.hadRecentInput ? 0 : one.value; };
  new PerformanceObserver((list) => list.getEntries().forEach(add))
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done({
    first_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    largest_paint_ms: largest.length ? largest[largest.length - 1].startTime : null,
    layout_shift: shift,
    elements: document.querySelectorAll("*").length,
    bytes: ["resource", "navigation"].flatMap((type) => performance.getEntriesByType(type))
      .reduce((sum, one) => sum + one.transferSize, 0),
    requests: performance.getEntriesByType("resource").length + 1,
  }), 300);
})"""


def main() -> None:
    """Measure, and print what was found."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on the PATH: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        found = {
            "chromium": browser.version,
            "first_curve_seconds": first_curve(browser),
            "pages": pages(browser),
        }
        browser.close()
    print(json.dumps(found, indent=1))


def first_curve(browser: Browser) -> dict[str, float]:
    """Seconds from the start of the stack to the pages that a newcomer sees."""
    with tempfile.TemporaryDirectory(prefix="fflab-") as home:
        begun = time.monotonic()
        with Stack(Settings(home=Path(home)), port=0, device="cpu") as stack:
            ready = time.monotonic() - begun
            page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]  # Playwright's own type is private
            page.goto(stack.url)
            page.get_by_role("link", name="Start with").click()
            page.get_by_role("button", name="Submit").click()
            page.locator("figure canvas").first.wait_for(timeout=120_000)
            drawn = time.monotonic() - begun
            page.close()
    return {"stack_ready": round(ready, 2), "first_chart": round(drawn, 2)}


def pages(browser: Browser) -> dict[str, Any]:
    """Every page of a stack with a finished job, cold and warm."""
    with (
        tempfile.TemporaryDirectory(prefix="fflab-") as home,
        Stack(Settings(home=Path(home)), port=0, device="cpu") as stack,
    ):
        client = Client(stack.url)
        job, other = (
            client.submit({**FIRST_JOB, "epochs": epochs}, name="measured").wait()
            for epochs in (10, 5)
        )
        paths = {
            "jobs": "/",
            "job": f"/jobs/{job.id}",
            "compare": f"/compare?job={job.id}&job={other.id}",
            "new": "/new",
        }
        paths |= {name: f"/{name}" for name in ("workers", "datasets", "catalog", "docs")}
        return {name: visits(browser, stack.url + path) for name, path in paths.items()}


def visits(browser: Browser, url: str) -> dict[str, Any]:
    """The medians over fresh profiles, and over second visits."""
    cold, warm = [], []
    for _ in range(RUNS):
        context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
        cold.append(visit(context, url))
        warm.append(visit(context, url))
        context.close()
    return {"cold": medians(cold), "warm": medians(warm)}


def visit(context: BrowserContext, url: str) -> dict[str, float]:
    """What one visit measures, once everything has come."""
    page = context.new_page()
    page.goto(url)
    for number in range(page.locator("figure[data-chart]:visible").count()):
        page.locator("figure[data-chart]:visible").nth(number).locator("canvas").wait_for()
    page.wait_for_load_state("networkidle")
    found: dict[str, float] = page.evaluate(PAINTS)
    page.close()
    return found


def medians(found: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(one[name] or 0 for one in found), 3) for name in found[0]}


if __name__ == "__main__":
    main()
