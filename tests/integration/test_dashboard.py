"""The pages in a real browser against the real stack; screenshots are kept in screenshots/ where
FFLAB_SCREENSHOTS says so.
"""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from benchmarks.waiting import PATIENCE_SECONDS, PROGRAM_SECONDS, wait_until
from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from ffengine.study import resolved
from ffengine.text import bytes_in_words
from service.results.descriptions import duration
from service.stack.stack import Stack
from service.store import Store
from service.web.auth import create_key
from tests.chromium import chromium, hear, witnessed
from tests.presets import EACH_PRESET
from tests.stack import Lab, lab_settings

WIDTHS = {"wide": 1280, "middle": 800, "phone": 380}
PATIENCE = 1000 * PATIENCE_SECONDS  # in milliseconds
expect.set_options(timeout=PATIENCE)
QUICK = {
    "kind": "train",
    "epochs": 3,
    "network": {"widths": [32]},
    "monitor": {"samples": 200},
    "dataset": {"name": "digits"},
}
SLOW = QUICK | {
    "epochs": 20_000,
    "network": {"widths": [64]},
    "optimizer": {"lr": 1e-5},
}  # so small that it never diverges
TOO_FAST = QUICK | {
    "network": {"widths": [32], "activation": "squared_relu"},
    "optimizer": {"name": "sgd", "lr": 1e9},
}
ALL_RULES = {"resultTypes": ["violations"]}
LIST_OF_PAGES = (
    "/",
    "/new",
    "/workers",
    "/usage",
    "/audit",
    "/datasets",
    "/catalog",
    "/docs",
    "/login",
    "/compare",
    "/jobs/job_0",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or that of the machine."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, lab: Lab) -> Iterator[Page]:
    """A page that may not complain: neither of scripts nor of the content policy."""
    context = browser.new_context(
        base_url=str(lab.http.base_url), viewport={"width": 1280, "height": 900}
    )
    page, complaints = context.new_page(), list[str]()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda said: (
            complaints.append(said.text) if "Content Security Policy" in said.text else None
        ),
    )
    page.set_default_timeout(PATIENCE)
    with witnessed(page, lab.http):
        yield page
    context.close()
    assert not complaints


def looked_at(page: Page, name: str) -> None:
    """No serious fault for people who cannot see or use a mouse, nothing wider than the screen; a
    picture where they are wanted.
    """
    for width in WIDTHS.values():
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (
            f"{name} is wider than {width} pixels"
        )
        if folder := os.environ.get("FFLAB_SCREENSHOTS"):
            page.wait_for_timeout(400)  # charts are drawn anew
            for chart in page.locator("figure[data-chart]:visible").all():
                chart.scroll_into_view_if_needed()
                expect(chart.locator("canvas")).to_be_visible()
            page.screenshot(path=Path(folder) / f"{name}-{width}.png", full_page=True)
    for scheme, rules in (
        ("light", ALL_RULES),
        ("dark", ALL_RULES | {"runOnly": ["color-contrast"]}),
    ):  # all else is the same in both
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, options=rules).response["violations"]
        serious = [
            (one["id"], [node["html"][:200] for node in one["nodes"]])
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert not serious, f"{name}, {scheme}: {serious}"
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDTHS["wide"], "height": 900})


REFRESHED = (
    "new Promise((done) => document.addEventListener('refreshed', () => done(), {once: true}))"
)


def epoch_after(page: Page, epoch: int) -> int:
    """The epoch that the page shows, once it is a later one."""
    # the policy forbids eval in the page
    shown = (
        "() => Number(document.querySelector('#head').textContent.match(/epoch (\\d+)/)?.[1] ?? 0)"
    )
    return wait_until(
        lambda: found if (found := int(page.evaluate(shown))) > epoch else None,
        f"an epoch after {epoch}",
    )


def test_from_the_first_visit_to_a_finished_job_without_the_address_bar(
    page: Page, lab: Lab
) -> None:
    page.goto("/")
    page.get_by_role("link", name="New job").click()
    page.get_by_label("epochs", exact=True).fill("0.5")
    expect(page.locator("#errors")).to_contain_text("epochs")
    expect(page.get_by_role("button", name="Submit")).to_be_disabled()
    page.get_by_label("epochs", exact=True).fill("4")
    expect(page.locator("#cost")).to_contain_text("1 run, about")
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator("textarea[name=yaml]")).to_have_value(re.compile("epochs: 4"))
    page.locator("textarea[name=yaml]").fill("kind: train\nkind: check\n")
    expect(page.locator("#errors")).to_contain_text(
        "this is not YAML: line 2, column 1: 'kind' is there twice"
    )
    page.locator("textarea[name=yaml]").fill(
        "kind: train\nepochs: 3\ndataset: {name: digits}\nnetwork: {widths: [48]}\n"
    )
    page.get_by_role("tab", name="Form").click()
    expect(page.get_by_label("epochs", exact=True)).to_have_value("3")
    expect(page.locator("#errors li")).to_have_count(0)
    looked_at(page, "new")
    page.get_by_label("Name", exact=True).fill("from the browser")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("from the browser")
    expect(page.locator("#head .state")).to_have_text("succeeded")
    expect(page.locator("figure canvas").first).to_be_visible()
    expect(page.get_by_role("link", name="result.csv")).to_be_visible()
    looked_at(page, "job")
    page.get_by_role("link", name="Clone and edit").click()
    expect(page.get_by_label("epochs", exact=True)).to_have_value("3")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("from the browser")
    page.get_by_role("link", name="Jobs").click()
    expect(page.get_by_role("link", name="from the browser")).to_be_visible()
    looked_at(page, "jobs")


def test_a_study_is_put_together_in_the_form_and_shown_as_a_grid(page: Page, lab: Lab) -> None:
    page.goto("/new")
    page.get_by_label("kind", exact=True).select_option("study")
    for field, values in (
        ("network.widths", "[16], [32]"),
        ("negatives.strategy", "wrong_label, noise"),
    ):
        page.get_by_role("button", name="Vary a field").click()
        page.get_by_label("field that varies").last.fill(field)
        page.get_by_label("values of the field").last.fill(values)
    page.get_by_label("epochs", exact=True).fill("2")
    page.get_by_label("name", exact=True).first.fill("digits")
    expect(page.locator("#cost")).to_contain_text("4 runs, about")
    looked_at(page, "new-study")
    page.get_by_label("Name", exact=True).fill("a grid")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#head .state")).to_have_text("succeeded")
    expect(page.get_by_role("link", name="widths 32, strategy noise")).to_be_visible()
    grid = page.locator("figure[data-chart*='grid_']").first
    expect(grid.locator("canvas")).to_be_visible()
    newest = lab.http.get(str(grid.get_attribute("data-chart"))).headers["etag"]
    expect(grid).to_have_attribute("data-drawn", newest)  # also what came while it was being drawn
    looked_at(page, "study")


def shown_in(page: Page) -> dict[str, str]:
    """What the form shows: the text of each field by its place in the spec."""
    text = (
        "one => one.type === 'checkbox' ? String(one.checked) : one.localName === 'select' ? "
        "one.selectedOptions[0].text : one.value"
    )
    read = f"all => all.map(one => [one.dataset.pointer.replace('/spec/', ''), ({text})(one)])"
    return dict(page.locator("#form :is(input, select, textarea)[data-pointer]").evaluate_all(read))


ENTRIES = ("goodness", "label_code")


def flat(document: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The fields of a spec in the same form."""
    found: dict[str, str] = {}
    for key, value in document.items():
        name = key.replace("~", "~0").replace("/", "~1")  # as in a JSON Pointer
        if name == "grid":
            continue  # a line of two texts for each field
        if name == "search":  # whether there is one
            found["search"] = "yes"
        if name == "space":  # a text
            found[prefix + name] = json.dumps(value, separators=(",", ":"))
        elif name in ("stop", "collaboration", "lesions", "ood"):  # if there is one, its fields
            found[prefix + name] = "yes" if value else "no"
            found |= flat(value or {}, f"{prefix}{name}/")
        elif name in ("baselines", "layers") and isinstance(value, list):  # a text
            found[prefix + name] = json.dumps(value, separators=(",", ":"))
        elif name == "prune":  # a choice, of which null is one
            found[prefix + name] = value or "null"
        elif name in ENTRIES and isinstance(value, dict) and "name" in value:  # with parameters
            rest = {field: one for field, one in value.items() if field != "name"}
            found |= {prefix + name: value["name"]} | flat(rest, f"{prefix}{name}/")
        elif isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            found[prefix + name] = ", ".join(map(str, value))
        else:
            found[prefix + name] = (
                str(value).lower()
                if isinstance(value, bool)
                else ""
                if value is None
                else str(value)
            )
    return found


def asked_for(page: Page) -> dict[str, Any]:
    """What the button would send; nothing is submitted."""
    page.route("**/v1/jobs", lambda route: route.abort())
    with page.expect_event(
        "requestfailed",
        lambda request: request.method == "POST" and request.url.endswith("/v1/jobs"),
    ) as sent:
        page.get_by_role("button", name="Submit").click()
    page.unroute("**/v1/jobs")  # not before it has failed: it would be let through
    return dict(json.loads(sent.value.post_data or ""))


def resolved_preset(lab: Lab, name: str) -> dict[str, Any]:
    return next(
        dict(one["spec"])
        for one in lab.http.get("/v1/presets").json()["items"]
        if one["name"] == name
    )


@pytest.mark.parametrize("name", EACH_PRESET)
def test_the_form_of_a_preset_shows_and_sends_what_it_runs(page: Page, lab: Lab, name: str) -> None:
    preset = resolved_preset(lab, name)
    page.goto(f"/new?preset={name}")
    expect(page.locator("#difference")).to_have_text(f"As the preset {name}, unchanged.")
    assert shown_in(page) == flat(preset)
    grids = [field for part in preset["parts"].values() for field in part["grid"]]
    assert (
        page.get_by_label("field that varies").evaluate_all("all => all.map(one => one.value)")
        == grids
    )
    expect(page.get_by_role("button", name="Submit")).to_be_enabled()
    assert asked_for(page)["spec"] == preset
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator("textarea[name=yaml]")).to_have_value(
        re.compile(f"preset: {name}\nparts:\n")
    )
    text = page.locator("textarea[name=yaml]").input_value()
    assert (
        resolved(StudySpec.model_validate(yaml.safe_load(text))).model_dump(mode="json") == preset
    )
    page.locator("textarea[name=yaml]").fill(f"kind: study\npreset: {name}\n")
    page.get_by_role("tab", name="Form").click()
    expect(page.locator("#difference")).to_have_text(f"As the preset {name}, unchanged.")
    assert asked_for(page)["spec"] == preset


def test_one_change_of_a_preset_is_one_change(page: Page, lab: Lab) -> None:
    preset = resolved_preset(lab, "hinton")
    cost = lab.http.post("/v1/estimate", json={"spec": preset}).json()
    page.goto("/new?preset=hinton")
    page.get_by_label("seeds", exact=True).fill("1")
    expect(page.locator("#difference li")).to_have_text(["parts.train.base.seeds: 0 → 1"])
    expect(page.locator("#cost")).to_contain_text(
        f"about {duration(cost['seconds']['cpu'])} on an idle CPU"
    )
    disk = f"{bytes_in_words(cost['disk_bytes']['total'])} of disk"
    expect(page.locator("#cost")).to_contain_text(disk)
    page.get_by_label("Name", exact=True).focus()
    looked_at(page, "new-hinton-one-seed")
    preset["parts"]["train"]["base"]["seeds"] = [1]
    assert asked_for(page)["spec"] == preset
    page.get_by_label("seeds", exact=True).fill("0")
    expect(page.locator("#difference")).to_have_text("As the preset hinton, unchanged.")

    page.goto("/new?preset=loewe")
    page.get_by_label("lr", exact=True).fill("0.01")
    expect(page.locator("#difference li")).to_have_text(
        ["parts.train.base.optimizer.lr: 0.001 → 0.01"]
    )
    sent = asked_for(page)["spec"]["parts"]["train"]["base"]
    assert (sent["optimizer"]["name"], sent["optimizer"]["lr"], sent["epochs"]) == (
        "momentum",
        0.01,
        100,
    )


def test_a_value_like_a_default_is_sent_as_any_other(page: Page, lab: Lab) -> None:
    page.goto("/new?preset=paper")
    training = page.locator("[data-part=training]")
    training.locator("> summary").click()
    training.get_by_label("epochs", exact=True).fill("5")
    training.get_by_label("seeds", exact=True).fill("0")
    expect(page.locator("#difference li")).to_have_count(2)
    preset = resolved_preset(lab, "paper")
    preset["parts"]["training"]["base"] |= {"epochs": 5, "seeds": [0]}
    assert asked_for(page)["spec"] == preset
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator("textarea[name=yaml]")).to_have_value(re.compile("epochs: 5"))
    expect(page.locator("#difference li")).to_have_count(2)


def test_what_is_no_picture_is_offered_labels_that_cover_nothing(page: Page, lab: Lab) -> None:
    y = np.arange(60) % 3
    file = io.BytesIO()
    np.savez(file, x=np.random.default_rng(0).normal(size=(60, 4)) + np.eye(3, 4)[y] * 4, y=y)
    lab.http.post("/v1/datasets", params={"name": "table"}, content=file.getvalue())
    page.goto("/new")
    page.get_by_label("name", exact=True).first.fill("table")
    advice = page.get_by_label("Advice")
    expect(advice).to_contain_text("table: the label overlays inputs 0 to 2")
    advice.get_by_role("button", name="Use dataset.labels: append").click()
    expect(advice).not_to_contain_text("overlays")
    expect(page.get_by_label("What differs")).to_contain_text("dataset.labels: overlay → append")
    expect(advice).to_contain_text("The run ends in act 1")
    expect(page.locator("#onset")).to_contain_text("Sparsity is expected to fall until about epoch")
    page.get_by_label("preprocess", exact=True).first.select_option("center")
    expect(page.locator("#onset")).not_to_contain_text("Sparsity is expected to fall")


def test_another_kind_and_another_entry_are_sent_with_the_defaults_that_are_shown(
    page: Page, lab: Lab
) -> None:
    page.goto("/new?preset=hinton")
    page.locator("[data-pointer='/spec/parts/train/base/optimizer/name']").select_option("adam")
    expect(page.locator("#difference li").first).to_have_text(
        "parts.train.base.optimizer.lr: 0.0005 → 0.001"
    )
    page.locator("[data-pointer='/spec/parts/train/base/objective/goodness']").select_option(
        "top_k"
    )
    page.get_by_label("k", exact=True).fill("3")
    base = asked_for(page)["spec"]["parts"]["train"]["base"]
    adam = {
        "lr": 0.001,
        "scale_lr_by_width": False,
        "schedule": "constant",
        "weight_decay": 0.0,
        "name": "adam",
    }
    assert base["optimizer"] == adam | {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-08}
    assert base["objective"]["goodness"] == {
        "name": "top_k",
        "k": 3,
        "share": None,
        "of": "squares",
    }
    assert (base["epochs"], base["objective"]["peer_normalization"]) == (60, 0.03)
    page.locator("[data-pointer='/spec/kind']").select_option("check")
    expect(page.locator("#difference")).to_have_text("As the defaults of a check, unchanged.")
    assert asked_for(page)["spec"] == CheckSpec().model_dump(mode="json")
    page.locator("[data-pointer='/spec/objective/name']").wait_for(state="detached")
    page.locator("[data-pointer='/spec/kind']").select_option("train")
    page.locator("[data-pointer='/spec/objective/name']").select_option("softplus")
    expect(page.locator("[data-pointer='/spec/objective/goodness']")).to_have_value("mean_squares")


def test_what_cannot_be_read_as_a_number_is_refused_and_empty_means_null_where_that_is_a_value(
    page: Page,
) -> None:
    page.goto("/new")
    submit = page.get_by_role("button", name="Submit")
    for label, wrong in (
        ("seeds", "0, abc"),
        ("epochs", "ten"),
        ("epochs", ""),
        ("lr", "0,01"),
        ("batch_size", "5.5"),
        ("widths", ""),
    ):
        before = page.get_by_label(label, exact=True).input_value()
        page.get_by_label(label, exact=True).fill(wrong)
        expect(page.locator("#errors")).to_contain_text(label)
        expect(submit).to_be_disabled()
        expect(page.get_by_label(label, exact=True)).to_have_value(wrong)
        page.get_by_label(label, exact=True).fill(before)
        expect(submit).to_be_enabled()
        expect(page.locator("#difference")).to_have_text("As the defaults, unchanged.")
    page.get_by_label("train_samples", exact=True).fill("1000")
    expect(page.locator("#difference li")).to_have_text(["dataset.train_samples: null → 1000"])
    assert asked_for(page)["spec"]["dataset"]["train_samples"] == 1000
    page.get_by_label("train_samples", exact=True).fill("")
    expect(page.locator("#difference")).to_have_text("As the defaults, unchanged.")
    assert asked_for(page)["spec"] == TrainSpec().model_dump(mode="json")
    page.get_by_role("tab", name="YAML").click()
    expect(page.locator("textarea[name=yaml]")).to_be_visible()
    page.locator("textarea[name=yaml]").fill("kind: train\nepochs: ten\n")
    expect(page.locator("#errors")).to_contain_text("epochs")
    page.get_by_role("tab", name="Form").click()
    expect(page.locator("textarea[name=yaml]")).to_be_visible()
    expect(submit).to_be_disabled()


SEED = 9_007_199_254_740_993  # 2**53 + 1: JavaScript's own numbers end there


def test_a_clone_is_the_same_spec_with_its_tags_to_the_last_digit(page: Page, lab: Lab) -> None:
    base = QUICK | {
        "epochs": 1,
        "optimizer": {"name": "sgd", "lr": 1e-05},
        "seeds": [SEED, 2**63 - 1],
    }
    study = {
        "kind": "study",
        "base": QUICK | {"epochs": 1},
        "grid": {"seeds": [[SEED], [7]], "optimizer.lr": [1.0, 1e-05]},
    }
    parts = {
        "z": {"base": base, "grid": {"dataset.preprocess": ["unit", "center"]}},
        "a": {"base": {"kind": "check", "widths": [8]}},
    }
    for spec in (base, study, {"kind": "study", "preset": "a label", "parts": parts}):
        job = lab.submit(spec, name="exact", tags=["b", "a, c"], priority="high")
        page.goto(f"/jobs/{job}")
        page.get_by_role("link", name="Clone and edit").click()
        expect(page.locator("#difference")).to_have_text("As the job exact, unchanged.")
        page.get_by_role("tab", name="YAML").click()
        expect(page.locator("textarea[name=yaml]")).to_have_value(re.compile("kind: "))
        page.get_by_role("tab", name="Form").click()
        page.get_by_role("button", name="Submit").click()
        page.wait_for_url(re.compile("/jobs/(?!new)"))
        again = lab.job(page.url.rpartition("/")[2])
        assert again["id"] != job
        same = ("spec", "spec_digest", "tags", "priority")
        assert again["name"] == "exact (2)"
        assert {fact: again[fact] for fact in same} == {fact: lab.job(job)[fact] for fact in same}
        for one in (job, again["id"]):
            lab.http.post(f"/v1/jobs/{one}/cancel")


def test_large_seeds_are_kept_in_the_form_and_in_the_file(page: Page) -> None:
    page.goto("/new")
    page.get_by_label("seeds", exact=True).fill(f"{SEED}, {2**63 - 1}")
    expect(page.locator("#difference li")).to_have_text([f"seeds: 0 → {SEED}, {2**63 - 1}"])
    page.get_by_role("tab", name="YAML").click()
    text = page.locator("textarea[name=yaml]")
    expect(text).to_have_value(re.compile(f"seeds:\n- {SEED}\n- {2**63 - 1}\n"))
    text.fill(text.input_value().replace(str(SEED), str(SEED + 2)))
    expect(page.locator("#difference li")).to_have_text([f"seeds: 0 → {SEED + 2}, {2**63 - 1}"])
    page.get_by_role("tab", name="Form").click()
    expect(page.get_by_label("seeds", exact=True)).to_have_value(f"{SEED + 2}, {2**63 - 1}")
    with page.expect_request(lambda request: request.url.endswith("/v1/jobs")) as sent:
        page.route("**/v1/jobs", lambda route: route.abort())
        page.get_by_role("button", name="Submit").click()
    assert json.loads(sent.value.post_data or "")["spec"]["seeds"] == [SEED + 2, 2**63 - 1]


def test_the_weights_of_a_job_are_checked_by_another(page: Page, lab: Lab) -> None:
    job = lab.submit(QUICK, name="to be checked")
    lab.until_state(job, "succeeded")
    page.goto(f"/jobs/{job}")
    page.get_by_role("link", name="Check a theorem on its weights").click()
    expect(page.get_by_label("job", exact=True)).to_have_value(job)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("as trained to epoch 3")
    expect(page.locator("#head .state")).to_have_text("succeeded")
    expect(page.get_by_role("link", name="a training job")).to_have_attribute(
        "href", f"/jobs/{job}"
    )
    expect(page.locator("#figures")).to_contain_text(
        "Theorem 2 along the step on G(negative) - G(positive), at epoch 3, positive samples"
    )
    looked_at(page, "check")
    page.get_by_role("link", name="Clone and edit").click()
    page.get_by_label("along", exact=True).select_option("training_step")
    expect(page.locator("#difference li")).to_have_text(
        ["along: goodness_difference → training_step"]
    )
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#figures")).to_contain_text(
        "Theorem 2 along the training step, at epoch 3, positive samples, n = 32"
    )


def test_what_a_job_offers_to_paste_works_when_pasted(page: Page, lab: Lab, tmp_path: Path) -> None:
    job = lab.submit(
        {"kind": "train", "epochs": 1, "network": {"widths": [16]}, "dataset": {"name": "digits"}},
        name="pasted",
    )
    lab.until_state(job, "succeeded")
    page.goto(f"/jobs/{job}")
    before = len(lab.http.get("/v1/jobs").json()["items"])
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    for name, command in (
        ("curl", ["bash", "-c"]),
        ("Python", [sys.executable, "-c"]),
        ("Shell", ["bash", "-ec"]),
    ):
        page.locator("summary", has_text=re.compile(f"^{name}$")).click()
        text = (
            page.locator("details", has=page.locator("summary", has_text=re.compile(f"^{name}$")))
            .locator("pre")
            .inner_text()
        )
        done = subprocess.run(
            [*command, text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
        )
        assert done.returncode == 0, (name, done.stderr)
    jobs = lab.http.get("/v1/jobs").json()["items"]
    assert len(jobs) == min(before + 3, 50)
    assert {json.dumps(one["spec"]) for one in jobs[:3]} == {json.dumps(lab.job(job)["spec"])}


def test_the_page_says_when_the_service_is_away_and_goes_on_when_it_is_back(
    page: Page, lab: Lab
) -> None:
    page.goto("/workers")
    page.route("**/workers", lambda route: route.abort())
    expect(page.locator("#away")).to_be_visible()
    looked_at(page, "away")
    page.unroute("**/workers")
    expect(page.locator("#away")).to_be_hidden()


def test_filters_and_places_stay_on_reload_and_on_the_way_back(page: Page, lab: Lab) -> None:
    job = lab.submit(QUICK, name="kept filter", tags=["kept"])
    lab.until_state(job, "succeeded")
    page.goto("/")
    page.get_by_label("Tag").fill("kept")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.reload()
    expect(page.get_by_label("Tag")).to_have_value("kept")
    page.get_by_role("link", name="kept filter").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("kept filter")
    page.go_back()
    expect(page.get_by_label("Tag")).to_have_value("kept")
    expect(page.locator("#list tbody tr")).to_have_count(1)


def test_curves_grow_without_a_reload_also_while_the_api_is_away(page: Page, lab: Lab) -> None:
    job = lab.submit(SLOW, name="slow")
    page.goto(f"/jobs/{job}")
    page.evaluate("window.unchanged = true")
    expect(page.locator("figure canvas").first).to_be_visible()
    later = epoch_after(page, 0)
    later = epoch_after(page, later)
    lab.child("api").kill()
    epoch_after(page, later)
    expect(page.locator("#away")).to_be_hidden()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#head .state")).to_have_text("paused")
    looked_at(page, "paused")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#head .state")).to_have_text("cancelled")
    assert page.evaluate("window.unchanged")


COUNTED = """
window.opened = [];
window.EventSource = class extends EventSource {
  constructor(...given) { super(...given); opened.push(this); }
};
"""


def streams(page: Page) -> int:
    """How many streams of events the page holds."""
    return int(page.evaluate("opened.filter((one) => one.readyState !== 2).length"))


def test_a_page_follows_its_job_after_retry_pause_and_cancel(page: Page, lab: Lab) -> None:
    page.add_init_script(COUNTED)
    job = lab.submit(SLOW, name="again and again")
    lab.http.post(f"/v1/jobs/{job}/cancel")
    lab.until_state(job, "cancelled")
    page.goto(f"/jobs/{job}")
    page.evaluate("window.unchanged = true")
    state = page.locator("#head .state")
    for _ in range(2):
        assert streams(page) == 0
        page.get_by_role("button", name="Retry").click()
        expect(state).to_have_text("running")
        epoch_after(page, epoch_after(page, 0))
        assert streams(page) == 1
        page.get_by_role("button", name="Pause").click()
        expect(state).to_have_text("paused")
        page.get_by_role("button", name="Resume").click()
        expect(state).to_have_text("running")
        epoch_after(page, epoch_after(page, 0))
        assert streams(page) == 1
        page.get_by_role("button", name="Cancel").click()
        expect(state).to_have_text("cancelled")
        expect(page.get_by_role("button", name="Retry")).to_be_visible()
        wait_until(lambda: streams(page) == 0 or None, "the stream is closed")
    assert page.evaluate("window.unchanged")


def test_a_page_follows_its_study_after_retry(page: Page, lab: Lab) -> None:
    page.add_init_script(COUNTED)
    job = lab.submit(
        {"kind": "study", "base": QUICK, "grid": {"seeds": [[1], [2]]}}, name="a study again"
    )
    lab.http.post(f"/v1/jobs/{job}/cancel")
    for run in lab.http.get(f"/v1/jobs?parent={job}").json()["items"]:
        lab.until_state(run["id"], "cancelled", "succeeded")
    page.goto(f"/jobs/{job}")
    page.evaluate("window.unchanged = true")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#head .state")).to_have_text("succeeded")
    expect(page.locator("#figures tbody .state.succeeded")).to_have_count(2)
    wait_until(lambda: streams(page) == 0 or None, "the stream is closed")
    assert page.evaluate("window.unchanged")


def test_a_page_whose_job_ended_while_the_service_was_away_says_so_when_it_is_back(
    page: Page, lab: Lab
) -> None:
    job = lab.submit(SLOW, name="ended unseen")
    page.goto(f"/jobs/{job}")
    epoch_after(page, 0)
    page.route(f"**/jobs/{job}", lambda route: route.abort())
    lab.http.post(f"/v1/jobs/{job}/cancel")
    lab.until_state(job, "cancelled")
    expect(page.locator("#away")).to_be_visible()
    page.unroute(f"**/jobs/{job}")
    expect(page.locator("#head .state")).to_have_text("cancelled")
    expect(page.locator("#away")).to_be_hidden()


def test_a_job_that_fails_shows_why_and_what_to_try(page: Page, lab: Lab) -> None:
    job = lab.submit(TOO_FAST, name="too fast")
    lab.until_state(job, "failed")
    page.goto(f"/jobs/{job}")
    expect(page.locator("#head .problem")).to_be_visible()
    expect(page.locator("#failure .findings li").first).to_be_visible()
    looked_at(page, "failed")


def test_several_jobs_are_compared_and_cancelled(page: Page, lab: Lab) -> None:
    ids = [lab.submit(QUICK | {"epochs": epochs}, name=f"compare {epochs}") for epochs in (2, 3)]
    for job in ids:
        lab.until_state(job, "succeeded")
    page.goto("/?name=compare")
    for job in ids:
        page.locator(f"input[value={job}]").check()
    page.evaluate(REFRESHED)
    expect(page.locator("[data-count]")).to_have_text("2")
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="What differs")).to_be_visible()
    expect(page.locator("figure canvas").first).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^epochs"))).to_contain_text("2")
    expect(
        page.get_by_role("row", name=re.compile("last epoch, positive")).first
    ).not_to_contain_text("–")
    looked_at(page, "comparison")
    page.reload()
    expect(page.get_by_role("row", name=re.compile("^epochs"))).to_contain_text("3")


def test_a_comparison_follows_its_jobs_to_their_ends(page: Page, lab: Lab) -> None:
    ended, going = (
        lab.submit(QUICK, name="compared, ended"),
        lab.submit(SLOW, name="compared, going"),
    )
    lab.until_state(going, "running")
    page.goto(f"/compare?job={ended}&job={going}")
    page.evaluate("window.unchanged = true")
    states = page.locator("#differences .state")
    expect(states).to_have_text(["succeeded", "running"])
    expect(page.locator("#charts figure canvas").first).to_be_visible()
    lab.http.post(f"/v1/jobs/{going}/cancel")
    expect(states).to_have_text(["succeeded", "cancelled"])
    wait_until(
        lambda: not page.evaluate("'refresh' in document.body.dataset") or None,
        "there is nothing more to look for",
    )
    assert page.evaluate("window.unchanged")


def test_a_data_set_is_uploaded(page: Page, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz",
        x=rng.integers(0, 256, (60, 6, 6), dtype=np.uint8),
        y=np.arange(60) % 3,
    )
    np.savez(tmp_path / "wrong.npz", x=np.zeros((3, 2)))
    page.goto("/datasets")
    page.get_by_label("Name").fill("from-the-browser")
    page.get_by_label("Meaning").fill("Samples & noise")
    page.get_by_label("File").set_input_files(tmp_path / "wrong.npz")
    page.get_by_role("button", name="Upload").click()
    expect(page.locator("[data-upload] output")).to_contain_text("y")
    page.get_by_label("File").set_input_files(tmp_path / "mine.npz")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("heading", name="from-the-browser uploaded")).to_be_visible()
    expect(page.get_by_text("Samples & noise")).to_be_visible()
    expect(
        page.get_by_role("img", name="Samples of from-the-browser, a row for each class")
    ).to_be_visible()


def test_who_has_a_key_signs_in_and_stands_beside_the_job(
    browser: Browser, redis_server: Path, home: Path
) -> None:
    with Stack(lab_settings(home), port=0, device="cpu") as stack, Lab(stack) as lab:
        with closing(Store(stack.settings.database)) as store:
            key = create_key(store.api_keys, "ada")
        page = browser.new_page(base_url=stack.url)
        wait_until(lambda: lab.http.get("/v1/jobs").status_code == 401 or None, "keys are needed")
        page.goto("/new")
        page.get_by_label("API key").fill("fflab_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not valid")
        looked_at(page, "sign-in")
        page.get_by_label("API key").fill(key.secret)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("New job")
        page.get_by_label("epochs", exact=True).fill("1")
        page.get_by_role("button", name="Submit").click()
        expect(page.locator("#head")).to_contain_text("by ada")
        expect(page.locator("pre", has_text="FFLAB_API_KEY").first).to_be_attached()
        assert key.secret not in page.content()
        page.get_by_role("link", name="Jobs").click()
        expect(page.get_by_role("link", name="ada")).to_be_visible()
        page.close()


@pytest.mark.parametrize("path", LIST_OF_PAGES)
def test_every_page_can_be_used_by_everybody(page: Page, path: str) -> None:
    page.goto(path)
    looked_at(page, path.strip("/").replace("/", "-") or "home")


def test_the_keyboard_suffices(page: Page, lab: Lab) -> None:
    lab.until_state(lab.submit(QUICK, name="by keyboard"), "succeeded")
    page.goto("/?name=keyboard")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # past the navigation
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # past the filters
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "by keyboard":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("by keyboard")


@pytest.mark.soak
def test_any_number_of_tabs_of_unfinished_jobs_leaves_the_browser_room(
    browser: Browser, lab: Lab
) -> None:
    jobs = [lab.submit(SLOW | {"seeds": [900 + number]}) for number in range(8)]
    paused = lab.submit(SLOW | {"seeds": [990]})
    lab.http.post(f"/v1/jobs/{paused}/pause")
    lab.until_state(paused, "paused")
    streams: set[str] = set()
    scripts: list[str] = []
    context = browser.new_context(base_url=str(lab.http.base_url))
    context.set_default_timeout(PATIENCE)
    context.on(
        "request",
        lambda asked: streams.add(asked.url.split("?")[0]) if "/events" in asked.url else None,
    )

    def opened(count: int) -> bool | None:
        hear(tabs[0])
        return len(streams) == count or None

    tabs: list[Page] = []
    try:
        for job_id in (paused, *jobs):
            tabs.append(context.new_page())
            tabs[-1].goto(f"/jobs/{job_id}")
            expect(tabs[-1].locator("h1")).to_be_visible()
        ninth = context.new_page()
        ninth.on(
            "request",
            lambda asked: scripts.append(asked.url) if "live.js" in asked.url else None,
        )
        ninth.goto("/new")
        expect(ninth.locator("#cost")).to_contain_text("run")
        assert tabs[0].evaluate("fetch('/healthz').then((answer) => answer.status)") == 200
        wait_until(partial(opened, 2), "two streams serve all tabs", seen=streams.copy)
        assert not any(paused in address for address in streams)
        assert len(scripts) == 1, "a second copy of the script would hold a second stream"
        last = tabs[-1]
        last.get_by_role("button", name="Cancel").click()
        expect(last.locator("#head")).to_contain_text("cancelled")
        tabs[1].get_by_role("button", name="Cancel").click()
        expect(tabs[1].locator("#head")).to_contain_text("cancelled")
        # its stream is free for a tab that had none
        wait_until(partial(opened, 3), "another tab has a stream", seen=streams.copy)
        lab.http.post(f"/v1/jobs/{paused}/cancel")  # a page without a stream learns of it as well
        expect(tabs[0].locator("#head")).to_contain_text("cancelled")
    finally:
        context.close()
        for job_id in jobs:
            lab.http.post(f"/v1/jobs/{job_id}/cancel")
