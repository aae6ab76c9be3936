"""Threads that wait for one another spin only a short while, unless the user wants otherwise."""

import os
import subprocess
import sys

import pytest

from ffengine.thread_waiting import ASKED_FOR, SPINS

SHOW = "import os; print(os.environ.get('GOMP_SPINCOUNT'))"


def ran(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ASKED_FOR}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "environment", "spins"),
    [
        ("import ffengine", {}, SPINS),
        ("from ffengine import train", {}, SPINS),
        ("import ffengine", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("import ffengine", {"OMP_WAIT_POLICY": "active"}, "None"),
        ("import torch, ffengine", {}, "None"),
    ],
)
def test_the_bound_is_set_before_torch_is_loaded_and_never_over_a_choice(
    before: str, environment: dict[str, str], spins: str
) -> None:
    assert ran(f"{before}\n{SHOW}", **environment).stdout.strip() == spins


@pytest.mark.slow
def test_the_openmp_of_torch_obeys_the_bound() -> None:
    shown = ran("import ffengine; ffengine.train", OMP_DISPLAY_ENV="verbose").stderr
    if "GOMP" not in shown:
        pytest.skip("torch is built with another OpenMP than GNU's")
    assert f"GOMP_SPINCOUNT = '{SPINS}'" in shown
