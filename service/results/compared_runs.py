"""Training runs of a study that may share one plot over flow time: they differ in one field alone;
where a study has no such runs, apart from their seeds and from what flow time accounts for.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from pydantic import JsonValue

from ffengine.objectives import Difference
from ffengine.optimizers import Adam
from ffengine.results import TrainResult
from ffengine.spec import TrainSpec
from ffengine.spec_values import flatten, params_in_words, plain, value_in_words
from service.results.run_labels import MEASURING
from service.results.sources import ChartSource, Source

Varied = Literal["network.widths", "dataset.preprocess"]
FREE = ("optimizer.lr", "epochs", "seeds")


def compared(
    sources: Sequence[ChartSource], varied: Varied, *, over_flow_time: bool = True
) -> list[Source]:
    """The largest group of runs that differ in the field alone; widths in their order, other values
    as they come.

    Where runs that are equal in all else have fewer values of the field, their seeds, epochs and
    step sizes may differ: of each value the run with most seeds is taken, and of these the longest.
    `fixed_in_words` says which runs these are.

    Only runs of one layer under the objective `difference` count: their curve over flow time
    depends neither on the step size nor, but for the noise of few units, on the width.

    **Arguments:**

    - `over_flow_time`: whether runs with Adam are left out, whose flow time says little.
    """
    runs = _candidates(sources, over_flow_time=over_flow_time)
    alike, alike_but_for_time = (_largest(runs, varied, free) for free in ((), FREE))
    found = alike if len(alike) == len(alike_but_for_time) else alike_but_for_time
    return sorted(found, key=width_of) if varied == "network.widths" else found


def fixed_in_words(sources: Sequence[ChartSource], runs: Sequence[Source], varied: Varied) -> str:
    """What compared runs have in common that other runs of the study have not, for a caption: `lr
    2, batch_size 50`; of fields in which they differ themselves each value. "" where there is
    nothing to choose.
    """
    documents = [_fields(run) for run in _candidates(sources, over_flow_time=False)]
    chosen = [_fields(run) for run in runs]
    several = [
        name
        for name in dict.fromkeys(name for document in documents for name in document)
        if name != varied and len({_text(document.get(name)) for document in documents}) > 1
    ]
    told: dict[str, JsonValue] = {}
    for name in several:
        values = list({_text(one.get(name)): one.get(name) for one in chosen}.values())
        told[name] = values[0] if len(values) == 1 else " / ".join(map(value_in_words, values))
    return params_in_words(told)


def _candidates(sources: Sequence[ChartSource], *, over_flow_time: bool) -> list[Source]:
    return [
        source
        for source in sources
        if isinstance(source, Source)
        and _counts(source)
        and not (over_flow_time and isinstance(spec_of(source).optimizer, Adam))
    ]


def _largest(runs: Sequence[Source], varied: Varied, free: Sequence[str]) -> list[Source]:
    """The group with most values of the field, and of several the one with most seeds and epochs.

    **Arguments:**

    - `free`: other fields in which the runs of a group may differ.
    """
    groups: dict[str, dict[str, Source]] = defaultdict(dict)
    for run in runs:
        fields = _fields(run)
        value = _text(fields.pop(varied))
        group = groups[_text({name: one for name, one in fields.items() if name not in free})]
        if value not in group or _weight(run) > _weight(group[value]):
            group[value] = run
    largest = max(
        groups.values(),
        key=lambda group: (len(group), sorted(map(_weight, group.values()))),
        default={},
    )
    return list(largest.values())


def _fields(run: Source) -> dict[str, JsonValue]:
    """The fields of a run's spec that say what it is."""
    fields = flatten(spec_of(run).model_dump(mode="json"))
    return {name: value for name, value in fields.items() if not name.startswith(MEASURING)}


def _text(value: JsonValue) -> str:
    return json.dumps(plain(value), sort_keys=True)


def width_of(run: Source) -> int:
    """n of the only layer of a training run."""
    return spec_of(run).network.widths[0]


def spec_of(run: Source) -> TrainSpec:
    """The spec of a training run."""
    assert isinstance(run.spec, TrainSpec)  # noqa: S101 - narrows the type
    return run.spec


def without_width(n: int) -> float:
    """The factor that takes the width out of S: C = S (sqrt(n) - 1) / sqrt(n)."""
    return 1 - 1 / math.sqrt(n)


def _counts(source: Source) -> bool:
    spec = source.spec
    return (
        isinstance(spec, TrainSpec)
        and isinstance(source.result, TrainResult)
        and len(spec.network.widths) == 1
        and isinstance(spec.objective, Difference)
    )


def _weight(run: Source) -> tuple[int, int]:
    spec = spec_of(run)
    return len(spec.seeds), spec.epochs
