"""The charts of a page by theme, and how many panels each is expected to have, so that a page has
its height before its charts are drawn. No HTTP, no SQL, no charting library.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from service.results.sources import ChartSource, StudyGrid

THEMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Over the study",
        (
            "finding",
            "search_history",
            "search_importance",
            "search_parallel",
            "study_scatter",
        ),
    ),
    (
        "Heat maps of the study",
        (
            "grid_theorem1",
            "grid_theorem2",
            "grid_sparsity",
            "grid_accuracy",
            "grid_agreement",
        ),
    ),
    ("Forecast", ("forecast_sparsity", "forecast_theorem2")),
    ("By width", ("theorem1_widths", "theorem2_widths", "agreement_widths")),
    ("Single samples", ("margins", "geometry", "potentials", "decomposition")),
    (
        "Loss, accuracy, goodness",
        (
            "loss",
            "accuracy",
            "accuracy_epochs",
            "auc_epochs",
            "loss_epochs",
            "goodness",
            "log_goodness_flow",
        ),
    ),
    (
        "Sparsity",
        (
            "sparsity_widths",
            "sparsity",
            "sparsity_flow",
            "phases",
            "layers",
        ),
    ),
    (
        "The theorems while training",
        (
            "theorem2_inputs",
            "theorem2",
            "theorem2_flow",
            "theorem2_expected",
            "prediction",
            "agreement",
            "theorem1",
            "deep_theorem2",
            "deep_agreement",
        ),
    ),
    (
        "Units",
        (
            "kappa_gap",
            "used_units",
            "gradient_share",
            "basins",
            "effective_sizes",
            "weight_norm",
            "weight_sparsity",
        ),
    ),
    ("What units are for", ("lesions", "usage", "selectivity", "ood")),
    ("Weights", ("receptive_fields", "weight_histogram", "unit_lengths")),
)
WEIGHTS = dict(THEMES)["Weights"]
OPEN_PANELS = 8  # a page has about so many open at first, and its first theme in any case
MOST_PANELS = 24  # those that a chart draws
ONE_PANEL = frozenset(
    {
        "finding",
        "search_history",
        "search_importance",
        "search_parallel",
        "study_scatter",
        "sparsity_widths",
        "forecast_theorem2",
        "geometry",
        "potentials",
    }
)
ONE_A_RUN = frozenset({"accuracy", "layers", "theorem2_expected"})
BY_SPLIT = frozenset({"theorem2_widths", "agreement_widths", "receptive_fields"})
SPLITS = 2
LESIONS = 2  # of units and of weights
OOD_FIGURES = 2  # AUROC and FPR95
FIGURES_IN_PHASES = 3  # S and both theorems
TWINS = frozenset({"sparsity_flow", "theorem2_flow"})  # shown in place of those over epochs


class Size(NamedTuple):
    """What the number of panels of a job's charts follows from.

    **Attributes:**

    - `runs`: the training runs that are drawn.
    - `others`: the checks and forecasts.
    - `layers`: the layers of a network.
    - `widths`: the widths of a check or forecast.
    - `grids`: the heat maps of a study for one figure: more than one where over two fields vary.
    """

    runs: int = 1
    others: int = 1
    layers: int = 1
    widths: int = 1
    grids: int = 1


class ChartGroup(NamedTuple):
    """The charts of one theme."""

    title: str
    charts: Sequence[str]
    is_open: bool

    @property
    def slug(self) -> str:
        """What the address of the group on its page ends with."""
        return "-".join(self.title.lower().replace(",", "").split())

    @property
    def names(self) -> str:
        """The names of its charts, without those that take the place of others."""
        found = [one for one in self.charts if one not in TWINS] or self.charts
        return ", ".join(one.replace("_", " ") for one in found)


def size_of(sources: Sequence[ChartSource]) -> Size:
    """Return what the number of panels of the charts of these sources follows from."""
    grids = [source for source in sources if isinstance(source, StudyGrid)]
    runs = [source for source in sources if not isinstance(source, StudyGrid)]
    specs = [source.spec for source in runs if source.spec is not None]
    specs += [cell.spec for grid in grids for cell in grid.cells if cell.spec is not None]
    layers = [len(spec.network.widths) for spec in specs if spec.kind == "train"]
    widths = [len(spec.widths) for spec in specs if spec.kind != "train"]
    trained = sum(source.spec is not None and source.spec.kind == "train" for source in runs)
    return Size(
        runs=max(1, trained),
        others=max(1, len(runs) - trained),
        layers=max(layers, default=1),
        widths=max(widths, default=1),
        grids=max(map(_heat_maps, grids), default=1),
    )


def _heat_maps(grid: StudyGrid) -> int:
    """How many heat maps a study has for one figure: two fields are the axes of each."""
    values: dict[str, set[str]] = {}
    for cell in grid.cells:
        for field, value in cell.found.params.items():
            values.setdefault(field, set()).add(repr(value))
    counts = sorted((len(found) for found in values.values() if len(found) > 1), reverse=True)
    return prod(counts[2:])


def panels_of(name: str, size: Size) -> int:
    """Return how many panels a chart is expected to have."""
    if name in ONE_PANEL:
        return 1
    if name in ONE_A_RUN:
        found = size.runs
    elif name == "grid_accuracy":
        found = size.grids
    elif name.startswith("grid_"):
        found = size.grids * size.layers * SPLITS
    elif name in BY_SPLIT:
        found = SPLITS
    elif name in ("margins", "decomposition"):
        found = size.others * size.widths
    elif name == "forecast_sparsity":
        found = size.widths + 1  # and infinite width
    elif name in ("accuracy_epochs", "auc_epochs"):
        found = size.runs * (size.layers + (size.layers > 1))  # and all layers
    elif name == "phases":
        found = size.runs * size.layers * FIGURES_IN_PHASES
    elif name == "lesions":
        found = size.runs * LESIONS
    elif name == "ood":
        found = size.runs * OOD_FIGURES
    elif name.startswith("deep_"):
        found = size.runs * max(1, size.layers - 1)
    else:
        found = size.runs * size.layers
    return min(found, MOST_PANELS)


def grouped(charts: Sequence[str], size: Size) -> list[ChartGroup]:
    """Return the charts by theme, each in its theme's order; the first themes are open."""
    groups: list[ChartGroup] = []
    panels = 0
    for title, names in THEMES:
        found = [name for name in names if name in charts]
        if not found:
            continue
        panels += sum(panels_of(name, size) for name in found)
        groups.append(ChartGroup(title, found, not groups or panels <= OPEN_PANELS))
    return groups
