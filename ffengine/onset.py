"""What is known of a training run before its first step: when sparsity turns, and which steps are
too long.

docs/theory.md derives the acts of training. In act 1 units switch on and S falls; in act 2 the
active ones become unequal and S rises. Whether there is an act 1, and when it is over, follows from
the class means of the data. No torch is needed, so that the service tells it of a spec.

Legend: lambda_1 the largest growth rate, q the overlap of masks, tau the sum of eta over the steps
(flow time), tau* the tau at which the mean S of positives and negatives is lowest, e_1 the largest
eigenvalue of E[x x^T], n the width.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from ffengine import uploads
from ffengine.additions import ADDED
from ffengine.arrays import DatasetError
from ffengine.class_means import ClassMeans, TrainingInputs, class_means, largest_second_moment
from ffengine.datasets import MEASURED_BYTES, Dataset, Datasets, Source
from ffengine.flow import flow_of_step, flow_of_steps
from ffengine.label_codes import OneHot
from ffengine.negatives import OtherImage, WrongLabel
from ffengine.objectives import Bce, Difference, MeanSquares, SoftplusLoss, SumSquares
from ffengine.optimizers import Adam, AnyOptimizer, Nesterov, Sgd
from ffengine.percents import in_percent
from ffengine.results import Onset
from ffengine.spec import DatasetSpec, NetworkSpec, TrainSpec
from ffengine.step_flow import divisor_of, eta_of_flow

# q lambda_1 tau*: measured, not derived (docs/findings/onset.md); two and three classes have 0.4 to
# 0.9, so that S turns sooner there
TURN, TURN_SPREAD = 0.9, 0.25
TURN_WITHOUT_OVERLAP = 1.25  # lambda_1 tau* of stored results that were predicted without q
RECRUITS = 0.2  # R above which S falls; measured: no fall at .12, one of .005 at .25
STRONG_LABEL = 0.2  # label energy over the image's, beyond which R says nothing
LOW_THRESHOLD = 4.0  # beyond, samples differ by more than the slopes' straight part
RATES = 16
ONE_SIDE = "it is known of steps on both splits, not of phases"
FINE_NOISE = 5e-4  # eta / batch size up to which a batch's noise does not hide the curve
HALF_WAY = 2  # a suggested step size reaches act 2 in the middle of the run


def onset_of(spec: TrainSpec, datasets: Datasets | None = None) -> Onset:
    """Predict how a training run begins.

    **Arguments:**

    - `spec`: the run.
    - `datasets`: where data sets are; None: where the environment says.

    **Returns:**

    What is known; `unknown` says of each figure that is null why.

    **Raises:**

    - `DatasetError`: the data set cannot be found, fetched or read.

    **Source:**

    docs/theory.md, "The acts of training".
    """
    datasets = datasets or Datasets.of_environment()
    return _predicted(spec, datasets, datasets.facts_of(spec.dataset.name), keep=True)


def onset_before(spec: TrainSpec, datasets: Datasets) -> Onset:
    """Predict how a training run begins, where its data set is at hand and not very large.

    **Arguments:**

    - `spec`: the run.
    - `datasets`: where data sets are.

    **Returns:**

    What is known. Nothing is downloaded.
    """
    facts = datasets.facts_of(spec.dataset.name)
    try:
        if not datasets.is_present(facts):
            return _nothing("the data set was not fetched yet: the run says it")
        if _bytes(facts, datasets) > MEASURED_BYTES:
            return _nothing("the data set is large: the run says it")
        return _predicted(spec, datasets, facts, keep=False)
    except (OSError, DatasetError):  # the arrays are gone or damaged, which is said elsewhere
        return _nothing("the data set cannot be read")


def growth_factor(optimizer: AnyOptimizer, rate: float, eta: float) -> float:
    """Compute how much one step multiplies an amplitude that grows as exp(2 rate tau).

    **Arguments:**

    - `optimizer`: plain descent, momentum or Nesterov's; its weight decay slows the growth.
    - `rate`: the growth rate, an eigenvalue of A; for a mean of squares, over n.
    - `eta`: the step size.

    **Returns:**

    The factor, once the velocity has settled.
    """
    step, beta = (2 * rate - optimizer.weight_decay) * eta, optimizer.persistence
    ahead = 1 + beta if isinstance(optimizer, Nesterov) else 1.0
    # f^2 - (1 + beta + ahead step) f + beta (1 + step or 1) = 0
    linear = 1 + beta + ahead * step
    constant = beta * (1 + step) if isinstance(optimizer, Nesterov) else beta
    root = linear**2 - 4 * constant  # negative where decay makes the amplitude swing
    return (linear + math.sqrt(root)) / 2 if root >= 0 else math.sqrt(constant)


def critical_eta(spec: TrainSpec, second_moment: float) -> float:
    """Compute the step size above which the common scale of the weights alternates.

    Near the threshold theta, slopes of the softplus loss change by 1/4 a unit of G, so that a step
    multiplies what the common scale is off by 1 - 2 eta theta e_1 / n: it alternates and grows
    where that is below -1.

    **Arguments:**

    - `spec`: the run; its objective is softplus or bce, of a mean of squares.
    - `second_moment`: e_1.

    **Returns:**

    eta, as the optimiser has it: n / (e_1 theta); twice that for bce, whose slopes are half as
    steep.
    """
    width = spec.network.widths[0]
    steepness = 0.5 if isinstance(spec.objective, Bce) else 1.0
    return width / (steepness * second_moment * spec.pairwise.offset(width))


class TurnFormula(NamedTuple):
    """How a tau* was predicted.

    **Attributes:**

    - `factor`, `low`, `high`: what a rate divides, with its band; None where it has none.
    - `of_overlap`: whether they are divided by q lambda_1, not by lambda_1.
    """

    factor: float
    low: float | None
    high: float | None
    of_overlap: bool

    @property
    def rate(self) -> str:
        """What divides the factor."""
        return "(q lambda_1)" if self.of_overlap else "lambda_1"

    def __str__(self) -> str:
        """Return the formula, as in "0.9 / (q lambda_1)"."""
        return f"{self.factor:.3g} / {self.rate}"

    @property
    def band(self) -> str:
        """The band, as in "0.65 to 1.15 / (q lambda_1)"; empty where there is none."""
        if self.low is None or self.high is None:
            return ""
        return f"{self.low:.3g} to {self.high:.3g} / {self.rate}"


def turn_formula(onset: Onset) -> TurnFormula | None:
    """Tell from its figures how the tau* of a result was predicted.

    Results that were stored before q was measured, or used, keep what was predicted then.

    **Arguments:**

    - `onset`: of a result or an estimate.

    **Returns:**

    The formula; None where no tau* or no rate is there.
    """
    turn, rate, overlap = onset.tau_star, onset.lambda_1, onset.overlap
    if turn is None or rate is None:
        return None
    of_overlap = overlap is not None and not math.isclose(turn * rate, TURN_WITHOUT_OVERLAP)
    if overlap is not None and of_overlap:
        rate *= overlap
    low, high = (
        None if bound is None else bound * rate
        for bound in (onset.tau_star_low, onset.tau_star_high)
    )
    return TurnFormula(turn * rate, low, high, of_overlap)


def halfway_lr(spec: TrainSpec, onset: Onset) -> float | None:
    """Return the learning rate with which S is expected to be lowest in the middle of a run.

    **Arguments:**

    - `spec`: the run.
    - `onset`: what is known of it.

    **Returns:**

    optimizer.lr with two digits; None where such steps would be too long or too noisy.
    """
    if not onset.tau_star or not onset.tau_end or not onset.lambda_1 or not onset.eta:
        return None
    flow = flow_of_step(spec, 1) * HALF_WAY * onset.tau_star / onset.tau_end
    if flow / spec.batch_size > FINE_NOISE:
        return None
    eta = eta_of_flow(spec.optimizer, spec.objective, spec.network.widths[0], flow)
    return float(f"{spec.optimizer.lr * eta / onset.eta:.2g}")


def _predicted(spec: TrainSpec, datasets: Datasets, facts: Dataset, *, keep: bool) -> Onset:
    """Predict how a run begins; keep its data set in memory where that is asked for."""
    unknown: dict[str, str] = {}
    found: dict[str, object] = {"eta": _largest_eta(spec)}
    named = spec.network.normalize if spec.network.normalize_first else "none"
    network = NetworkSpec(normalize=named, normalize_first=named != "none", bias=spec.network.bias)
    key = (Source.of(datasets, facts.digest), spec.dataset, network, keep)
    labels = _why_no_rates(spec, facts)
    if labels:
        unknown |= dict.fromkeys(("lambda_1", "recruitment", "falls", "tau_star"), labels)
    else:
        found |= _of_classes(spec, _class_means(*key), unknown)
    flow = _why_no_flow(spec)
    if flow:
        unknown["tau_star"] = unknown["tau_end"] = flow
        found |= {"tau_star": None, "tau_star_low": None, "tau_star_high": None}
    else:
        samples = spec.dataset.train_count(facts)
        found |= _of_steps(spec, found, math.ceil(samples / min(spec.batch_size, samples)))
    if scale := _why_no_critical_eta(spec) or labels:
        unknown["eta_c"] = scale
    else:
        found["eta_c"] = critical_eta(spec, _second_moment(*key))
    onset = Onset.model_validate(found | {"unknown": unknown})
    return onset.model_copy(update={"message": _message(spec, onset)})


def _of_classes(spec: TrainSpec, means: ClassMeans, unknown: dict[str, str]) -> dict[str, object]:
    """Return what the class means say, and write down what they do not."""
    rates = [float(rate) for rate in means.growth_rates()[:RATES]]
    found: dict[str, object] = {
        "lambda_1": rates[0],
        "growth_rates": tuple(rates),
        "overlap": means.overlap,
    }
    if math.isinf(means.label_energy):
        why = "all inputs but those of the label are zero"
        unknown |= dict.fromkeys(("recruitment", "falls", "tau_star"), why)
    elif means.label_energy > STRONG_LABEL:
        why = (
            f"label inputs have {in_percent(means.label_energy, 0)} of the others' energy: the "
            f"theory is of weak labels"
        )
        unknown |= dict.fromkeys(("recruitment", "falls", "tau_star"), why)
    elif rates[0] ** 2 <= 0:
        why = "all classes have the same mean, or nearly"
        unknown |= dict.fromkeys(("recruitment", "falls", "tau_star"), why)
    else:
        falls = means.recruitment > RECRUITS
        found |= {"recruitment": means.recruitment, "falls": falls}
        if falls:
            found |= {
                "tau_star": TURN / (means.overlap * rates[0]),
                "tau_star_low": (TURN - TURN_SPREAD) / (means.overlap * rates[0]),
                "tau_star_high": (TURN + TURN_SPREAD) / (means.overlap * rates[0]),
            }
        else:
            unknown["tau_star"] = "S is not expected to fall: act 2 begins at once"
    return found


def _of_steps(spec: TrainSpec, known: dict[str, object], steps: int) -> dict[str, object]:
    """Return what the step sizes say of the flow time of the run and of its growth."""
    epochs = [steps * flow for flow in flow_of_steps(spec)]
    end = math.fsum(epochs)
    found: dict[str, object] = {"tau_end": end if math.isfinite(end) else None}
    rate, turn = known.get("lambda_1"), known.get("tau_star")
    if isinstance(turn, float) and math.isfinite(end):
        needed = _epochs_until(turn, epochs)
        found["epochs_to_selection"] = needed if math.isfinite(needed) else None
    flow = flow_of_step(spec, 1)
    if isinstance(rate, float) and rate > 0 and math.isfinite(flow) and flow > 0:
        rate /= divisor_of(spec.objective, spec.network.widths[0])
        factor = growth_factor(spec.optimizer, rate, _largest_eta(spec))
        found["goodness_growth"] = 2 * math.log(factor) / flow
    return found


def _epochs_until(tau: float, epochs: list[float]) -> float:
    """Return after how many epochs flow time is tau, with the part of the last one.

    A run that ends before goes on at its mean step size; infinity where that is 0 beside tau.
    """
    passed = 0.0
    for number, flow in enumerate(epochs):
        if flow and passed + flow >= tau:
            return number + (tau - passed) / flow
        passed += flow
    return len(epochs) * tau / passed if passed else math.inf


def _why_no_rates(spec: TrainSpec, facts: Dataset) -> str | None:
    """Say why the growth rates of a strategy are not known; None where they are."""
    strategy, code = spec.negatives, spec.dataset.label_code
    if code != OneHot():
        return f"it is known of one-hot labels, not of {code.name} patterns"
    if isinstance(strategy, WrongLabel):
        return None
    if isinstance(strategy, OtherImage):
        counts = set(facts.class_counts)
        whole = spec.dataset.train_count(facts) == facts.train_samples
        if len(counts) == 1 and whole:
            return None  # the same law as a wrong label's, by counting
        return "other_image has the flow of wrong_label for classes of equal size alone"
    return f"it is known of uniformly drawn wrong labels, not of {strategy.strategy}"


def _why_no_flow(spec: TrainSpec) -> str | None:
    """Say why flow time does not tell the acts of a run; None where it does."""
    objective, network = spec.objective, spec.network
    if spec.phases.alternate:
        return ONE_SIDE
    if not isinstance(objective, Difference):
        return f"it is known of the difference objective, not of {objective.name}"
    if not isinstance(objective.goodness, SumSquares | MeanSquares):
        return f"it is known of sums of squares, not of {objective.goodness.name}"
    if objective.peer_normalization or network.pass_dead_units:
        return "peer_normalization and pass_dead_units make units depend on one another"
    if network.activation != "relu":
        return f"it is known of relu, not of {network.activation}"
    if isinstance(spec.optimizer, Adam):
        return f"steps of {spec.optimizer.name} do not grow with the gradient"
    if spec.optimizer.name in ADDED["optimizers"]:
        return f"it is known of fflab's own optimisers, not of {spec.optimizer.name}"
    if network.init in ADDED["inits"]:
        return f"it is known of fflab's own initialisations, not of {network.init}"
    return None


def _why_no_critical_eta(spec: TrainSpec) -> str | None:
    """Say why no step size is known from which the scale alternates; None where one is."""
    objective = spec.objective
    if spec.phases.alternate:
        return ONE_SIDE
    if not isinstance(objective, SoftplusLoss | Bce):
        return f"{objective.name} has no threshold that the scale goes to"
    if not isinstance(objective.goodness, MeanSquares):
        return f"it is known of mean_squares, not of {objective.goodness.name}"
    positive, negative = objective.offsets(spec.network.widths[0])
    if positive != negative:
        return "it is known of one threshold, not of two"
    if not 0 < positive <= LOW_THRESHOLD:
        return f"it is known of thresholds above 0, of {LOW_THRESHOLD} at most"
    if not isinstance(spec.optimizer, Sgd):
        return f"it is known of sgd, not of {spec.optimizer.name}"
    return None


def _message(spec: TrainSpec, onset: Onset) -> str:
    """Say what is known in words; nothing where nothing is."""
    parts = []
    if onset.tau_star is not None and onset.epochs_to_selection is not None:
        until = f"about epoch {onset.epochs_to_selection:.3g} (tau {onset.tau_star:.3g})"
        ends = onset.epochs_to_selection > spec.epochs
        parts.append(
            f"Sparsity is expected to fall until {until}"
            + (
                f"; this run ends before, after {spec.epochs:,} epochs."
                if ends
                else f" of {spec.epochs:,}, and to rise after it."
            )
        )
    elif onset.falls is False and onset.tau_end is not None:
        parts.append(
            f"Sparsity is expected to rise from the start (R = {onset.recruitment:.2f}: units "
            f"hardly switch on)."
        )
    if onset.eta_c is not None and onset.eta is not None:
        parts.append(
            f"Steps of {onset.eta:.3g} are {'above' if onset.eta > onset.eta_c else 'below'} "
            f"{onset.eta_c:.3g}, from which the scale of the weights alternates."
        )
    return " ".join(parts)


def _nothing(why: str) -> Onset:
    """Nothing is known, for one reason."""
    return Onset(unknown=dict.fromkeys(("lambda_1", "tau_star", "eta_c"), why))


def _largest_eta(spec: TrainSpec) -> float:
    """Return the largest step size of the first layer; schedules begin with it."""
    eta = spec.optimizer.eta(spec.network.widths[0], 1, spec.epochs)
    return eta * spec.phases.largest_rate


def _bytes(facts: Dataset, datasets: Datasets) -> int:
    """How large the arrays of a data set are."""
    if folder := datasets.upload_folder(facts.name) if facts.uploaded else None:
        return uploads.arrays_file(facts.name, folder.parent).stat().st_size
    return (facts.train_samples + facts.test_samples) * facts.inputs


@lru_cache(maxsize=64)
def _class_means(source: Source, spec: DatasetSpec, network: NetworkSpec, keep: bool) -> ClassMeans:
    """Keep what was measured, as long as the name stands for the same arrays."""
    return class_means(_inputs(source.datasets, spec, network, keep=keep))


@lru_cache(maxsize=64)
def _second_moment(source: Source, spec: DatasetSpec, network: NetworkSpec, keep: bool) -> float:
    """Keep it as `_class_means` does."""
    return largest_second_moment(_inputs(source.datasets, spec, network, keep=keep))


def _inputs(
    datasets: Datasets, spec: DatasetSpec, network: NetworkSpec, *, keep: bool
) -> TrainingInputs:
    """The training partition as the first layer of a network receives it."""
    loaded = datasets.loaded(spec.name) if keep else datasets.read(spec.name)
    return TrainingInputs(spec, datasets.facts_of(spec.name), loaded, network)
