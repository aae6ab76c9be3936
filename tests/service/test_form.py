"""The form of a job in a real browser: what is submitted is what was asked, field by field and to
the last digit.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect
from pydantic import JsonValue
from safetensors.numpy import save

from benchmarks.waiting import PATIENCE_SECONDS
from ffengine.presets import PRESETS
from ffengine.spec import ForecastSpec, StudySpec
from ffengine.study import expand
from ffengine.text import bytes_in_words
from service.results.descriptions import duration
from service.web.dashboard.templating import STATIC
from tests.chromium import chromium, faultless_page
from tests.presets import EACH_PRESET

PATIENCE = 1000 * PATIENCE_SECONDS  # milliseconds
expect.set_options(timeout=PATIENCE)
SEED = 2**53 + 1  # JavaScript's own numbers end below
# what is typed into which field of the first part's base, and what is to run
CHANGES: Sequence[tuple[str, str, JsonValue]] = (
    ("seeds", f"{SEED}, {2**63 - 1}", [SEED, 2**63 - 1]),
    ("batch_size", "96", 96),
    ("dataset.preprocess", "center", "center"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    with faultless_page(browser, client, PATIENCE) as page:
        yield page


def fields(document: JsonValue, prefix: str = "") -> dict[str, JsonValue]:
    """The fields of a document by their dotted names."""
    if not isinstance(document, dict) or not document:
        return {prefix: document}
    return {
        name: value
        for key, inner in document.items()
        for name, value in fields(inner, f"{prefix}.{key}" if prefix else key).items()
    }


def fill(page: Page, part: str, field: str, typed: str) -> None:
    """Type a value into a field of a part's base, which may be folded."""
    control = page.locator(f"[data-pointer='/spec/parts/{part}/base/{field.replace('.', '/')}']")
    control.evaluate("one => { one.closest('[data-part]').open = true; }")
    if control.evaluate("one => one.localName") == "select":
        control.select_option(typed)
    else:
        control.fill(typed)


def submitted(page: Page, client: httpx.Client) -> dict[str, Any]:
    """Submit the form; the job as the service has it."""
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile("/jobs/job_"))
    return dict(client.get(f"/v1{page.url.removeprefix(str(client.base_url).rstrip('/'))}").json())


@pytest.mark.parametrize("name", EACH_PRESET)
def test_one_changed_field_of_a_preset_is_all_that_runs_otherwise(
    page: Page, client: httpx.Client, name: str
) -> None:
    asked = next(
        one["spec"] for one in client.get("/v1/presets").json()["items"] if one["name"] == name
    )
    part = next(iter(asked["parts"]))
    field, typed, value = CHANGES[list(PRESETS).index(name) % len(CHANGES)]
    before = fields(asked)
    changed = f"parts.{part}.base.{field}"
    assert before[changed] != value
    page.goto(f"/new?preset={name}")
    expect(page.locator("#difference")).to_have_text(f"As the preset {name}, unchanged.")
    fill(page, part, field, typed)
    expect(page.locator("#difference li")).to_have_count(1)
    expect(page.locator("#difference li")).to_contain_text(f"{changed}: ")
    expect(page.locator("#difference li")).to_contain_text(f"→ {typed}")
    job = submitted(page, client)
    assert fields(job["spec"]) == {**before, changed: value}
    runs = client.get("/v1/jobs", params={"parent": job["id"], "limit": 500}).json()["items"][::-1]
    cells = expand(StudySpec.model_validate(job["spec"]))
    searches = job["spec"].get("search") is not None  # whose trials are chosen one after the other
    assert len(runs) == len(cells) or searches
    for run, cell in zip(runs, cells, strict=not searches):
        assert fields(run["spec"]) == fields(cell.spec.model_dump(mode="json"))
        if run["place"]["part"] == part:
            assert fields(run["spec"])[field] == value or field in run["place"]["params"]
    client.post(f"/v1/jobs/{job['id']}/cancel")


def test_a_field_that_varies_twice_is_refused_and_nothing_typed_is_lost(
    page: Page, client: httpx.Client
) -> None:
    page.goto("/new")
    page.get_by_label("kind", exact=True).select_option("study")
    lines = (("optimizer.lr", "0.1, 0.2"), ("seeds", "[1], [2]"), ("optimizer.lr", "0.3"))
    for field, values in lines:
        page.get_by_role("button", name="Vary a field").click()
        page.get_by_label("field that varies").last.fill(field)
        page.get_by_label("values of the field").last.fill(values)
    submit = page.get_by_role("button", name="Submit")
    twice = "optimizer.lr varies in two lines: write all its values in one"
    expect(page.locator("#errors")).to_contain_text(twice)
    expect(page.get_by_label("field that varies").last).to_have_attribute("aria-invalid", "true")
    expect(page.locator(".line .wrong")).to_have_text(twice)
    expect(page.locator("#difference")).to_be_empty()
    expect(submit).to_be_disabled()
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator("#yaml")).to_be_hidden()
    page.locator("[data-pointer='/spec/base/objective/name']").select_option("softplus")
    shown = page.locator(".line").evaluate_all(
        "all => all.map(line => [...line.querySelectorAll('input')].map(one => one.value))"
    )
    assert shown == [list(line) for line in lines], "also after the form was made anew"
    expect(submit).to_be_disabled()
    page.get_by_label("field that varies").last.fill("")
    expect(page.locator("#errors")).to_contain_text("these values have no field")
    expect(submit).to_be_disabled()
    page.locator(".line button").last.click()
    expect(page.locator("#errors li")).to_have_count(0)
    grid = submitted(page, client)["spec"]["grid"]
    assert grid == {"optimizer.lr": [0.1, 0.2], "seeds": [[1], [2]]}


def test_large_numbers_in_every_kind_of_field_are_sent_to_the_last_digit(
    page: Page, client: httpx.Client
) -> None:
    numbers = [SEED, 2**63 - 1]
    text = ", ".join(map(str, numbers))
    page.goto("/new")
    page.get_by_label("kind", exact=True).select_option("study")
    page.get_by_role("button", name="Vary a field").click()
    page.get_by_label("field that varies").fill("seeds")
    page.get_by_label("values of the field").fill(f"[{text}], [{SEED + 2}]")
    page.get_by_label("seeds", exact=True).fill(text)
    job = submitted(page, client)
    assert job["spec"]["base"]["seeds"] == numbers
    assert job["spec"]["grid"]["seeds"] == [numbers, [SEED + 2]]
    page.get_by_role("link", name="Clone and edit").click()
    expect(page.locator("#difference")).to_contain_text("unchanged")
    expect(page.get_by_label("values of seeds")).to_have_value(
        f"[{SEED},{2**63 - 1}], [{SEED + 2}]"
    )
    page.get_by_role("tab", name="YAML").click()
    written = page.locator("textarea[name=yaml]")
    expect(written).to_have_value(re.compile(f"- {SEED + 2}\n"))
    written.fill(written.input_value().replace(f"- {SEED + 2}\n", f"- {SEED + 4}\n"))
    expect(page.locator("#difference li")).to_have_text(
        [f"grid.seeds: [{SEED},{2**63 - 1}], [{SEED + 2}] → [{SEED},{2**63 - 1}], [{SEED + 4}]"]
    )
    again = submitted(page, client)
    assert again["spec"]["grid"]["seeds"] == [numbers, [SEED + 4]]
    page.goto("/new")
    page.get_by_label("epochs", exact=True).fill(str(SEED))
    expect(page.locator("#difference li")).to_have_text([f"epochs: 10 → {SEED}"])
    expect(page.locator("#errors")).to_contain_text("epochs")


def test_mistakes_name_fields_as_specs_do(page: Page) -> None:
    page.goto("/new")
    page.get_by_role("tab", name="YAML").click()
    page.locator("textarea[name=yaml]").fill("kind: train\nnetwork: {width: [3]}\n")
    expect(page.locator("#errors li")).to_have_text(
        "network.width: is not a known field; did you mean 'network.widths'?"
    )


def test_the_parts_of_a_clone_keep_their_order(page: Page, client: httpx.Client) -> None:
    base = {"kind": "train", "epochs": 1, "dataset": {"name": "digits"}}
    parts = {name: {"base": base | {"seeds": [seed]}} for seed, name in enumerate(("b", "2", "1"))}
    first = client.post("/v1/jobs", json={"spec": {"kind": "study", "parts": parts}}).json()
    page.goto(f"/new?like={first['id']}")
    expect(page.locator("#difference")).to_contain_text("unchanged")
    titles = page.locator("[data-part] > summary")
    expect(titles).to_have_text(["part b train", "part 2 train", "part 1 train"])
    page.locator("[data-part='2'] > summary").click()
    page.locator("[data-part='2']").get_by_label("epochs", exact=True).fill("0")
    expect(page.locator("[data-part='2'] .wrong")).to_be_visible()
    page.locator("[data-part='2']").get_by_label("epochs", exact=True).fill("2")
    expect(page.locator("#difference li")).to_have_text(["parts.2.base.epochs: 1 → 2"])
    again = submitted(page, client)["spec"]
    assert list(again["parts"]) == ["b", "2", "1"]
    first["spec"]["parts"]["2"]["base"]["epochs"] = 2
    assert again == first["spec"]


def test_parts_are_folded_say_what_they_vary_and_open_where_something_is_wrong(page: Page) -> None:
    page.goto("/new?preset=loewe")
    expect(page.locator("[data-part] > summary")).to_have_count(1)
    expect(page.locator("[data-part][open]")).to_have_count(1)
    page.goto("/new?preset=quick")
    parts = page.locator("[data-part]")
    expect(parts).to_have_count(3)
    expect(page.locator("[data-part][open]")).to_have_count(0)
    first = page.locator("[data-part=training]")
    first.locator("> summary").click()
    first.get_by_role("button", name="Vary a field").click()
    field, values = first.locator(".grid .line").last.locator("input").all()
    field.fill("epochs")
    values.fill("1, 2")
    expect(first.locator("> summary")).to_contain_text("epochs")
    first.locator("[data-pointer$='/optimizer/name']").select_option("sgd")  # makes the form anew
    expect(first).to_have_attribute("open", "")
    values = first.locator(".grid .line").last.locator("input").last
    values.fill("-1")
    first.locator("> summary").click()
    expect(first).to_have_attribute("open", "")  # as soon as the service has refused it


def test_the_difference_is_told_to_screen_readers_and_reached_by_keyboard(page: Page) -> None:
    page.goto("/new?preset=loewe")
    difference = page.get_by_role("region", name="What differs")
    expect(difference).to_have_attribute("aria-live", "polite")
    expect(difference).to_have_text("As the preset loewe, unchanged.")
    page.get_by_label("lr", exact=True).focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("0.01")
    expect(difference).to_contain_text("Changed from the preset loewe:")
    expect(difference.get_by_role("listitem")).to_have_text(
        ["parts.train.base.optimizer.lr: 0.001 → 0.01"]
    )
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    page.get_by_label("compute even where").focus()
    page.keyboard.press("Tab")
    expect(difference).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Submit")).to_be_focused()


def test_a_number_that_readers_of_yaml_read_otherwise_is_refused(page: Page) -> None:
    page.goto("/new")
    page.get_by_role("tab", name="YAML").click()
    for wrong in ("010", "1:30"):
        page.locator("textarea[name=yaml]").fill(f"kind: train\nepochs: {wrong}\n")
        expect(page.locator("#errors")).to_contain_text(f"{wrong} is another number")
        page.get_by_role("heading", name="New job").click()  # the text loses the focus
        page.wait_for_load_state("networkidle")
        expect(page.locator("#errors")).to_contain_text(f"{wrong} is another number")
        expect(page.get_by_role("button", name="Submit")).to_be_disabled()


# JSON and the pages' own module for it

MODULE = """async (texts) => {
  const live = document.querySelector("script[src*='live.js']").src;
  const { clone, parse, same, stringify } = await import(new URL("exact.js", live));
  return texts.map((text) => {
    const value = parse(text);
    return [stringify(value), stringify({ again: clone(value) }), same(value, parse(text))];
  });
}"""
TEXTS = st.text(max_size=8) | st.sampled_from(
    [
        "",
        "0",
        "1",
        "\u20601",
        "n1",
        "t1",
        '"',
        "\\",
        '":',
        "9007199254740993",
        "\ue0f1number:5",
        "a\u2028b",
        "__proto__",
    ]
)
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def exact(browser: Browser) -> Iterator[Page]:
    """A page that serves nothing but the module."""
    page = browser.new_page()
    page.route(
        "http://exact.test/**",
        lambda route: (
            route.fulfill(body=(STATIC / "exact.js").read_text(), content_type="text/javascript")
            if route.request.url.endswith("exact.js")
            else route.fulfill(body="<script src='/live.js'></script>", content_type="text/html")
        ),
    )
    page.goto("http://exact.test/")
    yield page
    page.close()


@given(st.lists(DOCUMENTS, min_size=1, max_size=20))
@settings(max_examples=40, deadline=None)
def test_every_json_document_comes_back_from_the_browser(exact: Page, documents: list[Any]) -> None:
    texts = [json.dumps(one, ensure_ascii=number % 2 == 0) for number, one in enumerate(documents)]
    for one, (text, cloned, alike) in zip(documents, exact.evaluate(MODULE, texts), strict=True):
        assert repr(json.loads(text)) == repr(one), "each number with its digits and its point"
        assert repr(json.loads(cloned)) == repr({"again": one})
        assert alike


def test_numbers_are_written_as_they_came(exact: Page) -> None:
    text = '{"a":[9007199254740993,1.0,1e-05,1E+3,-0,-0.0,0.1,12],"1":"9007199254740993 \\": 1.0"}'
    assert exact.evaluate(MODULE, [text])[0][0] == text


def test_numbers_are_said_in_the_words_of_the_service(exact: Page) -> None:
    sizes = [0, 1, 2, 1023, 1024, 1023.4 * 1024, 2**20, 300 * 2**20, 2**30 - 1, 2**30, 1.26 * 2**30]
    sizes += [1023.9 * 2**30, 1023.96 * 2**30, 3.1 * 2**50, 1234.5 * 2**60]
    lasting = [0, 1e-5, 0.012, 0.43, 0.5, 0.94, 0.96, 1, 59, 89, 90, 91]
    lasting += [5_399, 5_401, 86_400, 129_599, 129_601, 1e7]
    module = (STATIC / "words.js").read_text()
    said = exact.evaluate(
        """async ([module, sizes, lasting]) => {
          const found = await import(`data:text/javascript,${encodeURIComponent(module)}`);
          return [sizes.map(found.bytesInWords), lasting.map(found.duration)];
        }""",
        [module, sizes, lasting],
    )
    assert said == [list(map(bytes_in_words, sizes)), list(map(duration, lasting))]
    others = {
        file.name
        for file in STATIC.iterdir()
        if file.name.endswith(".js") and re.search("[KMG]iB", file.read_text())
    }
    assert others == {"words.js"}


def test_no_script_reads_json_with_the_parser_that_rounds() -> None:
    found = {
        (file.name, line.strip())
        for file in STATIC.iterdir()
        if file.name.endswith(".js") and file.name != "exact.js"
        for line in file.read_text().splitlines()
        if re.search(r"JSON\.(parse|stringify)|\.json\(\)", line)
    }
    # drawings, the words of a problem, and the address of a link: no numbers that are sent back
    harmless = {
        ("charts.js", "JSON.parse(text)"),
        ("charts.js", "answer.json()"),
        ("chart-spec.js", "JSON.stringify(field)"),
        ("live.js", "JSON.stringify({ expires_seconds: seconds })"),
        ("live.js", "answer.json()"),
    }
    assert len(found) == len(harmless), found
    for name, line in found:
        assert any(name == file and part in line for file, part in harmless), (name, line)


def test_a_forecast_is_asked_for_as_the_form_says(page: Page, client: httpx.Client) -> None:
    page.goto("/new")
    page.get_by_label("kind", exact=True).select_option("forecast")
    expect(page.locator("[data-pointer='/spec/units']")).to_have_value("512")
    page.locator("[data-pointer='/spec/units']").fill("64")
    page.locator("[data-pointer='/spec/widths']").fill("32, 4096")
    page.locator("[data-pointer='/spec/plan/lr']").fill("1, 30")
    page.locator("[data-pointer='/spec/blocks']").fill("64")
    expect(page.locator("#errors li")).to_contain_text("64 blocks need 128 units or more")
    page.locator("[data-pointer='/spec/blocks']").fill("8")
    expect(page.locator("#cost")).to_contain_text("1 run")
    page.locator(".submit button").click()
    page.wait_for_url(re.compile(r"/jobs/job_"))
    spec = client.get(f"/v1/jobs/{page.url.rpartition('/')[2]}").json()["spec"]
    assert spec == ForecastSpec.model_validate(
        {"units": 64, "widths": [32, 4096], "plan": {"lr": [1, 30]}, "blocks": 8}
    ).model_dump(mode="json")


def test_a_check_of_trained_weights_shows_no_widths(page: Page, client: httpx.Client) -> None:
    job = client.post("/v1/jobs", json={"spec": {"kind": "train", "epochs": 2}}).json()["id"]
    page.goto("/new")
    page.get_by_label("kind", exact=True).select_option("check")
    widths = page.locator("[data-pointer='/spec/widths']")
    expect(widths).to_be_visible()
    page.goto(f"/new?weights={job}")
    expect(page.get_by_label("job", exact=True)).to_have_value(job)
    expect(widths).to_have_count(0)
    page.get_by_label("at", exact=True).select_option("initialization")
    expect(widths).to_be_visible()
    expect(widths).to_have_value("64, 256, 512")


def test_a_check_of_uploaded_weights_names_them(page: Page, client: httpx.Client) -> None:
    weights = save({"w": np.ones((4, 64), dtype=np.float32)})
    client.post("/v1/weights?name=mine&data=digits", content=weights)
    page.goto("/new")
    page.get_by_label("kind", exact=True).select_option("check")
    page.get_by_label("at", exact=True).select_option("uploaded weights")
    expect(page.locator("[data-pointer='/spec/widths']")).to_have_count(0)
    expect(page.get_by_label("epoch", exact=True)).to_have_count(0)
    page.get_by_label("weights", exact=True).fill("mine")
    spec = {"kind": "check", "at": {"weights": "mine"}, "dataset": {"name": "digits"}, "seeds": [0]}
    job = client.post("/v1/jobs", json={"spec": spec}).json()["id"]
    page.goto(f"/new?like={job}")
    expect(page.get_by_label("at", exact=True)).to_have_value("uploaded weights")
    expect(page.get_by_label("weights", exact=True)).to_have_value("mine")
    page.locator(".submit button").click()
    page.wait_for_url(re.compile(r"/jobs/job_"))
    at = client.get(f"/v1/jobs/{page.url.rpartition('/')[2]}").json()["spec"]["at"]
    assert at["weights"] == "mine"


def test_a_phone_shows_all_pages_and_more_fields_than_one(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/new")
    expect(page.locator("#cost")).to_contain_text("1 run, about")
    expect(page.locator("#advice li")).to_have_count(1)
    for link in page.get_by_role("navigation", name="Pages").get_by_role("link").all():
        expect(link).to_be_in_viewport(ratio=1)
    bar = page.locator(".submit").bounding_box()
    assert bar is not None
    above = [
        box["y"] + box["height"] <= bar["y"]
        for field in page.locator("#form .field").all()[:8]
        if (box := field.bounding_box())
    ]
    assert sum(above) >= 3
    review = page.locator("#review > summary")
    expect(review).to_have_text("Before you submit: 1 piece of advice")
    expect(page.locator("#advice")).to_be_hidden()
    review.click()
    expect(page.locator("#advice")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Submit")).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert Axe().run(page).violations_count == 0
