"""What the page of a job shows of its results. Of jobs that have ended it is kept for the next
visit: to read rows and compute their intervals takes longer than all else.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ffengine.results import Diagnostic, Onset, TrainResult
from service.jobs import TERMINAL, Job, JobState
from service.results.chart_groups import WEIGHTS, Size, size_of
from service.results.symbols import Symbol, symbols_in
from service.results.text_tables import TextTable
from service.web.dashboard import view_models
from service.web.dependencies import Resources
from service.web.drawing.protocol import ChartView
from service.web.large_results import turn_for
from service.web.lookup import provenance_of

if TYPE_CHECKING:  # the charting library takes long to load: not at start-up
    from service.results.answers import Answer
    from service.results.charts import StudyGrid
    from service.results.forecasts import EpochsTable
    from service.results.paper_comparison import ComparisonRow

MOST_KEPT = 32  # jobs
# what needs more memory is not kept
MOST_RUNS_KEPT = 1_000
MOST_ROWS_KEPT = 5_000


class RunNow(NamedTuple):
    """The run of a study that is computed now: its place among all, and its answer so far."""

    job: Job
    number: int
    of: int
    label: str
    opening: "Answer"
    size: Size


def running_now(resources: Resources, grids: Sequence["StudyGrid"]) -> RunNow | None:
    """The first run of a study that runs; its page shows the curves of it."""
    from service.results.answers import answer, labels_in
    from service.results.charts import available
    from service.results.load import drawable

    for grid in grids:
        running = (at for at, one in enumerate(grid.cells) if one.found.state == JobState.running)
        at = next(running, None)
        cell = None if at is None else grid.cells[at].found
        run = resources.store.jobs.get(cell.job) if cell and cell.job else None
        if at is not None and run is not None:
            sources = drawable(resources.store, run, resources.artifacts)
            opening = answer(sources, available(sources))
            place, label = at + 1, labels_in(grid)[at]
            return RunNow(run, place, len(grid.cells), label, opening, size_of(sources))
    return None


class Shown(NamedTuple):
    """What a page shows of the results of a job."""

    trials: view_models.TrialsView | None
    lines: Sequence["ComparisonRow"]
    charts: Sequence[str]
    found: Sequence[str]
    symbols: Sequence[Symbol]
    opening: "Answer"
    now: RunNow | None
    size: Size
    findings: Sequence[tuple[str, Diagnostic]]
    tables: Sequence[TextTable]
    rows: Sequence[str]
    onset: Onset | None
    epochs: "EpochsTable"
    runs: int
    paper: view_models.Paper


class KeptShown:
    """What was shown of jobs that have ended, the ones that were looked at last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, Shown] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: object) -> Shown | None:
        """Return what is kept of a job and a view."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: object, shown: Shown) -> None:
        """Keep it, in place of what nobody has looked at for longest."""
        rows = len(shown.lines) + sum(len(table.rows) for table in shown.tables)
        if shown.runs > MOST_RUNS_KEPT or rows > MOST_ROWS_KEPT:
            return
        with self._lock:
            self._kept[key] = shown
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)


KEPT = KeptShown()  # ids of jobs are unique, whatever database they are in


def shown_of(resources: Resources, job: Job, view: ChartView) -> Shown:
    """Return what the page of a job shows of its results.

    **Arguments:**

    - `resources`: what the process holds open.
    - `job`: the job.
    - `view`: how its runs are compared.
    """
    if job.state not in TERMINAL:
        return _read(resources, job, view)
    key = (job.id, job.state, job.finished_at, job.name, view)
    kept = KEPT.get(key)
    if kept is None:
        kept = _read(resources, job, view)
        KEPT.keep(key, kept)
    return kept


def _read(resources: Resources, job: Job, view: ChartView) -> Shown:
    """Read the results of a job, and say what they show."""
    from service.results.answers import answer
    from service.results.charts import Source, StudyGrid, available
    from service.results.finding_runs import answered, what_was_found
    from service.results.forecasts import epochs_table
    from service.results.load import cells_of, drawable
    from service.results.paper_comparison import comparison
    from service.results.paper_tables import paper_tables
    from service.results.trials import seen as viewed

    with turn_for(resources.store, [job]):
        drawn = drawable(resources.store, job, resources.artifacts)
        sources = [viewed(source, *view.fields) for source in drawn]
        results = [source for source in sources if isinstance(source, Source)]
        grids = [source for source in sources if isinstance(source, StudyGrid)]
        own = [source.result for source in results] if job.kind != "study" else []
        charts = available(sources)
        found, opening = what_was_found(sources), answer(sources, charts)
        finding = answered(sources)
        told = [*found, *(f"{one.subject} {one.found}" for one in opening.statements)]
        told += [finding.finding.method] if finding else []  # of the words in its chart
        return Shown(
            trials=view_models.trials_of_study(sources, view),
            lines=comparison(results),
            charts=charts,
            found=found,
            symbols=symbols_in(told),
            opening=opening,
            now=None if job.state in TERMINAL else running_now(resources, grids),
            size=size_of(sources),
            findings=[(one.label, found) for one in results for found in one.result.diagnostics],
            tables=view_models.tables_of(own),
            rows=view_models.more_rows(own),
            onset=next((one.onset for one in own if isinstance(one, TrainResult)), None),
            epochs=epochs_table(results),
            runs=sum(len(grid.cells) for grid in grids),
            paper=view_models.paper(
                job,
                provenance_of(resources.store, job),
                cells_of(resources.store, job),
                paper_tables(sources),
            ),
        )


class WeightsOfRun(NamedTuple):
    """The charts of weights that the best run of a study has."""

    job: Job
    charts: Sequence[str]
    size: Size


def weights_of_best(
    resources: Resources, trials: view_models.TrialsView | None
) -> WeightsOfRun | None:
    """What a study's page shows of the weights of its best run; None where none are kept."""
    from service.results.charts import available
    from service.results.load import drawable

    best = resources.store.jobs.get(trials.best_job) if trials and trials.best_job else None
    if best is None or best.kind != "train":
        return None
    sources = drawable(resources.store, best, resources.artifacts)
    there = available(sources)
    found = [name for name in WEIGHTS if name in there]
    return WeightsOfRun(best, found, size_of(sources)) if found else None
