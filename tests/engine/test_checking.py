"""Theorem checks: cells against direct calls of the theorems, the reference values of the theory,
and trained weights.
"""

import hashlib
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import ffengine
from ffengine.checking import CellsReport, CheckRun
from ffengine.checkpoint import Checkpoint
from ffengine.datasets import Datasets
from ffengine.entry import field_error_of
from ffengine.goodness_margins import lowering_checks
from ffengine.infinite_width import infinite_width_checks
from ffengine.interrupts import Control, Interrupted
from ffengine.margins import check_direction
from ffengine.negatives import Positives
from ffengine.network import Network
from ffengine.objectives import PowerSum
from ffengine.optimizers import Adam
from ffengine.pairs import Pairs
from ffengine.provenance import Stopwatch
from ffengine.random_streams import Draws
from ffengine.results import CheckCell
from ffengine.samples import load_samples
from ffengine.spec import CheckSpec, NetworkSpec, TrainSpec, digest
from ffengine.training import EpochReport
from tests.engine import reference

CPU = torch.device("cpu")


def cell(result: ffengine.CheckResult, **wanted: object) -> CheckCell:
    (found,) = [
        c for c in result.cells if all(getattr(c, key) == value for key, value in wanted.items())
    ]
    return found


@pytest.mark.slow
def test_cells_equal_direct_calls_batch_by_batch() -> None:
    spec = CheckSpec(theorem=2, widths=(16, 40), samples=250, batch_size=100, seeds=(3, 5))
    result = ffengine.check(spec)
    assert len(result.cells) == 2 * 2 * 2 * 2
    train = load_samples(spec.dataset, CPU).train
    for seed in spec.seeds:
        draws = Draws((seed,))
        weight = Network.initial(NetworkSpec(widths=(40,)), 784, draws, CPU).weights[0][0]
        satisfied = {"exact": [0, 0], "infinite_width": [0, 0]}
        for number, index in enumerate(
            draws.at("samples").permutation(6000)[:, :250].split(100, dim=1)
        ):
            positive = train.labelled[index]
            negative = spec.negatives(
                Positives(positive, index, train, draws.at("negatives", number), None)
            )
            exact = ffengine.theorem2(weight, positive[0], negative[0])
            limit = ffengine.infinite_width_theorem2(positive[0], negative[0])
            for place in range(2):
                satisfied["exact"][place] += int(exact[place].satisfied.sum())
                satisfied["infinite_width"][place] += int(limit[place].satisfied.sum())
        for method, counts in satisfied.items():
            for split, count in zip(("positive", "negative"), counts, strict=True):
                found = cell(result, seed=seed, width=40, method=method, split=split)
                assert (found.samples, found.live, found.satisfied) == (250, 250, count)
                assert found.ratio == count / 250


@pytest.mark.slow
def test_theorem_1_is_one_split_of_plain_images_in_one_batch() -> None:
    spec = CheckSpec(
        theorem=1, widths=(32,), samples=None, batch_size=None, seeds=(0,), methods=("exact",)
    )
    (found,) = ffengine.check(spec).cells
    train = load_samples(spec.dataset, CPU).train
    weight = Network.initial(NetworkSpec(widths=(32,)), 784, Draws((0,)), CPU).weights[0][0]
    assert found.satisfied == int(ffengine.theorem1(weight, train.plain).satisfied.sum())
    assert (found.split, found.samples, found.batch_size) == ("negative", 6000, 6000)


@pytest.mark.slow
def test_predicted_and_observed_signs_agree_for_nearly_all_samples() -> None:
    # theory: 95 to 99.9 %; the rest are masks that flip within the step
    result = ffengine.check(
        CheckSpec(theorem=2, widths=(500,), samples=2000, methods=("exact",), seeds=(0,))
    )
    assert all(c.agreement is not None and 0.95 <= c.agreement <= 1 for c in result.cells)
    smaller = ffengine.check(
        CheckSpec(theorem=2, widths=(500,), samples=2000, methods=("exact",), seeds=(0,), step=1e-5)
    )
    assert all(c.agreement is not None and c.agreement > 0.998 for c in smaller.cells)


@pytest.mark.soak
def test_theorem_2_at_initialisation_agrees_with_a_slow_independent_measurement() -> None:
    seeds, batch = 24, 500
    result = ffengine.check(
        CheckSpec(
            theorem=2,
            widths=(500,),
            samples=batch,
            batch_size=batch,
            methods=("exact",),
            seeds=tuple(range(seeds)),
        )
    )
    train = load_samples(CheckSpec().dataset, CPU).train
    generator = torch.Generator().manual_seed(0)
    slow: dict[str, list[float]] = {"positive": [], "negative": []}
    for _ in range(seeds):
        weight = torch.randn(500, 784, generator=generator, dtype=torch.float64) / 28
        index = torch.randperm(6000, generator=generator)[:batch]
        wrong = (train.labels[index] + torch.randint(1, 10, (batch,), generator=generator)) % 10
        x_pos = train.labelled[index].double()
        x_neg = x_pos.clone()
        x_neg[:, :10] = torch.nn.functional.one_hot(wrong, 10)
        direction = reference.goodness_gradient(weight, [x_pos, x_neg], [-1.0, 1.0], "relu")
        for split, x in (("positive", x_pos), ("negative", x_neg)):
            slow[split].append(
                float((reference.sparsity_rate(weight, x, direction, "relu") > 0).double().mean())
            )
    for split, once_published in (("positive", 0.84), ("negative", 0.63)):
        found = torch.tensor([c.ratio for c in result.cells if c.split == split])
        expected = torch.tensor(slow[split])
        error = float((found.var() / seeds + expected.var() / seeds).sqrt())
        assert float(found.mean()) == pytest.approx(float(expected.mean()), abs=4 * error)
        # the theory's reference is one draw of weights and batch: it lies within the spread over
        # seeds, which is wide
        assert once_published == pytest.approx(
            float(expected.mean()), abs=2.5 * float(expected.std())
        )


@pytest.mark.slow
def test_theorem_1_on_the_full_mnist_has_the_theorys_ratios(
    tmp_path: Path,
) -> None:
    # theory: batch of 20 000: 0.9997 at n = 64, 1.0000 at 256; batches of 10 at n = 64: 0.997
    datasets = Datasets(tmp_path, cache=tmp_path / "cache")
    spec = CheckSpec.model_validate(
        {
            "theorem": 1,
            "dataset": {"name": "mnist"},
            "widths": [64, 256],
            "samples": 20_000,
            "batch_size": None,
            "seeds": [0, 1],
            "methods": ["exact"],
        }
    )
    result = ffengine.check(spec, datasets=datasets)
    assert sum(c.ratio or 0 for c in result.cells if c.width == 64) / 2 == pytest.approx(
        0.9997, abs=0.001
    )
    assert all(c.ratio == pytest.approx(1.0, abs=5e-4) for c in result.cells if c.width == 256)
    tens = ffengine.check(
        spec.model_copy(update={"widths": (64,), "samples": 5000, "batch_size": 10}),
        datasets=datasets,
    )
    assert sum(c.ratio or 0 for c in tens.cells) / 2 == pytest.approx(0.997, abs=0.003)


@pytest.mark.slow
def test_a_check_stopped_after_each_cell_gives_the_same_cells() -> None:
    spec = CheckSpec(theorem=1, widths=(8, 16), samples=100, seeds=(0, 1))
    done: tuple[CheckCell, ...] = ()

    def stop(report: CellsReport) -> Control:
        nonlocal done
        done = report.done
        return "stop"

    for _ in range(4):
        with pytest.raises(Interrupted):
            ffengine.check(spec, on_cells=stop, resume=done)
    assert ffengine.check(spec, resume=done).cells == ffengine.check(spec).cells


@pytest.fixture(scope="module")
def trained() -> tuple[TrainSpec, Checkpoint]:
    reports: list[EpochReport] = []
    spec = TrainSpec.model_validate(
        {
            "dataset": {"train_samples": 300, "test_samples": 10},
            "network": {"widths": [20, 12], "normalize": "l2"},
            "epochs": 2,
            "batch_size": 100,
            "seeds": [1, 2],
            "layers": "simultaneous",
        }
    )
    ffengine.train(spec, on_epoch=reports.append)
    return spec, reports[-1].checkpoint


JOB = "job_" + "0" * 32


@pytest.mark.slow
def test_a_check_at_trained_weights_sees_the_layer_through_those_below(
    trained: tuple[TrainSpec, Checkpoint],
) -> None:
    spec, checkpoint = trained
    asked = CheckSpec.model_validate(
        {
            "theorem": 1,
            "at": {"job": JOB, "epoch": 2, "layer": 1},
            "samples": 100,
            "batch_size": None,
            "seeds": [2],
            "methods": ["exact"],
        }
    )
    (found,) = ffengine.check(asked, trained=checkpoint, trained_spec=spec).cells
    train = load_samples(asked.dataset, CPU).train
    x = train.plain[Draws((2,)).at("samples").permutation(6000)[0, :100]]
    below, weight = checkpoint.weights[0][1], checkpoint.weights[1][1]
    h = torch.relu(x @ below.T)
    expected = ffengine.theorem1(weight, h / h.norm(dim=1, keepdim=True))
    assert (found.width, found.layer, found.epoch, found.satisfied) == (
        12,
        1,
        2,
        int(expected.satisfied.sum()),
    )


LAYER = {"job": JOB, "epoch": 2}
ALONG = {
    "at": LAYER,
    "along": "training_step",
    "samples": 300,
    "batch_size": None,
    "seeds": [2],
    "methods": ["exact"],
    "dataset": {"train_samples": 300, "test_samples": 10},
}


def satisfied(asked: dict[str, object], spec: TrainSpec, checkpoint: Checkpoint) -> list[int]:
    cells = ffengine.check(
        CheckSpec.model_validate(asked), trained=checkpoint, trained_spec=spec
    ).cells
    assert {cell.theorem2_direction for cell in cells} == {
        asked.get("along", "goodness_difference")
    }
    return [cell.satisfied for cell in cells]


def test_of_plain_descent_on_the_difference_both_steps_are_one(
    trained: tuple[TrainSpec, Checkpoint],
) -> None:
    spec, checkpoint = trained
    other = {name: value for name, value in ALONG.items() if name != "along"}
    for layer in (0, 1):
        at = {"at": LAYER | {"layer": layer}}
        assert satisfied(ALONG | at, spec, checkpoint) == satisfied(other | at, spec, checkpoint)


@pytest.mark.parametrize("optimizer", ["adam", "momentum", "sgd"])
def test_along_the_training_step_a_check_sees_the_step_that_the_job_takes(optimizer: str) -> None:
    """The step is taken here, with the job's learner, and the weights before and after compared."""
    reports: list[EpochReport] = []
    spec = TrainSpec.model_validate(
        {
            "dataset": ALONG["dataset"],
            "network": {"widths": [20]},
            "objective": {"name": "softplus", "peer_normalization": 0.1},
            "optimizer": {"name": optimizer, "lr": 0.01},
            "epochs": 2,
            "batch_size": 100,
            "seeds": [1, 2],
        }
    )
    ffengine.train(spec, on_epoch=reports.append)
    checkpoint = reports[-1].checkpoint
    found = satisfied(ALONG, spec, checkpoint)
    other = satisfied(ALONG | {"along": "goodness_difference"}, spec, checkpoint)
    asked = CheckSpec.model_validate(ALONG)
    run = CheckRun(asked, CPU, Stopwatch(), checkpoint, spec, Datasets.of_environment())
    layer = run._layer(2, 20)
    ((_, groups),) = list(run._batches(2, layer))
    before = layer.weight.clone()
    assert layer.learner is not None
    layer.learner.step((0,), Pairs(torch.cat(groups).unsqueeze(0)), 2)
    step = (layer.weight.double() - before.double()).float()
    expected = [int(check_direction(before, group, step).satisfied.sum()) for group in groups]
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) <= 1
    assert max(abs(one - two) for one, two in zip(found, other, strict=True)) > 10, "another step"
    of_job = [row for row in reports[-1].checkpoint.rows if (row.seed, row.epoch) == (2, 2)]
    for count, row in zip(found, of_job, strict=True):
        assert row.theorem2_ratio == pytest.approx(count / 300, abs=0.1), "other batches"


def test_along_the_training_step_the_network_has_the_running_moments_of_the_job() -> None:
    """Strategies that ask the network choose negatives by them."""
    reports: list[EpochReport] = []
    spec = TrainSpec.model_validate(
        {
            "dataset": ALONG["dataset"],
            "network": {"widths": [20]},
            "objective": {"name": "softplus", "goodness": "whitened"},
            "epochs": 2,
            "batch_size": 100,
            "seeds": [1, 2],
        }
    )
    ffengine.train(spec, on_epoch=reports.append)
    checkpoint = reports[-1].checkpoint
    asked = CheckSpec.model_validate(ALONG)
    run = CheckRun(asked, CPU, Stopwatch(), checkpoint, spec, Datasets.of_environment())
    (found,) = run._layer(2, 20).network.statistics
    assert found is not None
    assert torch.equal(found, checkpoint.states[0]["goodness"][1:])


def test_weights_without_the_state_of_their_optimizer_have_no_training_step(
    trained: tuple[TrainSpec, Checkpoint],
) -> None:
    spec, checkpoint = trained
    adam = spec.model_copy(update={"optimizer": Adam()})
    with pytest.raises(ValueError, match="along: these weights come without the state"):
        satisfied(ALONG, adam, checkpoint)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"at": "initialization"}, "along"),
        ({"theorem": 1}, "along"),
        ({"methods": ["exact", "infinite_width"]}, "methods"),
        ({"goodness": "l2"}, "goodness"),
        ({"decomposition": True}, "decomposition"),
    ],
)
def test_a_training_step_that_is_none_is_refused(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        CheckSpec.model_validate(ALONG | change)
    (error,) = refusal.value.errors()
    cause = field_error_of(error)
    assert cause is not None
    assert cause.path == (field,)


def test_a_check_keeps_the_digest_that_results_know_it_by() -> None:
    text = CheckSpec().model_dump_json()
    assert '"at":"initialization","along":"goodness_difference",' in text
    for later in (
        '"along":"goodness_difference",',
        '"goodness":"sum_squares","decomposition":false,',
        '"label_strength":null,',
        '"label_code":"one_hot",',
        ',"held_out_classes":[]',
    ):
        assert text.count(later) == 1
        text = text.replace(later, "")
    earlier = text
    assert digest(CheckSpec()) == hashlib.sha256(earlier.encode()).hexdigest()
    assert digest(CheckSpec.model_validate(ALONG)) != digest(
        CheckSpec.model_validate(ALONG | {"along": "goodness_difference"})
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"at": {"job": JOB, "epoch": 2, "layer": 2}},
            "at.layer: 2 asked, but the job's network has layers 0 to 1",
        ),
        ({"at": {"job": JOB, "epoch": 3, "layer": 0}}, "at.epoch: 3 was not measured"),
        ({"seeds": [7]}, r"seeds: \[7\] were not trained by the job"),
    ],
)
def test_what_the_job_does_not_have_is_refused(
    trained: tuple[TrainSpec, Checkpoint], change: dict[str, object], message: str
) -> None:
    spec, checkpoint = trained
    asked = CheckSpec.model_validate({"at": {"job": JOB, "epoch": 2}, "seeds": [1], **change})
    with pytest.raises(ValueError, match=message):
        ffengine.check(asked, trained=checkpoint, trained_spec=spec)


def test_weights_that_were_not_given_are_refused() -> None:
    with pytest.raises(ValueError, match="none were given"):
        ffengine.check(CheckSpec.model_validate({"at": {"job": JOB, "epoch": 2}}))


# Other goodness functions


@pytest.mark.slow
@pytest.mark.parametrize(
    "goodness", ["mean_squares", "l2", {"name": "power_sum", "q": 3.0}, {"name": "top_k", "k": 4}]
)
@pytest.mark.parametrize("theorem", [1, 2])
def test_a_check_of_another_goodness_equals_direct_calls(theorem: int, goodness: object) -> None:
    spec = CheckSpec.model_validate(
        {
            "theorem": theorem,
            "goodness": goodness,
            "widths": [40],
            "samples": 60,
            "batch_size": 60,
            "seeds": [3],
        }
    )
    result = ffengine.check(spec)
    run = CheckRun(spec, CPU, Stopwatch(), None, None, Datasets.of_environment())
    layer = run._layer(3, 40)
    (batch,) = run._batches(3, layer)
    s = [torch.full((60,), sign) for sign in ([1.0] if theorem == 1 else [-1.0, 1.0])]
    exact = lowering_checks(layer.weight, batch.groups, s, spec.goodness)
    limit = infinite_width_checks(batch.groups, s, goodness=spec.goodness, width=40)
    for place, split in enumerate(["negative"] if theorem == 1 else ["positive", "negative"]):
        found = cell(result, split=split, method="exact")
        assert found.satisfied == int(exact[place].satisfied.sum())
        assert found.agreement is not None
        assert found.agreement > 0.7  # the trial step moves with the goodness that is checked
        wide = cell(result, split=split, method="infinite_width")
        assert wide.satisfied == int(limit[place].satisfied.sum())


@pytest.mark.parametrize(
    "change",
    [
        {"goodness": {"name": "power_sum"}, "activation": "tanh"},
        {"goodness": "l1", "activation": "leaky_relu"},
        {"goodness": {"name": "top_k"}, "activation": "gelu"},
        {"goodness": "l2", "activation": "identity"},
    ],
)
def test_a_limit_that_nobody_knows_is_refused_and_exact_is_not(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="no limit is known for this goodness with"):
        CheckSpec.model_validate(change)
    exact = CheckSpec.model_validate(
        {**change, "methods": ["exact"], "widths": [16], "samples": 50, "seeds": [0]}
    )
    result = ffengine.check(exact)
    assert all(c.live for c in result.cells)
    assert result.potentials == ()


@pytest.mark.slow
def test_selective_goodness_inverts_theorem_1() -> None:
    ratios = {}
    for q in (2.0, 6.0):
        spec = CheckSpec(theorem=1, goodness=PowerSum(q=q), widths=(512,), samples=500, seeds=(0,))
        result = ffengine.check(spec)
        ratios[q] = [cell(result, method=m).ratio for m in ("exact", "infinite_width")]
    assert ratios[2.0] == [1.0, 1.0]
    assert max(r for r in ratios[6.0] if r is not None) < 0.7
