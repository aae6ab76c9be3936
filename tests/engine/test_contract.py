"""The contract that plug-ins are tested by: fflab keeps it itself, and it finds what is wrong."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch

from ffengine import contract
from ffengine.activations import ACTIVATIONS, Activation
from ffengine.additions import Catalogue
from ffengine.entry import entries, name_of
from ffengine.inits import INITS, Init
from ffengine.negatives import Negatives, NoNegatives, Relabelling
from ffengine.objectives import ClassBlock, Goodness, MonoForward, SumSquares, Symba
from ffengine.optimizers import Adam, Optimizer, Sgd
from ffengine.plugins import UNIONS

OWN: list[tuple[Catalogue, str]] = [
    *(
        (catalogue, name_of(entry, union.discriminator))
        for catalogue, union in UNIONS.items()
        for entry in entries(union.entries)
        if issubclass(entry, union.bases) and entry is not NoNegatives
    ),
    *(("activations", name) for name in ACTIVATIONS),
    *(("inits", name) for name in INITS),
]
# one of each catalogue; the others with the mark `soak`
FIRST = [next(one for one in OWN if one[0] == catalogue) for catalogue in contract.FIELDS]
IDS = [".".join(one) for one in OWN]


@pytest.mark.parametrize(("catalogue", "name"), OWN, ids=IDS)
def test_every_entry_of_fflab_keeps_the_contract(catalogue: Catalogue, name: str) -> None:
    entry = contract.find(catalogue, name)
    for check in contract.checks_of(catalogue, entry):
        assert check(entry)
    for on_runs in (contract.reads_back, contract.steps_as_autograd_says):
        assert on_runs(contract.spec_with(catalogue, entry))


@pytest.mark.parametrize(
    ("catalogue", "name"),
    [
        pytest.param(*one, marks=pytest.mark.slow if one in FIRST else pytest.mark.soak)
        for one in OWN
    ],
    ids=IDS,
)
def test_short_runs_with_every_entry_keep_the_contract(catalogue: Catalogue, name: str) -> None:
    for outcome in contract.contract(catalogue, name):
        assert outcome.passed, outcome


class Cubes(Goodness):
    """Sum of the cubes of the activations, of which half is pulled."""

    name: Literal["cubes"] = "cubes"

    def value(self, h: Any) -> Any:
        return h.pow(3).sum(-1)

    def pull(self, h: Any, value: Any, s: Any) -> Any:
        return 1.5 * h.square() * s.unsqueeze(-1)


class Relative(SumSquares):
    """Sum of squares, relative to that of the whole batch."""

    quadratic: ClassVar[bool] = False

    def value(self, h: Any) -> Any:
        return h.square().sum(-1) / h.square().sum(-1).mean(-1, keepdim=True)


class Proud(SumSquares):
    """Sum of squares plus one, which says that it is quadratic."""

    def value(self, h: Any) -> Any:
        return h.square().sum(-1) + 1


class Short(SumSquares):
    """Squares."""

    power: float = 2.0


class Centred(Symba):
    """Slopes less their mean over the batch."""

    def slopes(self, positive: Any, negative: Any) -> Any:
        return tuple(slope - slope.mean() for slope in super().slopes(positive, negative))


class Unpaired(Symba):
    """It compares pairs and does not say so."""

    paired: ClassVar[bool] = False


class Exploding(Symba):
    """Its loss is no number where the goodness is large."""

    def terms(self, positive: Any, negative: Any) -> Any:
        return (positive.exp() - negative.exp()) * 0, negative * 0


class Halved(MonoForward):
    """Class vectors of which half is pulled."""

    def back(self, *given: Any) -> Any:
        return super().back(*given)._replace(head=super().back(*given).head / 2)


class Crowd(ClassBlock):
    """Logits less their mean over the batch."""

    def logits(self, *given: Any) -> Any:
        found = super().logits(*given)
        return found - found.mean(1, keepdim=True)


class Boundless(ClassBlock):
    """Exponentials of the mean activations of blocks."""

    def logits(self, *given: Any) -> Any:
        return super().logits(*given).exp()

    def back(self, h: Any, logits: Any, slopes: Any, *rest: Any) -> Any:
        return super().back(h, logits, slopes * logits, *rest)


class Secretive(MonoForward):
    """It says that it learns no class vectors."""

    has_head: ClassVar[bool] = False


class Elsewhere(MonoForward):
    """Class vectors of torch's own generator."""

    def new_head(self, draw: Any, replicas: int, width: int, classes: int) -> Any:
        return torch.randn(replicas, classes, width)


class Restless(Negatives):
    """Noise of torch's own generator."""

    strategy: Literal["restless"] = "restless"

    def __call__(self, positives: Any) -> Any:
        return positives.x + torch.rand(positives.x.shape)


class InPlace(Negatives):
    """It doubles its positives in place."""

    strategy: Literal["in_place"] = "in_place"

    def __call__(self, positives: Any) -> Any:
        return positives.x.mul_(2)


class Copies(Negatives):
    """Each negative is its positive."""

    strategy: Literal["copies"] = "copies"

    def __call__(self, positives: Any) -> Any:
        return positives.x.clone()


class TrueLabel(Relabelling):
    """The label that the image has anyway."""

    strategy: Literal["true_label"] = "true_label"

    def wrong_labels(self, positives: Any) -> Any:
        return positives.labels


class Hidden(Optimizer):
    """It counts its steps where nobody saves them."""

    name: Literal["hidden"] = "hidden"
    counted: ClassVar[list[int]] = []

    def direction(self, weight: Any, descent: Any, state: Any) -> Any:
        self.counted.append(1)
        return self.decayed(weight, descent) / len(self.counted)


class Undecayed(Sgd):
    """It forgets the weight decay."""

    def direction(self, weight: Any, descent: Any, state: Any) -> Any:
        return descent


class Linear(Adam):
    """Adam that says it is linear."""

    linear: ClassVar[bool] = True


class Steeper(Activation):
    """A cube with the slope of another."""

    name = "steeper"

    def value(self, z: Any) -> Any:
        return z**3

    def slope(self, z: Any) -> Any:
        return 4 * z**2


class Spilling(Activation):
    """max(z, 0), made in the memory of z."""

    name = "spilling"

    def value(self, z: Any) -> Any:
        return z.clamp_min_(0) if not z.requires_grad else z.clamp_min(0)

    def slope(self, z: Any) -> Any:
        return (z > 0).to(z.dtype)


def loose(draw: Any, replicas: int, n: int, m: int) -> torch.Tensor:
    return torch.from_numpy(np.random.standard_normal((replicas, n, m)).astype("float32"))  # noqa: NPY002


BROKEN: dict[str, tuple[Catalogue, Any, str]] = {
    "half of the pull": ("goodness", Cubes(), "off autograd"),
    "goodness of a batch": ("goodness", Relative(), "the goodness of a sample alone: off"),
    "not quadratic": ("goodness", Proud(), "quadratic is true, and g(c h) is not"),
    "no description": ("goodness", Short(), "its docstring 'Squares.' is shorter"),
    "slopes of a batch": ("objectives", Centred(), "of positives: off"),
    "paired in secret": ("objectives", Unpaired(), "paired is false"),
    "no number": ("objectives", Exploding(), "terms has values that are none"),
    "half of the class vectors": ("objectives", Halved(), "the pull on class vectors: off"),
    "logits of a batch": ("objectives", Crowd(), "the logits of a sample alone: off"),
    "no number of large ones": ("objectives", Boundless(), "not finite with activations of 1e4"),
    "class vectors in secret": ("objectives", Secretive(), "has_head says otherwise"),
    "class vectors elsewhere": ("objectives", Elsewhere(), "it draws from elsewhere"),
    "own random numbers": ("negatives", Restless(), "use positives.draw"),
    "data changed": ("negatives", InPlace(), "it changes the positives in place"),
    "positives": ("negatives", Copies(), "negatives are their positives"),
    "true labels": ("negatives", TrueLabel(), "some labels are the true ones"),
    "no decay": ("optimizers", Undecayed(), "weight_decay changes nothing"),
    "not linear": ("optimizers", Linear(), "linear is true: 4 D: off"),
    "another slope": ("activations", Steeper(), "differences: off"),
    "z changed": ("activations", Spilling(), "it changes z"),
    "random elsewhere": (
        "inits",
        ("loose", Init("of NumPy's own generator", loose, INITS["he"].bias)),
        "it draws from elsewhere",
    ),
}


@pytest.fixture
def named() -> Iterator[None]:
    """Activations and initialisations are named in specs, and so must be in their tables."""
    for _, entry, _ in BROKEN.values():
        if isinstance(entry, Activation):
            ACTIVATIONS[entry.name] = entry
    yield
    for name in ("steeper", "spilling"):
        del ACTIVATIONS[name]


@pytest.mark.parametrize("what", BROKEN)
def test_the_contract_finds_what_is_wrong(what: str, named: None) -> None:
    catalogue, entry, said = BROKEN[what]
    found = []
    for check in contract.checks_of(catalogue, entry):
        try:
            check(entry)
        except contract.Broken as broken:
            found.append(str(broken))
    assert any(said in one for one in found), found


@pytest.mark.slow
def test_state_that_no_checkpoint_has_is_found() -> None:
    spec = contract.spec_with("optimizers", Hidden())
    with pytest.raises(contract.Broken, match="two runs of one spec differ"):
        contract.repeats_bit_by_bit(spec)
    with pytest.raises(contract.Broken, match="it has state beside"):
        contract.resumes_bit_by_bit(spec)


def test_an_entry_that_raises_fails_in_one_line() -> None:
    class Raising(Cubes):
        """It raises, with a message of several lines."""

        def value(self, h: Any) -> Any:
            raise RuntimeError("no\nway")

    outcomes = list(contract.outcomes("goodness", Raising()))
    assert next(one.found for one in outcomes if not one.passed) == "RuntimeError: no"
    assert all("\n" not in one.found for one in outcomes)


def test_margins_are_compared_with_the_change_of_sparsity() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(6, 4, generator=generator), torch.randn(9, 4, generator=generator)
    weight, x = weight.double(), x.double()
    D = torch.randn(6, 4, generator=generator).double()
    assert contract._margins_follow(weight, x, D, ACTIVATIONS["relu"]).endswith("samples")

    class Other(Activation):
        """The square of z, under the name of another activation."""

        name = "relu"

        def value(self, z: Any) -> Any:
            return z.square()

        def slope(self, z: Any) -> Any:
            return 2 * z

    with pytest.raises(contract.Broken, match="S changes the other way"):
        contract._margins_follow(weight, x, D, Other())
