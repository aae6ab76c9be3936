"""What is shown of runs with layers of images."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from ffengine.spec import TrainSpec
from service.artifacts import Artifacts
from service.results.charts import available, render
from service.results.methods import statements
from service.results.sources import Source
from service.results.weight_figures import WeightReader, reader_of
from service.store import Store
from service.web.dependencies import Resources
from tests.factories import finished, submit
from tests.service.drawn import trained_with_weights

OWNER = "job_" + "0" * 31 + "9"
DOCUMENT: dict[str, Any] = {
    "dataset": {
        "name": "digits",
        "train_samples": 60,
        "validation_samples": 30,
        "test_samples": 20,
    },
    "network": {
        "layers": [
            {"kind": "conv", "channels": 10, "kernel": 3, "stride": 2, "padding": 1},
            {"kind": "pool"},
            {"kind": "dense", "units": 20},
        ],
        "normalize": "group",
    },
    "objective": {"name": "class_block"},
    "layers": "simultaneous",
    "epochs": 2,
    "batch_size": 50,
    "seeds": [0, 1],
    "monitor": {"accuracy": True, "measures": ["gini", "kurtosis", "readings"]},
    "evaluation": {"ensembles": True, "layer_range": True},
}
SPEC = TrainSpec.model_validate(DOCUMENT)


@pytest.mark.slow
def test_every_chart_that_is_offered_is_drawn(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    result = trained_with_weights(SPEC, artifacts, OWNER)
    sources = [Source("", result, SPEC, weights=reader_of(artifacts, OWNER, SPEC))]
    offered = available(sources)
    assert {"loss", "accuracy", "accuracy_epochs", "sparsity", "theorem2"} <= {*offered}
    assert not {"goodness", "theorem1", "deep_theorem2", "deep_agreement"} & {*offered}
    for name in offered:
        assert render(name, sources, "json")
    weights = sources[0].weights
    assert isinstance(weights, WeightReader)
    assert weights.found is not None
    assert len(weights.found.tiles) == 10
    assert weights.found.tiles[0].shape == (3, 3, 3)


def test_the_methods_paragraph_names_each_layer() -> None:
    text = " ".join(one.text for one in statements(SPEC, None))
    assert (
        "a convolution of 10 channels (3 x 3, stride 2, padding 1); a pool by the mean of 2 x 2; "
        "a fully connected layer of 20 units" in text
    )
    assert "within the channels of each class" in text
    assert "whole map" in text


@pytest.mark.slow
def test_every_page_of_a_run_answers(
    client: httpx.Client, store: Store, resources: Resources
) -> None:
    job = submit(store, SPEC).id
    result = trained_with_weights(SPEC, resources.artifacts, job)
    finished(store, job, result)
    for path in (
        "/",
        "/jobs",
        f"/jobs/{job}",
        f"/new?like={job}",
        "/new?preset=tiny-cnn",
        f"/compare?job={job}&job={submit(store).id}",
        f"/v1/jobs/{job}",
        f"/v1/jobs/{job}/report.html",
        f"/v1/jobs/{job}/result.csv?rows=layer_range",
        f"/v1/jobs/{job}/weights.safetensors",
    ):
        assert client.get(path).status_code == 200, path
    estimate = client.post("/v1/estimate", json={"spec": DOCUMENT | {"kind": "train"}})
    assert estimate.status_code == 200
    wide: Any = {**DOCUMENT, "kind": "train", "dataset": {"name": "digits"}}
    wide["network"] = {"layers": [{"kind": "conv", "channels": 10, "kernel": 9}]}
    refused = client.post("/v1/jobs", json={"spec": wide})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/spec/network/layers/0/kernel"
