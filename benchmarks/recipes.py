"""`python -m benchmarks.recipes NAME [--epochs N] [--device D]`: run a published recipe, and lay its figures beside the published ones.

Every run leaves docs/recipes/NAME.json; `python -m benchmarks.recipes --page` writes docs/recipes.md from these files.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import ffengine
from ffengine.control import Control
from ffengine.presets import HINTON, LOEWE, MPEZESHKI, SWISH, TOSATO
from ffengine.results import AccuracyRow, TrainResult
from ffengine.spec import TrainSpec
from ffengine.training import EpochReport

FOLDER = Path("docs") / "recipes"


class Recipe(NamedTuple):
    """A published setting, and the figure that its authors report."""

    spec: TrainSpec
    method: str  # the rows of the result that answer the published figure
    layers: tuple[int, ...]
    published: float  # accuracy on the 10 000 test images
    source: str

    def answer(self, result: TrainResult) -> AccuracyRow:
        """The row that stands beside the published figure."""
        return next(row for row in result.accuracy if (row.method, row.layers, row.partition) == (self.method, self.layers, "test"))


WIDE_SWISH = SWISH.model_copy(update={"network": SWISH.network.model_copy(update={"widths": (2_000, 2_000)})})
RECIPES = {
    "hinton": Recipe(HINTON, "goodness", (1, 2, 3), 0.9864, "G. Hinton, arXiv 2212.13345, section 3.3"),
    "loewe": Recipe(LOEWE, "linear", (1, 2), 0.9855, "S. Löwe, github.com/loeweX/Forward-Forward"),
    "mpezeshki": Recipe(MPEZESHKI, "goodness", (0, 1), 0.9316, "M. Pezeshki, github.com/mpezeshki/pytorch_forward_forward"),
    "swish-500": Recipe(SWISH, "goodness", (0, 1), 0.9835, "swish loss, 2 x 500"),
    "swish-2000": Recipe(WIDE_SWISH, "goodness", (0, 1), 0.9865, "swish loss, 2 x 2000"),
    "tosato": Recipe(TOSATO, "softmax", (0, 1, 2), 0.9345, "N. Tosato et al., arXiv 2305.18353"),
}


def main() -> None:
    """Run what is asked for, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument("name", nargs="+", choices=list(RECIPES), help="run these")
    parser.add_argument("--epochs", type=int, help="shorten to so many epochs, the schedule with them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for name in asked.name:
        run(name, RECIPES[name], asked.epochs, asked.device, asked.seed)


def run(name: str, recipe: Recipe, epochs: int | None, device: str, seed: int) -> None:
    """Train, print one JSON line, keep the whole result."""
    spec = recipe.spec.model_copy(update={"seeds": (seed,), "epochs": epochs or recipe.spec.epochs})
    result = ffengine.train(spec, device=device, on_epoch=told)
    row = recipe.answer(result)
    seconds = sum(result.provenance.wall_seconds.values())
    figures = {"recipe": name, "accuracy": row.accuracy, "published": recipe.published, "epochs": spec.epochs, "of": recipe.spec.epochs}
    figures |= {"method": row.method, "layers": row.layers, "seconds": round(seconds, 1), "threads": result.provenance.threads}
    figures |= {"sparsity_correct": [measure.sparsity_correct for measure in result.measures if measure.partition == "test"]}
    figures |= {"final_loss": fmean(curve.loss or 0.0 for curve in result.curves[-2:])}
    print(json.dumps(figures), flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    file(name).write_text(result.model_dump_json(indent=1) + "\n")


def told(report: EpochReport) -> Control:
    """Progress, on standard error."""
    print(report.message, file=sys.stderr, flush=True)
    return "run"


def file(name: str) -> Path:
    """Where the result of a recipe is kept."""
    return FOLDER / f"{name}.json"


if __name__ == "__main__":
    main()
