"""Training runs of a study that may share one plot over flow time: they differ in one field alone,
apart from their seeds and from what flow time accounts for.
"""

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from ffengine.objectives import Difference
from ffengine.optimizers import Adam
from ffengine.results import TrainResult
from ffengine.spec import TrainSpec
from ffengine.spec_values import flatten
from service.results.run_labels import MEASURING
from service.results.sources import ChartSource, Source

Varied = Literal["network.widths", "dataset.preprocess"]
FREE = ("optimizer.lr", "epochs", "seeds")


def compared(
    sources: Sequence[ChartSource], varied: Varied, *, over_flow_time: bool = True
) -> list[Source]:
    """The largest group of runs that differ in the field alone: for each of its values the run with
    most seeds, and of these the longest; widths in their order, other values as they come.

    Only runs of one layer under the objective `difference` count: their curve over flow time
    depends neither on the step size nor, but for the noise of few units, on the width.

    **Arguments:**

    - `over_flow_time`: whether runs with Adam are left out, whose flow time says little.
    """
    groups: dict[str, dict[str, Source]] = defaultdict(dict)
    for source in sources:
        if isinstance(source, Source) and isinstance(source.spec, TrainSpec) and _counts(source):
            if over_flow_time and isinstance(source.spec.optimizer, Adam):
                continue
            fields = flatten(source.spec.model_dump(mode="json"))
            value = json.dumps(fields[varied])
            rest = {
                name: value
                for name, value in fields.items()
                if name not in (varied, *FREE) and not name.startswith(MEASURING)
            }
            group = groups[json.dumps(rest, sort_keys=True)]
            if value not in group or _weight(source) > _weight(group[value]):
                group[value] = source
    largest = max(groups.values(), key=len, default={})
    found = list(largest.values())
    return sorted(found, key=width_of) if varied == "network.widths" else found


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
