"""`python -m benchmarks.recipes NAME [--epochs N] [--device D]`: run a published recipe, and lay
its figures beside the published ones.

Every run leaves docs/recipes/NAME.json; without a name, docs/recipes.md is written anew from these
files.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import ffengine
from ffengine.arrays import DatasetError
from ffengine.interrupts import Control
from ffengine.presets import HINTON, LOEWE, MPEZESHKI, SWISH, TOSATO
from ffengine.results import AccuracyRow, TrainResult
from ffengine.spec import TrainSpec
from ffengine.training import EpochReport

FOLDER = Path(__file__).parents[1] / "docs" / "recipes"
PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
BEGIN, END = "<!-- measured -->", "<!-- end -->"


class Recipe(NamedTuple):
    """A published setting, and the figure that its authors report."""

    spec: TrainSpec
    method: str  # the rows of the result that answer the published figure
    layers: tuple[int, ...]
    published: float  # accuracy on the 10 000 test images
    source: str

    def answer(self, result: TrainResult) -> AccuracyRow:
        """The row that stands beside the published figure."""
        return next(
            row
            for row in result.accuracy
            if (row.method, row.layers, row.partition) == (self.method, self.layers, "test")
        )


WIDE_SWISH = SWISH.model_copy(
    update={"network": SWISH.network.model_copy(update={"widths": (2_000, 2_000)})}
)
RECIPES = {
    "hinton": Recipe(
        HINTON, "goodness", (1, 2, 3), 0.9864, "G. Hinton, arXiv 2212.13345, section 3.3"
    ),
    "loewe": Recipe(LOEWE, "linear", (1, 2), 0.9855, "S. Löwe, github.com/loeweX/Forward-Forward"),
    "mpezeshki": Recipe(
        MPEZESHKI,
        "goodness",
        (0, 1),
        0.9316,
        "M. Pezeshki, github.com/mpezeshki/pytorch_forward_forward",
    ),
    "swish-500": Recipe(SWISH, "goodness", (0, 1), 0.9835, "swish loss, 2 x 500"),
    "swish-2000": Recipe(WIDE_SWISH, "goodness", (0, 1), 0.9865, "swish loss, 2 x 2000"),
    "tosato": Recipe(TOSATO, "softmax", (0, 1, 2), 0.9345, "N. Tosato et al., arXiv 2305.18353"),
}


def main() -> None:
    """Run what is asked for, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description=__doc__)
    parser.add_argument(
        "name",
        nargs="*",
        metavar="NAME",
        help=f"run these, one after the other: {', '.join(RECIPES)}",
    )
    parser.add_argument(
        "--epochs", type=int, help="shorten to so many epochs, the schedule with them"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if unknown := set(asked.name) - set(RECIPES):
        parser.error(f"{', '.join(sorted(unknown))}: choose among {', '.join(RECIPES)}")
    for name in asked.name:
        try:
            run(name, RECIPES[name], asked.epochs, asked.device, asked.seed)
        except DatasetError as error:
            parser.error(str(error))
    if not asked.name:
        text = PAGE.read_text()
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{sections()}\n{END}{rest.split(END)[1]}")


def run(name: str, recipe: Recipe, epochs: int | None, device: str, seed: int) -> None:
    """Train, print one JSON line, keep the whole result."""
    spec = recipe.spec.model_copy(update={"seeds": (seed,), "epochs": epochs or recipe.spec.epochs})
    result = ffengine.train(spec, device=device, on_epoch=print_progress)
    row = recipe.answer(result)
    seconds = sum(result.provenance.wall_seconds.values())
    figures = {
        "recipe": name,
        "accuracy": row.accuracy,
        "published": recipe.published,
        "epochs": spec.epochs,
        "of": recipe.spec.epochs,
    }
    figures |= {
        "method": row.method,
        "layers": row.layers,
        "seconds": round(seconds, 1),
        "threads": result.provenance.threads,
    }
    figures |= {
        "sparsity_correct": [
            measure.sparsity_correct for measure in result.measures if measure.partition == "test"
        ]
    }
    figures |= {"final_loss": fmean(curve.loss or 0.0 for curve in result.curves[-2:])}
    print(json.dumps(figures), flush=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    file(name).write_text(result.model_dump_json(indent=1) + "\n")


def sections() -> str:
    """The table of all runs, and for each of them its other ways to classify and its layers."""
    runs = {
        name: TrainResult.model_validate_json(file(name).read_text())
        for name in RECIPES
        if file(name).is_file()
    }
    lines = [
        "| recipe | epochs | read off by | test accuracy | published | wall time | command |",
        "|---|---:|---|---:|---:|---:|---|",
    ]
    for name, result in runs.items():
        row, recipe = RECIPES[name].answer(result), RECIPES[name]
        epochs = (
            f"{row.epoch} of {recipe.spec.epochs}"
            if row.epoch < recipe.spec.epochs
            else f"{row.epoch}"
        )
        minutes, threads = (
            sum(result.provenance.wall_seconds.values()) / 60,
            result.provenance.threads,
        )
        short = f" --epochs {row.epoch}" if row.epoch < recipe.spec.epochs else ""
        lines.append(
            f"| {name} | {epochs} | {way(row)} | {row.accuracy:.4f} | {recipe.published:.4f} | "
            f"{minutes:.0f} min, "
            f"{threads} thread{'s' if threads > 1 else ''} | `python -m benchmarks.recipes "
            f"{name}{short}` |"
        )
    return "\n".join(
        [*lines, *(line for name, result in runs.items() for line in details(name, result))]
    )


def details(name: str, result: TrainResult) -> list[str]:
    """What else was measured of one run."""
    test = [row for row in result.accuracy if row.partition == "test"]
    measures = [row for row in result.measures if row.partition == "test"]
    lines = ["", f"### {name}", "", RECIPES[name].source + ".", ""]
    lines += [
        "Test accuracy: " + "; ".join(f"{way(row)} {row.accuracy:.4f}" for row in test) + ".",
        "",
    ]
    lines += [
        "| layer | S of correct test samples | S of all | zero share | AUC | dead units |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for row in measures:
        share = [
            f"{value:.3f}" if value is not None else ""
            for value in (row.sparsity_correct, row.sparsity, row.zero_fraction, row.auc)
        ]
        lines.append(f"| {row.layer} | {' | '.join(share)} | {row.dead_units} |")
    curve = [
        (row.epoch, row.layer, row.sparsity) for row in result.curves if row.split == "positive"
    ]
    last = max(layer for _, layer, _ in curve)
    points = [
        f"{epoch}: {sparsity:.3f}"
        for epoch, layer, sparsity in curve
        if layer == last and sparsity is not None
    ]
    lines += ["", f"S of positives in layer {last} by epoch: {', '.join(points)}.", ""]
    lines += [f"Findings: {', '.join(found.code for found in result.diagnostics) or 'none'}."]
    return lines


def way(row: AccuracyRow) -> str:
    """How a row's labels were found."""
    names = {
        "goodness": "goodness",
        "softmax": "softmax of goodness",
        "linear": "linear classifier",
    }
    return (
        f"{names[row.method]}, layer{'s' if len(row.layers) > 1 else ''} "
        f"{'+'.join(str(layer) for layer in row.layers)}"
    )


def print_progress(report: EpochReport) -> Control:
    """Print the progress on standard error."""
    print(report.message, file=sys.stderr, flush=True)
    return "run"


def file(name: str) -> Path:
    """Where the result of a recipe is kept."""
    return FOLDER / f"{name}.json"


if __name__ == "__main__":
    main()
