"""Resume is invisible: for every entry of every catalogue, a run that is interrupted anywhere ends
with the bits of one that was not.
"""

from typing import Any

import pytest

import ffengine
from ffengine.activations import ACTIVATIONS
from ffengine.baselines import BaselineName
from ffengine.checkpoint import Position, fraction_done
from ffengine.datasets import DATASETS
from ffengine.entry import entries, name_of
from ffengine.inits import INITS
from ffengine.negatives import AnyNegatives, NoNegatives
from ffengine.objectives import AnyObjective, GoodnessEntry, Objective
from ffengine.optimizers import SCHEDULES, AnyOptimizer
from ffengine.spec import TrainSpec
from tests.engine.interrupted import stopped_every

SMALL: dict[str, Any] = {
    "dataset": {"train_samples": 100, "test_samples": 30},
    "network": {"widths": [14, 9], "normalize": "l2"},
    "optimizer": {"lr": 0.02},
    "epochs": 2,
    "batch_size": 30,
    "monitor": {"samples": 40},
    "seeds": [3, 8],
}
CHANGES: dict[str, dict[str, Any]] = {
    **{
        f"objective {name_of(entry, 'name')}": {"objective": {"name": name_of(entry, "name")}}
        for entry in entries(AnyObjective)
        if issubclass(entry, Objective)  # of those over classes see test_multi_class.py
    },
    "peer normalisation": {"objective": {"name": "softplus", "peer_normalization": 0.1}},
    **{
        f"goodness {name_of(entry, 'name')}": {
            "objective": {"name": "softplus", "goodness": name_of(entry, "name")}
        }
        for entry in entries(GoodnessEntry)
    },
    **{
        f"optimiser {name_of(entry, 'name')} {schedule}": {
            "optimizer": {
                "name": name_of(entry, "name"),
                "lr": 0.01,
                "schedule": schedule,
                "weight_decay": 0.01,
            }
        }
        for entry in entries(AnyOptimizer)
        for schedule in SCHEDULES
    },
    **{
        f"negatives {name_of(entry, 'strategy')} {redraw}": {
            "negatives": {"strategy": name_of(entry, "strategy"), "redraw": redraw}
        }
        for entry in entries(AnyNegatives)
        if entry is not NoNegatives
        for redraw in ("every_epoch", "once")
    },
    **{
        f"activation {name}": {
            "network": {"widths": [14, 9], "activation": name, "normalize": "rms"}
        }
        for name in ACTIVATIONS
    },
    **{
        f"init {name}": {"network": {"widths": [14, 9], "init": name, "bias": True}}
        for name in INITS
    },
    "simultaneous layers": {"layers": "simultaneous"},
    **{
        f"phases of {positive} and {negative} steps": {
            "phases": {"positive_steps": positive, "negative_steps": negative}
        }
        for positive, negative in ((3, 2), (1, 0), (0, 1))
    },
    "phases of epochs, two thresholds": {
        "phases": {"positive_steps": 1, "negative_steps": 1, "unit": "epochs", "lr_ratio": 0.5},
        "objective": {"name": "softplus", "threshold": 2.0, "negative_threshold": 0.5},
    },
    "phases with a state each": {
        "phases": {"positive_steps": 3, "negative_steps": 2, "own_states": True},
        "optimizer": {"name": "adam", "lr": 0.01},
        "layers": "simultaneous",
        "evaluation": {"baselines": ["ff_objective", "cross_entropy"]},
    },
    "layers of two halves": {
        "layers": "simultaneous",
        "network": {"widths": [14, 9], "normalize": "halves"},
        "objective": {"name": "polar", "form": "symmetric", "goodness": {"name": "top_k", "k": 3}},
    },
    "layers that collaborate": {
        "layers": "simultaneous",
        "objective": {"name": "softplus", "collaboration": {"of": "others"}},
    },
    **{
        f"labels {code} {redraw}": {
            "dataset": {**SMALL["dataset"], "label_code": code},
            "negatives": {"strategy": "wrong_label", "redraw": redraw},
            "monitor": {"samples": 40, "accuracy": True},
        }
        for code in ("random", "fourier")
        for redraw in ("every_epoch", "once")
    },
    "labels fourier, asked": {
        "dataset": {**SMALL["dataset"], "label_code": "fourier"},
        "negatives": {"strategy": "sampled_label"},
    },
    "rescaled": {"optimizer": {"lr": 1e5}},
    **{f"baseline {name}": {"evaluation": {"baselines": [name]}} for name in BaselineName.__args__},
    "baselines that are tuned": {
        "dataset": {**SMALL["dataset"], "validation_samples": 40},
        "evaluation": {
            "baselines": [
                {"name": "cross_entropy", "optimizer": {"name": "adam"}, "rates": [0.1, 0.01]},
                {"name": "greedy_cross_entropy", "epochs": 2, "select": "best_validation"},
            ]
        },
    },
}

# each strategy and optimiser has a case with the usual ones; functions have nothing to remember
SELDOM = {"once", *list(SCHEDULES)[1:], "activation", "init", "goodness"}


def spec_of(change: dict[str, Any]) -> TrainSpec | None:
    """The small spec with a change; None where the entry says that the two do not go together."""
    try:
        return TrainSpec.model_validate({**SMALL, **change})
    except ValueError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.soak) if SELDOM & {*name.split()} else name
        for name in CHANGES
    ],
)
def test_an_interrupted_run_ends_with_the_same_bits(name: str) -> None:
    spec = spec_of(CHANGES[name])
    if spec is None:
        assert "once" in name, "only strategies that ask the network refuse to be drawn once"
        return
    whole = ffengine.train(spec).model_dump(exclude={"provenance"})
    resumed, stops = stopped_every(spec, 3)
    assert stops >= 2
    assert resumed.model_dump(exclude={"provenance"}) == whole


@pytest.mark.parametrize(
    ("layers", "position", "fraction"),
    [
        ("greedy", Position(0, 0, 0), 0.0),  # the measurement before the first step
        ("greedy", Position(0, 1, 2), 2 / 4 / 4),
        ("greedy", Position(0, 2, 0), 1 / 4),
        ("greedy", Position(1, 0, 0), 2 / 4),
        ("greedy", Position(1, 2, 4), 1.0),
        ("greedy", Position(2, 0, 0), 1.0),  # after the last stage
        ("simultaneous", Position(0, 2, 1), (1 + 1 / 4) / 2),
    ],
)
def test_the_fraction_done_counts_the_epochs_of_all_stages(
    layers: str, position: Position, fraction: float
) -> None:
    spec = TrainSpec.model_validate({**SMALL, "layers": layers})  # 2 layers, 2 epochs, 4 batches
    assert fraction_done(spec, DATASETS[spec.dataset.name], position) == pytest.approx(
        fraction, abs=1e-15
    )
