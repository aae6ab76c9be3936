"""The documentation's pages and their code blocks, as the tests read them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
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
            Block(page, line, language, title and title[1], reason and reason[1], re.sub(f"^{indent}", "", content, flags=re.MULTILINE))
        )
    return found


def titled(page: str) -> dict[str, str]:
    """The texts of a page's blocks that have a title."""
    return {block.title: block.text for block in blocks(ROOT / page) if block.title}
