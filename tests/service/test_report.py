"""The report: every text is escaped, and its template is installed with the package."""

import html
import re
import tomllib
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

import ffengine
import service
from ffengine.results import Diagnostic
from ffengine.spec import TrainSpec
from service.results import report as module
from service.results.paper_comparison import legend
from service.results.report import report
from service.results.sources import Source
from service.store import Store
from tests.factories import read, submit
from tests.service.samples import provenance, train_result

MARKUP = "<script>alert('&')</script>"


@pytest.mark.slow
def test_no_text_of_a_result_becomes_markup(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Diagnostic(code="a", severity="info", message=MARKUP, suggestion=MARKUP)
    facts = provenance().model_copy(update={"device_name": MARKUP})
    result = train_result().model_copy(update={"diagnostics": (finding,), "provenance": facts})
    job = read(store, submit(store, TrainSpec()).id)
    ended = job.model_copy(update={"name": MARKUP, "finished_at": job.created_at})
    monkeypatch.setattr(module, "what_was_found", lambda drawn: ["One.", f"  Indented {MARKUP}"])
    monkeypatch.setattr(module, "legend", lambda rows: [*legend(rows), MARKUP])
    page = report(ended, [Source(MARKUP, result, TrainSpec())])
    assert "<script" not in page
    escaped = str(html.escape(MARKUP)).replace("&#x27;", "&#39;")
    assert page.count(escaped) >= 8  # title twice, sentence, label, legend, finding twice, device
    assert f'<p class="detail">Indented {escaped}</p>' in page
    assert "<p>One.</p>" in page


def test_a_report_without_charts_and_findings_says_so(store: Store) -> None:
    job = read(store, submit(store, TrainSpec()).id)
    page = report(job.model_copy(update={"finished_at": job.created_at}), [])
    assert "<h2>Charts</h2>" not in page
    assert "<h2>What was found</h2>" not in page
    assert "Nothing stood out." in page
    assert "<h1>train 500 on mnist-mini, 10 epochs</h1>" in page
    assert job.id in page


@pytest.mark.slow
def test_a_report_of_a_small_job_is_a_small_file(store: Store) -> None:
    """Its pictures have text, not outlines of each letter."""
    small = {"name": "digits", "train_samples": 100, "test_samples": 20}
    spec = TrainSpec.model_validate(
        {"dataset": small, "network": {"widths": [8]}, "epochs": 2, "seeds": [0, 1]}
    )
    job = read(store, submit(store, spec).id)
    ended = job.model_copy(update={"finished_at": job.created_at})
    page = report(ended, [Source("", ffengine.train(spec), spec)])
    assert page.count("data:image/svg+xml,") > 10
    assert len(page.encode()) < 400_000
    shown = unquote(page)
    assert ">Sparsity while training</text>" in shown
    assert "glyph-" not in shown
    for drawn in re.findall(r'src="data:image/svg\+xml,([^"]*)"', page):
        ElementTree.fromstring(unquote(html.unescape(drawn)))  # noqa: S314 - it is our own


def test_every_file_of_the_service_is_installed_with_it() -> None:
    root = Path(service.__file__).parent
    settings = tomllib.loads((root.parent / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["service"]
    installed = {path for pattern in patterns for path in root.glob(pattern)}
    assert root / "results" / "report.html" in installed
    others = {
        path
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name[0] != "."
    }
    assert others <= installed
