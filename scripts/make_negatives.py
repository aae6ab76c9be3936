"""Draw what every negative strategy makes of the same digits, for the catalogue's page.

    python scripts/make_negatives.py

Above, one mnist-mini sample of each class as a positive; below, its negative. The label is the
one-hot in the first ten pixels. Strategies that ask the network ask one of 64 units as it is at
initialisation, seed 0.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ffengine.entry import entries, name_of
from ffengine.negatives import AnyNegatives, Negatives, NoNegatives, Positives
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import SumSquares
from ffengine.random_streams import Draws
from ffengine.samples import Samples, load_samples
from ffengine.spec import DatasetSpec, NetworkSpec

FOLDER = Path(__file__).parents[1] / "service" / "web" / "dashboard" / "static"
CPU, DRAWS = torch.device("cpu"), Draws((0,))
SCALE, GAP = 2, 4  # of a pixel; between the pictures


def main() -> None:
    """One picture a strategy."""
    samples = load_samples(DatasetSpec(), CPU).train
    index = torch.stack(
        [(samples.labels == label).nonzero()[0, 0] for label in range(samples.classes)]
    ).unsqueeze(0)  # (1, C)
    for entry in entries(AnyNegatives):
        pairs = pairs_of(entry(), samples, index)
        drawing(pairs, samples.shape).save(
            FOLDER / f"negatives-{name_of(entry, 'strategy')}.png", optimize=True
        )


def pairs_of(strategy: Negatives, samples: Samples, index: torch.Tensor) -> torch.Tensor:
    """Positives and negatives (2, C, m) of the samples of an index (1, C)."""
    network = Network.initial(NetworkSpec(widths=(64,)), samples.plain.shape[-1], DRAWS, CPU)
    x = strategy.positive(samples.positives(labelled=strategy.labelled)[index])
    if isinstance(strategy, NoNegatives):
        return torch.cat([x, torch.zeros_like(x)])
    negative = strategy(
        Positives(
            x,
            index,
            samples,
            DRAWS.at("negatives"),
            SummedGoodness(network, SumSquares(), (0,), samples.patterns),
        )
    )
    return torch.cat([x, negative])


def drawing(pairs: torch.Tensor, shape: tuple[int, int, int]) -> Image.Image:
    """The pairs (2, C, m) of grey images, one above the other."""
    _, height, width = shape
    grey = (
        ((pairs / pairs[0].max()).clamp(0, 1) * 255)
        .to(torch.uint8)
        .numpy()
        .reshape(*pairs.shape[:2], height, width)
    )
    tiles = np.pad(grey.repeat(SCALE, -1).repeat(SCALE, -2), ((0, 0), (0, 0), (0, GAP), (0, GAP)))
    return Image.fromarray(
        tiles.transpose(0, 2, 1, 3).reshape(tiles.shape[0] * tiles.shape[2], -1)[:-GAP, :-GAP]
    )


if __name__ == "__main__":
    main()
