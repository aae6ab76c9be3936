"""Routes of data sets: list, read, upload, remove."""

import logging
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from ffengine import uploads
from ffengine.arrays import DatasetError
from ffengine.datasets import DATASETS
from ffengine.text import VISIBLE, SearchText
from service.encoding.root_path import at
from service.encoding.viewer import by_key
from service.web import problems
from service.web.dataset_facts import (
    DatasetFacts,
    DatasetPage,
    all_datasets,
    stored_facts,
    to_schema,
)
from service.web.dependencies import (
    Owner,
    Resources,
    ResourcesDep,
    SettingsDep,
    StoreDep,
    UploadsDep,
    refuse_unknown_fields,
)
from service.web.lookup import refuse_others
from service.web.problems import responses
from service.web.uploading import (
    declared_bytes,
    folder_written,
    not_stored,
    receive,
    refuse_beyond_quota,
    refuse_short,
    share,
    storing,
    temporary_file,
    turn,
)

router = APIRouter(tags=["data sets"])
upload_router = APIRouter(tags=["data sets"])  # bodies have a larger limit

MOST_NAMED = 100  # of the jobs that need a data set that is to be deleted
NAME_FORM = {"pattern": f"^{uploads.NAME.pattern}$"}  # others are refused in words
NO_NAME = "no name is given: add ?name=NAME to the address, or a field `name` to the form"
NO_FILE = "the form has no file in the field `file`: send one, as in curl -F file=@data.npz"
ARCHIVE = {"schema": {"type": "string", "format": "binary"}}
FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {
            "name": {"type": "string", **NAME_FORM},
            "meaning": {
                "type": "string",
                "maxLength": uploads.LONGEST_MEANING,
                "format": VISIBLE,
            },
            "file": ARCHIVE["schema"],
        },
    }
}
FORM_FIELDS = ("name", "meaning", "file")
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


log = logging.getLogger(__name__)


@router.get("/datasets", summary="List data sets", responses=responses())
def list_datasets(
    settings: SettingsDep,
    store: StoreDep,
    uploaded_by: Annotated[
        SearchText | None,
        Query(description="the name of an API key; only uploads that came with it"),
    ] = None,
) -> DatasetPage:
    """The data sets that a spec may name: those of the catalogue, then the uploaded ones."""
    found = all_datasets(settings.datasets, store.uploads)
    if uploaded_by is not None:
        found = [facts for facts in found if facts.uploaded_by == uploaded_by]
    return DatasetPage(items=found)


@router.get(
    "/datasets/{name}", summary="Read a data set", responses=responses(problems.NoSuchDataset)
)
def read_dataset(
    name: Annotated[
        str,
        InPath(description="as in the catalogue, or of an upload", json_schema_extra=NAME_FORM),
    ],
    settings: SettingsDep,
    store: StoreDep,
) -> DatasetFacts:
    """Shape, sizes, class counts, digest, licence and source."""
    if name not in DATASETS and (known := store.uploads.find("dataset", name)):
        return stored_facts(known)
    try:
        return to_schema(settings.datasets.facts_of(name))
    except DatasetError as error:
        raise problems.NoSuchDataset(str(error)) from error


@router.delete(
    "/datasets/{name}",
    status_code=204,
    summary="Delete an uploaded data set",
    responses=responses(
        problems.NoSuchDataset, problems.NotYours, problems.DatasetInUse, problems.NotRemovable
    ),
)
def delete_dataset(
    name: Annotated[str, InPath(description="of an upload", json_schema_extra=NAME_FORM)],
    settings: SettingsDep,
    store: StoreDep,
    shared: UploadsDep,
) -> Response:
    """Remove an uploaded data set that no unfinished job needs.

    Its name may then be given to other arrays. Jobs that have ended keep their figures.
    """
    datasets = settings.datasets
    found = datasets.find(name)
    if found is None:
        raise problems.NoSuchDataset(f"{name!r} is not known")
    refuse_others(f"The data set {name}", found.uploaded_by)
    try:
        with shared.lock:
            datasets.remove(name, lambda: store.jobs.needing_dataset(name))
            shared.forget("dataset", name)
    except uploads.InUse as error:
        raise problems.DatasetInUse(str(error), jobs=list(error.jobs[:MOST_NAMED])) from error
    except DatasetError as error:
        raise problems.NotRemovable(str(error)) from error
    log.info("data set %s: removed%s", name, by_key())
    return Response(status_code=204)


@upload_router.post(
    "/datasets",
    status_code=201,
    summary="Upload a data set",
    openapi_extra={"requestBody": BODY},
    responses=SAME
    | responses(
        problems.BadForm,
        problems.BadUpload,
        problems.NameTaken,
        problems.BodyTooLarge,
        problems.NoRoom,
        problems.UploadQuota,
        problems.UploadsBusy,
        problems.NotStored,
    ),
)
async def upload_dataset(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    owner: Owner,
    name: Annotated[
        Annotated[str, Field(json_schema_extra=NAME_FORM)] | None,
        Query(description="what specs will call it; in a form, a field of it will do"),
    ] = None,
    meaning: Annotated[
        str,
        Query(
            max_length=uploads.LONGEST_MEANING,
            description="one sentence; in a form, a field of it will do",
            json_schema_extra={"format": VISIBLE},
        ),
    ] = "",
) -> DatasetFacts:
    """Store a data set from an .npz file.

    The file holds `x` (N, ...), bytes or floats, and `y` (N,), integers from 0. It may also hold
    `x_test` and `y_test`; otherwise a fifth of the samples is held out. A name is given once: the
    same arrays under the same name are answered with 200, other arrays with 409. One upload is
    checked at a time; those that wait for more than half a minute are answered with 503.
    """
    who = resources.authenticator.name(owner)
    settings = resources.settings
    with storing(settings):
        refuse_short(settings, declared_bytes(request))
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            async with _form(request) as form, turn(resources):
                refuse_unknown_fields(form, FORM_FIELDS)
                file, named, meant = form.get("file"), form.get("name"), form.get("meaning")
                if not isinstance(file, UploadFile):
                    raise problems.BadUpload(NO_FILE)
                return await run_in_threadpool(
                    _kept,
                    name or str(named or ""),
                    meaning or str(meant or ""),
                    file.file,
                    response,
                    resources,
                    who,
                )
        with temporary_file(settings) as body:
            await receive(request, body, settings)
            async with turn(resources):
                return await run_in_threadpool(
                    _kept, name or "", meaning, body, response, resources, who
                )


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    """Parse the form of a request, and close its files afterwards. Raises BadForm."""
    try:
        form = await request.form(max_files=1, max_fields=4)
    except HTTPException as error:
        raise problems.BadForm(f"{error.detail.rstrip('.')}. {problems.BadForm.advice}") from error
    except OSError as error:  # a large part of a form goes to a temporary file of the system
        usual = Path(os.fsdecode(tempfile.tempdir or "TMPDIR"))
        raise not_stored(error, folder_written(error) or usual) from error
    try:
        yield form
    finally:
        await form.close()


def _kept(
    name: str,
    meaning: str,
    archive: IO[bytes],
    response: Response,
    resources: Resources,
    uploaded_by: str | None,
) -> DatasetFacts:
    if not name:
        raise problems.BadUpload(NO_NAME)
    settings = resources.settings
    datasets = settings.datasets

    def admit(size: int) -> None:
        refuse_short(settings, size)
        refuse_beyond_quota(settings, uploaded_by, size)

    there = datasets.find(name)
    try:
        with resources.uploads.lock:
            upload = datasets.keep(
                name,
                archive,
                meaning,
                uploaded_by=uploaded_by,
                max_bytes=settings.max_dataset_bytes,
                admit=admit,
            )
            stored = share(resources.uploads, "dataset", name)
    except uploads.NameTaken as error:
        raise problems.NameTaken(str(error)) from error
    except uploads.NotStored as error:
        raise not_stored(error.error, error.folder, str(error)) from error
    except DatasetError as error:
        raise problems.BadUpload(str(error)) from error
    response.status_code = 200 if there else 201
    response.headers["Location"] = at(f"/v1/datasets/{upload.name}")
    return stored_facts(stored)
