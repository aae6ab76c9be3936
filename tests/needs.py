"""What some tests need of the machine: without it they are skipped and counted, or fail where all
of it is required.
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "Chromium": "chromium",
    "PostgreSQL": "postgresql",
    "Redis": "redis-server",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "pdflatex": "texlive-latex-base texlive-latex-recommended",
    "promtool": "prometheus",
}
SOAK_PROGRAMS = "programs of soak tests"
COMMANDS = {
    SOAK_PROGRAMS: "make soak-programs",
}
PROGRAMS = Path(__file__).parents[1] / ".venv-soak"
WITHOUT = re.compile(r"without (.+?): ")
REQUIRED = any(
    os.environ.get(name, "").lower() not in ("", "0", "false")
    for name in ("CI", "FFLAB_REQUIRE_ALL")
)


def lacking(what: str, reason: str) -> NoReturn:
    """Skip the test because something is missing; fail it where everything is required."""
    said = f"without {what}: {reason}"
    if REQUIRED:
        pytest.fail(said, pytrace=False)
    pytest.skip(said)


def program(path: str) -> Path:
    """A file of the environment of programs that soak tests run."""
    if not (PROGRAMS / ".ready").exists():
        lacking(SOAK_PROGRAMS, f"there is no {PROGRAMS.name}/")
    return PROGRAMS / path


def latex_of(folder: Path, preamble: str, body: str, *, bib: str) -> Path:
    """Compile an article with pdfLaTeX and BibTeX, and return the PDF; skip where there is none."""
    if shutil.which("pdflatex") is None:
        lacking("pdflatex", "none is on PATH")
    (folder / "main.tex").write_text(
        rf"\documentclass{{article}}{preamble}\begin{{document}}{body}\end{{document}}", "ascii"
    )
    (folder / "references.bib").write_text(bib)
    pdflatex = [
        "pdflatex",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        "main",
    ]
    for command in (pdflatex, ["bibtex", "main"], pdflatex, pdflatex):
        done = subprocess.run(command, cwd=folder, capture_output=True, errors="replace", text=True)
        assert done.returncode == 0, done.stdout[-3000:]
    assert "undefined" not in done.stdout, done.stdout[-3000:]
    return folder / "main.pdf"


def summary(reasons: Iterable[str]) -> str | None:
    """One line about the tests that were skipped: how many, what was missing, and the command
    that installs it.
    """
    found = Counter(match[1] for reason in reasons if (match := WITHOUT.search(reason)))
    if not found:
        return None
    parts = ", ".join(f"{count} without {what}" for what, count in found.most_common())
    packages = [package for what, package in PACKAGES.items() if what in found]
    install = [f"apt-get install {' '.join(packages)}"] if packages else []
    others = [command for what, command in COMMANDS.items() if what in found]
    command = " && ".join([*install, *others])
    return f"{found.total()} tests skipped: {parts}." + (
        f" To run them: {command}" if command else ""
    )
