"""The weights that a run chose: what is downloaded, drawn and checked of it."""

from dataclasses import replace

import httpx
import pytest
import safetensors.torch
import torch

import ffengine
from ffengine.checkpoint import Checkpoint
from ffengine.results import SelectedRow, TrainResult
from ffengine.spec import TrainSpec
from ffengine.training import EpochReport
from service.artifacts import Artifacts, epoch_name, selected_name
from service.results.weight_figures import reader_of
from service.store import Store
from service.web.dependencies import Resources
from tests.factories import finished, submit

SPEC = TrainSpec.model_validate(
    {
        "dataset": {"train_samples": 100, "validation_samples": 40, "test_samples": 20},
        "network": {"widths": [6, 5], "normalize": "l2"},
        "optimizer": {"name": "adam", "lr": 0.02},
        "epochs": 4,
        "batch_size": 50,
        "select": "best_validation",
        "stop": {"patience": 1},
    }
)


@pytest.fixture(scope="module")
def trained() -> tuple[TrainResult, list[EpochReport], Checkpoint]:
    reports, chosen = list[EpochReport](), list[Checkpoint]()

    def keep(found: Checkpoint, _rows: tuple[SelectedRow, ...]) -> None:
        chosen.append(found)

    result = ffengine.train(SPEC, on_epoch=reports.append, on_selected=keep)  # type: ignore[arg-type]
    return result, reports, chosen[0]


@pytest.fixture
def artifacts(resources: Resources) -> Artifacts:
    return resources.artifacts


@pytest.fixture
def job(
    store: Store, artifacts: Artifacts, trained: tuple[TrainResult, list[EpochReport], Checkpoint]
) -> str:
    """A finished job with all its files."""
    result, reports, chosen = trained
    found = submit(store, SPEC).id
    for report in reports:
        name = epoch_name(report.layers[-1], report.epoch)
        artifacts.put(found, name, replace(report.checkpoint, rows=()).to_bytes())
    newest = max(row.epoch for row in result.selected)
    artifacts.put(found, selected_name(newest), replace(chosen, rows=()).to_bytes())
    finished(store, found, result)
    return found


@pytest.mark.slow
def test_a_download_without_an_epoch_has_the_weights_that_were_chosen(
    client: httpx.Client, job: str, trained: tuple[TrainResult, list[EpochReport], Checkpoint]
) -> None:
    result, reports, chosen = trained
    answer = client.get(f"/v1/jobs/{job}/weights.safetensors")
    assert "selected.safetensors" in answer.headers["content-disposition"]
    tensors = safetensors.torch.load(answer.content)
    for found, own in zip((tensors[name] for name in sorted(tensors)), chosen.weights, strict=True):
        assert torch.equal(found.reshape(own.shape), own)
    last = reports[-1]
    other = client.get(f"/v1/jobs/{job}/weights.safetensors?epoch={last.epoch}&layer=1")
    tensors = safetensors.torch.load(other.content)
    for found, own in zip(
        (tensors[name] for name in sorted(tensors)), last.checkpoint.weights, strict=True
    ):
        assert torch.equal(found.reshape(own.shape), own)
    listed = client.get(f"/v1/jobs/{job}/checkpoints").json()["items"]
    assert len(listed) == len(reports)
    assert max(row.last_epoch for row in result.selected) < SPEC.epochs


def test_charts_of_weights_have_those_that_were_chosen(
    artifacts: Artifacts, job: str, trained: tuple[TrainResult, list[EpochReport], Checkpoint]
) -> None:
    reader = reader_of(artifacts, job, SPEC)
    assert reader is not None
    assert reader.found is not None
    assert reader.found.epoch == max(row.epoch for row in trained[0].selected)
    longest = max(float(unit.norm()) for unit in trained[2].weights[0][0])
    assert reader.found.layers[0].lengths.edges[-1] == pytest.approx(longest, rel=1e-5)


def test_the_form_of_a_check_names_the_last_epoch_that_there_is(
    client: httpx.Client, job: str, trained: tuple[TrainResult, list[EpochReport], Checkpoint]
) -> None:
    page = client.get(f"/new?weights={job}").text
    last = max(row.last_epoch for row in trained[0].selected if row.layer == 0)
    assert (
        f'"epoch": {last}' in page
        or f'"epoch":{last}' in page
        or f"&#34;epoch&#34;: {last}" in page
    )
