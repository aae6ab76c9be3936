"""Take the documentation's pictures of the dashboard: a real stack with real jobs, seen in
Chromium.

    python scripts/screenshots.py [FOLDER]

Needs Chromium on the PATH. Writes dashboard*.png and theorem2.png into the folder (docs/pictures
where none is given).
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from service.client import Client, JobHandle
from service.settings import Settings
from service.stack.stack import Stack

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
SEEDS = [0, 1, 2, 3, 4]
TRAIN = {
    "kind": "train",
    "epochs": 20,
    "seeds": SEEDS,
    "network": {"widths": [256]},
    "optimizer": {"name": "sgd", "lr": 256 / 30},
}
PAPER = {"kind": "study", "preset": "quick"}
CENTRED = {"kind": "study", "base": TRAIN, "grid": {"dataset.preprocess": ["unit", "center"]}}
HYBRID = TRAIN | {"negatives": {"strategy": "hybrid"}}
CHECK = {"kind": "check", "theorem": 2, "widths": [64, 256, 1000], "seeds": SEEDS}
GRID = {
    "network.widths": [[64], [256], [1000]],
    "negatives.strategy": ["wrong_label", "other_image", "noise"],
}
STUDY = {"kind": "study", "base": {"kind": "train", "epochs": 5, "seeds": [0, 1, 2]}, "grid": GRID}
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 380, "height": 780}


def main() -> None:
    """Run the jobs and take the pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on the PATH: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="fflab-") as home,
        Stack(Settings(home=Path(home)), port=0, device="cpu") as stack,
    ):
        jobs = finished_jobs(Client(stack.url))
        (folder / "theorem2.png").write_bytes(jobs["centred"].chart("theorem2"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            take(browser, stack.url, jobs, folder)
            browser.close()


def finished_jobs(client: Client) -> dict[str, JobHandle]:
    """The jobs that the pages show, all of them done."""
    wanted: dict[str, tuple[dict[str, Any], str, list[str]]] = {
        "train": (TRAIN, "wrong labels, five seeds", ["theorem2"]),
        "hybrid": (HYBRID, "hybrid images, five seeds", ["theorem2"]),
        "check": (CHECK, "theorem 2 at initialisation", ["theorem2"]),
        "centred": (CENTRED, "pixels as they are, and centred", ["theorem2"]),
        "paper": (PAPER, "the paper's experiments, in small", ["theorem1", "theorem2"]),
        "study": (STUDY, "width by negative strategy", ["grid"]),
    }
    jobs = {
        key: client.submit(spec, name=name, tags=tags) for key, (spec, name, tags) in wanted.items()
    }
    return {key: job.wait() for key, job in jobs.items()}


def take(browser: Browser, url: str, jobs: dict[str, JobHandle], folder: Path) -> None:
    """Every picture."""
    compared = "&".join(f"job={jobs[key].id}" for key in ("train", "hybrid"))
    pages = {
        "dashboard": f"/jobs/{jobs['train'].id}",
        "dashboard-jobs": "/",
        "dashboard-check": f"/jobs/{jobs['check'].id}",
        "dashboard-study": f"/jobs/{jobs['study'].id}",
        "dashboard-paper": f"/jobs/{jobs['paper'].id}",
        "dashboard-datasets": "/datasets",
        "dashboard-findings": "/findings",
        "dashboard-compare": f"/compare?{compared}",
        "dashboard-new": "/new",
    }
    for name, path in pages.items():
        shoot(browser, url + path, folder / f"{name}.png", WIDE, dark=False)
    shoot(browser, url + pages["dashboard"], folder / "dashboard-phone.png", PHONE, dark=True)


def shoot(browser: Browser, url: str, file: Path, size: dict[str, int], *, dark: bool) -> None:
    """A picture of what a screen of that size shows first, once its charts are drawn."""
    page = browser.new_page(
        viewport={"width": size["width"], "height": size["height"]},
        color_scheme="dark" if dark else "light",
    )
    page.goto(url)
    for number in range(page.locator("figure[data-chart]:visible").count()):
        page.locator("figure[data-chart]:visible").nth(number).locator("canvas").wait_for()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=file)
    page.close()


if __name__ == "__main__":
    main()
