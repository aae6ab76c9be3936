"""A text that a user chose, or that an earlier version stored, in every place where it is shown."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree

import httpx
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from ffengine.text import visible
from service import cli
from service.cli.output import Screen
from service.encoding.escaping import (
    FORMULA,
    LONGEST_IN_FILE_NAME,
    LONGEST_LOG_LINE,
    for_ascii_file_name,
    for_csv,
    for_drawing,
    for_file_name,
    for_header,
    for_html,
    for_log,
    for_page,
    for_script,
    for_terminal,
)
from service.results.charts import render
from service.results.load import drawable
from service.store import Store
from service.web.auth import create_key
from service.web.dependencies import Resources
from service.web.lookup import find_job
from tests.commands import Fflab
from tests.hostile import BAD, HIDDEN, NASTY, STORABLE, stored_once

ANY = st.text(st.characters(codec=None), max_size=60) | st.sampled_from(NASTY)


class Tags(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def is_plain(text: str) -> bool:
    """Whether a terminal, a log or a page is told nothing by the text."""
    return not HIDDEN.search(text) and not any(one in text for one in BAD if one not in "\t\n")


@given(ANY)
def test_html_holds_the_text_and_no_tag_of_it(text: str) -> None:
    found = Tags(f'<p title="{for_html(text)}">{for_html(text)}</p>')
    assert found.tags == ["p"]
    assert is_plain(found.text)
    assert is_plain(for_page(text))


@given(ANY)
def test_a_script_holds_the_document_and_no_end_of_it(text: str) -> None:
    script = for_script(for_drawing({text: [text]}))
    assert not set("<>&\u2028\u2029") & set(script)
    assert json.loads(script) == json.loads(for_drawing({text: [text]}))


@given(ANY)
def test_a_drawing_is_of_what_xml_has(text: str) -> None:
    (name, (value,)) = next(iter(json.loads(for_drawing({text: [text]})).items()))
    for found in (name, value):
        assert is_plain(found)
        assert ElementTree.fromstring(f"<a>{for_html(found)}</a>").text == (found or None)  # noqa: S314


@given(ANY)
def test_a_cell_of_a_table_is_a_text_and_no_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([for_csv(text), for_csv(-1.5), for_csv(None), for_csv(True)])
    (row,) = csv.reader(io.StringIO(out.getvalue()))
    assert row[1:] == ["-1.5", "", "True"]
    assert not FORMULA.match(row[0])
    assert is_plain(row[0])
    if text[:1].isalpha() and visible(text) == text:
        assert row[0] == text


@given(ANY)
def test_a_terminal_and_a_log_get_escapes(text: str) -> None:
    for shown in (for_terminal(text), for_log(text)):
        assert is_plain(shown)
        assert "\n" not in shown
        shown.encode()
    assert len(for_log(text * 1_000)) <= LONGEST_LOG_LINE
    assert for_terminal("a\x9b\u202e\U000e0041\tb\n", keep="\n") == "a\\x9b\\u202e\\U000e0041\\tb\n"


@given(ANY)
def test_a_file_name_leaves_no_folder_and_fits_every_file_system(text: str) -> None:
    for name in (for_file_name(text), for_ascii_file_name(text)):
        assert not re.search(r'[\\/:*?"<>|.;%\s\x00-\x1f]', name)
        assert len(name.encode()) <= 4 * LONGEST_IN_FILE_NAME
        assert not name.startswith("-")
        assert is_plain(name)
    assert for_ascii_file_name(text).isascii()


@given(ANY)
def test_a_header_is_one_line_of_ascii_with_both_names(text: str) -> None:
    ascii_name, name = (f"a-{one(text)}.csv" for one in (for_ascii_file_name, for_file_name))
    header = for_header("attachment", ascii_name, name)
    found = re.fullmatch(
        r"attachment; filename=\"([a-z0-9.-]+)\"(?:; filename\*=UTF-8''([\w.%~-]+))?", header
    )
    assert found
    assert found[1] == ascii_name
    assert unquote(found[2] or ascii_name) == name


@pytest.mark.slow
def test_a_download_has_the_name_of_its_job_in_its_own_script(
    client: httpx.Client, store: Store
) -> None:
    header = client.get(f"/v1/jobs/{stored_once(store, '学习率 «1»')}/result.csv").headers
    found = header["content-disposition"]
    assert 'filename="fflab-study-1-job_' in found
    assert "filename*=UTF-8''fflab-study-%E5%AD%A6%E4%B9%A0%E7%8E%87-1-job_" in found


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.soak) if at % 4 else name
        for at, name in enumerate(STORABLE)
    ],
)
def test_what_was_stored_once_breaks_nothing_that_shows_it(
    name: str, client: httpx.Client, store: Store, resources: Resources, fflab: Fflab
) -> None:
    job_id = stored_once(store, name)
    assert client.get("/v1/jobs").json()["items"][0]["name"] == name
    for page in ("/", f"/jobs/{job_id}", f"/new?like={job_id}", f"/compare?job={job_id}"):
        response = client.get(page)
        assert response.status_code == 200, page
        assert not HIDDEN.search(response.text), page
        tags = Tags(response.text).tags
        assert "img" not in tags, page
    for file in ("result.csv", "curves.csv", "curves.csv?mean=true"):
        response = client.get(f"/v1/jobs/{job_id}/{file}")
        assert response.status_code == 200, file
        assert response.headers["content-disposition"].isascii()
        for row in csv.reader(io.StringIO(response.text)):
            for cell in row:
                assert is_plain(cell), (file, cell)
                assert not FORMULA.match(cell) or re.fullmatch(r"-[\d.]+(e-?\d+)?", cell), cell
    job = find_job(store, job_id)
    svg = render("grid_theorem1", drawable(store, job, resources.artifacts), "svg")
    ElementTree.fromstring(svg)  # noqa: S314 - our own
    for command in ("jobs", f"show {job_id}", f"log {job_id}", f"diff {job_id} {job_id}"):
        ended = fflab(*command.split())
        assert ended.code == 0, (command, ended.err)
        assert is_plain(ended.out.replace("\n", "").replace("\t", "")), command


def test_a_screen_shows_escapes_and_keeps_what_is_laid_out() -> None:
    shown = io.StringIO()
    screen = Screen(file=shown, width=60, force_terminal=True, color_system=None)
    screen.print("a\x9b31m\u202eb")
    assert shown.getvalue() == "a\\x9b31m\\u202eb\n"


# what each command is asked to show; `up` and the like run until they are ended
LONG_RUNNING = {"up", "api", "worker", "demo"}
SHOWN: Mapping[str, tuple[str, ...]] = {
    "doctor": (),
    "workers": (),
    "submit": ("quick", "--tag", "x"),
    "estimate": ("quick",),
    "jobs": (),
    "projects": (),
    "show": ("JOB",),
    "watch": ("JOB",),
    "result": ("JOB",),
    "diff": ("JOB", "JOB"),
    "log": ("JOB",),
    "change": ("JOB", "--name", "学习率"),
    "cancel": ("JOB",),
    "pause": ("JOB",),
    "resume": ("JOB",),
    "retry": ("JOB",),
    "open": ("JOB", "--print"),
    "run": ("学习率.yaml",),
    "bench": ("学习率",),
    "data list": (),
    "data fetch": ("学习率",),
    "data import": ("学习率", "学习率.npz"),
    "data remove": ("学习率",),
    "keys list": (),
    "keys create": ("学习率",),
    "keys revoke": ("学习率",),
    "keys limit": ("学习率", "--max-queued", "5"),
    "keys clear": (),
    "worker drain": ("学习率",),
    "worker undrain": ("学习率",),
    "slurm scale": ("学习率.sbatch", "--max", "1"),
    "retention": (),
    "check": (),
    "weights convert": ("学习率.npz",),
    "weights evaluate": ("学习率.safetensors",),
    "weights upload": ("学习率.safetensors", "--name", "学习率"),
    "weights list": (),
    "weights delete": ("学习率",),
    "plugin list": (),
    "plugin test": ("学习率",),
    "presets": (),
    "catalog": (),
    "schema": (),
    "upload": ("学习率.npz", "--name", "学习率"),
    "export": ("JOB", "--paper", "学习率"),
    "share": ("JOB",),
    "usage": ("--by", "project"),
    "audit": ("--actor", "学习率"),
    "webhook-secret": (),
    "delete": ("JOB", "--yes"),
}
NAMED = "学习率 \x9b\u202e 👩‍🔬"


def commands() -> set[str]:
    """The names of all commands."""

    def below(command: object, path: str) -> set[str]:
        inner = getattr(command, "commands", {})
        found = {name for word, one in inner.items() for name in below(one, f"{path} {word}")}
        alone = path and getattr(command, "invoke_without_command", not inner)
        return found | {path.strip()} if alone else found

    return below(typer.main.get_command(cli.app), "")


@pytest.mark.slow
def test_a_terminal_of_ascii_ends_no_command(
    store: Store, client: httpx.Client, fflab: Fflab, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SHOWN.keys() == commands() - LONG_RUNNING
    job_id = stored_once(store, NAMED)
    monkeypatch.setenv("FFLAB_API_KEY", create_key(store.api_keys, "ключ").secret)
    monkeypatch.setattr("webbrowser.open", lambda _url: True)
    for command, arguments in SHOWN.items():
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            given = [job_id if one == "JOB" else one for one in arguments]
            patch.setattr(sys, "argv", ["fflab", *command.split(), *given])
            with pytest.raises(SystemExit):
                cli.main()
        out.flush()
        err.flush()
        assert isinstance(out.buffer, io.BytesIO)
        assert isinstance(err.buffer, io.BytesIO)
        told, said = out.buffer.getvalue().decode(), err.buffer.getvalue().decode()
        assert "codec can't" not in told + said, command
        assert "Traceback" not in said, command
        assert told or said, command


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_a_list_is_read_in_a_locale_of_ascii(
    store: Store, client: httpx.Client, environment: dict[str, str]
) -> None:
    job_id = stored_once(store, NAMED)
    surroundings = {"FFLAB_URL": str(client.base_url), "PATH": "/usr/bin:/bin", **environment}
    for command in ("jobs", "show last"):
        ended = subprocess.run(
            [sys.executable, "-m", "service.cli", *command.split()],
            env=surroundings,
            capture_output=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        assert job_id in ended.stdout.decode("ascii")
        assert "\\u5b66\\u4e60\\u7387 \\x9b\\u202e" in ended.stdout.decode("ascii")


@pytest.mark.slow
def test_what_is_typed_in_a_locale_of_ascii_is_what_was_meant(client: httpx.Client) -> None:
    surroundings = {"FFLAB_URL": str(client.base_url), "PATH": "/usr/bin:/bin"}
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [sys.executable, "-m", "service.cli", *arguments],
            env=surroundings | ascii_locale,
            capture_output=True,
            check=False,
        )
        assert (ended.returncode, ended.stderr) == (0, b""), arguments
        return ended.stdout.decode("ascii")

    job_id = run("submit", "quick", "--name", "学习率", "--tag", "ü", "--tag", "б").strip()
    found = client.get(f"/v1/jobs/{job_id}").json()
    assert (found["name"], found["tags"]) == ("学习率", ["ü", "б"])
    for filters in (["--search", "习"], ["--tag", "ü"]):
        assert job_id in run("jobs", *filters)
    assert job_id in run("show", "学习率")
    run("change", job_id, "--name", "θ")
    assert client.get(f"/v1/jobs/{job_id}").json()["name"] == "θ"
