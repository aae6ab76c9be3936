"""Debian's Chromium, or that of the machine."""

import logging
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from playwright.sync_api import Browser, Error, Page, sync_playwright

from tests.needs import lacking

log = logging.getLogger(__name__)

# The shell has no windows, and no pages of its own: a test takes a fifth of the processor time.
PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """The browser; the test is skipped where there is none."""
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        lacking("Chromium", "none is on PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", *arguments]
        )
        yield browser
        browser.close()


@contextmanager
def faultless_page(browser: Browser, client: httpx.Client, patience: float) -> Iterator[Page]:
    """A page of the service, whose scripts may not fail, and whose charts may not warn of anything;
    `patience` in milliseconds.
    """
    context = browser.new_context(base_url=str(client.base_url))
    page, errors = context.new_page(), list[str]()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "WARN" in said.text else None)
    page.set_default_timeout(patience)
    yield page
    context.close()
    assert not errors, errors


def hear(page: Page) -> None:
    """Let the handlers of events and routes run: Playwright calls them only within a call of its
    own, so that who waits for what they note hears nothing without one.
    """
    page.evaluate("1")


@contextmanager
def witnessed(page: Page, client: httpx.Client) -> Iterator[None]:
    """Log at the end what the page asked for, where it stands, and the states of the newest jobs;
    pytest shows it beside a failure.
    """
    seen, began = deque[str](maxlen=30), time.monotonic()

    def note(what: str) -> None:
        seen.append(f"{time.monotonic() - began:.1f} s: {what}")

    page.on("response", lambda answer: note(f"{answer.status} {answer.url}"))
    page.on("requestfailed", lambda request: note(f"{request.failure} {request.url}"))
    yield
    with suppress(Error):
        state = "[location.href, document.visibilityState, JSON.stringify(document.body.dataset)]"
        note(" ".join(page.evaluate(state)))
    with suppress(httpx.HTTPError):
        jobs = client.get("/v1/jobs", params={"limit": 5}).json()["items"]
        note(", ".join(f"{job['id']} {job['state']}" for job in jobs))
    log.warning("The page:\n%s", "\n".join(seen))
