"""Smaller pieces, where memory has run out: the same figures, but for the last bits of margins."""

import torch

import ffengine
from ffengine import margins
from ffengine.piece_sizes import SMALLER, piece, smaller_pieces


def test_pieces_are_smaller_within_the_block_alone() -> None:
    assert piece(1000) == 1000
    with smaller_pieces():
        assert piece(1000) == 1000 // SMALLER
        assert piece(1) == 1
        with smaller_pieces(are_wanted=False):
            assert piece(1000) == 1000
    assert piece(1000) == 1000


def test_figures_of_samples_are_the_same() -> None:
    draws = torch.Generator().manual_seed(1)
    weight = torch.randn(400, 60, generator=draws)
    x = torch.randn(6000, 60, generator=draws)
    h = (x @ weight.T).clamp_min(0)
    whole = ffengine.hoyer_sparsity(h), ffengine.theorem1(weight, x)
    with smaller_pieces():
        sparsity, check = ffengine.hoyer_sparsity(h), ffengine.theorem1(weight, x)
    assert torch.equal(sparsity, whole[0]), "each sample is measured by itself"
    assert torch.allclose(check.margin, whole[1].margin, rtol=1e-4)
    decided = ~(check.undecided | whole[1].undecided)
    assert torch.equal(check.satisfied[decided], whole[1].satisfied[decided])


def test_layers_are_divided_into_more_blocks() -> None:
    weight = torch.empty(64, 2)
    samples = margins.HELD_BYTES // (4 * 64)
    assert len(margins._unit_blocks(weight, samples)) == 1
    with smaller_pieces():
        assert len(margins._unit_blocks(weight, samples)) == 4, "16 units at least"
