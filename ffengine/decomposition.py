"""Who pushes: the margin of theorem 2 as a sum over the pairs of its batch, by their relation.

Legend: B pairs of a positive and its negative, which is the same image under another label; N = 2B
samples k, positives first; relu, goodness the sum of squares. Sample i adds to the margin of k

    exact            2 s_i <x_i, x_k> ( <h_i, mask_k> / ||h_k||_1  -  <h_i, h_k> / ||h_k||_2^2 )
    infinite width   2 s_i ||x_i||^2 cos(theta_ik) phi(theta_ik)

with s_i = -1 for positives and 1 for negatives, or s_i = dL/dG_i for another objective. The two
samples of a pair nearly cancel, so they are counted together.
"""

import typing
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.geometry import EDGE
from ffengine.infinite_width import limit_kernel
from ffengine.margins import HELD_BYTES
from ffengine.piece_sizes import piece
from ffengine.results import ActName, PushedSample, PushRow, Relation, Split

NOTHING = 1e-9  # pushes below this share of the margin's deviation are what rounding leaves of 0
BINS = 18  # of the angles of pairs
RELATIONS: tuple[Relation, ...] = typing.get_args(Relation)


class PairLabels(NamedTuple):
    """What B pairs show.

    **Attributes:**

    - `image`: (B,) int64, the class of the image.
    - `wrong`: (B,) int64, the label that the negative shows.
    """

    image: Tensor
    wrong: Tensor

    def relations(self) -> dict[Relation, Tensor]:
        """Return for each relation which pairs (N, B) stand in it to sample k."""
        image, shown = torch.cat([self.image] * 2), torch.cat([self.image, self.wrong])  # of k
        own = torch.eye(len(self.image), dtype=torch.bool, device=image.device).repeat(2, 1)
        same = (image.unsqueeze(1) == self.image) & ~own
        other = image.unsqueeze(1) != self.image
        label = (shown.unsqueeze(1) == self.image) | (shown.unsqueeze(1) == self.wrong)
        return {
            "own_pair": own,
            "same_class_label": same & label,
            "same_class": same & ~label,
            "other_class_label": other & label,
            "other_class": other & ~label,
        }


def exact_pushes(
    weight: Tensor, positive: Tensor, negative: Tensor, coefficients: Tensor | None = None
) -> Tensor:
    """Compute what each pair of a batch adds to the margin of each sample, at a layer's weights.

    **Arguments:**

    - `weight`: W (n, m).
    - `positive`, `negative`: (B, m) each; a row of both is a pair.
    - `coefficients`: s (N,), positives first; None: -1 for positives and 1 for negatives.

    **Returns:**

    (N, B) float64; rows of dead samples are 0, and each row sums to the margin.

    **Source:**

    docs/theory.md, "The exact condition".
    """
    x, weight = torch.cat([positive, negative]).double(), weight.double()
    with_mask, with_h = (x.new_zeros(len(x), len(x)) for _ in range(2))  # [k, i]
    l1, squares = x.new_zeros(len(x)), x.new_zeros(len(x))
    for rows in weight.split(max(1, piece(HELD_BYTES) // (8 * len(x)))):
        h = (x @ rows.T).clamp_min_(0)
        with_h.addmm_(h, h.T)
        with_mask.addmm_((h > 0).double(), h.T)
        l1 += h.sum(1)
        squares += h.square().sum(1)
    live = l1 > 0
    with_mask /= torch.where(live, l1, 1.0).unsqueeze(1)
    with_h /= torch.where(live, squares, 1.0).unsqueeze(1)
    return _by_pair(2 * (x @ x.T) * (with_mask - with_h), coefficients)


def limit_pushes(positive: Tensor, negative: Tensor) -> Tensor:
    """Compute what each pair of a batch adds to the margin of each sample, at infinite width.

    **Arguments:**

    - `positive`, `negative`: (B, m) each; a row of both is a pair.

    **Returns:**

    (N, B) float64; rows of samples of length 0 are 0, and each row sums to the margin.

    **Source:**

    docs/theory.md, "Infinite width".
    """
    x = torch.cat([positive, negative]).double()
    length = torch.linalg.vector_norm(x, dim=-1)
    unit = x / torch.where(length > 0, length, 1.0).unsqueeze(1)
    kernel = limit_kernel((unit @ unit.T).clamp_(-1.0, 1.0))
    pushes = _by_pair(2 * kernel * length.square())
    return pushes.masked_fill_((length == 0).unsqueeze(1), 0)


def _by_pair(pushes: Tensor, coefficients: Tensor | None = None) -> Tensor:
    """Return the pushes (N, B) of pairs from those (N, N) of samples with s = 1."""
    if coefficients is not None:
        pushes = pushes * coefficients.double()
    of_positive, of_negative = pushes.chunk(2, dim=1)
    return of_negative + of_positive if coefficients is not None else of_negative - of_positive


def pair_angles(positive: Tensor, negative: Tensor) -> Tensor:
    """Compute the angle between each sample of a batch and the mean of each pair.

    **Arguments:**

    - `positive`, `negative`: (B, m) each; a row of both is a pair.

    **Returns:**

    (N, B) float64 in degrees, positives first; 90 where a length is 0.
    """
    x = torch.cat([positive, negative]).double()
    mean = (positive.double() + negative.double()) / 2
    lengths = torch.linalg.vector_norm(x, dim=-1), torch.linalg.vector_norm(mean, dim=-1)
    unit, axis = (
        of / torch.where(length > 0, length, 1.0).unsqueeze(1)
        for of, length in zip((x, mean), lengths, strict=True)
    )
    return torch.rad2deg(torch.acos((unit @ axis.T).clamp_(-1.0, 1.0)))


class Moment(NamedTuple):
    """When in a training run a batch is decomposed.

    **Attributes:**

    - `tau`: flow time.
    - `acts`: the act of each split.
    """

    tau: float | None
    acts: Mapping[Split, ActName | None]


def push_rows(
    pushes: Tensor,
    labels: PairLabels,
    angles: Tensor,
    *,
    seed: int,
    width: int,
    layer: int,
    epoch: int,
    method: typing.Literal["exact", "infinite_width"],
    moment: Moment | None = None,
) -> tuple[PushRow, ...]:
    """Sum the pushes of a batch by the relation of pair and sample, for each split.

    **Arguments:**

    - `pushes`: (N, B), see `exact_pushes` and `limit_pushes`.
    - `labels`: of the B pairs.
    - `angles`: (N, B), see `pair_angles`.
    - `seed`, `width`, `layer`, `epoch`, `method`: copied into the rows.
    - `moment`: flow time and acts; None in a check.

    **Returns:**

    One row for each split and relation.

    **Source:**

    docs/theory.md, "Geometry".
    """
    rows: list[PushRow] = []
    relations = labels.relations()
    bins = (angles / 180 * BINS + EDGE).long().clamp_(0, BINS - 1)
    for split, samples in halves(len(labels.image)):
        live = pushes[samples].abs().sum(1) > 0
        of_split = pushes[samples][live]
        margin = of_split.sum(1)
        spread = float(margin.std(correction=0)) if len(margin) else 0.0
        for relation in RELATIONS:
            related = relations[relation][samples][live]
            part = (of_split * related).sum(1)
            some = part.abs() > NOTHING * spread
            count = int(some.sum())
            agree = int(((part > 0) == (margin > 0))[some].sum())
            of_bin = bins[samples][live][related]
            sums = torch.bincount(of_bin, weights=of_split[related], minlength=BINS)
            rows.append(
                PushRow(
                    seed=seed,
                    width=width,
                    layer=layer,
                    epoch=epoch,
                    method=method,
                    split=split,
                    relation=relation,
                    samples=len(margin),
                    pairs=int(related.sum()),
                    push=float(part.mean()) / spread if spread else None,
                    agreement=agree / count if count else None,
                    margin=float(margin.mean()) if len(margin) else None,
                    margin_deviation=spread,
                    by_angle=(sums / len(margin) / spread).tolist() if spread else (),
                    pairs_by_angle=torch.bincount(of_bin, minlength=BINS).tolist(),
                    tau=moment.tau if moment else None,
                    act=moment.acts.get(split) if moment else None,
                )
            )
    return tuple(rows)


def halves(pairs: int) -> tuple[tuple[Split, slice], ...]:
    """Return where the samples of each split are among N = 2B.

    **Arguments:**

    - `pairs`: B.

    **Returns:**

    Split and slice, positives first.
    """
    return ("positive", slice(pairs)), ("negative", slice(pairs, None))


class Decomposition(NamedTuple):
    """What the decomposition found so far in a run.

    **Attributes:**

    - `rows`: who pushes.
    - `most_pushed`: the samples with the most negative margins.
    """

    rows: tuple[PushRow, ...] = ()
    most_pushed: tuple[PushedSample, ...] = ()

    def and_then(self, other: "Decomposition") -> "Decomposition":
        """Return both, this one first.

        **Arguments:**

        - `other`: what was found later.

        **Returns:**

        The decomposition of both.
        """
        return Decomposition(self.rows + other.rows, self.most_pushed + other.most_pushed)


NOTHING_DECOMPOSED = Decomposition()
