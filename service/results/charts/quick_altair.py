"""Altair without what takes most of its time: it checks each part of a chart as it is made, and
copies all parts at each step.
"""

from typing import Any

import altair as alt
from altair.utils import schemapi
from altair.vegalite.v6.schema import channels


def be_quick() -> None:
    """Leave out the checks of parts, and let copies of a chart share their channels (axes, colours,
    tooltips), which no chart changes once they are made. It holds for the whole process.

    What is drawn stays the same; tests check whole charts.
    """
    schemapi.disable_debug_mode()
    for shared in (
        channels.FieldChannelMixin,
        channels.ValueChannelMixin,
        alt.FacetedEncoding,
        alt.MarkDef,
        alt.Axis,
        alt.Legend,
        alt.Scale,
        alt.TitleParams,
        alt.Config,
    ):
        shared.__deepcopy__ = _itself  # type: ignore[union-attr]


def _itself(part: Any, _memo: object) -> Any:
    return part
