"""Routes of the catalogue: what a spec may contain, and ready-made specs."""

from fastapi import APIRouter, Depends, Response

from service.specs.spec_schema import spec_schema_text
from service.web.catalogue import Catalog, PresetPage, build_catalog, build_presets
from service.web.dependencies import refuse_unknown_parameters
from service.web.problems import ValidationProblem, responses

router = APIRouter(tags=["catalogue"])
open_router = APIRouter(tags=["catalogue"])  # editors read it, and send no key

SCHEMA = "application/schema+json"


@router.get("/catalog", summary="Everything that a spec may contain", responses=responses())
def read_catalog() -> Catalog:
    """The name, meaning and parameters of every entry, and the JSON Schema of all specs."""
    return build_catalog()


@router.get("/presets", summary="Ready-made specs", responses=responses())
def read_presets() -> PresetPage:
    """The paper's experiments and others, as specs."""
    return PresetPage(items=list(build_presets()))


@open_router.get(
    "/v1/schema/spec.json",
    summary="The JSON Schema of spec files",
    response_class=Response,
    dependencies=[Depends(refuse_unknown_parameters)],
    responses={200: {"content": {SCHEMA: {}}}, **responses(ValidationProblem)},
)
def read_spec_schema() -> Response:
    """The schema with which editors complete and check spec files, as `fflab schema` prints it."""
    return Response(spec_schema_text(), media_type=SCHEMA)
