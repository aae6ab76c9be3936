"""The estimate of runs with layers of images beside what they do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

import ffengine
from benchmarks.conv_cost import RUNS, spec_of
from ffengine.cost import estimate

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_operations_are_those_that_torch_counts(name: str) -> None:
    spec = spec_of(name, 300)
    with FlopCounterMode(display=False) as counter:
        ffengine.train(spec)
    ratio = counter.get_total_flops() / estimate(spec).flops
    assert 0.5 < ratio < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_needs_no_more_memory_than_its_estimate(name: str) -> None:
    command = [sys.executable, "-m", "benchmarks.conv_cost", name, "600"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 0 < found["extra_bytes"] <= found["estimated_bytes"]
    assert found["estimated_seconds"] > 1
