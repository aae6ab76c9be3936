"""Pages whose requests something in between answers: gateways, sign-in pages, proxies with limits;
and pages where the browser forbids what it allows on this machine.
"""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import httpx
import numpy as np
import pytest
from playwright.sync_api import Browser, FilePayload, Page, Request, Route, expect

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.settings import Settings
from service.store import Store
from service.web import auth
from service.web.auth import create_key
from tests.chromium import chromium, faultless_page, hear
from tests.over_http import submit

PATIENCE = 1000 * PATIENCE_SECONDS  # milliseconds
expect.set_options(timeout=PATIENCE)
BANNERS = ("away", "signed-out", "gone")
SIGN_IN = "<title>Lab</title><form action='/sso'><input name=user><input type=password></form>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for which lab.example is this machine, as a name of it on the network."""
    reachable = "--disable-features=LocalNetworkAccessChecks"
    with chromium("--host-resolver-rules=MAP *.example 127.0.0.1", reachable) as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    with faultless_page(browser, client, PATIENCE) as page:
        yield page


def of_nginx(status: int) -> Callable[[Route], None]:
    """Answers as nginx does in place of the service."""
    text = f"<html><head><title>{status}</title></head><body><h1>{status}</h1>nginx</body></html>"
    return lambda route: route.fulfill(status=status, body=text, content_type="text/html")


@contextmanager
def routed(page: Page, address: str, answer: Callable[[Route], None]) -> Iterator[None]:
    page.route(address, answer)
    yield
    page.unroute(address)


def shows(page: Page, shown: str | None) -> None:
    """Expect one of the banners, or none."""
    for name in BANNERS:
        banner = page.locator(f"#{name}")
        expect(banner).to_be_visible() if name == shown else expect(banner).to_be_hidden()


def test_a_page_follows_its_job_again_after_whatever_answered_in_between(
    page: Page, client: httpx.Client
) -> None:
    answers: tuple[tuple[Callable[[Route], None], str], ...] = (
        (of_nginx(502), "away"),
        (of_nginx(504), "away"),
        (of_nginx(404), "away"),  # a proxy that has forgotten its prefix
        (of_nginx(200), "away"),  # a page of maintenance
        (of_nginx(401), "signed-out"),
        (of_nginx(403), "signed-out"),
        (lambda route: route.fulfill(body=SIGN_IN, content_type="text/html"), "signed-out"),
        (lambda route: route.abort(), "away"),
    )
    job = submit(client)
    page.goto(f"/jobs/{job.id}")
    page.evaluate("window.unchanged = true")
    state = page.locator("#head .state")
    for number, (answer, banner) in enumerate(answers):
        before, action, after = [("queued", "pause", "paused"), ("paused", "resume", "queued")][
            number % 2
        ]
        with routed(page, f"**/jobs/{job.id}*", answer), routed(page, "**/events*", answer):
            shows(page, banner)
            assert client.post(f"/v1/jobs/{job.id}/{action}").is_success
            expect(state).to_have_text(before)
        expect(state).to_have_text(after)
        shows(page, None)
    assert page.evaluate("window.unchanged")


def test_a_page_follows_its_job_where_something_in_between_holds_its_stream_back(
    page: Page, client: httpx.Client
) -> None:
    page.clock.install()
    page.route("**/events*", lambda _: None)  # it is never answered
    job = submit(client)
    with page.expect_request("**/events*"):
        page.goto(f"/jobs/{job.id}")
    expect(page.locator("#head .state")).to_have_text("queued")
    assert client.post(f"/v1/jobs/{job.id}/cancel").is_success
    page.clock.fast_forward(20_000)
    expect(page.locator("#head .state")).to_have_text("cancelled")


def test_a_page_whose_key_was_revoked_leads_to_the_sign_in_and_back(
    page: Page, client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)
    job = submit(client)
    ada, bob = (create_key(store.api_keys, name) for name in ("ada", "bob"))
    page.goto(f"/jobs/{job.id}")
    page.get_by_label("API key").fill(ada.secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#head .state")).to_have_text("queued")
    store.api_keys.revoke("ada")
    shows(page, "signed-out")
    page.get_by_role("link", name="sign in again").click()
    page.get_by_label("API key").fill(bob.secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#head .state")).to_have_text("queued")
    assert page.url.endswith(f"/jobs/{job.id}")


def test_a_page_whose_job_is_deleted_elsewhere_says_so_and_asks_no_more(
    page: Page, client: httpx.Client
) -> None:
    job = submit(client)
    page.goto(f"/jobs/{job.id}")
    with routed(page, "**/events*", of_nginx(502)):
        with routed(page, f"**/jobs/{job.id}", of_nginx(502)):  # so that it sees no end of the job
            client.post(f"/v1/jobs/{job.id}/cancel")
            assert client.delete(f"/v1/jobs/{job.id}").status_code == 204
        shows(page, "gone")
    expect(page.locator("#gone")).to_contain_text("This job was deleted")
    assert page.evaluate("[document.body.dataset.events, document.body.dataset.refresh]") == [
        None,
        None,
    ]


@pytest.mark.parametrize("status", [502, 504])
def test_a_button_says_that_it_may_have_acted_where_a_gateway_gave_up(
    page: Page, client: httpx.Client, status: int
) -> None:
    job = submit(client)
    page.goto(f"/jobs/{job.id}")
    said = page.locator("#said")
    with routed(page, "**/cancel", of_nginx(status)):
        page.get_by_role("button", name="Cancel").click()
        expect(said).to_contain_text(f"({status})")
        expect(said).to_contain_text("may have been done")
    with routed(page, "**/cancel", lambda route: route.abort()):
        page.get_by_role("button", name="Cancel").click()
        expect(said).to_contain_text("may have been done")
    expect(said).not_to_contain_text("nothing was changed")


def test_a_second_click_after_a_gateway_gave_up_makes_no_second_job(
    page: Page, client: httpx.Client
) -> None:
    keys: list[str | None] = []

    def passed_and_given_up(route: Route) -> None:
        keys.append(route.request.headers.get("idempotency-key"))
        route.fetch()
        of_nginx(504)(route)

    def sent(times: int) -> bool | None:
        hear(page)
        return len(keys) == times or None

    page.goto("/new")
    expect(page.locator("#cost")).to_contain_text("1 run, about")
    page.get_by_label("compute even where").check()
    button = page.get_by_role("button", name="Submit")
    with routed(page, "**/v1/jobs", passed_and_given_up):
        for number in (1, 2):
            button.click()
            wait_until(partial(sent, number), "it was submitted")
            expect(page.locator("#said")).to_contain_text("may have been made")
            expect(button).to_be_enabled()
        page.get_by_label("Name", exact=True).fill("another")
        button.click()
        wait_until(partial(sent, 3), "it was submitted")
        expect(button).to_be_enabled()
    button.click()
    page.wait_for_url("**/jobs/job_*")
    assert keys[0] == keys[1] != keys[2]
    assert None not in keys
    names = [one["name"] for one in client.get("/v1/jobs").json()["items"]]
    assert sorted(map(str, names)) == ["None", "another"]


def test_the_form_says_what_in_between_refuses_its_questions(page: Page) -> None:
    page.goto("/new")
    expect(page.locator("#cost")).to_contain_text("1 run, about")
    with routed(page, "**/v1/estimate", of_nginx(502)):
        page.get_by_label("epochs", exact=True).fill("7")
        expect(page.locator("#errors")).to_contain_text("Something in between")
        expect(page.get_by_role("button", name="Submit")).to_be_disabled()
    page.get_by_label("epochs", exact=True).fill("8")
    expect(page.locator("#errors li")).to_have_count(0)
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator("#yaml")).to_be_visible()
    with routed(page, "**/spec.json", of_nginx(504)):
        page.locator("textarea[name=yaml]").fill("kind: train\n")
        expect(page.locator("#errors")).to_contain_text("Something in between")


def upload_of(page: Page, name: str) -> None:
    """Fill the form of an upload, and send it."""
    archive = io.BytesIO()
    np.savez(archive, x=np.random.default_rng(0).random((60, 5)), y=np.arange(60) % 3)
    file: FilePayload = {"name": "a.npz", "mimeType": "", "buffer": archive.getvalue()}
    page.get_by_label("Name").fill(name)
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Upload").click()


def test_an_upload_that_is_stored_is_shown_alone_where_one_looks(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/datasets")
    for _ in range(2):  # the same file again does no harm
        upload_of(page, "mine")
        page.wait_for_url("**/datasets?name=mine#mine")
        expect(page.get_by_role("heading", name="mine uploaded")).to_be_in_viewport()
        expect(page.locator(".dataset")).to_have_count(1)
        expect(page.locator("[data-upload] output")).to_be_empty()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (of_nginx(413), "A proxy in between refuses bodies of this size"),
        (of_nginx(502), "may have been stored"),
        (of_nginx(504), "may have been stored"),
        (of_nginx(200), "Reload the page"),
        (lambda route: route.abort("connectionreset"), "may have been stored"),
    ],
    ids=["413", "502", "504", "200", "reset"],
)
def test_an_upload_that_something_in_between_ends_is_said_to_be(
    page: Page, answer: Callable[[Route], None], words: str
) -> None:
    page.goto("/datasets")
    status = page.locator("[data-upload] output")
    with routed(page, "**/v1/datasets?*", answer):
        upload_of(page, "mine")
        expect(status).to_contain_text(words)
        expect(page.locator("[data-upload] progress")).to_be_hidden()
    upload_of(page, "mine")
    expect(page.get_by_role("heading", name="mine uploaded")).to_be_visible()


class TestWithoutTls:
    """The service under a name of the network, without TLS: the browser keeps some tools back."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"allowed_hosts": "lab.example"})

    def test_a_spec_is_copied(self, page: Page, client: httpx.Client) -> None:
        job = submit(client)
        page.goto(f"http://lab.example:{client.base_url.port}/jobs/{job.id}")
        assert page.evaluate("[isSecureContext, Boolean(navigator.clipboard)]") == [False, False]
        block = page.locator(".snippets details").first
        block.get_by_role("button", name="Copy").click()
        expect(block.get_by_role("button")).to_have_text("Copied")
        page.evaluate("document.body.append(document.createElement('textarea'))")
        page.locator("body > textarea").focus()
        page.keyboard.press("Control+V")
        expect(page.locator("body > textarea")).to_have_value(
            block.locator("pre").text_content() or ""
        )

    def test_what_cannot_be_copied_is_selected(self, page: Page, client: httpx.Client) -> None:
        job = submit(client)
        page.goto(f"http://lab.example:{client.base_url.port}/jobs/{job.id}")
        page.evaluate("document.execCommand = () => false")
        block = page.locator(".snippets details").first
        block.get_by_role("button", name="Copy").click()
        expect(page.locator("#said")).to_contain_text("Ctrl+C")
        expect(block.get_by_role("button")).to_have_text("Selected")
        text = block.locator("pre").text_content()
        assert page.evaluate("getSelection().toString()").strip() == (text or "").strip()

    def test_a_job_is_submitted(self, page: Page, client: httpx.Client) -> None:
        asked: list[Request] = []
        page.on("request", lambda one: asked.append(one) if one.method == "POST" else None)
        page.goto(f"http://lab.example:{client.base_url.port}/new")
        expect(page.locator("#cost")).to_contain_text("1 run, about")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url("**/jobs/job_*")
        assert json.loads(asked[-1].post_data or "")["spec"]["kind"] == "train"
        assert len(asked[-1].headers["idempotency-key"]) == 32
