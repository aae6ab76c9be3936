"""A live page takes over what is new and leaves alone what somebody may be using."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page

from service.web.dashboard.templating import STATIC
from tests.chromium import chromium

MORPH = """async ([before, after]) => {
  const { morphChildren } = await import("http://morph.test/morph.js");
  const box = document.createElement("div");
  box.innerHTML = before;
  document.body.replaceChildren(box);
  const old = new Map([...box.querySelectorAll("*")].map((one, number) => [one, number]));
  for (const one of box.querySelectorAll("details")) one.open = true;
  for (const one of box.querySelectorAll("input[type=text]")) one.value = "typed";
  box.querySelector("[data-focus]")?.focus();
  const fresh = document.createElement("div");
  fresh.innerHTML = after;
  morphChildren(box, fresh);
  const kept = [...box.querySelectorAll("*")].map((one) => old.get(one) ?? null);
  return {
    html: box.innerHTML, wanted: fresh.innerHTML, kept,
    typed: [...box.querySelectorAll("input[type=text]")].map((one) => one.value),
    open: [...box.querySelectorAll("details")].map((one) => one.open),
    focused: document.activeElement.textContent,
  };
}"""
TEXT = st.sampled_from(["", "a", "b", "running", "12 %", "&lt;b&gt;"])
LEAVES = TEXT | st.sampled_from(
    [
        "<button data-post='/a'>Cancel</button>",
        "<button data-post='/b'>Cancel</button>",
        "<a href='/x'>x</a>",
        "<a href='/x'>y</a>",
        "<i id='one'>1</i>",
        "<i class='k'></i>",
        "<input name='job' value='1'>",
        "<input name='job' value='2'>",
    ]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda tag, kind, parts: f"<{tag} class='{kind}'>{''.join(parts)}</{tag}>",
        st.sampled_from(["p", "section", "ul", "span"]),
        st.sampled_from(["", "x"]),
        st.lists(inner, max_size=4),
    ),
    max_leaves=16,
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def blank(browser: Browser) -> Iterator[Page]:
    """A page that serves nothing but the module."""
    page = browser.new_page()
    script = (STATIC / "morph.js").read_text()
    page.route(
        "http://morph.test/**",
        lambda route: (
            route.fulfill(body=script, content_type="text/javascript")
            if route.request.url.endswith("morph.js")
            else route.fulfill(body="<body></body>", content_type="text/html")
        ),
    )
    page.goto("http://morph.test/")
    yield page
    page.close()


@given(before=st.lists(TREES, max_size=4), after=st.lists(TREES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_part_of_a_page_becomes_what_was_fetched(
    blank: Page, before: list[str], after: list[str]
) -> None:
    found = blank.evaluate(MORPH, ["".join(before), "".join(after)])
    assert found["html"] == found["wanted"]


def test_a_button_stays_the_same_button_while_the_words_around_it_change(blank: Page) -> None:
    row = "<p>{0} %</p>{1}<p class=x><button data-post='/cancel' data-focus>Cancel</button></p>"
    after = row.format(13, "<p>A new line.</p>")
    found = blank.evaluate(MORPH, [row.format(12, ""), after])
    assert found["html"] == found["wanted"]
    assert found["kept"][-1] == 2, "the button is the third element of the old page"
    assert found["focused"] == "Cancel"


def test_rows_are_told_by_their_jobs_and_not_by_their_places(blank: Page) -> None:
    rows = {
        name: f"<tr><td><input name=job value={name} type=checkbox></td><th>{name}</th></tr>"
        for name in "abc"
    }
    table = "<table><tbody>{}</tbody></table>"
    before, after = rows["a"] + rows["b"], rows["c"] + rows["b"] + rows["a"]
    found = blank.evaluate(MORPH, [table.format(before), table.format(after)])
    assert found["html"] == found["wanted"]
    # table, tbody; then the new row's four elements, those of b, those of a
    assert found["kept"] == [0, 1, None, None, None, None, 6, 7, 8, 9, 2, 3, 4, 5]


def test_what_a_reader_opened_and_typed_stays(blank: Page) -> None:
    part = (
        "<p>{}</p><details><summary>Log</summary>{}</details><input type=text name=note value=''>"
    )
    found = blank.evaluate(MORPH, [part.format(1, "old"), part.format(2, "new")])
    assert found["typed"] == ["typed"]
    assert found["open"] == [True]
    assert "new" in found["html"]


def test_a_chart_that_is_drawn_stays_drawn(blank: Page) -> None:
    drawn = "<figure data-chart='/a.json'><canvas></canvas></figure>"
    fresh = "<figure data-chart='/b.json'></figure><figure data-chart='/a.json'></figure>"
    found = blank.evaluate(MORPH, [drawn, fresh])
    assert found["kept"] == [None, 0, 1]
