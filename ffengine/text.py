"""Text that people choose, such as names and tags: which characters it may have, and safe display.

A name is drawn into charts, printed on terminals and put on pages. So it has visible characters
only: no controls, which a renderer or a terminal may obey or fail on, nothing that changes the
direction of the text after it, and nothing without a meaning of its own.

Every text that a user may send has one of the types of this module, and the JSON Schema says so by
`format`:

- UserText (VISIBLE): a text that is stored and shown, in Unicode's form NFC.
- NoteText (LINES): the same in several lines, for remarks.
- SearchText (SEARCHED): a text that is compared with stored ones, and never stored; FilterText
  is a longer one, in which several are compared.
- Token (TOKEN): a name that only programs read.
- StoredText (CHOSEN): a UserText of an answer. An earlier version may have stored it under other
  rules, so whoever shows it escapes it. service.encoding.escaping does so for each place.
"""

import re
import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue, ValidationInfo, WithJsonSchema

LONGEST = 200
LONGEST_TOKEN = 255
LONGEST_NOTE = 10_000
LONGEST_FILTER = 1_000
REPLACEMENT = "\ufffd"
VISIBLE, SEARCHED, TOKEN, CHOSEN = "visible-text", "search-text", "token", "user-text"
LINES = "visible-lines"
# The validation context of stored documents: earlier versions accepted more texts.
STORED = {
    "text": "stored",
}
# Persian, Indian scripts and emoji of several parts need these to join characters.
JOINERS = "\u200c\u200d"
# Letters and a Braille pattern that are drawn as nothing.
BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")
# The flags of England, Scotland and Wales: the only visible use of tag characters.
_FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def visible(text: str, keep: str = "") -> str:
    """Replace every character that may not stand in a name by a mark.

    **Arguments:**

    - `text`: any text.
    - `keep`: characters that stay.

    **Returns:**

    The text with REPLACEMENT in place of such characters.
    """
    pattern = None if text.isprintable() and BLANKS.isdisjoint(text) else _unseen_in(text, keep)
    return pattern.sub(lambda found: found["flag"] or REPLACEMENT, text) if pattern else text


def escaped(text: str, keep: str = "") -> str:
    """Write every character that may not stand in a name as Python's escape of it.

    **Arguments:**

    - `text`: any text.
    - `keep`: characters that stay.

    **Returns:**

    The text, with `\\x1b` in place of an escape character.
    """
    pattern = None if text.isprintable() and BLANKS.isdisjoint(text) else _unseen_in(text, keep)
    return pattern.sub(_escape, text) if pattern else text


def _escape(found: re.Match[str]) -> str:
    """Write one character as an escape; keep a flag."""
    return found["flag"] or found[0].encode("unicode_escape").decode()


def shortened(text: str, longest: int = LONGEST) -> str:
    """Cut a text that is too long.

    **Arguments:**

    - `text`: any text.
    - `longest`: the most characters.

    **Returns:**

    The text, or its beginning with an ellipsis.
    """
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def bytes_in_words(count: float) -> str:
    """Write a number of bytes in the unit in which people say it.

    **Arguments:**

    - `count`: the bytes.

    **Returns:**

    The words, such as `512 MiB`, `1.5 GiB` or `0 bytes`.
    """
    size = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if round(size) < 1024:
            return f"{size:.0f} {'byte' if unit == 'bytes' and round(size) == 1 else unit}"
        size /= 1024
    for unit in ("GiB", "TiB", "PiB"):
        if round(size, 1) < 1024:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} EiB"


def all_visible(document: JsonValue) -> JsonValue:
    """Apply `visible` to all texts of a JSON document, names of fields too.

    **Arguments:**

    - `document`: any JSON.

    **Returns:**

    A new document.
    """
    if isinstance(document, str):
        return visible(document)
    if isinstance(document, list | tuple):  # a tuple, too: a text that is missed ends a renderer
        return [all_visible(inner) for inner in document]
    if isinstance(document, dict):
        return {visible(key): all_visible(inner) for key, inner in document.items()}
    return document


def refuse_unseen(text: str, keep: str = "") -> None:
    """Raise ValueError where a text has a character that cannot be seen.

    **Arguments:**

    - `text`: any text.
    - `keep`: characters that are allowed all the same.

    **Raises:**

    - `ValueError`: there is such a character; the message has its code and its place.
    """
    for found in (_unseen_in(text, keep) or re.compile("(?!)")).finditer(text):
        if not found["flag"]:
            raise ValueError(
                f"character {found.start() + 1} is U+{ord(found[0]):04X}, which cannot be seen; "
                f"leave it out"
            )


def user_text(text: str, longest: int = LONGEST) -> str:
    """Return a name as it is stored.

    **Arguments:**

    - `text`: what the user chose.
    - `longest`: the most characters.

    **Returns:**

    The text in Unicode's form NFC.

    **Raises:**

    - `ValueError`: a character cannot be seen, no character can, or the text is too long.
    """
    refuse_unseen(text)
    text = composed(text)
    if all(character.isspace() or character in JOINERS for character in text):
        raise ValueError("should have at least 1 character that can be seen")
    if len(text) > longest:
        raise ValueError(f"should have at most {longest} characters, got {len(text)}")
    return text


def composed(text: str) -> str:
    """Return a text in Unicode's form NFC.

    Two names that look the same are then equal, whichever keyboard or file system they come from.

    **Arguments:**

    - `text`: any text.

    **Returns:**

    The composed text.
    """
    return unicodedata.normalize("NFC", text)


def _validated_text(text: str, info: ValidationInfo) -> str:
    """Validate a text of a new spec; keep that of a stored one."""
    return text if is_stored(info) else user_text(text)


def note_text(text: str) -> str:
    """Return a note as it is stored.

    **Arguments:**

    - `text`: what the user wrote, in any number of lines.

    **Returns:**

    The text in Unicode's form NFC, each line ended by one character, without the spaces around
    it; "" where nothing is left.

    **Raises:**

    - `ValueError`: a character cannot be seen, or the text is too long.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    refuse_unseen(lines, keep="\n\t")
    lines = composed(lines).strip()
    if len(lines) > LONGEST_NOTE:
        raise ValueError(f"should have at most {LONGEST_NOTE} characters, got {len(lines)}")
    return lines


def _validated_value(value: JsonValue, info: ValidationInfo) -> JsonValue:
    """Validate all texts of a JSON value of a new spec; keep those of a stored one."""
    waiting: list[JsonValue] = [] if is_stored(info) else [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            refuse_unseen(here)
        elif isinstance(here, dict | list):
            waiting += [*here, *here.values()] if isinstance(here, dict) else here
    return value


def is_stored(info: ValidationInfo) -> bool:
    """Whether the document being validated was accepted before, so that its texts are kept.

    **Arguments:**

    - `info`: pydantic's, with the validation context.

    **Returns:**

    True where the context says so.
    """
    return isinstance(info.context, dict) and info.context.get("text") == "stored"


def text_schema(longest: int, shortest: int = 1, kind: str = VISIBLE) -> dict[str, Any]:
    """Describe a text that users choose in JSON Schema.

    **Arguments:**

    - `longest`: the most characters.
    - `shortest`: the fewest.
    - `kind`: the format, which names the characters that it may have.

    **Returns:**

    The schema.
    """
    return {"type": "string", "minLength": shortest, "maxLength": longest, "format": kind}


def _searched(text: str, longest: int = LONGEST) -> str:
    """Validate a text that is compared only.

    It may have characters that UserText does not have: earlier versions stored names with them.
    """
    if found := _NEVER_STORED.search(text):
        raise ValueError(
            f"character {found.start() + 1} is U+{ord(found[0]):04X}, which no name has"
        )
    text = composed(text)
    if not 1 <= len(text) <= longest:
        raise ValueError(f"should have 1 to {longest} characters, got {len(text)}")
    return text


def _filter(text: str) -> str:
    """Validate a text in which several are compared."""
    return _searched(text, LONGEST_FILTER)


def _token(text: str) -> str:
    """Validate a name that only programs read."""
    if not _TOKEN.fullmatch(text):
        raise ValueError(f"should have 1 to {LONGEST_TOKEN} printable characters of Latin-1")
    return text


_NEVER_STORED = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_TOKEN = re.compile(f"[ -~\xa0-\xff]{{1,{LONGEST_TOKEN}}}")
UserText = Annotated[
    str, AfterValidator(_validated_text), WithJsonSchema(text_schema(LONGEST))
]  # what is stored and shown
SearchText = Annotated[
    str, AfterValidator(_searched), WithJsonSchema(text_schema(LONGEST, kind=SEARCHED))
]  # what is compared with it
FilterText = Annotated[
    str, AfterValidator(_filter), WithJsonSchema(text_schema(LONGEST_FILTER, kind=SEARCHED))
]  # several comparisons
NoteText = Annotated[
    str, AfterValidator(note_text), WithJsonSchema(text_schema(LONGEST_NOTE, 0, LINES))
]  # what is stored and shown in several lines
Token = Annotated[
    str, AfterValidator(_token), WithJsonSchema(text_schema(LONGEST_TOKEN, kind=TOKEN))
]  # what only programs read
StoredText = Annotated[
    str, WithJsonSchema({"type": "string", "format": CHOSEN})
]  # what was stored, maybe by an earlier version
SeenValue = Annotated[
    JsonValue, AfterValidator(_validated_value)
]  # any JSON whose texts can be seen


def _unseen_in(text: str, keep: str = "") -> re.Pattern[str] | None:
    """Return a pattern of the characters that may not stand in a name; None without any."""
    found = "".join(
        sorted(
            character for character in set(text) if character not in keep and _is_unseen(character)
        )
    )
    return re.compile(f"(?P<flag>{_FLAG})|[{re.escape(found)}]") if found else None


def _is_unseen(character: str) -> bool:
    """Whether a character shows nothing.

    A character that a later Unicode adds counts as seen, unless its block is reserved for
    characters that show nothing.
    """
    kind = unicodedata.category(character)
    if character in BLANKS:
        return True
    return (kind in _UNSEEN and character not in JOINERS) or (
        kind == "Cn" and _is_unassigned_invisible(ord(character))
    )


def _is_unassigned_invisible(code: int) -> bool:
    """Whether Unicode reserves an unassigned code for characters that show nothing."""
    noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return noncharacter or code == 0x2065 or 0xFFF0 <= code <= 0xFFF8 or 0xE0000 <= code <= 0xE0FFF
