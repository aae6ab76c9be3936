"""What findings conclude from runs whose outcome is known, as those that lost samples or ended
before anything happened.
"""

import math
from collections.abc import Callable

import pytest
from pydantic import JsonValue

from ffengine.findings import FINDINGS, Run
from ffengine.findings.wording import number
from ffengine.intervals import interval
from ffengine.results import EpochRow, Onset, Split, TrainResult
from ffengine.spec import TrainSpec
from tests.service.samples import epoch_row, provenance

SPLITS: tuple[Split, Split] = ("positive", "negative")
SEEDS = (0, 1, 2)
Figures = Callable[[int, int], dict[str, object]]  # of seed and epoch


def run_of(
    figures: Figures,
    epochs: int = 3,
    *,
    part: str = "",
    params: dict[str, JsonValue] | None = None,
    onset: Onset | None = None,
) -> Run:
    """A run of three seeds whose rows of both splits have these figures."""
    rows: list[EpochRow] = [
        epoch_row(epoch, split, seed=seed).model_copy(
            update={"tau": 0.4 * epoch, "samples": 2000, **figures(seed, epoch)}
        )
        for seed in SEEDS
        for epoch in range(epochs)
        for split in SPLITS
    ]
    result = TrainResult(
        curves=tuple(rows), accuracy=(), diagnostics=(), provenance=provenance(SEEDS), onset=onset
    )
    return Run(part, params or {}, TrainSpec(), result)


def strategy(name: str, live: Callable[[int], int], s: float = 0.4) -> Run:
    """A strategy after which so many samples of each seed are live."""

    def figures(seed: int, epoch: int) -> dict[str, object]:
        left = live(seed) if epoch == 2 else 2000
        return {
            "dead_samples": 2000 - left,
            "sparsity": s * (1 if epoch == 2 else 0.9) + 0.001 * seed if left else None,
        }

    return run_of(figures, params={"negatives.strategy": name})


def test_a_strategy_without_live_samples_is_left_out_and_named_with_the_reason() -> None:
    runs = [
        strategy("wrong_label", lambda _: 2000),
        strategy("mix", lambda _: 2000, 0.3),
        strategy("noise", lambda seed: 1 if seed == 1 else 0, 1.0),
        strategy("masked", lambda _: 0, 1.0),
        strategy("adversarial", lambda seed: 2 + seed, 0.9),
    ]
    finding = FINDINGS["negatives"]
    assert finding.conclusion(runs) == [
        "S of positives ends larger than with wrong_label for adversarial.",
        "S of positives ends smaller than with wrong_label for mix.",
        "noise is left out: its units fall silent. At the end 1 of 3 seeds has a live positive "
        "(1 of 2,000); without one S is undefined.",
        "masked is left out: its units fall silent. At the end no seed has a live positive; "
        "without one S is undefined.",
        "With adversarial the final S is that of few samples: 2 to 4 of 2,000 positives are live.",
    ]
    table = finding.table(runs)
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["noise"]["S at end"] == "1.001 (1 of 3 seeds)"
    assert rows["noise"]["live positives at end"] == "0 to 1 of 2,000"
    assert rows["masked"]["S at end"] == "-"
    assert rows["mix"]["live positives at end"] == "2,000 of 2,000"
    assert "seeds" not in rows["mix"]["S at end"]
    drawn = {point.x for point in finding.plot(runs).points}
    assert drawn == {"wrong_label", "mix", "adversarial"}


def test_a_figure_that_some_seeds_lack_says_of_how_many_it_is() -> None:
    assert number(interval([0.25]), of=5) == "0.250 (1 of 5 seeds)"
    assert number(interval([0.2, 0.2]), 1, of=3) == "0.2 [0.2, 0.2] (2 of 3 seeds)"
    assert number(interval([0.2, 0.2]), 1, of=2) == "0.2 [0.2, 0.2]"
    assert number(interval([0.25])) == "0.250"


def turning(tau_star: float | None) -> Onset:
    return Onset(
        falls=tau_star is not None,
        tau_star=tau_star,
        tau_star_low=tau_star and 0.72 * tau_star,
        tau_star_high=tau_star and 1.28 * tau_star,
    )


@pytest.mark.parametrize(
    ("course", "tau_star", "told"),
    [
        (
            [0.47, 0.40, 0.37, 0.42],
            0.9,
            "0.370 [0.368, 0.372] at epoch 2, tau = 0.8 (predicted: 0.",
        ),
        ([0.47, 0.40, 0.43, 0.46], 0.2, "at the first epoch, tau = 0.4, a coarse step beyond the "),
        ([0.47, 0.40, 0.43, 0.46], 0.41, "at the first epoch, tau = 0.4 (predicted: 0.41"),
        ([0.47, 0.47, 0.47, 0.47], 159.0, "the run ends at tau = 1.2, before the turn, which is p"),
        ([0.47, 0.44, 0.42, 0.40], 159.0, "predicted at tau* = 159 (114 to 204), so that it never"),
        ([0.46, 0.48, 0.50, 0.55], None, "0.550 [0.548, 0.552] without a fall"),
    ],
)
def test_a_run_that_ends_before_the_turn_is_not_said_to_have_none(
    course: list[float], tau_star: float | None, told: str
) -> None:
    def figures(seed: int, epoch: int) -> dict[str, object]:
        return {"sparsity": course[epoch] + 0.001 * seed - 0.001}

    run = run_of(figures, 4, onset=turning(tau_star), params={"dataset.preprocess": "unit"})
    finding = FINDINGS["centering"]
    [sentence] = finding.conclusion([run])
    assert told in sentence
    assert ("without a fall" in sentence) == (tau_star is None)
    assert "none: S only rises" in str(finding.table([run]).rows) or tau_star


def test_the_page_of_centering_says_what_each_way_of_preprocessing_does() -> None:
    method = FINDINGS["centering"].method
    for name in ("unit", "standardize", "center", "unit_norm"):
        assert f" {name}: " in method


def kappa_of(p: float, quiet: float) -> float:
    """cos(h, mask) where of the active half of the units are `quiet` and half are 1."""
    return (1 + quiet) / math.sqrt(2 * (1 + quiet**2))


@pytest.mark.parametrize(
    ("shares", "quiet", "law", "rest"),
    [
        ((0.5, 0.7, 0.8), (1.0, 0.9, 0.2), "switch on", "more unequal"),
        ((0.9, 0.9, 0.6), (1.0, 1.0, 1.0), "switch off", "less unequal"),
    ],
)
def test_the_rise_of_s_is_split_by_its_cause(
    shares: tuple[float, ...], quiet: tuple[float, ...], law: str, rest: str
) -> None:
    """The parts add up to the change of 1 - sqrt(p) kappa, whatever the law is."""

    def figures(seed: int, epoch: int) -> dict[str, object]:
        p = shares[epoch]
        kappa = kappa_of(p, quiet[epoch])
        return {
            "active_share": p,
            "kappa": kappa,
            "kappa_gap": 0.0,
            "sparsity": (0.4, 0.3, 0.5)[epoch] + 0.001 * seed,
        }

    told = " ".join(FINDINGS["acts"].conclusion([run_of(figures, part="difference")]))
    c = [1 - math.sqrt(p) * kappa_of(p, q) for p, q in zip(shares, quiet, strict=True)]
    parts = [float(text.split(" [")[0]) for text in told.split(" by ")[1:3]]
    assert sum(parts) == pytest.approx(c[2] - c[1], abs=2e-3)
    assert f"since units {law}" in told
    assert f"become {rest} than p makes them" in told


def turned(part: str, course: list[float], lambda_1: float, overlap: float) -> Run:
    """A run of which S follows a course, tau = 0.4 after each epoch."""

    def figures(seed: int, epoch: int) -> dict[str, object]:
        return {"sparsity": course[epoch] + 0.001 * seed}

    onset = Onset(falls=True, lambda_1=lambda_1, overlap=overlap)
    return run_of(figures, part=part, onset=onset)


def test_when_sparsity_turns_is_compared_over_settings() -> None:
    """tau* is 0.4 in each: lambda_1 tau* 0.8 and 1.2, with q 0.8 and 0.96, whose mean is 0.88."""
    runs = [
        turned("pixels", [0.5, 0.4, 0.5], 2.0, 1.0),
        turned("labels", [0.6, 0.4, 0.6], 3.0, 0.8),
        turned("monotone", [0.6, 0.5, 0.4], 3.0, 0.8),
    ]
    finding = FINDINGS["onset"]
    assert finding.conclusion(runs) == [
        "Yes, to within 9 %: q lambda_1 tau* is 0.88 over 2 settings (0.80 to 0.96).",
        "The spread from setting to setting, as a standard deviation, is 9 %; that of "
        "lambda_1 tau*, without q, is 20 % (1.00, 0.80 to 1.20).",
        "q lambda_1 tau* is within 0.9 +- 0.25 in 2 of 2 settings.",
        "By data: mnist lambda_1 tau* 0.80 to 1.20, q lambda_1 tau* 0.80 to 0.96.",
        "No tau* is given of monotone: there S of a seed does not fall first, or does not rise "
        "afterwards.",
    ]
    apart = [runs[0], turned("far", [0.6, 0.4, 0.6], 3.0, 0.25)]
    first, _, within, *_ = finding.conclusion(apart)
    assert first.startswith("Only roughly, to within 45 %")
    assert "in 1 of 2 settings. Outside are far (0.30 [0.30, 0.30])." in within
    assert "no tau* to compare" in finding.conclusion(runs[2:])[0]
    rows = {row[0]: row[1:] for row in finding.table(runs).rows}
    assert rows["pixels"][:2] == ("2.000", "1.000")
    assert rows["pixels"][3:5] == ("0.80 [0.80, 0.80]", "0.80 [0.80, 0.80]")
    assert rows["monotone"][2:5] == ("-", "-", "-")
    drawn = {(point.panel, point.x): point.y for point in finding.plot(runs).points}
    assert drawn["q lambda_1 tau*", "labels"] == pytest.approx(0.96)
    assert drawn["q", "monotone"] == 0.8
