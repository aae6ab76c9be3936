"""Templates -> answers: what every page is given, its headers, and the files beside it."""

import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from fastapi import APIRouter, Request, Response

from ffengine.version import ENGINE_VERSION
from service import problems
from service.dashboard import views

PAGES = (("/", "Jobs"), ("/workers", "Workers"), ("/datasets", "Data sets"), ("/catalog", "Catalog"))
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png"}
CHART_LIBRARY = "vega.js"
STATIC = resources.files("service.dashboard") / "static"

files = APIRouter(include_in_schema=False)


@cache
def templates() -> jinja2.Environment:
    """The templates: everything that is put into them is escaped, and what they lack is an error."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("service.dashboard"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    found.globals |= {
        "static": lambda name: f"/static/{name}?v={digest(name)}",
        "pages": PAGES,
        "version": ENGINE_VERSION,
        "title_of": views.title_of,
        "place_of": views.place_of,
        "duration": views.duration,
        "age": age,
    }
    return found


def page(template: str, request: Request, status: int = 200, **values: Any) -> Response:
    """The page of a template."""
    text = templates().get_template(f"{template}.html").render(here=request.url.path, **values)
    return Response(text, status, headers=HEADERS, media_type="text/html; charset=utf-8")


def age(at: datetime) -> str:
    """How long ago that was, in words."""
    seconds = (datetime.now(UTC) - at).total_seconds()
    return "just now" if seconds < 10 else f"{views.duration(seconds)} ago"


@files.get("/static/{name}")
def static_file(request: Request, name: str) -> Response:
    """A file of the pages; kept by browsers as long as its address, which has its digest, stays."""
    if name not in names():
        raise problems.NoSuchPage
    lasting = "public, max-age=31536000, immutable" if request.query_params.get("v") == digest(name) else "public, no-cache"
    headers = {"Cache-Control": lasting, "ETag": f'"{digest(name)}"', "X-Content-Type-Options": "nosniff"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(content(name), headers=headers, media_type=TYPES[name[name.rindex(".") :]])


@cache
def names() -> frozenset[str]:
    """The files that there are."""
    return frozenset(entry.name for entry in STATIC.iterdir()) | {CHART_LIBRARY}


@cache
def content(name: str) -> bytes:
    """A file of these."""
    return chart_library() if name == CHART_LIBRARY else (STATIC / name).read_bytes()


@cache
def digest(name: str) -> str:
    """What tells one content of a file from another."""
    return hashlib.sha256(content(name)).hexdigest()[:16]


def chart_library() -> bytes:
    """Vega, Vega-Lite and Vega-Embed as one script, from the library that draws the charts here: both always agree."""
    import vl_convert  # seconds and megabytes: when it is first asked for

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).encode()
