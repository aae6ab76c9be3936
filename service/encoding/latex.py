"""A text in LaTeX: in ASCII alone, so that it compiles with every engine, class and encoding."""

import re
import unicodedata

from ffengine.text import visible

# [ and ]: optional arguments after \\; * after it, too. Quotes and < > are other signs in LaTeX's
# first fonts.
SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': "{''}",
    "`": "{}`{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "\n": " ",
    "\t": " ",
}
SIGNS = {
    "–": "--",
    "—": "---",
    "−": "$-$",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≠": r"$\neq$",
    "≈": r"$\approx$",
    "→": r"$\to$",
    "∞": r"$\infty$",
    "°": r"$^{\circ}$",
    "²": r"$^2$",
    "³": r"$^3$",
    "‖": r"$\|$",
    "µ": r"$\mu$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
    "§": r"\S{}",
    "\u00a0": "~",
    "\u2009": r"\,",
    "\u202f": r"\,",
}
ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}
SMALL_GREEK = (
    *("ALPHA", "BETA", "GAMMA", "DELTA", "EPSILON", "ZETA", "ETA", "THETA", "IOTA", "KAPPA"),
    *("LAMDA", "MU", "NU", "XI", "PI", "RHO", "SIGMA", "TAU", "UPSILON", "PHI", "CHI", "PSI"),
    "OMEGA",
)
CAPITAL_GREEK = (
    *("GAMMA", "DELTA", "THETA", "LAMDA", "XI", "PI", "SIGMA", "UPSILON"),
    *("PHI", "PSI", "OMEGA"),
)
UNICODE_SPELLING = {"lamda": "lambda", "Lamda": "Lambda"}
GREEK = {
    unicodedata.lookup(f"GREEK {size} LETTER {name}"): rf"$\{UNICODE_SPELLING.get(word, word)}$"
    for size, names in (("SMALL", SMALL_GREEK), ("CAPITAL", CAPITAL_GREEK))
    for name in names
    for word in [name.lower() if size == "SMALL" else name.title()]
}
LIGATURES = re.compile("([-',])(?=\\1)")  # in which a sign and its double are another sign

LONG_WORD = re.compile(r"\S{40,}")  # such as a digest: lines may end within it
PIECE = 8
MARKS = {"\0": "{}", "\1": r"\allowbreak{}"}  # no text has these after `visible`


def for_latex(text: str) -> str:
    """Write a text for LaTeX's text mode.

    Nothing of it is a command. Characters without a LaTeX form are shown by their code point.
    """
    composed = unicodedata.normalize("NFC", visible(text, "\n\t"))
    apart = LIGATURES.sub(r"\1\0", LONG_WORD.sub(lambda word: _broken(word[0]), composed))
    return "".join(map(_written, apart)).strip()


def _written(character: str) -> str:
    for known in (SPECIAL, SIGNS, GREEK):
        if character in known:
            return known[character]
    if character in MARKS:
        return MARKS[character]
    if character.isascii():
        return character if character.isprintable() else " "
    return _accented(character) or f"{{[}}U+{ord(character):04X}{{]}}"


def _broken(word: str) -> str:
    """Return a word with marks where a line may end."""
    return "\1".join(word[at : at + PIECE] for at in range(0, len(word), PIECE))


def _accented(character: str) -> str:
    """Return a letter with an accent; "" for any other character."""
    letter, *marks = list(unicodedata.normalize("NFD", character))
    if not letter.isascii() or len(marks) != 1 or marks[0] not in ACCENTS:
        return ""
    base = rf"\{letter}" if letter in "ij" and marks[0] != "\u0327" else letter
    return rf"{{\{ACCENTS[marks[0]]}{{{base}}}}}"
