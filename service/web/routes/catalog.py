"""Routes of the catalogue: what a spec may contain, and ready-made specs."""

from fastapi import APIRouter

from service.web.catalogue import Catalog, PresetPage, build_catalog, build_presets
from service.web.problems import responses

router = APIRouter(tags=["catalogue"])


@router.get("/catalog", summary="Everything that a spec may contain", responses=responses())
def read_catalog() -> Catalog:
    """The name, meaning and parameters of every entry, and the JSON Schema of all specs."""
    return build_catalog()


@router.get("/presets", summary="Ready-made specs", responses=responses())
def read_presets() -> PresetPage:
    """The paper's experiments and others, as specs."""
    return PresetPage(items=build_presets())
