"""`python -m benchmarks.numerics`: the error of every theorem quantity in float32 against float64,
into docs/numerics.md and its chart.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import altair as alt
import torch
import vl_convert
from torch import Tensor

from ffengine.activations import ACTIVATIONS
from ffengine.infinite_width import infinite_width_theorem1, infinite_width_theorem2
from ffengine.margins import LayerSums, TheoremCheck, observe
from ffengine.monitor import paired
from ffengine.network import Network
from ffengine.random_streams import Draws
from ffengine.samples import load_samples
from ffengine.spec import NetworkSpec, TrainSpec

WIDTHS = (64, 256, 1024, 4096)
STEPS = (1e-4, 1e-3, 1e-2)
SAMPLES = 1_000  # positives and as many negatives, of mnist-mini, in one batch
PAGE = Path(__file__).parents[1] / "docs" / "numerics.md"
COLOURS = [
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#000000",
    "#D55E00",
    "#56B4E9",
]  # told apart by all (Okabe and Ito 2008)
BEGIN, END = "<!-- measured -->", "<!-- end -->"


class Row(NamedTuple):
    """What float32 makes of a quantity whose float64 value is taken as true; errors are over live
    samples.
    """

    quantity: str
    width: int | None
    step: float | None
    typical: float  # median of the true magnitude
    median_error: float
    largest_error: float
    within: float | None  # largest error over the bound that says `undecided`
    undecided: int | None
    wrong: int  # signs that are decided and wrong


def batch() -> tuple[Tensor, Tensor]:
    """Positives and negatives (N, m) as training sees them."""
    spec = TrainSpec.model_validate({"dataset": {"train_samples": SAMPLES}, "batch_size": SAMPLES})
    draws = Draws((0,), torch.device("cpu"))
    train = load_samples(spec.dataset, torch.device("cpu")).train
    x = paired(
        spec, train, torch.arange(SAMPLES).unsqueeze(0), draws, ("negatives", 0, 1, 0), None
    )[0]
    return x[:SAMPLES], x[SAMPLES:]


def verdicts(quantity: str, width: int | None, mine: TheoremCheck, true: TheoremCheck) -> Row:
    """Margins in float32 beside those in float64."""
    live = ~true.dead
    error = (mine.margin - true.margin).abs()[live]
    wrong = (mine.satisfied != (true.margin > 0)) & ~mine.undecided & live
    within = float((error / mine.rounding[live].clamp_min(1e-300)).max())
    return Row(
        quantity,
        width,
        None,
        float(true.margin.abs()[live].median()),
        float(error.median()),
        float(error.max()),
        within,
        int(mine.undecided.sum()),
        int(wrong.sum()),
    )


def changes(width: int, step: float, mine: LayerSums, true: LayerSums) -> Row:
    """The change of S in a trial step, from pre-activations in float32 and in float64."""
    error = (mine.change - true.change).abs()
    wrong = int(((mine.change > 0) != (true.change > 0)).sum())
    typical = float(true.change.abs().median())
    return Row(
        "observed change of S",
        width,
        step,
        typical,
        float(error.median()),
        float(error.max()),
        None,
        None,
        wrong,
    )


def rows() -> Iterator[Row]:
    """Every quantity, width and step."""
    positive, negative = batch()
    relu, both = ACTIVATIONS["relu"], (positive, negative)
    true_both = [x.double() for x in both]
    for width in WIDTHS:
        network = Network.initial(
            NetworkSpec(widths=(width,)),
            positive.shape[1],
            Draws((0,), torch.device("cpu")),
            torch.device("cpu"),
        )
        weight = network.weights[0][0]
        for names, signs, x, true_x in (
            (["theorem 1"], [1.0], [positive], [true_both[0]]),
            (["theorem 2, positive", "theorem 2, negative"], [-1.0, 1.0], list(both), true_both),
        ):
            found = zip(
                names,
                observe(weight, x, signs, relu),
                observe(weight.double(), true_x, signs, relu),
                strict=True,
            )
            yield from (
                verdicts(name, width, mine.check(), true.check()) for name, mine, true in found
            )
        for step in STEPS:
            mine = observe(weight, list(both), [-1.0, 1.0], relu, step=step)
            true = observe(weight.double(), true_both, [-1.0, 1.0], relu, step=step)
            yield changes(width, step, mine[0], true[0])
    yield verdicts(
        "infinite width, theorem 1",
        None,
        infinite_width_theorem1(positive),
        infinite_width_theorem1(true_both[0]),
    )
    pairs = zip(
        infinite_width_theorem2(positive, negative),
        infinite_width_theorem2(*true_both),
        strict=True,
    )
    yield from (
        verdicts(f"infinite width, theorem 2, {split}", None, *pair)
        for split, pair in zip(("positive", "negative"), pairs, strict=True)
    )


def table(found: list[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| quantity | width | step | typical size | median error | largest error | largest / "
        "bound | undecided | wrong signs |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found:
        cells = (
            row.quantity,
            row.width or "",
            f"{row.step:.0e}" if row.step else "",
            f"{row.typical:.2e}",
            f"{row.median_error:.1e}",
            f"{row.largest_error:.1e}",
            "" if row.within is None else f"{row.within:.2f}",
            "" if row.undecided is None else row.undecided,
            row.wrong,
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def chart(found: list[Row]) -> bytes:
    """Relative errors over the width, as PNG."""
    values = [
        {
            "quantity": row.quantity
            if row.step is None
            else f"{row.quantity}, step {row.step:.0e}",
            "width": row.width,
            "error": max(row.median_error / row.typical, 1e-16),
        }
        for row in found
        if row.width
    ]
    drawn = (
        alt.Chart(alt.InlineData(values=values), width=460, height=280)
        .mark_line(point=True)
        .encode(
            x=alt.X("width:Q", scale=alt.Scale(type="log", base=2), title="width n"),
            y=alt.Y(
                "error:Q",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format=".0e"),
                title="median error of float32 / median size",
            ),
            color=alt.Color("quantity:N", title=None, scale=alt.Scale(range=COLOURS)),
            shape=alt.Shape("quantity:N", legend=None),
        )
        .configure_legend(labelLimit=260)
    )
    return vl_convert.vegalite_to_png(drawn.to_json(), scale=2)


def main() -> None:
    """Measure, print JSON lines, and renew page and chart."""
    found = list(rows())
    for row in found:
        print(json.dumps(row._asdict()))
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table(found)}\n{END}{rest.split(END)[1]}")
    PAGE.with_suffix(".png").write_bytes(chart(found))


if __name__ == "__main__":
    main()
