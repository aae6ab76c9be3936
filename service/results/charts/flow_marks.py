"""What charts over flow time mark: where S should be lowest, and the act of each epoch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import altair as alt

from ffengine.onset import TurnFormula, turn_formula
from ffengine.results import Onset, TrainResult
from service.results.charts.drawables import curves
from service.results.charts.style import (
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    AnyChart,
    Record,
    y2_at,
    y_at,
)
from service.results.sources import ChartSource, Source

# What each act does, in the order of the legend
ACTS = {"inflating": PURPLE, "recruiting": SKY, "selecting": ORANGE, "condensed": GREEN}
ACTS |= {"sleeping": GREY}
STRIPS = {"positive": (-13, -8), "negative": (-6, -1)}  # pixels; above the plot, where no data are
BEYOND = 1.25  # times the end of the curves: a later turn would squeeze them, and is told alone
WORDS = ("word_right", "word_left")  # on which side of the line its word has room


class Turn(NamedTuple):
    """What a training run's onset says of the curve of its first layer."""

    series: str
    onset: Onset


def turns_of(sources: Sequence[ChartSource]) -> list[Turn]:
    """What was predicted of each training run, with the label of its first layer's curve."""
    found = []
    for source in sources:
        if isinstance(source, Source) and isinstance(source.result, TrainResult):
            first = next((curve for curve in curves([source]) if curve.layer == 0), None)
            if first and source.result.onset:
                found.append(Turn(first.label, source.result.onset))
    return found


def with_turns(
    records: Sequence[Record], turns: Sequence[Turn], *, by_split: bool = False
) -> list[Record]:
    """The records, of which one of each series has the turn that is drawn there.

    **Arguments:**

    - `by_split`: one of each series and split has it.
    """
    ends = _ends(records)
    predicted = {turn.series: turn.onset for turn in turns}
    marked = set[tuple[str, str]]()
    found = []
    for record in records:
        series = str(record["series"])
        place = (series, str(record["split"]) if by_split else "")
        turn = _drawn(predicted.get(series), ends.get(series))
        found.append({**record, **turn} if turn and place not in marked else record)
        marked.add(place)
    return found


def flow_layers(records: Sequence[Record]) -> list[AnyChart]:
    """The strips of acts above the plot, and the line of the turn with its word and its band."""
    layers: list[AnyChart] = []
    if any(record.get("act") for record in records):
        layers += _strips(records)
    if any("turn" in record for record in records):
        layers += _turn_layers()
    return layers


def turn_rule(colour: alt.Color | None = None) -> AnyChart:
    """The dotted line of a turn; `colour` says whose it is where there are several in one plot."""
    rule = alt.Chart().mark_rule(strokeDash=[2, 3], strokeWidth=1.5, color=GREY)
    encoded: AnyChart = rule.transform_filter("isValid(datum.turn)").encode(
        x=alt.X("turn:Q"), color=colour or alt.Undefined
    )
    return encoded


def flow_notes(
    records: Sequence[Record], turns: Sequence[Turn], *, strips: bool = True
) -> Iterator[str]:
    """What a caption says of turns and acts, and how they were obtained.

    **Arguments:**

    - `strips`: whether acts have strips, and turns have bands of what is measured.
    """
    drawn = {str(record["series"]) for record in records if "turn" in record}
    shown = {str(record["series"]) for record in records}
    known = [turn for turn in turns if turn.series in shown]
    there = [turn.onset for turn in known if turn.series in drawn]
    yield from turn_notes(there, bands=strips)
    later = [turn.onset for turn in known if turn.onset.tau_star and turn.series not in drawn]
    for formula, alike in _by_formula(later):
        yield f"The {_turn_of(formula, alike)}, is right of the plot: the run ends before."
    reasons = [turn.onset.unknown.get("tau_star", "") for turn in known if not turn.onset.tau_star]
    if len(known) == len(reasons):
        yield from (f"No turn τ* is predicted: {why}." for why in dict.fromkeys(reasons) if why)
    if strips and any(record.get("act") for record in records):
        yield (
            "The strips above a plot show the act of most seeds since the epoch before: of "
            "positives above, of negatives below."
        )


def turn_notes(onsets: Sequence[Onset], *, bands: bool = False) -> Iterator[str]:
    """What a caption says of the dotted lines of turns: where they are, and how they are predicted.

    **Arguments:**

    - `onsets`: those whose turn is drawn.
    - `bands`: whether the band of what is measured is drawn too, in grey.
    """
    for formula, alike in _by_formula(onsets):
        line = f"The dotted line is the {_turn_of(formula, alike)}"
        if formula is None:
            yield f"{line}."
            continue
        grey = f"; the grey band is {formula.band}" if bands and formula.band else ""
        rates = f"lambda_1 = {_range([onset.lambda_1 for onset in alike])}"
        if formula.of_overlap:
            rates = f"q = {_range([onset.overlap for onset in alike])} and {rates}"
        yield (
            f"{line}{grey}; {rates} from the data before training; {formula.factor:.3g} is "
            f"measured, not derived."
        )


def _by_formula(
    onsets: Sequence[Onset],
) -> Iterable[tuple[TurnFormula | None, list[Onset]]]:
    """Onsets by how their turn was predicted; stored ones may differ from those of today."""
    found: dict[str, tuple[TurnFormula | None, list[Onset]]] = {}
    for onset in onsets:
        formula = turn_formula(onset)
        found.setdefault(str(formula), (formula, []))[1].append(onset)
    return found.values()


def _turn_of(formula: TurnFormula | None, onsets: Sequence[Onset]) -> str:
    """Where and how S is predicted to turn."""
    by = "" if formula is None else f"{formula} = "
    found = _range([onset.tau_star for onset in onsets])
    return f"predicted turn τ* = {by}{found}, where S is expected to be lowest"


def _ends(records: Sequence[Record]) -> dict[str, float]:
    """The flow time at which each series ends."""
    ends: dict[str, float] = {}
    for record in records:
        series = str(record["series"])
        ends[series] = max(ends.get(series, 0.0), float(record["tau"] or 0))
    return ends


def _drawn(onset: Onset | None, end: float | None) -> Mapping[str, str | float | None]:
    """The fields of a turn; none where it is not known or far beyond the end of the curve."""
    if onset is None or onset.tau_star is None or not end or onset.tau_star > BEYOND * end:
        return {}
    word = f"predicted τ* = {onset.tau_star:.3g}"
    high = min(onset.tau_star_high or onset.tau_star, BEYOND * end)
    side = "word_left" if onset.tau_star > 0.6 * max(end, onset.tau_star) else "word_right"
    return {
        "turn": onset.tau_star,
        "turn_low": onset.tau_star_low,
        "turn_high": high,
        side: word,
    }


def _strips(records: Sequence[Record]) -> Iterator[AnyChart]:
    used = {str(record["act"]) for record in records if record.get("act")}
    names = [act for act in ACTS if act in used]
    fill = alt.Fill(
        "act:N",
        scale=alt.Scale(domain=names, range=[ACTS[act] for act in names]),
        title=None,
        legend=alt.Legend(orient="top", symbolType="square", symbolOpacity=1, symbolStrokeWidth=0),
    )
    for split, (top, bottom) in STRIPS.items():
        yield (
            alt.Chart()
            .mark_rect(strokeWidth=0)
            .transform_filter(
                f"isValid(datum.act) && isValid(datum.since) && datum.split == '{split}'"
            )
            .encode(
                x=alt.X("since:Q"),
                x2=alt.X2("tau:Q"),
                y=y_at(top),
                y2=y2_at(bottom),
                fill=fill,
                tooltip=[
                    alt.Tooltip("act:N"),
                    alt.Tooltip("split:N"),
                    alt.Tooltip("epoch:Q"),
                    alt.Tooltip("tau:Q"),
                ],
            )
        )


def _turn_layers() -> Iterator[AnyChart]:
    marked = alt.Chart().transform_filter("isValid(datum.turn)")
    yield marked.mark_rect(opacity=0.14, color=GREY).encode(
        x=alt.X("turn_low:Q"), x2=alt.X2("turn_high:Q")
    )
    yield turn_rule()
    for field in WORDS:
        word = alt.Chart().transform_filter(f"isValid(datum.{field})")
        text = (
            word.mark_text(align="left", baseline="top", dx=4, fontSize=11)
            if field == "word_right"
            else word.mark_text(align="right", baseline="top", dx=-4, fontSize=11)
        )
        yield text.encode(x=alt.X("turn:Q"), y=y_at(4), text=alt.Text(f"{field}:N"))


def _range(values: Sequence[float | None]) -> str:
    found = sorted({f"{value:.3g}" for value in values if value is not None}, key=float)
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}"
