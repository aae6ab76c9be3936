"""What somebody chose to see of a study, as parameters of an address."""

import hashlib
from typing import Annotated

from fastapi import Depends, Query
from pydantic import AfterValidator, WithJsonSchema

from ffengine.search import objective_of
from ffengine.search_spec import Direction
from ffengine.text import SearchText
from service.web.drawing.protocol import ChartView

LONGEST_COLUMN = 200


def _column(text: str) -> str:
    """Return the text if it may name a column of a study's runs."""
    objective_of(text or "trial")  # raises ValueError for a place that there is not
    return text


Column = Annotated[
    SearchText,
    AfterValidator(_column),
    WithJsonSchema(
        {"type": "string", "minLength": 1, "maxLength": LONGEST_COLUMN, "format": "search-text"}
    ),
]


def get_view(
    objective: Annotated[
        Column | None,
        Query(
            description="of a study: the figure that its runs are compared by, a key of a run's "
            "summary such as `accuracy[partition=test]`; where left out, that of its search, else "
            "the accuracy"
        ),
    ] = None,
    direction: Annotated[
        Direction | None, Query(description="of a study: which way the objective is better")
    ] = None,
    x: Annotated[
        Column | None,
        Query(description="of study_scatter: `trial`, a varied field, or a key of a run's summary"),
    ] = None,
    y: Annotated[Column | None, Query(description="of study_scatter: as x")] = None,
) -> ChartView:
    """Return what an address says; an empty text is as if it were left out."""
    return ChartView(objective=objective or None, direction=direction, x=x or None, y=y or None)


ViewDep = Annotated[ChartView, Depends(get_view)]


def name_of(file: str, view: ChartView) -> str:
    """Return the name of a file that is drawn for a view; another view has another name."""
    if view == ChartView():
        return file
    return f"{hashlib.sha256(view.model_dump_json().encode()).hexdigest()[:8]}-{file}"
