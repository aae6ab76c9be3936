"""The charts of a page, worked with in a real browser: zoom, axes, series, cursor, full screen, by
pointer and by keyboard; what a card says while it has no chart.
"""

from collections.abc import Callable, Iterator

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from ffengine.results import EpochRow
from ffengine.spec import NetworkSpec, StudySpec, TrainSpec
from service.jobs import JobState
from service.store import Store
from service.web.dashboard.templating import static_address
from tests.chromium import chromium, faultless_page
from tests.factories import HALF, LEASE, finished, read, submit
from tests.service.samples import epoch_row, train_result

PATIENCE = 1000 * PATIENCE_SECONDS  # milliseconds
expect.set_options(timeout=PATIENCE)
EPOCHS = 4
DRAWN = "figure[data-chart]:not([hidden])"
OPEN = ":is(.lead, details.theme[open]) figure[data-chart]:not([hidden])"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, client: httpx.Client) -> Iterator[Page]:
    with faultless_page(browser, client, PATIENCE) as page:
        yield page


def rows(layers: int = 1) -> list[EpochRow]:
    return [
        epoch_row(epoch, split, layer=layer).model_copy(
            update={
                "tau": epoch / 10,
                "sparsity": 0.2 + 0.1 * epoch,
                "goodness": sign * (epoch + 1.0),
                "basins": 3.0 + epoch,
            }
        )
        for layer in range(layers)
        for epoch in range(EPOCHS + 1)
        for split, sign in (("positive", 1), ("negative", -1))
    ]


def trained(store: Store, found: list[EpochRow]) -> str:
    """A job that has succeeded with these rows."""
    layers = len({row.layer for row in found})
    network = NetworkSpec(widths=(8,) * layers)
    job = submit(store, TrainSpec(epochs=EPOCHS, seeds=(0,), network=network), fresh=True)
    claim = store.queue.claim(job.id, "w1", LEASE)
    assert claim is not None
    store.queue.record(job.id, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=found)
    store.queue.finish(
        job.id, claim.attempt, train_result().model_copy(update={"curves": tuple(found)})
    )
    return job.id


def studied(store: Store) -> str:
    """A study whose four runs have succeeded, each with two layers."""
    study = submit(
        store,
        StudySpec(
            base=TrainSpec(epochs=EPOCHS, seeds=(0,), network=NetworkSpec(widths=(8, 8))),
            grid={"optimizer.lr": [0.1, 0.2], "batch_size": [100, 200]},
        ),
    )
    result = train_result().model_copy(update={"curves": tuple(rows(layers=2))})
    for run, _ in store.jobs.children(study.id):
        finished(store, run.id, result)
    wait_until(
        lambda: read(store, study.id).state == JobState.succeeded or None, "the study has ended"
    )
    return study.id


def chart(page: Page, name: str) -> Locator:
    figure = page.locator(f"figure[data-name={name}]")
    theme = page.locator("details.theme:not([open])").filter(has=figure)
    if theme.count():
        theme.locator("summary").click()
    figure.scroll_into_view_if_needed()
    expect(figure.locator("canvas")).to_be_visible()
    return figure


def picture(figure: Locator) -> str:
    """What the canvas shows, as text that differs where the picture does."""
    found: str = figure.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    return found


def becomes_another(figure: Locator, before: str) -> None:
    until(figure.page, lambda: picture(figure) != before)


def becomes(figure: Locator, wanted: str) -> None:
    until(figure.page, lambda: picture(figure) == wanted)


def until(page: Page, is_so: Callable[[], bool]) -> None:
    """Wait within the browser's own loop, so that its pages go on."""
    for _ in range(int(PATIENCE / 50)):
        if is_so():
            return
        page.wait_for_timeout(50)
    raise AssertionError("what was waited for has not come")


def test_charts_are_zoomed_hidden_and_read_by_keyboard_and_pointer(
    page: Page, client: httpx.Client, store: Store
) -> None:
    page.goto(f"/jobs/{trained(store, rows())}")
    figure = chart(page, "sparsity")
    whole = picture(figure)

    figure.focus()
    page.keyboard.press("+")
    becomes_another(figure, whole)
    expect(figure.locator(".readout")).to_have_text("zoomed: double click or 0 shows all")
    near = picture(figure)
    page.keyboard.press("Shift+ArrowRight")
    becomes_another(figure, near)
    page.keyboard.press("0")
    becomes(figure, whole)
    figure.get_by_role("button", name="Zoom in").click()
    becomes_another(figure, whole)
    figure.locator("canvas").dblclick()
    becomes(figure, whole)

    figure.focus()
    page.mouse.move(0, 0)
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(figure.locator(".readout")).to_have_text("epoch 1 · positive 0.3 · negative 0.3")
    other = page.locator("figure[data-name=goodness]")
    expect(other.locator(".readout")).to_have_text("epoch 1 · positive 2 · negative -2")
    expect(other.locator(".cursor")).to_have_count(1)

    negative = figure.get_by_role("button", name="negative")
    negative.focus()
    page.keyboard.press("Space")
    expect(negative).to_have_attribute("aria-pressed", "false")
    becomes_another(figure, whole)
    expect(figure.locator(".readout")).to_have_text("epoch 1 · positive 0.3")
    page.keyboard.press("Space")
    figure.focus()
    page.keyboard.press("Escape")
    expect(other.locator(".cursor")).to_have_count(0)
    becomes(figure, whole)

    box = figure.locator("canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(other.locator(".readout")).to_contain_text("epoch ")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 40, box["y"] + box["height"] / 2)
    becomes_another(figure, whole)
    page.mouse.up()


def test_axes_are_chosen_and_kept_in_the_address(page: Page, store: Store) -> None:
    job = trained(store, rows())
    page.goto(f"/jobs/{job}")
    figure = chart(page, "sparsity")
    refused = figure.get_by_role("button", name="log x")
    expect(refused).to_have_attribute("aria-disabled", "true")
    refused.click(force=True)
    expect(figure.locator(".readout")).to_have_text(
        "No logarithmic x axis: epoch 0 has no logarithm"
    )
    below = chart(page, "goodness").get_by_role("button", name="log y")
    expect(below).to_have_attribute(
        "title", "No logarithmic y axis: some values are 0 or below, which have no logarithm"
    )
    plain = picture(figure)
    figure.get_by_role("button", name="log y").click()
    expect(page).to_have_url(f"{page.url.partition('#')[0]}#log=sparsity.y")
    becomes_another(figure, plain)

    expect(page.locator("figure[data-name=sparsity_flow]")).to_be_hidden()
    basins = picture(chart(page, "basins"))  # has no twin over flow time: its own axis changes
    page.get_by_role("radio", name="flow time").check()
    expect(page.locator("figure[data-name=sparsity_flow]")).to_be_visible()
    expect(figure).to_be_hidden()
    becomes_another(chart(page, "basins"), basins)

    page.reload()
    expect(page).to_have_url(f"{page.url.partition('#')[0]}#over=flow&log=sparsity.y")
    expect(page.get_by_role("radio", name="flow time")).to_be_checked()
    page.get_by_label("epochs").check()
    expect(chart(page, "sparsity").get_by_role("button", name="log y")).to_have_attribute(
        "aria-pressed", "true"
    )


def test_a_chart_fills_the_screen_and_only_another_width_draws_it_anew(
    page: Page, store: Store
) -> None:
    page.goto(f"/jobs/{trained(store, rows(layers=3))}")
    figure = chart(page, "sparsity")
    small = figure.locator("canvas").evaluate("canvas => canvas.clientHeight")
    first = figure.locator("canvas").element_handle()
    assert first is not None
    page.set_viewport_size({"width": 1280, "height": 500})  # an address bar that comes and goes
    page.wait_for_timeout(500)  # longer than the page waits after a change of size
    assert first.evaluate("canvas => canvas.isConnected")
    page.set_viewport_size({"width": 700, "height": 500})
    until(page, lambda: not first.evaluate("canvas => canvas.isConnected"))

    page.set_viewport_size({"width": 1280, "height": 900})
    figure.get_by_role("button", name="Full screen").click()
    expect(figure.get_by_role("button", name="Leave the full screen")).to_be_visible()
    assert figure.locator("canvas").evaluate("canvas => canvas.clientHeight") > small
    figure.get_by_role("button", name="Leave the full screen").click()
    expect(figure.get_by_role("button", name="Full screen", exact=True)).to_be_visible()


def test_a_card_says_what_happens_and_offers_another_try(page: Page, store: Store) -> None:
    job = trained(store, rows())
    answers = ["busy", "busy"]

    def answer(route: Route) -> None:
        if answers:
            answers.pop()
            route.fulfill(
                status=503,
                content_type="application/problem+json",
                body='{"detail": "Too many charts are being drawn."}',
            )
        else:
            route.continue_()

    page.route("**/chart/loss.json*", answer)
    page.route("**/chart/theorem1.json*", lambda route: route.fulfill(status=404, body="{}"))
    page.goto(f"/jobs/{job}")
    figure = page.locator("figure[data-name=loss]")
    expect(figure).to_contain_text("Loss")
    expect(figure).to_contain_text("could not be drawn. Too many charts are being drawn.")
    figure.get_by_role("button", name="Try again").click()
    expect(figure).to_contain_text("could not be drawn. Too many charts are being drawn.")
    figure.get_by_role("button", name="Try again").click()
    expect(figure.locator("canvas")).to_be_visible()
    empty = page.locator("figure[data-name=theorem1]")
    empty.scroll_into_view_if_needed()
    expect(empty).to_contain_text("They come with the next measured epoch or cell.")


def test_cards_are_free_of_barriers_and_as_wide_as_a_phone(page: Page, store: Store) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"/jobs/{trained(store, rows(layers=2))}")
    for scheme, rules in (
        ("light", {"resultTypes": ["violations"]}),
        ("dark", {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}),
    ):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.evaluate("document.querySelectorAll('details.theme').forEach(one => one.open = true)")
        for card in page.locator(DRAWN).all():
            card.scroll_into_view_if_needed()
            expect(card.locator("canvas")).to_be_visible()
        found = Axe().run(page, options=rules)
        assert [one["id"] for one in found.response["violations"]] == []
        assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("size", [(1440, 900), (390, 844)])
def test_captions_of_leading_charts_are_a_press_away_and_leave_the_first_screen_as_it_is(
    page: Page, store: Store, size: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.goto(f"/jobs/{trained(store, rows())}")
    cards = page.locator(".lead figure[data-chart]")
    expect(cards.locator("canvas")).to_have_count(2)
    seen = cards if size[0] > size[1] else cards.first
    bottom = "figures => Math.max(...figures.map(one => one.getBoundingClientRect().bottom))"
    assert seen.evaluate_all(bottom) <= size[1]
    card = cards.first
    expect(card.locator(".caption")).to_be_hidden()
    card.get_by_text("What it shows").click()
    expect(card.locator(".caption")).to_contain_text("One seed has no interval.")
    expect(card.locator(".caption")).to_be_visible()
    other = cards.last
    other.focus()
    page.keyboard.press("f")
    expect(other.locator(".caption")).to_be_visible()
    page.evaluate("document.exitFullscreen()")
    expect(other.locator(".caption")).to_be_hidden()


def asked_charts(page: Page) -> list[str]:
    """The names of the charts that a page asks the service for, as they are asked for."""
    found: list[str] = []
    page.on(
        "request",
        lambda one: (
            found.append(one.url.rpartition("/")[2].partition(".")[0])
            if "/chart/" in one.url
            else None
        ),
    )
    return found


def test_what_is_secondary_of_a_study_is_folded_and_drawn_once_it_is_opened(
    page: Page, store: Store
) -> None:
    asked = asked_charts(page)
    page.goto(f"/jobs/{studied(store)}")
    for number in range(page.locator(OPEN).count()):
        expect(page.locator(OPEN).nth(number).locator("canvas")).to_be_visible()
    page.evaluate("new Promise((done) => requestIdleCallback(done))")
    shown = set(asked)
    assert page.evaluate("document.documentElement.scrollHeight") < 5_000
    units = page.locator("details.theme").filter(has_text="Units")
    expect(units.locator("summary")).to_contain_text("basins")  # found by its name
    assert "basins" not in shown
    units.locator("summary").focus()
    page.keyboard.press("Enter")
    expect(page.locator("figure[data-name=basins] canvas")).to_be_visible()
    assert set(asked) - shown <= {
        "basins",
        "kappa_gap",
        "used_units",
        "effective_sizes",
        "weight_norm",
    }
    page.get_by_role("radio", name="flow time").check()
    flowing = page.locator("figure[data-name=sparsity_flow]")
    expect(flowing).to_be_hidden()  # its theme is as the reader left it
    page.locator("details.theme > summary").filter(has_text="Sparsity").click()
    expect(flowing.locator("canvas")).to_be_visible()


CLIPPED = """async (address) => {
  const { ChartSpec } = await import(address);
  const axis = (field) => ({ field, type: "quantitative" });
  const layer = { mark: "point", encoding: { x: axis("a"), y: axis("b") } };
  const datasets = { d: [{ a: 0, b: 0 }, { a: 1, b: 1 }] };
  const document_ = { datasets, data: { name: "d" }, layer: [layer] };
  const spec = new ChartSpec(document_);
  spec.connect({ range: {}, hidden: {} });
  const target = document.body.appendChild(document.createElement("div"));
  const options = { ast: true, actions: false, defaultStyle: false };
  const { view } = await window.vegaEmbed(target, document_, options);
  const clips = () => {
    const found = [];
    const walk = (mark) => {
      if (mark.marktype === "symbol") found.push(Boolean(mark.clip));
      for (const item of mark.items ?? []) (item.items ?? []).forEach(walk);
    };
    walk(view.scenegraph().root);
    return found;
  };
  const whole = clips();
  await view.signal("range_x", [0.2, 0.8]).runAsync();
  return [whole, clips()];
}"""


def test_markers_at_the_edge_are_whole_until_somebody_zooms(page: Page, store: Store) -> None:
    page.goto(f"/jobs/{trained(store, rows())}")
    chart(page, "sparsity")
    assert page.evaluate(CLIPPED, static_address("chart-spec.js")) == [[False], [True]]


def test_a_chart_that_is_alone_takes_the_width_of_its_card(page: Page, store: Store) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"/jobs/{trained(store, rows())}")
    figure = chart(page, "basins")
    beside = page.locator("details.theme").filter(has=figure).locator(DRAWN)
    expect(beside).to_have_count(1)
    wide, room = (
        figure.locator(part).evaluate("part => part.clientWidth") for part in ("canvas", ".drawing")
    )
    assert room > 1_000
    assert wide > 0.9 * room


SHIFT = """() => new Promise((done) => {
  let shift = 0;
  const add = (one) => { shift += one.hadRecentInput ? 0 : one.value; };
  new PerformanceObserver((list) => list.getEntries().forEach(add))
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(shift), 100);
})"""


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (1024, 768), (390, 844)])
def test_a_page_has_its_height_before_its_charts_are_drawn(
    page: Page, store: Store, width: int, height: int
) -> None:
    page.set_viewport_size({"width": width, "height": height})
    for job in (trained(store, rows(layers=3)), studied(store)):
        charts, length = "**/chart/*.json*", "document.documentElement.scrollHeight"
        page.route(charts, lambda route: route.fulfill(status=503, body="{}"))
        page.goto(f"/jobs/{job}")
        expect(page.locator(".lead .failed-chart")).to_have_count(2)
        before = page.evaluate(length)
        page.unroute(charts)
        page.goto(f"/jobs/{job}")
        expect(page.locator(".lead canvas")).to_have_count(2)
        for number in range(page.locator(OPEN).count()):
            expect(page.locator(OPEN).nth(number).locator("canvas")).to_be_visible()
        assert page.evaluate(SHIFT) < 0.1, job
        assert page.evaluate(length) == pytest.approx(before, rel=0.1), job
