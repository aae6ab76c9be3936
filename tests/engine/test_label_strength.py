"""Preprocessing is fitted on the samples' own inputs, and label inputs follow the data's unit."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.datasets import Datasets
from ffengine.results import TrainResult
from ffengine.samples import LABEL_SHARE, Samples, load_samples
from ffengine.spec import CheckSpec, DatasetSpec, StudySpec, TrainSpec, digest
from ffengine.study import expand, written_out
from tests.examples import examples

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
Y = np.arange(400) % 4
X = (RANDOM.normal(size=(400, 64)) + RANDOM.normal(size=(4, 64))[Y] * 2).astype(np.float32)
PLACES = ["overlay", "append", "every_layer"]
# of specs, before label_strength was a field
DIGESTS = [
    (TrainSpec(), "ac20a6f20c495cc4a42de3b44317bd2dbfcf39bb1c5cd1f22b9ef02bf76030f9"),
    (CheckSpec(), "c1e55259244928ad0ee3cdfae7069591c658f6e5ac61ee6d8d882ced5bb725a5"),
    (DatasetSpec(), "857e3cfe42bc0d0a163a2660cc1015a8b047780607723a7c10d7027106b41b6a"),
    (
        TrainSpec(dataset=DatasetSpec(name="digits", preprocess="center", labels="append")),
        "5d66c3a742598bf6376ac1e085d659e225bb794fe68168931f44fda85262e8a8",
    ),
    (
        written_out(StudySpec(preset="paper")),
        "c74465adf06d3ce682a2d3506f3a4924f019a810828b331243c08eddb2a85fb8",
    ),
]


def keep(datasets: Datasets, name: str, x: np.ndarray, y: np.ndarray = Y) -> None:
    archive = io.BytesIO()
    np.savez(archive, x=x, y=y)
    archive.seek(0)
    datasets.keep(name, archive)


def trained(datasets: Datasets, name: str, *, epochs: int = 5, **dataset: object) -> TrainResult:
    document = {
        "dataset": {"name": name, "preprocess": "standardize", **dataset},
        "network": {"widths": [64]},
        "epochs": epochs,
        "batch_size": 20,
        "monitor": {"samples": 50},
    }
    return ffengine.train(TrainSpec.model_validate(document), datasets=datasets)


def accuracy_of(result: TrainResult) -> float:
    [row] = [row for row in result.accuracy if row.layer is None and row.partition == "test"]
    return row.accuracy


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_standardize_trains_alike_on_x_and_on_a_x_plus_b(place: str, tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    keep(datasets, "celsius", X)
    celsius = trained(datasets, "celsius", labels=place)
    assert accuracy_of(celsius) > 0.9
    for name, x in (
        ("kelvin", X + np.float32(300)),
        ("thousands", X * 1000),
        ("both", X * np.float32(0.01) - 5),
    ):
        keep(datasets, name, x)
        other = trained(datasets, name, labels=place)
        assert accuracy_of(other) == pytest.approx(accuracy_of(celsius), abs=0.026)  # 2 of 80
        for one, same in zip(celsius.curves, other.curves, strict=True):
            assert same.input_norm == pytest.approx(one.input_norm, rel=1e-3)
            if one.epoch <= 1:  # later, training has amplified the rounding
                assert same.goodness == pytest.approx(one.goodness, rel=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_a_unit_that_is_a_power_of_two_gives_the_same_bits(place: str, tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    keep(datasets, "one", X)
    keep(datasets, "other", X * np.float32(1024))
    one, other = (trained(datasets, name, labels=place) for name in ("one", "other"))
    assert one.curves == other.curves
    assert one.accuracy == other.accuracy


@pytest.mark.slow
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    scale=st.floats(1e-3, 1e4),
    offset=st.floats(-300, 300),
    preprocess=st.sampled_from(["standardize", "center"]),
    place=st.sampled_from(PLACES),
)
def test_inputs_follow_the_unit_of_the_data(
    scale: float,
    offset: float,
    preprocess: str,
    place: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    datasets = Datasets(tmp_path_factory.mktemp("data"))
    keep(datasets, "one", X)
    keep(datasets, "other", ((X.astype(np.float64) + offset) * scale).astype(np.float32))
    spec = {"preprocess": preprocess, "labels": place}
    one, other = (
        load_samples(DatasetSpec.model_validate({"name": name, **spec}), CPU, datasets).train
        for name in ("one", "other")
    )
    unit = scale if preprocess == "center" else 1.0
    for inputs, same in ((one.labelled, other.labelled), (one.neutral, other.neutral)):
        assert torch.allclose(inputs * unit, same, atol=1e-3 * unit)


@settings(max_examples=examples(10), deadline=None)
@given(scale=st.floats(1e-3, 1e4), offset=st.floats(-300, 300), place=st.sampled_from(PLACES))
def test_a_standardized_run_is_the_same_whatever_the_unit_of_the_data(
    scale: float, offset: float, place: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    datasets = Datasets(tmp_path_factory.mktemp("data"))
    keep(datasets, "one", X)
    keep(datasets, "other", ((X.astype(np.float64) + offset) * scale).astype(np.float32))
    one, other = (trained(datasets, name, epochs=1, labels=place) for name in ("one", "other"))
    for row, same in zip(one.curves, other.curves, strict=True):
        assert same.input_norm == pytest.approx(row.input_norm, rel=1e-3)
        assert same.goodness == pytest.approx(row.goodness, rel=1e-2)
        assert same.sparsity == pytest.approx(row.sparsity, abs=1e-2)
    assert accuracy_of(other) == pytest.approx(accuracy_of(one), abs=0.05)  # 4 of 80


def own_inputs(samples: Samples) -> tuple[float, float]:
    return float(samples.plain.double().mean()), float(samples.plain.double().std(correction=0))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("preprocess", ["unit", "center", "standardize", "unit_norm"])
def test_label_inputs_are_set_after_preprocessing(
    preprocess: str, place: str, tmp_path: Path
) -> None:
    datasets = Datasets(tmp_path)
    keep(datasets, "mine", X + np.float32(300))
    spec = {"name": "mine", "preprocess": preprocess, "labels": place}
    train, _, test = load_samples(DatasetSpec.model_validate(spec), CPU, datasets)[:3]
    if preprocess == "standardize":
        assert own_inputs(train) == pytest.approx((0, 1), abs=1e-4)
    strength = LABEL_SHARE * float(train.plain.double().square().sum(1).mean().sqrt())
    for samples in (train, test):
        rest = samples.plain[:, 4:] if place == "overlay" else samples.plain
        assert torch.equal(samples.labelled[:, 4:], rest)
        one_hot = torch.nn.functional.one_hot(samples.labels, 4)
        assert torch.allclose(samples.labelled[:, :4], one_hot * strength)
        assert torch.allclose(samples.neutral[:, :4], torch.full((len(samples), 4), strength / 4))


@pytest.mark.slow
def test_a_strength_that_is_given_is_used_of_any_data_set_and_is_in_the_provenance(
    tmp_path: Path,
) -> None:
    datasets = Datasets(tmp_path)
    keep(datasets, "mine", X)
    for name in ("mine", "digits"):
        spec = DatasetSpec(name=name, preprocess="standardize", label_strength=2.5)
        train = load_samples(spec, CPU, datasets).train
        assert float(train.labelled[:, :4].max()) == 2.5
    assert trained(datasets, "mine", label_strength=2.5).provenance.dataset.label_strength == 2.5
    fitted = trained(datasets, "mine").provenance.dataset.label_strength
    assert fitted == pytest.approx(0.8, abs=1e-3)  # a tenth of the root of 64
    assert trained(datasets, "digits", train_samples=60).provenance.dataset.label_strength is None


def test_blank_samples_have_labels_of_strength_one(tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    keep(datasets, "blank", np.zeros_like(X))
    assert load_samples(DatasetSpec(name="blank"), CPU, datasets).train.label_strength == 1.0


def test_a_spec_without_a_strength_keeps_the_digest_that_it_had() -> None:
    for spec, before in DIGESTS:
        assert digest(spec) == before
    text = TrainSpec().model_dump_json()
    for added in (
        '"label_strength":null,',
        '"label_code":"one_hot",',
        ',"negative_threshold":null',
        ',"collaboration":null',
        ',"unit":"steps","lr_ratio":1.0,"own_states":false',
        '"phases":{"positive_steps":0,"negative_steps":0},',
        '"decomposition":[],',
        '"accuracy":false,',
        '"select":"last","stop":null,',
        ',"usage":false,"selectivity":false,"lesions":null',
        ',"layer_range":false',
        ',"ood":null',
        ',"held_out_classes":[]',
        '"layers":[],',
        ',"label_gains":[]',
    ):
        text = text.replace(added, "")
    assert digest(TrainSpec()) == hashlib.sha256(text.encode()).hexdigest()
    assert digest(TrainSpec(dataset=DatasetSpec(label_strength=1.0))) != digest(TrainSpec())
    assert "label_strength" in written_out(StudySpec()).model_dump_json()


def test_a_grid_may_vary_the_strength() -> None:
    cells = expand(StudySpec(grid={"dataset.label_strength": [None, 0.5, 2]}))
    assert [cell.spec.dataset.label_strength for cell in cells] == [None, 0.5, 2.0]
