"""What is shown of runs whose layers learn classes: there is one split, and no goodness."""

import pytest

import ffengine
from ffengine.references import REFERENCES
from ffengine.spec import TrainSpec
from service.results.charts import available, render
from service.results.methods import statements
from service.results.sources import Source

SPEC = TrainSpec.model_validate(
    {
        "dataset": {"train_samples": 100, "validation_samples": 30, "test_samples": 20},
        "network": {"widths": [12, 11], "normalize": "l2"},
        "objective": {"name": "mono_forward"},
        "optimizer": {"name": "adam"},
        "layers": "simultaneous",
        "epochs": 2,
        "batch_size": 50,
        "seeds": [0, 1],
        "monitor": {"accuracy": True, "measures": ["gini", "kurtosis", "spectral_norm", "weights"]},
        "evaluation": {"ensembles": True, "baselines": ["greedy_cross_entropy"]},
    }
)


@pytest.mark.slow
def test_every_chart_that_is_offered_is_drawn() -> None:
    sources = [Source("", ffengine.train(SPEC), SPEC)]
    offered = available(sources)
    assert {"loss", "accuracy", "accuracy_epochs", "sparsity", "theorem2"} <= {*offered}
    assert not {"goodness", "theorem1", "potentials"} & {*offered}
    for name in offered:
        assert render(name, sources, "json")


def test_the_methods_paragraph_says_how_layers_learn() -> None:
    text = " ".join(one.text for one in statements(SPEC, None))
    assert "without negatives and with the objective mono_forward" in text
    assert "gong2025mono" in text
    assert "gong2025mono" in REFERENCES
    assert "largest logit" in text
    for word in ("goodness", "theorem 1", "AUC", "separation"):
        assert word not in text
