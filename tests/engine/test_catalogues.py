"""One contract for every entry of a catalogue: a new entry passes or fails it unchanged."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import ffengine
from ffengine.activations import ACTIVATIONS, ActivationName
from ffengine.baselines import BaselineEntry, BaselineName
from ffengine.entmax import entmax
from ffengine.entry import Entry, describe, entries, meaning_of, name_of
from ffengine.inits import INITS, InitName
from ffengine.largest import largest
from ffengine.layer_updates import take_step
from ffengine.negatives import AnyNegatives, Negatives, NoNegatives, Positives
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import (
    AnyObjective,
    Entmax,
    Goodness,
    GoodnessEntry,
    GoodnessName,
    Moment,
    Objective,
    Standardised,
    TopK,
)
from ffengine.optimizers import SCHEDULES, AnyOptimizer, Optimizer, ScheduleName
from ffengine.presets import PRESETS
from ffengine.random_streams import Draws
from ffengine.samples import Samples, load_samples
from ffengine.search import example_cells
from ffengine.spec import (
    PREPROCESS_MEANING,
    DatasetSpec,
    NetworkSpec,
    Preprocess,
    TrainSpec,
)
from ffengine.theorems import THEOREMS, TheoremNumber
from tests.engine import reference
from tests.engine.reference import SIGMA
from tests.examples import examples

NEGATIVES: dict[str, Negatives] = {
    name_of(entry, "strategy"): entry()
    for entry in entries(AnyNegatives)
    if entry is not NoNegatives
}  # type: ignore[misc]
OBJECTIVES: dict[str, Objective] = {
    name_of(entry, "name"): entry()
    for entry in entries(AnyObjective)
    if issubclass(entry, Objective)  # of those over classes see test_multi_class.py
}  # type: ignore[misc]
GOODNESS: dict[str, Goodness] = {
    name_of(entry, "name"): entry() for entry in entries(GoodnessEntry)
}  # type: ignore[misc]
OPTIMIZERS: dict[str, Optimizer] = {
    name_of(entry, "name"): entry() for entry in entries(AnyOptimizer)
}  # type: ignore[misc]
CLASSES = 10
CPU = torch.device("cpu")


def test_names_are_the_literals_that_specs_accept() -> None:
    assert set(ACTIVATIONS) == set(ActivationName.__args__) == set(SIGMA)
    assert set(THEOREMS) == set(TheoremNumber.__args__)
    assert set(PREPROCESS_MEANING) == set(Preprocess.__args__)
    assert set(GOODNESS) == set(GoodnessName.__args__) == set(reference.GOODNESS)
    assert set(SCHEDULES) == set(ScheduleName.__args__)
    assert set(INITS) == set(InitName.__args__)
    assert {name_of(entry, "name") for entry in entries(BaselineEntry)} == {*BaselineName.__args__}


ENTRIES = [
    *((entry, "strategy") for entry in entries(AnyNegatives)),
    *(
        (entry, "name")
        for union in (AnyObjective, GoodnessEntry, AnyOptimizer, BaselineEntry)
        for entry in entries(union)
    ),
]


@pytest.mark.parametrize(("entry", "key"), ENTRIES)
def test_every_entry_describes_itself(entry: type[Entry], key: str) -> None:
    line = describe(entry, key)
    assert line.name == name_of(entry, key)
    assert len(line.meaning) > 20
    for name, schema in line.parameters.items():
        assert isinstance(schema, dict)
        assert "description" in schema, name
        assert "default" in schema, name


# Activations


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_what_its_reference_says_with_its_own_slope(name: str) -> None:
    activation = ACTIVATIONS[name]
    z = torch.cat(
        [
            torch.linspace(-6, 6, 1201, dtype=torch.float64) + 1e-3,
            torch.tensor([-700.0, 700.0, -1e4, 1e4], dtype=torch.float64),
        ]
    ).requires_grad_()
    (slope,) = torch.autograd.grad(SIGMA[name](z).sum(), z)
    h = activation.value(z.detach())
    assert torch.allclose(h, SIGMA[name](z), rtol=1e-12, atol=1e-13)
    assert torch.allclose(activation.slope(z.detach()), slope, rtol=1e-9, atol=1e-12)
    assert activation.slope(z.detach().float()).dtype == torch.float32
    assert torch.equal(activation.value_(z.detach().clone()), h)
    assert len(meaning_of(type(activation))) > 10
    if activation.slope_where_active_is_one:
        assert bool((activation.slope(z.detach())[h != 0] == 1).all())
    if activation.slope_below_zero is not None:
        assert torch.allclose(
            h, z.detach().clamp_min(0) + activation.slope_below_zero * z.detach().clamp_max(0)
        )


# Goodness and objectives


@pytest.mark.parametrize("name", GOODNESS)
@given(
    seed=st.integers(0, 2**31),
    samples=st.integers(1, 5),
    width=st.integers(2, 40),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_every_goodness_pulls_as_autograd_says(
    name: str, seed: int, samples: int, width: int, scale: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    h = torch.relu(torch.randn(1, samples, width, generator=generator, dtype=torch.float64) * scale)
    s = torch.randn(1, samples, generator=generator, dtype=torch.float64)
    leaf = h.clone().requires_grad_()
    expected = reference.GOODNESS[name](leaf)
    (slope,) = torch.autograd.grad((s * expected).sum(), leaf)
    value = GOODNESS[name].value(h)
    # the threshold of entmax is a difference of squares of h, so it rounds by their size
    rtol = max(1e-12, 1e-15 * scale**2) if name == "entmax" else 1e-12
    assert torch.allclose(value, expected, rtol=rtol)
    live = h > 0
    # what does not depend on the scale has slopes of one over it, and rounds as much
    atol = 1e-12 / scale if isinstance(GOODNESS[name], Standardised) else 1e-12
    assert torch.allclose(
        GOODNESS[name].pull(h.clone(), value, s)[live], slope[live], rtol=1e-9, atol=atol
    )
    pull = GOODNESS[name].pull(h.clone(), value, s)
    assert not bool(pull[~live].any())
    again, saved = GOODNESS[name].value_and_saved(h.clone())
    assert torch.equal(again, value)
    assert torch.equal(GOODNESS[name].pull(h.clone(), value, s, saved), pull)


@given(
    seed=st.integers(0, 2**31),
    width=st.integers(2, 60),
    alpha=st.sampled_from([1.0, 1.2, 1.5, 1.8, 2.0]),
    scale=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_entmax_meets_its_own_condition(seed: int, width: int, alpha: float, scale: float) -> None:
    """It has the largest p.h + entropy: the condition of Lagrange holds for each unit."""
    h = torch.randn(3, width, generator=torch.Generator().manual_seed(seed)).double() * scale
    p = entmax(h, alpha)
    assert torch.allclose(p.sum(-1), torch.ones(3, dtype=torch.float64), rtol=1e-12)
    if alpha == 1:
        return
    level = h - p.pow(alpha - 1) / (alpha - 1)  # the same for all units that count
    counts = p > 0
    low = torch.where(counts, level, torch.inf).amin(-1)
    high = torch.where(counts, level, -torch.inf).amax(-1)
    assert torch.allclose(low, high, rtol=1e-9, atol=1e-9)
    assert bool((torch.where(counts, -torch.inf, h).amax(-1) <= high + 1e-9).all())
    if alpha == 1.5:
        assert torch.allclose(p, reference.exact_entmax(h), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.1, 1.5, 1.75, 2.0])
@pytest.mark.parametrize("width", [511, 512, 2000])
def test_entmax_of_wide_layers_in_float32_is_that_in_float64(width: int, alpha: float) -> None:
    generator = torch.Generator().manual_seed(width)
    for scale in (1e-3, 0.03, 0.1, 1.0, 30.0):
        h = torch.randn(50, width, generator=generator).mul_(scale).clamp_min_(0)
        exact = entmax(h.double(), alpha)
        assert torch.allclose(exact.sum(-1), torch.ones(50, dtype=torch.float64), rtol=1e-12)
        if alpha == 1.5:
            assert torch.allclose(exact, reference.exact_entmax(h.double()), rtol=1e-9, atol=1e-12)
        assert float((entmax(h, alpha) - exact).abs().sum(-1).max()) < 3e-5


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0])
def test_entmax_of_huge_and_of_equal_activations_is_finite(alpha: float) -> None:
    h = torch.zeros(3, 1000)
    h[1] = 1e30
    h[2, 7] = 1e30
    p = entmax(h, alpha)
    assert torch.allclose(p[:2], torch.full((2, 1000), 1e-3), rtol=1e-3)
    assert float(p[2, 7]) == 1.0


@pytest.mark.parametrize(
    "goodness",
    [*GOODNESS.values(), Entmax(alpha=1.0), Entmax(alpha=1.3), Entmax(alpha=2.0), Moment(p=6)],
    ids=str,
)
def test_the_value_of_every_goodness_has_the_gradient_that_pulls(goodness: Goodness) -> None:
    """A baseline trains on the value by backpropagation."""
    h = torch.randn(1, 5, 600, generator=torch.Generator().manual_seed(5)).double().abs() + 0.1
    leaf = h.clone().requires_grad_()
    value = goodness.value(leaf)
    value.sum().backward()
    assert leaf.grad is not None
    pull = goodness.pull(h.clone(), value.detach(), torch.ones(1, 5, dtype=torch.float64))
    assert torch.allclose(leaf.grad, pull, rtol=1e-7, atol=1e-11)


@given(
    seed=st.integers(0, 2**31),
    width=st.integers(1, 200),
    wanted=st.integers(1, 200),
    levels=st.sampled_from([2, 5, 1_000_000]),
)
def test_the_largest_are_those_of_a_whole_selection(
    seed: int, width: int, wanted: int, levels: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(levels, (2, 3, width), generator=generator).float()
    k = min(wanted, width)
    found, places = largest(x, k)
    ordered = x.sort(dim=-1, descending=True).values[..., :k]
    assert torch.equal(found.sort(dim=-1, descending=True).values, ordered)
    assert torch.equal(x.gather(-1, places), found)
    assert all(len(set(row)) == k for row in places.flatten(0, 1).tolist())


@given(seed=st.integers(0, 2**31), width=st.integers(2, 300), share=st.floats(0.005, 1))
def test_top_k_of_activations_is_the_mean_of_the_largest(
    seed: int, width: int, share: float
) -> None:
    h = torch.randn(1, 4, width, generator=torch.Generator().manual_seed(seed)).double()
    entry = TopK(share=share, of="activations")
    k = min(width, max(5, int(share * width)))
    assert entry.count(width) == k
    leaf = h.clone().requires_grad_()
    expected = leaf.sort(-1, descending=True).values[..., :k].mean(-1)
    (slope,) = torch.autograd.grad(expected.sum(), leaf)
    assert torch.allclose(entry.value(h), expected)
    found = entry.pull(h.clone(), expected.detach(), torch.ones(1, 4, dtype=torch.float64))
    assert torch.allclose(found, slope)


def test_top_k_has_one_size() -> None:
    assert TopK() == TopK(k=10)
    assert TopK(share=0.02).model_dump() == {
        "name": "top_k",
        "k": None,
        "share": 0.02,
        "of": "squares",
    }
    with pytest.raises(ValidationError, match="give k or share, not both"):
        TopK(k=3, share=0.1)
    with pytest.raises(ValidationError, match="give k or share"):
        TopK(k=None)


@pytest.mark.parametrize("name", OBJECTIVES)
@given(
    goodness=st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60)), min_size=1, max_size=20)
)
def test_every_objectives_slopes_are_autograds_of_its_published_loss(
    name: str, goodness: list[tuple[float, float]]
) -> None:
    objective = OBJECTIVES[name]
    positive, negative = torch.tensor(goodness, dtype=torch.float64).T.contiguous().requires_grad_()
    loss = reference.pair_loss(objective.model_dump(), positive, negative)
    slopes = torch.autograd.grad(loss.sum(), (positive, negative))
    terms = objective.terms(positive.detach(), negative.detach())
    assert torch.allclose(terms[0] + terms[1], loss, rtol=1e-9, atol=1e-12)
    away_from_kinks = (positive != 0) & (negative != 0)
    for found, expected in zip(
        objective.slopes(positive.detach(), negative.detach()), slopes, strict=True
    ):
        assert torch.allclose(
            found[away_from_kinks], expected[away_from_kinks], rtol=1e-9, atol=1e-12
        )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_finite_however_large_the_goodness(name: str) -> None:
    large = torch.tensor([-1e30, -1e4, 0.0, 1e4, 1e30])
    positive, negative = torch.cartesian_prod(large, large).T
    for values in (
        *OBJECTIVES[name].terms(positive, negative),
        *OBJECTIVES[name].slopes(positive, negative),
    ):
        assert not bool(values.isnan().any())


# Negatives


def some_samples() -> Samples:
    return load_samples(DatasetSpec(train_samples=60, test_samples=1), CPU).train


SAMPLES = some_samples()
JUDGED = Network.initial(NetworkSpec(widths=(12, 9), normalize="l2"), 784, Draws((0, 1, 2)), CPU)


def asked(
    strategy: str, index: torch.Tensor, seeds: tuple[int, ...], replicas: slice
) -> tuple[torch.Tensor, torch.Tensor]:
    """The positives and negatives of a strategy for the samples of `index` (R, B)."""
    entry = NEGATIVES[strategy]
    x = entry.positive(SAMPLES.positives(labelled=entry.labelled)[index])
    judge = SummedGoodness(
        Network(JUDGED.spec, [weight[replicas] for weight in JUDGED.weights]),
        GOODNESS["sum_squares"],
        (0, 1),
        SAMPLES.patterns,
    )
    return x, entry(Positives(x, index, SAMPLES, Draws(seeds).at("negatives"), judge))


@pytest.mark.parametrize("strategy", NEGATIVES)
@settings(max_examples=examples(20))
@given(first=st.integers(0, 2**31), replicas=st.integers(1, 3), samples=st.integers(1, 12))
def test_every_negative_strategy_keeps_its_promises(
    strategy: str, first: int, replicas: int, samples: int
) -> None:
    index = Draws(range(first, first + replicas)).at("index").integers(0, 60, (replicas, samples))
    before = SAMPLES.labelled.clone()
    seeds = tuple(range(first, first + replicas))
    x, one = asked(strategy, index, seeds, slice(replicas))
    assert one.shape == x.shape
    assert one.dtype == x.dtype
    assert bool(one.isfinite().all())
    assert torch.equal(
        one, asked(strategy, index, seeds, slice(replicas))[1]
    )  # the same draw, the same bits
    assert torch.equal(SAMPLES.labelled, before)  # the data are left alone
    assert bool((one != x).any(-1).all())  # no negative is its positive
    for replica, seed in enumerate(seeds):  # each replica equals the run of its seed alone
        alone = asked(strategy, index[replica : replica + 1], (seed,), slice(replica, replica + 1))[
            1
        ]
        assert torch.allclose(alone[0], one[replica], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("strategy", ["wrong_label", "hardest_label", "sampled_label"])
@settings(max_examples=examples(20))
@given(seed=st.integers(0, 2**31))
def test_a_wrong_label_is_never_the_true_one_and_the_image_stays(strategy: str, seed: int) -> None:
    index = torch.arange(60).unsqueeze(0)
    x, negative = asked(strategy, index, (seed,), slice(1))
    assert bool((negative[..., :CLASSES].argmax(-1) != SAMPLES.labels[index]).all())
    assert torch.equal(negative[..., :CLASSES].sum(-1), torch.ones(1, 60))
    assert torch.equal(negative[..., CLASSES:], x[..., CLASSES:])


def test_a_negative_of_any_image_is_under_a_label_that_is_not_that_images() -> None:
    entry = entries(AnyNegatives)[0](image="any")  # type: ignore[call-arg]
    index = torch.arange(60).unsqueeze(0)
    negative = entry(
        Positives(SAMPLES.labelled[index], index, SAMPLES, Draws((0,)).at("negatives"), None)
    )[0]  # type: ignore[operator]
    images = {
        tuple(image.tolist()): int(label)
        for image, label in zip(SAMPLES.labelled[:, CLASSES:], SAMPLES.labels, strict=True)
    }
    found = [images[tuple(sample.tolist())] for sample in negative[:, CLASSES:]]
    assert all(
        own != shown
        for own, shown in zip(found, negative[:, :CLASSES].argmax(-1).tolist(), strict=True)
    )
    assert not torch.equal(negative[:, CLASSES:], SAMPLES.labelled[:, CLASSES:])


def test_wrong_labels_are_uniform_over_the_others() -> None:
    index = torch.full((1, 30_000), 3)
    shown = asked("wrong_label", index, (0,), slice(1))[1][..., :CLASSES].sum((0, 1))
    true = int(SAMPLES.labels[3])
    assert shown[true] == 0
    others = torch.cat([shown[:true], shown[true + 1 :]])
    assert bool(((others - 30_000 / 9).abs() < 5 * math.sqrt(30_000 / 9)).all())


def slow_label_goodness(index: torch.Tensor) -> torch.Tensor:
    """Goodness (1, B, C) of both layers of the judged network together, a sample and a label at a
    time, float64.
    """
    weights = [weight[0].double() for weight in JUDGED.weights]
    rows = []
    for image in SAMPLES.labelled[index[0]].double():
        row = []
        for label in range(CLASSES):
            x = torch.cat(
                [
                    torch.nn.functional.one_hot(torch.tensor(label), CLASSES).double(),
                    image[CLASSES:],
                ]
            )
            first = torch.relu(weights[0] @ x)
            second = torch.relu(weights[1] @ (first / first.norm()))
            row.append(first.square().sum() + second.square().sum())
        rows.append(torch.stack(row))
    return torch.stack(rows).unsqueeze(0)


def test_the_hardest_label_is_the_wrong_one_of_highest_goodness() -> None:
    index = torch.arange(60).unsqueeze(0)
    goodness = slow_label_goodness(index).scatter_(-1, SAMPLES.labels[index].unsqueeze(-1), -1.0)
    shown = asked("hardest_label", index, (0,), slice(1))[1][..., :CLASSES].argmax(-1)
    assert torch.equal(shown, goodness.argmax(-1))


def test_sampled_labels_follow_the_softmax_of_goodness() -> None:
    index = torch.full((1, 20_000), 7)
    goodness = slow_label_goodness(index[:, :1])[0, 0]
    goodness[SAMPLES.labels[7]] = -math.inf
    expected = goodness.softmax(0) * 20_000
    shown = asked("sampled_label", index, (0,), slice(1))[1][..., :CLASSES].sum((0, 1)).double()
    assert bool(((shown - expected).abs() <= 5 * expected.sqrt() + 1e-9).all())


def test_an_adversarial_negative_moves_pixels_by_the_bound_and_raises_goodness() -> None:
    index = torch.arange(60).unsqueeze(0)
    x, negative = asked("adversarial", index, (0,), slice(1))
    assert torch.equal(negative[..., :CLASSES], x[..., :CLASSES])
    assert float((negative - x).abs().max()) == pytest.approx(0.1, abs=1e-6)

    def goodness(samples: torch.Tensor) -> torch.Tensor:
        return sum(
            GOODNESS["sum_squares"].value(h[:1])
            for h in JUDGED.activations(samples.expand(3, -1, -1))
        )  # type: ignore[return-value]

    assert bool((goodness(negative) > goodness(x)).all())


def test_a_hybrid_takes_each_pixel_from_one_of_two_images_of_different_classes() -> None:
    index = torch.arange(12).unsqueeze(0)
    _, negative = asked("hybrid", index, (0,), slice(1))
    for sample, label, made in zip(
        SAMPLES.plain[:12], SAMPLES.labels[:12], negative[0], strict=True
    ):
        others = SAMPLES.plain[SAMPLES.labels != label]
        assert bool(((made == sample) | (made == others)).all(-1).any())


def test_a_self_contrastive_pair_is_the_image_twice_and_the_image_with_another() -> None:
    index = torch.arange(60).unsqueeze(0)
    x, negative = asked("self_contrastive", index, (0,), slice(1))
    assert torch.equal(x[0], 2 * SAMPLES.plain)
    others = negative[0] - SAMPLES.plain
    for number, other in enumerate(others):
        distance = (SAMPLES.plain - other).abs().amax(-1)
        assert float(distance.min()) < 1e-6
        assert int(distance.argmin()) != number


# Initialisation and optimisers


@pytest.mark.parametrize("name", INITS)
def test_every_init_has_the_spread_that_it_says(name: str) -> None:
    network = Network.initial(
        NetworkSpec(widths=(300,), init=name, bias=True), 200, Draws((0, 1)), CPU
    )  # type: ignore[arg-type]
    weight, bias = network.weights[0][..., :-1], network.weights[0][..., -1]
    assert weight.shape == (2, 300, 200)
    assert not torch.equal(weight[0], weight[1])
    variance = {
        "gaussian": 1 / 200,
        "gaussian_fan_out": 1 / 300,
        "he": 2 / 200,
        "glorot": 2 / 500,
        "lecun": 1 / 200,
        "orthogonal": 1 / 300,
    }
    expected = variance.get(name, 1 / 600)
    assert float(weight.var()) == pytest.approx(expected, rel=0.02)
    assert float(bias.var()) == pytest.approx(1 / 600 if name == "torch" else 0.0, rel=0.2)
    if name == "orthogonal":
        assert torch.allclose(weight[0].T @ weight[0], torch.eye(200), atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_preview_is_the_step_that_follows_and_changes_nothing(name: str) -> None:
    optimizer = OPTIMIZERS[name].model_copy(update={"weight_decay": 0.05})
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    state = optimizer.new_state(weight)
    for _ in range(4):
        descent = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
        kept = [value.clone() for value in (weight, descent, *state.values())]
        D = optimizer.preview(weight, descent, state)
        assert all(
            torch.equal(value, before)
            for value, before in zip((weight, descent, *state.values()), kept, strict=True)
        )
        expected = weight + 0.1 * D
        take_step(optimizer, weight, descent, state, 0.1)
        assert torch.allclose(weight, expected, rtol=1e-6)  # torch's forms have float32 constants


def test_a_fused_step_minds_the_layout() -> None:
    optimizer = OPTIMIZERS["adam"]
    weight, descent = torch.randn(1, 6, 6), torch.randn(1, 6, 6).mT
    expected = weight + 0.1 * optimizer.preview(weight, descent, optimizer.new_state(weight))
    take_step(optimizer, weight, descent, optimizer.new_state(weight), 0.1)
    assert torch.allclose(weight, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="make it contiguous"):
        take_step(optimizer, weight.mT, descent, optimizer.new_state(weight), 0.1)


# Every entry makes a difference

BASE = {
    "dataset": {"train_samples": 60, "test_samples": 20, "preprocess": "standardize"},
    "network": {"widths": [8, 6], "normalize": "l2", "normalize_first": True, "bias": True},
    "objective": {"name": "softplus", "goodness": "sum_squares", "threshold": 0.5},
    "optimizer": {"name": "sgd", "lr": 0.02, "scale_lr_by_width": False},
    "epochs": 4,
    "batch_size": 20,
    "monitor": {"samples": 40, "every_epochs": 4},
}
CHOICES: dict[str, list[object]] = {
    "negatives.strategy": list(NEGATIVES),
    "negatives.redraw": ["every_epoch", "once"],
    "negatives.image": ["own", "any"],
    "objective.name": list(OBJECTIVES),
    "objective.goodness": list(GOODNESS),
    "objective.peer_normalization": [0.0, 0.5],
    "objective.threshold": [0.5, 3.0],
    "objective.negative_threshold": [None, 3.0],
    "objective.collaboration": [None, {"of": "earlier"}, {"of": "others"}, {"weight": 3.0}],
    "optimizer.name": list(OPTIMIZERS),
    "optimizer.schedule": list(SCHEDULES),
    "optimizer.scale_lr_by_width": [True, False],
    "optimizer.weight_decay": [0.0, 0.1],
    "network.activation": list(ACTIVATIONS),
    "network.init": list(INITS),
    "network.normalize": ["none", "l2", "rms", "layer", "halves"],
    "network.normalize_first": [False, True],
    "network.bias": [False, True],
    "dataset.preprocess": list(PREPROCESS_MEANING),
    "dataset.labels": ["overlay", "append"],
    "layers": ["greedy", "simultaneous"],
    "precision": ["float32", "bf16"],
}


def curve(field: str, value: object) -> list[tuple[float | None, float | None]]:
    document: dict[str, object] = {
        key: dict(part) if isinstance(part, dict) else part for key, part in BASE.items()
    }
    *parents, last = field.split(".")
    if parents:
        document.setdefault(parents[0], {})[last] = value  # type: ignore[index]
    else:
        document[last] = value
    if field == "objective.collaboration":
        document["layers"] = "simultaneous"
    if field == "objective.name":
        document["objective"] = {"name": value, "goodness": "sum_squares"}
    result = ffengine.train(TrainSpec.model_validate(document))
    return [(row.goodness, row.sparsity) for row in result.curves if row.epoch == 4]


@pytest.mark.slow
@pytest.mark.parametrize("field", CHOICES)
def test_every_choice_changes_a_short_run(field: str) -> None:
    curves = {str(value): curve(field, value) for value in CHOICES[field]}
    for name, found in curves.items():
        assert all(found != other for label, other in curves.items() if label != name), name


def test_learning_through_dead_units_matters_with_peer_normalisation() -> None:
    peers = {**BASE["objective"], "peer_normalization": 5.0}  # type: ignore[dict-item]
    one, other = (
        ffengine.train(
            TrainSpec.model_validate(
                {
                    **BASE,
                    "objective": peers,
                    "network": {**BASE["network"], "pass_dead_units": flag},
                }
            )
        ).curves  # type: ignore[dict-item]
        for flag in (False, True)
    )
    assert one != other


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_expands(name: str) -> None:
    assert len(PRESETS[name].meaning) > 20
    assert {cell.part for cell in example_cells(PRESETS[name].spec)} == set(
        PRESETS[name].spec.parts or {""}
    )


@pytest.mark.parametrize("classes", [2, 3, 1000])
def test_wrong_labels_are_all_the_others_whatever_the_number_of_classes(classes: int) -> None:
    labels = torch.arange(classes).repeat_interleave(20)
    preprocessing = SAMPLES._preprocessing
    samples = Samples(
        torch.zeros(len(labels), classes + 2), labels, classes, (1, 1, classes + 2), preprocessing
    )
    index = torch.arange(len(labels)).unsqueeze(0)
    empty = torch.empty(0)
    wrong = NEGATIVES["wrong_label"].wrong_labels(  # type: ignore[attr-defined]
        Positives(empty, index, samples, Draws((0,)).at("negatives"), None)
    )
    assert bool((wrong != labels).all())
    assert int(wrong.min()) == 0
    assert int(wrong.max()) == classes - 1
