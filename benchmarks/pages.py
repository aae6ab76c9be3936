"""`python -m benchmarks.pages [--only NAME ...] [--rounds N]`: the dashboard as a browser meets it.

A stack of its own has 2 000 jobs in its list, a study of 300 runs, and a job with every chart.
Chromium opens each page in a fresh profile (cold) and once more in the same (warm), and scrolls
through it while its charts come. Prints each page's figures as JSON, and a table, which is written
into docs/service.md where all pages are measured. Exit status 1 where a page misses a bar.
"""

import argparse
import json
import logging
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks.page_data import DEEP, SMALL, fill
from service.client import Client
from service.settings import Settings
from service.stack.stack import Stack

PAGE = Path(__file__).parents[1] / "docs" / "service.md"
BEGIN, END = "<!-- pages -->", "<!-- end of pages -->"
ROUNDS = 5
SIZE = {"width": 1280, "height": 900}
FIRST_PAINT_MS = 300.0
FRAME_MS = 1000 / 60 + 0.1
LONG_FRAME_MS = 25.0  # one that shows at least once what the screen showed already
LONG_SHARE = 0.05
MANY_CHARTS = 60
SCROLL_SPEED = 2_000  # pixels a second
MOST_SCROLLED = 12_000  # pixels
Figures = dict[str, float]
PAINTS = """() => new Promise((done) => {
  const largest = [];
  new PerformanceObserver((list) => largest.push(...list.getEntries()))
    .observe({ type: "largest-contentful-paint", buffered: true });
  let shift = 0;
  const add = (one) => { shift += one.hadRecentInput ? 0 : one.value; };
  new PerformanceObserver((list) => list.getEntries().forEach(add))
    .observe({ type: "layout-shift", buffered: true });
  const [page] = performance.getEntriesByType("navigation");
  setTimeout(() => done({
    answered_ms: page.responseStart - page.requestStart,
    first_paint_ms: performance.getEntriesByName("first-contentful-paint")[0].startTime,
    largest_paint_ms: largest.length ? largest[largest.length - 1].startTime : 0,
    layout_shift: shift,
    elements: document.querySelectorAll("*").length,
    charts: document.querySelectorAll("figure[data-chart]:not([hidden])").length,
    kilobytes: ["resource", "navigation"].flatMap((type) => performance.getEntriesByType(type))
      .reduce((sum, one) => sum + one.transferSize, 0) / 1000,
    requests: performance.getEntriesByType("resource").length + 1,
  }), 300);
})"""
# before the page's own scripts run; of charts that stand twice, over epochs and over flow time, one
# is hidden
REPEAT_CHARTS = """
document.addEventListener("readystatechange", () => {
  if (document.readyState !== "interactive") return;
  for (const theme of document.querySelectorAll("details.theme")) theme.open = true;
  const all = [...document.querySelectorAll("figure[data-chart]")];
  const seen = all.filter((one) => !one.dataset.name.endsWith("_flow"));
  for (let number = seen.length; number < %d; number += 1)
    all.at(-1).parentElement.append(seen[number %% seen.length].cloneNode(true));
});
"""
WATCH_FRAMES = """() => {
  const frames = window.frameTimes = [];
  let last = null;
  const tick = (now) => {
    if (last !== null) frames.push(now - last);
    last = now;
    window.nextFrame = requestAnimationFrame(tick);
  };
  window.nextFrame = requestAnimationFrame(tick);
}"""
FRAMES = "() => { cancelAnimationFrame(window.nextFrame); return window.frameTimes; }"


class Measured(NamedTuple):
    """A page: its name, and medians over the rounds of first and second visits, and of the way
    through it.
    """

    name: str
    cold: Figures
    warm: Figures
    scrolled: Figures

    @property
    def missed(self) -> list[str]:
        """The bars that the page misses."""
        paint = max(self.cold["first_paint_ms"], self.warm["first_paint_ms"])
        slow = self.scrolled["frame_ms"] > FRAME_MS or self.scrolled["long_share"] > LONG_SHARE
        return ["first paint"] * (paint > FIRST_PAINT_MS) + ["frames"] * slow


def main() -> None:
    """Measure, print, and write the page where all are measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pages", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=NAMES, default=list(NAMES))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on the PATH: apt-get install chromium")
    logging.disable(logging.WARNING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        first = first_curve(browser) if FIRST_CURVE in asked.only else None
        names = [name for name in asked.only if name in PAGES]
        found = list(measured(browser, names, asked.rounds))
        version = browser.version
        browser.close()
    lines = table(found, version, first)
    print("\n".join(lines))
    if set(asked.only) == set(NAMES):
        before, rest = PAGE.read_text().split(BEGIN)
        text = "\n".join(lines)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")
    sys.exit(any(one.missed for one in found))


def first_curve(browser: Browser) -> Figures:
    """Seconds from the start of `fflab up` in an empty home until it answers, and until somebody
    who clicks "Start with the paper's experiments", then "Submit", sees the first chart.
    """
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
    found = {"answers_seconds": round(ready, 2), "first_chart_seconds": round(drawn, 2)}
    print(json.dumps(found), flush=True)
    return found


class Site(NamedTuple):
    """Where the pages are, and the ids of the jobs that they show."""

    url: str
    study: str
    deep: str
    other: str


PAGES: dict[str, tuple[str, Callable[[Site], str]]] = {
    "jobs": ("2 000 jobs, 50 rows", lambda site: "/"),
    "jobs-500": ("2 000 jobs, 500 rows", lambda site: "/?rows=500"),
    "study": ("a study of 300 runs", lambda site: f"/jobs/{site.study}"),
    "runs": ("its runs, 500 rows", lambda site: f"/jobs/{site.study}/runs?rows=500"),
    "job": ("a job with every chart, six layers", lambda site: f"/jobs/{site.deep}"),
    "charts": (f"{MANY_CHARTS} charts, six layers", lambda site: f"/jobs/{site.deep}?"),
    "compare": ("compare, two jobs", lambda site: f"/compare?job={site.deep}&job={site.other}"),
    "new": ("new job", lambda site: "/new"),
    "datasets": ("data sets", lambda site: "/datasets"),
    "catalog": ("catalog", lambda site: "/catalog"),
    "workers": ("workers", lambda site: "/workers"),
    "docs": ("REST reference", lambda site: "/docs"),
}
FIRST_CURVE = "first-curve"
NAMES = (FIRST_CURVE, *PAGES)


def measured(browser: Browser, names: list[str], rounds: int) -> Iterator[Measured]:
    """Every page that is asked for."""
    if not names:
        return
    with site() as where:
        for name in names:
            script = REPEAT_CHARTS % MANY_CHARTS if name == "charts" else ""
            found = visits(browser, where.url + PAGES[name][1](where), name, rounds, script)
            print(json.dumps({**found._asdict(), "missed": found.missed}), flush=True)
            yield found


@contextmanager
def site() -> Iterator[Site]:
    """A running stack with all that the pages show."""
    with tempfile.TemporaryDirectory(prefix="fflab-") as home:
        settings = Settings(home=Path(home))
        study = fill(settings)
        with Stack(settings, port=0, device="cpu") as stack, Client(stack.url) as client:
            deep, other = (
                client.submit(spec, name=name).wait()
                for spec, name in ((DEEP, "deep"), (SMALL | {"seeds": [0, 1]}, "shallow"))
            )
            client.job(study).wait()
            yield Site(stack.url, study, deep.id, other.id)


def visits(browser: Browser, url: str, name: str, rounds: int, script: str) -> Measured:
    """The medians over fresh profiles, over second visits, and over third ones that scroll."""
    cold, warm, ways = [], [], []
    for _ in range(rounds):
        context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
        context.add_init_script(script)
        cold.append(visit(context, url))
        warm.append(visit(context, url))
        ways.append(way_through(context, url))
        context.close()
    return Measured(name, medians(cold), medians(warm), medians(ways))


@contextmanager
def opened(context: BrowserContext, url: str) -> Iterator[Page]:
    """A page of its own."""
    page = context.new_page()
    page.goto(url)
    yield page
    page.close()


def visit(context: BrowserContext, url: str) -> Figures:
    """What one visit measures, once everything that is on the first screen has come."""
    with opened(context, url) as page:
        page.wait_for_load_state("networkidle")
        found: Figures = page.evaluate(PAINTS)
    return found


def way_through(context: BrowserContext, url: str) -> Figures:
    """The frames of the way down and up again while charts come, and the memory of the scripts
    when all are there.
    """
    with opened(context, url) as page:
        there = context.new_cdp_session(page)
        height = page.evaluate("document.documentElement.scrollHeight - innerHeight")
        page.evaluate(WATCH_FRAMES)
        for distance in (-min(height, MOST_SCROLLED), min(height, MOST_SCROLLED)):
            gesture = {"x": 640, "y": 450, "yDistance": distance, "speed": SCROLL_SPEED}
            there.send("Input.synthesizeScrollGesture", gesture | {"gestureSourceType": "mouse"})
        frames = sorted(page.evaluate(FRAMES))
        charts = page.locator("figure[data-chart]:visible")
        for number in range(charts.count()):
            charts.nth(number).locator("canvas").wait_for(timeout=120_000)
        there.send("HeapProfiler.collectGarbage")
        heap = there.send("Runtime.getHeapUsage")["usedSize"] / 1e6
    long = sum(one > LONG_FRAME_MS for one in frames) / len(frames)
    return {
        "frame_ms": statistics.median(frames),
        "frame_p95_ms": frames[int(0.95 * len(frames))],
        "long_share": long,
        "heap_mb": heap,
    }


def medians(found: list[Figures]) -> Figures:
    """The median of each figure."""
    return {name: round(statistics.median(one[name] for one in found), 3) for name in found[0]}


HEAD = (
    "| page | sent, cold / warm | requests | answered after | first paint, cold / warm | "
    "largest paint | layout shift | scripts | frame, median / p95 | long frames | |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|",
)


def table(found: list[Measured], chromium: str, first: Figures | None) -> list[str]:
    """The pages as Markdown, with what they were measured on."""
    _, load, _ = os.getloadavg()  # what else the machine did counts into all of it
    where = (
        f"Chromium {chromium.partition('.')[0]}, {platform.machine()}, {os.cpu_count()} cores with "
        f"a load of {load:.0f}"
    )
    lines = [f"{where}. Bars: first paint within {FIRST_PAINT_MS:.0f} ms, a median frame within "]
    lines[0] += f"16.7 ms, at most {LONG_SHARE:.0%} of frames longer than {LONG_FRAME_MS:.0f} ms."
    lines += ["", *HEAD, *map(line_of, found)]
    if first:
        lines += [
            "",
            "From the start of `fflab up` in an empty home to the first chart on the screen, by "
            'way of "Start with the paper\'s experiments" and "Submit", it took '
            f"{first['first_chart_seconds']:.1f} s, {first['answers_seconds']:.1f} s of them until "
            "the service answered.",
        ]
    return lines


def line_of(one: Measured) -> str:
    """A page as a row of the table."""
    cold, warm, way = one.cold, one.warm, one.scrolled
    cells = (
        PAGES[one.name][0],
        f"{cold['kilobytes']:.0f} / {warm['kilobytes']:.0f} kB",
        f"{cold['requests']:.0f}",
        f"{warm['answered_ms']:.0f} ms",
        f"{cold['first_paint_ms']:.0f} / {warm['first_paint_ms']:.0f} ms",
        f"{cold['largest_paint_ms']:.0f} ms",
        f"{max(cold['layout_shift'], warm['layout_shift']):.2f}",
        f"{way['heap_mb']:.0f} MB",
        f"{way['frame_ms']:.1f} / {way['frame_p95_ms']:.1f} ms",
        f"{way['long_share']:.1%}",
        f"missed: {', '.join(one.missed)}" if one.missed else "",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
