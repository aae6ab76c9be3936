"""The HTTP application: resources, routers, problems; nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from ffengine.version import VERSION
from service.encoding.root_path import at
from service.settings import Settings
from service.web import problems
from service.web.compression import CompressionMiddleware
from service.web.cross_origin import CrossOriginMiddleware
from service.web.dashboard import job_forms, pages, templating
from service.web.dependencies import (
    Resources,
    get_owner,
    refuse_repeated_headers,
    refuse_unknown_parameters,
)
from service.web.forwarding import ForwardingMiddleware
from service.web.host_check import HostCheckMiddleware
from service.web.methods import MethodsMiddleware, MethodTable
from service.web.metrics import API_PREFIX, MetricsMiddleware
from service.web.openapi import openapi, operation_id
from service.web.request_ids import RequestIdMiddleware
from service.web.routes import (
    catalog,
    datasets,
    jobs,
    papers,
    people,
    results,
    shares,
    system,
    webhooks,
    weights,
)
from service.web.security_headers import SecurityHeadersMiddleware
from service.web.sharing import SharesMiddleware

TITLE = "fflab"
DESCRIPTION = """
Train Forward-Forward networks and check the sparsity theorems of arXiv 2311.05667.

Submit a spec with `POST /v1/jobs`, wait with `GET /v1/jobs/{id}?wait=60`,
read `GET /v1/jobs/{id}/result`.
Every error is `application/problem+json` (RFC 9457) with JSON pointers to what was wrong.
"""
SIGN_IN_BYTES = 10_000  # nobody has shown a key yet
KEYED = (
    *(part.router for part in (jobs, results, papers, shares, people, webhooks, catalog, datasets)),
    datasets.upload_router,
    weights.router,
    weights.upload_router,
    system.v1_router,
)
FILES = (datasets.upload_router, weights.upload_router)  # whose bodies may be large
OPEN = (
    system.router,
    catalog.open_router,
    pages.router,
    job_forms.router,
    pages.spec_router,
    templating.static_router,
    pages.sign_in_router,
)


class App(FastAPI):
    """A FastAPI app that answers with problem documents only, and to its own names."""

    def __init__(self, settings: Settings, **how: Any) -> None:
        super().__init__(**how)
        self.settings = settings
        self.methods = MethodTable()

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document; it is built once for all apps that share their routes."""
        document = _document(self.settings.max_body_bytes, self.settings.max_upload_bytes)
        servers = [one | {"url": at("") or "/"} for one in document["servers"]]
        return document | {"servers": servers}

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the framework's own stack, whose outermost layer limits the size of bodies."""
        stack: ASGIApp = problems.BodyLimitProblemMiddleware(super().build_middleware_stack())
        stack = MethodsMiddleware(CompressionMiddleware(stack), self.methods)
        stack = SharesMiddleware(stack)
        stack = CrossOriginMiddleware(stack, self.settings)
        stack = HostCheckMiddleware(stack, self.settings)
        stack = MetricsMiddleware(SecurityHeadersMiddleware(stack))
        return RequestIdMiddleware(ForwardingMiddleware(stack, self.settings))


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application for these settings, by default those of the environment."""
    settings = settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        resources = Resources(settings)
        app.state.resources = resources
        try:
            await resources.open()
        except Exception as error:
            app.state.failure = error  # uvicorn keeps it in its log; `serve` says it
            raise
        try:
            yield
        finally:
            await resources.close()

    app = App(
        settings,
        title=TITLE,
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        max_body_size=settings.max_body_bytes,
        routes=_routes(settings.max_body_bytes, settings.max_upload_bytes),
        # the framework's own pages load scripts from other hosts; the dashboard has /docs instead
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a slash at the end changes nothing, see MethodsMiddleware
    )
    problems.install_handlers(app)
    app.add_exception_handler(HTTPException, pages.http_error)  # a page for browsers
    app.methods.add(app.routes)  # /openapi.json
    for router in KEYED:
        app.methods.add(router.routes, API_PREFIX)
    for router in OPEN:
        app.methods.add(router.routes)
    return app


@cache
def _routes(most_bytes: int, most_upload_bytes: int) -> list[BaseRoute]:
    """Return all routes, for bodies of so many bytes.

    The apps of a process share them, and with them what FastAPI works out of each route when the
    first request asks for it, which takes longer than most requests.
    """
    every = APIRouter(generate_unique_id_function=operation_id, max_body_size=most_bytes)
    needs = [
        Depends(get_owner),
        Depends(refuse_unknown_parameters),
        Depends(refuse_repeated_headers),
    ]
    for router in KEYED:
        most = most_upload_bytes if router in FILES else None
        every.include_router(router, prefix=API_PREFIX, dependencies=needs, max_body_size=most)
    for router in OPEN:
        most = SIGN_IN_BYTES if router is pages.sign_in_router else None
        every.include_router(router, max_body_size=most)
    return every.routes


@cache
def _document(most_bytes: int, most_upload_bytes: int) -> dict[str, Any]:
    routes = _routes(most_bytes, most_upload_bytes)
    return openapi(title=TITLE, version=VERSION, description=DESCRIPTION, routes=routes)
