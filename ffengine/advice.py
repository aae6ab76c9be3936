"""Advice on a spec before it runs, from figures that were measured once on its data set.

What can be known so early is said so early; findings say it again of what ran. docs/diagnostics.md
describes the codes of both.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from pydantic import ConfigDict, Field, JsonValue

from ffengine.datasets import Dataset, Datasets
from ffengine.diagnostics import (
    LABEL_SHARE,
    LARGE_INPUTS,
    decomposition_cut,
    overlay_covers_data,
)
from ffengine.input_figures import InputFigures
from ffengine.label_codes import OneHot
from ffengine.onset import halfway_lr, onset_before
from ffengine.partitions import class_shares
from ffengine.percents import in_percent
from ffengine.results import Diagnostic, Onset
from ffengine.spec import CheckSpec, DatasetSpec, ForecastSpec, TrainSpec

LARGEST_SHARE = 0.9
COPIED_SHARE = 0.01
UNEQUAL_SHARE = 0.8
# which findings have again, measured on what ran
MEASURED_BY_RUNS = frozenset({"overlay_covers_data", "partition_lacks_class", "label_weak"})
MOST = 10  # of a study; each of its data sets may have some
# runs of a study, and ways in which they prepare their data, whose beginning is looked at
MOST_RUNS, MOST_PREPARATIONS = 64, 4


class Advice(Diagnostic):
    """Something about the data that a spec does not take into account: a finding before a run."""

    model_config = ConfigDict(extra="ignore")  # a later service may say more

    field: str | None = Field(
        None, description="the field of the run that helps, such as dataset.labels; null: none does"
    )
    value: JsonValue = Field(None, description="what to set the field to")


class Asked(NamedTuple):
    """What of a run advice depends on."""

    dataset: DatasetSpec
    labelled: bool
    trains: bool


def advice_on(
    specs: Sequence[TrainSpec | CheckSpec | ForecastSpec], datasets: Datasets
) -> list[Advice]:
    """Give advice on runs.

    **Arguments:**

    - `specs`: the runs; data sets that they name are there.
    - `datasets`: where data sets are.

    **Returns:**

    Each advice once, the first of them; none on data sets that are not measured.
    """
    return (_on_data(specs, datasets) + _on_beginnings(specs, datasets))[:MOST]


def _on_data(
    specs: Sequence[TrainSpec | CheckSpec | ForecastSpec], datasets: Datasets
) -> list[Advice]:
    """Give advice on what is measured on the data of runs."""
    facts_of = cache(datasets.facts_of)
    figures_of = cache(datasets.input_figures)
    found: dict[str, Advice] = {}
    for asked in dict.fromkeys(_asked(spec) for spec in specs):
        if figures := figures_of(asked.dataset.name):
            for advice in _advice(asked, facts_of(asked.dataset.name), figures):
                found.setdefault(advice.message, advice)
    return list(found.values())


def findings_on_upload(
    spec: TrainSpec | CheckSpec | ForecastSpec, datasets: Datasets
) -> list[Diagnostic]:
    """Find what was measured on an upload and what no run measures again.

    **Arguments:**

    - `spec`: the run.
    - `datasets`: where data sets are.

    **Returns:**

    The findings; none on data sets of the catalogue.
    """
    if not datasets.facts_of(spec.dataset.name).uploaded:
        return []
    names = set(Diagnostic.model_fields)
    return [
        Diagnostic.model_validate(advice.model_dump(include=names))
        for advice in _on_data([spec], datasets)
        if advice.code not in MEASURED_BY_RUNS
    ]


def _asked(spec: TrainSpec | CheckSpec | ForecastSpec) -> Asked:
    labelled = spec.negatives.labelled
    if isinstance(spec, CheckSpec):
        return Asked(spec.dataset, labelled and spec.theorem == 2, trains=False)
    return Asked(spec.dataset, labelled, trains=True)


def _on_beginnings(
    specs: Sequence[TrainSpec | CheckSpec | ForecastSpec], datasets: Datasets
) -> list[Advice]:
    """Give advice on how training runs begin, of each kind that of the first run that has it."""
    found: dict[str, Advice] = {}
    seen: set[DatasetSpec] = set()
    for spec in specs[:MOST_RUNS]:
        if not isinstance(spec, TrainSpec):
            continue
        if spec.dataset not in seen and len(seen) == MOST_PREPARATIONS:
            continue
        seen.add(spec.dataset)
        for one in decomposition_cut(spec):
            found.setdefault(one.code, Advice.model_validate(one.model_dump()))
        onset = onset_before(spec, datasets)
        for advice in (*_act_not_left(spec, onset), *_scale_alternates(spec, onset)):
            found.setdefault(advice.code, advice)
    return list(found.values())


def _act_not_left(spec: TrainSpec, onset: Onset) -> Iterator[Advice]:
    """Find a run that ends before its sparsity is expected to rise."""
    turn, low, end = onset.tau_star, onset.tau_star_low, onset.tau_end
    if turn is None or low is None or end is None or end >= low:
        return
    if onset.epochs_to_selection is None:  # the steps are 0 beside tau
        return
    epochs = math.ceil(onset.epochs_to_selection)
    lr = halfway_lr(spec, onset)
    yield Advice(
        code="act_not_left",
        severity="info",
        message=f"The run ends in act 1, where units switch on and sparsity falls: it reaches tau "
        f"= {end:.3g}, and act 2, where sparsity rises, is expected from tau = {turn:.3g} on, "
        f"after {epochs:,} epochs at this learning rate.",
        evidence={
            "tau": end,
            "tau_star": turn,
            "lambda_1": onset.lambda_1,
            "overlap": onset.overlap,
            "epochs": epochs,
        },
        suggestion="Nothing is wrong with that. To see both acts, "
        + (f"set optimizer.lr to {lr:g}, or train" if lr else "train")
        + f" for more than {epochs:,} epochs. dataset.preprocess: center has no act 1.",
        field="optimizer.lr" if lr else None,
        value=lr,
    )


def _scale_alternates(spec: TrainSpec, onset: Onset) -> Iterator[Advice]:
    """Find steps that are too long for the common scale of the weights."""
    eta, most = onset.eta, onset.eta_c
    if eta is None or most is None or eta <= most:
        return
    lr = float(f"{spec.optimizer.lr * most / eta / 2:.1g}")
    yield Advice(
        code="scale_alternates",
        severity="warning",
        message=f"The first layer's step size {eta:.3g} is above {most:.3g}, from which on all "
        f"weights together grow and shrink in turn, from one step to the next.",
        evidence={"eta": eta, "eta_c": most},
        suggestion=f"Use optimizer.lr: {lr:g}, half of where that begins.",
        field="optimizer.lr",
        value=lr,
    )


def _advice(asked: Asked, facts: Dataset, figures: InputFigures) -> Iterator[Advice]:
    """Yield all advice on one run."""
    of_any = (_overlay, _weak_label, _one_input)
    of_training = (_large, _missing_classes, _unequal, _copies)
    for find in of_any + (of_training if asked.trains else ()):
        yield from find(asked, facts, figures)


def _overlay(asked: Asked, facts: Dataset, figures: InputFigures) -> Iterator[Advice]:
    if not asked.labelled or asked.dataset.labels != "overlay":
        return
    if asked.dataset.label_code != OneHot():
        return  # the figures are of the first C inputs; the run measures its own
    for found in overlay_covers_data(facts.classes, figures.overlay_share):
        yield Advice(
            **found.model_dump(exclude={"message"}),
            message=f"{facts.name}: {found.message[0].lower()}{found.message[1:]}",
            field="dataset.labels",
            value="append",
        )


def _weak_label(asked: Asked, facts: Dataset, figures: InputFigures) -> Iterator[Advice]:
    """Find a given strength that is little beside the root mean square length of a sample."""
    strength = asked.dataset.label_strength
    if strength is None or not asked.labelled:
        return
    wide = math.sqrt(facts.inputs)
    length = {
        "unit": figures.size * wide,
        "center": figures.spread * wide,
        "standardize": wide,
        "unit_norm": 1.0,
    }[asked.dataset.preprocess]
    label = strength * asked.dataset.label_code.length(facts.inputs)
    share = label / math.hypot(label, length)
    if share < LABEL_SHARE:
        yield Advice(
            code="label_weak",
            severity="warning",
            message=f"{facts.name}: a label of {strength:g} has {in_percent(share, 2)} of the "
            f"length of a sample: beside the other inputs it is invisible.",
            evidence={"label_share": share, "label_strength": strength},
            suggestion="Use a larger dataset.label_strength, or leave it out.",
            field="dataset.label_strength",
            value=None,
        )


def _large(asked: Asked, facts: Dataset, figures: InputFigures) -> Iterator[Advice]:
    size = {"unit": figures.size, "center": figures.spread}.get(asked.dataset.preprocess, 1.0)
    if size > LARGE_INPUTS:
        yield Advice(
            code="inputs_large",
            severity="warning",
            message=f"{facts.name}: the inputs are large, {size:.3g} as a root mean square, and "
            f"learning rates are meant for 1 and less.",
            evidence={"size": size},
            suggestion="Use dataset.preprocess: standardize.",
            field="dataset.preprocess",
            value="standardize",
        )


def _one_input(_asked: Asked, facts: Dataset, figures: InputFigures) -> Iterator[Advice]:
    if figures.largest_share > LARGEST_SHARE and facts.inputs > 2:
        yield Advice(
            code="one_input_dominates",
            severity="warning",
            message=f"{facts.name}: input {figures.largest_input} holds "
            f"{in_percent(figures.largest_share, 1)} of the variance, and preprocessing takes one "
            f"scale for all inputs.",
            evidence={"input": figures.largest_input, "share": figures.largest_share},
            suggestion="Scale each input by itself before the upload.",
        )


def _missing_classes(asked: Asked, facts: Dataset, figures: InputFigures) -> Iterator[Advice]:
    """Name the first partition of an upload that has no sample of a class."""
    if not facts.uploaded:
        return
    spec = asked.dataset
    learnt = class_shares(facts.class_counts, spec.train_count(facts))
    left = np.asarray(facts.class_counts) - learnt
    tested = class_shares(figures.test_class_counts, spec.test_count(facts))
    held = class_shares(left, spec.validation_samples)
    for name, counts in (("train", learnt), ("validation", held), ("test", tested)):
        lacking = int(np.count_nonzero(counts == 0))
        if not lacking or not counts.any():
            continue
        yield Advice(
            code="partition_lacks_class",
            severity="warning",
            message=f"{facts.name}: the {int(counts.sum())} {name} samples have none of {lacking} "
            f"of the {facts.classes} classes.",
            evidence={"partition": name, "classes": np.flatnonzero(counts == 0).tolist()},
            suggestion=f"Choose more (dataset.{name}_samples), or bring more of these classes.",
        )
        return


def _unequal(_asked: Asked, facts: Dataset, figures: InputFigures) -> Iterator[Advice]:
    counts = figures.test_class_counts
    share = max(counts) / sum(counts)
    if share > UNEQUAL_SHARE:
        yield Advice(
            code="classes_unequal",
            severity="info",
            message=f"{facts.name}: {in_percent(share, 0)} of the test samples are of class "
            f"{counts.index(max(counts))}: naming it always gives an accuracy of {share:.2f}.",
            evidence={"guessing": share},
            suggestion="Compare accuracies with that, or bring as many test samples of each class.",
        )


def _copies(_asked: Asked, facts: Dataset, figures: InputFigures) -> Iterator[Advice]:
    if figures.copies > COPIED_SHARE * facts.test_samples:
        yield Advice(
            code="test_copies_training",
            severity="warning",
            message=f"{facts.name}: {figures.copies} of {facts.test_samples} test samples equal a "
            f"training sample: test accuracy is not that of unseen samples.",
            evidence={"copies": figures.copies, "samples": facts.test_samples},
            suggestion="Bring x_test and y_test without copies of x.",
        )
