"""Tables that fit a terminal of any width."""

import httpx
import pytest
from rich.text import Text

from service.cli import output
from service.cli.fitted_table import fitted
from tests.commands import Fflab
from tests.over_http import submit

ID = "job_" + "0" * 32
COLUMNS = ("id", "kind", "state", "done", "name", "by", "submitted", "tags")
ROWS: list[list[str | Text]] = [
    [ID, "study", Text("succeeded"), "100%", "a name of 32 characters, exactly", "ada", "now", "x"],
    [ID, "train", Text("running"), "7%", "日本語の名前です、とても長いので切られます", "", "", ""],
]


def drawn(width: int | None, ellipsis: str = "…") -> tuple[list[str], list[str]]:
    found = fitted(
        COLUMNS,
        ROWS,
        width,
        texts=output.CUT,
        leave_out=output.LEFT_OUT,
        right=("done",),
        ellipsis=ellipsis,
    )
    cells = [one.cell_len for one in found.lines]
    assert width is None or max(cells) <= width
    return [one.plain for one in found.lines], found.left_out


@pytest.mark.parametrize(
    ("width", "left_out"),
    [
        (60, ["kind", "done", "by", "submitted", "tags"]),
        (80, ["kind", "by", "submitted", "tags"]),
        (100, []),
        (120, []),
        (200, []),
        (None, []),
    ],
)
def test_texts_are_cut_and_columns_left_out_until_it_fits(
    width: int | None, left_out: list[str]
) -> None:
    lines, found = drawn(width)
    assert found == left_out
    for line in lines[1:]:
        assert line.startswith(ID)
    assert "succeeded" in lines[1]
    assert "running" in lines[2]
    assert "a name" in lines[1], "a name is cut, and not left out"
    assert ("exactly" in lines[1]) == (width not in (60, 80, 100))


def test_the_ends_of_columns_are_below_each_other() -> None:
    lines, _ = drawn(200)
    at = lines[0].index("done") + len("done")
    assert [line[:at].rsplit(maxsplit=1)[-1] for line in lines] == ["done", "100%", "7%"]


def test_a_terminal_of_ascii_has_no_ellipsis() -> None:
    lines, _ = drawn(60, ellipsis="~")
    assert lines[1].endswith("~")


def test_a_terminal_that_is_too_narrow_for_the_id_keeps_it() -> None:
    found = fitted(("id", "state"), [[ID, "queued"]], 20, leave_out=())
    assert found.lines[1].plain == f"{ID}  queued"


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_list_of_jobs_fits_the_terminal(
    client: httpx.Client, fflab: Fflab, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    name = "a name that says all of what the job is for, and more"
    job = submit(client, name=name, tags=["first", "second"]).id
    piped = fflab("jobs").lines
    assert piped[1].split("\t")[4] == name, "in a pipe nothing is cut"
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(output.out, "_force_terminal", True)
    monkeypatch.setattr(output.out, "_width", width)
    monkeypatch.setattr(output.out, "_color_system", None)
    found = fflab("jobs").lines
    assert max(map(len, found)) <= width
    assert found[1].startswith(f"{job}  ")
    assert "queued" in found[1]
    assert ("not shown: " in found[-1]) == (width < 120)
    whole = fflab("jobs", "--wide").lines
    assert name in whole[1]
    assert "first, second" in whole[1]
    assert "not shown" not in whole[-1]
    nothing = fflab("jobs", "--where", "name~nobody").lines
    assert nothing == ["no job fits"]
