"""How many units of each layer are used, and how many are dead, by epoch."""

from collections.abc import Sequence

import altair as alt

from service.results.charts.epochs import Figure, Style, caption_of, curve_layers, has, records_of
from service.results.charts.style import GREY_LEGEND, AnyChart, Record, in_panels, titled
from service.results.sources import ChartSource

COUNTS: dict[str, Figure] = {"used": "used_units", "dead": "dead_units"}
DASHES = [[1, 0], [3, 3]]
STYLE = Style("Units that are used, and dead ones", "units of the layer")
# a count is 0 at the least, and the interval of a few seeds may begin below
SCALE = alt.Scale(domainMin=0, clamp=True)
MEANING = (
    "Used: units whose mean |h| is more than 1 % of the largest of the layer. Dead: units that are "
    "active for no sample. The others are as good as dead."
)


def used_units(sources: Sequence[ChartSource]) -> AnyChart:
    """How many units of each layer are used and how many are dead, by epoch."""
    used = _counted(sources, "used")  # says so where there are none
    records = used + (_counted(sources, "dead") if has(COUNTS["dead"], sources) else [])
    what = alt.Scale(domain=list(COUNTS), range=DASHES)
    dash = alt.StrokeDash("what:N", scale=what, title=None, legend=GREY_LEGEND)
    layers = curve_layers(records, STYLE, SCALE, dash)
    caption = [*caption_of(sources, records, shares=False), MEANING]
    return titled(in_panels(layers, records), STYLE.title, caption)


def _counted(sources: Sequence[ChartSource], what: str) -> list[Record]:
    return [{**record, "what": what} for record in records_of(sources, COUNTS[what])]
