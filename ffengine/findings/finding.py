"""What a finding is: a question, the study that answers it, and what is read off its results."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

from pydantic import JsonValue

from ffengine.results import RunResult
from ffengine.spec import CheckSpec, ForecastSpec, StudyPart, StudySpec, TrainSpec


class Run(NamedTuple):
    """One run of the study of a finding.

    **Attributes:**

    - `part`: the part of the study that it belongs to.
    - `params`: the values that the grid sets, by dotted field.
    - `spec`: what was run.
    - `result`: what was found.
    """

    part: str
    params: dict[str, JsonValue]
    spec: TrainSpec | CheckSpec | ForecastSpec
    result: RunResult


class Table(NamedTuple):
    """A table whose cells are texts; figures come with their intervals.

    **Attributes:**

    - `columns`: the heads.
    - `rows`: as many texts each as there are columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Point(NamedTuple):
    """A point of a chart, with its 95 % interval.

    **Attributes:**

    - `panel`: the plot that it is in.
    - `series`: the line or the colour that it belongs to.
    - `x`: a number, or a name where the axis has names.
    - `y`: the mean.
    - `low`, `high`: bounds of the interval; None for one seed.
    """

    panel: str
    series: str
    x: float | str
    y: float
    low: float | None = None
    high: float | None = None


class Rule(NamedTuple):
    """A line across a chart.

    **Attributes:**

    - `axis`: the axis on which its value is.
    - `value`: where it is.
    - `word`: what it says beside the line.
    - `panel`: the plot that it is in; "" is all of them.
    """

    axis: Literal["x", "y"]
    value: float
    word: str
    panel: str = ""


class Tile(NamedTuple):
    """An image with words below.

    **Attributes:**

    - `group`: the words above the rows that belong together.
    - `row`, `column`: where it is within its group, from 0.
    - `words`: what stands below it.
    - `shape`: channels, height, width.
    - `pixels`: its bytes in base64.
    """

    group: str
    row: int
    column: int
    words: str
    shape: tuple[int, int, int]
    pixels: str


class Plot(NamedTuple):
    """A chart as data: the service draws it.

    **Attributes:**

    - `title`: the statement that it shows.
    - `x`, `y`: titles of the axes.
    - `points`: in the order in which lines join them.
    - `mark`: lines with bands, or single points with bars.
    - `logarithmic`: whether the x axis is.
    - `rules`: lines across it.
    - `x_titles`: panels whose x axis is not `x`, each with its title.
    - `tiles`: images below the plots.
    """

    title: str
    x: str
    y: str
    points: tuple[Point, ...]
    mark: Literal["line", "point"] = "line"
    logarithmic: bool = False
    rules: tuple[Rule, ...] = ()
    x_titles: tuple[tuple[str, str], ...] = ()
    tiles: tuple[Tile, ...] = ()


class Finding(ABC):
    """A question about sparsity in Forward-Forward networks that one study answers.

    A subclass is a whole entry of the catalogue: its study is the preset of its name.

    **Attributes:**

    - `name`: the name of its preset, of its page and of its chart.
    - `question`: one sentence that ends with a question mark.
    - `method`: what is run and what is measured, for somebody who wants to repeat it elsewhere.
    - `falsified_by`: an outcome of the same command that would contradict the conclusion.
    - `study`: the study in full size.
    - `further`: more parts of it, on known data sets that do not come with the package: they are
      run where their files are at hand.
    - `large`: fields that make a larger study of it, by dotted field, for who has the time.
    - `tiny`: fields that make each run of the study a matter of a second, by dotted field; they
      are for checks of the machinery, their figures mean nothing.
    - `tiny_check`: the same for the checks of a study that trains, too.
    - `tiny_forecast`: the same for the forecasts of the study.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    method: ClassVar[str]
    falsified_by: ClassVar[str]
    study: ClassVar[StudySpec]
    further: ClassVar[dict[str, StudyPart]] = {}
    large: ClassVar[dict[str, JsonValue]] = {"seeds": list(range(10))}
    tiny: ClassVar[dict[str, JsonValue]] = {}
    tiny_check: ClassVar[dict[str, JsonValue] | None] = None
    tiny_forecast: ClassVar[dict[str, JsonValue]] = {}

    def tiny_of(self, spec: TrainSpec | CheckSpec | ForecastSpec) -> dict[str, JsonValue]:
        """Return the fields that make a run of the study tiny.

        **Arguments:**

        - `spec`: the run.

        **Returns:**

        The values by dotted field.
        """
        if isinstance(spec, ForecastSpec):
            return self.tiny_forecast
        if isinstance(spec, CheckSpec) and self.tiny_check is not None:
            return self.tiny_check
        return self.tiny

    @abstractmethod
    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say what was found.

        **Arguments:**

        - `runs`: the runs of the study, in its order.

        **Returns:**

        Sentences, each with its figures; the first one answers the question.
        """

    @abstractmethod
    def table(self, runs: Sequence[Run]) -> Table:
        """Return the figures behind the conclusion.

        **Arguments:**

        - `runs`: as for `conclusion`.

        **Returns:**

        The table.
        """

    @abstractmethod
    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return the chart that carries the conclusion.

        **Arguments:**

        - `runs`: as for `conclusion`.

        **Returns:**

        The chart as data.
        """
