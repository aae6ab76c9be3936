"""Data sets: what the catalogue knows of them."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from ffengine import uploads
from ffengine.arrays import DatasetError
from ffengine.datasets import DATASETS, Dataset, facts_of, from_upload
from service.web import problems
from service.web.dependencies import InState
from service.web.problems import responses

router = APIRouter(tags=["data sets"])
upload_router = APIRouter(tags=["data sets"])  # its bodies have a limit of their own

IN_MEMORY = 2**20  # of an upload, before it goes to a temporary file
ARCHIVE = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"name": {"type": "string"}, "file": ARCHIVE["schema"]},
    }
}
BODY = {
    "required": True,
    "content": {
        "application/octet-stream": ARCHIVE,
        "application/zip": ARCHIVE,
        "multipart/form-data": FORM,
    },
}


class DatasetFacts(BaseModel):
    """A data set."""

    name: str
    meaning: str
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


class DatasetPage(BaseModel):
    """All data sets."""

    items: list[DatasetFacts]


SAME: dict[int | str, dict[str, Any]] = {
    200: {"model": DatasetFacts, "description": "The same arrays are there already"}
}


@router.get("/datasets", summary="List data sets", responses=responses())
def list_datasets(state: InState) -> DatasetPage:
    """The data sets that a spec may name: those of the catalogue, then the uploaded ones."""
    root = state.settings.data_root
    return DatasetPage(
        items=all_datasets() + [shown(facts_of(name, root)) for name in uploads.names(root)]
    )


@router.get(
    "/datasets/{name}", summary="Read a data set", responses=responses(problems.NoSuchDataset)
)
def read_dataset(
    name: Annotated[str, Path(description="as in the catalogue, or of an upload")], state: InState
) -> DatasetFacts:
    """Shape, sizes, class counts, digest, licence and source."""
    try:
        return shown(facts_of(name, state.settings.data_root))
    except DatasetError as error:
        raise problems.NoSuchDataset(str(error)) from error


@upload_router.post(
    "/datasets",
    status_code=201,
    summary="Upload a data set",
    openapi_extra={"requestBody": BODY},
    responses=SAME
    | responses(problems.BadForm, problems.BadUpload, problems.NameTaken, problems.BodyTooLarge),
)
async def upload_dataset(
    request: Request,
    response: Response,
    state: InState,
    name: Annotated[
        str | None, Query(description="what specs will call it; in a form, a field of it will do")
    ] = None,
    meaning: Annotated[
        str, Query(max_length=uploads.LONGEST_MEANING, description="one sentence")
    ] = "",
) -> DatasetFacts:
    """Keep an .npz of `x` (N, ...), bytes or floats, and `y` (N,), integers; with `x_test` and
    `y_test`, or a fifth is held out.

    A name is given once: the same arrays again are answered with 200, others under that name with
    409.
    """
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as body:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with _form(request) as form:
                file, named = form.get("file"), form.get("name")
                if not isinstance(file, UploadFile):
                    raise problems.BadUpload("the form has no file in the field `file`")
                return await run_in_threadpool(
                    _kept, name or str(named or ""), meaning, file.file, response, state
                )
        async for chunk in request.stream():
            body.write(chunk)
        body.seek(0)
        return await run_in_threadpool(_kept, name or "", meaning, body, response, state)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """The form of a request, whose files are closed after it. Raises BadForm."""
    try:
        form = await request.form(max_files=1, max_fields=4)
    except HTTPException as error:
        raise problems.BadForm(f"{error.detail.rstrip('.')}. {problems.BadForm.advice}") from error
    try:
        yield form
    finally:
        await form.close()


def _kept(
    name: str, meaning: str, archive: IO[bytes], response: Response, state: InState
) -> DatasetFacts:
    root = state.settings.data_root
    if name in DATASETS:
        raise problems.NameTaken(f"{name!r} is a data set of the catalogue")
    there = uploads.find(name, root)
    try:
        upload = uploads.keep(name, archive, root, meaning)
    except uploads.NameTaken as error:
        raise problems.NameTaken(str(error)) from error
    except DatasetError as error:
        raise problems.BadUpload(str(error)) from error
    response.status_code = 200 if there else 201
    response.headers["Location"] = f"/v1/datasets/{upload.name}"
    return shown(from_upload(upload))


def all_datasets() -> list[DatasetFacts]:
    """Every data set of the catalogue."""
    return [shown(dataset) for dataset in DATASETS.values()]


def shown(dataset: Dataset) -> DatasetFacts:
    """A data set as the API shows it."""
    facts: dict[str, Any] = dataset._asdict()
    bundled = facts.pop("files") is None and not dataset.uploaded
    return DatasetFacts(
        bundled=bundled, classes=dataset.classes, train_samples=dataset.train_samples, **facts
    )
