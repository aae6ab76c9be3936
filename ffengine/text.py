"""Text that people choose, such as names and tags: what may stand in it, and how text is shown that
may hold anything.

A name is drawn into charts, printed on terminals and put on pages. So it has only characters that
can be seen: no controls (a renderer or a terminal may obey them or end), nothing that turns the
direction of what follows, nothing without a meaning of its own.
"""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, JsonValue, ValidationInfo, WithJsonSchema

LONGEST = 200
REPLACEMENT = "\ufffd"
STORED = {
    "datasets": "elsewhere",
    "text": "stored",
}  # the validation context of what was accepted once: an earlier version took more
# letters of Persian and of Indian scripts, and emoji of several parts, are written with them
JOINERS = "\u200c\u200d"
BLANKS = frozenset(
    "\u115f\u1160\u2800\u3164\uffa0"
)  # letters and a pattern that are drawn as nothing
# the flags of England, Scotland and Wales: the only use of tag characters that can be seen
_FLAG = "\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
_UNSEEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})


def visible(text: str, keep: str = "") -> str:
    """The text with a mark in the place of every character that may not stand in a name, but for
    those to keep.
    """
    pattern = None if text.isprintable() and BLANKS.isdisjoint(text) else _unseen_in(text, keep)
    return pattern.sub(lambda found: found["flag"] or REPLACEMENT, text) if pattern else text


def all_visible(document: JsonValue) -> JsonValue:
    """A JSON document with all of its texts, names of fields too, as `visible` has them."""
    if isinstance(document, str):
        return visible(document)
    if isinstance(document, list):
        return [all_visible(inner) for inner in document]
    if isinstance(document, dict):
        return {visible(key): all_visible(inner) for key, inner in document.items()}
    return document


def refuse_unseen(text: str) -> None:
    """Raise ValueError, with the character and its place, where one may not stand in a name."""
    for found in (_unseen_in(text) or re.compile("(?!)")).finditer(text):
        if not found["flag"]:
            raise ValueError(
                f"character {found.start() + 1} is U+{ord(found[0]):04X}, which cannot be seen; "
                f"leave it out"
            )


def user_text(text: str, longest: int = LONGEST) -> str:
    """A name as it is kept. Raises ValueError where it is none."""
    refuse_unseen(text)
    text = composed(text)
    if all(character.isspace() or character in JOINERS for character in text):
        raise ValueError("should have at least 1 character that can be seen")
    if len(text) > longest:
        raise ValueError(f"should have at most {longest} characters, got {len(text)}")
    return text


def composed(text: str) -> str:
    """The text in Unicode's form NFC: two names that look the same are the same, whichever keyboard
    or file system they come from.
    """
    return unicodedata.normalize("NFC", text)


def _validated_text(text: str, info: ValidationInfo) -> str:
    return text if is_stored(info) else user_text(text)


def _validated_value(value: JsonValue, info: ValidationInfo) -> JsonValue:
    waiting: list[JsonValue] = [] if is_stored(info) else [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            refuse_unseen(here)
        elif isinstance(here, dict | list):
            waiting += [*here, *here.values()] if isinstance(here, dict) else here
    return value


def is_stored(info: ValidationInfo) -> bool:
    """Whether what is validated was accepted once, and is to be read whatever it holds."""
    return isinstance(info.context, dict) and info.context.get("text") == "stored"


UserText = Annotated[
    str,
    AfterValidator(_validated_text),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": LONGEST}),
]
SeenValue = Annotated[
    JsonValue, AfterValidator(_validated_value)
]  # any JSON whose texts can be seen


def _unseen_in(text: str, keep: str = "") -> re.Pattern[str] | None:
    """What finds the characters of the text that may not stand in a name; None where there are
    none.
    """
    found = "".join(
        sorted(
            character for character in set(text) if character not in keep and _is_unseen(character)
        )
    )
    return re.compile(f"(?P<flag>{_FLAG})|[{re.escape(found)}]") if found else None


def _is_unseen(character: str) -> bool:
    """Whether it shows nothing; what a later Unicode adds is taken as seen, unless it is set aside
    for what shows nothing.
    """
    kind = unicodedata.category(character)
    if character in BLANKS:
        return True
    return (kind in _UNSEEN and character not in JOINERS) or (
        kind == "Cn" and _is_unassigned_invisible(ord(character))
    )


def _is_unassigned_invisible(code: int) -> bool:
    noncharacter = code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF
    return noncharacter or code == 0x2065 or 0xFFF0 <= code <= 0xFFF8 or 0xE0000 <= code <= 0xE0FFF
