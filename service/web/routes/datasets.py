"""Routes of data sets: list, read, upload."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO, Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from ffengine import uploads
from ffengine.arrays import DatasetError
from ffengine.datasets import from_upload
from service.root_path import at
from service.settings import Settings
from service.web import problems
from service.web.dataset_facts import DatasetFacts, DatasetPage, all_datasets, to_schema
from service.web.dependencies import SettingsDep
from service.web.problems import responses

router = APIRouter(tags=["data sets"])
upload_router = APIRouter(tags=["data sets"])  # bodies have a larger limit

IN_MEMORY = 2**20  # bytes; a larger upload goes to a temporary file
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


SAME: dict[int | str, dict[str, Any]] = {
    200: {"model": DatasetFacts, "description": "The same arrays are there already"}
}


@router.get("/datasets", summary="List data sets", responses=responses())
def list_datasets(settings: SettingsDep) -> DatasetPage:
    """The data sets that a spec may name: those of the catalogue, then the uploaded ones."""
    return DatasetPage(items=all_datasets(settings.datasets))


@router.get(
    "/datasets/{name}", summary="Read a data set", responses=responses(problems.NoSuchDataset)
)
def read_dataset(
    name: Annotated[str, Path(description="as in the catalogue, or of an upload")],
    settings: SettingsDep,
) -> DatasetFacts:
    """Shape, sizes, class counts, digest, licence and source."""
    try:
        return to_schema(settings.datasets.facts_of(name))
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
    settings: SettingsDep,
    name: Annotated[
        str | None, Query(description="what specs will call it; in a form, a field of it will do")
    ] = None,
    meaning: Annotated[
        str, Query(max_length=uploads.LONGEST_MEANING, description="one sentence")
    ] = "",
) -> DatasetFacts:
    """Store a data set from an .npz file.

    The file holds `x` (N, ...), bytes or floats, and `y` (N,), integers from 0. It may also hold
    `x_test` and `y_test`; otherwise a fifth of the samples is held out. A name is given once: the
    same arrays under the same name are answered with 200, other arrays with 409.
    """
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as body:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with _form(request) as form:
                file, named = form.get("file"), form.get("name")
                if not isinstance(file, UploadFile):
                    raise problems.BadUpload("the form has no file in the field `file`")
                return await run_in_threadpool(
                    _kept, name or str(named or ""), meaning, file.file, response, settings
                )
        async for chunk in request.stream():
            body.write(chunk)
        body.seek(0)
        return await run_in_threadpool(_kept, name or "", meaning, body, response, settings)


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """Parse the form of a request, and close its files afterwards. Raises BadForm."""
    try:
        form = await request.form(max_files=1, max_fields=4)
    except HTTPException as error:
        raise problems.BadForm(f"{error.detail.rstrip('.')}. {problems.BadForm.advice}") from error
    try:
        yield form
    finally:
        await form.close()


def _kept(
    name: str, meaning: str, archive: IO[bytes], response: Response, settings: Settings
) -> DatasetFacts:
    datasets = settings.datasets
    there = datasets.find(name)
    try:
        upload = datasets.keep(name, archive, meaning)
    except uploads.NameTaken as error:
        raise problems.NameTaken(str(error)) from error
    except DatasetError as error:
        raise problems.BadUpload(str(error)) from error
    response.status_code = 200 if there else 201
    response.headers["Location"] = at(f"/v1/datasets/{upload.name}")
    return to_schema(from_upload(upload))
