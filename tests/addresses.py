"""Every address of an app, for what holds on all of them."""

from collections.abc import Iterator

from fastapi import FastAPI
from fastapi.routing import APIRoute

from service.web.dashboard import pages, templating

VALUES = {
    "job_id": "{job}",
    "file": "sparsity.svg",
    "name": "mnist-mini",
    "code": "invalid",
    "delivery_id": "1",
    "form": "txt",
    "share_id": "share_1",
    "worker_id": "worker-1",
}


def addresses(app: FastAPI, job: str) -> Iterator[tuple[str, set[str]]]:
    """Every address with its methods: those of the OpenAPI document, then those of the pages."""
    known = {
        path: {method.upper() for method in methods}
        for path, methods in app.openapi()["paths"].items()
    }
    for router in (pages.router, pages.sign_in_router, pages.spec_router, templating.static_router):
        for route in router.routes:
            assert isinstance(route, APIRoute)
            known.setdefault(route.path, set()).update(route.methods or ())
    known["/openapi.json"] = {"GET"}
    for path, methods in known.items():
        filled = path
        if path == "/static/{name}":
            filled = "/static/style.css"
        if path == "/static/{version}/{name}":
            filled = "/static/1/live.js"
        if path == "/compare/{name}.json":
            filled = f"/compare/sparsity.json?job={job}"
        for name, value in VALUES.items():
            filled = filled.replace(f"{{{name}}}", value.replace("{job}", job))
        assert "{" not in filled, path
        yield filled, methods
