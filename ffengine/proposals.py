"""Chooses the trials of a search, stops those that are worse, and weighs the fields, by Optuna.

Nothing is kept between two calls: each builds an Optuna study in memory from what is known. So the
same search has the same trials, however often it was interrupted.

**What is known.** Trial n is chosen from the results of the trials 0 to n - at_once, whether or not
later ones have ended by then, and from the values of those between them. It is stopped by
comparison with the same trials. So nothing depends on which run happens to end first.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import JsonValue

from ffengine.search import MOST_REDRAWN, Params, Searched, Trial, drawn, rounded
from ffengine.search_spec import Direction, Range, SearchSpec
from ffengine.study import Cell, GridError
from ffengine.text import STORED

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.study import Study

STARTUP_TRIALS = 10  # drawn at random before TPE has anything to go by
UNPRUNED_TRIALS = 5  # that run to their end before the median says anything
LEAST_FOR_IMPORTANCE = 10  # trials with a value, below which weights are chance


class NoCell(Exception):
    """No values of the space go together: many draws were refused, the last for this reason."""


def known_of(number: int, at_once: int) -> int:
    """Count the trials whose results a trial is chosen from.

    **Arguments:**

    - `number`: of the trial.
    - `at_once`: that of the search.

    **Returns:**

    How many of the first trials they are.
    """
    return max(0, number - at_once + 1)


def propose(found: Searched, trials: Sequence[Trial], number: int) -> Cell:
    """Choose the next trial of a search.

    **Arguments:**

    - `found`: the search.
    - `trials`: the trials 0 to number - 1 in order; results of the last at_once - 1 are not looked
      at.
    - `number`: that of the trial.

    **Returns:**

    Its run.

    **Raises:**

    - `NoCell`: the values that were drawn do not go together, MOST_REDRAWN times.
    """
    refused: GridError | None = None
    by_chance = "random" in (found.search.method, found.search.sampler)
    for attempt in range(MOST_REDRAWN):
        if by_chance or attempt:
            params = drawn(found.search, number, attempt)
        else:
            params = _proposed(found.search, trials, number)
        try:
            return found.cell(params, STORED)
        except GridError as error:
            refused = error
    raise NoCell(str(refused))


def _proposed(search: SearchSpec, trials: Sequence[Trial], number: int) -> Params:
    """Return the values that Optuna's sampler proposes."""
    from optuna.samplers import TPESampler

    sampler = TPESampler(
        n_startup_trials=STARTUP_TRIALS,
        multivariate=True,
        constant_liar=True,  # not twice the same beside a trial that goes on
        seed=_seed_of(search.seed, number),
    )
    space = _Space(search.space)
    study = _study(search, space, trials, number, sampler=sampler)
    return space.read(study.ask(space.distributions).params)


def _seed_of(seed: int, number: int) -> int:
    """Return the seed of the sampler for one trial: 32 bits of a digest."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4], "big")


class _Space:
    """The fields of a search as Optuna has them: a value of a list is its JSON text."""

    def __init__(self, space: Mapping[str, Range | Sequence[JsonValue]]) -> None:
        self._space = space
        self.distributions: dict[str, BaseDistribution] = {
            field: _distribution(values) for field, values in space.items()
        }

    def read(self, params: Mapping[str, Any]) -> Params:
        """Return the values that Optuna's stand for, in the order of the space."""
        return {field: self._read(field, params[field]) for field in self._space}

    def write(self, params: Params) -> dict[str, Any]:
        """Return Optuna's values."""
        return {
            field: params[field] if isinstance(values, Range) else json.dumps(params[field])
            for field, values in self._space.items()
        }

    def _read(self, field: str, value: Any) -> JsonValue:
        values = self._space[field]
        found: JsonValue = json.loads(value) if not isinstance(values, Range) else None
        return rounded(value, values) if isinstance(values, Range) else found


def _distribution(values: Range | Sequence[JsonValue]) -> "BaseDistribution":
    """Return a range or a list as Optuna has it."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not isinstance(values, Range):
        return CategoricalDistribution(list(dict.fromkeys(map(json.dumps, values))))
    if values.type == "int":
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _study(
    search: SearchSpec, space: _Space, trials: Sequence[Trial], number: int, **options: Any
) -> "Study":
    """Return an Optuna study in memory that knows what trial `number` may know."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    # the name decides about the groups of hyperband: by default it is a random one
    study = optuna.create_study(
        direction=search.direction, study_name=f"search-{search.seed}", **options
    )
    known = known_of(number, search.at_once)
    rungs = _Rungs(study)
    for trial in trials[:number]:
        is_known = trial.number < known
        study.add_trial(_frozen(trial, space, rungs if is_known else None))
    return study


def _frozen(trial: Trial, space: _Space, rungs: "_Rungs | None") -> Any:
    """Return a trial as Optuna has it; one that is not known yet, without `rungs`, goes on."""
    from optuna.trial import TrialState, create_trial

    given: dict[str, Any] = {
        "params": space.write(trial.params),
        "distributions": space.distributions,
    }
    if rungs is None:
        return create_trial(state=TrialState.RUNNING, **given)
    curve = [
        (epoch, value)
        for epoch, value in trial.curve
        if trial.pruned_at is None or epoch <= trial.pruned_at
    ]
    given |= {"intermediate_values": dict(curve), "system_attrs": rungs.of(trial.number, curve)}
    if trial.state == "complete":
        return create_trial(state=TrialState.COMPLETE, value=trial.value, **given)
    if trial.state == "pruned" and curve:
        return create_trial(state=TrialState.PRUNED, value=curve[-1][1], **given)
    return create_trial(state=TrialState.FAIL, **given)


# Pruning


class _Rungs:
    """The rungs of successive halving that a trial came to, as Optuna's pruners note them.

    Optuna notes them while a trial reports; here they follow from its curve.
    """

    def __init__(self, study: "Study") -> None:
        self._study, self._pruner = study, study.pruner

    def of(self, number: int, curve: Sequence[tuple[int, float]]) -> dict[str, float]:
        """Return the value of a trial at each rung."""
        halving = self._halving(number)
        if halving is None or not curve:
            return {}
        least, factor, early = halving
        found: dict[str, float] = {}
        while (step := least * factor ** (early + len(found))) <= curve[-1][0]:
            found[f"completed_rung_{len(found)}"] = next(v for epoch, v in curve if epoch >= step)
        return found

    def _halving(self, number: int) -> tuple[int, int, int] | None:
        """Return the first rung, the factor and the group of a trial; None without halving."""
        from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner

        pruner: Any = self._pruner
        if isinstance(pruner, HyperbandPruner):
            pruner = self._of_group(pruner, number)
        if not isinstance(pruner, SuccessiveHalvingPruner):
            return None
        halving: Any = pruner
        return halving._min_resource, halving._reduction_factor, halving._min_early_stopping_rate

    def _of_group(self, pruner: Any, number: int) -> Any:
        """Return the pruner of the group that hyperband has a trial in."""
        if not pruner._pruners:
            pruner._try_initialization(self._study)
        return pruner._pruners[pruner._get_bracket_id(self._study, _Numbered(number))]


class _Numbered(NamedTuple):
    """What decides about the group of a trial."""

    number: int


def pruner_of(search: SearchSpec, longest: int) -> "BasePruner":
    """Return Optuna's pruner.

    **Arguments:**

    - `search`: what is searched.
    - `longest`: the epochs of the longest trial.

    **Returns:**

    The pruner; one that stops nothing where the search does not prune.
    """
    from optuna import pruners

    first = max(1, search.warmup_epochs)
    if search.prune == "median":
        return pruners.MedianPruner(
            n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=search.warmup_epochs
        )
    if search.prune == "successive_halving":
        return pruners.SuccessiveHalvingPruner(min_resource=first)
    if search.prune == "hyperband":
        return pruners.HyperbandPruner(min_resource=first, max_resource=max(first, longest))
    return pruners.NopPruner()


def pruned_at(
    found: Searched,
    trials: Sequence[Trial],
    number: int,
    curve: Iterable[tuple[int, float]],
) -> int | None:
    """Find the epoch at which a trial is worse than those before it.

    **Arguments:**

    - `found`: the search.
    - `trials`: the trials 0 to number - 1 in order, with the curves of those that are known.
    - `number`: that of the trial.
    - `curve`: the objective of the trial by epoch, as far as it is measured.

    **Returns:**

    The first such epoch; None: the trial goes on.
    """
    from optuna.samplers import RandomSampler

    if found.search.prune is None:
        return None
    study = _study(
        found.search,
        _Space(found.search.space),
        trials,
        number,
        pruner=pruner_of(found.search, found.longest),
        sampler=RandomSampler(seed=0),  # it is not asked
    )
    trial = study.ask()
    for epoch, value in curve:
        if epoch > 0:
            trial.report(value, epoch)
            if trial.should_prune():
                return epoch
    return None


# Importance


def importances(
    params: Sequence[Params], values: Sequence[float], direction: Direction = "maximize"
) -> dict[str, float]:
    """Weigh the varied fields by how far they decide whether a run is among the better ones.

    PED-ANOVA (Watanabe et al. 2023) compares how the better runs and all runs are spread over each
    field.

    **Arguments:**

    - `params`: the varied fields of each run.
    - `values`: the objective of each run.
    - `direction`: which way is better.

    **Returns:**

    The share of each field, the largest first and equal ones by name; nothing of fewer than
    LEAST_FOR_IMPORTANCE runs, or where no field has two values.
    """
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    distributions = _spread(params)
    if len(values) < LEAST_FOR_IMPORTANCE or not distributions:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(direction=direction)
    study.add_trials(
        [
            optuna.trial.create_trial(
                params={
                    field: _plain(one.get(field), distributions[field]) for field in distributions
                },
                distributions=distributions,
                value=value,
            )
            for one, value in zip(params, values, strict=True)
        ]
    )
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    # Optuna's sum and its order of equals follow a set's, which differs from process to process
    shares = {field: round(share, 12) for field, share in sorted(found.items())}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _spread(params: Sequence[Params]) -> dict[str, "BaseDistribution"]:
    """Return how each field that has several values is spread: over a range of numbers, which is
    logarithmic where all are above 0 and spread over a decade, or over a list.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    found: dict[str, BaseDistribution] = {}
    for field in dict.fromkeys(name for one in params for name in one):
        values = [one.get(field) for one in params]
        if len({json.dumps(value) for value in values}) < 2:
            continue
        numbers = [
            float(v) for v in values if isinstance(v, int | float) and v not in (True, False)
        ]
        if len(numbers) == len(values):
            low, high = min(numbers), max(numbers)
            found[field] = FloatDistribution(low, high, log=low > 0 and high >= 10 * low)
        else:
            found[field] = CategoricalDistribution(list(dict.fromkeys(map(json.dumps, values))))
    return found


def _plain(value: JsonValue, distribution: "BaseDistribution") -> Any:
    """Return a value as its distribution has it."""
    from optuna.distributions import FloatDistribution

    return float(str(value)) if isinstance(distribution, FloatDistribution) else json.dumps(value)
