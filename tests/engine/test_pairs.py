"""The shared products of a positive and its relabelled negative are the products of the two."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ffengine.pairs import AnyPairs, Pairs, RelabelledPairs


@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.integers(1, 8),
    st.integers(2, 12),
    st.integers(1, 6),
    st.data(),
)
def test_relabelled_pairs_are_the_pairs_that_they_stand_for(
    seed: int, replicas: int, batch: int, inputs: int, width: int, data: st.DataObject
) -> None:
    classes = data.draw(st.integers(2, inputs))
    generator = torch.Generator().manual_seed(seed)
    own, wrong = (
        torch.randint(classes, (replicas, batch, 1), generator=generator) for _ in range(2)
    )
    x = torch.randn(replicas, batch, inputs, generator=generator, dtype=torch.float64)
    x[..., :classes] = torch.zeros(replicas, batch, classes, dtype=torch.float64).scatter(
        -1, own, 1.0
    )
    negative = x.clone()
    negative[..., :classes] = torch.zeros(replicas, batch, classes, dtype=torch.float64).scatter(
        -1, wrong, 1.0
    )
    whole = Pairs(torch.cat([x, negative], dim=1))
    shared = RelabelledPairs(x, negative[..., :classes] - x[..., :classes])

    weight = torch.randn(replicas, width, inputs, generator=generator, dtype=torch.float64)
    pull = torch.randn(replicas, 2 * batch, width, generator=generator, dtype=torch.float64)
    for pairs in (whole, shared):
        one, other = pairs.split()
        assert torch.allclose(one, x)
        assert torch.allclose(other, negative)
        assert torch.allclose(pairs.lengths(), whole.x.square().sum(-1).sqrt())
        assert torch.allclose(
            pairs.times(weight, torch.bmm), torch.einsum("rbm,rnm->rbn", whole.x, weight)
        )
        assert torch.allclose(
            pairs.gathered(pull, torch.bmm), torch.einsum("rbn,rbm->rnm", pull, whole.x)
        )


def relabelled(replicas: int, batch: int, shared: bool) -> RelabelledPairs:
    """Pairs whose numbers tell them apart."""
    x = torch.arange(batch * 5.0).reshape(1, batch, 5)
    change = torch.randn(replicas, batch, 3, generator=torch.Generator().manual_seed(1))
    own = x + torch.arange(replicas).reshape(-1, 1, 1) * 100
    return RelabelledPairs(x if shared else own, change)


def both(pairs: AnyPairs) -> torch.Tensor:
    """(R, 2, B, m)."""
    return torch.stack(pairs.split(), dim=1)


@given(
    st.integers(1, 3),
    st.integers(1, 30),
    st.booleans(),
    st.booleans(),
    st.integers(1, 40),
    st.integers(0, 2**31),
)
def test_pieces_and_choices_are_rows_of_both_splits(
    replicas: int, batch: int, shared: bool, copied: bool, size: int, seed: int
) -> None:
    held = relabelled(replicas, batch, shared)
    assert held.batch_size == batch
    whole = both(held.of_replicas(replicas))
    pairs = Pairs(whole.flatten(1, 2)) if copied else held
    pieces = list(pairs.of_replicas(replicas).pieces(size))
    assert all(piece.batch_size <= size for piece in pieces)
    assert torch.equal(torch.cat([both(piece) for piece in pieces], dim=2), whole)
    index = torch.randint(batch, (replicas, 4), generator=torch.Generator().manual_seed(seed))
    chosen = both(pairs.some(index))
    for replica in range(replicas):
        assert torch.equal(chosen[replica], whole[replica][:, index[replica]])
