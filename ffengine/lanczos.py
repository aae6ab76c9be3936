"""The largest eigenvalue of a large symmetric matrix, by the Lanczos method, without torch."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
RESIDUAL_WITHIN = 1e-6  # of an eigenvalue: its error is at most that, mostly the square of it


def largest_eigenvalue(
    times: Callable[[Matrix], Matrix], size: int, *, within: float = RESIDUAL_WITHIN
) -> float:
    """Compute the largest eigenvalue of a symmetric matrix A with eigenvalues from 0 on.

    Several eigenvalues may lie close together, or the start may be almost an eigenvector of a
    smaller one: the bound of the residual, not a standstill, says when the figure is found.

    **Arguments:**

    - `times`: A v (m,) for a vector v (m,), in memory that may be overwritten.
    - `size`: m, at least 1.
    - `within`: the bound of the residual, over the eigenvalue.

    **Returns:**

    The eigenvalue, at least 0. Some eigenvalue is nearer than `within` times it, and mostly the
    largest is nearer by far.

    **Source:**

    G. Golub and C. Van Loan, Matrix Computations, section 10.1.
    """
    start = np.random.default_rng(0).normal(size=size)
    basis = [start / np.linalg.norm(start)]
    alphas, betas = list[float](), list[float]()
    while True:
        moved = times(basis[-1])
        alphas.append(float(basis[-1] @ moved))
        known = np.stack(basis)
        for _ in range(2):  # once leaves rounding errors that grow
            moved -= known.T @ (known @ moved)
        beta = float(np.linalg.norm(moved))
        tridiagonal = np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1)
        values, vectors = np.linalg.eigh(tridiagonal)
        if beta * abs(vectors[-1, -1]) <= within * values[-1] or len(basis) == size:
            return float(max(values[-1], 0.0))
        betas.append(beta)
        basis.append(moved / beta)
