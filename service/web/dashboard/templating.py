"""Renders templates and serves the static files of the pages."""

import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from functools import cache, partial
from importlib import metadata, resources
from itertools import takewhile
from pathlib import Path
from typing import Any

import jinja2
import uuid_utils
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from markupsafe import Markup
from pydantic import JsonValue
from starlette.concurrency import run_in_threadpool

from ffengine.text import bytes_in_words
from ffengine.version import VERSION
from service.encoding.escaping import for_page
from service.encoding.root_path import SHARED, at, plainly_at
from service.placement import needs_in_words
from service.results.descriptions import details_in_words, duration, time_ago, title_of
from service.web import problems
from service.web.compression import accepts_gzip

PAGES = (
    ("/", "Jobs"),
    ("/workers", "Workers"),
    ("/datasets", "Data sets"),
    ("/findings", "Findings"),
    ("/catalog", "Catalog"),
)
LIST_OF_JOBS = ("/jobs",)  # further addresses of the list of jobs
OF_JOBS = (*LIST_OF_JOBS, "/compare")  # pages about jobs
OF_WORKERS = ("/usage", "/audit")  # pages that the page of workers leads to
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
    "'self' data:; connect-src 'self'; form-action 'self'; base-uri "
    "'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
DENSE = {".png"}  # which gzip makes no smaller
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
CHART_LIBRARY, LIBRARY_VERSION = "vega.js", metadata.version("vl-convert-python")
STATIC = resources.files("service.web.dashboard") / "static"
NO_BREAK = "\u00a0"
THEN = Markup("<!-- then -->")
# a space between a name and its number, around a sign of equality or between two figures, or before
# a sign of percent
BEFORE_NUMBER = re.compile(
    r"(?:(?<![\d,])|(?<=[A-Za-z]\d)) (?=[−-]?\d)| (?=[=%])|(?<==) |(?<=[\d%\]]) (?=/ )"
)
INTERVAL = re.compile(r"\[[^\[\]]{1,24}\]")

static_router = APIRouter(include_in_schema=False)


@cache
def templates() -> jinja2.Environment:
    """Return the Jinja environment: values are escaped, and a missing value is an error."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("service.web.dashboard"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    # keys are not sorted: the order of a study's parts and grid is that of its runs
    found.policies["json.dumps_kwargs"] = {}
    found.globals |= {
        "static": static_address,
        "root": lambda: at(""),
        "shared": SHARED.get,
        "pages": PAGES,
        "version": VERSION,
        "title_of": title_of,
        "duration": duration,
        "needs_in_words": needs_in_words,
        "age": time_ago,
        "details_in_words": details_in_words,
        "then": THEN,
    }
    found.filters |= {
        "together": together,
        "evidence": evidence_in_words,
        "in_bytes": bytes_in_words,
    }
    return found


def together(text: str) -> str:
    """Return a text in which no line ends between a name and its number: `S− 0.391`, `n = 64`."""
    whole = INTERVAL.sub(lambda found: found[0].replace(" ", NO_BREAK), text)
    return BEFORE_NUMBER.sub(NO_BREAK, whole)


def evidence_in_words(value: JsonValue) -> str:
    """Return the evidence of a finding as its page shows it: fractions have four digits."""
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)


def render_page(template: str, request: Request, status: int = 200, **values: Any) -> Response:
    """Render a template as the answer to a request.

    What stands before `{{ then }}` in a template is sent before the rest is rendered: the browser
    asks for styles and scripts meanwhile, and shows it.
    """
    docs = request.app.state.resources.settings.docs_url
    pieces = (
        templates()
        .get_template(f"{template}.html")
        .generate(here=place_in_navigation(request.url.path), docs=docs, **values)
    )
    first = "".join(takewhile(lambda piece: piece != THEN, pieces))
    second = next(pieces, None)
    kind = "text/html; charset=utf-8"
    if second is None:
        return Response(for_page(first), status, headers=HEADERS, media_type=kind)

    # in a context of its own: it knows whose request it is when the route has long returned
    rest = partial(copy_context().run, lambda: for_page(second + "".join(pieces)))
    return StreamingResponse(_in_turn(for_page(first), rest), status, HEADERS, media_type=kind)


async def _in_turn(first: str, rest: Callable[[], str]) -> AsyncIterator[str]:
    yield first
    yield await run_in_threadpool(rest)


def place_in_navigation(path: str) -> tuple[str, str]:
    """Return the page of the navigation to which an address belongs, and what to call it there.

    **Arguments:**

    - `path`: the address.

    **Returns:**

    The address of the page in the navigation, and "page" where the address is that page, "true"
    where it is below it (as `aria-current` says it).
    """
    first = f"/{path.strip('/').partition('/')[0]}"
    section = "/" if first in OF_JOBS else "/workers" if first in OF_WORKERS else first
    return section, "page" if path.rstrip("/") in (section.rstrip("/"), *LIST_OF_JOBS) else "true"


def static_address(name: str) -> str:
    """Return the address of a static file, which changes with its content.

    Modules of one version share a folder: what they import beside them is loaded once.
    """
    if name in modules():
        return plainly_at(f"/static/{modules_hash()}/{name}")
    return plainly_at(f"/static/{name}?v={content_hash(name)}")


# Styles and scripts are answered on the event loop, from memory: the threads may be busy with the
# rest of the very page that waits for them.
@static_router.get("/static/{version}/{name}")
async def module(request: Request, version: str, name: str) -> Response:
    """A module; browsers keep it as long as the version in its address is current."""
    if name not in modules():
        raise problems.NoSuchPage
    return _file_response(request, name, is_lasting=version == modules_hash())


@static_router.get("/static/{name}")
async def static_file(request: Request, name: str) -> Response:
    """A static file; browsers keep it as long as the content hash in its address is current."""
    if name not in static_files():
        raise problems.NoSuchPage
    is_lasting = request.query_params.get("v") == content_hash(name)
    if name != CHART_LIBRARY:
        return _file_response(request, name, is_lasting=is_lasting)
    cache = request.app.state.resources.settings.root / "cache"
    library = await run_in_threadpool(chart_library, cache)
    return _file_response(request, name, is_lasting=is_lasting, compressed=library)


def _file_response(
    request: Request, name: str, *, is_lasting: bool, compressed: bytes | None = None
) -> Response:
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable"
        if is_lasting
        else "public, no-cache",
        "ETag": f'"{content_hash(name)}"',
        "X-Content-Type-Options": "nosniff",
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    suffix = name[name.rindex(".") :]
    if suffix in DENSE:
        return Response(content_of(name), headers=headers, media_type=TYPES[suffix])
    content = compressed or compressed_content(name)
    if accepts_gzip(request.headers.get("accept-encoding", "")):
        headers["Content-Encoding"] = "gzip"
    else:
        content = gzip.decompress(content)
    return Response(content, headers=headers, media_type=TYPES[suffix])


@cache
def content_of(name: str) -> bytes:
    """Return the bytes of a static file, read once."""
    return (STATIC / name).read_bytes()


@cache
def compressed_content(name: str) -> bytes:
    """Return the bytes of a static file as gzip, compressed once."""
    return gzip.compress(content_of(name), mtime=0)


@cache
def modules() -> frozenset[str]:
    """Return the names of the scripts that may import each other."""
    return frozenset(name for name in static_files() - {CHART_LIBRARY} if name.endswith(".js"))


@cache
def modules_hash() -> str:
    """Return a hash of all modules."""
    hashes = "".join(content_hash(name) for name in sorted(modules()))
    return hashlib.sha256(hashes.encode()).hexdigest()[:16]


@cache
def static_files() -> frozenset[str]:
    """Return the names of the static files."""
    return frozenset(entry.name for entry in STATIC.iterdir()) | {CHART_LIBRARY}


@cache
def content_hash(name: str) -> str:
    """Return a hash of a static file's content, for its address and its ETag."""
    content = LIBRARY_VERSION.encode() if name == CHART_LIBRARY else content_of(name)
    return hashlib.sha256(content).hexdigest()[:16]


def chart_library(folder: Path) -> bytes:
    """Return Vega, Vega-Lite and Vega-Embed as one gzipped script.

    The script comes from the library that draws charts on the server, so that both always agree.
    Building it takes seconds; it is cached in the folder.
    """
    kept = folder / f"vega-{LIBRARY_VERSION}.js.gz"
    if not kept.is_file():
        from service.results.charts import library  # takes seconds to load, and megabytes

        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / f"{kept.name}.{uuid_utils.uuid4().hex}"
        fresh.write_bytes(gzip.compress(library().encode(), mtime=0))
        fresh.replace(kept)
    return kept.read_bytes()
