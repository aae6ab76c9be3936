"""What every entry of a catalogue keeps, as checks that say in a line what they found.

fflab's own tests run them on the catalogues, and `fflab plugin test` runs them on a plug-in. Each
compares with something that the entry did not compute itself: autograd and differences in float64,
the same samples alone, the same run again.

Legend: R replicas, B pairs, n width, m inputs, W (R, n, m) weights, D (R, n, m) a step.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS, Activation
from ffengine.additions import Catalogue
from ffengine.checkpoint import Checkpoint
from ffengine.class_updates import ClassLearner, new_heads
from ffengine.cost import estimate
from ffengine.entry import describe, entries, meaning_of, name_of
from ffengine.inits import INITS, Init
from ffengine.interrupts import Control, Interrupted
from ffengine.layer_updates import Learner, take_step
from ffengine.margins import check_direction
from ffengine.negatives import Negatives, NoNegatives, Positives, Relabelling
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import ClassPull, Goodness, MultiClass, Objective, SumSquares
from ffengine.optimizers import Optimizer
from ffengine.pairs import LabelledBatch, Pairs
from ffengine.plugins import UNIONS
from ffengine.random_streams import Draws
from ffengine.results import TrainResult
from ffengine.samples import Samples, load_samples
from ffengine.spec import DatasetSpec, NetworkSpec, TrainSpec, digest
from ffengine.text import shortened, visible
from ffengine.training import EpochReport, train

CPU = torch.device("cpu")
SHORTEST_MEANING = 20  # characters
TIMED_PAIRS, TIMED_UNITS, TIMED_INPUTS, TIMES = 250, 500, 784, 6
FIELDS: Mapping[Catalogue, str] = {
    "negatives": "negatives",
    "objectives": "objective",
    "goodness": "objective.goodness",
    "optimizers": "optimizer",
    "activations": "network.activation",
    "inits": "network.init",
}
SMALL = TrainSpec.model_validate(
    {
        "dataset": {"train_samples": 90, "test_samples": 20},
        "network": {"widths": [12, 8], "normalize": "l2", "bias": True},
        "objective": {"name": "softplus", "goodness": "sum_squares", "threshold": 0.5},
        "optimizer": {"name": "sgd", "lr": 0.02, "scale_lr_by_width": False},
        "epochs": 2,
        "batch_size": 30,
        "seeds": [3, 8],
        "monitor": {"samples": 40},
    }
)
# a unit at least for each of ten classes
SMALL_OVER_CLASSES = SMALL.model_copy(
    update={
        "network": SMALL.network.model_copy(update={"widths": (14, 12)}),
        "negatives": NoNegatives(),
    }
)


CLASSES = 3  # of the samples that objectives over classes are compared on


class Outcome(NamedTuple):
    """What one check found.

    **Attributes:**

    - `check`: what is kept, as a phrase.
    - `passed`: whether it is.
    - `found`: the figures; what is wrong, where it is not.
    """

    check: str
    passed: bool
    found: str


class Broken(AssertionError):
    """An entry does not keep what a check is about; the message says what is so instead."""


Check = Callable[[Any], str]


def contract(catalogue: Catalogue, name: str) -> Iterator[Outcome]:
    """Check one entry.

    **Arguments:**

    - `catalogue`: where it is.
    - `name`: as specs write it.

    **Returns:**

    The outcome of each check, in an order in which one would mend what they find.
    """
    yield from outcomes(catalogue, find(catalogue, name))


def outcomes(catalogue: Catalogue, entry: Any) -> Iterator[Outcome]:
    """Check one entry that may be in no catalogue.

    **Arguments:**

    - `catalogue`: whose rules are checked.
    - `entry`: as `find` returns it.

    **Returns:**

    The outcome of each check.
    """
    for check in (*checks_of(catalogue, entry), *(run_check(catalogue, one) for one in OF_RUNS)):
        meaning = meaning_of(check)  # type: ignore[arg-type]
        try:
            found = check(entry)
        except Broken as broken:
            yield Outcome(meaning, False, str(broken))
        except Exception as error:  # noqa: BLE001 - an entry may raise anything
            said = (str(error).strip().splitlines() or [""])[0]
            yield Outcome(meaning, False, f"{type(error).__name__}: {shortened(visible(said))}")
        else:
            yield Outcome(meaning, True, found)


def checks_of(catalogue: Catalogue, entry: Any) -> tuple[Check, ...]:
    """Return the checks of an entry itself, before those of runs with it.

    **Arguments:**

    - `catalogue`: whose rules are checked.
    - `entry`: as `find` returns it.

    **Returns:**

    The checks.
    """
    return OVER_CLASSES if isinstance(entry, MultiClass) else OF_CATALOGUE[catalogue]


def find(catalogue: Catalogue, name: str) -> Any:
    """Return an entry with its defaults.

    **Arguments:**

    - `catalogue`: where it is.
    - `name`: as specs write it.

    **Returns:**

    An instance; of an initialisation, its name and the entry.

    **Raises:**

    - `KeyError`: there is none of that name.
    - `ValueError`: it is of a kind that plug-ins cannot bring, and has no contract.
    """
    if catalogue == "activations":
        return ACTIVATIONS[name]
    if catalogue == "inits":
        return name, INITS[name]  # type: ignore[index]
    union = UNIONS[catalogue]
    found = {name_of(one, union.discriminator): one for one in entries(union.entries)}
    entry = found[name]
    if not issubclass(entry, union.bases) or entry is NoNegatives:
        raise ValueError(f"{name}: plug-ins bring no entries of its kind, and no check is for it")
    return entry()


def run_check(catalogue: Catalogue, check: Callable[[TrainSpec], str]) -> Check:
    """Return a check of runs as one of entries.

    **Arguments:**

    - `catalogue`: where the entries are.
    - `check`: takes the spec of a short run that uses one.

    **Returns:**

    The check.
    """

    def of_entry(entry: Any) -> str:
        return check(spec_with(catalogue, entry))

    of_entry.__doc__ = check.__doc__
    return of_entry


def spec_with(catalogue: Catalogue, entry: Any) -> TrainSpec:
    """Return the spec of a short run that uses an entry.

    **Arguments:**

    - `catalogue`: where the entry is.
    - `entry`: as `find` returns it.

    **Returns:**

    The spec.
    """
    if catalogue == "activations":
        entry = entry.name
    elif catalogue == "inits":
        entry = entry[0]
    part, _, field = FIELDS[catalogue].partition(".")
    if isinstance(entry, MultiClass):
        return SMALL_OVER_CLASSES.model_copy(update={part: entry})
    if not field:
        return SMALL.model_copy(update={part: entry})
    return SMALL.model_copy(update={part: getattr(SMALL, part).model_copy(update={field: entry})})


def _require(holds: object, otherwise: str) -> None:
    if not bool(holds):
        raise Broken(otherwise)


def _off(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the larger of 1 and the largest of both."""
    if not found.numel():
        return 0.0
    scale = max(1.0, float(found.abs().max()), float(expected.abs().max()))
    return float((found - expected).abs().max()) / scale


def _require_close(found: Tensor, expected: Tensor, what: str, most: float = 1e-9) -> str:
    _require(
        found.shape == expected.shape, f"{what}: {tuple(found.shape)}, not {tuple(expected.shape)}"
    )
    _require(bool(found.isfinite().all()), f"{what}: not finite")
    off = _off(found.double(), expected.double())
    _require(off <= most, f"{what}: off by {off:.1e}")
    return f"within {max(off, 1e-17):.0e}"


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Every entry of a class


def describes_itself(entry: Any) -> str:
    """It says what it means, and what each of its parameters does"""
    kind = next(key for key, union in UNIONS.items() if isinstance(entry, union.bases))
    line = describe(type(entry), UNIONS[kind].discriminator)
    _require(
        len(line.meaning) > SHORTEST_MEANING,
        f"its docstring {line.meaning!r} is shorter than {SHORTEST_MEANING} characters",
    )
    for name, schema in line.parameters.items():
        described = isinstance(schema, dict) and schema.get("description")
        _require(described, f"{name} has no description: Field(..., description=...)")
    return line.meaning


# Goodness


def pull_is_the_slope(goodness: Goodness) -> str:
    """Its pull is s dg/dh by autograd and by differences in float64, and 0 where h is 0"""
    worst = 0.0
    for seed, scale in enumerate((1e-2, 1.0, 30.0)):
        h, s = _normal(seed, 2, 5, 30).relu() * scale, _normal(9 + seed, 2, 5)
        live = h > 0
        found = goodness.pull(h.clone(), goodness.value(h), s)
        leaf = h.clone().requires_grad_()
        (slope,) = torch.autograd.grad((s * goodness.value(leaf)).sum(), leaf)
        for how, expected in (("autograd", slope), ("differences", _differences(goodness, h, s))):
            size = max(1e-300, float(expected[live].abs().max()))
            off = float((found - expected)[live].abs().max()) / size
            most = 1e-9 if how == "autograd" else 1e-5
            _require(off <= most, f"activations of size {scale:g}: off {how} by {off:.1e}")
            worst = max(worst, off if how == "autograd" else 0.0)
        _require(not bool(found[~live].any()), "it pulls units whose activation is 0")
    return f"within {max(worst, 1e-17):.0e} of autograd"


def _differences(goodness: Goodness, h: Tensor, s: Tensor) -> Tensor:
    """s dg/dh by central differences, a unit at a time."""
    found = torch.zeros_like(h)
    for unit in range(h.shape[-1]):
        step = 1e-6 * h[..., unit].clamp_min(1e-6)
        up, down = h.clone(), h.clone()
        up[..., unit] += step
        down[..., unit] -= step
        found[..., unit] = s * (goodness.value(up) - goodness.value(down)) / (2 * step)
    return found


def goodness_is_of_each_sample(goodness: Goodness) -> str:
    """The goodness and the pull of a sample are the same in any batch, in float32 too"""
    h, s = _normal(1, 2, 6, 20).relu(), _normal(2, 2, 6)
    kept, whole = h.clone(), goodness.value(h)
    _require(torch.equal(h, kept), "value changes the activations")
    _require_close(whole[:, 2:3], goodness.value(h[:, 2:3]), "the goodness of a sample alone")
    pulled = goodness.pull(h.clone(), whole, s)[:, 2:3]
    alone = goodness.pull(h[:, 2:3].clone(), whole[:, 2:3], s[:, 2:3])
    _require_close(pulled, alone, "the pull of a sample alone")
    single = h.float()
    value = goodness.value(single)
    for tensor in (value, goodness.pull(single.clone(), value, s.float())):
        _require(tensor.dtype == torch.float32, f"of float32 it makes {tensor.dtype}")
    return "as in the batch"


def goodness_says_whether_it_is_quadratic(goodness: Goodness) -> str:
    """It is finite for dead samples, and `quadratic` is true only where g(c h) = c^2 g(h)"""
    h, dead = _normal(3, 1, 8, 20).relu(), torch.zeros(1, 1, 6)
    value = goodness.value(dead)
    pull = goodness.pull(dead.clone(), value, torch.ones(1, 1))
    _require(bool(value.isfinite().all() and pull.isfinite().all()), "not finite where all h are 0")
    is_so = all(
        _off(goodness.value(c * h) / c**2, goodness.value(h)) < 1e-9 for c in (0.25, 2.0, 64.0)
    )
    if goodness.quadratic:
        _require(is_so, "quadratic is true, and g(c h) is not c^2 g(h)")
    return f"quadratic = {goodness.quadratic}"


# Objectives


def slopes_are_of_the_terms(objective: Objective) -> str:
    """Its slopes are dL/dG of the sum of its terms, by autograd in float64"""
    positive, negative = (12 * _normal(4, 2, 2, 50)).requires_grad_()
    loss = sum(objective.terms(positive, negative))
    assert isinstance(loss, Tensor)  # noqa: S101 - narrows the type
    expected = torch.autograd.grad(loss.sum(), (positive, negative), allow_unused=True)
    slopes = objective.slopes(positive.detach(), negative.detach())
    return [
        _require_close(found, torch.zeros_like(found) if slope is None else slope, f"of {split}s")
        for split, found, slope in zip(("positive", "negative"), slopes, expected, strict=True)
    ][-1]


def slopes_are_of_each_pair(objective: Objective) -> str:
    """A pair has the same terms and slopes in any batch, as `paired` and `linear` say"""
    positive, negative = 3 * _normal(5, 2, 1, 12)
    for method in (objective.terms, objective.slopes):
        whole, alone = method(positive, negative), method(positive[:, 4:5], negative[:, 4:5])
        for one, other in zip(whole, alone, strict=True):
            _require_close(one[:, 4:5], other, f"{method.__name__} of a pair alone")
    first, second = (objective.slopes(positive, other)[0] for other in (negative, negative + 1))
    if not objective.paired:
        _require(
            torch.equal(first, second),
            "paired is false, and the slope of a positive depends on its negative",
        )
    if objective.linear:
        moved = objective.slopes(positive + 1, negative - 1)
        _require(
            all(map(torch.equal, moved, objective.slopes(positive, negative))),
            "linear is true, and slopes depend on the goodness",
        )
    return f"paired = {objective.paired}, linear = {objective.linear}"


def objective_is_finite(objective: Objective) -> str:
    """It is a number, however large the goodness"""
    large = torch.tensor([-1e30, -1e4, 0.0, 1e4, 1e30])
    positive, negative = torch.cartesian_prod(large, large).T
    for method in (objective.terms, objective.slopes):
        for values in method(positive, negative):
            _require(not bool(values.isnan().any()), f"{method.__name__} has values that are none")
            _require(values.dtype == torch.float32, f"of float32 it makes {values.dtype}")
    return "up to 1e30"


# Objectives over classes


def class_pull_is_the_slope(objective: MultiClass) -> str:
    """Its pulls on activations and class vectors are those of the cross-entropy, by autograd"""
    worst = "within 0"
    for seed, scale in enumerate((1e-2, 1.0, 30.0)):
        h, labels, head = _class_case(objective, seed)
        h = h * scale
        found = objective.pull(h.clone(), labels, CLASSES, _copied(head), torch.bmm)
        leaves = [h.clone().requires_grad_(), *([] if head is None else [head.requires_grad_()])]
        logits = objective.logits(leaves[0], CLASSES, head, torch.bmm)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        slopes = torch.autograd.grad(len(h) * loss, leaves)
        where = f"activations of size {scale:g}: the pull on"
        size = max(1e-300, float(slopes[0].abs().max()))
        worst = _require_close(found.activations / size, -slopes[0] / size, f"{where} them")
        _require((found.head is None) == (head is None), "it pulls class vectors it has not")
        if found.head is not None:
            _require_close(found.head, -slopes[1], f"{where} class vectors")
    return f"{worst} of autograd"


def logits_are_of_each_sample(objective: MultiClass) -> str:
    """A sample has the same logits and pull in any batch and replica, in float32 too"""
    h, labels, head = _class_case(objective, 4)
    kept, whole = h.clone(), objective.logits(h, CLASSES, head, torch.bmm)
    _require(torch.equal(h, kept), "logits changes the activations")
    shape = (*h.shape[:-1], CLASSES)
    _require(whole.shape == shape, f"logits: {tuple(whole.shape)}, not {shape}")
    own = None if head is None else head[1:]
    alone = objective.logits(h[1:, 2:3], CLASSES, own, torch.bmm)
    _require_close(whole[1:, 2:3], alone, "the logits of a sample alone")
    pulled = _class_pull(objective, h, labels, head).activations[1:, 2:3] * labels.shape[1]
    apart = _class_pull(objective, h[1:, 2:3], labels[1:, 2:3], own).activations
    _require_close(pulled, apart, "the pull of a sample alone")
    single = _class_pull(objective, h.float(), labels, None if head is None else head.float())
    for tensor in (one for one in single if one is not None):
        _require(tensor.dtype == torch.float32, f"of float32 it makes {tensor.dtype}")
    return "as in the batch"


def class_pull_is_finite(objective: MultiClass) -> str:
    """Its logits and pulls are numbers for dead samples and for large activations"""
    h, labels, head = _class_case(objective, 5)
    head = None if head is None else head.float()
    for scale, what in ((0.0, "dead samples"), (1e4, "activations of 1e4")):
        large = (h * scale).float()
        logits = objective.logits(large, CLASSES, head, torch.bmm)
        pull = _class_pull(objective, large, labels, head)
        for tensor in (one for one in (logits, *pull) if one is not None):
            _require(bool(tensor.isfinite().all()), f"not finite with {what}")
    return "up to 1e4"


def class_vectors_follow_their_draw(objective: MultiClass) -> str:
    """Its class vectors have their shape, follow the draw alone, and stay where they belong"""
    with _other_random_state(1):
        first = objective.new_head(Draws((3, 4)).at("class-vectors"), 2, 7, CLASSES)
    with _other_random_state(2):
        second = objective.new_head(Draws((3, 4)).at("class-vectors"), 2, 7, CLASSES)
    _require(objective.has_head == (first is not None), "has_head says otherwise than new_head")
    if first is None or second is None:
        return "it has none"
    shape = (2, CLASSES, 7)
    _require(first.shape == shape, f"{tuple(first.shape)}, not {shape}")
    _require(first.dtype == torch.float32, f"{first.dtype}, not float32")
    _require(torch.equal(first, second), "it draws from elsewhere than its draw")
    alone = objective.new_head(Draws((4,)).at("class-vectors"), 1, 7, CLASSES)
    assert alone is not None  # noqa: S101 - it has class vectors
    _require_close(alone[0], first[1], "class vectors of a seed alone", 1e-6)
    kept = first.clone()
    objective.constrain(kept)
    _require_close(kept, first, "what constrain leaves of new class vectors", 1e-5)
    return "R = 2"


def _class_case(objective: MultiClass, seed: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Activations (R, B, n), labels (R, B) and class vectors, in float64."""
    h = _normal(20 + seed, 2, 6, 9).relu()
    labels = torch.arange(12).view(2, 6) % CLASSES
    head = objective.new_head(Draws((3, 4)).at("class-vectors"), 2, 9, CLASSES)
    return h, labels, None if head is None else head.double()


def _class_pull(objective: MultiClass, h: Tensor, labels: Tensor, head: Tensor | None) -> ClassPull:
    return objective.pull(h.clone(), labels, CLASSES, _copied(head), torch.bmm)


def _copied(head: Tensor | None) -> Tensor | None:
    return None if head is None else head.clone()


# Negatives


class _Judged(NamedTuple):
    """Samples, and the network that a strategy may ask."""

    samples: Samples
    network: Network

    @classmethod
    def make(cls, **dataset: Any) -> "_Judged":
        spec = DatasetSpec(train_samples=60, test_samples=1, **dataset)
        samples = load_samples(spec, CPU).train
        network = NetworkSpec(widths=(12, 9), normalize="l2")
        inputs = samples.labelled.shape[-1]
        return cls(samples, Network.initial(network, inputs, Draws((0, 1)), CPU))

    def ask(
        self, strategy: Negatives, index: Tensor, seeds: tuple[int, ...], replicas: slice
    ) -> tuple[Tensor, Tensor]:
        """The positives and negatives (R, B, m) of the samples of `index` (R, B)."""
        plain = strategy.positive(self.samples.positives(labelled=strategy.labelled)[index])
        judge = None
        if strategy.asks_network:
            weights = [weight[replicas] for weight in self.network.weights]
            judge = SummedGoodness(
                Network(self.network.spec, weights), SumSquares(), (0, 1), self.samples.patterns
            )
        draw = Draws(seeds).at("negatives")
        return plain, strategy(Positives(plain, index, self.samples, draw, judge))


LAYOUTS: tuple[dict[str, str], ...] = (
    {"name": "mnist-mini"},
    {"name": "digits", "labels": "append", "preprocess": "standardize"},
)


def negatives_have_the_shape_of_positives(strategy: Negatives) -> str:
    """A negative has the shape and type of its positive, is finite, and is never its positive"""
    for layout in LAYOUTS:
        judged = _Judged.make(**layout)
        index = torch.arange(40).view(2, 20)
        x, made = judged.ask(strategy, index, (5, 6), slice(2))
        where = layout["name"]
        _require(made.shape == x.shape, f"{where}: {tuple(made.shape)}, not {tuple(x.shape)}")
        _require(made.dtype == x.dtype, f"{where}: {made.dtype}, not {x.dtype}")
        _require(bool(made.isfinite().all()), f"{where}: not finite")
        same = int((made == x).all(-1).sum())
        _require(not same, f"{where}: {same} of {index.numel()} negatives are their positives")
    return "on mnist-mini, and on digits with labels in front"


def negatives_leave_the_data_alone(strategy: Negatives) -> str:
    """The data and the positives are what they were"""
    judged = _Judged.make(name="mnist-mini")
    before = judged.samples.labelled.clone()
    plain = strategy.positive(
        judged.samples.positives(labelled=strategy.labelled)[torch.arange(9)[None]]
    )
    x, _ = judged.ask(strategy, torch.arange(9)[None], (5,), slice(1))
    _require(torch.equal(judged.samples.labelled, before), "it changes the data in place")
    _require(torch.equal(x, plain), "it changes the positives in place")
    return "unchanged"


def negatives_follow_their_draw(strategy: Negatives) -> str:
    """The same draw gives the same bits, whatever else draws random numbers"""
    judged, index = _Judged.make(name="mnist-mini"), torch.arange(40).view(2, 20)
    with _other_random_state(1):
        first = judged.ask(strategy, index, (5, 6), slice(2))[1]
    with _other_random_state(2):
        second = judged.ask(strategy, index, (5, 6), slice(2))[1]
    _require(torch.equal(first, second), "it draws from elsewhere; use positives.draw")
    for replica, seed in enumerate((5, 6)):
        _, alone = judged.ask(
            strategy, index[replica : replica + 1], (seed,), slice(replica, replica + 1)
        )
        _require_close(alone[0], first[replica], f"of seed {seed} alone", 1e-5)
    return "and each seed as alone"


def relabelling_keeps_the_image(strategy: Negatives) -> str:
    """A Relabelling that keeps the image changes the label alone, to a wrong one"""
    if not isinstance(strategy, Relabelling):
        return "it is no Relabelling"
    if not strategy.keeps_image:
        return "it takes other images"
    judged, index = _Judged.make(name="mnist-mini"), torch.arange(60)[None]
    x, made = judged.ask(strategy, index, (5,), slice(1))
    classes = judged.samples.classes
    _require(torch.equal(made[..., classes:], x[..., classes:]), "it changes the image")
    shown = made[..., :classes].argmax(-1)
    _require(bool((shown != judged.samples.labels[index]).all()), "some labels are the true ones")
    return "and the label is wrong"


# Optimisers


def preview_is_the_step(optimizer: Optimizer) -> str:
    """A preview is the step that follows, and changes nothing"""
    weight = _normal(6, 2, 5, 4)
    state = optimizer.new_state(weight)
    for number in range(4):
        descent = _normal(7 + number, 2, 5, 4)
        held = (weight, descent, *state.values())
        before = [tensor.clone() for tensor in held]
        D = optimizer.preview(weight, descent, state)
        same = all(torch.equal(now, then) for now, then in zip(held, before, strict=True))
        _require(same, "a preview changes the weights, the descent or the state")
        expected = weight + 0.1 * D
        take_step(optimizer, weight, descent, state, 0.1)  # type: ignore[arg-type]
        _require_close(weight, expected, f"step {number + 1}", 1e-6)
        known = {*optimizer.slots, *optimizer.counters}
        _require(set(state) == known, f"its state has {sorted(set(state) ^ known)} beside `slots`")
    return "over 4 steps"


def replicas_step_alone(optimizer: Optimizer) -> str:
    """A replica steps as if it were alone, in float32 too, and weight decay changes the step"""
    weight, descents = _normal(8, 3, 5, 4), _normal(9, 3, 3, 5, 4)
    for dtype, most in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        whole = _direction(optimizer, weight.to(dtype), descents.to(dtype))
        _require(whole.dtype == dtype, f"of {dtype} it makes {whole.dtype}")
        alone = _direction(optimizer, weight[1:2].to(dtype), descents[:, 1:2].to(dtype))
        _require_close(alone[0], whole[1], "a replica alone", most)
    decayed = optimizer.model_copy(update={"weight_decay": 0.3})
    free = optimizer.model_copy(update={"weight_decay": 0.0})
    one, other = (_direction(each, weight, descents) for each in (decayed, free))
    _require(not torch.equal(one, other), "weight_decay changes nothing; use self.decayed")
    return "R = 3"


def optimizer_says_whether_it_is_linear(optimizer: Optimizer) -> str:
    """`linear` is true only where D grows with weights, descents and state"""
    weight, descents = _normal(10, 1, 5, 4), _normal(11, 3, 1, 5, 4)
    if optimizer.linear:
        scaled = _direction(optimizer, 4 * weight, 4 * descents)
        _require_close(scaled, 4 * _direction(optimizer, weight, descents), "linear is true: 4 D")
    still = _direction(optimizer, weight, 0 * descents)
    _require(bool(still.isfinite().all()), "not finite where the gradient is 0")
    return f"linear = {optimizer.linear}"


def _direction(optimizer: Optimizer, weight: Tensor, descents: Tensor) -> Tensor:
    """D of the last of some steps with these descents (steps, R, n, m)."""
    state = optimizer.new_state(weight)
    for descent in descents:
        found = optimizer.direction(weight.clone(), descent.clone(), state).clone()
    return found


# Activations and initialisations


def slope_is_the_derivative(activation: Activation) -> str:
    """Its slope is sigma' by autograd and by differences in float64, at any size of z"""
    z = torch.linspace(-6, 6, 1201, dtype=torch.float64) + 1e-3
    ends = torch.tensor([-700.0, 700.0, -1e4, 1e4], dtype=torch.float64)
    leaf = torch.cat([z, ends]).requires_grad_()
    (expected,) = torch.autograd.grad(activation.value(leaf).sum(), leaf)
    found = activation.slope(leaf.detach())
    step = 1e-6
    differences = (activation.value(z + step) - activation.value(z - step)) / (2 * step)
    _require_close(found[: len(z)], differences, "differences", 1e-6)
    return _require_close(found, expected, "autograd")


def activation_keeps_its_argument(activation: Activation) -> str:
    """value_ is value, types stay, z stays, and what it says of its slope is true"""
    z = 3 * _normal(12, 4, 50)
    kept, h = z.clone(), activation.value(z)
    slope = activation.slope(z)
    _require(torch.equal(z, kept), "it changes z")
    _require(torch.equal(activation.value_(z.clone()), h), "value_ differs from value")
    for tensor in (activation.value(z.float()), activation.slope(z.float())):
        _require(tensor.dtype == torch.float32, f"of float32 it makes {tensor.dtype}")
    if activation.slope_where_active_is_one:
        _require(bool((slope[h != 0] == 1).all()), "slope_where_active_is_one, and it is not 1")
    if (below := activation.slope_below_zero) is not None:
        _require_close(h, z.clamp_min(0) + below * z.clamp_max(0), "slope_below_zero")
    _require(len(meaning_of(type(activation))) > SHORTEST_MEANING // 2, "it has no docstring")
    return meaning_of(type(activation))


def init_follows_its_draw(named: tuple[str, Init]) -> str:
    """Its weights have their shape, follow the draw alone, and each seed has its own"""
    _, init = named
    for n, m in ((7, 5), (5, 7)):
        for what, make, shape in (
            ("weights", init.weight, (2, n, m)),
            ("biases", init.bias, (2, n)),
        ):
            with _other_random_state(1):
                first = make(Draws((3, 4)).at(what), 2, n, m)
            with _other_random_state(2):
                second = make(Draws((3, 4)).at(what), 2, n, m)
            _require(first.shape == shape, f"{what}: {tuple(first.shape)}, not {shape}")
            _require(first.dtype == torch.float32, f"{what}: {first.dtype}, not float32")
            _require(torch.equal(first, second), f"{what}: it draws from elsewhere than its draw")
            alone = make(Draws((4,)).at(what), 1, n, m)
            _require_close(alone[0], first[1], f"{what} of a seed alone", 1e-6)
    _require(len(init.meaning) > 5, "its meaning is empty")
    return init.meaning


# Runs


def reads_back(spec: TrainSpec) -> str:
    """A spec that uses it is written as JSON and reads back as the same"""
    again = TrainSpec.model_validate_json(spec.model_dump_json())
    _require(again == spec, "it reads back as another spec")
    _require(digest(again) == digest(spec), "its digest is another one after reading")
    return f"digest {digest(spec)[:12]}"


def repeats_bit_by_bit(spec: TrainSpec) -> str:
    """A short run is finite, and has the same bits again, whatever else draws random numbers"""
    with _other_random_state(1):
        first = train(spec)
    with _other_random_state(2):
        second = train(spec)
    _require(first.curves == second.curves, "two runs of one spec differ: it draws from elsewhere")
    _require(first.accuracy == second.accuracy, "two runs of one spec differ in accuracy")
    return f"{len(first.curves)} rows"


def resumes_bit_by_bit(spec: TrainSpec) -> str:
    """A run that is interrupted after any epoch ends with the bits of one that was not"""
    whole, stops = train(spec), 0
    for stop in range(spec.epochs * len(spec.network.widths) - 1):
        found = _interrupted(spec, stop)
        if found is None:
            continue
        stops += 1
        checkpoint, rows = found
        resumed = train(spec, resume=Checkpoint.from_bytes(checkpoint.to_bytes()))
        together = {_key(row): row for row in (*rows, *resumed.curves)}
        _require(
            together == {_key(row): row for row in whole.curves},
            f"interrupted after epoch {stop}, it ends with other figures: it has state beside "
            "`slots` and `counters`",
        )
        _require(resumed.accuracy == whole.accuracy, f"interrupted after epoch {stop}: accuracy")
    return f"{stops} interruptions"


def _interrupted(spec: TrainSpec, stop: int) -> tuple[Checkpoint, list[Any]] | None:
    """The checkpoint of a run that stops at a report, and its rows; None: it has fewer reports."""
    rows: list[Any] = []

    def on_epoch(report: EpochReport) -> Control:
        rows.extend(report.rows)
        nonlocal stop
        stop -= 1
        return "stop" if stop < 0 else "run"

    try:
        train(spec, on_epoch=on_epoch)
    except Interrupted as interrupted:
        return (interrupted.checkpoint, rows) if interrupted.checkpoint else None
    return None


def _key(row: Any) -> tuple[object, ...]:
    return row.seed, row.layer, row.epoch, row.split


def seeds_are_alone(spec: TrainSpec) -> str:
    """Each seed of a run learns as it does alone"""
    short = spec.model_copy(update={"epochs": 1})
    together = train(short)
    for seed in short.seeds:
        alone = train(short.model_copy(update={"seeds": (seed,)}))
        _require_alike([row for row in together.curves if row.seed == seed], alone, seed)
    return f"seeds {', '.join(map(str, short.seeds))}"


def _require_alike(rows: list[Any], alone: TrainResult, seed: int) -> None:
    for one, other in zip(rows, alone.curves, strict=True):
        for field in ("goodness", "sparsity"):
            found, expected = (torch.tensor(getattr(row, field) or 0.0) for row in (one, other))
            where = f"seed {seed}, layer {one.layer}, epoch {one.epoch}: its {field} alone"
            _require_close(found, expected, where, 1e-2)


def steps_as_autograd_says(spec: TrainSpec) -> str:
    """A step goes down the gradient of the loss, and margins along it are the change of S"""
    if spec.learns_classes:
        return _class_steps_as_autograd_says(spec)
    learner, x = _learner(spec), _normal(13, 1, 24, 9)
    weight, pairs = learner.network.weights[0], Pairs(x)
    activation, objective = learner.network.activation, spec.pairwise
    D = learner.preview(0, pairs, x @ weight.mT).direction
    leaf = weight.clone().requires_grad_()
    h = activation.value(x @ leaf.mT)
    goodness = objective.above(objective.layer_goodness.value(h), 12, h.shape[-1])
    first, second = objective.terms(goodness[:, :12], goodness[:, 12:])
    (slope,) = torch.autograd.grad((first + second).mean(), leaf)
    state = spec.optimizer.new_state(weight)
    expected = spec.optimizer.direction(weight.clone(), -slope, state)
    _require_close(D, expected, "the step", 1e-6)
    return _margins_follow(weight[0], x[0], D[0], activation)


def _learner(spec: TrainSpec) -> Learner:
    network = NetworkSpec(widths=(7,), activation=spec.network.activation)
    weight = 0.5 * _normal(14, 1, 7, 9)
    return Learner(Network(network, [weight]), spec.pairwise, spec.optimizer, epochs=1)


def _class_steps_as_autograd_says(spec: TrainSpec) -> str:
    """Compare the step of a layer that learns classes with autograd's, and margins along it."""
    x, labels = _normal(13, 1, 24, 9), torch.arange(24)[None] % CLASSES
    weight = 0.5 * _normal(14, 1, 7, 9)
    learner = _class_learner(spec, weight, CLASSES)
    network, objective = learner.network, learner.objective
    head = network.heads[0] if network.heads else None
    D = learner.preview(0, LabelledBatch(x, labels), x @ weight.mT).direction
    leaf = weight.clone().requires_grad_()
    h = network.activation.value(x @ leaf.mT)
    logits = objective.logits(h, CLASSES, head, torch.bmm)
    (slope,) = torch.autograd.grad(objective.losses(logits, labels).mean(), leaf)
    state = spec.optimizer.new_state(weight)
    expected = spec.optimizer.direction(weight.clone(), -slope, state)
    _require_close(D, expected, "the step", 1e-6)
    return _margins_follow(weight[0], x[0], D[0], network.activation)


def _class_learner(spec: TrainSpec, weight: Tensor, classes: int) -> ClassLearner:
    """Return a learner of one layer with these weights."""
    spec_of_layer = NetworkSpec(widths=(weight.shape[1],), activation=spec.network.activation)
    drawn = new_heads(spec.over_classes, spec_of_layer.widths, classes, Draws((3,)), CPU)
    heads = [head.to(weight.dtype) for head in drawn]
    network = Network(spec_of_layer, [weight], heads=heads)
    return ClassLearner(network, spec.over_classes, spec.optimizer, classes=classes, epochs=1)


def _margins_follow(weight: Tensor, x: Tensor, D: Tensor, activation: Activation) -> str:
    """Compare the signs of margins along a step with the change of S along a short piece of it."""
    if float(D.abs().max()) == 0:
        return "the step is 0"
    found = check_direction(weight, x, D, activation=activation.name)
    step = 1e-6 / float(D.norm())
    up, down = (_sparsity(x @ (weight + sign * step * D).T, activation) for sign in (1, -1))
    rate = (up - down) / (2 * step)
    clear = ~found.dead & ~found.undecided & (rate.abs() > 1e-4 * rate.abs().nan_to_num().max())
    wrong = int(((found.margin > 0) != (rate > 0))[clear].sum())
    _require(not wrong, f"S changes the other way than the margin says for {wrong} samples")
    return f"{int(clear.sum())} samples"


def _sparsity(z: Tensor, activation: Activation) -> Tensor:
    h, root = activation.value(z).abs(), z.shape[-1] ** 0.5
    sparsity: Tensor = (root - h.sum(-1) / h.norm(dim=-1)) / (root - 1)
    return sparsity


def has_a_cost(spec: TrainSpec) -> str:
    """Its cost can be estimated (found: how long a step takes beside one of fflab's own)"""
    found = estimate(spec)
    _require(not found.problems, "; ".join(found.problems))
    step = (spec.objective, spec.optimizer, spec.network.activation)
    if step == (SMALL.objective, SMALL.optimizer, SMALL.network.activation):
        return f"{found.seconds['cpu']:.2g} s for a short run"
    its, own = _seconds(spec, SMALL)
    return f"{its / own:.2f} of a step with {SMALL.optimizer.name}, sum_squares and relu"


def _seconds(*specs: TrainSpec) -> list[float]:
    """The shortest time of a step of a wide layer with each spec, taken in turn."""
    x = _normal(16, 1, 2 * TIMED_PAIRS, TIMED_INPUTS).float()
    learners = [_wide(spec) for spec in specs]
    batches = [
        LabelledBatch(x, torch.arange(x.shape[1])[None] % CLASSES)
        if spec.learns_classes
        else Pairs(x)
        for spec in specs
    ]
    times: list[list[float]] = [[] for _ in specs]
    for _ in range(TIMES):
        for learner, batch, taken in zip(learners, batches, times, strict=True):
            began = time.perf_counter()
            learner.step((0,), batch, 1)
            taken.append(time.perf_counter() - began)
    return [min(taken) for taken in times]


def _wide(spec: TrainSpec) -> Learner | ClassLearner:
    weight = _normal(15, 1, TIMED_UNITS, TIMED_INPUTS).float() / TIMED_INPUTS**0.5
    if spec.learns_classes:
        return _class_learner(spec, weight, CLASSES)
    network = NetworkSpec(widths=(TIMED_UNITS,), activation=spec.network.activation)
    return Learner(Network(network, [weight]), spec.pairwise, spec.optimizer, epochs=1)


@contextmanager
def _other_random_state(seed: int) -> Iterator[None]:
    """Seed the generators that anybody may draw from, and put them back afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


OVER_CLASSES: tuple[Check, ...] = (
    describes_itself,
    class_pull_is_the_slope,
    logits_are_of_each_sample,
    class_pull_is_finite,
    class_vectors_follow_their_draw,
)
OF_CATALOGUE: dict[Catalogue, tuple[Check, ...]] = {
    "negatives": (
        describes_itself,
        negatives_have_the_shape_of_positives,
        negatives_leave_the_data_alone,
        negatives_follow_their_draw,
        relabelling_keeps_the_image,
    ),
    "objectives": (
        describes_itself,
        slopes_are_of_the_terms,
        slopes_are_of_each_pair,
        objective_is_finite,
    ),
    "goodness": (
        describes_itself,
        pull_is_the_slope,
        goodness_is_of_each_sample,
        goodness_says_whether_it_is_quadratic,
    ),
    "optimizers": (
        describes_itself,
        preview_is_the_step,
        replicas_step_alone,
        optimizer_says_whether_it_is_linear,
    ),
    "activations": (slope_is_the_derivative, activation_keeps_its_argument),
    "inits": (init_follows_its_draw,),
}
OF_RUNS: tuple[Callable[[TrainSpec], str], ...] = (
    reads_back,
    steps_as_autograd_says,
    repeats_bit_by_bit,
    resumes_bit_by_bit,
    seeds_are_alone,
    has_a_cost,
)
