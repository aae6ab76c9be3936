"""What lists say of a study: how far the figures of its runs range."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from service.headline import OF_STUDIES, RunFigures
from service.jobs import JobState
from service.store.tables import JobRow


class StudyFigures(NamedTuple):
    """Those of the runs of a study, by their kind; `is_stale` where some changed since."""

    found: Sequence[RunFigures]
    is_stale: bool


def run_figures(session: Session, studies: Sequence[str]) -> dict[str, StudyFigures]:
    """The figures of succeeded runs, by study, from one query for all of them."""
    values = [JobRow.figures[name].as_float() for name in OF_STUDIES]
    extremes = [extreme(value) for value in values for extreme in (func.min, func.max)]
    stale = func.sum(case((JobRow.figured_version != JobRow.version, 1), else_=0))
    query = (
        select(JobRow.parent_id, JobRow.kind, func.count(), stale, *extremes)
        .where(JobRow.parent_id.in_(studies), JobRow.state == JobState.succeeded.value)
        .group_by(JobRow.parent_id, JobRow.kind)
        .order_by(JobRow.kind.desc())  # training runs first
    )
    lines, changed = defaultdict[str, list[RunFigures]](list), set[str]()
    for study, kind, runs, late, *ends in session.execute(query):
        pairs = zip(OF_STUDIES, ends[::2], ends[1::2], strict=True)
        ranges = {name: (low, high) for name, low, high in pairs if low is not None}
        lines[study].append(RunFigures(kind, runs, ranges))
        if late:
            changed.add(study)
    return {study: StudyFigures(lines[study], study in changed) for study in studies}
