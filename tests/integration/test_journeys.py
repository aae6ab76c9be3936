"""Three ways of use, each from its first page to the paper: a researcher in the browser with a
co-author, somebody who writes scripts, and somebody at the command line.
"""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pypdf
import pytest
import yaml
from playwright.sync_api import Browser, Locator, Page, expect

from benchmarks.waiting import PATIENCE_SECONDS, PROGRAM_SECONDS
from service.client import Client
from tests.chromium import chromium, faultless_page
from tests.needs import lacking
from tests.stack import Lab

pytestmark = pytest.mark.slow
PATIENCE = 1000 * PATIENCE_SECONDS  # in milliseconds
expect.set_options(timeout=PATIENCE)
TINY: dict[str, Any] = {
    "kind": "train",
    "dataset": {"name": "digits"},
    "network": {"widths": [16]},
    "epochs": 3,
    "seeds": [0, 1],
    "monitor": {"samples": 100},
}

# what somebody with a link takes for the paper: the end of its address, and what stands in it
PARTS = {
    "references.bib": b"@misc{fflab,",
    "result.tex?rows=curves": rb"\begin{tabular}",
    "curves.csv": b"seed,",
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    with faultless_page(browser, lab.http, PATIENCE) as page:
        yield page


def fflab(
    lab: Lab, *arguments: str, folder: Path, given: str | None = None
) -> "subprocess.CompletedProcess[str]":
    """A command in a folder of the user's own, as it is typed there."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")}
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        input=given,
        cwd=folder,
        capture_output=True,
        text=True,
        env={**inherited, "FFLAB_URL": lab.stack.url},
        timeout=PROGRAM_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done


def chart(page: Page, name: str) -> Locator:
    figure = page.locator(f"figure[data-name={name}]")
    figure.scroll_into_view_if_needed()
    expect(figure.locator("canvas")).to_be_visible()
    return figure


def submitted_from_the_form(page: Page, name: str) -> str:
    """The id of the job, once it has succeeded before the user's eyes."""
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    expect(page.locator("#head .state")).to_have_text("succeeded")
    return page.url.rpartition("/")[2]


def test_a_researcher_and_a_co_author_in_the_browser(
    page: Page, browser: Browser, lab: Lab, tmp_path: Path
) -> None:
    page.goto("/")
    page.get_by_role("link", name="New job").click()
    page.get_by_label("name", exact=True).first.fill("digits")
    for label, text in (("widths", "16"), ("epochs", "3"), ("seeds", "0, 1")):
        page.get_by_label(label, exact=True).fill(text)
    expect(page.locator("#cost")).to_contain_text("1 run, about")
    first = submitted_from_the_form(page, "the usual step")

    answer = page.locator("#answer")
    expect(answer).to_contain_text("Theorem 2")
    expect(answer).to_contain_text(re.compile(r"\d+\s%\s\[\d+,\s\d+\]"))
    figure = chart(page, "sparsity")
    figure.get_by_role("button", name="Zoom in").click()
    expect(figure.locator(".readout")).to_contain_text("zoomed")

    page.get_by_role("link", name="Clone and edit").click()
    page.get_by_label("lr", exact=True).fill("0.1")
    expect(page.locator("#difference li")).to_have_count(1)
    second = submitted_from_the_form(page, "a smaller step")

    page.get_by_role("link", name="Jobs", exact=True).click()
    for job in (first, second):
        page.locator(f"input[value={job}]").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("row", name=re.compile("^optimizer.lr"))).to_contain_text("0.1")
    expect(page.locator("figure canvas").first).to_be_visible()

    page.get_by_role("link", name="a smaller step").first.click()
    command = page.locator("#paper code").inner_text()
    assert command.startswith("fflab export ")
    folder = tmp_path / "figure-1"
    fflab(lab, *command.replace("DIR", str(folder)).split()[1:], folder=tmp_path)
    assert (folder / "main.tex").exists()
    page.get_by_role("button", name="Make a link for 30 days").click()
    link = page.locator("#shared a").inner_text()
    with faultless_page(browser, lab.http, PATIENCE) as guest:
        read_by_the_co_author(guest, link)


def read_by_the_co_author(guest: Page, link: str) -> None:
    """Who has nothing but the link reads the answer, and takes the parts of the paper."""
    guest.goto(link)
    expect(guest.get_by_role("heading", level=1)).to_have_text("a smaller step")
    expect(guest.locator("#answer")).to_contain_text("Theorem 2")
    chart(guest, "sparsity")
    expect(guest.get_by_role("button", name="Delete")).to_have_count(0)
    for summary in ("Methods", "What to cite, as BibTeX"):
        guest.locator("summary", has_text=summary).click()
    expect(guest.locator("#paper pre").first).to_contain_text("The data set is digits")
    for end, said in PARTS.items():
        with guest.expect_download() as taken:
            guest.locator(f"a[href$='/{end}']").first.click()
        assert said in taken.value.path().read_bytes(), end
    picture = guest.locator("figure[data-name=sparsity] a", has_text="pdf").get_attribute("href")
    assert guest.request.get(str(picture)).body().startswith(b"%PDF")


def test_a_script_with_a_grid_and_its_page(page: Page, lab: Lab) -> None:
    study: dict[str, Any] = {
        "kind": "study",
        "base": TINY,
        "grid": {"optimizer.lr": [0.01, 0.1, 1.0], "network.widths": [[8], [16]]},
    }
    with Client(lab.stack.url) as client:
        job = client.submit(study, name="step size and width", project="thesis")
        page.goto(job.page)
        job.wait(PATIENCE_SECONDS)
        expect(page.locator("#head .state")).to_have_text("succeeded")
        page.get_by_role("link", name="The runs alone").click()
        page.get_by_label("Filter", exact=True).fill("lr>=0.1 state=done")
        page.get_by_role("button", name="Filter").click()
        expect(page.locator("#list tbody tr")).to_have_count(4)
        page.get_by_label("Best run by").select_option("-accuracy")
        page.get_by_role("button", name="Show it").click()
        expect(page.locator("#list tbody tr")).to_have_count(4)  # the filter stays
        best = next(iter(client.jobs(parent=job.id, where="lr>=0.1", sort="-accuracy")))
        expect(page.locator(".best")).to_contain_text(best.label or "")
        page.locator(".best a").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(best.label or "")

        curves = pyarrow.parquet.read_table(io.BytesIO(job.curves_parquet()))
        assert {"optimizer.lr", "network.widths", "epoch", "sparsity"} <= set(curves.column_names)
        rows = csv.DictReader(io.StringIO(client.download(job.id, "result.csv").decode()))
        assert {row["optimizer.lr"] for row in rows} == {"0.01", "0.1", "1.0"}
        table = client.download(job.id, "result.tex", {"rows": "runs"}).decode()
        assert r"\begin{tabular}" in table


def test_the_command_line_from_a_spec_to_a_compiled_paper(lab: Lab, tmp_path: Path) -> None:
    spec = yaml.safe_dump(
        {"kind": "study", "base": TINY, "grid": {"negatives.strategy": ["wrong_label", "hybrid"]}}
    )
    submitted = fflab(
        lab, "submit", "-", "--name", "negatives", "--wait", folder=tmp_path, given=spec
    )
    job_id, *_, last = submitted.stdout.splitlines()
    assert last.startswith("succeeded")
    rows = list(
        csv.DictReader(
            io.StringIO(
                fflab(lab, "result", job_id, "-o", "-", "--rows", "means", folder=tmp_path).stdout
            )
        )
    )
    assert {row["negatives.strategy"] for row in rows} == {"wrong_label", "hybrid"}
    fflab(lab, "result", job_id, "-o", "report.html", folder=tmp_path)
    assert "negatives" in (tmp_path / "report.html").read_text()
    said = fflab(lab, "export", job_id, "--paper", "paper", folder=tmp_path).stdout
    assert "`make -C paper` compiles" in said
    if shutil.which("pdflatex") is None:
        lacking("pdflatex", "none is on PATH")
    compiled = subprocess.run(
        ["make", "-C", "paper"], cwd=tmp_path, capture_output=True, text=True, errors="replace"
    )
    assert compiled.returncode == 0, compiled.stdout[-3000:]
    text = "".join(one.extract_text() for one in pypdf.PdfReader(tmp_path / "paper/main.pdf").pages)
    assert "Methods" in text
    assert "??" not in text, "every reference is found"
