"""Charts for papers: text as outlines, sizes in mm and points, with and without a title."""

import io
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, get_args
from xml.etree import ElementTree

import httpx
import numpy as np
import pypdf
import pytest
import vl_convert
from PIL import Image
from playwright.sync_api import Browser, expect
from pydantic import ValidationError

from ffengine.results import Split
from service.encoding.escaping import for_drawing
from service.results.chart_formats import ChartLook
from service.results.charts import CHARTS, Source, render
from service.results.charts.outlines import FILES, font, outlined
from service.results.charts.pictures import pictured
from service.results.charts.print_layout import drawn_width
from service.results.charts.style import FONT
from service.results.report import report
from service.store import Store
from tests.chromium import chromium
from tests.over_http import refused, submit, succeed
from tests.service.paper_study import study
from tests.service.samples import epoch_row, train_result

MM = 72 / 25.4
COLUMN = ChartLook(width_mm=84, font_pt=8, title="none")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@cache
def source(layers: int = 1) -> Source:
    plain = train_result((0, 1))
    rows = tuple(
        epoch_row(epoch, split, seed=seed, layer=layer)
        for seed in (0, 1)
        for layer in range(layers)
        for epoch in range(3)
        for split in get_args(Split)
    )
    return Source("", plain.model_copy(update={"curves": rows}))


def texts(svg: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    return [node for node in root.iter() if node.tag.endswith("}text")]


def words(svg: bytes) -> set[str]:
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    return {label for node in root.iter() if (label := node.get("aria-label"))}


def size_mm(svg: bytes) -> tuple[float, float]:
    found = re.search(rb'width="([\d.]+)mm" height="([\d.]+)mm"', svg)
    assert found, svg[:300]
    return float(found[1]), float(found[2])


@pytest.mark.slow  # the library that draws takes a second to start
def test_an_svg_has_its_text_as_outlines_and_its_words_as_labels() -> None:
    svg = render("sparsity", [source()], "svg")
    assert not texts(svg.decode())
    assert b"font-family" not in svg
    assert {"epoch", "Hoyer sparsity S", "positive"} <= words(svg)
    assert svg.count(b"<path id=") < svg.count(b"<use ")


def test_text_that_the_font_lacks_stays_text() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><text font-size="11px">{}</text></svg>'
    assert [text.text for text in texts(outlined(svg.format("数字 8")))] == ["数字 8"]
    assert not texts(outlined(svg.format("θ ≥ τ, Größe &lt; 8")))


@pytest.mark.parametrize(("anchor", "share"), [("start", 0.0), ("middle", 0.5), ("end", 1.0)])
def test_outlines_stand_where_the_text_stood(anchor: str, share: float) -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg"><text text-anchor="{}" transform="translate(3,4)" '
        'font-size="20px"><tspan>AV</tspan><tspan x="0" dy="24">To</tspan></text></svg>'
    )
    drawn = outlined(svg.format(anchor))
    regular = font("normal")
    scale = 20 / regular.units
    assert 'transform="translate(3,4)"' in drawn
    places = [
        [float(number) for number in found]
        for found in re.findall(r"translate\(([-\d.e]+),([-\d.e]+)\) scale", drawn)
    ]
    for (x, y), text, below in zip(places, ("AV", "To"), (0, 24), strict=True):
        glyphs, width = regular.placed(text)
        assert width < sum(regular.placed(one)[1] for one in text), "pairs are kerned"
        assert (x, y) == pytest.approx((-share * width * scale, below), abs=0.01)
        assert len(glyphs) == len(text)


@pytest.mark.parametrize("weight", FILES)
def test_the_outlines_are_those_that_the_library_draws(weight: str) -> None:
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="400" height="40">'
        '<rect width="400" height="40" fill="white"/>'
        f'<text transform="translate(4,30)" font-family="{FONT}" font-weight="{weight}" '
        'font-size="20px" fill="#000">Hoyer τ 0.85 AV To</text></svg>'
    )
    as_text, as_outlines = (
        np.asarray(Image.open(io.BytesIO(vl_convert.svg_to_png(one))).convert("L"), int)
        for one in (svg, outlined(svg))
    )
    assert as_text.min() < 50
    assert np.abs(as_text - as_outlines).max() < 100


def test_a_browser_without_the_font_shows_the_svg_as_the_png_is(browser: Browser) -> None:
    spec = for_drawing(CHARTS["sparsity"].draw([source(2)]).to_dict())
    svg = pictured(spec, "svg")
    png = Image.open(io.BytesIO(pictured(spec, "png")))
    page = browser.new_page(
        viewport={"width": png.width // 2, "height": png.height // 2}, device_scale_factor=2
    )
    try:
        page.set_content(f'<body style="margin:0">{svg.decode()}')
        seen = Image.open(io.BytesIO(page.screenshot()))
    finally:
        page.close()
    assert seen.size == png.size
    off = np.abs(np.asarray(seen.convert("L"), int) - np.asarray(png.convert("L"), int))
    assert np.mean(off > 100) < 1e-4
    assert off.mean() < 1.5


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2, 4])
def test_a_column_has_its_width_and_its_text_the_size_that_was_asked_for(layers: int) -> None:
    svg, pdf, png = (
        render("sparsity", [source(layers)], fmt, look=COLUMN) for fmt in ("svg", "pdf", "png")
    )
    width, height = size_mm(svg)
    assert width == pytest.approx(84, abs=0.01)
    box = re.search(rb'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box
    points_per_unit = 84 * MM / float(box[1])
    assert 11 * points_per_unit == pytest.approx(8, rel=0.03)
    page = pypdf.PdfReader(io.BytesIO(pdf)).pages[0]
    assert float(page.mediabox.width) == pytest.approx(84 * MM, abs=1)
    assert float(page.mediabox.height) == pytest.approx(height * MM, abs=1)
    image = Image.open(io.BytesIO(png))
    assert image.width == pytest.approx(84 / 25.4 * 300, abs=3)
    assert image.info["dpi"] == pytest.approx((300, 300), abs=1)


def test_a_pdf_carries_its_fonts_and_its_words() -> None:
    page = pypdf.PdfReader(io.BytesIO(render("sparsity", [source()], "pdf"))).pages[0]
    fonts: Any = page["/Resources"]["/Font"]
    names = {str(one.get_object()["/BaseFont"]) for one in fonts.values()}
    assert names
    assert all("LiberationSans" in name for name in names), names
    assert "Hoyer sparsity S" in page.extract_text()


@pytest.mark.slow
def test_without_a_title_there_is_neither_title_nor_caption() -> None:
    plain, bare = (
        json.loads(render("sparsity", [source()], "json", look=look))
        for look in (ChartLook(), ChartLook(title="none"))
    )
    assert plain["title"]["subtitle"]
    assert not {"title", "usermeta"} & set(bare)
    assert not words(render("sparsity", [source()], "svg", look=COLUMN)) & {plain["title"]["text"]}


@pytest.mark.slow
def test_a_title_is_wrapped_to_a_narrow_column() -> None:
    look = ChartLook(width_mm=60, font_pt=8)
    spec = json.loads(render("sparsity", [source()], "json", look=look))
    assert len(spec["title"]["text"]) > 1 or len(spec["title"]["text"][0]) <= 30
    assert drawn_width(spec) == pytest.approx(look.width_px, rel=0.03)


def test_the_default_look_is_that_of_pages() -> None:
    assert ChartLook().is_plain
    assert b"mm" not in render("sparsity", [source()], "svg")[:200]


def test_a_size_of_text_alone_changes_the_scale() -> None:
    svg = render("sparsity", [source()], "svg", look=ChartLook(font_pt=5.5))
    box = re.search(rb'viewBox="0 0 ([\d.]+) ', svg)
    assert box
    assert size_mm(svg)[0] == pytest.approx(float(box[1]) * 0.5 / MM, rel=1e-3)


def test_a_width_without_room_for_its_text_is_refused_with_what_would_do() -> None:
    with pytest.raises(
        ValidationError, match=r"40 mm have no room .* 24 pt: use at least (\d+) mm"
    ):
        ChartLook(width_mm=40, font_pt=24)
    ChartLook(width_mm=124, font_pt=24)


def test_looks_are_files_of_their_own_over_http(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    succeed(store, job.id)
    address = f"/v1/jobs/{job.id}/chart/sparsity"
    for query, message in (
        ("width_mm=10", "at least 40"),
        ("width_mm=4000", "at most 400"),
        ("font_pt=1", "at least 4"),
        ("title=some", "none"),
        ("width_mm=nan", "finite"),
        ("width_mm=40&font_pt=24", "no room"),
    ):
        problem = refused(client.get(f"{address}.svg?{query}"), 422, "invalid")
        assert problem.errors
        assert message in problem.errors[0].message, problem
        assert problem.errors[0].pointer.startswith("query/")
    refused(client.get(f"{address}.svg?widht_mm=84"), 422, "invalid")


def test_paper_has_the_spec_and_no_buttons(
    browser: Browser, client: httpx.Client, store: Store
) -> None:
    job = submit(client)
    succeed(store, job.id)
    page = browser.new_page(base_url=str(client.base_url), color_scheme="dark")
    try:
        page.goto(f"/jobs/{job.id}")
        page.emulate_media(media="print")
        expect(page.locator("h1")).to_be_visible()
        expect(
            page.locator("button:visible, .top:visible, footer:visible, .formats:visible")
        ).to_have_count(0)
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        expect(page.locator("#paper pre").first).to_be_visible()
        expect(page.locator(".lead .caption").first).to_be_visible()
        expect(page.locator(".explained summary:visible")).to_have_count(0)
        expect(page.locator(".snippets pre").first).to_be_visible()
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        expect(page.locator(":is(#paper details, .explained)[open]")).to_have_count(0)
    finally:
        page.close()


def test_a_printed_report_has_everything_open(browser: Browser) -> None:
    head = (files("service.results") / "report.html").read_text().partition("<style>")[2]
    sheet = head.partition("</style>")[0]
    page = browser.new_page()
    try:
        page.set_content(
            f"<style>{sheet}</style><p class=unprinted>link</p>"
            "<details><summary>folded</summary><pre class=spec>spec</pre></details>"
        )
        shown = "document.querySelector('pre').checkVisibility({contentVisibilityAuto: true})"
        assert page.evaluate(shown) is False
        page.emulate_media(media="print")
        page.wait_for_function(shown)  # the next frame shows it
        assert page.evaluate("document.querySelector('pre').getBoundingClientRect().height") > 5
        expect(page.locator(".unprinted")).to_be_hidden()
    finally:
        page.close()


@pytest.mark.slow
def test_a_report_is_short_on_a_phone_and_has_its_charts_by_theme(
    browser: Browser, client: httpx.Client
) -> None:
    job = submit(client)
    page = report(job.model_copy(update={"finished_at": job.created_at}), study())
    themes = re.findall(r"<details><summary>([^<]*) <small>", page)
    assert {"Sparsity", "The theorems while training"} <= set(themes)
    assert page.count("<details") == page.count("</details>")
    assert "<script" not in page
    phone = browser.new_page(viewport={"width": 390, "height": 844}, java_script_enabled=False)
    try:
        phone.set_content(page)
        assert phone.evaluate("document.documentElement.scrollHeight") < 10_000
        phone.get_by_text("The theorems while training").click()
        expect(phone.locator("details[open] figure").last).to_be_visible()
    finally:
        phone.close()
