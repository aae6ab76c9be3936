"""Charts of results, one function a chart: the same for the page, the report, the command line and
the API.
"""

import gc
import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

import vl_convert

from service.encoding.escaping import for_drawing, for_html, for_script
from service.results.chart_formats import (
    FORMATS,
    MEDIA_TYPES,
    SCREEN,
    ChartFormat,
    ChartLook,
    Theme,
)
from service.results.charts.accuracies import accuracy, has_accuracy
from service.results.charts.acts import has_inputs, has_widths, sparsity_widths, theorem2_inputs
from service.results.charts.decomposition import decomposition, has_pushes
from service.results.charts.deep import deep_agreement, deep_theorem2, is_joint
from service.results.charts.drawables import NothingToDraw
from service.results.charts.epoch_accuracy import (
    accuracy_epochs,
    auc_epochs,
    has_epoch_accuracy,
    loss_epochs,
)
from service.results.charts.epochs import (
    Figure,
    agreement,
    basins,
    goodness,
    gradient_share,
    has,
    kappa_gap,
    log_goodness_flow,
    prediction,
    sparsity,
    sparsity_flow,
    theorem1,
    theorem2,
    theorem2_expected,
    theorem2_flow,
)
from service.results.charts.finding import finding, is_answered
from service.results.charts.finish import DARK_PAGE, document_of, drawn_rows, finished
from service.results.charts.forecast import (
    forecast_sparsity,
    forecast_theorem2,
    has_forecast,
)
from service.results.charts.geometry import geometry, has_angles
from service.results.charts.grids import (
    grid_accuracy,
    grid_agreement,
    grid_sparsity,
    grid_theorem1,
    grid_theorem2,
    has_grid,
)
from service.results.charts.layers import is_deep, layers
from service.results.charts.losses import has_loss, loss
from service.results.charts.margins import is_kept, margins
from service.results.charts.overlay import OVERLAID, overlaid
from service.results.charts.phases import in_phases, phases
from service.results.charts.pictures import looking, pictured, readable
from service.results.charts.potentials import has_potentials, potentials
from service.results.charts.search_history import has_history, search_history
from service.results.charts.search_importance import has_importance, search_importance
from service.results.charts.search_parallel import has_parallel, search_parallel
from service.results.charts.study_scatter import has_scatter, study_scatter
from service.results.charts.style import AnyChart
from service.results.charts.suite import (
    has_lesions,
    has_ood,
    has_selectivity,
    has_usage,
    lesions,
    ood,
    selectivity,
    usage,
)
from service.results.charts.units import used_units
from service.results.charts.weight_charts import (
    has_images,
    has_weights,
    receptive_fields,
    unit_lengths,
    weight_histogram,
)
from service.results.charts.weights import (
    effective_sizes,
    has_sizes,
    weight_norm,
    weight_sparsity,
)
from service.results.charts.widths import (
    agreement_widths,
    has_agreement,
    has_theorem,
    theorem1_widths,
    theorem2_widths,
)
from service.results.sources import ChartSource, GridCell, PartialRun, Source, StudyGrid

__all__ = [
    "CHARTS",
    "FORMATS",
    "MEDIA_TYPES",
    "ChartEntry",
    "ChartFormat",
    "ChartLook",
    "ChartSource",
    "GridCell",
    "NothingToDraw",
    "PartialRun",
    "Source",
    "StudyGrid",
    "Theme",
    "available",
    "for_report",
    "overlay",
    "render",
]

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>
<style>html {{ color-scheme: {theme}; background: {page}; }}
#chart {{ width: 100%; overflow-x: auto; }}
h1 {{ position: absolute; width: 1px; height: 1px; margin: 0; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }}</style>
<script>{library}</script></head>
<body><main><h1>{title}</h1>
<div id="chart" tabindex="0" role="region" aria-label="chart"></div></main>
<script>vegaEmbed("#chart", {specification}, {options}).then(
  () => document.querySelector("#chart summary").setAttribute("aria-label", "Save the chart")
);</script></body></html>
"""
# ast: the library interprets expressions; compiling them to code is refused by the page's policy
OPTIONS = {
    "renderer": "svg",
    "ast": True,
    "actions": {"export": True, "source": False, "compiled": False, "editor": False},
}


class ChartEntry(NamedTuple):
    """A chart: its name, what it shows, the function that draws it, and whether results have rows
    for it.
    """

    name: str
    meaning: str
    draw: Callable[[Sequence[ChartSource]], AnyChart]
    is_there: Callable[[Sequence[ChartSource]], bool]


def render(
    name: str,
    sources: Sequence[ChartSource],
    fmt: ChartFormat,
    theme: Theme = "light",
    look: ChartLook = SCREEN,
) -> bytes:
    """A chart as bytes.

    Raises KeyError for an unknown name, NothingToDraw where the results have no rows for it.
    """
    chart = CHARTS[name].draw(sources)
    if fmt == "csv":
        return drawn_rows(document_of(chart))
    if fmt in ("svg", "png", "pdf"):
        return pictured(_for_drawing(chart, theme), fmt, look)
    specification = _specification(chart, theme, look)
    if fmt == "json":
        return specification.encode()
    title, options = for_html(CHARTS[name].meaning), json.dumps(OPTIONS)
    return PAGE.format(
        title=title,
        library=library(),
        specification=for_script(specification),
        options=options,
        theme=theme,
        page=DARK_PAGE if theme == "dark" else "#fff",
    ).encode()


def for_report(name: str, sources: Sequence[ChartSource]) -> str:
    """A chart as a small SVG whose text is text, for a page that is a file.

    Raises as `render` does.
    """
    return readable(_specification(CHARTS[name].draw(sources)))


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, in the versions that draw the other formats. It
    takes a second to build.
    """
    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _specification(chart: AnyChart, theme: Theme = "light", look: ChartLook = SCREEN) -> str:
    """The chart as JSON."""
    written = _for_drawing(chart, theme)
    return written if look.is_plain else json.dumps(looking(json.loads(written), look))


def _for_drawing(chart: AnyChart, theme: Theme) -> str:
    return for_drawing(finished(document_of(chart), theme))


def overlay(name: str, sources: Sequence[ChartSource], theme: Theme = "light") -> bytes:
    """The specification of a chart of several jobs: curves share one plot, others have panels.

    Raises as `render` does.
    """
    return (
        _specification(overlaid(name, sources), theme).encode()
        if name in OVERLAID
        else render(name, sources, "json", theme)
    )


def available(sources: Sequence[ChartSource]) -> list[str]:
    """The names of the charts for which the results have rows."""
    return [entry.name for entry in CHARTS.values() if entry.is_there(sources)]


def _over_flow_time(figure: Figure) -> Callable[[Sequence[ChartSource]], bool]:
    """Whether results have the figure, and the flow time, which rows of earlier versions lack."""
    return lambda sources: has(figure, sources) and has("tau", sources)


def _any(is_there: Callable[[ChartSource], bool], sources: Sequence[ChartSource]) -> bool:
    """Whether any source has the rows of a chart."""
    return any(map(is_there, sources))


# names and meanings are public: addresses, captions and alternative texts
CHARTS: dict[str, ChartEntry] = {
    entry.name: entry
    for entry in (
        ChartEntry(
            "finding",
            "What the study of a finding shows: the chart of its page.",
            finding,
            is_answered,
        ),
        ChartEntry(
            "search_history",
            "The objective of each run of a study in their order, with the best so far: what a "
            "search looks for, else the accuracy.",
            search_history,
            has_history,
        ),
        ChartEntry(
            "search_importance",
            "How far each varied field decides which runs of a study are among the better ones.",
            search_importance,
            has_importance,
        ),
        ChartEntry(
            "search_parallel",
            "The runs of a study as lines over parallel axes, one for each varied field, coloured "
            "by the objective.",
            search_parallel,
            has_parallel,
        ),
        ChartEntry(
            "study_scatter",
            "The runs of a study as points: any varied field or figure over any other.",
            study_scatter,
            has_scatter,
        ),
        ChartEntry(
            "sparsity_widths",
            "Mean Hoyer sparsity without its width factor over flow time, of runs that differ in "
            "their width alone, with the turn that is predicted from the data.",
            sparsity_widths,
            has_widths,
        ),
        ChartEntry(
            "theorem2_inputs",
            "Share of samples that satisfy theorem 2's condition along the training step over flow "
            "time, of runs that differ in the preprocessing of the data alone.",
            theorem2_inputs,
            has_inputs,
        ),
        ChartEntry(
            "grid_theorem1",
            "Theorem 1's ratio of every run of a study (of training: after the last epoch), over "
            "what the study varies.",
            grid_theorem1,
            partial(has_grid, "grid_theorem1"),
        ),
        ChartEntry(
            "grid_theorem2",
            "Theorem 2's ratio of every run of a study (of training: after the last epoch), over "
            "what the study varies.",
            grid_theorem2,
            partial(has_grid, "grid_theorem2"),
        ),
        ChartEntry(
            "grid_sparsity",
            "Mean Hoyer sparsity after the last epoch of every run of a study, over what the study "
            "varies.",
            grid_sparsity,
            partial(has_grid, "grid_sparsity"),
        ),
        ChartEntry(
            "grid_accuracy",
            "Test accuracy by goodness of every run of a study, over what the study varies.",
            grid_accuracy,
            partial(has_grid, "grid_accuracy"),
        ),
        ChartEntry(
            "grid_agreement",
            "How often predicted and observed sign agree in every run of a study, over what the "
            "study varies.",
            grid_agreement,
            partial(has_grid, "grid_agreement"),
        ),
        ChartEntry(
            "forecast_sparsity",
            "Hoyer sparsity over flow time, forecast for each width, with the band of what is "
            "expected and that of a single run.",
            forecast_sparsity,
            has_forecast,
        ),
        ChartEntry(
            "forecast_theorem2",
            "Share of samples that satisfy theorem 2's condition along the expected step, over "
            "flow time, forecast for many units.",
            forecast_theorem2,
            has_forecast,
        ),
        ChartEntry(
            "theorem1_widths",
            "Share of samples that satisfy theorem 1's condition, by width and method.",
            theorem1_widths,
            partial(has_theorem, 1),
        ),
        ChartEntry(
            "theorem2_widths",
            "Share of samples that satisfy theorem 2's condition along the step on G(negative) - "
            "G(positive), by width, split and method.",
            theorem2_widths,
            partial(has_theorem, 2),
        ),
        ChartEntry(
            "margins",
            "Distribution of the margins of single samples, by width, split and method; above "
            "zero, the sparsity rises to first order.",
            margins,
            is_kept,
        ),
        ChartEntry(
            "geometry",
            "Angles between samples, weighted by energy, and cos θ φ(θ): what a pair at that "
            "angle adds to the margin.",
            geometry,
            lambda sources: any(map(has_angles, sources)),
        ),
        ChartEntry(
            "potentials",
            "Potential U of negatives over that of positives, at the samples of each split: above "
            "1, theorem 2 is expected to hold at initialisation.",
            potentials,
            partial(_any, has_potentials),
        ),
        ChartEntry(
            "decomposition",
            "What pairs of each relation to a sample add to its margin of theorem 2, by width, "
            "split and method.",
            decomposition,
            partial(_any, has_pushes),
        ),
        ChartEntry(
            "agreement_widths",
            "How often two signs of the change of sparsity agree, by width: those of the exact "
            "margin and of a trial step, or of the infinite-width limit and of the exact margin.",
            agreement_widths,
            has_agreement,
        ),
        ChartEntry(
            "loss",
            "Mean loss of a pair of a positive and a negative sample, and the terms of the two, of "
            "each layer by epoch.",
            loss,
            has_loss,
        ),
        ChartEntry(
            "accuracy",
            "Accuracy after training of each way to tell a label, on each partition.",
            accuracy,
            has_accuracy,
        ),
        ChartEntry(
            "accuracy_epochs",
            "Accuracy by the goodness of each layer, and of all together, by epoch, on the "
            "monitored training samples and on the validation samples.",
            accuracy_epochs,
            partial(has_epoch_accuracy, "accuracy"),
        ),
        ChartEntry(
            "auc_epochs",
            "Probability that a positive's goodness exceeds a negative's, of each layer and of all "
            "together, by epoch, on monitored and on validation samples.",
            auc_epochs,
            partial(has_epoch_accuracy, "auc"),
        ),
        ChartEntry(
            "loss_epochs",
            "Mean loss of a pair on the monitored training samples and on the validation samples, "
            "of each layer by epoch.",
            loss_epochs,
            partial(has_epoch_accuracy, "loss"),
        ),
        ChartEntry(
            "theorem2",
            "Share of samples that satisfy theorem 2's condition along the training step, by "
            "epoch.",
            theorem2,
            partial(has, "theorem2_ratio"),
        ),
        ChartEntry(
            "sparsity",
            "Mean Hoyer sparsity of positive and of negative samples, by epoch.",
            sparsity,
            partial(has, "sparsity"),
        ),
        ChartEntry(
            "goodness",
            "Mean goodness of positive and negative samples, less the objective's threshold, by "
            "epoch.",
            goodness,
            partial(has, "goodness"),
        ),
        ChartEntry(
            "prediction",
            "Share of samples whose sparsity is predicted to rise, and share of samples whose "
            "sparsity rises in the training step.",
            prediction,
            partial(has, "theorem2_ratio"),
        ),
        ChartEntry(
            "theorem1",
            "Share of samples that satisfy theorem 1's condition, by epoch: their sparsity would "
            "rise if the goodness of their batch were lowered.",
            theorem1,
            partial(has, "theorem1_ratio"),
        ),
        ChartEntry(
            "agreement",
            "How often the predicted sign of the change of sparsity is that of a real step, by "
            "epoch.",
            agreement,
            partial(has, "agreement"),
        ),
        ChartEntry(
            "deep_theorem2",
            "Share of samples of layers above others whose sparsity rises by theorem 2's total "
            "condition, along the joint step of all layers, by its local condition, and in that "
            "step, by epoch.",
            deep_theorem2,
            is_joint,
        ),
        ChartEntry(
            "deep_agreement",
            "How often theorem 2's total and its local condition predict what the joint step of "
            "all layers does in layers above others, by epoch.",
            deep_agreement,
            is_joint,
        ),
        ChartEntry(
            "theorem2_expected",
            "Share of samples that satisfy theorem 2's condition along the step on G(negative) - "
            "G(positive) averaged over all wrong labels, by epoch: without the noise of labels and "
            "batches.",
            theorem2_expected,
            partial(has, "theorem2_expected_ratio"),
        ),
        ChartEntry(
            "kappa_gap",
            "How unequal the active units are beyond what Gaussian pre-activations make of their "
            "number, by epoch: 0 while units switch on or off, negative once they are selected.",
            kappa_gap,
            partial(has, "kappa_gap"),
        ),
        ChartEntry(
            "used_units",
            "How many units of each layer are used, whose mean activation is more than 1 % of the "
            "largest, and how many are dead, by epoch.",
            used_units,
            partial(has, "used_units"),
        ),
        ChartEntry(
            "basins",
            "Effective number of directions that the units have gathered in, by epoch.",
            basins,
            partial(has, "basins"),
        ),
        ChartEntry(
            "gradient_share",
            "How much of its gradient a layer keeps where the goodness of other layers counts as "
            "its own, by epoch: near 0, the others leave it nothing to learn.",
            gradient_share,
            partial(has, "gradient_share"),
        ),
        ChartEntry(
            "effective_sizes",
            "How many units and how many directions carry the weights of a layer, and how many "
            "directions its units have gathered in, by epoch.",
            effective_sizes,
            has_sizes,
        ),
        ChartEntry(
            "weight_norm",
            "Natural logarithm of the Frobenius norm of each layer's weights, and of their "
            "spectral norm where it was measured, by epoch.",
            weight_norm,
            partial(has, "log_weight_norm"),
        ),
        ChartEntry(
            "weight_sparsity",
            "Hoyer sparsity and Gini index of each layer's weights, and the share of them that is "
            "positive, by epoch.",
            weight_sparsity,
            partial(has, "weight_sparsity"),
        ),
        ChartEntry(
            "usage",
            "Mean activation of the units of each layer over that of the most used one, from the "
            "least used on, on held-out samples.",
            usage,
            has_usage,
        ),
        ChartEntry(
            "selectivity",
            "Distribution of the class selectivity of the units of each layer, on test samples "
            "that do not carry their label.",
            selectivity,
            has_selectivity,
        ),
        ChartEntry(
            "lesions",
            "Accuracy on test samples once a share of the units or weights is removed, of the "
            "network and of its baselines.",
            lesions,
            has_lesions,
        ),
        ChartEntry(
            "ood",
            "How well goodness and S of each layer tell test samples from samples of another data "
            "set: AUROC and FPR95.",
            ood,
            has_ood,
        ),
        ChartEntry(
            "log_goodness_flow",
            "Natural logarithm of the mean goodness of positive and of negative samples, before "
            "the threshold, over flow time.",
            log_goodness_flow,
            _over_flow_time("log_goodness"),
        ),
        ChartEntry(
            "sparsity_flow",
            "Mean Hoyer sparsity of positive and of negative samples, over flow time: runs of any "
            "step size, batch size and width share it under the objective difference.",
            sparsity_flow,
            _over_flow_time("sparsity"),
        ),
        ChartEntry(
            "theorem2_flow",
            "Share of samples that satisfy theorem 2's condition along the training step, over "
            "flow time.",
            theorem2_flow,
            _over_flow_time("theorem2_ratio"),
        ),
        ChartEntry(
            "phases",
            "Mean Hoyer sparsity of each layer by epoch beside the shares of samples that satisfy "
            "theorem 1 and theorem 2, in runs whose steps learn from positives and from negatives "
            "in turn.",
            phases,
            in_phases,
        ),
        ChartEntry(
            "layers",
            "Mean Hoyer sparsity of each layer before and after training, of positive, negative "
            "and held-out samples.",
            layers,
            lambda sources: any(map(is_deep, sources)),
        ),
        ChartEntry(
            "receptive_fields",
            "Weights of units of the first layer as images, of the longest and of the shortest.",
            receptive_fields,
            has_images,
        ),
        ChartEntry(
            "weight_histogram",
            "Distribution of the weights of each layer after training.",
            weight_histogram,
            has_weights,
        ),
        ChartEntry(
            "unit_lengths",
            "Distribution of the lengths of the weights of each layer's units after training.",
            unit_lengths,
            has_weights,
        ),
    )
}

# Altair's hundreds of thousands of objects stay. A full collection would look through them again,
# for up to half a second of the first page of a large study.
gc.freeze()
