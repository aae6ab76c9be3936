"""Flow time against a loop over the steps that training takes."""

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.entry import entries, name_of
from ffengine.flow import flow_of_step, flow_times
from ffengine.layer_updates import Learner
from ffengine.optimizers import SCHEDULES, AnyOptimizer
from ffengine.spec import TrainSpec
from ffengine.step_flow import eta_of_flow, flow_of_eta
from tests.engine.specs import spec_of
from tests.examples import examples


@settings(max_examples=examples(80))
@given(
    name=st.sampled_from([name_of(entry, "name") for entry in entries(AnyOptimizer)]),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    lr=st.floats(1e-6, 1e6),
    width=st.integers(2, 5000),
    samples=st.integers(2, 400),
    batch_size=st.integers(2, 50),
    epochs=st.integers(1, 30),
)
def test_tau_is_the_sum_of_the_step_sizes(
    name: str, schedule: str, lr: float, width: int, samples: int, batch_size: int, epochs: int
) -> None:
    changes: Any = {"name": name, "schedule": schedule, "lr": lr, "scale_lr_by_width": False}
    spec = TrainSpec.model_validate(
        {
            "optimizer": changes,
            "network": {"widths": [width]},
            "epochs": epochs,
            "batch_size": batch_size,
        }
    )
    longer = 10 if name in ("momentum", "nesterov") else 1  # momentum is 0.9
    total, expected = Fraction(0), [0.0]
    for epoch in range(1, epochs + 1):
        for _ in range(0, samples, batch_size):
            total += Fraction(spec.optimizer.eta(width, epoch, epochs)) * longer
        expected.append(float(total))
    assert flow_times(spec, samples) == pytest.approx(expected, rel=1e-12, abs=0)


@settings(max_examples=examples(80))
@given(
    name=st.sampled_from([name_of(entry, "name") for entry in entries(AnyOptimizer)]),
    goodness=st.sampled_from(["sum_squares", "mean_squares", "l1"]),
    decay=st.floats(0, 10),
    width=st.integers(2, 5000),
    eta=st.floats(1e-6, 1e3),
)
def test_a_flow_time_has_its_step_size(
    name: str, goodness: str, decay: float, width: int, eta: float
) -> None:
    spec = TrainSpec.model_validate(
        {
            "optimizer": {"name": name, "weight_decay": decay},
            "objective": {"name": "difference", "goodness": goodness},
        }
    )
    flow = flow_of_eta(spec.optimizer, spec.objective, width, eta)
    if math.isfinite(flow):
        found = eta_of_flow(spec.optimizer, spec.objective, width, flow)
        assert found == pytest.approx(eta, rel=1e-6 / max(1 - eta * decay, 1e-6))
    else:
        assert eta * decay >= 1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_it_is_what_training_does(schedule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[float] = []
    step = Learner.step

    def counted(self: Learner, layers: Any, inputs: Any, epoch: int, *rest: Any) -> None:
        taken.append(self.eta(layers[0], epoch))
        step(self, layers, inputs, epoch, *rest)

    monkeypatch.setattr(Learner, "step", counted)
    spec = spec_of(optimizer={"schedule": schedule})
    ffengine.train(spec)
    assert len(taken) == 9  # 120 samples in batches of 50, three epochs
    expected = [sum(taken[: 3 * epoch]) for epoch in range(4)]
    assert flow_times(spec, 120) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_a_growing_mode_goes_as_far_with_momentum_as_flow_time_says(momentum: float) -> None:
    """One amplitude w with the gradient -2 rate w, in small steps."""
    spec = TrainSpec.model_validate(
        {
            "optimizer": {
                "name": "momentum",
                "lr": 1e-4,
                "momentum": momentum,
                "scale_lr_by_width": False,
            }
        }
    )
    weight, velocity, rate, steps = 1.0, 0.0, 0.6, 20_000
    for _ in range(steps):
        velocity = momentum * velocity + 2 * rate * weight
        weight += 1e-4 * velocity
    tau = steps * flow_of_step(spec, 1)
    assert math.log(weight) == pytest.approx(2 * rate * tau, rel=0.02)


def test_weight_decay_and_means_of_squares_are_counted() -> None:
    """S under decay is that of eta / (1 - eta lambda); a mean of squares has one more 1/n."""
    plain = {"lr": 0.1, "scale_lr_by_width": False}
    spec = TrainSpec.model_validate({"optimizer": plain | {"weight_decay": 2.0}})
    assert flow_of_step(spec, 1) == pytest.approx(0.1 / 0.8)
    means = TrainSpec.model_validate(
        {"optimizer": plain, "objective": {"goodness": "mean_squares"}, "network": {"widths": [50]}}
    )
    assert flow_of_step(means, 1) == pytest.approx(0.1 / 50)
    adam = TrainSpec.model_validate({"optimizer": plain | {"name": "adam"}})
    assert flow_of_step(adam, 1) == 0.1
    beyond = TrainSpec.model_validate({"optimizer": plain | {"weight_decay": 11.0}})
    assert flow_of_step(beyond, 1) == math.inf
