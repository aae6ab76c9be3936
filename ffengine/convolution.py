"""The theorems for a convolution, on given patches: a dense layer applied at every position.

Legend: N images, P positions, m inputs of a patch, C channels. x (N, P, m) are the patches, W
(C, m) the kernels, h = relu(x W^T) (N, P, C) the map. Lowering sum_i s_i ||h_i||^2 moves W along D
= -2 sum_i s_i sum_p h_ip x_ip^T. Sparsity has three readings, with the same margin on other
vectors v:

    position    v = h_kp, of each position by itself; n = C
    map         v = h_k, all positions and channels together; n = C P
    pooled      v = sum_p h_kp; n = C
    margin_k = <v, vdot> / ||v||_2^2  -  <[v > 0], vdot> / ||v||_1

The readings can differ in sign for the same step, so a figure always says which one it is of.
Everything is float64.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.infinite_width import infinite_width_checks

CHUNK_PAIRS = 2**22  # pairs of patches that are kept at once


class Readings(NamedTuple):
    """One figure for each reading of the sparsity of N images.

    **Attributes:**

    - `position`: (N, P); NaN where no channel is active at the position.
    - `map`: (N,); NaN where no channel is active at all.
    - `pooled`: (N,); likewise.
    """

    position: Tensor
    map: Tensor
    pooled: Tensor


def patches_of(images: Tensor, size: int, stride: int) -> Tensor:
    """Cut images into the patches that a convolution sees.

    **Arguments:**

    - `images`: (N, channels, height, width).
    - `size`: side of a patch.
    - `stride`: step from patch to patch.

    **Returns:**

    (N, P, m), a patch's inputs in the order of a kernel's weights.
    """
    return torch.nn.functional.unfold(images, size, stride=stride).mT.contiguous()


def convolution_margins(
    weight: Tensor, groups: Sequence[Tensor], s: Sequence[Tensor]
) -> list[Readings]:
    """Compute for each reading the rate of sparsity while sum_i s_i ||h_i||^2 is lowered.

    **Arguments:**

    - `weight`: W (C, m).
    - `groups`: patches (N_g, P, m) of the images of each group, such as positives and negatives.
    - `s`: the weights (N_g,) of the images: 1 for theorem 1, -1 and 1 for theorem 2.

    **Returns:**

    The margins of each group, in units of 1 / eta.

    **Source:**

    docs/theory.md, "Convolution".
    """
    W = weight.double()
    D = torch.zeros_like(W)
    for x, weights in zip(groups, s, strict=True):
        pull = (x.double() @ W.T).clamp_min_(0) * weights.double()[:, None, None]
        D.addmm_(pull.flatten(0, 1).T, x.double().flatten(0, 1), alpha=-2.0)
    return [_readings((x.double() @ W.T).clamp_min_(0), x.double() @ D.T) for x in groups]


def own_terms(weight: Tensor, patches: Tensor, s: Tensor) -> Readings:
    """Compute what each image's own share of the step adds to its margins.

    Of a dense layer it is 0 for squares; here the patches of an image push each other.

    **Arguments:**

    - `weight`: W (C, m).
    - `patches`: (N, P, m).
    - `s`: the weights (N,) of the images.

    **Returns:**

    The own terms, in the units of the margins.

    **Source:**

    docs/theory.md, "Convolution".
    """
    x = patches.double()
    h = (x @ weight.double().T).clamp_min_(0)
    return _readings(h, -2 * s.double()[:, None, None] * ((x @ x.mT) @ h))


def _readings(h: Tensor, zdot: Tensor) -> Readings:
    """Return the margins of maps (N, P, C) whose pre-activations move at the rates zdot."""
    hdot = zdot * (h > 0)
    return Readings(
        position=_margin(h, hdot),
        map=_margin(h.flatten(1), hdot.flatten(1)),
        pooled=_margin(h.sum(1), hdot.sum(1)),
    )


def _margin(v: Tensor, vdot: Tensor) -> Tensor:
    """Return the margin (...) of non-negative vectors (..., n); NaN where they are zero."""
    along_v, along_mask = (v * vdot).sum(-1), (vdot * (v > 0)).sum(-1)
    return along_v / v.square().sum(-1) - along_mask / v.sum(-1)


def limit_position_margins(groups: Sequence[Tensor], s: Sequence[Tensor]) -> list[Tensor]:
    """Compute the margins of each position for infinitely many channels, at initialisation.

    The patches of all images are the samples of a dense layer.

    **Arguments:**

    - `groups`: patches (N_g, P, m) of the images of each group.
    - `s`: the weights (N_g,) of the images.

    **Returns:**

    The margins (N_g, P) of each group; NaN for blank patches.

    **Source:**

    docs/theory.md, "Convolution".
    """
    checks = infinite_width_checks(
        [x.double().flatten(0, 1) for x in groups],
        [
            weights.double().repeat_interleave(x.shape[1])
            for x, weights in zip(groups, s, strict=True)
        ],
    )
    return [
        torch.where(check.dead, math.nan, check.margin).unflatten(0, x.shape[:2])
        for check, x in zip(checks, groups, strict=True)
    ]


def limit_map_margins(groups: Sequence[Tensor], s: Sequence[Tensor]) -> list[Tensor]:
    """Compute the margins of whole maps for infinitely many channels, at initialisation.

    With r the cosine of two patches and J(r) = sin(theta) + (pi - theta) r, margin_k = 2 sum_i s_i
    sum_pp' ||x_ip'||^2 r ( (1 + r)/2 ||x_kp|| / sum_p ||x_kp|| - J(r)/pi ||x_kp||^2 / sum_p
    ||x_kp||^2 ).

    **Arguments:**

    - `groups`: patches (N_g, P, m) of the images of each group.
    - `s`: the weights (N_g,) of the images.

    **Returns:**

    The margins (N_g,) of each group; NaN for blank images.

    **Source:**

    docs/theory.md, "Convolution".
    """
    sources = torch.cat([x.double().flatten(0, 1) for x in groups])
    weights = torch.cat(
        [w.double().repeat_interleave(x.shape[1]) for x, w in zip(groups, s, strict=True)]
    )
    return [
        torch.cat(
            [
                _map_margins(part, sources, weights)
                for part in x.double().split(max(1, CHUNK_PAIRS // (x.shape[1] * len(sources))))
            ]
        )
        for x in groups
    ]


def limit_own_terms(patches: Tensor, s: Tensor) -> Tensor:
    """Compute the own terms of whole maps for infinitely many channels, at initialisation.

    **Arguments:**

    - `patches`: (N, P, m).
    - `s`: the weights (N,) of the images.

    **Returns:**

    (N,); NaN for blank images.

    **Source:**

    docs/theory.md, "Convolution".
    """
    x = patches.double()
    return torch.cat(
        [
            _map_margins(image.unsqueeze(0), image, weight.expand(len(image)))
            for image, weight in zip(x, s.double(), strict=True)
        ]
    )


def _map_margins(targets: Tensor, sources: Tensor, weights: Tensor) -> Tensor:
    """Return the margins (N,) of maps (N, P, m) that patches (M, m) push with weights (M,)."""
    length, energy = _lengths(targets), weights * _lengths(sources).square()
    cosine = (_directions(targets) @ _directions(sources).T).clamp_(-1.0, 1.0)  # (N, P, M)
    theta = cosine.acos()
    arc = theta.sin() + (math.pi - theta) * cosine
    along_mask = (cosine * (1 + cosine) / 2) @ energy
    along_h = (cosine * arc / math.pi) @ energy
    by_length = (along_mask * length).sum(1) / length.sum(1)
    return 2 * (by_length - (along_h * length.square()).sum(1) / length.square().sum(1))


def _lengths(x: Tensor) -> Tensor:
    """Return the lengths (...) of vectors (..., m)."""
    lengths: Tensor = torch.linalg.vector_norm(x, dim=-1)
    return lengths


def _directions(x: Tensor) -> Tensor:
    """Return vectors (..., m) of length 1; blank ones stay."""
    length = _lengths(x)
    return x / torch.where(length > 0, length, 1.0).unsqueeze(-1)


def limit_map_sparsity(patches: Tensor) -> Tensor:
    """Compute Hoyer's S of whole maps for infinitely many channels, at initialisation.

    It is 1 - mean_p ||x_p|| / (sqrt(pi) rms_p ||x_p||): the more unlike the contrast of an image's
    patches, the sparser its map.

    **Arguments:**

    - `patches`: (N, P, m).

    **Returns:**

    S (N,); NaN for blank images.

    **Source:**

    docs/theory.md, "Convolution".
    """
    length = _lengths(patches.double())
    return 1 - length.mean(1) / (math.sqrt(math.pi) * length.square().mean(1).sqrt())
