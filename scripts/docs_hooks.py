"""MkDocs hooks: reference pages are written by the program, and what only makes sense in the
repository is left out.
"""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from scripts.docs_reference import GENERATED  # noqa: E402 - the path above

MARK = re.compile(r"^<!-- generated: (\w+) -->\n(?:\*.*\*\n)?", re.MULTILINE)
NAMES = re.compile(r"^<!-- names -->\n.*?^<!-- end of names -->\n", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^( *```\w+(?: title=\"[^\"]*\")?) no-run: .*$", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\((?!https?:|mailto:|#)([^)#\s]+)[^)]*\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """The page with its generated parts, without markers for the tests and links out of the
    documentation.
    """
    folder = Path(page.file.abs_src_path).parent
    markdown = LINK.sub(
        lambda found: found[0] if is_page(folder / found[2]) else unlinked(found[1]), markdown
    )
    markdown = NAMES.sub("", FENCE.sub(r"\1", markdown))  # the generated part has more of them
    return MARK.sub(lambda found: GENERATED[found[1]](), markdown)


def is_page(target: Path) -> bool:
    """Whether a link leads to something that the site has; one that leads nowhere is left for
    MkDocs to refuse.
    """
    inside = target.resolve().is_relative_to(ROOT / "docs")
    return (inside and not target.is_dir()) or not target.exists()


def unlinked(text: str) -> str:
    """The text of a link to a file of the repository."""
    return text if "`" in text else f"`{text}`"
