"""Small rows and results, made by hand: the store does not care where figures come from."""

from collections.abc import Callable

from ffengine.datasets import DATASETS
from ffengine.results import (
    AccuracyRow,
    CheckCell,
    CheckResult,
    DatasetProvenance,
    EpochRow,
    Provenance,
    Split,
    TrainResult,
)
from service.cli import imports


def epoch_row(
    epoch: int = 0,
    split: Split = "positive",
    *,
    seed: int = 0,
    layer: int = 0,
    ratio: float | None = 0.75,
) -> EpochRow:
    return EpochRow(
        seed=seed,
        layer=layer,
        epoch=epoch,
        split=split,
        samples=4,
        dead_samples=0,
        dead_units=1,
        sparsity=0.5,
        zero_fraction=0.25,
        goodness=1.0,
        loss=-1.0,
        theorem1_ratio=1.0,
        theorem2_ratio=ratio,
        observed_increase_ratio=ratio,
        agreement=1.0,
        mask_flip_rate=0.0,
        near_zero_rate=0.0,
        eta=0.01,
        coefficient_sum=1.0,
        input_norm=1.0,
    )


def check_cell(width: int = 64, split: Split = "positive", *, seed: int = 0) -> CheckCell:
    return CheckCell(
        theorem=1,
        width=width,
        seed=seed,
        layer=0,
        epoch=0,
        split=split,
        batch_size=4,
        method="exact",
        samples=4,
        live=4,
        satisfied=3,
        ratio=0.75,
        observed_increase_ratio=0.75,
        agreement=1.0,
        mask_flip_rate=0.0,
        near_zero_rate=0.0,
        eta=0.01,
        input_norm=1.0,
    )


def provenance(seeds: tuple[int, ...] = (0,)) -> Provenance:
    return Provenance(
        spec_digest="0" * 64,
        engine_version="0",
        git_revision=None,
        python_version="3.11",
        torch_version="2",
        numpy_version="2",
        device="cpu",
        device_name="a processor",
        threads=1,
        dtype="float32",
        dataset=DatasetProvenance(
            name="mnist-mini",
            digest=DATASETS["mnist-mini"].digest or "",
            preprocess="unit",
            train_samples=4,
            test_samples=4,
        ),
        seeds=seeds,
        wall_seconds={"train": 0.5},
    )


def train_result(seeds: tuple[int, ...] = (0,), *, epochs: int = 1) -> TrainResult:
    rows = tuple(epoch_row(epoch, seed=seed) for seed in seeds for epoch in range(epochs + 1))
    return TrainResult(curves=rows, accuracy=(), diagnostics=(), provenance=provenance(seeds))


def trained(seeds: tuple[int, ...] = (0,), *, epochs: int = 2) -> TrainResult:
    """A result whose figures tell seeds, epochs and splits apart."""
    rows = tuple(
        epoch_row(epoch, split, seed=seed, ratio=(epoch + seed / 10) / 10)
        for seed in seeds
        for epoch in range(epochs + 1)
        for split in ("positive", "negative")
    )
    accuracy = tuple(
        AccuracyRow(
            seed=seed,
            layer=None,
            layers=(0,),
            epoch=epochs,
            partition="test",
            samples=10,
            correct=8 + seed,
            accuracy=0.8 + seed / 10,
        )
        for seed in seeds
    )
    return train_result(seeds).model_copy(update={"curves": rows, "accuracy": accuracy})


def check_result(seeds: tuple[int, ...] = (0, 1, 2)) -> CheckResult:
    return CheckResult(
        theorem=1,
        cells=tuple(check_cell(seed=seed) for seed in seeds),
        diagnostics=(),
        provenance=provenance(seeds),
    )


def any_files_pass_for_kmnist(replace: Callable[..., None]) -> None:
    """Let any files pass for KMNIST's."""
    files = DATASETS["kmnist"].files
    assert files
    facts = DATASETS["kmnist"]._replace(files=files._replace(read=lambda _folder: None))  # type: ignore[arg-type]
    replace(imports, "DATASETS", {"kmnist": facts})
    replace(imports, "verified", lambda _facts, _arrays: None)
