"""What stands out in a forecast."""

from collections.abc import Iterator, Sequence

from ffengine.datasets import Dataset
from ffengine.diagnostics import DataFigures, of_data
from ffengine.results import Diagnostic, ForecastPoint, SelectionOnset
from ffengine.spec import ForecastSpec
from ffengine.step_flow import tells_all_rates

COARSE_STEP = 0.1  # of flow time, under `difference`; larger ones change the curve by more than .01
DEAD_SHARE = 0.01  # of samples


def of_forecast(
    spec: ForecastSpec,
    points: Sequence[ForecastPoint],
    onset: SelectionOnset,
    facts: Dataset,
    data: DataFigures,
) -> list[Diagnostic]:
    """Find what stands out in a forecast.

    **Arguments:**

    - `spec`: the forecast.
    - `points`: what its small runs measured.
    - `onset`: where act 1 ends.
    - `facts`: the facts of its data set.
    - `data`: what was measured on its samples.

    **Returns:**

    The findings.
    """
    return [
        *_coarse(spec),
        *_not_reached(spec, onset, facts),
        *_mean_field(spec),
        *_one_rate(spec),
        *_dead(points),
        *of_data(spec, data),
    ]


def _coarse(spec: ForecastSpec) -> Iterator[Diagnostic]:
    """Find steps of the small run that are too large for its curve to be that of small steps."""
    step = spec.tau_of_step
    if step > COARSE_STEP and spec.objective.name == "difference":
        yield Diagnostic(
            code="forecast_step_coarse",
            severity="warning",
            message=f"A step of the small run is {step:.2g} of flow time: runs with smaller steps "
            f"follow another curve.",
            evidence={"tau_of_step": step},
            suggestion=f"Use an optimizer.lr that makes it {COARSE_STEP:g} or less.",
        )


def _not_reached(spec: ForecastSpec, onset: SelectionOnset, facts: Dataset) -> Iterator[Diagnostic]:
    """Find a small run that ends before theorem 2 of both splits has crossed one half."""
    if onset.outcome != "not_reached":
        return
    end = spec.epochs_on(facts) * spec.tau_of_epoch(facts)
    yield Diagnostic(
        code="forecast_ends_in_act_1",
        severity="warning",
        message=f"The small run ends at a flow time of {end:.3g}, before theorem 2 of both splits "
        f"has crossed one half: nothing is known of what comes then.",
        evidence={"tau": end},
        suggestion=f"Use until_tau: {2 * end:.3g}."
        if spec.epochs is None
        else f"Use epochs: {2 * spec.epochs}.",
    )


def _mean_field(spec: ForecastSpec) -> Iterator[Diagnostic]:
    """Say where the bands come from under an objective that makes units interact."""
    if spec.units_interact:
        yield Diagnostic(
            code="forecast_units_interact",
            severity="info",
            message=f"With {spec.objective.name} units interact through the goodness of a sample. "
            f"The bands come from the spread of {len(spec.seeds)} networks of {spec.units} units; "
            f"a deviation in proportion to 1 / units is not in them.",
            evidence={"seeds": len(spec.seeds), "units": spec.units},
            suggestion="Use twice the units, and see whether the curve moves.",
        )


def _one_rate(spec: ForecastSpec) -> Iterator[Diagnostic]:
    """Say why epochs are counted for one step size alone."""
    if not tells_all_rates(spec.optimizer):
        yield Diagnostic(
            code="forecast_of_one_rate",
            severity="info",
            message=f"With {spec.optimizer.name} the curve over flow time depends on the step "
            f"size: the forecast, and its epochs, are of steps of {spec.tau_of_step:.2g} alone.",
            evidence={"tau_of_step": spec.tau_of_step},
            suggestion="Forecast each learning rate by itself, or use sgd, momentum or nesterov.",
        )


def _dead(points: Sequence[ForecastPoint]) -> Iterator[Diagnostic]:
    """Find the point with most dead samples, if they are many."""
    worst = max(points, key=lambda point: point.dead_samples / point.samples)
    if worst.dead_samples > DEAD_SHARE * worst.samples:
        yield Diagnostic(
            code="forecast_dead_samples",
            severity="warning",
            message=f"At a flow time of {worst.tau:.3g}, {worst.dead_samples:,} of "
            f"{worst.samples:,} {worst.split} samples have no active unit: S of a wider layer is "
            f"another there.",
            evidence={"tau": worst.tau, "dead": worst.dead_samples, "samples": worst.samples},
            suggestion="Use more units, or another objective or dataset.preprocess.",
        )
