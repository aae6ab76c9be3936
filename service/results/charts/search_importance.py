"""How far each varied field decides which runs of a study are among the better ones."""

from collections.abc import Sequence

import altair as alt

from ffengine.proposals import LEAST_FOR_IMPORTANCE, importances
from service.results.charts.drawables import NothingToDraw, data_names
from service.results.charts.style import (
    BLUE,
    WIDTH,
    AnyChart,
    counted,
    data_of,
    drawn_note,
    ranged,
    titled,
)
from service.results.sources import ChartSource
from service.results.trials import compared, in_words

BAR = 26  # height of a bar with its gap
FEW = 50  # trials, below which weights are rough


def has_importance(sources: Sequence[ChartSource]) -> bool:
    """Whether enough runs of a study can be compared, and differ in several fields."""
    found = compared(sources)
    return (
        found is not None and len(found.complete) >= LEAST_FOR_IMPORTANCE and len(found.varied) > 1
    )


def search_importance(sources: Sequence[ChartSource]) -> AnyChart:
    """How far each varied field decides which runs of a study are among the better ones."""
    found = compared(sources)
    if found is None:
        raise NothingToDraw("no figure compares the runs of a study")
    complete = found.complete
    weights = importances(
        [trial.params for trial in complete],
        [trial.value for trial in complete if trial.value is not None],
        found.objective.direction,
    )
    if not weights:
        raise NothingToDraw(
            f"importance needs {LEAST_FOR_IMPORTANCE} runs with the objective that differ"
        )
    records = [{"field": field, "share": share} for field, share in weights.items()]
    base = alt.Chart(data_of(records)).encode(
        y=alt.Y("field:N", sort=list(weights), title=None, axis=alt.Axis(labelLimit=180)),
        x=alt.X("share:Q", title="share of the importance", scale=alt.Scale(domain=[0, 1])),
        tooltip=[alt.Tooltip("field:N"), alt.Tooltip("share:Q", format=".1%")],
    )
    text = base.mark_text(align="left", dx=4, fontSize=11).encode(
        text=alt.Text("share:Q", format=".0%")
    )
    chart: AnyChart = alt.layer(base.mark_bar(color=BLUE), text).properties(
        width=WIDTH, height=BAR * len(weights) + 8
    )
    caption = [
        drawn_note(
            data_names([found.grid]),
            f"{in_words(str(found.objective.key))} of {counted(len(complete), 'trial')}, each a "
            f"mean over {ranged(found.seeds, 'seed')}",
        ),
        "PED-ANOVA (Watanabe et al. 2023) of Optuna: how differently the better tenth and all "
        "trials are spread over each field",
        f"fewer than {FEW} trials: only large differences mean something"
        if len(complete) < FEW
        else "",
    ]
    return titled(chart, "Importance of the fields", caption)
