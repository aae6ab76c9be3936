"""What the documentation says to type is typed, page by page, in a folder of its own, against the
real stack.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from benchmarks.waiting import PROGRAM_SECONDS
from tests.documents import PAGES, ROOT, Block, blocks
from tests.service.arrays import X, Y, npz
from tests.stack import Lab

JOB = re.compile(r"job_[0-9a-f]{32}")
HERE = re.compile(r"(?:http://)?(?:127\.0\.0\.1|localhost):8000")
NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
RUN = {"python", "bash", "console"}

# runs the Python blocks of a page one after the other, each with what those before it defined
PYTHON = """
import contextlib, io, json, sys, traceback
space, answers = {"__name__": "__main__"}, sys.stdout
for line in sys.stdin:
    block, said, failure = json.loads(line), io.StringIO(), None
    with contextlib.redirect_stdout(said):
        try:
            exec(compile(block["text"], block["place"], "exec"), space)
        except BaseException:
            failure = traceback.format_exc()
    print(json.dumps({"said": said.getvalue(), "failure": failure}), file=answers, flush=True)
"""


class Reader:
    """Somebody who types what a page says, from its top to its end."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url, self.ids = folder, url, dict[str, str]()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = kept | {
            "HOME": str(folder),
            "FFLAB_URL": url,
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }
        (folder / ".venv").symlink_to(sys.prefix)
        self._python: subprocess.Popen[str] | None = None

    def close(self) -> None:
        """End the page's Python."""
        if self._python:
            with self._python:
                self._pipe(self._python.stdin).close()

    def read(self, block: Block) -> None:
        """Do what a block says."""
        if block.title and block.language not in RUN:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._compute(block)
        elif block.language == "bash":
            self._type(block, block.text)
        elif block.language == "console":
            for command, shown in commands(block.text):
                said = self._type(block, command)
                assert matches(shown, said), (
                    f"{block.place}: {command}\nprinted\n{said}\nwhere the page shows\n{shown}"
                )
                new = [name for name in dict.fromkeys(JOB.findall(shown)) if name not in self.ids]
                self.ids |= dict(zip(new, dict.fromkeys(JOB.findall(said)), strict=False))

    def _type(self, block: Block, text: str) -> str:
        for documented, real in self.ids.items():
            text = text.replace(documented, real)
        text = HERE.sub(self.url, text)
        script = f"set -eu -o pipefail\n{text}\n\nexport -p > .exported"
        before = ". ./.exported\n" if (self.folder / ".exported").exists() else ""
        done = subprocess.run(
            ["bash", "-c", before + script],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
        )
        assert done.returncode == 0, (
            f"{block.place}: {text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
        return done.stdout + done.stderr

    def _compute(self, block: Block) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", PYTHON],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        text = HERE.sub(self.url, block.text)
        print(
            json.dumps({"text": text, "place": block.place}),
            file=self._pipe(self._python.stdin),
            flush=True,
        )
        answer: dict[str, Any] = json.loads(self._pipe(self._python.stdout).readline())
        assert answer["failure"] is None, f"{block.place}\n{answer['failure']}"

    @staticmethod
    def _pipe(stream: IO[str] | None) -> IO[str]:
        assert stream is not None
        return stream


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what the page shows of its output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.split("\n")
        end = next(number for number, line in enumerate(lines) if not line.endswith("\\")) + 1
        yield "\n".join(lines[:end]), "\n".join(lines[end:])


def plain(text: str) -> str:
    """Without what differs from run to run: ids, numbers, spaces."""
    text = re.sub(r"key_[0-9a-f]{12}", "KEY", JOB.sub("JOB", text))
    return re.sub(r"\s+", "", NUMBER.sub("#", text))


def matches(shown: str, said: str) -> bool:
    """Whether an output is what the page shows; `...` stands for anything, and nothing shown says
    nothing.
    """
    if not shown.strip():
        return True
    parts = [re.escape(plain(part)) for part in shown.split("...")]
    return re.fullmatch(".*".join(parts), plain(said), re.DOTALL) is not None


def test_an_output_is_compared_by_its_shape() -> None:
    assert matches(
        '{"id":"job_' + "0" * 32 + '", ... "n": 12}',
        '{"id":"job_' + "a" * 32 + '","x":1,"n":7.5e-3}\n',
    )
    assert matches("a.csv\n", "a.csv\n")
    assert not matches("a.csv\n", "b.csv\n")
    assert not matches('{"n": 12}', '{"n": 12, "m": 1}')
    assert not matches("...is not a known field...", "submitted")


WITH_CODE = [
    page
    for page in PAGES
    if any(block.language in RUN and not block.no_run for block in blocks(page))
]


# what a newcomer types first is tried by `make test`, too
FIRST_PAGES = {"README.md", "docs/quickstart.md"}


def named(page: Path) -> Any:
    """A page as a parameter, with its path as its name."""
    name = str(page.relative_to(ROOT))
    return pytest.param(page, id=name, marks=() if name in FIRST_PAGES else pytest.mark.soak)


@pytest.mark.parametrize("page", [named(page) for page in WITH_CODE])
def test_what_a_page_says_to_type_works(page: Path, lab: Lab, tmp_path: Path) -> None:
    with contextlib.closing(Reader(tmp_path, lab.stack.url)) as reader:
        for block in blocks(page):
            if not block.no_run:
                reader.read(block)


UPLOADED = ("/v1/weights/mine", "/v1/datasets/mine")


@pytest.mark.soak
def test_every_line_for_curl_of_the_reference_asks_what_there_is(lab: Lab, tmp_path: Path) -> None:
    from scripts.docs_reference import rest

    job = lab.submit(
        {
            "kind": "train",
            "dataset": {"name": "digits"},
            "network": {"widths": [16]},
            "epochs": 1,
            "monitor": {"samples": 50},
        }
    )
    lab.succeeded(job)
    trained = lab.http.get(f"/v1/jobs/{job}/weights.safetensors").content
    (tmp_path / "mine.safetensors").write_bytes(trained)
    (tmp_path / "pictures.npz").write_bytes(npz(x=X, y=Y))
    for address in UPLOADED:  # another page may have left them
        lab.http.delete(address)
    lines = re.findall(r"^curl -s .*$", rest(), re.MULTILINE)
    assert len(lines) > 25
    for line in lines:
        if "-X DELETE" in line or "$MESSAGE" in line:
            continue
        text = (
            re.sub(r" -OJ?(?= )", "", HERE.sub(lab.stack.url, line))
            + " -o /dev/null -w '%{http_code}'"
        )
        done = subprocess.run(
            ["bash", "-c", text],
            env=os.environ | {"JOB": job},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
        )
        # a training run that has ended can neither be paused nor has it trials
        is_refused = re.search(r"/(pause|resume|cancel|retry|search)\b", line)
        allowed = {"409"} if is_refused else {"200", "201", "202"}
        assert done.stdout in allowed, f"{line}\n{done.stdout}"
    for address in UPLOADED:
        assert lab.http.delete(address).status_code == 204
