"""What a study that searches says: the space, the objective, and how its trials are chosen."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ffengine.entry import Entry, SpecFieldError
from ffengine.text import SeenValue, UserText

MAX_TRIALS = 10_000
MOST_SEARCHED = 32  # fields of a space

Method = Literal["random", "optuna"]
METHOD_MEANING: dict[Method, str] = {
    "random": "each trial is drawn on its own, uniformly over the space",
    "optuna": "a sampler of Optuna proposes each trial from the results of those before it",
}
Sampler = Literal["tpe", "random"]
SAMPLER_MEANING: dict[Sampler, str] = {
    "tpe": "Tree-structured Parzen Estimator of all fields together; the first ten trials are "
    "drawn at random",
    "random": "as method random",
}
Pruner = Literal["median", "successive_halving", "hyperband"]
PRUNER_MEANING: dict[Pruner, str] = {
    "median": "stop a trial whose best value so far is worse than the median of the trials before "
    "it at the same epoch; five trials run to their end first",
    "successive_halving": "at epochs 1, 4, 16 and so on, let only the better quarter of the "
    "trials go on",
    "hyperband": "successive halving by thirds, with trials divided into groups that are pruned "
    "early and late",
}
Direction = Literal["maximize", "minimize"]


class Range(Entry):
    """All numbers between two, both of which are among them."""

    low: float
    high: float
    log: bool = Field(
        False, description="draw uniformly on a logarithmic scale; low must be above 0"
    )
    type: Literal["float", "int"] = Field(
        "float", description="int: whole numbers. float: numbers of four significant digits"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Range":
        """Refuse an empty range, and what cannot be drawn from it."""
        if self.low >= self.high:
            raise SpecFieldError(("low",), f"must be below high, which is {self.high:g}")
        if self.log and self.low <= 0:
            raise SpecFieldError(("low",), "must be above 0 on a logarithmic scale")
        if self.type == "int":
            for name in ("low", "high"):
                if not float(getattr(self, name)).is_integer():
                    raise SpecFieldError((name,), "must be a whole number, as type is int")
        return self


Choices = Annotated[list[SeenValue], Field(min_length=1, max_length=1_000)]


class SearchSpec(Entry):
    """Search for the best values of some fields, in place of a grid."""

    method: Method = Field(
        "optuna", description="; ".join(f"{name}: {text}" for name, text in METHOD_MEANING.items())
    )
    space: dict[str, Range | Choices] = Field(
        default={},
        max_length=MOST_SEARCHED,
        description="dotted field of the base -> what it may be: a list of values, or a range "
        "{low, high, log, type}. A number within a list has its place as a name, as in "
        "network.widths.0",
    )
    objective: UserText = Field(
        "accuracy",
        description="a figure of the summary of a run, such as accuracy or "
        "sparsity[split=positive]. Where its place is left out: the validation samples and all "
        "layers of an accuracy, else the last epoch, the deepest layer, the largest width",
    )
    direction: Direction = "maximize"
    trials: int = Field(20, ge=1, le=MAX_TRIALS, description="runs of the search")
    at_once: int = Field(
        4,
        ge=1,
        le=1_000,
        description="trials that may be going on at a time. A trial is chosen when all but the "
        "last at_once - 1 trials before it have ended, and from their results alone",
    )
    sampler: Sampler = Field(
        "tpe",
        description="of method optuna; "
        + "; ".join(f"{name}: {text}" for name, text in SAMPLER_MEANING.items()),
    )
    prune: Pruner | None = Field(
        None,
        description="stop trials that are worse than others at the same epoch; null: none. It "
        "needs an objective that is measured every epoch. "
        + "; ".join(f"{name}: {text}" for name, text in PRUNER_MEANING.items()),
    )
    warmup_epochs: int = Field(
        0, ge=0, le=100_000, description="epochs before which no trial is pruned"
    )
    seed: int = Field(
        0, ge=0, le=2**63 - 1, description="the search with the same seed has the same trials"
    )
