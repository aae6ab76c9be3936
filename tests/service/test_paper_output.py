"""What the command line prints of a study of the paper: sections, charts of characters, tables."""

import io

import pytest

from ffengine.results import Interval
from ffengine.spec import TrainSpec
from fflab import verdict_on
from service.cli import output, paper_plots
from service.cli.output import Screen, comparison_table
from service.results.answers import chosen
from service.results.leading_charts import PAPER_CHARTS
from service.results.paper_comparison import by_run, comparison
from service.results.shares import percent, with_interval
from service.results.sources import Source
from tests.service.courses import training

POINTS = [(0.7, 0.47), (0.06, 0.43), (0.5, 0.37), (0.65, 0.40), (0.69, 0.46)]


def run(label: str, **changes: object) -> Source:
    document = {"dataset": {"name": "mnist"}, "network": {"widths": [64]}, "seeds": [0, 1, 2]}
    return Source(label, training(POINTS), TrainSpec.model_validate(document | changes))


SOURCES = [
    run("narrow"),
    run("wide", network={"widths": [256]}),
    run("centred", dataset={"name": "mnist", "preprocess": "center"}),
    run("softplus", objective={"name": "softplus"}),
]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    return shown(monkeypatch, width=80)


def shown(monkeypatch: pytest.MonkeyPatch, *, width: int, terminal: bool = True) -> Screen:
    made = Screen(
        file=io.StringIO(),
        force_terminal=terminal,
        width=width,
        color_system=None,
        highlight=False,
        markup=False,
    )
    for module in (output, paper_plots):
        monkeypatch.setattr(module, "out", made)
    return made


def text_of(screen: Screen) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


@pytest.mark.parametrize("width", [80, 200])
def test_a_table_names_each_run_once_and_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    screen = shown(monkeypatch, width=width)
    comparison_table(comparison(SOURCES))
    lines = text_of(screen).splitlines()
    for name in ("narrow", "wide", "centred"):
        assert [line.strip() for line in lines].count(name) == 1
    of_softplus = "softplus - not the paper's setting: objective.name softplus"
    assert sum(line.startswith(of_softplus) for line in lines) == 1
    figures = lines[: -len({row.verdict for row in comparison(SOURCES)} - {""})]
    assert max(map(len, figures)) <= width
    assert sum("chosen epoch: no verdict" in line for line in figures) >= 6


def test_a_pipe_has_a_line_of_its_own_for_each_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown(monkeypatch, width=80, terminal=False)
    comparison_table(comparison(SOURCES), explained=False)
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split("\t")[:3] == ["quantity", "measured", "95 % interval"]
    assert len(rows) == len(comparison(SOURCES))
    assert rows[0].startswith(
        "Theorem 2 along the training step, epoch 0, positive samples, narrow"
    )


def test_the_two_charts_are_drawn_of_characters(screen: Screen) -> None:
    paper_plots.paper_plots(SOURCES)
    text = text_of(screen)
    assert "● n = 64   ▲ n = 256" in text
    assert "● pixels as they are   ▲ centred pixels" in text
    assert "0.500 ┤" in text
    assert text.count("tau 4") == 2
    assert max(map(len, text.splitlines())) <= 80


def test_nothing_is_drawn_where_runs_do_not_differ_or_nobody_looks(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper_plots.paper_plots(SOURCES[:1])
    assert text_of(screen) == ""
    pipe = shown(monkeypatch, width=80, terminal=False)
    paper_plots.paper_plots(SOURCES)
    assert text_of(pipe) == ""


def test_rows_of_one_run_have_no_heading() -> None:
    [only] = by_run(comparison([SOURCES[3]._replace(label="")]))
    assert only.heading == ""
    assert only.rows[0].judgement.startswith("not the paper's setting (objective.name softplus")


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.51, 0.6, "met"),
        (0.5, 0.6, "open"),  # not above one half
        (0.4, 0.6, "open"),
        (0.4, 0.5, "NOT met"),
        (None, None, "one seed: no verdict"),
    ],
)
def test_a_verdict_is_that_of_the_whole_interval(
    low: float | None, high: float | None, verdict: str
) -> None:
    assert verdict_on(
        Interval(mean=0.5, low=low, high=high, seeds=1 if low is None else 3), 0.5
    ) == (verdict)


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (
            ["sparsity_widths", "theorem2_inputs", "theorem2", "sparsity"],
            ["sparsity_widths", "theorem2_inputs"],
        ),
        (["theorem1", "theorem2", "sparsity"], ["sparsity", "theorem2"]),
        (["theorem1_widths"], ["theorem1_widths"]),
    ],
)
def test_two_charts_at_most_lead(names: list[str], first: list[str]) -> None:
    assert chosen(PAPER_CHARTS, names) == first


def test_only_all_samples_are_a_hundred_percent() -> None:
    assert [percent(value) for value in (0.0, 1.0, 0.5, 0.951, 0.9998)] == [
        *("0", "100", "50", "95.1", "99.98")
    ]
    assert [percent(value) for value in (0.99999, 0.9999872, 0.00001)] == [
        *("99.999", "99.999", "0.001")
    ]
    assert with_interval(Interval(mean=1.0, low=0.999987, high=1.0, seeds=5)) == (
        "100 % [99.999, 100]"
    )


def test_a_bound_that_is_not_1_is_not_written_as_1() -> None:
    row = comparison(SOURCES[:1])[0]
    assert row._replace(low=0.9999872, high=1.0).interval == "0.999987 to 1.0000"
    assert row._replace(low=0.0, high=0.00001).interval == "0.0000 to 0.000010"
    assert row._replace(low=0.9995, high=0.99996).interval == "0.9995 to 0.999960"
