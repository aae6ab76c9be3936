"""The documentation's pages and their code blocks, as the tests read them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^( *)```([\w-]*)([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
TITLE = re.compile(r'title="([^"]*)"')
NO_RUN = re.compile(r"no-run: (.+)$")


class Block(NamedTuple):
    """A code block: where it stands, what it is, and why it is not run, if it is not."""

    page: Path
    line: int
    language: str
    title: str | None
    no_run: str | None
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        indent, language, info, content = match.groups()
        title, reason = TITLE.search(info), NO_RUN.search(info)
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(
                page,
                line,
                language,
                title and title[1],
                reason and reason[1],
                re.sub(f"^{indent}", "", content, flags=re.MULTILINE),
            )
        )
    return found


def titled(page: str) -> dict[str, str]:
    """The texts of a page's blocks that have a title."""
    return {block.title: block.text for block in blocks(ROOT / page) if block.title}


# Commands

SPAN = re.compile(r"`([^`]+)`")
SHELL = {
    "bash": "",
    "console": "$ ",
    "text": "$ ",
}  # a language, and what its command lines begin with
CONTAINERS = ("api", "worker")  # of docker compose: what follows their names is run in them


class Shown(NamedTuple):
    """A command line of fflab that a text shows; in a sentence it may lack what it needs, as in
    `fflab log`.
    """

    place: str
    words: list[str]
    complete: bool


def commands(page: Path) -> Iterator[Shown]:
    """The commands of fflab that a page shows, in its blocks and within its sentences."""
    for block in blocks(page):
        prompt = SHELL.get(block.language)
        lines = re.sub(r"\\\n", " ", block.text).splitlines() if prompt is not None else []
        for line in lines:
            if line.startswith(prompt or ""):
                yield from (
                    Shown(block.place, words, True)
                    for words in in_line(line.removeprefix(prompt or ""))
                )
    yield from in_sentences(
        FENCE.sub("", page.read_text(encoding="utf-8")), str(page.relative_to(ROOT))
    )


def in_sentences(text: str, place: str) -> Iterator[Shown]:
    """The commands of fflab between backticks."""
    for span in SPAN.findall(text):
        yield from (Shown(place, words, False) for words in in_line(" ".join(span.split())))


def in_line(line: str) -> Iterator[list[str]]:
    """The words after `fflab`, of every such command of a shell's line."""
    if "fflab" not in line:
        return
    reader = shlex.shlex(line, posix=True, punctuation_chars="|&;")
    reader.whitespace_split = True
    command: list[str] = []
    try:
        for word in [*reader, ";"]:
            if word.strip("|&;"):
                command.append(word)
            else:
                yield from after_fflab(command)
                command = []
    except ValueError:  # an apostrophe of a sentence: no command line
        return


def after_fflab(command: list[str]) -> Iterator[list[str]]:
    """What follows `fflab` where it is what is run, by a shell or within a container."""
    for place, word in enumerate(command):
        first = all(re.fullmatch(r"[A-Z_]+=.*", before) for before in command[:place])
        if word == "fflab" and (first or command[place - 1] in CONTAINERS):
            yield command[place + 1 :]
            return
