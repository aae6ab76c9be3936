"""Templates -> answers: what every page is given, its headers, and the files beside it."""

import gzip
import hashlib
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import jinja2
import uuid_utils
from fastapi import APIRouter, Request, Response

from ffengine.text import visible
from ffengine.version import VERSION
from service.results.descriptions import age, duration, place_of, title_of
from service.web import problems
from service.web.dependencies import InState

PAGES = (
    ("/", "Jobs"),
    ("/workers", "Workers"),
    ("/datasets", "Data sets"),
    ("/catalog", "Catalog"),
)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
    "'self' data:; connect-src 'self'; form-action 'self'; base-uri "
    "'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
CHART_LIBRARY, LIBRARY_VERSION = "vega.js", metadata.version("vl-convert-python")
STATIC = resources.files("service.web.dashboard") / "static"

files = APIRouter(include_in_schema=False)


@cache
def templates() -> jinja2.Environment:
    """The templates: everything that is put into them is escaped, and what they lack is an
    error.
    """
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("service.web.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    found.policies[
        "json.dumps_kwargs"
    ] = {}  # in their own order: that of a study's parts and grid is that of its runs
    found.globals |= {
        "static": lambda name: f"/static/{name}?v={digest(name)}",
        "pages": PAGES,
        "version": VERSION,
        "title_of": title_of,
        "place_of": place_of,
        "duration": duration,
        "age": age,
    }
    return found


def page(template: str, request: Request, status: int = 200, **values: Any) -> Response:
    """The page of a template."""
    text = templates().get_template(f"{template}.html").render(here=request.url.path, **values)
    return Response(
        visible(text, keep="\n\t"), status, headers=HEADERS, media_type="text/html; charset=utf-8"
    )


@files.get("/static/{name}")
def static_file(request: Request, state: InState, name: str) -> Response:
    """A file of the pages; kept by browsers as long as its address, which has its digest, stays."""
    if name not in names():
        raise problems.NoSuchPage
    lasting = (
        "public, max-age=31536000, immutable"
        if request.query_params.get("v") == digest(name)
        else "public, no-cache"
    )
    headers = {
        "Cache-Control": lasting,
        "ETag": f'"{digest(name)}"',
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if name == CHART_LIBRARY:
        return _library(request, state.settings.root / "cache", headers)
    return Response(
        (STATIC / name).read_bytes(), headers=headers, media_type=TYPES[name[name.rindex(".") :]]
    )


@cache
def names() -> frozenset[str]:
    """The files that there are."""
    return frozenset(entry.name for entry in STATIC.iterdir()) | {CHART_LIBRARY}


@cache
def digest(name: str) -> str:
    """What tells one content of a file from another."""
    content = LIBRARY_VERSION.encode() if name == CHART_LIBRARY else (STATIC / name).read_bytes()
    return hashlib.sha256(content).hexdigest()[:16]


def _library(request: Request, folder: Path, headers: dict[str, str]) -> Response:
    content = chart_library(folder)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        content = gzip.decompress(content)
    return Response(content, headers=headers | {"Vary": "Accept-Encoding"}, media_type=TYPES[".js"])


def chart_library(folder: Path) -> bytes:
    """Vega, Vega-Lite and Vega-Embed as one script (gzip), from the library that draws the charts
    here: both always agree.

    It takes seconds to put together, so it is kept in the folder.
    """
    kept = folder / f"vega-{LIBRARY_VERSION}.js.gz"
    if not kept.is_file():
        from service.results.charts import (
            library,
        )  # seconds and megabytes: when it is first asked for

        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{kept.name}.{uuid_utils.uuid4().hex}"
        fresh.write_bytes(gzip.compress(library().encode(), mtime=0))
        fresh.replace(kept)
    return kept.read_bytes()
