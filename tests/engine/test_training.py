"""Training: against a slow loop with float64 autograd, across seeds, and after interruptions at
every kind of place.
"""

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, reject, settings
from hypothesis import strategies as st

import ffengine
from ffengine import layer_updates
from ffengine.checkpoint import Checkpoint
from ffengine.datasets import DATASETS
from ffengine.entry import entries, name_of
from ffengine.inits import INITS
from ffengine.interrupts import Control, Diverged, Interrupted
from ffengine.monitor import paired
from ffengine.negatives import AnyNegatives, NoNegatives
from ffengine.network import Network, normalized
from ffengine.objectives import AnyObjective, GoodnessEntry, Objective, Polar, Thresholded
from ffengine.optimizers import SCHEDULES, AnyOptimizer
from ffengine.random_streams import Draws
from ffengine.results import Split
from ffengine.samples import load_samples
from ffengine.scaling import power_of_two
from ffengine.spec import TrainSpec, digest
from ffengine.training import BatchReport, EpochReport
from tests.engine import reference
from tests.engine.reference import SIGMA, optimizer_of
from tests.engine.specs import spec_of
from tests.examples import examples

# polar is of two halves of a layer: see test_polar.py
PAIRWISE = [
    entry
    for entry in entries(AnyObjective)
    if issubclass(entry, Objective) and not issubclass(entry, Polar)
]
OBJECTIVES = [name_of(entry, "name") for entry in PAIRWISE]
# whitened goes by running moments, too: see test_whitened.py
GOODNESS = [
    name for entry in entries(GoodnessEntry) if (name := name_of(entry, "name")) != "whitened"
]
OPTIMIZERS = [name_of(entry, "name") for entry in entries(AnyOptimizer)]
STRATEGIES = [
    entry
    for entry in entries(AnyNegatives)
    if not entry.asks_network and entry is not NoNegatives  # type: ignore[attr-defined]
]

UNPAIRED = [name_of(entry, "name") for entry in PAIRWISE if not entry.paired]

THRESHOLDED = [
    name_of(entry, "name") for entry in entries(AnyObjective) if issubclass(entry, Thresholded)
]

specs = st.builds(
    lambda phases, objective, negative_threshold, **rest: spec_of(
        objective=objective
        | ({"negative_threshold": negative_threshold} if objective["name"] in THRESHOLDED else {}),
        **({"phases": phases} if objective["name"] in UNPAIRED else {}),
        **rest,
    ),
    negative_threshold=st.sampled_from([None, None, 0.1]),
    phases=st.sampled_from(
        [
            {},
            {},
            *({"positive_steps": p, "negative_steps": n} for p, n in ((2, 1), (1, 0), (0, 3))),
            {"positive_steps": 1, "negative_steps": 1, "unit": "epochs", "lr_ratio": 0.5},
            {"positive_steps": 3, "negative_steps": 2, "lr_ratio": 2.0},
            {"positive_steps": 1, "negative_steps": 2, "own_states": True},
        ]
    ),
    network=st.fixed_dictionaries(
        {
            "widths": st.lists(st.integers(3, 30), min_size=1, max_size=3),
            "activation": st.sampled_from(sorted(SIGMA)),
            "bias": st.booleans(),
            "init": st.sampled_from(sorted(INITS)),
            "normalize": st.sampled_from(["l2", "l2", "l2", "rms", "layer"]),
            "normalize_first": st.just(True),
        }
    ),
    layers=st.sampled_from(["greedy", "simultaneous"]),
    objective=st.fixed_dictionaries(
        {
            "name": st.sampled_from(OBJECTIVES),
            "goodness": st.sampled_from(GOODNESS),
            "peer_normalization": st.sampled_from([0.0, 0.3]),
        }
    ),
    negatives=st.fixed_dictionaries(
        {
            "strategy": st.sampled_from([name_of(entry, "strategy") for entry in STRATEGIES]),
            "redraw": st.sampled_from(["every_epoch", "once"]),
        }
    ),
    dataset=st.fixed_dictionaries(
        {
            "preprocess": st.sampled_from(["unit_norm", "standardize"]),
            "labels": st.sampled_from(["overlay", "append"]),
            "train_samples": st.just(60),
            "test_samples": st.just(20),
        }
    ),
    batch_size=st.integers(20, 60),
    epochs=st.integers(1, 3),
    optimizer=st.builds(
        # a small epsilon makes Adam's step the sign of gradients that are nothing but rounding
        lambda name, **rest: {
            "name": name,
            "scale_lr_by_width": False,
            **({"epsilon": 1e-2} if name.startswith("adam") else {}),
            **rest,
        },
        name=st.sampled_from(OPTIMIZERS),
        lr=st.floats(1e-3, 2e-2),
        schedule=st.sampled_from(sorted(SCHEDULES)),
        weight_decay=st.sampled_from([0.0, 0.1]),
    ),
    seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=2, unique=True),
)


# activations far down gelu's tail, normalised: found by chance, where torch's own gelu has no
# correct digit
COLLAPSED = spec_of(
    network={
        "widths": [3, 3, 3],
        "activation": "gelu",
        "init": "gaussian",
        "normalize": "rms",
        "normalize_first": True,
    },
    objective={"name": "softplus", "goodness": "sum_squares", "peer_normalization": 0.0},
    dataset={"preprocess": "unit_norm", "train_samples": 60, "test_samples": 20},
    batch_size=20,
    epochs=1,
    optimizer={"name": "nesterov", "lr": 0.015625, "scale_lr_by_width": False},
)

RANDOM_LABELS, WAVES = (
    spec_of(
        network={
            "widths": [9, 8],
            "activation": "relu",
            "bias": True,
            "normalize": "l2",
            "normalize_first": True,
        },
        layers="simultaneous",
        objective={"name": "softplus", "goodness": "sum_squares"},
        negatives={"redraw": redraw},
        dataset={"label_code": code, "labels": place, "train_samples": 60, "test_samples": 20},
        batch_size=25,
        epochs=2,
        optimizer={"name": "momentum", "lr": 0.01, "scale_lr_by_width": False},
        seeds=[3, 8],
    )
    for code, place, redraw in (("random", "append", "once"), ("fourier", "overlay", "every_epoch"))
)


def slow_weights(spec: TrainSpec, replica: int, *, nudge: float = 0.0) -> list[torch.Tensor]:
    """The final weights of one replica by float64 autograd and torch's own optimisers, batch after
    batch, from the same draws.

    `nudge`: how far, relatively, the initial weights are moved at random; those that are 0, by a
    thousandth of it.
    """
    device = torch.device("cpu")
    draws = Draws((spec.seeds[replica],))
    train = load_samples(spec.dataset, device).train
    noise = torch.Generator().manual_seed(1)
    weights = [
        w[0].double()
        for w in Network.initial(
            spec.network, spec.inputs(DATASETS["mnist-mini"]), draws, device
        ).weights
    ]
    weights = [
        w * (1 + nudge * moved) + 1e-3 * nudge * moved
        for w in weights
        for moved in [torch.randn(w.shape, generator=noise, dtype=w.dtype)]
    ]
    for weight in weights:
        weight.requires_grad_()
    both, of_negatives = (
        [optimizer_of(spec.optimizer.model_dump(), weight, len(weight)) for weight in weights]
        for _ in range(2)
    )
    bases = [group["lr"] for optimizer in both for group in optimizer.param_groups]
    activity = [torch.full((len(weight),), 0.5, dtype=torch.float64) for weight in weights]
    everything = torch.arange(len(train)).unsqueeze(0)
    fixed = (
        paired(spec, train, everything, draws, ("negatives-once", 0), None)[0]
        if spec.negatives.redraw == "once"
        else None
    )

    def forward(x: torch.Tensor, layer: int) -> torch.Tensor:
        x = normalized(x, spec.network.normalize)
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1) if spec.network.bias else x
        return SIGMA[spec.network.activation](x @ weights[layer].T)

    def loss(h: torch.Tensor, positives: int, layer: int, split: Split | None) -> torch.Tensor:
        goodness = reference.GOODNESS[spec.objective.goodness.name](h)  # type: ignore[attr-defined]
        positive, negative = (
            (goodness[:positives], goodness[positives:])
            if split is None
            else (goodness, goodness.detach())
            if split == "positive"
            else (goodness.detach(), goodness)
        )
        threshold = spec.objective.offset(h.shape[1])
        other = getattr(spec.objective, "negative_threshold", None)
        loss = reference.pair_loss(
            spec.objective.model_dump(),
            positive - threshold,
            negative - (threshold if other is None else other),
        ).mean()
        if split == "negative":
            return loss
        running = activity[layer] * spec.objective.peer_momentum + h[:positives].mean(0) * (
            1 - spec.objective.peer_momentum
        )
        if spec.objective.peer_normalization:
            activity[layer] = running.detach()
        return loss + spec.objective.peer_normalization * ((running.mean() - running) ** 2).mean()

    for stage, layers in enumerate(spec.stages):
        for epoch in range(1, spec.epochs + 1):
            order = draws.at("order", stage, epoch).permutation(len(train))
            for layer in layers:
                for optimizer in (both[layer], of_negatives[layer]):
                    for group in optimizer.param_groups:
                        group["lr"] = bases[layer] * SCHEDULES[spec.optimizer.schedule].factor(
                            epoch, spec.epochs
                        )
            for batch, index in enumerate(order.split(spec.batch_size, dim=1)):
                if fixed is None:
                    x = paired(spec, train, index, draws, ("negatives", stage, epoch, batch), None)[
                        0
                    ].double()
                else:
                    x = fixed[torch.cat([index[0], index[0] + len(train)])].double()
                steps = -(-len(train) // spec.batch_size)
                split = spec.phases.split_at((epoch - 1) * steps + batch, steps)
                rate = spec.phases.lr_ratio if split == "negative" else 1.0
                if split is not None:
                    x = x.chunk(2)[("positive", "negative").index(split)]
                for below in range(layers[0]):
                    x = forward(x, below).detach()
                inputs = {}
                for layer in layers:
                    inputs[layer] = x
                    x = forward(x, layer).detach()
                own = spec.phases.own_states and split == "negative"
                optimizers = of_negatives if own else both
                for layer in layers:
                    optimizers[layer].zero_grad()
                    h = forward(inputs[layer], layer)
                    loss(h, index.shape[1], layer, split).backward()  # type: ignore[no-untyped-call]
                    for group in optimizers[layer].param_groups:
                        group["lr"] *= rate
                    optimizers[layer].step()
                    for group in optimizers[layer].param_groups:
                        group["lr"] /= rate
    return [weight.detach() for weight in weights]


def final_weights(spec: TrainSpec) -> tuple[torch.Tensor, ...]:
    reports: list[EpochReport] = []
    ffengine.train(spec, on_epoch=reports.append)  # type: ignore[arg-type]
    checkpoint = reports[-1].checkpoint
    return tuple(
        weight * power_of_two(exponent).view(-1, 1, 1)
        for weight, exponent in zip(checkpoint.weights, checkpoint.scales, strict=True)
    )


def grown_moderately(spec: TrainSpec) -> tuple[torch.Tensor, ...]:
    """The final weights, unless the run grew without bounds, where rounding grows with it."""
    try:
        weights = final_weights(spec)
    except Diverged:
        reject()
    assume(all(float(weight.abs().max()) < 10 for weight in weights))
    return weights


def assume_well_conditioned(spec: TrainSpec, replica: int, exact: list[torch.Tensor]) -> None:
    """Leave out runs that multiply the rounding of their weights: of a layer of few units, say,
    whose activations nearly vanish and are then normalised, or where a unit is active or not by a
    bias that would be 0 but for rounding. What float32 gives there says nothing of the engine.
    """
    for nudge in (1e-6, -1e-6):
        nudged = slow_weights(spec, replica, nudge=nudge)
        assume(
            all(
                float((one - other).abs().max()) < 3e-5
                for one, other in zip(nudged, exact, strict=True)
            )
        )


@pytest.mark.slow
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.filter_too_much])
@given(specs, st.sampled_from([7, 1000]))
@example(COLLAPSED, 1000)
@example(RANDOM_LABELS, 7)
@example(WAVES, 1000)
def test_weights_equal_a_float64_autograd_loop(spec: TrainSpec, pairs_at_a_time: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer_updates, "STEP_PAIRS", pairs_at_a_time)
        found = grown_moderately(spec)
    for replica in range(len(spec.seeds)):
        exact = slow_weights(spec, replica)
        assume_well_conditioned(spec, replica, exact)
        for layer, expected in enumerate(exact):
            assert torch.allclose(found[layer][replica].double(), expected, rtol=1e-3, atol=1e-4)


@settings(max_examples=examples(10), suppress_health_check=[HealthCheck.filter_too_much])
@given(specs)
@example(RANDOM_LABELS)
@example(WAVES)
def test_a_replica_equals_the_run_of_its_seed_alone(spec: TrainSpec) -> None:
    together = grown_moderately(spec)
    for replica, seed in enumerate(spec.seeds):
        assume_well_conditioned(spec, replica, slow_weights(spec, replica))
        alone = final_weights(spec.model_copy(update={"seeds": (seed,)}))
        for one, other in zip(
            together, alone, strict=True
        ):  # as matrices: single entries may amplify the products' rounding
            assert float((one[replica] - other[0]).norm()) <= 1e-4 * float(other[0].norm())


@pytest.mark.slow
@settings(max_examples=examples(15))
@given(specs, st.integers(1, 12))
def test_a_run_interrupted_every_few_batches_gives_the_same_bits(
    spec: TrainSpec, patience: int
) -> None:
    grown_moderately(spec)
    whole = ffengine.train(spec)
    resume: Checkpoint | None = None
    result = None
    while result is None:
        left = [patience]

        def stop_soon(_report: EpochReport | BatchReport, left: list[int] = left) -> Control:
            left[0] -= 1
            return "stop" if left[0] == 0 else None

        try:
            result = ffengine.train(spec, on_epoch=stop_soon, on_batch=stop_soon, resume=resume)
        except Interrupted as stopped:
            resume = Checkpoint.from_bytes(stopped.checkpoint.to_bytes())  # type: ignore[union-attr]
    assert result.curves == whole.curves
    assert result.accuracy == whole.accuracy
    assert result.diagnostics == whole.diagnostics


@pytest.mark.slow
@pytest.mark.parametrize("negatives", [{}, {"image": "any"}, {"strategy": "other_image"}])
@pytest.mark.parametrize("batch_size", [500, 2_300])
@pytest.mark.parametrize("seeds", [[0], [3, 4]])
def test_inputs_passed_on_from_layer_to_layer_are_the_bits_that_a_resumed_run_makes_anew(
    negatives: dict[str, str], batch_size: int, seeds: list[int]
) -> None:
    spec = spec_of(
        dataset={"train_samples": 2_300, "test_samples": 10},
        network={"widths": [12, 10, 8], "normalize": "l2"},
        negatives={"redraw": "once", **negatives},
        batch_size=batch_size,
        epochs=2,
        seeds=seeds,
    )
    reports: list[EpochReport] = []
    whole = ffengine.train(spec, on_epoch=reports.append)  # type: ignore[arg-type]
    for report in reports:
        if report.layers == (2,):
            assert ffengine.train(spec, resume=report.checkpoint).curves == whole.curves


def test_the_same_spec_gives_the_same_bits() -> None:
    one, other = ffengine.train(spec_of()), ffengine.train(spec_of())
    assert one.curves == other.curves
    assert one.accuracy == other.accuracy


def test_epochs_are_reported_in_order_with_rising_fractions_and_all_rows() -> None:
    reports: list[EpochReport] = []
    spec = spec_of(
        network={"widths": [10, 8]}, monitor={"samples": 80, "every_epochs": 2}, seeds=[3, 4]
    )
    result = ffengine.train(spec, on_epoch=reports.append)  # type: ignore[arg-type]
    assert [(r.layers, r.epoch) for r in reports] == [
        ((layer,), epoch) for layer in (0, 1) for epoch in range(4)
    ]
    assert [r.fraction for r in reports] == sorted(r.fraction for r in reports)
    assert reports[-1].fraction == 1.0
    assert tuple(row for report in reports for row in report.rows) == result.curves
    assert {(row.seed, row.layer, row.epoch, row.split) for row in result.curves} == {
        (seed, layer, epoch, split)
        for seed in (3, 4)
        for layer in (0, 1)
        for epoch in (0, 2, 3)
        for split in ("positive", "negative")
    }
    assert result.provenance.spec_digest == digest(spec)
    assert result.provenance.dataset.train_samples == 120


def test_simultaneous_layers_are_all_measured_every_epoch() -> None:
    result = ffengine.train(spec_of(network={"widths": [10, 8]}, layers="simultaneous"))
    assert [(row.layer, row.epoch) for row in result.curves[::2]] == [
        (layer, epoch) for epoch in range(4) for layer in (0, 1)
    ]


def test_divergence_ends_with_a_diagnosis_after_the_curves_so_far() -> None:
    reports: list[EpochReport] = []
    with pytest.raises(Diverged) as caught:
        ffengine.train(
            spec_of(
                network={"widths": [24], "activation": "squared_relu"},
                optimizer={"lr": 1e9},
                epochs=20,
            ),
            on_epoch=reports.append,  # type: ignore[arg-type]
        )
    assert caught.value.diagnostic.code == "diverged"
    assert "lr" in caught.value.diagnostic.suggestion
    assert reports[0].rows


@pytest.mark.slow
def test_softplus_separates_the_splits_and_classifies() -> None:
    spec = TrainSpec.model_validate(
        {
            "objective": {"name": "softplus"},
            "optimizer": {"lr": 10.0, "scale_lr_by_width": False},
            "batch_size": 50,
            "epochs": 6,
            "monitor": {"every_epochs": 6},
        }
    )
    result = ffengine.train(spec)
    assert result.accuracy[-1].partition == "test"
    assert result.accuracy[-1].accuracy > 0.7
    last = {row.split: row.goodness for row in result.curves[-2:]}
    assert last["positive"] > last["negative"]  # type: ignore[operator]


def test_strategies_without_labels_have_no_accuracy_by_label() -> None:
    assert ffengine.train(spec_of(negatives={"strategy": "hybrid"})).accuracy == ()


@pytest.mark.slow
def test_accuracy_equals_a_loop_over_samples_and_labels() -> None:
    spec = spec_of(network={"widths": [10, 8], "normalize": "l2"}, seeds=[5])
    weights = [w[0].double() for w in final_weights(spec)]
    test = load_samples(spec.dataset, torch.device("cpu")).test
    correct = [0, 0, 0, 0]
    for image, label in zip(test.plain.double(), test.labels.tolist(), strict=True):
        energy = torch.zeros(3, 10, dtype=torch.float64)
        for candidate in range(10):
            x = image.clone()
            x[:10] = 0
            x[candidate] = 1
            first = torch.relu(weights[0] @ x)
            second = torch.relu(weights[1] @ (first / first.norm()))
            energy[:, candidate] = torch.tensor(
                [
                    first.square().sum(),
                    second.square().sum(),
                    first.square().sum() + second.square().sum(),
                ]
            )
        scores = [*energy, energy[:2].softmax(1).sum(0)]
        for place in range(4):
            correct[place] += int(scores[place].argmax()) == label
    found = {
        (row.method, row.layers): row.correct
        for row in ffengine.train(spec).accuracy
        if row.partition == "test"
    }
    assert found == {
        ("goodness", (0,)): correct[0],
        ("goodness", (1,)): correct[1],
        ("goodness", (0, 1)): correct[2],
        ("softmax", (0, 1)): correct[3],
    }


def test_a_checkpoint_of_another_spec_is_refused() -> None:
    reports: list[EpochReport] = []
    ffengine.train(spec_of(), on_epoch=reports.append)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="resume: the checkpoint belongs to another spec"):
        ffengine.train(spec_of(epochs=4), resume=reports[1].checkpoint)


@given(st.integers(0, 10_000), st.integers(0, 255))
@settings(max_examples=examples(40))
def test_a_damaged_checkpoint_is_a_value_error_or_the_same(place: int, value: int) -> None:
    data = bytearray(GOOD_CHECKPOINT)
    data[place % len(data)] = value
    try:
        Checkpoint.from_bytes(bytes(data))
    except ValueError:
        return


def test_a_truncated_checkpoint_is_a_value_error() -> None:
    for length in (0, 7, 100, len(GOOD_CHECKPOINT) - 1):
        with pytest.raises(ValueError, match="checkpoint: damaged"):
            Checkpoint.from_bytes(GOOD_CHECKPOINT[:length])


def _good_checkpoint() -> bytes:
    reports: list[EpochReport] = []
    ffengine.train(spec_of(network={"widths": [2]}, epochs=1), on_epoch=reports.append)  # type: ignore[arg-type]
    return reports[-1].checkpoint.to_bytes()


GOOD_CHECKPOINT = _good_checkpoint()


def test_initial_weights_are_gaussian_with_variance_one_over_inputs() -> None:
    network = Network.initial(
        spec_of(network={"widths": [400, 300], "bias": True}).network,
        784,
        Draws((0, 1)),
        torch.device("cpu"),
    )
    first, second = network.weights
    assert first.shape == (2, 400, 785)
    assert float(first[:, :, :-1].std()) == pytest.approx(1 / 28, rel=0.01)
    assert float(second[:, :, :-1].std()) == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert not bool(first[:, :, -1].any())
    assert not torch.equal(first[0], first[1])
