"""The facts about data sets. The API answers with them and the pages show them."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from ffengine.datasets import DATASETS, Dataset, Datasets, from_upload
from ffengine.text import StoredText
from ffengine.uploads import Upload

if TYPE_CHECKING:  # the client lists data sets without a database
    from service.store import StoredUpload, Uploads


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

    file_bytes: int | None = Field(None, description="the size of an upload's file")
    uploaded_at: datetime | None = Field(None, description="when an upload was stored")


class DatasetPage(BaseModel):
    """All data sets."""

    items: list[DatasetFacts]


def all_datasets(datasets: Datasets, uploads: "Uploads") -> list[DatasetFacts]:
    """Return the data sets of the catalogue, then those that were uploaded."""
    known = {one.name: stored_facts(one) for one in uploads.all("dataset")}
    # what was brought into the home a moment ago is taken up soon
    fresh = [name for name in datasets.uploaded() if name not in known]
    found = {name: to_schema(datasets.facts_of(name)) for name in fresh} | known
    return catalogue_datasets() + [found[name] for name in sorted(found.keys() - DATASETS.keys())]


def stored_facts(upload: "StoredUpload") -> DatasetFacts:
    """Convert an upload of the database to the form of the API."""
    facts = to_schema(from_upload(Upload.model_validate(upload.facts)))
    when = datetime.fromtimestamp(upload.created_at, UTC)
    return facts.model_copy(update={"file_bytes": upload.file_bytes, "uploaded_at": when})


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
