"""Routes of uploaded weights: list, read, upload, remove."""

import logging
from datetime import UTC, datetime
from typing import IO, Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from ffengine import uploads
from ffengine.arrays import DatasetError
from ffengine.spec import Normalize, Preprocess
from ffengine.text import VISIBLE, SearchText, StoredText
from ffengine.uploaded_weights import (
    BadWeights,
    Description,
    UploadedNetwork,
    WeightsNameTaken,
    WeightUploads,
)
from service.encoding.root_path import at
from service.encoding.viewer import by_key
from service.settings import Settings
from service.store import StoredUpload
from service.web import problems
from service.web.dependencies import (
    Owner,
    Resources,
    ResourcesDep,
    SettingsDep,
    StoreDep,
    UploadsDep,
)
from service.web.lookup import refuse_others
from service.web.problems import responses
from service.web.uploading import (
    declared_bytes,
    not_stored,
    receive,
    refuse_beyond_quota,
    refuse_short,
    share,
    storing,
    temporary_file,
    turn,
)

router = APIRouter(tags=["weights"])
upload_router = APIRouter(tags=["weights"])  # bodies have a larger limit

MOST_NAMED = 100  # of the jobs that need weights that are to be deleted
MOST_LAYERS = 256
NAME_FORM = {"pattern": f"^{uploads.NAME.pattern}$"}  # others are refused in words
ENTRY_FORM = {"pattern": "^[a-z0-9_]+$"}
NO_NAME = "no name is given: add ?name=NAME to the address"
NO_FORM = (
    "the body is a form: send the bytes of the file alone, as in curl --data-binary "
    "@mine.safetensors"
)
FILE = {"schema": {"type": "string", "format": "binary"}}
BODY = {"required": True, "content": {"application/octet-stream": FILE}}

log = logging.getLogger(__name__)


class WeightsFacts(BaseModel):
    """An uploaded network."""

    name: StoredText
    meaning: StoredText
    digest: str = Field(description="of its numbers and of what the network is")
    file_digest: str = Field(description="SHA-256 of the file that was uploaded")
    dataset: StoredText = Field(description="the data set that it was trained on")
    preprocess: str
    labels: str | None = Field(description="where the label stands; null: its samples have none")
    label_inputs: int = Field(
        0,
        description="how many first inputs of each layer above the first are the label's; 0 unless "
        "every layer receives it",
    )
    inputs: int
    widths: tuple[int, ...]
    bias: bool
    activation: StoredText
    normalize: str
    normalize_first: bool
    parameters: int = Field(description="numbers of one seed")
    epoch: int = Field(description="of a file of another program 1, for the end of training")
    seeds: tuple[int, ...] = Field(description="that a check may name; of another program's file 0")
    by_fflab: bool = Field(description="whether a run of fflab trained it, as the file says")
    uploaded_by: StoredText | None = Field(
        None, description="the name of the API key that it came with; null where none was needed"
    )

    uploaded_at: datetime | None = Field(None, description="when it was stored")


class WeightsPage(BaseModel):
    """All uploaded networks."""

    items: list[WeightsFacts]


SAME: dict[int | str, dict[str, Any]] = {
    200: {"model": WeightsFacts, "description": "The same network is there already"}
}
NamedInPath = Annotated[str, InPath(description="of an upload", json_schema_extra=NAME_FORM)]


@router.get("/weights", summary="List uploaded weights", responses=responses())
def list_weights(
    settings: SettingsDep,
    store: StoreDep,
    uploaded_by: Annotated[
        SearchText | None,
        Query(description="the name of an API key; only uploads that came with it"),
    ] = None,
) -> WeightsPage:
    """The networks that a check may name in `at.weights`, in the order of their names."""
    known = {one.name: _stored(one) for one in store.uploads.all("weights")}
    # what was brought into the home a moment ago is taken up soon
    fresh = {facts.name: _shown(facts) for facts in WeightUploads(settings.datasets).all()}
    found = [facts for _, facts in sorted((fresh | known).items())]
    if uploaded_by is not None:
        found = [facts for facts in found if facts.uploaded_by == uploaded_by]
    return WeightsPage(items=found)


@router.get(
    "/weights/{name}",
    summary="Read about uploaded weights",
    responses=responses(problems.NoSuchWeights),
)
def read_uploaded_weights(
    name: NamedInPath, settings: SettingsDep, store: StoreDep
) -> WeightsFacts:
    """Widths, activation, normalisation, data set and digests."""
    if known := store.uploads.find("weights", name):
        return _stored(known)
    return _shown(_facts_of(name, settings))


@router.delete(
    "/weights/{name}",
    status_code=204,
    summary="Delete uploaded weights",
    responses=responses(
        problems.NoSuchWeights, problems.NotYours, problems.WeightsInUse, problems.NotStored
    ),
)
def delete_weights(
    name: NamedInPath, settings: SettingsDep, store: StoreDep, shared: UploadsDep
) -> Response:
    """Remove uploaded weights that no unfinished job needs.

    Their name may then be given to other weights. Jobs that have ended keep their figures, and the
    digest of what they looked at.
    """
    refuse_others(f"The weights {name}", _facts_of(name, settings).uploaded_by)
    try:
        with shared.lock:
            WeightUploads(settings.datasets).remove(name, lambda: store.jobs.needing_weights(name))
            shared.forget("weights", name)
    except uploads.InUse as error:
        raise problems.WeightsInUse(str(error), jobs=list(error.jobs[:MOST_NAMED])) from error
    except DatasetError as error:
        raise problems.NotStored(f"{error}. {problems.NotStored.advice}") from error
    log.info("weights %s: removed%s", name, by_key())
    return Response(status_code=204)


@upload_router.post(
    "/weights",
    status_code=201,
    summary="Upload weights of a network trained elsewhere",
    openapi_extra={"requestBody": BODY},
    responses=SAME
    | responses(
        problems.BadWeights,
        problems.WeightsNameTaken,
        problems.BodyTooLarge,
        problems.NoRoom,
        problems.UploadQuota,
        problems.UploadsBusy,
        problems.NotStored,
    ),
)
async def upload_weights(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    owner: Owner,
    name: Annotated[
        Annotated[str, Field(json_schema_extra=NAME_FORM)] | None,
        Query(description="what a check will call them, in `at.weights`"),
    ] = None,
    data: Annotated[
        Annotated[str, Field(json_schema_extra=NAME_FORM)] | None,
        Query(description="the data set that the network was trained on"),
    ] = None,
    activation: Annotated[
        Annotated[str, Field(json_schema_extra=ENTRY_FORM)] | None,
        Query(description="of its layers; default: relu"),
    ] = None,
    normalize: Annotated[
        Normalize | None,
        Query(description="of the input of every layer but the first; default: none"),
    ] = None,
    normalize_first: Annotated[
        bool | None, Query(description="whether the first layer's input is normalised, too")
    ] = None,
    preprocess: Annotated[
        Preprocess | None, Query(description="how pixels were scaled; default: unit")
    ] = None,
    labels: Annotated[
        Literal["overlay", "append", "every_layer", "none"] | None,
        Query(description="where the label stood; default: overlay"),
    ] = None,
    layer: Annotated[
        list[SearchText],
        Query(
            max_length=MOST_LAYERS,
            description="WEIGHT or WEIGHT,BIAS: the tensors of a layer; once for each, the first "
            "one first. Default: by their names",
        ),
    ] = [],  # noqa: B006 - FastAPI copies it
    layout: Annotated[
        Literal["out_in", "in_out"] | None,
        Query(description="of a matrix; default: out_in, as PyTorch has it"),
    ] = None,
    meaning: Annotated[
        str,
        Query(
            max_length=uploads.LONGEST_MEANING,
            description="one sentence",
            json_schema_extra={"format": VISIBLE},
        ),
    ] = "",
) -> WeightsFacts:
    """Store the dense layers of a network, from a safetensors file or an .npz.

    The body is the file. What the network is stands in the address; a file that fflab wrote (the
    weights of a job, or what `fflab weights convert` writes) says it itself. Nothing is unpickled,
    and numbers must be finite in float32. A name is given once: the same network under the same
    name is answered with 200, another one with 409. One upload is checked at a time; those that
    wait for more than half a minute are answered with 503.
    """
    settings = resources.settings
    told = Description(
        data,
        activation,
        normalize,
        normalize_first,
        preprocess,
        labels,
        tuple(layer),
        layout,
    )
    if not name:
        raise problems.BadWeights(f"{NO_NAME}. {problems.BadWeights.advice}")
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise problems.BadWeights(NO_FORM)
    with storing(settings):
        refuse_short(settings, declared_bytes(request))
        with temporary_file(settings) as body:
            await receive(request, body, settings)
            async with turn(resources):
                found, there = await run_in_threadpool(
                    _kept, name, meaning, told, body, resources, resources.authenticator.name(owner)
                )
    response.status_code = 200 if there else 201
    response.headers["Location"] = at(f"/v1/weights/{found.name}")
    return _stored(found)


def _kept(
    name: str,
    meaning: str,
    told: Description,
    source: IO[bytes],
    resources: Resources,
    uploaded_by: str | None,
) -> tuple[StoredUpload, bool]:
    """Keep a network; its facts, and whether it was there already."""
    settings = resources.settings
    kept = WeightUploads(settings.datasets)

    def admit(size: int) -> None:
        refuse_short(settings, size)
        refuse_beyond_quota(settings, uploaded_by, size)

    there = kept.find(name) is not None
    try:
        with resources.uploads.lock:
            kept.keep(
                name,
                source,
                told,
                meaning=meaning,
                uploaded_by=uploaded_by,
                max_bytes=settings.max_weight_bytes,
                admit=admit,
            )
            return share(resources.uploads, "weights", name), there
    except WeightsNameTaken as error:
        raise problems.WeightsNameTaken(str(error)) from error
    except uploads.NotStored as error:
        raise not_stored(error.error, error.folder, str(error)) from error
    except BadWeights as error:
        raise problems.BadWeights(str(error)) from error


def _facts_of(name: str, settings: Settings) -> UploadedNetwork:
    """The facts of an upload. Raises NoSuchWeights."""
    there = WeightUploads(settings.datasets)
    found = there.find(name)
    if found is None:
        known = ", ".join(there.names()) or "none"
        raise problems.NoSuchWeights(f"{name!r} is not known; there are {known}")
    return found


def _shown(found: UploadedNetwork) -> WeightsFacts:
    return WeightsFacts(**found.model_dump(exclude={"spec"}), parameters=found.parameters)


def _stored(upload: StoredUpload) -> WeightsFacts:
    """Convert an upload of the database to the form of the API."""
    facts = _shown(UploadedNetwork.model_validate(upload.facts))
    when = datetime.fromtimestamp(upload.created_at, UTC)
    return facts.model_copy(update={"uploaded_at": when})
