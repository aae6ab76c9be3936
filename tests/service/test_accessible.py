"""Every page in a browser: axe finds nothing, on a large screen and on a phone, light and dark,
with all that can be unfolded unfolded; and no page is wider than the screen.
"""

from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from benchmarks.waiting import PATIENCE_SECONDS
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from service.web.auth import create_key
from tests.chromium import chromium, faultless_page
from tests.furnished import furnish
from tests.over_http import submit
from tests.service.trial_runs import search, work_through
from tests.serving import client_of

PATIENCE = 1000 * PATIENCE_SECONDS  # milliseconds
expect.set_options(timeout=PATIENCE)
SIZES = ((1440, 900), (390, 844))
VIOLATIONS = {"resultTypes": ["violations"]}
RULES: dict[str, dict[str, Any]] = {
    "light": VIOLATIONS,
    "dark": VIOLATIONS | {"runOnly": ["color-contrast"]},  # all else is the same in both
}
UNFOLD = "all => all.forEach(one => { one.open = true; })"
# the states of a job that have a page of their own look, and the kinds
JOBS = ("waits", "paused", "runs", "failed", "cancelled", "trained", "checked", "told", "study")
PAGES = {
    "jobs": "/",
    "jobs, another order": "/?sort=-T2%2B&columns=kind,state,figures,widths,lr,T2%2B&runs=yes",
    "jobs, none": "/?name=nothing-of-this-name",
    "jobs, a wrong filter": "/?where=lr%3C%3C",
    **{f"a job: {name}": f"/jobs/{{{name}}}" for name in JOBS},
    "a search": "/jobs/{search}",
    "runs": "/jobs/{study}/runs",
    "compare": "/compare?job={trained}&job={told}",
    "compare, nothing chosen": "/compare",
    "new": "/new",
    "new, a preset": "/new?preset=paper",
    "new, like a search": "/new?like={search}",
    "new, a check of weights": "/new?weights={trained}",
    "workers": "/workers",
    "usage": "/usage",
    "audit": "/audit",
    "data sets": "/datasets",
    "findings": "/findings",
    "catalog": "/catalog",
    "reference": "/docs",
    "no such page": "/nothing",
    "no such job": "/jobs/job_0",
    "a wrong address": "/?rows=many",
    "a shared run": "{shared_run}",
    "a shared study": "{shared_study}",
    "a chart": "/v1/jobs/{trained}/chart/theorem2.html",
}


class Site(NamedTuple):
    """A service with something of everything, and the ids and addresses of it."""

    client: httpx.Client
    names: dict[str, str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    settings = Settings(home=tmp_path_factory.mktemp("furnished"))
    names = dict(zip(JOBS, furnish(settings, 1).jobs, strict=False))
    app = create_app(settings)
    with client_of(app) as client:
        store: Store = app.state.resources.store
        names["search"] = submit(client, search().model_dump(mode="json")).id
        work_through(store, names["search"])
        for what, job in (("shared_run", "trained"), ("shared_study", "study")):
            made = client.post(f"/v1/jobs/{names[job]}/shares", json={})
            names[what] = httpx.URL(made.json()["url"]).path
        yield Site(client, names)


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    with faultless_page(browser, site.client, PATIENCE) as page:
        yield page


def without_fault(page: Page) -> None:
    """Nothing that axe finds, whatever it thinks of its weight, and nothing beside the screen."""
    page.locator("details").evaluate_all(UNFOLD)
    charts = page.locator("figure[data-chart]:visible")
    for number in range(charts.count()):
        expect(charts.nth(number).locator(".awaited")).to_have_count(0)
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
        for scheme, rules in RULES.items():
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            found = Axe().run(page, options=rules).response["violations"]
            faults = [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
            assert not faults, f"{scheme}, {width}: {faults}"


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_every_page_can_be_used_by_everybody(page: Page, site: Site, name: str) -> None:
    page.goto(PAGES[name].format(**site.names))
    without_fault(page)


@pytest.mark.slow
def test_a_report_can_be_used_by_everybody(page: Page, site: Site) -> None:
    report = site.client.get(f"/v1/jobs/{site.names['trained']}/report.html")
    page.set_content(report.text)  # as a file: the service lets no script run in it, axe neither
    without_fault(page)


@pytest.mark.slow
def test_what_asks_before_many_jobs_are_changed_can_be_used_by_everybody(
    page: Page, site: Site
) -> None:
    page.goto("/?name=was+cancelled")
    page.locator("input[name=job]").first.check()
    without_fault(page)
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Delete 1 job?")
    without_fault(page)
    page.get_by_role("button", name="Delete 1 job").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 job deleted")
    without_fault(page)


@pytest.mark.slow
def test_the_sign_in_can_be_used_by_everybody(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = Settings(home=tmp_path_factory.mktemp("locked"))
    furnish(settings, 1)
    with closing(Store(settings.database, settings.datasets)) as store:
        key = create_key(store.api_keys, "ada")
    with (
        client_of(create_app(settings)) as client,
        faultless_page(browser, client, PATIENCE) as page,
    ):
        page.goto("/")
        without_fault(page)
        page.get_by_label("API key").fill("fflab_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not valid")
        without_fault(page)
        page.get_by_label("API key").fill(key.secret)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
        without_fault(page)
