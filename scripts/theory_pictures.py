"""The pictures of docs/theory.md: python -m scripts.theory_pictures [NAME ...], some ten minutes on
two cores for all.

Everything is measured on mnist-mini, which is bundled. The pictures come as SVG, without the day or
the machine in them; the figures that the page quotes are printed beside their names.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import altair as alt
import numpy as np
import torch
import vl_convert

import ffengine
from ffengine.acts import few_basins
from ffengine.arrays import Arrays
from ffengine.checking import check
from ffengine.datasets import Datasets
from ffengine.infinite_width import limit_kernel
from ffengine.negatives import WrongLabel
from ffengine.spec import CheckSpec, TrainSpec
from scripts.theory_flow import Flow, Labelled, Moment
from scripts.theory_negatives import STRATEGIES, pair_of, potential

TARGET = Path(__file__).parents[1] / "docs" / "pictures"
BLUE, VERMILLION, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#666666"
SHADES = {"recruiting": "#F7E3B5", "selecting": "#CFE8DC", "condensed": "#E2DDEE"}
SEEDS = (0, 1, 2)
LONGEST = 10.0  # flow time that the acts are followed for
WIDE, HIGH = 460, 240
AnyChart = alt.LayerChart | alt.FacetChart | alt.VConcatChart | alt.HConcatChart
Rows = list[dict[str, str | float | None]]


def mini() -> Arrays:
    """The arrays of mnist-mini."""
    return Datasets.of_environment().load("mnist-mini")


def images(count: int, *, centred: bool = False) -> torch.Tensor:
    """The first images of mnist-mini in a fixed random order, (count, 784)."""
    pixels = mini().x_train.reshape(-1, 784).astype(np.float32) / 255
    chosen = np.random.default_rng(0).permutation(len(pixels))[:count]
    return torch.from_numpy(pixels[chosen] - (pixels.mean(0) if centred else 0))


def labelled(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positives and negatives: images whose first ten pixels are the one-hot of their label, or of
    a wrong one.
    """
    arrays, chosen = mini(), np.random.default_rng(0).permutation(6_000)[:count]
    y = torch.from_numpy(arrays.y_train[chosen].astype(np.int64))
    wrong = (y + torch.randint(1, 10, y.shape, generator=torch.Generator().manual_seed(0))) % 10
    positive, negative = images(count), images(count)
    for x, label in ((positive, y), (negative, wrong)):
        x[:, :10] = torch.nn.functional.one_hot(label, 10).float()
    return positive, negative


def weights(width: int, seed: int) -> torch.Tensor:
    """W (n, 784), iid N(0, 1/m)."""
    return torch.randn(width, 784, generator=torch.Generator().manual_seed(seed)) / math.sqrt(784)


def initial_sparsity() -> AnyChart:
    """S of a layer at random, by its width: 1 000 images, three seeds, and the formula."""
    x, rows = images(1_000), list[dict[str, str | float | None]]()
    for width in (16, 32, 64, 128, 256, 512, 1024, 2048):
        for seed in range(3):
            mean = float(ffengine.hoyer_sparsity(torch.relu(x @ weights(width, seed).T)).mean())
            rows.append({"width": width, "S": mean, "is": "measured"})
        rows.append(
            {
                "width": width,
                "S": (1 - 1 / math.sqrt(math.pi)) * math.sqrt(width) / (math.sqrt(width) - 1),
                "is": "formula",
            }
        )
    n = alt.X("width:Q", scale=alt.Scale(type="log", base=2), title="width n")
    s = alt.Y("S:Q", scale=alt.Scale(domain=[0.3, 0.65]), title="mean Hoyer sparsity S")
    colour = alt.Color(
        "is:N", scale=alt.Scale(domain=["measured", "formula"], range=[BLUE, ORANGE]), title=None
    )
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=n, y=s, color=colour)
    line = base.transform_filter("datum.is == 'formula'").mark_line()
    return sized(
        alt.layer(
            line, base.transform_filter("datum.is == 'measured'").mark_point(filled=True, size=30)
        )
    )


def kernel() -> alt.VConcatChart:
    """What a batch sample at an angle does to S of another, and which angles MNIST has."""
    angle = np.linspace(0, 180, 361)
    cosine = torch.from_numpy(np.cos(np.radians(angle))).clamp(-1, 1)
    curve = [
        {"angle": a, "push": p}
        for a, p in zip(angle.tolist(), limit_kernel(cosine.clone()).tolist(), strict=True)
    ]
    x = alt.X(
        "angle:Q",
        scale=alt.Scale(domain=[0, 180]),
        title=None,
        axis=alt.Axis(values=list(range(0, 181, 30))),
    )
    push = alt.Chart(alt.InlineData(values=curve)).mark_area(
        line={"color": BLUE}, color=BLUE, opacity=0.25
    )
    above = push.encode(x=x, y=alt.Y("push:Q", title="cos θ φ(θ)"))
    rows: Rows = []
    for name, x_all in (
        ("pixels / 255", images(1_500)),
        ("less their mean", images(1_500, centred=True)),
    ):
        unit = torch.nn.functional.normalize(x_all)
        cosines = (unit @ unit.T)[tuple(torch.triu_indices(1_500, 1_500, 1))].clamp(-1, 1)
        counts, edges = np.histogram(
            np.degrees(cosines.acos().numpy()), bins=90, range=(0, 180), density=True
        )
        rows += [
            {"angle": float(at) + 1, "density": float(count), "data": name}
            for at, count in zip(edges, counts, strict=False)
        ]
    colour = alt.Color(
        "data:N",
        scale=alt.Scale(domain=["pixels / 255", "less their mean"], range=[VERMILLION, GREEN]),
        title="angles of",
    )
    seen = (
        alt.Chart(alt.InlineData(values=rows))
        .mark_line()
        .encode(
            x=x.copy().title("angle θ between two samples, degrees"),
            y=alt.Y("density:Q", title="pairs, per degree"),
            color=colour,
        )
    )
    return alt.vconcat(
        above.properties(width=WIDE, height=150), seen.properties(width=WIDE, height=120)
    )


def finite_and_limit() -> AnyChart:
    """How often a layer of finite width and its limit agree about a sample: theorems 1 and 2, 1 000
    samples a side, three seeds.
    """
    positive, negative = labelled(1_000)
    limit1, limit2 = (
        ffengine.infinite_width_theorem1(positive),
        ffengine.infinite_width_theorem2(positive, negative),
    )
    rows: Rows = []
    for width in (64, 256, 1024, 4096):
        for seed in range(3):
            w = weights(width, seed)
            pairs = {
                "theorem 1": [(ffengine.theorem1(w, positive), limit1)],
                "theorem 2": list(
                    zip(ffengine.theorem2(w, positive, negative), limit2, strict=True)
                ),
            }
            for name, found in pairs.items():
                same = [(a.satisfied == b.satisfied).double().mean() for a, b in found]
                rows.append(
                    {
                        "width": width,
                        "theorem": name,
                        "figure": "share of same verdicts",
                        "share": float(torch.stack(same).mean()),
                    }
                )
                joined = torch.stack(
                    [torch.cat([pair[side].margin for pair in found]) for side in (0, 1)]
                )
                rows.append(
                    {
                        "width": width,
                        "theorem": name,
                        "figure": "correlation of margins",
                        "share": float(torch.corrcoef(joined)[0, 1]),
                    }
                )
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X("width:Q", scale=alt.Scale(type="log", base=2), title="width n"),
        color=alt.Color(
            "theorem:N",
            scale=alt.Scale(domain=["theorem 1", "theorem 2"], range=[BLUE, VERMILLION]),
            title=None,
        ),
        strokeDash=alt.StrokeDash(
            "figure:N",
            title=None,
            legend=alt.Legend(
                symbolType="stroke", symbolStrokeColor=GREY, symbolFillColor="transparent"
            ),
        ),
    )
    mean = base.mark_line().encode(
        y=alt.Y(
            "mean(share):Q", scale=alt.Scale(domain=[0, 1]), title="with the infinite-width limit"
        )
    )
    return sized(alt.layer(mean, base.mark_point(filled=True, opacity=0.6).encode(y="share:Q")))


def first_order() -> AnyChart:
    """Where first order stops: predicted and observed sign of the change of S, and flipped masks,
    by the size of one step.
    """
    rows: Rows = []
    for step in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1):
        spec = CheckSpec(
            theorem=2,
            widths=(500,),
            methods=("exact",),
            step=step,
            samples=1_000,
            negatives=WrongLabel(),
            seeds=(0, 1, 2),
        )
        for cell in check(spec).cells:
            rows.append(
                {"step": step, "share": cell.agreement, "is": "predicted sign is the observed one"}
            )
            rows.append(
                {"step": step, "share": cell.mask_flip_rate, "is": "masks that the step flips"}
            )
    names = ["predicted sign is the observed one", "masks that the step flips"]
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        x=alt.X(
            "step:Q",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(values=[1e-4, 1e-3, 1e-2, 1e-1]),
            title="size of the step, ||η D|| / ||W||",
        ),
        color=alt.Color(
            "is:N", scale=alt.Scale(domain=names, range=[BLUE, VERMILLION]), title=None
        ),
    )
    mean = base.mark_line().encode(
        y=alt.Y("mean(share):Q", scale=alt.Scale(domain=[0, 1]), title="share")
    )
    return sized(alt.layer(mean, base.mark_point(filled=True, opacity=0.5).encode(y="share:Q")))


def acts() -> alt.VConcatChart:
    """S, the share of active units and their evenness, and theorem 2 over flow time, without the
    noise of batches: all 6 000 images, 256 units, three seeds.
    """
    data, width = overlaid(), 256
    runs = {
        seed: list(Flow(data, width, seed).moments(step=0.1, until=LONGEST, every=2))
        for seed in SEEDS
    }
    turn = sum(crossing(run) for run in runs.values()) / len(runs)
    few = sum(first_condensed(run, width) for run in runs.values()) / len(runs)
    for moments in zip(*runs.values(), strict=True):
        print_means(moments)
    growth = data.leading_growth()
    print(
        f"lambda_1 {growth:.3f}, tau* {turn:.2f}, product {growth * turn:.2f}, "
        f"condensed from {few:.1f}"
    )
    shades: Rows = [
        {"act": act, "from": start, "to": end, "middle": (start + end) / 2}
        for act, start, end in (
            ("recruiting", 0.0, turn),
            ("selecting", turn, few),
            ("condensed", few, LONGEST),
        )
    ]
    rows: Rows = [
        {
            "tau": moment.tau,
            "split": name,
            "S": split.sparsity,
            "active": split.share_active,
            "evenness": split.evenness,
            "T2": split.holds,
        }
        for run in runs.values()
        for moment in run
        for name, split in moment.splits.items()
    ]
    panels = [
        ("S", (0.3, 0.55), "sparsity S"),
        ("active", (0.4, 1.0), "active share p"),
        ("evenness", (0.5, 0.9), "evenness \u03ba"),
        ("T2", (0.0, 1.0), "theorem 2 holds for"),
    ]
    return alt.vconcat(
        *(
            act_panel(rows, shades, *panel, first=panel is panels[0], last=panel is panels[-1])
            for panel in panels
        ),
        spacing=8,
    )


def act_panel(
    rows: Rows,
    shades: Rows,
    field: str,
    domain: tuple[float, float],
    title: str,
    *,
    first: bool,
    last: bool,
) -> AnyChart:
    """A quantity over flow time, on ground that is shaded by act; the first has the legends."""
    name = "flow time \u03c4 = step size \u00d7 number of steps" if last else None
    scale = alt.Scale(domain=[0, LONGEST], nice=False)
    axis = alt.Axis(grid=False, labels=last)
    x = alt.X("tau:Q", scale=scale, title=name, axis=axis)
    ground = alt.Chart(alt.InlineData(values=shades)).mark_rect()
    ground = ground.encode(
        x=alt.X("from:Q", scale=scale, title=name, axis=axis),
        x2="to:Q",
        color=alt.Color(
            "act:N",
            scale=alt.Scale(domain=list(SHADES), range=list(SHADES.values())),
            title="act",
            legend=alt.Legend(symbolType="square") if first else None,
        ),
    )
    across = alt.Scale(domain=domain, zero=False)
    colour = split_colour() if first else split_colour().legend(None)
    base = alt.Chart(alt.InlineData(values=rows)).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.25).encode(
        y=alt.Y(f"min({field}):Q", scale=across, title=title), y2=f"max({field}):Q"
    )
    line = base.mark_line().encode(y=alt.Y(f"mean({field}):Q", scale=across, title=title))
    return (
        alt.layer(ground, alt.layer(*([half()] if field == "T2" else []), band, line))
        .resolve_scale(color="independent")
        .properties(width=WIDE, height=96)
    )


def split_colour() -> alt.Color:
    """Positives blue, negatives vermillion."""
    return alt.Color(
        "split:N",
        scale=alt.Scale(domain=["positive", "negative"], range=[BLUE, VERMILLION]),
        title="samples",
    )


def half() -> alt.Chart:
    """The dashed line at one half."""
    rule = alt.Chart(alt.InlineData(values=[{"half": 0.5}]))
    return rule.mark_rule(strokeDash=[4, 3], color=GREY).encode(y=alt.Y("half:Q", title=""))


def overlaid() -> Labelled:
    """All images of mnist-mini in a fixed random order, with room for the one-hot label."""
    arrays, order = mini(), np.random.default_rng(0).permutation(6_000)
    pixels = arrays.x_train[order].reshape(-1, 784).astype(np.float32) / 255
    pixels[:, :10] = 0
    y = arrays.y_train[order].astype(np.int64)
    return Labelled(torch.from_numpy(pixels), torch.from_numpy(y), 10)


def both(moment: Moment) -> float:
    """The share of samples, of both splits, that meet theorem 2's condition."""
    return sum(split.holds for split in moment.splits.values()) / len(moment.splits)


def crossing(run: list[Moment]) -> float:
    """tau*: where the share of both splits that meet theorem 2's condition rises through one
    half for good; NaN where it does not.
    """
    below = max((place for place, moment in enumerate(run) if both(moment) < 0.5), default=-1)
    if below in (-1, len(run) - 1):
        return math.nan
    before, after = run[below], run[below + 1]
    part = (0.5 - both(before)) / (both(after) - both(before))
    return before.tau + part * (after.tau - before.tau)


def first_condensed(run: list[Moment], width: int) -> float:
    """The flow time from which there are few basins, as the act of a row has it."""
    return next(moment.tau for moment in run if moment.basins < few_basins(width))


def print_means(moments: tuple[Moment, ...]) -> None:
    """One line of figures at a flow time: means over seeds, positive / negative."""
    shown = [f"tau {moments[0].tau:5.2f}"]
    for field in ("sparsity", "share_active", "evenness", "holds"):
        means = [
            sum(getattr(moment.splits[name], field) for moment in moments) / len(moments)
            for name in moments[0].splits
        ]
        shown.append(f"{field} {means[0]:.3f} / {means[1]:.3f}")
    units = sum(moment.effective_units for moment in moments) / len(moments)
    basins = sum(moment.basins for moment in moments) / len(moments)
    print(*shown, f"effective units {units:.0f}", f"basins {basins:.1f}", sep="; ")


def potentials() -> alt.HConcatChart:
    """The ratio of the potentials of negatives and positives, and theorem 2 measured at
    initialisation: 500 samples a side, 500 units, ten seeds.
    """
    rows: Rows = []
    for name, strategy in STRATEGIES.items():
        for seed in range(10):
            positive, negative = pair_of(strategy, 500, seed)
            verdicts = ffengine.theorem2(weights(500, seed), positive, negative)
            for split, x, verdict in zip(
                ("positive", "negative"), (positive, negative), verdicts, strict=True
            ):
                ratio = potential(negative, x) / potential(positive, x)
                rows.append(
                    {
                        "strategy": name,
                        "split": split,
                        "ratio": float(ratio.median()),
                        "holds": verdict.ratio,
                    }
                )
        mine = [row for row in rows if row["strategy"] == name]
        for split in ("positive", "negative"):
            of_split = [row for row in mine if row["split"] == split]
            means = [np.mean([row[field] for row in of_split]) for field in ("ratio", "holds")]
            print(f"{name}, {split}: ratio {means[0]:.3f}, theorem 2 {means[1]:.2f}")
    base = alt.Chart(alt.InlineData(values=rows)).encode(
        color=split_colour(), yOffset=alt.YOffset("split:N", sort=["positive", "negative"])
    )
    y = alt.Y("strategy:N", sort=list(STRATEGIES), title=None, axis=alt.Axis(labelLimit=300))
    charts = []
    for field, scale, title, mark in (
        ("ratio", alt.Scale(type="log", domain=[0.3, 3]), "U of negatives / U of positives", 1.0),
        ("holds", alt.Scale(domain=[0, 1]), "theorem 2 holds for", 0.5),
    ):
        ticks = alt.Axis(values=[0.3, 0.5, 1, 2, 3]) if field == "ratio" else alt.Axis()
        rule = (
            alt.Chart(alt.InlineData(values=[{"at": mark}]))
            .mark_rule(strokeDash=[4, 3], color=GREY)
            .encode(x=alt.X("at:Q", scale=scale))
        )
        side = y if field == "ratio" else y.copy().axis(alt.Axis(labels=False))
        bars = base.mark_rule(strokeWidth=2, opacity=0.4).encode(
            x=alt.X(f"min({field}):Q", scale=scale, title=title, axis=ticks),
            x2=f"max({field}):Q",
            y=side,
        )
        dots = base.mark_point(filled=True, size=45, opacity=1).encode(
            x=alt.X(f"mean({field}):Q", scale=scale, title=title, axis=ticks), y=side
        )
        charts.append(alt.layer(rule, bars, dots).properties(width=200, height=300))
    return alt.hconcat(*charts)


def training() -> alt.HConcatChart:
    """S and theorem 2's ratio as the engine reports them while it trains, along each batch's own
    step: pixels as they are, and centred ones; 256 units, three seeds.
    """
    rows: Rows = []
    for name, preprocess in (("pixels as they are", "unit"), ("centred pixels", "center")):
        fields = {
            "dataset": {"preprocess": preprocess},
            "network": {"widths": [256]},
            "optimizer": {"name": "sgd", "lr": 256 / 30},
        }
        spec = TrainSpec.model_validate(
            {**fields, "seeds": SEEDS, "epochs": 20, "evaluation": {"measures": False}}
        )
        for row in ffengine.train(spec).curves:
            rows.append(
                {
                    "run": name,
                    "epoch": row.epoch,
                    "split": row.split,
                    "S": row.sparsity,
                    "T2": row.theorem2_ratio,
                }
            )
    names = list(dict.fromkeys(str(row["run"]) for row in rows))
    for name in names:
        print_run([row for row in rows if row["run"] == name], name)
    return alt.hconcat(
        *(
            one_run([row for row in rows if row["run"] == name], name, first=name == names[0])
            for name in names
        )
    )


def print_run(rows: Rows, run: str) -> None:
    """The figures of a training by epoch: means over seeds, positive / negative."""
    for epoch in sorted({row["epoch"] for row in rows}):  # type: ignore[type-var]
        found = [
            np.mean([row[f] for row in rows if row["epoch"] == epoch and row["split"] == split])
            for f in ("S", "T2")
            for split in ("positive", "negative")
        ]
        print(f"{run}, epoch {epoch}: S {found[0]:.3f} / {found[1]:.3f}", end="; ")
        print(f"theorem 2 {found[2]:.2f} / {found[3]:.2f}")


def one_run(rows: Rows, run: str, *, first: bool) -> alt.VConcatChart:
    """S above theorem 2's ratio over epochs: means over seeds, with the range of the seeds."""
    base = alt.Chart(alt.InlineData(values=rows)).encode(color=split_colour())
    charts = []
    for field, domain, name in (
        ("S", (0.3, 0.6), "sparsity S"),
        ("T2", (0.0, 1.0), "theorem 2 holds for"),
    ):
        x = alt.X("epoch:Q", title="epoch" if field == "T2" else None)
        scale, title = alt.Scale(domain=domain), name if first else ""
        low = alt.Y(f"min({field}):Q", scale=scale, title=title)
        band = base.mark_area(opacity=0.2).encode(x=x, y=low, y2=f"max({field}):Q")
        line = base.mark_line().encode(x=x, y=alt.Y(f"mean({field}):Q", scale=scale, title=title))
        charts.append(
            alt.layer(*([half()] if field == "T2" else []), band, line).properties(
                width=210, height=140
            )
        )
    return alt.vconcat(*charts).properties(title=alt.Title(run, anchor="middle", fontSize=12))


def sized(chart: AnyChart) -> AnyChart:
    """The usual size."""
    return chart.properties(width=WIDE, height=HIGH)


PICTURES: dict[str, Callable[[], AnyChart]] = {
    draw.__name__: draw
    for draw in (
        initial_sparsity,
        acts,
        training,
        kernel,
        finite_and_limit,
        potentials,
        first_order,
    )
}


def drawn(names: list[str]) -> Iterator[Path]:
    """Write the pictures of those names."""
    TARGET.mkdir(exist_ok=True)
    for name in names:
        chart = PICTURES[name]().configure(
            background="white",
            font="DejaVu Sans, Verdana, sans-serif",  # the widest that browsers put for it
            padding=12,
            legend=alt.LegendConfig(orient="top", labelLimit=400, titleOrient="left"),
        )
        path = TARGET / f"{name}.svg"
        path.write_text(vl_convert.vegalite_to_svg(chart.to_json()), encoding="utf-8")
        yield path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=[*PICTURES, []], help="all, where none is named"
    )
    for written in drawn(parser.parse_args().names or list(PICTURES)):
        print(written)
