"""The margins of single samples -> histograms: one file of them in memory at a time, whatever the
number of cells.

A margin is counted in units of the median |margin| of its cell, so that widths and seeds can lie
over each other; bins are equally wide on the symmetric logarithmic scale sign(u) log(1 + |u|),
which shows the bulk and the tails.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ffengine.margin_files import CellMargins, read_margins
from ffengine.results import CheckCell, Split
from ffengine.theorems import TheoremNumber
from service.artifacts import ArtifactDamaged, Artifacts, margins_name

REACH, BINS = 30.0, 120  # the outermost bins hold what is beyond
MOST_FILES = 64  # read for a picture: of each width, the first seeds

_PLACES = np.linspace(-np.log1p(REACH), np.log1p(REACH), BINS + 1)
_PLACES[BINS // 2] = 0.0
EDGES: npt.NDArray[np.float64] = np.sign(_PLACES) * np.expm1(np.abs(_PLACES))


class MarginHistogram(NamedTuple):
    """The margins of all seeds of one width, split and method; `left_out`: seeds that are kept and
    were not read.
    """

    theorem: TheoremNumber
    width: int
    split: Split
    method: Literal["exact", "infinite_width"]
    counts: tuple[int, ...]
    live: int
    satisfied: int
    seeds: int
    left_out: int


def cells_with_margins(
    cells: Iterable[CheckCell], artifacts: Artifacts, owner: str
) -> list[CheckCell]:
    """The cells whose margins are kept; `owner`: the id of the job that computed them."""
    names = set(artifacts.names(owner))
    return [cell for cell in cells if margins_name(cell.seed, cell.width) in names]


def margin_histograms(
    cells: Sequence[CheckCell], artifacts: Artifacts, owner: str
) -> list[MarginHistogram]:
    """A histogram for each width, split and method, in the order of the cells.

    What is damaged or gone meanwhile is left out.
    """
    files: dict[int, dict[int, list[CheckCell]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        files[cell.width][cell.seed].append(cell)
    most = max(1, MOST_FILES // max(1, len(files)))
    found: list[MarginHistogram] = []
    for of_width in itertools.islice(files.values(), MOST_FILES):
        seeds = list(of_width.values())
        read = (pair for one in seeds[:most] for pair in _read(one, artifacts, owner))
        found += _summed(read, left_out=len(seeds[most:]))
    return found


def _read(
    cells: Sequence[CheckCell], artifacts: Artifacts, owner: str
) -> Iterator[tuple[CheckCell, CellMargins]]:
    """The cells of one seed and width with their margins."""
    try:
        data = artifacts.get(owner, margins_name(cells[0].seed, cells[0].width))
    except (KeyError, ArtifactDamaged):
        return
    yield from zip(cells, read_margins(data, cells), strict=True)


def _summed(read: Iterable[tuple[CheckCell, CellMargins]], left_out: int) -> list[MarginHistogram]:
    sums: dict[tuple[Split, str], MarginHistogram] = {}
    for cell, margins in read:
        margin = margins.margin[~margins.dead]
        counts = counted(margin)
        one = MarginHistogram(
            cell.theorem,
            cell.width,
            cell.split,
            cell.method,
            counts,
            len(margin),
            int(margins.satisfied.sum()),
            1,
            left_out,
        )
        before = sums.get((cell.split, cell.method))
        sums[cell.split, cell.method] = one if before is None else _added(before, one)
    return list(sums.values())


def counted(margin: npt.NDArray[np.float64]) -> tuple[int, ...]:
    """The histogram (BINS,) of live samples' margins (N,) in units of their median |margin|."""
    if not len(margin):
        return (0,) * BINS
    scale = float(np.median(np.abs(margin))) or 1.0
    counts, _ = np.histogram(np.clip(margin / scale, EDGES[0], EDGES[-1]), EDGES)
    return tuple(counts.tolist())


def _added(a: MarginHistogram, b: MarginHistogram) -> MarginHistogram:
    counts = tuple(x + y for x, y in zip(a.counts, b.counts, strict=True))
    return a._replace(
        counts=counts,
        live=a.live + b.live,
        satisfied=a.satisfied + b.satisfied,
        seeds=a.seeds + b.seeds,
    )
