"""The entries keep the contract of fflab's own, and do what they say."""

import math

import pytest
import torch
from fflab_example.methods import Lion, LogSquares, SoftBlock

from ffengine.contract import contract


@pytest.mark.parametrize(
    ("catalogue", "name"),
    [
        ("negatives", "speckle"),
        ("goodness", "log_squares"),
        ("objectives", "soft_block"),
        ("optimizers", "lion"),
    ],
)
def test_it_keeps_the_contract(catalogue: str, name: str) -> None:
    for outcome in contract(catalogue, name):  # as `fflab plugin test fflab-example` does
        assert outcome.passed, f"{outcome.check}: {outcome.found}"


def test_log_squares_is_the_logarithm() -> None:
    value = LogSquares().value(torch.tensor([[3.0, 4.0]]))
    assert float(value) == pytest.approx(math.log(26))


def test_a_soft_block_has_the_logarithm_of_the_mean_exponential() -> None:
    h = torch.tensor([[[1.0, 2.0, 5.0]]])
    found = SoftBlock().logits(h, 2, None, torch.bmm)[0, 0].tolist()
    assert found == pytest.approx([math.log((math.e + math.e**2) / 2), 5.0])


def test_the_first_step_of_lion_is_the_sign_of_the_gradient() -> None:
    weight, descent = torch.zeros(1, 1, 3), torch.tensor([[[2.0, -0.1, 0.0]]])
    step = Lion().direction(weight, descent, Lion().new_state(weight))
    assert step.tolist() == [[[1.0, -1.0, 0.0]]]
