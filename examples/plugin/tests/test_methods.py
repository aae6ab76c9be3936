"""The entries keep the contract of fflab's own, and do what they say."""

import math

import pytest
import torch
from fflab_example.methods import Lion, LogSquares

from ffengine.contract import contract


@pytest.mark.parametrize(
    ("catalogue", "name"),
    [("negatives", "speckle"), ("goodness", "log_squares"), ("optimizers", "lion")],
)
def test_it_keeps_the_contract(catalogue: str, name: str) -> None:
    for outcome in contract(catalogue, name):  # as `fflab plugin test fflab-example` does
        assert outcome.passed, f"{outcome.check}: {outcome.found}"


def test_log_squares_is_the_logarithm() -> None:
    value = LogSquares().value(torch.tensor([[3.0, 4.0]]))
    assert float(value) == pytest.approx(math.log(26))


def test_the_first_step_of_lion_is_the_sign_of_the_gradient() -> None:
    weight, descent = torch.zeros(1, 1, 3), torch.tensor([[[2.0, -0.1, 0.0]]])
    step = Lion().direction(weight, descent, Lion().new_state(weight))
    assert step.tolist() == [[[1.0, -1.0, 0.0]]]
