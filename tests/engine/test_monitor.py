"""Every column of the tidy rows, recomputed slowly in float64 from the definition."""

import math

import pytest
import torch

import ffengine
from ffengine.monitor import paired
from ffengine.network import Network
from ffengine.random_streams import Draws
from ffengine.results import EpochRow
from ffengine.samples import load_samples
from ffengine.spec import TrainSpec
from tests.engine import reference


def gini_of_many(values: torch.Tensor) -> float:
    """The Gini index from the ranks, for more values than have time for each pair."""
    ordered, count = values.abs().sort().values, len(values)
    ranks = torch.arange(1, count + 1)
    return float(((2 * ranks - count - 1) * ordered).sum() / (count * ordered.sum()))


def expected_columns(spec: TrainSpec, split: str) -> dict[str, float]:
    """The row of the first layer at initialisation, by autograd and loops."""
    device, draws = torch.device("cpu"), Draws(spec.seeds)
    train = load_samples(spec.dataset, device).train
    weight = Network.initial(spec.network, 784, draws, device).weights[0][0].double()
    chosen = draws.at("monitor").permutation(len(train))[:, : spec.monitor.samples]
    eta = spec.optimizer.lr / len(weight)
    columns: dict[str, list[torch.Tensor]] = {}
    for number, index in enumerate(chosen.split(spec.batch_size, dim=1)):
        both = paired(spec, train, index, draws, ("monitor-negatives", number), None)[0].double()
        x_pos, x_neg = both[: index.shape[1]], both[index.shape[1] :]
        leaf = weight.clone().requires_grad_()
        goodness = [torch.relu(x @ leaf.T).square() for x in (x_pos, x_neg)]
        if spec.objective.name == "difference":  # type: ignore[attr-defined]
            terms = [-goodness[0].sum(1), goodness[1].sum(1)]
            shown = [g.sum(1) for g in goodness]
        else:
            shown = [g.mean(1) - 2.0 for g in goodness]
            terms = [
                torch.nn.functional.softplus(-shown[0]),
                torch.nn.functional.softplus(shown[1]),
            ]
        (gradient,) = torch.autograd.grad(terms[0].mean() + terms[1].mean(), leaf)
        stepped = weight - eta * gradient
        place = ("positive", "negative").index(split)
        x = (x_pos, x_neg)[place]
        before, after = (reference.sparsity(torch.relu(x @ w.T)) for w in (weight, stepped))
        predicted = reference.sparsity_rate(weight, x, -gradient, "relu") > 0
        lowered = (
            reference.sparsity_rate(
                weight, x, reference.goodness_gradient(weight, [x], [1.0], "relu"), "relu"
            )
            > 0
        )
        for key, values in {
            "sparsity": before,
            "zero_fraction": (x @ weight.T <= 0).double().mean(1),
            "goodness": shown[place].detach(),
            "loss": terms[place].detach(),
            "theorem1_ratio": lowered.double(),
            "theorem2_ratio": predicted.double(),
            "observed_increase_ratio": (after > before).double(),
            "agreement": ((after > before) == predicted).double(),
            "mask_flip_rate": ((x @ weight.T > 0) != (x @ stepped.T > 0)).double().mean(1),
            "treves_rolls": torch.tensor(
                [reference.treves_rolls(h) for h in torch.relu(x @ weight.T).tolist()]
            ),
            "gini": torch.tensor([reference.gini(h) for h in torch.relu(x @ weight.T).tolist()]),
            "kurtosis": torch.tensor(
                [reference.kurtosis(h) for h in torch.relu(x @ weight.T).tolist()]
            ),
            "input_norm": x.norm(dim=1),
            "mean |h|": torch.relu(x @ weight.T).mean(1),
        }.items():
            columns.setdefault(key, []).append(values)
    means = {key: float(torch.cat(values).mean()) for key, values in columns.items()}
    return means | {
        "log_activation": math.log(means.pop("mean |h|")),
        "log_weight_norm": math.log(float(weight.double().norm())),
        "log_spectral_norm": math.log(float(torch.linalg.svdvals(weight.double())[0])),
        "weight_gini": gini_of_many(weight.flatten().double()),
    }


@pytest.mark.parametrize("split", ["positive", "negative"])
@pytest.mark.parametrize("objective", ["difference", "softplus"])
def test_every_column_equals_its_definition(objective: str, split: str) -> None:
    spec = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 300, "test_samples": 10},
            "network": {"widths": [40]},
            "objective": {"name": objective},
            "optimizer": {"lr": 3.0},
            "epochs": 1,
            "batch_size": 100,
            "monitor": {
                "samples": 250,
                "measures": ["gini", "kurtosis", "spectral_norm", "weights"],
            },
            "seeds": [4],
        }
    )
    row = next(row for row in ffengine.train(spec).curves if row.epoch == 0 and row.split == split)
    assert row.samples == 250
    assert row.eta == 3.0 / 40
    counted = {
        "theorem1_ratio",
        "theorem2_ratio",
        "observed_increase_ratio",
        "agreement",
        "mask_flip_rate",
        "zero_fraction",
    }
    for key, value in expected_columns(spec, split).items():
        tolerance = (
            2 / 250 if key in counted else 1e-5 * max(1.0, abs(value))
        )  # float32 products can move a sample across a threshold
        assert getattr(row, key) == pytest.approx(value, abs=tolerance), key


def test_the_difference_objective_weighs_both_splits_by_one() -> None:
    rows = ffengine.train(
        TrainSpec.model_validate(
            {
                "dataset": {"train_samples": 100},
                "epochs": 1,
                "network": {"widths": [10]},
                "batch_size": 30,
            }
        )
    ).curves
    assert all(row.coefficient_sum == pytest.approx(1.0) for row in rows)


def test_theorems_that_are_not_monitored_are_null() -> None:
    spec = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 100},
            "epochs": 1,
            "network": {"widths": [10]},
            "monitor": {"theorems": [2]},
        }
    )
    assert all(
        row.theorem1_ratio is None and row.theorem2_ratio is not None
        for row in ffengine.train(spec).curves
    )


def test_dead_samples_and_units_are_counted_and_left_out() -> None:
    # a step so long in the softplus loss that the negatives' push kills every unit for every sample
    spec = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 100, "test_samples": 10},
            "network": {"widths": [6]},
            "objective": {"name": "softplus", "threshold": -50.0},
            "optimizer": {"lr": 500.0},
            "batch_size": 100,
            "epochs": 2,
        }
    )
    result = ffengine.train(spec)
    last: EpochRow = result.curves[-1]
    assert last.dead_samples == last.samples
    assert last.dead_units == 6
    assert last.sparsity is None
    assert last.theorem2_ratio is None
    assert last.zero_fraction == 1.0
    assert "dead_layer" in {finding.code for finding in result.diagnostics}
