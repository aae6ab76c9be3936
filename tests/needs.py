"""What some tests need of the machine: without it they are skipped and counted, or fail where all
of it is required.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable
from typing import NoReturn

import pytest

PACKAGES = {"Chromium": "chromium", "PostgreSQL": "postgresql", "Redis": "redis-server"}
ALL_OF_MNIST, FETCH_MNIST = "all of MNIST", ".venv/bin/fflab data fetch mnist"
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
    fetch = [FETCH_MNIST] if ALL_OF_MNIST in found else []
    command = " && ".join([*install, *fetch])
    return f"{found.total()} tests skipped: {parts}." + (
        f" To run them: {command}" if command else ""
    )
