"""Watching a loop that somebody else wrote: its figures against double loops, and its bits."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from ffengine import watch
from ffengine.results import RecordedRow
from ffengine.watching import Watch


def slow_sparsity(h: Sequence[float]) -> float | None:
    l1, l2 = sum(abs(v) for v in h), math.sqrt(sum(v * v for v in h))
    n = len(h)
    return (math.sqrt(n) - l1 / l2) / (math.sqrt(n) - 1) if l2 else None


def slow_margin_signs(
    weight: Tensor, bias: Tensor | None, groups: Sequence[Tensor], signs: Sequence[float]
) -> list[list[bool | None]]:
    """Whether S of each sample rises in a tiny step, by autograd in float64; None where dead."""
    W = torch.cat([weight, bias[:, None]], 1) if bias is not None else weight
    W = W.double().detach().requires_grad_()
    xs = [x.double() for x in groups]
    if bias is not None:
        xs = [torch.cat([x, x.new_ones(len(x), 1)], 1) for x in xs]
    terms = [s * (x @ W.T).relu().square().sum() for x, s in zip(xs, signs, strict=True)]
    loss = torch.stack(terms).sum()
    (gradient,) = torch.autograd.grad(loss, W)
    found: list[list[bool | None]] = []
    for x in xs:
        verdict: list[bool | None] = []
        for one in x:
            h = (W @ one).relu()
            if not h.any():
                verdict.append(None)
                continue
            (dh,) = torch.autograd.grad(h.sum() / h.norm(), W)  # S falls as this ratio rises
            verdict.append(bool(((dh * gradient).sum() > 0).item()))
        found.append(verdict)
    return found


def share(verdicts: Sequence[bool | None]) -> float | None:
    live = [one for one in verdicts if one is not None]
    return sum(live) / len(live) if live else None


def slow_auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    pairs = [(p > q) + (p == q) / 2 for p in positive for q in negative]
    return sum(pairs) / len(pairs)


def by(rows: Sequence[RecordedRow], layer: int, epoch: int, split: str) -> RecordedRow:
    return next(r for r in rows if (r.layer, r.epoch, r.split) == (layer, epoch, split))


@settings(deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(1, 7),
    st.integers(1, 6),
    st.integers(2, 9),
    st.booleans(),
)
def test_the_figures_of_a_dense_layer_are_those_of_double_loops(
    seed: int, count: int, inputs: int, width: int, biased: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, width, bias=biased)
    with torch.no_grad():
        for one in layer.parameters():
            one.copy_(torch.randn(one.shape, generator=generator))
    x, y = (torch.randn(count, inputs, generator=generator) for _ in range(2))
    with watch(layer) as watched:
        with watched.positive():
            h = layer(x).relu()
        with watched.negative():
            k = layer(y).relu()
    positive, negative = (by(watched.rows, 0, 0, split) for split in ("positive", "negative"))
    for row, found in ((positive, h), (negative, k)):
        values = found.tolist()
        live = [s for s in map(slow_sparsity, values) if s is not None]
        assert row.samples == count
        assert row.dead_samples == sum(not any(v) for v in values)
        assert row.dead_units == sum(not any(v[j] for v in values) for j in range(width))
        assert row.width == width
        assert row.zero_fraction == pytest.approx(
            sum(v == 0 for sample in values for v in sample) / (count * width)
        )
        if live:
            assert row.sparsity == pytest.approx(sum(live) / len(live), abs=1e-6)
        else:
            assert row.sparsity is None
        squares = [sum(v * v for v in sample) for sample in values]
        assert row.goodness == pytest.approx(sum(squares) / count, rel=1e-6)
        assert row.mean_squares == pytest.approx(sum(squares) / count / width, rel=1e-6)
    goodness = [[sum(v * v for v in one) for one in found.tolist()] for found in (h, k)]
    assert positive.auc == negative.auc == pytest.approx(slow_auc(*goodness))
    both = slow_margin_signs(layer.weight, layer.bias, [x, y], [-1.0, 1.0])
    for row, samples, verdict in ((positive, x, both[0]), (negative, y, both[1])):
        unsure = row.theorem1_undecided or row.theorem2_undecided
        if not unsure and count > 1:
            alone = slow_margin_signs(layer.weight, layer.bias, [samples], [1.0])[0]
            assert row.theorem1_ratio == share(alone)
            assert row.theorem2_difference_ratio == share(verdict)


def test_the_theorems_of_a_convolution_are_those_of_autograd_on_its_map() -> None:
    torch.manual_seed(3)
    layer = nn.Conv2d(2, 5, 3, stride=2, padding=1)
    x = torch.randn(6, 2, 7, 7)
    with watch(layer) as watched:
        h = F.relu(layer(x))
    (row,) = watched.rows
    kernel, bias = (one.detach().double().requires_grad_() for one in layer.parameters())

    def maps(kernel: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x.double(), kernel, bias, 2, 1).relu().flatten(1)

    down = torch.autograd.grad(maps(kernel, bias).square().sum(), (kernel, bias))
    rises = []
    for k in range(len(x)):
        v = maps(kernel, bias)[k]
        ratio = torch.autograd.grad(v.sum() / v.norm(), (kernel, bias))
        rises.append(sum((a * b).sum().item() for a, b in zip(ratio, down, strict=True)) > 0)
    assert row.theorem1_ratio == sum(rises) / len(rises)
    assert row.width == 5
    assert row.dead_units == int((~(h > 0).any(-1).any(-1).any(0)).sum())
    means = [slow_sparsity(one) for one in h.flatten(1).tolist()]
    assert row.sparsity == pytest.approx(sum(m or 0 for m in means) / len(means), abs=1e-6)


class OwnLayer(nn.Linear):
    """Scales its input itself, and multiplies without F.linear, as some programs do."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = x / (x.norm(2, 1, keepdim=True) + 1e-4)
        found: Tensor = self.relu(torch.mm(x, self.weight.T) + self.bias.unsqueeze(0))
        return found


def test_a_layer_that_scales_its_input_and_is_called_without_hooks_is_seen() -> None:
    torch.manual_seed(0)
    layer, x, y = OwnLayer(6, 9), torch.randn(8, 6), torch.randn(8, 6)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with watch([layer], splits="calls", steps_per_epoch=1, every=2) as watched:
        for _ in range(5):
            g, b = (layer.forward(one).square().mean(1) for one in (x, y))
            optimizer.zero_grad()
            (b - g).mean().backward()
            optimizer.step()
    assert [(r.epoch, r.split) for r in watched.rows] == [
        (epoch, split) for epoch in (0, 2, 4) for split in ("positive", "negative")
    ]
    first = watched.rows[0]
    assert first.input_norm == pytest.approx(1, abs=1e-3)
    torch.manual_seed(0)
    fresh = OwnLayer(6, 9)
    scaled = [one / (one.norm(2, 1, keepdim=True) + 1e-4) for one in (x, y)]
    verdicts = slow_margin_signs(fresh.weight, fresh.bias, scaled, [-1.0, 1.0])
    assert first.theorem2_difference_ratio == share(verdicts[0])


class FullGradient(torch.autograd.Function):
    """A relu whose slope is 1 everywhere, as programs with peer normalisation have it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone()


Activate = Callable[[Tensor], Tensor]


@pytest.mark.parametrize(
    ("activate", "has_ratio"),
    [
        (F.relu, True),
        (nn.ReLU(inplace=True), True),
        (FullGradient.apply, True),
        (lambda z: z.clamp_min(0), True),
        (nn.GELU(), True),
        (nn.LeakyReLU(0.2), False),  # its slope is not that of the catalogue
        (nn.Sequential(nn.BatchNorm1d(7), nn.ReLU()), False),  # not h = sigma(W x)
        (nn.Sigmoid(), False),
    ],
)
def test_the_activation_that_follows_is_found(activate: Activate, has_ratio: bool) -> None:
    torch.manual_seed(1)
    layer, x = nn.Linear(4, 7), torch.randn(9, 4)
    with watch(layer) as watched:
        h = activate(layer(x))
        F.softplus(-h.square().sum(1)).sum().backward()  # of the goodness: no activation
    (row,) = watched.rows
    assert row.goodness == pytest.approx(float(h.detach().double().square().sum(1).mean()))
    assert (row.theorem1_ratio is not None) is has_ratio


def test_a_layer_without_an_activation_is_recorded_as_its_product() -> None:
    torch.manual_seed(1)
    layer, x = nn.Linear(4, 7), torch.randn(9, 4)
    with watch(layer) as watched:
        z = layer(x)
        F.cross_entropy(z, torch.zeros(9, dtype=torch.int64)).backward()
    (row,) = watched.rows
    assert row.goodness == pytest.approx(float(z.detach().double().square().sum(1).mean()))
    assert row.zero_fraction == 0
    assert row.theorem1_ratio is None


def test_layers_that_run_before_their_activations_are_told_apart() -> None:
    torch.manual_seed(1)
    one, other, x = nn.Linear(4, 7), nn.Linear(4, 7), torch.randn(9, 4)
    with watch([one, other]) as watched:
        a, b = one(x), other(x)
        h, k = b.relu(), a.relu()
    goodness = [float(found.detach().double().square().sum(1).mean()) for found in (k, h)]
    assert [row.goodness for row in watched.rows] == pytest.approx(goodness)


def network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(4 * 36, 10),
    )  # fmt: skip


def trained(watched: Callable[[nn.Module], Any]) -> tuple[nn.Module, Tensor, Any]:
    """A usual loop by backpropagation: the network, the next random number, and the context."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watched(model) as context:
        for _ in range(7):
            x, y = torch.randn(12, 1, 8, 8), torch.randint(0, 10, (12,))
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            with torch.no_grad():
                model(x)
    return model, torch.rand(3), context


def test_a_watched_loop_has_the_same_bits() -> None:
    alone, draw, _ = trained(lambda _: contextlib.nullcontext())
    beside, other_draw, watched = trained(lambda model: watch(model, every=2, steps_per_epoch=3))
    assert torch.equal(draw, other_draw)
    assert all(map(torch.equal, alone.state_dict().values(), beside.state_dict().values()))
    assert all(
        torch.equal(a.grad, b.grad)
        for a, b in zip(alone.parameters(), beside.parameters(), strict=True)
        if a.grad is not None and b.grad is not None
    )
    assert isinstance(watched, Watch)
    assert [(row.layer, row.epoch, row.samples) for row in watched.rows] == [
        (0, 0, 12), (1, 0, 12), (0, 1, 12), (1, 1, 12), (0, 2, 24), (1, 2, 24),
    ]  # fmt: skip
    assert watched.layers == ("0", "5")
    assert not watched.notes


def test_after_the_context_nothing_is_recorded_even_after_an_error() -> None:
    layer, x = nn.Linear(4, 7), torch.randn(9, 4)
    watched = watch(layer)
    with contextlib.suppress(ZeroDivisionError), watched:
        layer(x).relu()
        raise ZeroDivisionError
    layer(x).relu()
    assert [row.samples for row in watched.rows] == [9]
    assert not torch.overrides._get_current_function_mode_stack()  # type: ignore[attr-defined]


def test_halves_and_epochs_that_the_loop_ends() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 7), torch.randn(10, 4)
    with watch(layer, splits="halves", every=1, samples=3) as watched:
        for _ in range(2):
            for _ in range(2):
                h = layer(x).relu()
            watched.end_epoch()
        with watched.paused():
            layer(x).relu()
    assert [(row.epoch, row.split, row.samples) for row in watched.rows] == [
        (0, "positive", 3), (0, "negative", 3), (1, "positive", 3), (1, "negative", 3),
        (2, "positive", 6), (2, "negative", 6),
    ]  # fmt: skip
    squares = h.detach().double().square().sum(1)
    assert watched.rows[0].goodness == pytest.approx(float(squares[:3].mean()))
    assert watched.rows[1].goodness == pytest.approx(float(squares[5:8].mean()))


def test_positives_and_negatives_at_other_weights_have_no_common_step() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 7), torch.randn(10, 4)
    with watch(layer, splits="calls", every=1) as watched:
        layer(x).relu().sum().backward()
        with torch.no_grad():
            layer.weight += 1
        layer(-x).relu()
    assert [row.theorem2_difference_ratio for row in watched.rows] == [None, None]
    assert all(row.theorem1_ratio is not None for row in watched.rows)


def test_what_cannot_be_watched_is_said() -> None:
    with pytest.raises(ValueError, match="0 Linear and Conv2d layers"):
        watch(nn.ReLU())
    with pytest.raises(ValueError, match="every: expected at least 1, got 0"):
        watch(nn.Linear(2, 2), every=0)
    with pytest.raises(ValueError, match="splits: expected none, halves or calls"):
        watch(nn.Linear(2, 2), splits="half")  # type: ignore[arg-type]
    with watch(nn.Linear(2, 2)) as watched:
        pass
    assert "was not called" in watched.notes[0]


def test_a_diverged_network_gives_rows_without_those_figures() -> None:
    layer = nn.Linear(4, 7)
    with torch.no_grad():
        layer.weight.fill_(math.nan)
    with watch(layer, splits="halves") as watched:
        layer(torch.randn(6, 4)).relu()
    assert {row.sparsity for row in watched.rows} == {None}
    assert {row.goodness for row in watched.rows} == {None}
