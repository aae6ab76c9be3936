"""The facts about data sets. The API answers with them and the pages show them."""

from typing import Any

from pydantic import BaseModel, Field

from ffengine.datasets import DATASETS, Dataset, Datasets
from ffengine.text import StoredText


class DatasetFacts(BaseModel):
    """A data set."""

    name: StoredText
    meaning: StoredText
    shape: tuple[int, ...]
    classes: int
    train_samples: int
    test_samples: int
    class_counts: tuple[int, ...] = Field(description="training samples of each class")
    digest: str | None = Field(
        description="sha256 of the arrays; null: not pinned, in the provenance of what ran on it"
    )
    licence: str
    source: str
    bundled: bool
    uploaded: bool
    uploaded_by: StoredText | None = Field(
        None, description="the name of the API key that it came with; null where none was needed"
    )


class DatasetPage(BaseModel):
    """All data sets."""

    items: list[DatasetFacts]


def all_datasets(datasets: Datasets) -> list[DatasetFacts]:
    """Return the data sets of the catalogue, then those that were uploaded."""
    uploaded = [to_schema(datasets.facts_of(name)) for name in datasets.uploaded()]
    return catalogue_datasets() + uploaded


def catalogue_datasets() -> list[DatasetFacts]:
    """Return the data sets of the catalogue."""
    return [to_schema(dataset) for dataset in DATASETS.values()]


def to_schema(dataset: Dataset) -> DatasetFacts:
    """Convert a data set to the form of the API."""
    facts: dict[str, Any] = dataset._asdict()
    return DatasetFacts(
        bundled=dataset.bundled,
        classes=dataset.classes,
        train_samples=dataset.train_samples,
        **facts,
    )
