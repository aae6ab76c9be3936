"""What a run with layers of images takes, beside what the estimate says: run as a process of its
own, `python -m benchmarks.conv_cost NAME [SAMPLES]`.
"""

import json
import sys
import time
from typing import Any

import ffengine
from benchmarks.memory import peak
from ffengine.cost import estimate
from ffengine.spec import TrainSpec

LAYERS = [
    {"kind": "conv", "channels": 20, "kernel": 5, "padding": 2},
    {"kind": "pool"},
    {"kind": "conv", "channels": 40, "kernel": 5, "padding": 2},
    {"kind": "pool"},
    {"kind": "conv", "channels": 80, "padding": 1},
    {"kind": "conv", "channels": 80, "padding": 1},
]
RUNS: dict[str, dict[str, Any]] = {
    "training": {},
    "measuring": {"monitor": {"samples": 500, "measures": ["readings"]}},
    "backpropagation": {"evaluation": {"baselines": ["cross_entropy"]}},
}


def spec_of(name: str, samples: int = 2_000) -> TrainSpec:
    """Return one of RUNS: a fifth of DeeperForward's TinyCNN, two epochs."""
    return TrainSpec.model_validate(
        {
            "dataset": {
                "name": "mnist-mini",
                "preprocess": "standardize",
                "train_samples": samples,
                "test_samples": samples // 4,
            },
            "network": {"layers": LAYERS, "bias": True, "init": "torch", "normalize": "layer"},
            "objective": {"name": "class_block"},
            "optimizer": {"name": "adamw", "lr": 0.03},
            "layers": "simultaneous",
            "epochs": 2,
            "batch_size": 100,
            "monitor": {"samples": 100},
            **RUNS[name],
        }
    )


def measured(name: str, samples: int = 2_000) -> dict[str, float]:
    """Return seconds and peak bytes of a run in this process, measured and estimated.

    A short run comes first: what libraries hold for themselves is not the run's.
    """
    ffengine.train(spec_of(name, 200))
    spec = spec_of(name, samples)
    said, before = estimate(spec), peak()
    start, processors = time.perf_counter(), time.process_time()
    ffengine.train(spec)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processors,  # what other processes leave alone
        "estimated_seconds": said.seconds["cpu"],
        "extra_bytes": peak() - before,
        "estimated_bytes": said.peak_memory_bytes,
    }


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], *map(int, sys.argv[2:3]))))
