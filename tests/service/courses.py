"""Training results that go through given points."""

from collections.abc import Sequence

from ffengine.results import EpochRow, TrainResult
from tests.service.samples import epoch_row, provenance

Point = tuple[float, float]  # theorem 2's ratio, S


def training(
    points: Sequence[Point], *, seeds: int = 3, spread: float = 0.01, layer: int = 0
) -> TrainResult:
    """Positives at the points, negatives .02 below; the seeds lie `spread` apart."""
    rows: list[EpochRow] = []
    for epoch, (ratio, sparsity) in enumerate(points):
        for seed in range(seeds):
            for split, less in (("positive", 0.0), ("negative", 0.02)):
                off = spread * (seed - (seeds - 1) / 2) - less
                row = epoch_row(epoch, split, seed=seed, layer=layer)  # type: ignore[arg-type]
                rows.append(
                    row.model_copy(
                        update={
                            "samples": 4_000,
                            "tau": float(epoch),
                            "theorem2_ratio": ratio + off,
                            "sparsity": sparsity + off,
                        }
                    )
                )
    return TrainResult(
        curves=tuple(rows), accuracy=(), diagnostics=(), provenance=provenance(tuple(range(seeds)))
    )
