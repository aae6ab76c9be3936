"""The symbols in sentences of findings and results, each with its meaning and its place in the
glossary of the documentation.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Symbol(NamedTuple):
    """A symbol: as sentences write it, as formulas do, what it is, and its anchor in the glossary,
    "" where the glossary does not have it.

    beside: another symbol, without which the letter stands for something else.
    """

    written: str
    formula: str
    meaning: str
    anchor: str = ""
    beside: str = ""

    @property
    def label(self) -> str:
        """The symbol in both ways of writing it."""
        both = (self.written, self.formula)
        return " or ".join(dict.fromkeys(both))


# no part of another word or symbol: the S of "SGD" and the tau of "tau*" are none of their own
_ALONE = r"(?<![\w*^]){}(?![\w*^]|-\w)"
SYMBOLS = (
    Symbol(
        "S",
        "S",
        "Hoyer's sparsity of a sample's activations: 0 if all units are equally active, 1 if a "
        "single one is",
        "sparsity",
    ),
    Symbol("C", "C", "the sparsity without the factor of the width, 1 - √p κ", "c"),
    Symbol("p", "p", "the share of units that are active on a sample", "active-share"),
    Symbol(
        "kappa",
        "κ",
        "how even the active units are: the cosine between a sample's activations and a vector "
        "with 1 for each active unit; 1 if all are equal",
        "evenness",
    ),
    Symbol(
        "kappa_G",
        "κ_G",
        "κ of normally distributed pre-activations with the same share of active units; κ - κ_G "
        "is negative where units are selected",
        "kappa-gap",
    ),
    Symbol("G", "G", "goodness: how strongly a layer reacts to a sample", "goodness"),
    Symbol("n", "n", "the width: how many units a layer has", "width"),
    Symbol("eta", "η", "the step size", "step-size"),
    Symbol("B", "B", "the batch size"),
    Symbol("tau", "τ", "flow time: the step size times the number of steps", "flow-time"),
    Symbol("tau*", "τ*", "the turn: the flow time at which S is lowest", "turn"),
    Symbol(
        "lambda_1",
        "λ₁",
        "how fast a layer may grow at first, from the class means of the data: the largest "
        "eigenvalue of the difference of second moments of positives and negatives",
        "lambda1",
    ),
    Symbol(
        "q",
        "q",
        "beside λ₁ the overlap of masks: how likely a unit with random weights that is active on "
        "one sample is active on another",
        "overlap",
        beside="lambda_1",
    ),
    Symbol(
        "U",
        "U",
        "potential: the mean push of a set of samples on another one, in the limit of infinite "
        "width",
        "force",
    ),
)


def symbols_in(texts: Iterable[str]) -> list[Symbol]:
    """The symbols that occur in some texts, which belong together."""
    text = " ".join(texts)
    found = {symbol.written: symbol for symbol in SYMBOLS if _occurs(symbol, text)}
    return [one for one in found.values() if not one.beside or one.beside in found]


def _occurs(symbol: Symbol, text: str) -> bool:
    forms = {symbol.written, symbol.formula}
    return any(re.search(_ALONE.format(re.escape(form)), text) for form in forms)
