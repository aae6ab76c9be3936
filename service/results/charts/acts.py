"""The two charts that carry a study of the paper: S at several widths on one curve, and theorem 2
with pixels as they are and centred, both over flow time and with the predicted turn.
"""

from collections.abc import Sequence

import altair as alt

from ffengine.results import Onset, TrainResult
from service.results.charts.drawables import NothingToDraw, has_figure
from service.results.charts.epochs import (
    FLOW_TIME,
    SPARSITY,
    THEOREM_2,
    caption_of,
    curve_layers,
    records_of,
)
from service.results.charts.flow_marks import turn_notes, turn_rule
from service.results.charts.overlay import coloured_layers
from service.results.charts.style import (
    FREE_SCALE,
    AnyChart,
    Record,
    in_panels,
    titled,
)
from service.results.compared_runs import (
    Varied,
    compared,
    fixed_in_words,
    spec_of,
    width_of,
    without_width,
)
from service.results.run_labels import inputs_of
from service.results.sources import ChartSource, Source

WITHOUT_WIDTH = SPARSITY._replace(
    title="Sparsity by width, over flow time", axis="C = S (√n − 1) / √n"
)
BY_INPUTS = f"{THEOREM_2.title}, by inputs, over flow time"
SHARE_SCALE = alt.Scale(domain=[0, 1])


def sparsity_widths(sources: Sequence[ChartSource]) -> AnyChart:
    """S without its width factor over flow time, a line for each width, with the predicted turn."""
    chosen = _by_width(sources)
    if not chosen:
        raise NothingToDraw("no runs differ in their width alone")
    runs = [run._replace(label=f"n = {width_of(run):,}") for run in chosen]
    found = records_of(runs, "sparsity")
    factors = {run.label: without_width(width_of(run)) for run in runs}
    records: list[Record] = [
        {
            **record,
            **_scaled(record, factors[str(record["series"])]),
            "job": record["series"],
            "series": f"{record['split']} samples",
        }
        for record in found
    ]
    turns = _turns(runs)
    lines = coloured_layers(records, list(factors), WITHOUT_WIDTH, FREE_SCALE, FLOW_TIME)
    records[0]["turn"] = turns[0].tau_star if turns else None
    records[-1]["turn"] = records[0]["turn"]  # of the other split: each panel has the line
    caption = [
        *caption_of(runs, found, shares=False),
        _choice(sources, chosen, "network.widths"),
        "C is the Hoyer sparsity S without the factor of its width, and 1 where a single unit is "
        "active.",
        *turn_notes(turns),
    ]
    return titled(in_panels(alt.layer(turn_rule(), lines), records), WITHOUT_WIDTH.title, caption)


def theorem2_inputs(sources: Sequence[ChartSource]) -> AnyChart:
    """Theorem 2 along the training step over flow time, a panel for each preprocessing."""
    chosen = _by_inputs(sources)
    if not chosen:
        raise NothingToDraw("no runs differ in their preprocessing alone")
    runs = [run._replace(label=inputs_of(spec_of(run))) for run in chosen]
    records = records_of(runs, "theorem2_ratio")
    turns = {run.label: _turns([run]) for run in runs}
    for label, found in turns.items():
        first = next(record for record in records if record["series"] == label)
        first["turn"] = found[0].tau_star if found else None
    lines = curve_layers(records, THEOREM_2, SHARE_SCALE, x=FLOW_TIME)
    data, *others = caption_of(runs, records, THEOREM_2, shares=True)
    caption = [
        f"{data.removesuffix('.')}; n = {width_of(runs[0]):,}.",
        *others,
        _choice(sources, chosen, "dataset.preprocess"),
        *turn_notes([one for found in turns.values() for one in found]),
    ]
    return titled(in_panels(lines, records), BY_INPUTS, caption)


def has_widths(sources: Sequence[ChartSource]) -> bool:
    """Whether runs differ in their width alone."""
    return bool(_by_width(sources))


def has_inputs(sources: Sequence[ChartSource]) -> bool:
    """Whether runs differ in their preprocessing alone."""
    return bool(_by_inputs(sources))


def _by_width(sources: Sequence[ChartSource]) -> list[Source]:
    runs = compared(sources, "network.widths")
    there = all(has_figure(run, "tau") and has_figure(run, "sparsity") for run in runs)
    return runs if len(runs) > 1 and there else []


def _by_inputs(sources: Sequence[ChartSource]) -> list[Source]:
    runs = compared(sources, "dataset.preprocess")
    there = all(has_figure(run, "tau") and has_figure(run, "theorem2_ratio") for run in runs)
    return runs if len(runs) > 1 and there else []


def _choice(sources: Sequence[ChartSource], runs: Sequence[Source], varied: Varied) -> str:
    """Which runs of a study are drawn, where others could be."""
    fixed = fixed_in_words(sources, runs, varied)
    return f"Of the runs of this study, those with {fixed} are drawn." if fixed else ""


def _scaled(record: Record, factor: float) -> Record:
    return {
        field: None if value is None else factor * float(value)
        for field in ("mean", "low", "high", "least", "most")
        for value in (record[field],)
    }


def _turns(runs: Sequence[Source]) -> list[Onset]:
    """What says at which flow time S is predicted to be lowest."""
    onsets = [run.result.onset for run in runs if isinstance(run.result, TrainResult)]
    return [onset for onset in onsets if onset and onset.tau_star is not None]
