"""Catalogue of the two sparsity theorems: statement, and the sign of each split's samples."""

from typing import Literal, NamedTuple

TheoremNumber = Literal[1, 2]
Direction = Literal["training_step", "goodness_difference"]

# Along which step of the weights a figure of theorem 2 is measured. The two differ wherever a job
# trains with another objective or optimiser than the theorem is about.
DIRECTIONS: dict[Direction, str] = {
    "training_step": "along the training step",
    "goodness_difference": "along the step on G(negative) - G(positive)",
}
# Rows of a training run have figures along two steps more.
RowDirection = Direction | Literal["expected_difference", "joint_step"]
ROW_DIRECTIONS: dict[RowDirection, str] = {
    "training_step": DIRECTIONS["training_step"],
    "goodness_difference": DIRECTIONS["goodness_difference"],
    "expected_difference": "along the step on G(negative) - G(positive), averaged over all wrong "
    "labels",
    "joint_step": "along the joint step of all layers",
}
FIGURE_DIRECTIONS: dict[str, RowDirection] = {
    "theorem2_ratio": "training_step",
    "theorem2_sd": "training_step",
    "theorem2_margin": "training_step",
    "theorem2_position_ratio": "training_step",
    "theorem2_pooled_ratio": "training_step",
    "observed_increase_ratio": "training_step",
    "agreement": "training_step",
    "theorem2_difference_ratio": "goodness_difference",
    "theorem2_expected_ratio": "expected_difference",
    "theorem2_total_ratio": "joint_step",
    "joint_increase_ratio": "joint_step",
    "total_agreement": "joint_step",
    "local_agreement": "joint_step",
}


class Theorem(NamedTuple):
    """A necessary and sufficient first-order condition for the sparsity of each sample to rise.

    **Attributes:**

    - `number`: 1 or 2.
    - `statement`: one sentence for the catalogue.
    - `positive_sign`, `negative_sign`: s_i = dL/dG_i of the samples of each split.
    - `needs_negatives`: whether the batch has two splits.
    - `published`: the condition holds for more than this share of the samples. The figure is
      attributed to arXiv 2311.05667, whose abstract has none and whose text was not at hand
      (docs/referees.md).

    **Source:**

    arXiv 2311.05667; docs/theory.md, "The exact condition".
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
