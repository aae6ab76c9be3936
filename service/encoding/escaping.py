"""How a text that a user chose is written where it is shown: one function for each place.

What is stored today has visible characters only (ffengine.text). A home may hold texts that an
earlier version accepted, and a visible text may still be a tag of HTML or a formula of a
spreadsheet. So a text is escaped where it is written, whatever was checked where it came in.
"""

import html
import json
import re
import unicodedata
from urllib.parse import quote

from pydantic import JsonValue

from ffengine.text import all_visible, escaped, shortened, visible

# characters that end a script, or a line of it, and so may not stand in JSON within a script
SCRIPT = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
# a cell that begins with one of these is a formula, in some programs also in their wide forms
FORMULA = re.compile("[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
LONGEST_IN_FILE_NAME = 40
LONGEST_LOG_LINE = 2_000


def for_html(text: str) -> str:
    """Write a text for HTML, between tags or in a quoted attribute."""
    return html.escape(visible(text))


def for_page(page: str) -> str:
    """Write a page of HTML, whose template has escaped each text, without hidden characters."""
    return visible(page, keep="\n\t")


def for_drawing(document: JsonValue) -> str:
    """Write the specification of a chart as JSON that can be drawn as SVG and PNG.

    An SVG may not contain hidden characters, and the renderer ends its process where one does.
    """
    return json.dumps(all_visible(document), sort_keys=True)


def for_script(document: str) -> str:
    """Write a JSON document for a script that stands in HTML."""
    return document.translate(SCRIPT)


def for_csv(value: object) -> object:
    """Write a cell of a table so that no spreadsheet takes a text for a formula.

    A text that would be one gets an apostrophe in front. Numbers stay as they are.
    """
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if FORMULA.match(value) else visible(value)


def for_terminal(text: str, keep: str = "") -> str:
    """Write a text for a terminal: what it would obey is shown as an escape, such as `\\x1b`."""
    return escaped(text, keep)


def for_log(text: str, longest: int = LONGEST_LOG_LINE) -> str:
    """Write a text for one line of a log: escaped, and cut where it is long."""
    return shortened(escaped(shortened(text, longest)), longest)


def for_file_name(text: str) -> str:
    """Write a text as a part of a file's name: letters and digits of any script, and dashes."""
    plain = unicodedata.normalize("NFC", visible(text).casefold())
    letters = "".join(one if unicodedata.category(one)[0] in "LMN" else "-" for one in plain)
    return _dashed(letters)


def for_ascii_file_name(text: str) -> str:
    """Write a text as a part of a file's name that every file system takes."""
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    return _dashed(re.sub("[^a-z0-9]", "-", plain))


def _dashed(text: str) -> str:
    """Return a part of a file's name without dashes at its ends, and of a moderate length."""
    return re.sub("-+", "-", text).strip("-")[:LONGEST_IN_FILE_NAME].strip("-")


def for_header(disposition: str, ascii_name: str, name: str) -> str:
    """Write a file's name for Content-Disposition (RFC 6266).

    **Arguments:**

    - `disposition`: "inline" or "attachment".
    - `ascii_name`: the name for clients that know ASCII only.
    - `name`: the name for the others.

    **Returns:**

    The value of the header, in ASCII.
    """
    value = f'{disposition}; filename="{ascii_name}"'
    if name != ascii_name:
        value += f"; filename*=UTF-8''{quote(name, safe='')}"
    return value
