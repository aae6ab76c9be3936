"""Curves of several jobs in one chart: a colour for each job, a panel for each split."""

from collections.abc import Callable, Sequence

import altair as alt

from ffengine.results import COUNTED
from service.results.charts.epochs import (
    AGREEMENT,
    BASINS,
    EPOCHS,
    EXPECTED,
    FLOW_TIME,
    KAPPA_GAP,
    LOSS,
    MARKED_POINTS,
    SPARSITY,
    TAU_NOTE,
    THEOREM_1,
    THEOREM_2,
    Figure,
    Style,
    caption_of,
    epoch_tooltips,
    goodness_style,
    growth_style,
    ranges,
    records_of,
)
from service.results.charts.flow_marks import flow_notes, turn_rule, turns_of, with_turns
from service.results.charts.intervals import lower_ends
from service.results.charts.style import (
    FREE_SCALE,
    AnyChart,
    Record,
    in_panels,
    interval_tooltips,
    labels_of,
    reference_line,
    series_looks,
    share_scale,
    titled,
)
from service.results.sources import ChartSource

LONG_NAME = 20  # letters; longer ones beside each other would be cut
OVERLAID: dict[str, tuple[Figure, Callable[[Sequence[ChartSource]], Style]]] = {
    "loss": ("loss", lambda _: LOSS),
    "theorem1": ("theorem1_ratio", lambda _: THEOREM_1),
    "theorem2": ("theorem2_ratio", lambda _: THEOREM_2),
    "sparsity": ("sparsity", lambda _: SPARSITY),
    "goodness": ("goodness", goodness_style),
    "agreement": ("agreement", lambda _: AGREEMENT),
    "sparsity_flow": ("sparsity", lambda _: SPARSITY),
    "theorem2_flow": ("theorem2_ratio", lambda _: THEOREM_2),
    "log_goodness_flow": ("log_goodness", growth_style),
    "theorem2_expected": ("theorem2_expected_ratio", lambda _: EXPECTED),
    "kappa_gap": ("kappa_gap", lambda _: KAPPA_GAP),
    "basins": ("basins", lambda _: BASINS),
}


def overlaid(name: str, sources: Sequence[ChartSource]) -> AnyChart:
    """One of the charts in OVERLAID for several jobs.

    Raises NothingToDraw where no epoch has a value.
    """
    figure, style_of = OVERLAID[name]
    style, found = style_of(sources), records_of(sources, figure)
    x = FLOW_TIME if name.endswith("_flow") else EPOCHS
    if x is FLOW_TIME:
        found = with_turns(found, turns_of(sources), by_split=True)
    records: list[Record] = [
        {**record, "job": record["series"], "series": f"{record['split']} samples"}
        for record in found
    ]
    scale, note = FREE_SCALE, ""
    if figure in COUNTED:
        reference = style.reference.value if style.reference else None
        scale, note = share_scale(
            lower_ends(found),
            reference,
            upper_half=figure == "agreement",
        )
    turns = turns_of(sources) if x is FLOW_TIME else []
    layers = coloured_layers(records, labels_of(found), style, scale, x)
    return titled(
        in_panels(layers, records),
        style.title,
        [
            *caption_of(sources, found, style, shares=figure in COUNTED),
            note,
            TAU_NOTE if x is FLOW_TIME else "",
            *flow_notes(found, turns, strips=False),
        ],
    )


def coloured_layers(
    records: Sequence[Record], jobs: Sequence[str], style: Style, scale: alt.Scale, x: alt.X
) -> AnyChart:
    """A line with its band for each of several jobs, which records name in the field `job`."""
    long = any(len(job) > LONG_NAME for job in jobs)
    # the page limits labels to the room that there is
    legend = alt.Legend(
        orient="top",
        symbolOpacity=1,
        symbolType="stroke",
        symbolSize=400,
        columns=1 if long else alt.Undefined,
    )
    looks = series_looks(len(jobs))
    colour = alt.Color(
        "job:N", scale=alt.Scale(domain=list(jobs), range=looks.colours), title=None, legend=legend
    )
    dash = alt.StrokeDash(
        "job:N", scale=alt.Scale(domain=list(jobs), range=looks.dashes), title=None, legend=legend
    )
    tooltip = [
        alt.Tooltip("job:N"),
        alt.Tooltip("split:N"),
        *epoch_tooltips(records),
        *([alt.Tooltip("tau:Q")] if x is FLOW_TIME else []),
        *interval_tooltips(records),
        alt.Tooltip("seeds:Q"),
        alt.Tooltip("samples:Q"),
    ]
    base, y = (
        alt.Chart().encode(x=x, color=colour),
        alt.Y("mean:Q", title=style.axis, scale=scale),
    )
    bands = ranges(base, style.axis, scale, records)
    marked = len({record["epoch"] for record in records}) <= MARKED_POINTS
    line = base.mark_line(
        strokeWidth=2, point=alt.OverlayMarkDef(size=30) if marked else False
    ).encode(y=y, strokeDash=dash, tooltip=tooltip)
    rule = [reference_line(style.reference, scale)] if style.reference else []
    turns = [turn_rule(colour)] if any("turn" in record for record in records) else []
    return alt.layer(*turns, *rule, *bands, line)
