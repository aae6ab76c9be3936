"""Which samples of an upload form a partition: as many of each class as its share of all samples.

The order of a file says nothing: many are sorted by class. What is drawn depends on the arrays'
digest alone, so that the same arrays give the same partitions everywhere. docs/numerics.md states
the rule.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ffengine.arrays import Arrays, Labels

Counts = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Choice = slice | Indices  # of the samples of an array


def class_shares(counts: Sequence[int] | Counts, total: int) -> Counts:
    """Divide a partition among the classes, in proportion to how many samples each class has.

    **Arguments:**

    - `counts`: how many samples of each class there are.
    - `total`: how many samples are chosen; at most their sum.

    **Returns:**

    How many of each class are chosen: its exact share, rounded down or up. The largest remainders
    are rounded up, and of equal ones those of the first classes.
    """
    there = np.asarray(counts, dtype=np.int64)
    whole, rest = np.divmod(there * total, max(1, int(there.sum())))
    up = np.argsort(-rest, kind="stable")[: total - int(whole.sum())]
    whole[up] += 1
    return whole


def draw_partitions(labels: Labels, sizes: Sequence[int], digest: str) -> list[Indices]:
    """Draw partitions that share no sample, each with its share of every class.

    **Arguments:**

    - `labels`: (N,), of all samples.
    - `sizes`: of each partition; together at most N.
    - `digest`: of the arrays; another digest draws other samples.

    **Returns:**

    The positions of each partition's samples, in the order of the file. Each partition has the
    shares of what those before it leave.
    """
    generator = np.random.Generator(np.random.PCG64(int(digest[:32], 16)))
    by_class = np.split(np.argsort(labels, kind="stable"), np.bincount(labels).cumsum()[:-1])
    left = [generator.permutation(of_class) for of_class in by_class]
    partitions = []
    for size in sizes:
        taken = class_shares([len(of_class) for of_class in left], size)
        chosen = [of_class[:count] for of_class, count in zip(left, taken, strict=True)]
        left = [of_class[count:] for of_class, count in zip(left, taken, strict=True)]
        partitions.append(np.sort(np.concatenate(chosen)))
    return partitions


def chosen(
    arrays: Arrays,
    sizes: tuple[int, int, int],
    digest: str | None,
    without: Sequence[int] = (),
) -> tuple[Choice, Choice, Choice]:
    """Choose the samples of each partition.

    **Arguments:**

    - `arrays`: a data set.
    - `sizes`: how many samples are learnt from, held out, and tested.
    - `digest`: of the arrays of an upload; None: the first samples are taken, as of data sets of
      the catalogue.
    - `without`: classes of which no sample is learnt from or held out.

    **Returns:**

    Which samples are learnt from, which are held out of the same array, and which are tested.
    """
    train, validation, tested = sizes
    if without:
        kept = np.flatnonzero(~np.isin(arrays.y_train, without))
        fewer = arrays._replace(y_train=arrays.y_train[kept])
        learnt, held, some = chosen(fewer, sizes, digest)
        return kept[learnt], kept[held], some
    if digest is None:
        return slice(train), slice(train, train + validation), slice(tested)
    learnt, held = draw_partitions(arrays.y_train, (train, validation), digest)
    return learnt, held, draw_partitions(arrays.y_test, (tested,), digest)[0]
