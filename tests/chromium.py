"""Debian's Chromium, or that of the machine."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.needs import lacking

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
