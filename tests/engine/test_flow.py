"""Flow time against a loop over the steps that training takes."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine.entry import entries, name_of
from ffengine.flow import flow_time, flow_times
from ffengine.layer_updates import Learner
from ffengine.optimizers import SCHEDULES, AnyOptimizer, Sgd
from ffengine.spec import TrainSpec
from tests.engine.specs import spec_of
from tests.examples import examples


@settings(max_examples=examples(80))
@given(
    name=st.sampled_from([name_of(entry, "name") for entry in entries(AnyOptimizer)]),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    lr=st.floats(1e-6, 1e6),
    width=st.integers(2, 5000),
    steps_per_epoch=st.integers(1, 30),
    epochs=st.integers(1, 30),
    data=st.data(),
)
def test_tau_is_the_sum_of_the_step_sizes(
    name: str,
    schedule: str,
    lr: float,
    width: int,
    steps_per_epoch: int,
    epochs: int,
    data: st.DataObject,
) -> None:
    changes: Any = {"name": name, "schedule": schedule, "lr": lr}
    optimizer = TrainSpec.model_validate({"optimizer": changes}).optimizer
    steps = data.draw(st.integers(0, steps_per_epoch * epochs))
    slow = sum(
        (
            Fraction(optimizer.eta(width, 1 + step // steps_per_epoch, epochs))
            for step in range(steps)
        ),
        Fraction(0),
    )
    found = flow_time(optimizer, width, steps, steps_per_epoch=steps_per_epoch, epochs=epochs)
    assert found == pytest.approx(float(slow), rel=1e-14, abs=0)
    ends = flow_times(optimizer, width, steps_per_epoch=steps_per_epoch, epochs=epochs)
    assert len(ends) == epochs + 1
    for epoch, tau in enumerate(ends):
        assert tau == pytest.approx(
            flow_time(
                optimizer,
                width,
                epoch * steps_per_epoch,
                steps_per_epoch=steps_per_epoch,
                epochs=epochs,
            ),
            rel=1e-13,
        )


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
    for steps in range(10):
        assert flow_time(spec.optimizer, 24, steps, steps_per_epoch=3, epochs=3) == pytest.approx(
            sum(taken[:steps]), rel=1e-14
        )


def test_lr_over_width_times_steps() -> None:
    """The first line of the theory: tau = lr * steps / n."""
    assert flow_time(Sgd(lr=3.0), 256, 500, steps_per_epoch=20, epochs=30) == 3.0 * 500 / 256


@pytest.mark.parametrize("steps", [-1, 61])
def test_steps_that_are_not_taken_have_no_flow_time(steps: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 60"):
        flow_time(Sgd(), 10, steps, steps_per_epoch=20, epochs=3)
