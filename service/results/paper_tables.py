"""Tables of results for papers: figures with their intervals, and how they were obtained."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from ffengine.intervals import interval_of
from ffengine.results import (
    CheckCell,
    CheckResult,
    EpochRow,
    Interval,
    Provenance,
    StudyCell,
    TrainResult,
)
from ffengine.spec_values import params_in_words, value_in_words
from ffengine.study import figure_rows
from ffengine.summary_keys import SummaryKey
from service.results.baseline_table import baseline_table
from service.results.column_labels import LABELS
from service.results.descriptions import short_digest
from service.results.forecasts import epochs_table
from service.results.paper_comparison import ComparisonRow, by_run, comparison, legend
from service.results.paper_setting import nearest_first
from service.results.row_keys import quantity_of
from service.results.sources import ChartSource, Source, StudyGrid
from service.results.text_tables import Column, TextTable, check_tables, push_table

TableKind = Literal[
    "comparison",
    "runs",
    "figures",
    "curves",
    "cells",
    "epochs",
    "potentials",
    "decomposition",
    "baselines",
]
KINDS: tuple[TableKind, ...] = get_args(TableKind)
MOST_EPOCHS = 12  # of a table of curves
MOST_ROWS = 200
MOST_FIELDS = 3  # with a column each; more stand in one column, which has lines
KIND_OF: dict[str, TableKind] = {"Pot": "potentials", "Bes": "baselines"}  # by its title
STUDENT = "Student's t over seeds"
OF_SHARES = f"{STUDENT}; of shares of samples the wider of that and Wilson's over samples"
CURVE_FIGURES = ("sparsity", "theorem2_ratio", "theorem1_ratio", "agreement")
CELL_FIGURES = {
    "ratio": "satisfied / live",
    "observed_increase_ratio": "S rose in a trial step",
    "agreement": "predicted = observed sign",
}
RUN_FIGURES: dict[tuple[str, str | None], str] = {
    ("theorem1", None): "theorem 1, satisfied",
    ("ratio", "positive"): "satisfied, positive",
    ("ratio", "negative"): "satisfied, negative",
    ("sparsity", "positive"): "S, positive",
    ("sparsity", "negative"): "S, negative",
    ("theorem2_ratio", "positive"): "theorem 2, positive",
    ("theorem2_ratio", "negative"): "theorem 2, negative",
    ("accuracy", None): "test accuracy",
}


class PaperTable(NamedTuple):
    """A table for a paper; all of it is plain text.

    name: its name among those of a job. caption: what it shows and how it was obtained.
    """

    name: TableKind
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


def paper_tables(sources: Sequence[ChartSource]) -> dict[TableKind, Callable[[], PaperTable]]:
    """The tables that results have, each made when it is called.

    **Arguments:**

    - `sources`: those of a job's result.
    """
    runs = [source for source in sources if isinstance(source, Source)]
    grid = next((source for source in sources if isinstance(source, StudyGrid)), None)
    measured = [cell for cell in grid.cells if cell.found.summary] if grid else []
    cells = [cell.found for cell in nearest_first(measured, lambda cell: (cell.spec, None))]
    found: dict[TableKind, Callable[[], PaperTable]] = {}
    if lines := comparison(runs):
        found["comparison"] = lambda: _comparison(lines, runs)
    if cells:
        found |= {"runs": lambda: _runs(cells, runs), "figures": lambda: _figures(cells, runs)}
    elif len(runs) == 1:
        found |= _of_run(runs[0])
    if (epochs := epochs_table(runs)).rows:
        columns = [Column(title) for title in epochs.head]
        found["epochs"] = lambda: PaperTable(
            "epochs", f"Epochs needed. {obtained(runs)}", columns, epochs.rows
        )
    return {kind: found[kind] for kind in KINDS if kind in found}


def _of_run(source: Source) -> dict[TableKind, Callable[[], PaperTable]]:
    result = source.result
    found: dict[TableKind, Callable[[], PaperTable]] = {}
    texts: Sequence[TextTable] = ()
    if isinstance(result, TrainResult):
        found["curves"] = lambda: _curves(result, source)
        texts = [push_table(result), baseline_table(result)]
    elif isinstance(result, CheckResult):
        found["cells"] = lambda: _cells(result, source)
        texts = check_tables(result)
    for text in texts:
        if text.rows:
            kind = KIND_OF.get(text.title[:3], "decomposition")
            found[kind] = _from_text(kind, text, source)
    return found


def _from_text(kind: TableKind, text: TextTable, source: Source) -> Callable[[], PaperTable]:
    caption = f"{text.title}. {' '.join(text.notes)} {obtained([source])}"
    return lambda: PaperTable(kind, caption, text.columns, text.rows)


def obtained(sources: Sequence[Source], *, intervals: str = OF_SHARES) -> str:
    """How the figures of these results were obtained, in two sentences."""
    found = [source.result.provenance for source in sources]
    if not found:
        return ""
    seeds = sorted({len(one.seeds) for one in found})
    several = seeds[-1] > 1
    counted = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
    means = (
        f"Means over {counted} seeds with 95 % intervals in brackets ({intervals})"
        if several
        else "One seed, so that there are no intervals"
    )
    data = ", ".join(dict.fromkeys(_data(one) for one in found))
    programs = ", ".join(dict.fromkeys(one.program for one in found))
    digests = dict.fromkeys(one.spec_digest for one in found)
    spec = f", spec {short_digest(next(iter(digests)))}" if len(digests) == 1 else ""
    return f"{means}; data: {data}. Computed with {programs}{spec}."


def _data(one: Provenance) -> str:
    data = one.dataset
    return f"{data.name} ({data.preprocess}, {data.train_samples:,} training samples)"


def with_interval(found: Interval | None, digits: int = 3) -> str:
    """A mean with its interval: `0.750 [0.700, 0.800]`; the mean alone of one seed."""
    if found is None:
        return "–"
    mean = number(found.mean, digits)
    if found.low is None or found.high is None:
        return mean
    return f"{mean} [{number(found.low, digits)}, {number(found.high, digits)}]"


def number(value: float, digits: int) -> str:
    """A number with so many decimals, or more where these would make it 0 or 1 and it is not."""
    if value and not 1e-3 <= abs(value) < 1e3:
        return f"{value:.3g}".replace("-", "−")
    short = f"{value:.{digits}f}"
    if abs(float(short)) in (0.0, 1.0) and float(short) != value:
        short = f"{value:.{digits + 2}f}"
    return short.replace("-", "−")


COMPARISON = (
    Column("quantity", is_number=False),
    Column("measured [95 % interval]"),
    Column("paper"),
    Column("verdict", is_number=False),
    Column("samples"),
    Column("seeds"),
)


def _comparison(lines: Sequence[ComparisonRow], sources: Sequence[Source]) -> PaperTable:
    rows: list[list[str]] = []
    for run in by_run(lines):
        if run.heading:
            rows.append([run.heading])
        rows += [
            [
                quantity_of(line.key),
                with_interval(
                    Interval(mean=line.measured, low=line.low, high=line.high, seeds=line.seeds),
                    digits=4,
                ),
                line.published,
                line.verdict if run.heading else line.judgement,
                f"{line.samples:,}",
                str(line.seeds),
            ]
            for line in run.rows
        ]
    caption = f"Measured beside published. {obtained(sources)} {' '.join(legend(lines))}"
    return PaperTable("comparison", caption.strip(), COMPARISON, rows)


def _curves(result: TrainResult, source: Source) -> PaperTable:
    layers = sorted({row.layer for row in result.curves})
    figures = [
        name
        for name in CURVE_FIGURES
        if any(getattr(row, name) is not None for row in result.curves)
    ]
    groups: dict[tuple[int, int, str], list[EpochRow]] = {}
    for row in result.curves:
        groups.setdefault((row.layer, row.epoch, row.split), []).append(row)
    measured = {layer: sorted({at for of, at, _ in groups if of == layer}) for layer in layers}
    shown = {layer: thinned(epochs, MOST_EPOCHS) for layer, epochs in measured.items()}
    rows = [
        [
            *([str(layer)] if len(layers) > 1 else []),
            f"{epoch:,}",
            split,
            *(with_interval(interval_of(group, name)) for name in figures),
        ]
        for (layer, epoch, split), group in groups.items()
        if epoch in shown[layer]
    ]
    left_out = any(len(shown[layer]) < len(measured[layer]) for layer in layers)
    note = f" {MOST_EPOCHS} of the measured epochs are shown." if left_out else ""
    return PaperTable(
        "curves",
        f"Training, epoch by epoch.{note} {obtained([source])}",
        [
            *([Column("layer")] if len(layers) > 1 else []),
            Column("epoch"),
            Column("samples", is_number=False),
            *(Column(LABELS[name]) for name in figures),
        ],
        rows,
    )


def thinned(numbers: Sequence[int], most: int) -> set[int]:
    """The first, the last, and evenly spaced numbers between them."""
    if len(numbers) <= most:
        return set(numbers)
    return {numbers[round(at * (len(numbers) - 1) / (most - 1))] for at in range(most)}


def _cells(result: CheckResult, source: Source) -> PaperTable:
    groups: dict[tuple[str, int, str], list[CheckCell]] = {}
    for cell in result.cells:
        groups.setdefault((cell.method, cell.width, cell.split), []).append(cell)
    figures = [
        name
        for name in CELL_FIGURES
        if any(getattr(cell, name) is not None for cell in result.cells)
    ]
    rows = [
        [
            f"{width:,}",
            split,
            method.replace("_", " "),
            *(with_interval(interval_of(group, name)) for name in figures),
            f"{sum(cell.live for cell in group):,}",
        ]
        for (method, width, split), group in sorted(groups.items())
    ]
    columns = [
        Column("width n"),
        Column("samples", is_number=False),
        Column("method", is_number=False),
        *(Column(CELL_FIGURES[name]) for name in figures),
        Column("live samples"),
    ]
    caption = f"Theorem {result.theorem}: shares of live samples. {obtained([source])}"
    return PaperTable("cells", caption, columns, rows)


def _runs(cells: Sequence[StudyCell], sources: Sequence[Source]) -> PaperTable:
    """A row for each run, with its last figures.

    Checks beside training runs are left out: they have other figures, which would make the table
    too wide, and all of these stand beside the published ones.
    """
    trained = [cell for cell in cells if cell.kind == "train"]
    aside = ", whose checks are among what is measured beside published" if trained else ""
    aside = aside if len(trained) < len(cells) else ""
    cells = trained or cells
    shown = cells[:MOST_ROWS]
    found = [dict(_last_figures(cell)) for cell in shown]
    figures = [key for key in RUN_FIGURES if any(key in one for one in found)]
    fields = list(dict.fromkeys(field for cell in shown for field in cell.params))
    parts = len({cell.part for cell in shown}) > 1
    together = len(fields) > MOST_FIELDS
    rows = [
        [
            *([cell.part] if parts else []),
            *([params_in_words(cell.params)] if together else _values(cell, fields)),
            *(with_interval(one.get(key)) for key in figures),
        ]
        for cell, one in zip(shown, found, strict=True)
    ]
    columns = [
        *([Column("part", is_number=False)] if parts else []),
        *(Column(name, is_number=False) for name in (["run"] if together else fields)),
        *(Column(RUN_FIGURES[key]) for key in figures),
    ]
    caption = (
        f"{'Training runs' if aside else 'Runs'} of the study{aside}, each at the last epoch that "
        f"it measured, in its last layer{'' if trained else '; checks at their largest width'}."
        f"{_first(len(shown), len(cells))} {obtained(sources)}"
    )
    return PaperTable("runs", caption, columns, rows)


def _values(cell: StudyCell, fields: Sequence[str]) -> list[str]:
    """The values of a run's fields, a cell for each."""
    return [value_in_words(cell.params[one]) if one in cell.params else "" for one in fields]


def _last_figures(cell: StudyCell) -> Iterator[tuple[tuple[str, str | None], Interval]]:
    """The figures of RUN_FIGURES at the last epoch of the last layer, or at the largest width."""
    best: dict[tuple[str, str | None], tuple[tuple[int, int, int], Interval]] = {}
    for text, found in cell.summary.items():
        key = SummaryKey.parse(text)
        if key.method not in (None, "exact", "goodness") or key.partition not in (None, "test"):
            continue
        if key.figure == "accuracy" and key.layer != "all":
            continue
        name = (key.figure, key.split)
        if key.figure == "ratio" and cell.theorem == 1:
            name = ("theorem1", None)
        layer = key.layer if isinstance(key.layer, int) else 0
        place = (layer, key.epoch or 0, key.width or 0)
        if name in RUN_FIGURES and (name not in best or place > best[name][0]):
            best[name] = (place, found)
    return ((name, found) for name, (_, found) in best.items())


def _figures(cells: Sequence[StudyCell], sources: Sequence[Source]) -> PaperTable:
    """A row for each run and figure at the last epoch."""
    rows = [row for cell in cells for row in _figures_of(cell)]
    shown = rows[:MOST_ROWS]
    columns = (
        Column("run", is_number=False),
        Column("figure", is_number=False),
        Column("of", is_number=False),
        Column("mean [95 % interval]"),
        Column("seeds"),
    )
    caption = (
        "Figures of the study's runs at the last epoch of each."
        f"{_first(len(shown), len(rows))} {obtained(sources)}"
    )
    return PaperTable("figures", caption, columns, shown)


def _figures_of(cell: StudyCell) -> list[list[str]]:
    run = ", ".join(filter(None, (cell.part, params_in_words(cell.params))))
    rows = figure_rows([cell])
    last = max((int(str(row["epoch"])) for row in rows if row.get("epoch") is not None), default=0)
    return [
        [
            run,
            LABELS.get(str(row["figure"]), str(row["figure"])),
            _place(row),
            with_interval(
                Interval.model_validate({name: row[name] for name in Interval.model_fields})
            ),
            str(row["seeds"]),
        ]
        for row in rows
        if row.get("epoch") in (None, last)
    ]


def _place(row: Mapping[str, object]) -> str:
    names = ("layer", "layers", "split", "width", "method", "partition")
    parts = (f"{name} {row[name]}" for name in names if row.get(name) is not None)
    return ", ".join(parts)


def _first(shown: int, all_of_them: int) -> str:
    return f" The first {shown:,} of {all_of_them:,} rows." if shown < all_of_them else ""
