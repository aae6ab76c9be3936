"""The documentation: it builds, loads nothing from elsewhere, leads nowhere wrong, and leaves
nothing out.
"""

import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.exceptions import TyperException
from typer.main import get_command

from benchmarks.waiting import PATIENCE_SECONDS, PROGRAM_SECONDS
from ffengine.entry import Entry
from ffengine.presets import PRESETS
from ffengine.spec import Submission
from ffengine.study import expand
from ffengine.version import RELEASED, VERSION
from scripts import reference_names
from scripts.docs_reference import GENERATED
from scripts.theory_pictures import PICTURES
from service.cli import app as cli
from service.settings import Settings
from service.web.app import create_app
from service.web.problems import PROBLEMS
from service.web.routes.catalog import read_catalog
from tests.chromium import chromium
from tests.documents import PAGES, ROOT, Block, Shown, blocks, commands, in_sentences

RUN = {"python", "bash", "console"}
READ = {"text", "json", "yaml", "bibtex"}
BLOCKS = [block for page in PAGES for block in blocks(page)]
LOADING = {"src", "href", "srcset", "poster", "data", "action"}
EXTERNAL = re.compile(r"(?:https?:)?//")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built strictly: a broken link or anchor fails here."""
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--site-dir",
        str(folder),
    ]  # --quiet would let warnings pass
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=PROGRAM_SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def text(site: Path) -> str:
    """All that the site says, reference pages and all, without markup."""
    words = [
        re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")) for page in site.rglob("*.html")
    ]
    return (
        "\n".join(words)
        .replace("&gt;", ">")
        .replace("&lt;", "<")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
    )


class Loads(HTMLParser):
    """What a page loads: the addresses of its tags, but for links that a reader follows."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses = list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a" or (
            tag == "link" and dict(attrs).get("rel") in ("canonical", "prev", "next")
        ):
            return
        self.addresses += [value for name, value in attrs if name in LOADING and value]


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        found = Loads()
        found.feed(page.read_text(encoding="utf-8"))
        assert found.addresses
        assert not [address for address in found.addresses if EXTERNAL.match(address)], page.name
        assert 'class="mermaid"' not in page.read_text(encoding="utf-8"), (
            "the theme would load mermaid from elsewhere"
        )
    for style in site.rglob("*.css"):
        loaded = re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", style.read_text(encoding="utf-8"))
        assert not [
            address for pair in loaded for address in pair if EXTERNAL.match(address.strip("\"'"))
        ], style.name


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_that_is_opened_from_disk_finds_what_is_searched_and_asks_no_network(
    site: Path,
) -> None:
    with chromium() as browser:
        page, asked, complaints = browser.new_page(), list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.keyboard.press("/")
        page.get_by_placeholder("Search").press_sequentially("preactivations", delay=20)
        page.locator(".md-search-result__item").first.wait_for(timeout=1000 * PATIENCE_SECONDS)
        assert "diagnostics.html" in (
            page.locator(".md-search-result__link").first.get_attribute("href") or ""
        )
    assert not complaints
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$])\$([^\s$](?:[^$\n]*[^\s$])?)\$(?![\w$])", re.DOTALL)
KATEX = ROOT / "docs" / "assets" / "katex"


def formulas(page: Path) -> list[str]:
    """The formulas of a page: what stands between dollars, and is no code."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [display or inline for display, inline in FORMULA.findall(prose)]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_formulas_have_nothing_that_markdown_would_take_for_its_own(page: Path) -> None:
    # A forge reads Markdown first: a backslash before a sign is lost, and emphasis may begin.
    wrong = re.compile(r"\\[^a-zA-Z]|\*|(?:^|[^\w])_")
    assert not [formula for formula in formulas(page) if wrong.search(formula)]


def test_the_vendored_typesetter_is_what_its_origin_says() -> None:
    origin = json.loads((KATEX / "ORIGIN.json").read_text(encoding="utf-8"))
    found = {
        str(path.relative_to(KATEX)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in KATEX.rglob("*")
        if path.is_file() and path.name != "ORIGIN.json"
    }
    assert found == origin["sha256"]
    assert origin["integrity"].startswith("sha512-")
    assert "MIT" in (KATEX / "LICENSE").read_text(encoding="utf-8")
    fonts = set(
        re.findall(r"url\(([^)]*)\)", (KATEX / "katex.min.css").read_text(encoding="utf-8"))
    )
    assert fonts == {name for name in found if name.startswith("fonts/")}


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_formulas_are_typeset_and_fit(site: Path, width: int, scheme: Any) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        asked = list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "theory.html").as_uri())
        page.locator(".arithmatex .katex").first.wait_for(timeout=1000 * PATIENCE_SECONDS)
        page.evaluate("document.fonts.ready")
        marked = page.locator(".arithmatex").count()
        assert marked == page.locator(".arithmatex .katex").count()
        assert marked == len(formulas(ROOT / "docs" / "theory.md"))
        assert not page.locator(".katex-error").count()
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0
    assert any(url.endswith(".woff2") for url in asked)
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def test_every_page_is_in_the_navigation() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    inside = [
        page.relative_to(ROOT / "docs") for page in PAGES if page.is_relative_to(ROOT / "docs")
    ]
    assert sorted(leaves(config["nav"])) == sorted(map(str, inside))


def test_the_changelog_is_a_page_whose_links_lead_to_other_pages() -> None:
    text = GENERATED["changelog"]()
    assert f"## {VERSION} - {RELEASED}" in text
    for file in re.findall(r"\]\((?!https?:|#)([^)#]*)", text):
        assert (ROOT / "docs" / file).is_file(), file


def leaves(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(item)


LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_between_the_files_of_the_repository_lead_somewhere(page: Path) -> None:
    written = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for file, anchor in LINK.findall(written):
        target = (page.parent / file).resolve()
        assert target.exists(), f"{file} of {page.name}"
        if (
            anchor
            and target.suffix == ".md"
            and "generated:" not in target.read_text(encoding="utf-8")
        ):
            assert anchor in anchors(target), f"{file}#{anchor}"


def anchors(page: Path) -> list[str]:
    """The places of a page that a link can lead to: its headings, and what has an id."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    named = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return named + re.findall(r'<a id="([^"]+)"></a>', text)


# What must be mentioned


@pytest.mark.slow
def test_every_setting_is_described(text: str) -> None:
    missing = [name for name in variables("FFLAB_", Settings) if name not in text]
    assert not missing


def variables(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    """The variables of a settings model; those of a nested one, but for what is given as JSON."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel) and not field.description
        yield from (
            variables(f"{prefix}{name.upper()}__", inner)
            if nested and inner
            else [f"{prefix}{name.upper()}"]
        )  # type: ignore[arg-type]


@pytest.mark.slow
def test_every_route_is_described_with_a_line_for_curl(text: str, tmp_path: Path) -> None:
    for path, operations in create_app(Settings(home=tmp_path)).openapi()["paths"].items():
        for method in operations:
            assert f"{method.upper()} {path}" in text
        assert re.sub(r"{[^}]*}.*", "", path) in "".join(re.findall(r"curl -s.*", text)), path


@pytest.mark.slow
def test_every_command_and_option_is_described(text: str) -> None:
    for name, command in below(get_command(cli), "fflab"):
        assert name in text, name
        for option in command.params:
            for spelt in option.opts if option.param_type_name == "option" else ():
                assert spelt in text, f"{name} {spelt}"


def below(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All commands of a group, by their full names."""
    for word, command in group.commands.items():
        if runs(command):
            yield f"{name} {word}", command
        if hasattr(command, "commands"):
            yield from below(command, f"{name} {word}")


def runs(command: Any) -> bool:
    """Whether it does something by itself, and is not a group of commands alone."""
    return not hasattr(command, "commands") or command.invoke_without_command


SOURCES = [
    path
    for package in ("ffengine", "service", "workers")
    for path in sorted((ROOT / package).rglob("*.py"))
]
TOLD = [
    shown
    for path in SOURCES
    for shown in in_sentences(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))
]
EVERYWHERE = [*(shown for page in PAGES for shown in commands(page)), *TOLD]
# of those that are written alike the last one
SHOWN = list({(*shown.words, shown.complete): shown for shown in EVERYWHERE}.values())


@pytest.mark.parametrize(
    "shown", SHOWN, ids=[f"{shown.place}:{' '.join(shown.words)[:40]}" for shown in SHOWN]
)
def test_every_command_that_is_shown_exists_with_its_options(shown: Shown) -> None:
    complaint = complaint_of(shown)
    assert not complaint, f"{shown.place}: fflab {shlex.join(shown.words)}: {complaint}"


@pytest.mark.parametrize(
    ("words", "complete", "wrong"),
    [
        (["webhook-secrets"], False, "there is no `fflab webhook-secrets`"),
        (["keys", "make", "ada"], False, "there is no `fflab keys make`"),
        (["submit", "quick", "--waits"], False, "No such option"),
        (["change", "last", "--priority", "highest"], False, "highest"),
        (["diff"], True, "Missing argument"),
        (["diff"], False, ""),
        (["keys"], False, ""),
        (["keys"], True, "a command is missing"),
        (["jobs", "extra"], False, "unexpected argument"),
    ],
)
def test_a_command_that_does_not_exist_is_found(
    words: list[str], complete: bool, wrong: str
) -> None:
    complaint = complaint_of(Shown("here", words, complete))
    assert (wrong in complaint) if wrong else not complaint


def test_commands_are_found_in_sentences_and_lines_as_they_are_written() -> None:
    text = (
        "Say `FFLAB_HOME=/srv fflab\n  keys list`, not `/opt/fflab`, `pg_dump -U fflab fflab` "
        "or `fflab.service`."
    )
    assert [shown.words for shown in in_sentences(text, "here")] == [["keys", "list"]]
    assert {"webhook-secret"} < {
        shown.words[0] for shown in EVERYWHERE if shown.place == "docs/jobs.md"
    }
    assert ["keys", "create", "ada"] in [
        shown.words for shown in EVERYWHERE if shown.place.startswith("docs/howto/server.md")
    ]


def complaint_of(shown: Shown) -> str:
    """What the command line's own parser says against a command, which is not run."""
    command: Any = get_command(cli)
    name, words = "fflab", list(shown.words)
    if words and words[0].isupper() and not shown.complete:
        return ""  # stands for several, as in `fflab ACTION ID`
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        name = f"{name} {words.pop(0)}"
        if name.rpartition(" ")[2] not in command.commands:
            return f"there is no `{name}`"
        command = command.commands[name.rpartition(" ")[2]]
    if not runs(command) and not words:
        return "a command is missing" if shown.complete else ""
    context = command.make_context(name, [], resilient_parsing=True)
    context.resilient_parsing = False
    try:
        with context:
            given, left, _ = command.make_parser(context).parse_args(words)
            values = (
                command.params if runs(command) else ()
            )  # fflab's own options, such as --install-completion, act
            for parameter in (one for one in values if not one.is_eager):  # and so does --help
                _, left = parameter.handle_parse_result(context, given, left)
    except TyperException as error:
        message = str(error.format_message())
        return "" if message.startswith("Missing ") and not shown.complete else message
    return f"unexpected arguments {left}" if left else ""


@pytest.mark.slow
def test_every_entry_of_every_catalogue_is_described_with_its_parameters(text: str) -> None:
    found = read_catalog()
    for key in type(found).model_fields:
        for entry in getattr(found, key) if isinstance(getattr(found, key), list) else ():
            words = [entry.name, " ".join(entry.meaning.split()), *getattr(entry, "parameters", {})]
            assert not [word for word in words if key != "kinds" and word not in text], (
                f"{key}: {entry.name}"
            )
    for preset in PRESETS.values():
        assert f"fflab submit {preset.name}" in text


@pytest.mark.slow
def test_every_problem_and_finding_is_described(text: str) -> None:
    source = "".join(
        (ROOT / "ffengine" / name).read_text(encoding="utf-8")
        for name in (
            "diagnostics.py",
            "advice.py",
            "scale_runaway.py",
            "free_riding.py",
            "forecast_findings.py",
        )
    )
    for name in [*PROBLEMS, *re.findall(r'code="([a-z_]+)"', source)]:
        assert name in text
    for kind in PROBLEMS.values():
        assert kind.title.split("`")[0] in text


@pytest.mark.slow
def test_every_public_name_is_described(text: str) -> None:
    import ffengine
    import fflab

    for package in (ffengine, fflab):
        assert not [name for name in package.__all__ if f"{package.__name__}.{name}" not in text]


@pytest.mark.slow
def test_the_version_is_that_of_the_engine(site: Path) -> None:
    assert VERSION in (site / "reference" / "rest.html").read_text(encoding="utf-8")


# Code


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_every_block_is_run_or_read_or_says_why_not(block: Block) -> None:
    assert block.language in RUN | READ, (
        f"{block.place}: say `text` where it is none of {sorted(RUN | READ)}"
    )
    assert block.no_run is None or (block.language in RUN and len(block.no_run) > 8)


SPECS = [
    block
    for block in BLOCKS
    if block.language == "yaml" and re.search(r"^kind:", block.text, re.MULTILINE)
]


@pytest.mark.parametrize("block", SPECS, ids=[block.place for block in SPECS])
def test_every_spec_is_valid(block: Block) -> None:
    for document in yaml.safe_load_all(block.text):
        check(document)


def check(document: dict[str, Any]) -> Entry:
    """A document as a spec, which is expanded where it is a study."""
    spec = Submission.model_validate({"spec": document}).spec
    if spec.kind == "study":
        expand(spec)
    return spec


@pytest.mark.slow
def test_the_presets_as_files_are_the_presets() -> None:
    from scripts.docs_reference import preset_documents

    found = preset_documents()
    assert [check(document) for document in found] == [preset.spec for preset in PRESETS.values()]


def test_the_readme_is_short_and_the_citation_is_one() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == "Apache-2.0"


def test_the_citation_is_of_this_version_and_its_day() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["date-released"]) == (VERSION, RELEASED)
    assert f"## {VERSION} - {RELEASED}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version {VERSION}" in (ROOT / "docs" / "howto" / "paper.md").read_text(
        encoding="utf-8"
    )


def test_every_picture_of_the_theory_has_the_command_that_made_it() -> None:
    page = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
    shown, made = (
        re.findall(r"pictures/(\w+)\.svg", page),
        re.findall(r"scripts\.theory_pictures (\w+)`", page),
    )
    assert shown == made
    assert {path.stem for path in (ROOT / "docs" / "pictures").glob("*.svg")} == set(made)
    assert set(made) == set(PICTURES)


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted(reference_names.NAMES))
def test_a_page_of_the_reference_lists_its_names_where_the_site_is_not_built(page: str) -> None:
    text = (reference_names.FOLDER / f"{page}.md").read_text(encoding="utf-8")
    assert text == reference_names.written(page), "python -m scripts.reference_names"
    names = reference_names.block(page).splitlines()
    assert len(names) > 5
    assert [line for line in names if line.startswith("|") and re.search(r"\| +\|", line)] == []
