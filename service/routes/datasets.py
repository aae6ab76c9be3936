"""Data sets: what the catalogue knows of them."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel

from ffengine.datasets import DATASETS, Dataset
from service import problems
from service.problems import responses

router = APIRouter(tags=["data sets"])


class DatasetFacts(BaseModel):
    """A data set."""

    name: str
    meaning: str
    shape: tuple[int, ...]
    classes: int
    train_samples: int
    test_samples: int
    digest: str
    licence: str
    source: str
    bundled: bool


class DatasetPage(BaseModel):
    """All data sets."""

    items: list[DatasetFacts]


@router.get("/datasets", summary="List data sets", responses=responses())
def list_datasets() -> DatasetPage:
    """The data sets that a spec may name."""
    return DatasetPage(items=all_datasets())


@router.get("/datasets/{name}", summary="Read a data set", responses=responses(problems.NoSuchDataset))
def read_dataset(name: Annotated[str, Path(description="as in the catalogue")]) -> DatasetFacts:
    """Shape, sizes, digest, licence and source."""
    if name not in DATASETS:
        raise problems.NoSuchDataset(f"{name!r} is not known; there are {', '.join(DATASETS)}")
    return facts_of(DATASETS[name])


def all_datasets() -> list[DatasetFacts]:
    """Every data set of the catalogue."""
    return [facts_of(dataset) for dataset in DATASETS.values()]


def facts_of(dataset: Dataset) -> DatasetFacts:
    """A data set as the API shows it."""
    facts = dataset._asdict()
    return DatasetFacts(bundled=facts.pop("folder") is None, **facts)
