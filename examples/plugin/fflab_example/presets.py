"""A ready-made study, which `fflab submit lion-rates` submits."""

LION_RATES = {
    "meaning": "Lion at three learning rates, with negatives that are speckled positives.",
    "spec": {
        "kind": "study",
        "base": {
            "kind": "train",
            "dataset": {"name": "mnist-mini", "train_samples": 1000, "test_samples": 200},
            "network": {"widths": [100]},
            "negatives": {"strategy": "speckle"},
            "optimizer": {"name": "lion"},
            "epochs": 3,
            "seeds": [0, 1],
        },
        "grid": {"optimizer.lr": [0.0003, 0.001, 0.003]},
    },
}
