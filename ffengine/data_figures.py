"""What findings say of the data that a run sees, measured on its samples."""

import torch
from torch import Tensor

from ffengine.diagnostics import DataFigures
from ffengine.samples import Partitions, Samples
from ffengine.spec import DatasetSpec

MEASURED = 10_000  # samples, evenly spaced; more would not change a finding


def data_figures(
    spec: DatasetSpec, partitions: Partitions, *, labelled: bool, all_partitions: bool = True
) -> DataFigures:
    """Measure the samples of a run.

    **Arguments:**

    - `spec`: which samples they are, and how labels are put there.
    - `partitions`: the samples.
    - `labelled`: whether the run puts labels into samples.
    - `all_partitions`: whether it evaluates on the others than training, too.

    **Returns:**

    The figures.
    """
    train = partitions.train
    some = _evenly_spaced(train)
    plain = some.plain.double()
    variance = plain.var(0, correction=0)
    total = float(variance.sum())
    overlaid = labelled and spec.labels == "overlay"
    covered = spec.label_code.label_inputs(train.classes) if overlaid else 0
    others = {"validation": partitions.validation, "test": partitions.test}
    found = {"train": train, **(others if all_partitions else {})}
    return DataFigures(
        inputs=plain.shape[1],
        input_norm=float(torch.linalg.vector_norm(plain, dim=1).mean()),
        label_share=_label_share(some) if labelled else None,
        covered=covered,
        covered_share=float(variance[:covered].sum()) / total if covered and total else 0.0,
        class_counts={
            name: tuple(torch.bincount(samples.labels, minlength=train.classes).tolist())
            for name, samples in found.items()
            if samples is not None
        },
    )


def _evenly_spaced(samples: Samples) -> Samples:
    """Return at most MEASURED of the samples, from the first to the last."""
    if len(samples) <= MEASURED:
        return samples
    return samples.some(torch.linspace(0, len(samples) - 1, MEASURED).long())


def _label_share(samples: Samples) -> float:
    """What the label's inputs add to a sample, over the sample's length: root mean squares."""
    x: Tensor = samples.labelled.double()
    added = samples.patterns.lengths(x, samples.labels)
    length = float(x.square().sum(1).mean().sqrt())
    return float(added.square().mean().sqrt()) / length if length else 1.0
