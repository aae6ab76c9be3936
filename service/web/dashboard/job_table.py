"""The table of jobs that a page shows: what the address asks for, and what its headings lead to."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

from fastapi import Depends, Query

from ffengine.spec import StoredSpec, StudySpec
from ffengine.text import visible
from service.encoding.root_path import at
from service.encoding.viewer import VIEWER
from service.headline import FIGURES, Headline
from service.jobs import ACTIONS, TERMINAL, Job, JobKind, JobState, actions_on
from service.lists.columns import (
    MOST_COLUMNS,
    Column,
    Values,
    columns,
    field_column,
    values_of,
)
from service.lists.conditions import (
    FilterError,
    Order,
    parse_columns,
    parse_filter,
    parse_order,
)
from service.results.descriptions import place_of, time_ago, title_of
from service.results.job_cells import cell_text
from service.results.run_labels import cell_of, labels_of
from service.store import ANY_STUDY, CursorGone, Store
from service.web.lookup import is_job_id

# any text that may be stored: everything but NUL
SearchText = Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")]
FilterText = Annotated[str, Query(max_length=2_000, pattern=r"^[^\x00]*$")]
Names = Annotated[list[str], Query(alias="columns", max_length=200)]
SUMMARY = "figures"  # the column of the headline in words, which is no single value
OF_JOBS = ("kind", "state", "progress", SUMMARY, "owner", "duration", "submitted")
OF_RUNS = ("state", "progress", SUMMARY, "duration")
OFFERED = (
    *("kind", "state", "progress", SUMMARY, "project", "owner", "priority", "duration"),
    *("submitted", "started", "finished", "note", "device", "error"),
    *FIGURES,
    *("dataset", "widths", "activation", "objective", "goodness", "negatives", "optimizer"),
    *("lr", "epochs", "batch_size", "seeds", "samples", "theorem"),
)
OFFERED_OF_RUNS = ("part", "run")
MOST_VARIED = 6
PAGE_SIZES = (50, 100, 200, 500)
MOST_MATCHED = 1_000  # jobs that are changed at once
DELETE = "delete"
TIMES = {"submitted": "created_at", "started": "started_at", "finished": "finished_at"}
Labeller = Callable[[Sequence[Job]], Mapping[str, str]]


@dataclass(frozen=True)
class Asked:
    """What the address of a list asks for, as it was written."""

    name: str = ""
    state: str = ""
    kind: str = ""
    tag: str = ""
    who: str = ""
    project: str = ""
    where: str = ""
    runs: str = ""
    sort: str = ""
    columns: tuple[str, ...] = ()
    rows: int = PAGE_SIZES[0]
    cursor: str = ""

    @property
    def is_filtered(self) -> bool:
        """Whether not all jobs are asked for."""
        given = (self.name, self.state, self.kind, self.tag, self.who, self.project, self.where)
        return any(given)

    def filters(self) -> dict[str, Any]:
        """Return the filters of the store. Raises FilterError."""
        given = {
            "search": self.name,
            "state": self.state,
            "kind": self.kind,
            "tag": self.tag,
            "submitted_by": self.who,
            "project": self.project,
        }
        found: dict[str, Any] = {name: value for name, value in given.items() if value}
        found |= {"children": True} if self.runs else {}
        return {**found, "where": parse_filter(self.where)} if self.where else found

    def query(self, **changes: str) -> str:
        """Return the query of an address that asks for the same, but for these changes."""
        return urlencode(self.parameters(**changes))

    def parameters(self, **changes: str) -> list[tuple[str, str]]:
        """Return the parameters of such an address."""
        texts = ("name", "state", "kind", "tag", "who", "project", "where", "runs", "sort")
        pairs = {name: getattr(self, name) for name in texts}
        if self.columns:
            pairs["columns"] = ",".join(self.columns)
        if self.rows != PAGE_SIZES[0]:
            pairs["rows"] = str(self.rows)
        return [(name, text) for name, text in (pairs | changes).items() if text]


def asked_of(
    name: SearchText = "",
    state: JobState | Literal[""] = "",
    kind: JobKind | Literal[""] = "",
    tag: SearchText = "",
    who: SearchText = "",
    project: SearchText = "",
    where: FilterText = "",
    runs: Literal["", "yes"] = "",
    sort: SearchText = "",
    names: Names = [],  # noqa: B006 - never changed
    rows: Literal["", "50", "100", "200", "500"] = "",
    cursor: SearchText = "",
) -> Asked:
    """Return what a request's address asks for."""
    return Asked(
        name=name,
        state=str(state),
        kind=kind,
        tag=tag,
        who=who,
        project=project,
        where=where.strip(),
        runs=runs,
        sort=sort.strip(),
        columns=tuple(one.strip() for text in names for one in text.split(",") if one.strip()),
        rows=int(rows or PAGE_SIZES[0]),
        cursor=cursor,
    )


AskedDep = Annotated[Asked, Depends(asked_of)]


class Heading(NamedTuple):
    """The heading of a column: where it leads, and how the list is sorted by it now."""

    name: str
    label: str
    meaning: str
    address: str | None
    sorted: Literal["ascending", "descending"] | None
    is_number: bool
    is_time: bool = False


class Row(NamedTuple):
    """A job of a table: what it is called, its headline, and its cells by name.

    `ages` are its times as people say them, `ended` how far it came once it has ended, and
    `actions` the names of what may be done with it.
    """

    job: Job
    label: str
    headline: Headline
    cells: Mapping[str, str]
    ages: Mapping[str, str]
    ended: str
    actions: str


class Choice(NamedTuple):
    """A column that may be shown, and whether it is."""

    name: str
    meaning: str
    is_shown: bool


@dataclass(frozen=True)
class StateCount:
    """How many of the jobs are in a state, and the address of these alone."""

    state: str
    count: int
    address: str


@dataclass
class JobTable:
    """A table of jobs, as its template draws it; `wrong` says what was not understood."""

    asked: Asked
    path: str
    headings: list[Heading] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    total: int = 0
    runs_that_fit: int = 0
    figures_asked: Sequence[str] = ()
    states: list[StateCount] = field(default_factory=list)
    next_url: str | None = None
    choices: list[Choice] = field(default_factory=list)
    wrong: str = ""
    wrong_in: str = ""
    best: Row | None = None
    best_of: str = ""
    parent: str = ""
    allowed: Sequence[str] = ()

    @property
    def back(self) -> str:
        """The path of this table below the root, with its query, without its page."""
        query = self.asked.query()
        return f"{self.path}?{query}" if query else self.path

    def address(self, **changes: str) -> str:
        """The address of the table with these changes."""
        return at(f"{self.path}?{self.asked.query(**changes)}")


def table_of_jobs(store: Store, asked: Asked, *, again: bool = False) -> JobTable:
    """Return the table of all jobs that an address asks for.

    **Arguments:**

    - `again`: whether an open page asks, which shows already how many runs of studies fit.
    """
    with_who = bool(asked.who) or bool(store.api_keys.all())
    default = [name for name in OF_JOBS if name != "owner" or with_who]
    table = _filled(store, JobTable(asked, "/"), default, lambda jobs: {})
    if not again and not table.wrong:
        table.runs_that_fit = _runs_that_fit(store, asked)
        table.figures_asked = [] if asked.runs else _figures_in(asked)
    return table


def table_of_runs(store: Store, study: Job, asked: Asked) -> JobTable:
    """Return the table of a study's runs that an address asks for."""
    varied = [column.name for column in varied_columns(study)]
    default = [*varied[:MOST_VARIED], *OF_RUNS]
    table = JobTable(asked, f"/jobs/{study.id}/runs", parent=study.id)
    return _filled(store, table, default, partial(run_labels, study.spec), varied)


def run_labels(study: StoredSpec, runs: Sequence[Job]) -> dict[str, str]:
    """Return the label of each run of a study, by id."""
    placed = [(run, cell) for run in runs if (cell := cell_of(run))]
    spec = study if isinstance(study, StudySpec) else None
    found = labels_of([cell for _, cell in placed], spec)
    labels = {run.id: visible(label) for (run, _), label in zip(placed, found, strict=True)}
    return {run.id: labels.get(run.id) or place_of(run) for run in runs}


def varied_columns(study: Job) -> list[Column]:
    """Return the columns of the fields that a study varies, in the order of its spec."""
    spec = study.spec
    if not isinstance(spec, StudySpec):
        return []
    grids = [spec.grid, *(part.grid for part in spec.parts.values())]
    names = dict.fromkeys(name for grid in grids for name in grid)
    found: dict[str, Column] = {}
    for name in names:
        try:
            column = field_column(name)
        except ValueError:  # of an earlier version, or a whole object
            continue
        found[column.name] = column
    return list(found.values())


def _filled(
    store: Store,
    table: JobTable,
    default: Sequence[str],
    labeller: Labeller,
    varied: Sequence[str] = (),
) -> JobTable:
    asked = table.asked
    shown = _shown(table, default)
    offered = dict.fromkeys([*varied, *OFFERED, *(OFFERED_OF_RUNS if table.parent else ()), *shown])
    table.choices = [Choice(name, _meaning(name), name in shown) for name in offered]
    order = _order(table)
    table.headings = [_heading(table, name, order) for name in shown]
    filters = _filters(table)
    if table.wrong:
        return table
    page_order = order or (parse_order("run") if table.parent else None)
    before = asked.cursor if is_job_id(asked.cursor) else None
    try:
        page = store.jobs.page(
            limit=asked.rows, before=before, order=page_order, total=True, **filters
        )
    except CursorGone:
        page = store.jobs.page(limit=asked.rows, order=page_order, total=True, **filters)
    table.total = page.total or 0
    best = _best_run(store, table, order, filters)
    labels = labeller([*page.jobs, *([best] if best else [])])
    table.rows = _rows(store, page.jobs, shown, labels)
    if best and order:
        names = dict.fromkeys([*shown, order.column.name])
        table.best, table.best_of = _rows(store, [best], list(names), labels)[0], order.column.name
    table.states = [
        StateCount(state, count, table.address(state=state))
        for state, count in (page.states or {}).items()
    ]
    table.allowed = _allowed_in(page.states or {}, is_runs=bool(table.parent))
    if page.next_id:
        table.next_url = table.address(cursor=page.next_id)
    return table


def _shown(table: JobTable, default: Sequence[str]) -> list[str]:
    """Return the names of the columns to show; without what is not understood, which is said."""
    asked = [name for name in table.asked.columns if name != SUMMARY]
    if not table.asked.columns:
        return list(default)
    try:
        found = {column.name for column in parse_columns(asked, MOST_COLUMNS)}
    except FilterError as error:
        table.wrong, table.wrong_in = str(error), "columns"
        return list(default)
    names = [
        name if name == SUMMARY else parse_columns([name], 1)[0].name
        for name in table.asked.columns
    ]
    return [name for name in dict.fromkeys(names) if name == SUMMARY or name in found]


def _order(table: JobTable) -> Order | None:
    try:
        return parse_order(table.asked.sort) if table.asked.sort else None
    except FilterError as error:
        table.wrong, table.wrong_in = str(error), "sort"
        return None


def _filters(table: JobTable) -> dict[str, Any]:
    try:
        found = table.asked.filters()
    except FilterError as error:
        table.wrong, table.wrong_in = str(error), "where"
        return {}
    return {**found, "parent": table.parent} if table.parent else found


def _meaning(name: str) -> str:
    if name == SUMMARY:
        return (
            "means over seeds at the last epoch measured; of a check at its largest width; of a "
            "study from the smallest to the largest of its runs"
        )
    return columns()[name].meaning


def _heading(table: JobTable, name: str, order: Order | None) -> Heading:
    """Return a heading; it sorts numbers by the largest first, and then the other way."""
    if name == SUMMARY:
        return Heading(name, name, _meaning(name), None, None, is_number=False)
    column = columns()[name]
    is_sorted = order is not None and order.column.name == name
    descending = is_sorted and order is not None and order.descending
    falls = not descending if is_sorted else column.is_number
    sort = f"{'-' if falls else ''}{name}"
    return Heading(
        name,
        column.label,
        column.meaning,
        table.address(sort=sort),
        ("descending" if descending else "ascending") if is_sorted else None,
        column.is_number and not column.several and name != "progress",
        column.type == "time",
    )


def _rows(
    store: Store, jobs: Sequence[Job], shown: Sequence[str], labels: Mapping[str, str]
) -> list[Row]:
    headlines = store.jobs.headlines(jobs)
    now = time.time()
    known = [columns()[name] for name in shown if name != SUMMARY]
    rows = []
    for job in jobs:
        values = values_of(known, job, headlines[job.id].figures, now)
        cells = {column.name: _cell(column, values[column.name]) for column in known}
        times = ((name, getattr(job, TIMES[name])) for name in cells if name in TIMES)
        rows.append(
            Row(
                job,
                labels.get(job.id) or title_of(job),
                headlines[job.id],
                cells,
                {name: time_ago(at) if at else "–" for name, at in times},
                _ended(job),
                " ".join(allowed_actions(job)),
            )
        )
    return rows


def _ended(job: Job) -> str:
    """How far a job came, in words: a bar says nothing more of what moves no further."""
    if job.state == JobState.succeeded:  # a study, too, of which some runs have failed
        return job.progress.message if job.kind == "study" else "100 %"
    if job.state not in TERMINAL:
        return ""
    if job.kind != "study" and not job.attempts:
        return "never begun"
    done, message = f"{100 * job.progress.fraction:.0f} %", job.progress.message
    return f"{done}, {message}" if message not in ("", job.state.value) else done


def _cell(column: Column, value: Values) -> str:
    return cell_text(column, value) or "–"


def allowed_actions(job: Job) -> list[str]:
    """Return what the viewer may ask for a job as it is."""
    if not VIEWER.get().may_change(job.submitted_by):
        return []
    may_go = job.state in TERMINAL and job.parent is None
    return [*actions_on(job), *((DELETE,) if may_go else ())]


def _allowed_in(states: Mapping[str, int], *, is_runs: bool) -> list[str]:
    """Return what some job of these states allows."""
    found = {action for state in states for action in ACTIONS[JobState(state)]}
    if not is_runs and any(JobState(state) in TERMINAL for state in states):
        found.add(DELETE)
    return sorted(found)


def _runs_that_fit(store: Store, asked: Asked) -> int:
    """Return how many runs of studies fit a filter of jobs that leaves them out."""
    if asked.runs or not asked.is_filtered:
        return 0
    return store.jobs.count(**{**asked.filters(), "parent": ANY_STUDY})


def _figures_in(asked: Asked) -> list[str]:
    """Return the figures that a filter compares: a study has none, but its runs have."""
    columns = [one.column for one in asked.filters().get("where", ())]
    names = [column.label for column in columns if column and column.group == "figure"]
    return list(dict.fromkeys(names))


def _best_run(
    store: Store, table: JobTable, order: Order | None, filters: Mapping[str, Any]
) -> Job | None:
    """Return the best run of a study: the first by the figure that its table is sorted by."""
    if not table.parent or order is None or order.column.group != "figure":
        return None
    found = store.jobs.page(limit=1, order=order, having=order.column, **filters)
    return next(iter(found.jobs), None)
