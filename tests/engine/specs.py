"""A small training run, changed where a test needs it."""

from ffengine.spec import TrainSpec

SMALL = {
    "dataset": {"train_samples": 120, "test_samples": 50},
    "network": {"widths": [24]},
    "epochs": 3,
    "batch_size": 50,
    "monitor": {"samples": 80},
}


def spec_of(**changes: object) -> TrainSpec:
    return TrainSpec.model_validate({**SMALL, **changes})
