"""What a person sees: curves that grow while a job is watched, tables, hints; in a terminal of its
own.
"""

import itertools

import httpx
import pytest
from sqlalchemy import update

from ffengine.results import Split
from ffengine.spec import TrainSpec
from service.cli.text_plot import PlottedCurve, plot
from service.jobs import Progress
from service.store import Store
from service.store.tables import JobRow, now_seconds
from tests.factories import ERROR, LEASE, STUDY, claimed, finished, submit
from tests.ptys import Terminal
from tests.service.samples import check_result, epoch_row, train_result

pytestmark = pytest.mark.slow  # each starts a command in a terminal

EPOCHS = 4
SPLITS: tuple[Split, ...] = ("positive", "negative")


def learn(store: Store, job_id: str, attempt: int, epoch: int) -> None:
    """Let an epoch be measured, as a worker would."""
    ratio = {"positive": 0.9 - epoch / 10, "negative": 0.45 - epoch / 10}
    rows = [
        epoch_row(epoch, split, seed=seed, ratio=ratio[split])
        for split in SPLITS
        for seed in (0, 1)
    ]
    progress = Progress(
        fraction=epoch / EPOCHS, message=f"epoch {epoch} of {EPOCHS}", eta_seconds=5.0
    )
    store.queue.record(job_id, attempt, lease_seconds=LEASE, progress=progress, rows=rows)


@pytest.fixture
def address(client: httpx.Client) -> dict[str, str]:
    return {"FFLAB_URL": str(client.base_url).rstrip("/")}


def test_curves_grow_while_a_job_runs_in_a_terminal_of_any_size(
    store: Store, address: dict[str, str]
) -> None:
    job_id, attempt = claimed(
        store, submit(store, TrainSpec(epochs=EPOCHS, seeds=(0, 1)), name="a run")
    )
    learn(store, job_id, attempt, 0)
    terminal = Terminal("watch", "last", environment=address)
    early = terminal.until(
        "a run", "running", "epoch 0", "● positive", "▲ negative", "Hoyer sparsity S", "theorem 2"
    )
    learn(store, job_id, attempt, 1)
    learn(store, job_id, attempt, 2)
    later = terminal.until("50%", "epoch 2 of 4", "0.7000")
    assert later.count("●") == early.count("●") + 2
    assert max(map(len, later.splitlines())) <= 110
    terminal.resize(70, 30)
    learn(store, job_id, attempt, 3)
    narrow = terminal.until("75%", "epoch 3 of 4", "0.6000")
    assert max(map(len, narrow.splitlines())) <= 70
    store.queue.finish(job_id, attempt, train_result((0, 1), epochs=EPOCHS))
    terminal.until("succeeded", "100%", f"fflab result {job_id[-8:]}")
    assert terminal.end() == 0


def test_ctrl_c_ends_watching_and_says_that_the_job_goes_on(
    store: Store, address: dict[str, str]
) -> None:
    job_id, attempt = claimed(store)
    terminal = Terminal("watch", job_id, environment=address)
    terminal.until("running")
    terminal.interrupt()
    terminal.until("the job goes on", f"fflab watch {job_id[-8:]}")
    assert terminal.end() == 130
    store.queue.finish(job_id, attempt, train_result())


def test_a_failure_says_why_and_what_was_measured_stays(
    store: Store, address: dict[str, str]
) -> None:
    job_id, attempt = claimed(store)
    learn(store, job_id, attempt, 1)
    store.queue.fail(job_id, attempt, ERROR)
    terminal = Terminal("watch", job_id, environment=address)
    assert terminal.end() == 1
    terminal.until("failed", "● positive")
    assert "Too large: Ask for less." in terminal.frames[-1]


def test_a_study_shows_its_runs_by_state(store: Store, address: dict[str, str]) -> None:
    study = submit(store, STUDY, name="widths")
    first = store.jobs.page(limit=5, parent=study.id).jobs[-1]
    finished(store, first.id, train_result())
    terminal = Terminal("watch", study.id, environment=address, columns=80, lines=24)
    terminal.until("widths", "1 succeeded", "2 queued", "epochs 2")
    terminal.interrupt()
    assert terminal.end() == 130


def test_a_result_is_a_summary_for_people(store: Store, address: dict[str, str]) -> None:
    job = submit(store)
    finished(store, job.id, train_result((0, 1), epochs=2))
    terminal = Terminal("result", "last", environment=address)
    assert terminal.end() == 0
    terminal.until("measured", "95 % interval", "Rise of S", "data digest")


def test_a_list_is_a_table_with_times_in_words_and_names_as_they_are(
    store: Store, address: dict[str, str]
) -> None:
    submit(store, name="[red]50 %[/red] :tada:")
    with store.database.writing() as session:
        session.execute(update(JobRow).values(created_at=now_seconds() - 2 * 3600))
    terminal = Terminal("jobs", environment={**address, "NO_COLOR": "1"}, columns=120)
    assert terminal.end() == 0
    terminal.until("[red]50 %[/red] :tada:", "2 h ago", "queued")
    empty = Terminal("jobs", "--search", "nothing", environment=address)
    assert empty.end() == 0
    empty.until("no job fits")


def test_a_check_in_a_narrow_terminal_fits(store: Store, address: dict[str, str]) -> None:
    from ffengine.spec import CheckSpec

    job_id, attempt = claimed(store, submit(store, CheckSpec(theorem=1, widths=(64,))))
    cells = check_result().cells
    store.queue.record(
        job_id,
        attempt,
        lease_seconds=LEASE,
        progress=Progress(fraction=0.5, message="n = 64", eta_seconds=None),
        rows=cells,
    )
    terminal = Terminal("watch", job_id, environment=address, columns=60, lines=20)
    frame = terminal.until("width", "0.7500", "50%")
    assert max(map(len, frame.splitlines())) <= 60
    store.queue.finish(job_id, attempt, check_result())
    assert terminal.end() == 0


def test_a_plot_keeps_to_its_size_and_tells_curves_apart_without_colours() -> None:
    curves = [
        PlottedCurve("●", "blue", 1, [(0, 0.1), (5, 0.9)]),
        PlottedCurve("▲", "red", 3, [(0, 0.5)]),
        PlottedCurve("x", "red", 1, []),
    ]
    for width, height in itertools.product((20, 60, 120), (4, 12)):
        lines = plot(
            "S", curves, width=width, height=height, last=10, reference=0.5, bounds=(0.0, 1.0)
        ).plain.splitlines()
        assert len(lines) == height + 3
        assert max(map(len, lines)) <= width
        text = "\n".join(lines)
        assert text.count("●") == 2
        assert text.count("▲") == 1
        assert "0.500 ┤" in text
    constant = plot(
        "S", [PlottedCurve("●", "blue", 1, [(0, 0.0), (1, 0.0)])], width=30, height=4, last=1
    )
    assert "0.050" in constant.plain
