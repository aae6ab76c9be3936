"""Whether a spec can be run on the data sets of one place.

A spec's own validation looks at its form, and at the sizes of the catalogue's data sets, which are
the same everywhere. Whether a data set is there, and whether an upload has what the spec selects of
it, is asked where a spec is submitted, and again where it is run.
"""

from collections.abc import Callable, Sequence
from functools import cache

from ffengine.arrays import DatasetError
from ffengine.datasets import Dataset, Datasets
from ffengine.entry import SpecFieldError
from ffengine.search import example_cells
from ffengine.spec import CheckSpec, ForecastSpec, StudySpec, TrainSpec
from ffengine.study import Cell, GridError, parts_of, search_of, touches

FactsOf = Callable[[str], Dataset]


class NotAvailable(SpecFieldError, DatasetError):
    """A data set is not there, or does not have what a field of the spec selects of it."""


def check_available(
    spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec,
    datasets: Datasets,
    cells: Sequence[Cell] | None = None,
) -> None:
    """Check that every data set that a spec names is there, and has what the spec selects of it.

    Files of a known data set may be missing: they are downloaded where the spec runs. What a file
    holds is verified when it is loaded.

    **Arguments:**

    - `spec`: a run or a study.
    - `datasets`: the data sets of the place where it is to be run.
    - `cells`: the runs of a study, where they are known already.

    **Raises:**

    - `NotAvailable`: a data set is not there, is damaged, or is too small.
    - `GridError`: the same for a value in the grid of a study; or the study cannot be expanded.
    """
    facts_of = cache(datasets.refuse_missing)  # a study names one data set in thousands of runs
    if isinstance(spec, StudySpec):
        _check_study(spec, facts_of, example_cells(spec) if cells is None else cells)
    else:
        _check_run(spec, facts_of)


def _check_study(study: StudySpec, facts_of: FactsOf, cells: Sequence[Cell]) -> None:
    """Check the bases of a study, and every run."""
    _check_run(study.base, facts_of, ("base",))
    for name, part in study.parts.items():
        _check_run(part.base, facts_of, ("parts", name, "base"))
    for part in parts_of(study).values():  # a preset's, with the study's base applied
        _check_run(part.base, facts_of, ("base",))
    for cell in cells:
        try:
            _check_run(cell.spec, facts_of)
        except NotAvailable as error:
            raise _in_grid(study, cell, error) from error


def _in_grid(study: StudySpec, cell: Cell, error: NotAvailable) -> GridError:
    """Return the error of a run as one of the grid's value that it comes from."""
    grid: tuple[str, ...] = ("parts", cell.part, "grid") if study.parts else ("grid",)
    if search_of(study):
        grid = ("search", "space")
    field = next(
        (field for field in cell.params if touches(field, error.path)), next(iter(cell.params), "")
    )
    why = error.message if field == ".".join(error.path) else str(error)
    return GridError((*grid, field), f"{cell.params.get(field)!r}: {why}")


def _check_run(
    spec: TrainSpec | CheckSpec | ForecastSpec, facts_of: FactsOf, path: tuple[str, ...] = ()
) -> None:
    """Check one run; `path` says where its spec is in the document."""
    try:
        facts = facts_of(spec.dataset.name)
    except DatasetError as error:
        raise NotAvailable((*path, "dataset", "name"), str(error)) from error
    within = (*path, "dataset")
    try:
        spec.dataset.refuse_misfit(facts, labelled=spec.negatives.labelled)
        within = path
        if isinstance(spec, CheckSpec):
            spec.refuse_too_few(facts)
        else:
            spec.refuse_misfit(facts)
        if isinstance(spec, TrainSpec) and spec.evaluation.ood:
            within = (*path, "evaluation", "ood")
            spec.evaluation.ood.refuse_misfit(facts)
            facts_of(spec.evaluation.ood.dataset)
    except SpecFieldError as error:
        raise NotAvailable((*within, *error.path), error.message) from error
