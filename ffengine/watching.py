"""Watch a training loop that somebody else wrote: sparsity, dead units and theorems by layer.

Layers are found by the products that the loop computes, not by forward hooks: many Forward-Forward
programs call `layer.forward(x)` themselves, keep layers in plain lists, or scale the input within
the layer, and a hook sees none of that. While it watches, torch tells of each of its functions that
Python calls (`torch.overrides.TorchFunctionMode`); a product with a watched weight is a call of its
layer, and what it is multiplied with is the layer's input. The activation is the first function of
the list ACTIVATION_FUNCTIONS that is then applied to the product, or to what was made of it.

Nothing is computed in place of the loop: weights, gradients and random numbers are the same bits.
"""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it
from torch.overrides import TorchFunctionMode

from ffengine.results import RecordedRow, Split
from ffengine.watched_figures import (
    PATCH_BYTES,
    Convolution,
    Look,
    SplitTally,
    area_of,
    verdicts,
)

Splits = Literal["none", "halves", "calls"]
Watched = nn.Linear | nn.Conv2d
MOST_LAYERS = 1_000

_DENSE = {F.linear}
_PRODUCTS = {torch.mm, torch.matmul, Tensor.mm, Tensor.matmul, Tensor.__matmul__}
_ADDED_PRODUCTS = {torch.addmm}
_CONVOLUTIONS = {F.conv2d, torch.conv2d}
_SUMS = {torch.add, Tensor.add, Tensor.__add__, Tensor.add_, Tensor.__iadd__, Tensor.__radd__}
_CLAMPS: set[Callable[..., Any]] = {
    torch.clamp,
    Tensor.clamp,
    Tensor.clamp_,
    torch.clip,
    Tensor.clip,
}
_CLAMPS_BELOW: set[Callable[..., Any]] = {torch.clamp_min, Tensor.clamp_min, Tensor.clamp_min_}
# what counts as an activation, and its name in the catalogue of activations where it has one
ACTIVATION_FUNCTIONS: dict[Callable[..., Any], str | None] = {
    **dict.fromkeys((F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), "relu"),
    F.leaky_relu: "leaky_relu",
    F.elu: "elu",
    F.gelu: "gelu",
    F.silu: "silu",
    F.softplus: "softplus",
    **dict.fromkeys((torch.tanh, Tensor.tanh, F.tanh), "tanh"),
    **dict.fromkeys((torch.sigmoid, Tensor.sigmoid, F.sigmoid, F.hardsigmoid, F.logsigmoid)),
    **dict.fromkeys((F.selu, F.celu, F.mish, F.hardswish, F.hardtanh, F.relu6, F.prelu, F.rrelu)),
    **dict.fromkeys((F.softsign, F.threshold, F.softmax, torch.softmax, Tensor.softmax)),
    **dict.fromkeys((*_CLAMPS, *_CLAMPS_BELOW), "relu"),
}
# arguments with which a function is the one of the catalogue
_DEFAULTS: dict[Callable[..., Any], dict[str, tuple[int, Any]]] = {
    F.leaky_relu: {"negative_slope": (1, 0.01)},
    F.elu: {"alpha": (1, 1.0)},
    F.gelu: {"approximate": (1, "none")},
    F.softplus: {"beta": (1, 1), "threshold": (2, 20)},
    **{clamp: {"min": (1, 0), "max": (2, None)} for clamp in _CLAMPS},
    **{clamp: {"min": (1, 0)} for clamp in _CLAMPS_BELOW},
}


class _Part(NamedTuple):
    """The chosen samples of one split in a call."""

    split: Split
    rows: Tensor
    x: Tensor
    z: Tensor  # a copy: activations may overwrite it


@dataclass(eq=False)
class _Call:
    """A call of a layer whose activation is not known yet."""

    state: "_LayerState"
    parts: tuple[_Part, ...]
    shape: torch.Size  # of the whole product
    biased: bool
    direct: bool = True  # whether nothing but the layer's bias was added to the product


@dataclass(eq=False)
class _LayerState:
    """One watched layer."""

    number: int
    name: str
    module: Watched
    calls: int = 0
    steps: int = 0
    last: Split | None = None
    pending: list[_Call] = field(default_factory=list)
    looks: dict[Split, Look] = field(default_factory=dict)
    epoch: int = 0
    tallies: dict[Split, SplitTally] = field(default_factory=dict)


class Watch:
    """What `watch` returns: a context in which a training loop is watched.

    **Attributes:**

    - `rows`: what was recorded, a row for each layer, epoch and split; complete when the context
      has ended.
    - `layers`: the names of the watched layers, in the order of their numbers.
    - `notes`: what could not be seen, and why, in sentences; complete when the context has ended.
    """

    rows: list[RecordedRow]
    layers: tuple[str, ...]
    notes: tuple[str, ...]

    def __init__(
        self,
        layers: Mapping[str, Watched],
        *,
        every: int,
        samples: int,
        splits: Splits,
        steps_per_epoch: int | None,
        seed: int,
    ) -> None:
        self.layers = tuple(layers)
        self.rows, self.notes = [], ()
        self._states = [
            _LayerState(number, name, module)
            for number, (name, module) in enumerate(layers.items())
        ]
        self._every, self._samples, self._splits = every, samples, splits
        self._steps_per_epoch, self._seed = steps_per_epoch, seed
        self._mode = _Mode(self)
        self._epochs = 0
        self._told: Split | None = None
        self._paused = 0
        self._measured: set[int] = set()
        # what was made of a product, by its id, as long as it lives
        self._made_of: dict[int, tuple[weakref.ref[Tensor], _Call]] = {}

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._mode.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop watching, and complete the rows."""
        self._mode.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._flush()
        self.notes = self._notes()

    @contextmanager
    def positive(self) -> Iterator[None]:
        """Say that all calls in this context are of positive samples."""
        with self._of("positive"):
            yield

    @contextmanager
    def negative(self) -> Iterator[None]:
        """Say that all calls in this context are of negative samples."""
        with self._of("negative"):
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Watch nothing in this context, such as while accuracy is measured."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    def end_epoch(self) -> None:
        """Say that an epoch of the loop has ended: its rows are complete."""
        self._epochs += 1
        self._flush()

    def _notes(self) -> tuple[str, ...]:
        """Say what could not be seen, and why."""
        return tuple(
            f"layer {state.number} ({state.name}) was not called with gradients by a function of "
            f"torch that can be seen: compiled modules, weights that are computed, and calls "
            f"within no_grad are not watched"
            for state in self._states
            if state.number not in self._measured
        )

    @contextmanager
    def _of(self, split: Split) -> Iterator[None]:
        before, self._told = self._told, split
        try:
            yield
        finally:
            self._told = before

    def _see(
        self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
    ) -> None:
        """Look at a function that was just called."""
        if self._paused or not isinstance(result, Tensor):
            return
        found = _product(func, args, kwargs)
        if found is not None:
            if not torch.is_grad_enabled():
                return
            x, weight, biased = found
            state = self._state_of(weight)
            if state is not None:
                with torch.no_grad():
                    self._called(state, x, result, biased=biased)
        elif self._made_of:  # also without gradients, as the functions within one of its own are
            with torch.no_grad():
                self._follow(func, args, kwargs, result)

    def _state_of(self, weight: Tensor) -> _LayerState | None:
        """Return the layer of a weight or of a view of it."""
        return next((one for one in self._states if _is_of(one.module.weight, weight)), None)

    def _called(self, state: _LayerState, x: Tensor, z: Tensor, *, biased: bool) -> None:
        """Note a call of a layer, and look at it where its step is one that is looked at."""
        split: Split = self._told or "positive"
        if self._told is None and self._splits == "calls" and state.calls % 2:
            split = "negative"
        if split == "positive" or state.last != "positive":  # a step begins
            self._settle(state)
            state.steps += 1 if state.calls else 0
            self._turn(state)
        state.calls, state.last = state.calls + 1, split
        if state.steps % self._every:
            return
        firsts: dict[Split, int] = {split: 0}
        count = len(x)
        if self._told is None and self._splits == "halves":
            count //= 2
            firsts = {"positive": 0, "negative": count}
        kept = min(count, self._most(state, z))
        parts = [
            (part, torch.arange(first, first + kept, device=x.device))
            for part, first in firsts.items()
        ]
        call = _Call(
            state,
            tuple(_Part(part, rows, x.detach()[rows], z.detach()[rows]) for part, rows in parts),
            z.shape,
            biased,
        )
        state.pending.append(call)
        self._remember(z, call)

    def _most(self, state: _LayerState, z: Tensor) -> int:
        """Return of how many samples at most a look is."""
        if not isinstance(state.module, nn.Conv2d):
            return self._samples
        of_image = 8 * z[0, 0].numel() * state.module.weight[0].numel()
        return max(1, min(self._samples, PATCH_BYTES // max(1, of_image)))

    def _remember(self, made: Tensor, call: _Call) -> None:
        """Remember that a tensor is what became of a call."""
        key = id(made)

        def forget(_: weakref.ref[Tensor]) -> None:
            self._made_of.pop(key, None)

        self._made_of[key] = (weakref.ref(made, forget), call)

    def _follow(
        self,
        func: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        result: Tensor,
    ) -> None:
        """Follow what becomes of a product, up to its activation."""
        source, call = self._call_of(args)
        if call is None or call not in call.state.pending:  # its activation is known already
            return
        if func in ACTIVATION_FUNCTIONS and _same_units(result, call.shape):
            name = _name_of(func, args, kwargs) if call.direct else None
            for part in call.parts:
                self._looked(call, part, result.detach()[part.rows], name)
            call.state.pending.remove(call)
            return
        bias = call.state.module.bias
        other = args[1 - source] if len(args) > 1 else None
        if func in _SUMS and not call.biased and _is_of(bias, other):
            call.biased = True
        else:
            call.direct = False
        self._remember(result, call)

    def _call_of(self, args: Sequence[Any]) -> tuple[int, _Call | None]:
        """Return which of the first two arguments was made of a call, and the call."""
        for place, one in enumerate(args[:2]):
            if isinstance(one, Tensor) and (found := self._made_of.get(id(one))) is not None:
                made, call = found
                if made() is one:
                    return place, call
        return 0, None

    def _settle(self, state: _LayerState) -> None:
        """Complete a step of a layer: calls without an activation have their product as one."""
        for call in state.pending:
            for part in call.parts:
                self._looked(call, part, part.z, None)
        state.pending.clear()
        looks, state.looks = state.looks, {}
        for split, look in looks.items():
            if one := verdicts([look], [1.0]):
                state.tallies[split].theorems.setdefault(1, []).append(one[0])
        if len(looks) == 2:
            both: tuple[Split, Split] = ("positive", "negative")
            found = verdicts([looks[split] for split in both], [-1.0, 1.0])
            for split, verdict in zip(both, found or (), strict=False):
                state.tallies[split].theorems.setdefault(2, []).append(verdict)

    def _looked(self, call: _Call, part: _Part, h: Tensor, activation: str | None) -> None:
        """Add what was seen of a call to the figures of its epoch."""
        state, x = call.state, part.x
        module = state.module
        if isinstance(module, nn.Linear):
            x, h = x.reshape(-1, x.shape[-1]), h.reshape(-1, h.shape[-1])
        elif module.groups != 1 or isinstance(module.padding, str):
            activation = None
        weight = module.weight.detach().flatten(1)
        if call.biased and module.bias is not None:
            weight = torch.cat([weight, module.bias.detach().unsqueeze(1)], dim=1)
        if weight.dtype not in (torch.float32, torch.float64):
            weight = weight.float()
        version = module.weight._version
        look = Look(x, weight.clone(), version, _geometry(module), h, activation)
        state.looks[part.split] = look
        state.tallies.setdefault(part.split, SplitTally()).add(look)
        self._measured.add(state.number)

    def _turn(self, state: _LayerState) -> None:
        """Begin the epoch of a step, and complete the one before."""
        epoch = self._epoch_of(state.steps)
        if epoch != state.epoch:
            self._complete(state)
            state.epoch = epoch

    def _epoch_of(self, step: int) -> int:
        """Return the epoch of a step of a layer, from 0; the first one is at initialisation."""
        if step == 0:
            return 0
        if self._steps_per_epoch is None:
            return self._epochs + 1
        return math.ceil(step / self._steps_per_epoch)

    def _flush(self) -> None:
        """Complete all rows so far."""
        with torch.no_grad():
            for state in self._states:
                self._settle(state)
                self._complete(state)

    def _complete(self, state: _LayerState) -> None:
        """Make rows of the figures of a layer's epoch."""
        tallies, state.tallies = state.tallies, {}
        area = area_of(tallies.get("positive"), tallies.get("negative"))
        self.rows += [
            tally.row(
                seed=self._seed, layer=state.number, epoch=state.epoch, split=split, area=area
            )
            for split, tally in tallies.items()
        ]


class _Mode(TorchFunctionMode):
    """Calls every function of torch as it is, and lets a watch look at it afterwards."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        given = kwargs or {}
        result = func(*args, **given)
        self._watch._see(func, args, given, result)
        return result


def watch(
    module: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
    *,
    every: int = 10,
    samples: int = 512,
    splits: Splits = "none",
    steps_per_epoch: int | None = None,
    seed: int = 0,
) -> Watch:
    """Record sparsity, dead units and theorems of the layers of somebody else's training loop.

    Every Linear and Conv2d layer of the module is watched. Calls without gradients are not counted,
    so that an evaluation under `torch.no_grad` is left out. A step of a layer is one call of it,
    with "calls" two; the first one is looked at, as epoch 0, and then each `every`-th.

    **Arguments:**

    - `module`: the network; or its layers, where they are kept in a list or a dictionary.
    - `every`: a layer is looked at in one of so many of its steps.
    - `samples`: the first samples of a batch that are looked at, at most, of each split.
    - `splits`: how positives and negatives are told apart. "none": the context does it
      (`positive()`, `negative()`), or all samples are positive; "halves": the first half of each
      batch is positive; "calls": a layer is called with positives and negatives in turn.
    - `steps_per_epoch`: how many steps of a layer are an epoch; None: `end_epoch` says so.
    - `seed`: written into the rows.

    **Returns:**

    A context manager, whose `rows` are what was recorded.

    **Raises:**

    - `ValueError`: there is no layer to watch, or a number is below 1.
    """
    numbers = {"every": every, "samples": samples, "steps_per_epoch": steps_per_epoch}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    if splits not in ("none", "halves", "calls"):
        raise ValueError(f"splits: expected none, halves or calls, got {splits!r}")
    layers = _layers_of(module)
    if not 0 < len(layers) <= MOST_LAYERS:
        raise ValueError(
            f"module: has {len(layers)} Linear and Conv2d layers, expected 1 to {MOST_LAYERS}; "
            f"layers that are kept in a plain list are given as that list"
        )
    return Watch(
        layers,
        every=every,
        samples=samples,
        splits=splits,
        steps_per_epoch=steps_per_epoch,
        seed=seed,
    )


def _layers_of(
    module: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
) -> dict[str, Watched]:
    """Return the layers of modules by name, each once."""
    if isinstance(module, nn.Module):
        named = {"": module}
    elif isinstance(module, Mapping):
        named = dict(module)
    else:
        named = {str(number): one for number, one in enumerate(module)}
    found: dict[str, Watched] = {}
    for prefix, one in named.items():
        for name, layer in one.named_modules(prefix=prefix):
            if isinstance(layer, nn.Linear | nn.Conv2d) and layer not in found.values():
                found[name or type(layer).__name__] = layer
    return found


def _product(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Tensor, Tensor, bool] | None:
    """Return what a product multiplies: inputs, weight, and whether a bias is added."""
    if func in _DENSE or func in _CONVOLUTIONS:
        x, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight")
        biased = _argument(args, kwargs, 2, "bias") is not None
    elif func in _PRODUCTS:
        other = "mat2" if func in (torch.mm, Tensor.mm) else "other"
        x, weight = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, other)
        biased = False
    elif func in _ADDED_PRODUCTS:
        x, weight = _argument(args, kwargs, 1, "mat1"), _argument(args, kwargs, 2, "mat2")
        biased = True
    else:
        return None
    if not isinstance(x, Tensor) or not isinstance(weight, Tensor):
        return None
    if x.dim() < 2 or (func in _CONVOLUTIONS and x.dim() != 4):
        return None
    return x, weight, biased


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str) -> Any:
    return args[place] if place < len(args) else kwargs.get(name)


def _name_of(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return the name in the catalogue of an activation, with its arguments; None: it has none."""
    for name, (place, usual) in _DEFAULTS.get(func, {}).items():
        given = args[place] if place < len(args) else kwargs.get(name, usual)
        if given != usual:
            return None
    if func in _CLAMPS and "min" not in kwargs and len(args) < 2:
        return None
    return ACTIVATION_FUNCTIONS[func]


def _is_of(parameter: Tensor | None, found: object) -> bool:
    """Whether a tensor is a parameter, or a view of it such as its transpose."""
    if parameter is None or not isinstance(found, Tensor):
        return False
    return found is parameter or found._base is parameter


def _same_units(result: Tensor, shape: torch.Size) -> bool:
    """Whether a tensor has the units of a product; maps of channels may have another size."""
    return result.shape == shape or (
        result.dim() == 4 and len(shape) == 4 and result.shape[:2] == shape[:2]
    )


def _geometry(module: Watched) -> Convolution | None:
    """Return how a convolution cuts its patches; None for a dense layer."""
    if isinstance(module, nn.Linear):
        return None
    # of other modes, the loop pads the images before the product
    padded = module.padding if module.padding_mode == "zeros" else (0, 0)
    padding = (0, 0) if isinstance(padded, str) else padded
    pairs = (module.kernel_size, module.stride, padding, module.dilation)
    return Convolution(*((int(one), int(other)) for one, other in pairs))
