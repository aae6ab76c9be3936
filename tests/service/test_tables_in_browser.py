"""Tables of jobs in a real browser: selection, addresses, and everybody's access to them."""

from collections.abc import Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from benchmarks.waiting import PATIENCE_SECONDS
from service.store import Store
from tests.chromium import chromium
from tests.over_http import submit, succeed

PATIENCE = 1000 * PATIENCE_SECONDS  # milliseconds
expect.set_options(timeout=PATIENCE)
STUDY = {"kind": "study", "base": {"kind": "train"}, "grid": {"epochs": [4, 5, 6]}}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    """A page that may not complain: neither of scripts nor of the content policy."""
    context = browser.new_context(
        base_url=str(client.base_url), viewport={"width": 1280, "height": 900}
    )
    page, complaints = context.new_page(), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.set_default_timeout(PATIENCE)
    yield page
    context.close()
    assert not complaints


@pytest.fixture
def jobs(client: httpx.Client, store: Store) -> list[str]:
    """Three jobs, oldest first: succeeded, queued, cancelled."""
    made = [submit(client, name=name, fresh=True).id for name in ("first", "second", "third")]
    succeed(store, made[0])
    client.post(f"/v1/jobs/{made[2]}/cancel")
    return made


def usable(page: Page) -> None:
    """Nothing wider than the screen, and no fault for people who cannot see or use a mouse."""
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options={"resultTypes": ["violations"]})
        assert found.violations_count == 0, found.generate_report()
    page.set_viewport_size({"width": 1280, "height": 900})


def test_what_is_selected_says_what_can_be_done_with_it(
    page: Page, client: httpx.Client, jobs: list[str]
) -> None:
    page.goto("/?sort=name")
    bar = page.get_by_role("form", name="With the selected")
    expect(bar).to_be_hidden()
    page.get_by_label("select second").check()
    expect(bar).to_contain_text("1 selected")
    expect(bar.get_by_role("button", name="Cancel")).to_be_visible()
    expect(bar.get_by_role("button", name="Delete")).to_be_hidden()
    expect(bar.get_by_role("button", name="Compare")).to_be_disabled()
    page.get_by_label("select all on this page").check()
    expect(bar).to_contain_text("3 selected")
    expect(bar.get_by_role("button", name="Cancel 1")).to_be_visible()
    expect(bar.get_by_role("button", name="Delete 2")).to_be_visible()
    with page.expect_response(lambda answer: answer.url.endswith("?sort=name")):
        submit(client, name="later", fresh=True)
    expect(page.get_by_label("select later")).not_to_be_checked()
    expect(page.get_by_label("select third")).to_be_checked()
    usable(page)
    bar.get_by_role("button", name="Delete 2").click()
    expect(page.get_by_role("heading", name="Delete 2 jobs?")).to_be_visible()
    usable(page)
    page.get_by_role("button", name="Delete 2 jobs").click()
    expect(page.get_by_role("heading")).to_contain_text(["2 jobs deleted", "Done"])
    usable(page)
    page.get_by_role("link", name="Back to the list").click()
    expect(page).to_have_url("/?sort=name".join([str(client.base_url).rstrip("/"), ""]))
    left = client.get("/v1/jobs?fields=name").json()["items"]
    assert [job["name"] for job in left] == ["later", "second"]


def test_a_table_is_made_and_read_with_the_keyboard_alone(
    page: Page, client: httpx.Client, jobs: list[str]
) -> None:
    page.goto("/")
    page.get_by_label("Filter", exact=True).focus()
    page.keyboard.type("name~ir lr>0")
    page.keyboard.press("Enter")
    expect(page.locator(".totals")).to_contain_text("2 jobs")
    page.locator("summary", has_text="Columns and filters").focus()
    page.keyboard.press("Enter")
    page.get_by_role("checkbox", name="lr", exact=True).focus()
    page.keyboard.press("Space")
    usable(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("columnheader", name="lr")).to_be_visible()
    page.get_by_role("link", name="lr", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("th[aria-sort=descending]")).to_have_text("lr")
    assert "columns=kind%2C" in page.url
    assert "where=name~ir+lr%3E0" in page.url
    for name in ("select first", "select third"):
        page.get_by_label(name).focus()
        page.keyboard.press("Space")
    page.get_by_role("button", name="Compare").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title("Compare · fflab")


def test_a_study_and_its_jobs_can_be_used_by_everybody(
    page: Page, client: httpx.Client, store: Store, jobs: list[str]
) -> None:
    study = submit(client, STUDY, name="many", note="look\nagain", project="Paper").id
    run = client.get("/v1/jobs", params={"parent": study, "sort": "run"}).json()["items"][0]["id"]
    succeed(store, run)
    page.goto(f"/jobs/{study}/runs?sort=-T2%2B")
    expect(page.locator(".best")).to_contain_text("Best run by T2+: epochs 4, 0.7500")
    usable(page)
    page.goto("/?where=lrr<1")
    expect(page.get_by_role("alert")).to_contain_text("'lrr' is not a column; did you mean 'lr'?")
    usable(page)
    page.goto(f"/jobs/{jobs[1]}")
    page.locator("summary", has_text="Rename, tag, project, needs, note").click()
    usable(page)
    page.get_by_label("Note").fill("two\nlines")
    page.get_by_label("Project").fill("Thesis")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".note")).to_have_text("two\nlines")
    expect(page.locator("#about")).to_contain_text("Thesis")


# how many words of a part of a page stand on two lines or more
BROKEN = """parts => parts.flatMap((part) => {
  const walker = document.createTreeWalker(part, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let text = walker.nextNode(); text; text = walker.nextNode())
    for (const word of text.data.matchAll(/[^ \\n.·]+/g)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map((one) => Math.round(one.top)));
      if (lines.size > 1) found.push(word[0]);
    }
  return found;
})"""


def test_words_of_compared_jobs_are_whole_on_a_phone(
    page: Page, client: httpx.Client, store: Store
) -> None:
    deep = {
        "kind": "train",
        "network": {"widths": [64, 32]},
        "layers": "simultaneous",
        "dataset": {"validation_samples": 500},
        "seeds": [0, 1],
    }
    made = [submit(client, spec, fresh=True).id for spec in (None, deep)]
    for one in made:
        succeed(store, one)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/compare?job={made[0]}&job={made[1]}")
    tables = page.locator(".compared")
    expect(tables).to_have_count(2)
    expect(tables.first).to_contain_text("simultaneous")
    assert tables.locator("tbody tr > *").evaluate_all(BROKEN) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    usable(page)
