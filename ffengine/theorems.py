"""Catalogue of the two sparsity theorems: their statement and the sign of each split's samples."""

from typing import Literal, NamedTuple

TheoremNumber = Literal[1, 2]


class Theorem(NamedTuple):
    """A sufficient and necessary first-order condition for every sample's sparsity to rise.

    `positive_sign` and `negative_sign` are s_i = dL/dG_i of the samples of each split (theory: T1,
    T2).
    `published`: arXiv 2311.05667, abstract: the condition holds for more than this share of the
    samples.
    """

    number: TheoremNumber
    statement: str
    positive_sign: float
    negative_sign: float
    needs_negatives: bool
    published: float


THEOREMS: dict[TheoremNumber, Theorem] = {
    1: Theorem(
        number=1,
        statement="Lowering the goodness of a whole batch raises the Hoyer sparsity of sample k if "
        "and only if its margin is above zero.",
        positive_sign=1.0,
        negative_sign=1.0,
        needs_negatives=False,
        published=0.9998,
    ),
    2: Theorem(
        number=2,
        statement="A step on G(negative) - G(positive) raises the Hoyer sparsity of sample k if "
        "and only if its margin is above zero.",
        positive_sign=-1.0,
        negative_sign=1.0,
        needs_negatives=True,
        published=0.5,
    ),
}
