"""The fault bench: a minute of it loses nothing, and it finds out when a safeguard is missing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.waiting import PROGRAM_SECONDS

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2 * PROGRAM_SECONDS)]


def bench(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.faults", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=2 * PROGRAM_SECONDS,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.usefixtures("redis_server")
def test_a_minute_of_faults_loses_nothing() -> None:
    code, found = bench("--minutes", "1", "--seed", "1")
    assert found["violations"] == []
    assert code == 0
    assert found["faults"] >= 5
    assert found["accepted"] == found["succeeded"] + found["cancelled"] + found["queued"]


@pytest.mark.usefixtures("redis_server")
def test_the_audit_finds_that_nobody_takes_back_expired_leases() -> None:
    # time for several deaths, so that a busy machine has one in the middle of a job, too
    weakened = ("--weaken", "no-reconciler", "--still", "30")
    code, found = bench(
        "--minutes", "1.2", "--seed", "1", *weakened, "--faults", "worker tree killed"
    )
    assert code == 1
    assert any("is stuck" in violation for violation in found["violations"])
    assert any("has a lease left" in violation for violation in found["violations"])
