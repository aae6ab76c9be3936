"""fflab below a sub-path: a proxy that strips a prefix, from the dashboard to a download."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, expect

from benchmarks.waiting import PATIENCE_SECONDS
from service.client import Client
from tests.chromium import chromium
from tests.gateways import Gateway, gateway
from tests.stack import Lab

QUICK = {
    "kind": "train",
    "epochs": 2,
    "network": {"widths": [16]},
    "monitor": {"samples": 100},
    "dataset": {"name": "digits"},
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def below(lab: Lab) -> Iterator[Gateway]:
    with gateway(lab.stack.url, prefix="/fflab") as proxy:
        yield proxy


def test_a_job_is_submitted_watched_and_downloaded_below_a_prefix(
    browser: Browser, below: Gateway
) -> None:
    context = browser.new_context()
    context.set_default_timeout(1000 * PATIENCE_SECONDS)
    page = context.new_page()
    failed: list[str] = []
    page.on("response", lambda got: failed.append(got.url) if got.status >= 400 else None)
    page.on("pageerror", lambda error: failed.append(str(error)))
    try:
        page.goto(f"{below.url}/")
        page.get_by_role("link", name="New job").click()
        expect(page.locator("#cost")).to_contain_text("run")
        page.get_by_label("epochs", exact=True).fill("2")
        expect(page.locator("#cost")).to_contain_text("1 run, about")
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url(re.compile("/fflab/jobs/job_"))
        expect(page.locator("#head .state")).to_have_text(
            "succeeded", timeout=1000 * PATIENCE_SECONDS
        )
        expect(page.locator("figure[data-chart] canvas").first).to_be_visible()
        with page.expect_download() as download:
            page.locator("ul.downloads a", has_text="result.csv").evaluate(
                "(link) => { link.download = 'result.csv'; link.click(); }"
            )
        assert "epoch" in download.value.path().read_text()
        for name in ("Workers", "Data sets", "Catalog", "Jobs", "REST reference"):
            page.get_by_role("link", name=name, exact=True).first.click()
            expect(page.locator("h1")).to_be_visible()
            assert "/fflab/" in page.url
        addresses = page.evaluate(
            "[...document.querySelectorAll('[href], [src]')].map((one) => one.href || one.src)"
        )
        assert all(address.startswith(f"{below.url}/") for address in addresses)
    finally:
        context.close()
    assert not failed


def test_every_address_that_is_answered_has_the_prefix(below: Gateway, lab: Lab) -> None:
    with httpx.Client(base_url=below.url, trust_env=False, timeout=PATIENCE_SECONDS) as http:
        made = [http.post("/v1/jobs", json={"spec": QUICK, "fresh": True}) for _ in range(2)]
        job = made[0].json()
        assert made[0].headers["location"] == f"/fflab/v1/jobs/{job['id']}"
        assert all(link.startswith("/fflab/v1/jobs") for link in job["links"].values())
        listed = http.get("/v1/jobs", params={"limit": 1})
        assert listed.headers["link"].startswith("</fflab/v1/jobs?")
        assert http.get("/openapi.json").json()["servers"][0]["url"] == "/fflab"
        assert http.get("/v1/nowhere").json()["type"] == "/fflab/problems/no-such-page"
        assert lab.http.get("/openapi.json").json()["servers"][0]["url"] == "/"
        for one in made:
            lab.http.post(f"/v1/jobs/{one.json()['id']}/cancel")
    with Client(below.url) as client:
        assert client.job(job["id"]).page == f"{below.url}/jobs/{job['id']}"
