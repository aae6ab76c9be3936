"""A study of the paper, made by hand: checks of both theorems, and two training runs."""

from ffengine.results import AccuracyRow, CheckResult, Onset, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from service.results.sources import Source
from tests.service.courses import training
from tests.service.samples import check_cell, provenance

FALLS_THEN_RISES = [(0.7, 0.47), (0.1, 0.43), (0.4, 0.37), (0.6, 0.40), (0.65, 0.46)]


def spec(**changes: object) -> TrainSpec:
    document = {
        "dataset": {"name": "mnist"},
        "network": {"widths": [256]},
        "optimizer": {"name": "sgd", "lr": 256 / 120},
        "epochs": 4,
        "seeds": [0, 1, 2],
    }
    return TrainSpec.model_validate(document | changes)


def check(theorem: int, ratio: float, seeds: int = 3) -> Source:
    cells = tuple(
        check_cell(256, split, seed=seed).model_copy(  # type: ignore[arg-type]
            update={"theorem": theorem, "ratio": ratio + seed / 1000, "live": 60_000}
            | {"samples": 60_000}
        )
        for split in (("positive", "negative") if theorem == 2 else ("negative",))
        for seed in range(seeds)
    )
    result = CheckResult(
        theorem=theorem,  # type: ignore[arg-type]
        cells=cells,
        diagnostics=(),
        provenance=provenance(tuple(range(seeds))),
    )
    return Source(f"theorem-{theorem}", result, CheckSpec(theorem=theorem))  # type: ignore[arg-type]


def with_accuracy(result: TrainResult, value: float) -> TrainResult:
    rows = tuple(
        AccuracyRow.model_validate(
            {"seed": seed, "layer": None, "layers": (0,), "epoch": 4, "partition": "test"}
            | {"samples": 1_000, "correct": round(1_000 * value), "accuracy": value}
        )
        for seed in range(3)
    )
    return result.model_copy(update={"accuracy": rows})


def expected(result: TrainResult) -> TrainResult:
    """The result, of data of which a turn is predicted."""
    return result.model_copy(update={"onset": Onset(tau_star=2.02, tau_star_high=2.27)})


def study(seeds: int = 3) -> list[Source]:
    points = FALLS_THEN_RISES
    long = with_accuracy(training(points, seeds=seeds), 0.1)
    short = with_accuracy(training(points[:3], seeds=seeds), 0.24)
    return [
        check(1, 0.998, seeds),
        check(2, 0.7, seeds),
        Source("training", expected(long), spec(seeds=list(range(seeds)))),
        Source("short", short, spec(epochs=2, seeds=list(range(seeds)))),
    ]
