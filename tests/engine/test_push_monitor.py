"""Who pushes while training: against autograd and double loops, at the epochs that are named."""

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

import ffengine
from ffengine.advice import advice_on
from ffengine.checkpoint import Checkpoint
from ffengine.datasets import Datasets
from ffengine.decomposition import exact_pushes, pair_angles
from ffengine.interrupts import Control, Interrupted
from ffengine.monitor import paired
from ffengine.network import Network
from ffengine.objectives import AnyObjective
from ffengine.push_monitor import gradient_coefficients, sample_pictures
from ffengine.random_streams import Draws
from ffengine.results import PushedSample, PushRow, TrainResult
from ffengine.samples import load_samples
from ffengine.spec import DatasetSpec, TrainSpec, digest
from ffengine.training import EpochReport
from tests.engine.reference import SIGMA, margin_of_rate, pair_loss, sparsity_rate
from tests.service.arrays import npz

SMALL: dict[str, Any] = {
    "dataset": {"train_samples": 100, "test_samples": 30},
    "network": {"widths": [14, 9], "normalize": "l2"},
    "objective": {"name": "softplus", "threshold": 1.0},
    "optimizer": {"lr": 0.02},
    "epochs": 3,
    "batch_size": 30,
    "monitor": {"samples": 40, "decomposition": [0, 1, 3]},
    "seeds": [3, 8],
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "difference": {"name": "difference"},
    "difference of means": {"name": "difference", "goodness": "mean_squares"},
    "softplus": {"name": "softplus", "threshold": 0.7, "goodness": "mean_squares"},
    "symba": {"name": "symba", "alpha": 2.0},
}


def layer(seed: int, pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return weight, torch.rand(2 * pairs, 5, generator=generator, dtype=torch.float64) - 0.1


@pytest.mark.parametrize("name", OBJECTIVES)
@given(seed=st.integers(0, 2**31), pairs=st.integers(2, 6))
def test_pushes_add_up_to_what_autograd_finds_along_the_gradient(
    name: str, seed: int, pairs: int
) -> None:
    objective: Any = TypeAdapter(AnyObjective).validate_python(OBJECTIVES[name])
    weight, x = layer(seed, pairs)
    leaf = weight.clone().requires_grad_()
    h = SIGMA["relu"](x @ leaf.T)
    squares = h.square().sum(1)
    mean = objective.goodness.name == "mean_squares"
    goodness = (squares / 7 if mean else squares) - (0.7 if name == "softplus" else 0.0)
    loss = pair_loss(objective.model_dump(), *goodness.chunk(2)).sum()
    gradient, s_of_loss = torch.autograd.grad(loss, [leaf, goodness])
    live = h.detach().sum(1) > 0
    rate = sparsity_rate(weight, x[live], -gradient, "relu")
    expected = margin_of_rate(weight, x[live], rate, "relu")
    s = gradient_coefficients(objective, weight, x)
    pushes = exact_pushes(weight, *x.chunk(2), coefficients=s)
    assert float(s.abs().mean()) == pytest.approx(1)
    unit = float(s_of_loss.abs().mean()) / (7 if mean else 1)
    assert torch.allclose(pushes[live].sum(1) * unit, expected, rtol=1e-8, atol=1e-9)


@given(seed=st.integers(0, 2**31), pairs=st.integers(1, 5))
def test_the_angle_of_a_pair_is_that_of_its_mean(seed: int, pairs: int) -> None:
    _, x = layer(seed, pairs)
    angles = pair_angles(*x.chunk(2))
    for k, x_k in enumerate(x.tolist()):
        for i in range(pairs):
            mean = [(a + b) / 2 for a, b in zip(x[i].tolist(), x[pairs + i].tolist(), strict=True)]
            product = math.fsum(a * b for a, b in zip(mean, x_k, strict=True))
            cosine = product / math.hypot(*mean) / math.hypot(*x_k)
            assert math.cos(math.radians(float(angles[k, i]))) == pytest.approx(cosine, abs=1e-9)


def result_of(**changes: Any) -> TrainResult:
    return ffengine.train(TrainSpec.model_validate({**SMALL, **changes}))


@pytest.mark.slow
def test_rows_are_those_of_the_named_epochs_with_flow_time_and_act() -> None:
    result = result_of()
    keys = [(row.layer, row.epoch, row.seed) for row in result.decomposition]
    assert sorted(set(keys)) == [
        (n, epoch, seed) for n in (0, 1) for epoch in (0, 1, 3) for seed in (3, 8)
    ]
    assert len(keys) == len(set(keys)) * 2 * 5
    measured = {(row.layer, row.epoch, row.seed, row.split): row for row in result.curves}
    for row in result.decomposition:
        of_epoch = measured[row.layer, row.epoch, row.seed, row.split]
        assert (row.tau, row.act) == (of_epoch.tau, of_epoch.act)
        assert row.push == pytest.approx(math.fsum(row.by_angle), abs=1e-9)
        assert sum(row.pairs_by_angle) == row.pairs
    assert {one.seed for one in result.most_pushed} == {3}
    assert result_of(monitor={"samples": 40}).decomposition == ()


def first_batch(spec: TrainSpec) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights at initialisation of the first seed, its monitored pairs, and their images."""
    train = load_samples(spec.dataset, torch.device("cpu")).train
    draws = Draws(spec.seeds, torch.device("cpu"))
    index = draws.at("monitor").permutation(len(train))[:, :30]
    x = paired(spec, train, index, draws, ("monitor-negatives", 0), None)
    network = Network.initial(spec.network, x.shape[-1], draws, torch.device("cpu"))
    return network.weights[0][0], network.layer_input(0, x)[0], index[0]


@pytest.mark.slow
def test_the_most_pushed_samples_and_their_pushers_are_found_by_loops() -> None:
    spec = TrainSpec.model_validate({**SMALL, "objective": {"name": "difference"}})
    weight, x, images = first_batch(spec)
    h = torch.relu(x.double() @ weight.double().T)

    def push_of(i: int, k: int) -> float:
        cosines = h[i] @ (h[k] > 0).double() / h[k].sum() - h[i] @ h[k] / (h[k] @ h[k])
        return float(2 * (x[i].double() @ x[k].double()) * cosines)

    table = [[push_of(30 + i, k) - push_of(i, k) for i in range(30)] for k in range(60)]
    found = [one for one in ffengine.train(spec).most_pushed if (one.epoch, one.layer) == (0, 0)]
    for split, first in (("positive", 0), ("negative", 30)):
        margins = [math.fsum(table[first + k]) for k in range(30)]
        mean = math.fsum(margins) / 30
        spread = math.sqrt(math.fsum((m - mean) ** 2 for m in margins) / 30)
        order = [k for k in sorted(range(30), key=margins.__getitem__)[:4] if margins[k] < 0]
        of_split = [one for one in found if one.split == split]
        assert [one.sample for one in of_split] == [int(images[k]) for k in order]
        for one, k in zip(of_split, order, strict=True):
            assert one.margin == pytest.approx(margins[k] / spread, rel=1e-5)
            pushes = table[first + k]
            named = [i for i in sorted(range(30), key=pushes.__getitem__)[:4] if pushes[i] < 0]
            assert [by.sample for by in one.pushers] == [int(images[i]) for i in named]
            expected = [pushes[i] / spread for i in named]
            assert [by.push for by in one.pushers] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layers", ["greedy", "simultaneous"])
def test_a_run_that_goes_on_from_each_epoch_has_the_same_rows(layers: str) -> None:
    spec = TrainSpec.model_validate({**SMALL, "layers": layers})
    whole = ffengine.train(spec).model_dump(exclude={"provenance"})
    resume: Checkpoint | None = None
    for _ in range(100):
        begun: list[EpochReport] = []

        def stop_at_the_first(report: EpochReport, begun: list[EpochReport] = begun) -> Control:
            begun.append(report)
            return "stop"

        try:
            found = ffengine.train(spec, on_epoch=stop_at_the_first, resume=resume)
        except Interrupted as stopped:
            resume = stopped.checkpoint and Checkpoint.from_bytes(stopped.checkpoint.to_bytes())
            continue
        break
    assert found.model_dump(exclude={"provenance"}) == whole
    assert resume is not None
    assert not any(resume.without_weights.decomposition)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"monitor": {"decomposition": [1], "every_epochs": 2}}, r"\[1\] are not measured"),
        ({"monitor": {"decomposition": [1, 1]}}, "once"),
        ({"network": {"widths": [9], "activation": "tanh"}}, "the activation relu"),
        ({"network": {"widths": [9], "pass_dead_units": True}}, "pass_dead_units false"),
        ({"objective": {"name": "softplus", "goodness": "l2"}}, "the goodness sum_squares or"),
        ({"objective": {"name": "softplus", "peer_normalization": 0.1}}, "peer_normalization 0"),
        ({"negatives": {"strategy": "noise"}}, "under another label"),
        ({"phases": {"positive_steps": 1, "negative_steps": 1}}, "without phases"),
        (
            {"batch_size": 5_000, "monitor": {"samples": 5_000, "decomposition": [0]}},
            "a batch_size of at most 2000",
        ),
    ],
)
def test_what_cannot_be_decomposed_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=f"decomposition.*{message}"):
        TrainSpec.model_validate({**SMALL, **change})


def test_epochs_beyond_the_end_are_left_out_and_named() -> None:
    document = {**SMALL, "epochs": 1, "monitor": {"samples": 40, "decomposition": [0, 1, 3, 9]}}
    result = ffengine.train(TrainSpec.model_validate(document))
    assert {row.epoch for row in result.decomposition} == {0, 1}
    (cut,) = [found for found in result.diagnostics if found.code == "decomposition_cut"]
    assert cut.message == (
        "The run ends at epoch 1: the later epochs of monitor.decomposition (3, 9) are left out."
    )
    assert cut.code in [
        one.code
        for one in advice_on([TrainSpec.model_validate(document)], Datasets.of_environment())
    ]


def test_a_run_that_decomposes_nothing_keeps_its_digest() -> None:
    text = TrainSpec().model_dump_json()
    assert text.count('"decomposition":[],') == 1
    named = TrainSpec.model_validate({"monitor": {"decomposition": [0]}})
    assert digest(named) != digest(TrainSpec())


def uploaded(folder: Path, x: np.ndarray) -> Datasets:
    datasets = Datasets(folder, folder / "datasets")
    datasets.keep("mine", io.BytesIO(npz(x=x, y=np.arange(len(x)) % 3)))
    return datasets


def pushed(sample: int) -> PushedSample:
    return PushedSample(
        seed=0,
        layer=0,
        epoch=0,
        split="positive",
        sample=sample,
        image_class=0,
        label=0,
        margin=-1.0,
        pushers=(),
    )


def test_pictures_are_the_images_of_samples_that_have_some(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    train = load_samples(DatasetSpec(), cpu).train
    two = sample_pictures(train, [pushed(7), pushed(2), pushed(7)])
    assert [picture.sample for picture in two] == [2, 7]
    pixels = np.frombuffer(base64.b64decode(two[1].pixels), np.uint8).reshape(two[1].shape)
    assert np.array_equal(pixels, train.image(7).numpy())
    values = np.random.default_rng(0).random((60, 3, 70, 65), np.float32)
    spec = DatasetSpec(name="mine", train_samples=30, test_samples=20)
    large = load_samples(spec, cpu, uploaded(tmp_path / "large", values)).train
    (picture,) = sample_pictures(large, [pushed(3)])
    assert picture.shape == (3, 24, 22)
    drawn = np.frombuffer(base64.b64decode(picture.pixels), np.uint8)
    assert (drawn.min(), drawn.max()) == (0, 255)
    flat = uploaded(tmp_path / "flat", values.reshape(60, -1)[:, :12])
    assert sample_pictures(load_samples(spec, cpu, flat).train, [pushed(3)]) == ()


@pytest.mark.slow
def test_results_of_earlier_versions_stay_readable() -> None:
    row = result_of().decomposition[0].model_dump()
    for added in ("by_angle", "pairs_by_angle", "tau", "act"):
        del row[added]
    assert PushRow.model_validate(row).by_angle == ()
