"""The command line with a real worker: submit and wait, watch in a terminal, compare what was
found.
"""

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.waiting import PROGRAM_SECONDS, wait_until
from tests.ptys import Terminal
from tests.stack import Lab, frozen

SPEC = {
    "kind": "train",
    "dataset": {"train_samples": 1_000, "test_samples": 200},
    "network": {"widths": [64]},
    "monitor": {"samples": 200},
}


def fflab(lab: Lab, *arguments: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FFLAB_")}
    command = [sys.executable, "-m", "service.cli", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**inherited, "FFLAB_URL": lab.stack.url},
        timeout=PROGRAM_SECONDS,
    )


def spec_file(folder: Any, **fields: Any) -> str:
    file = folder / "spec.json"
    file.write_text(json.dumps({**SPEC, **fields}))
    return str(file)


def test_two_jobs_are_submitted_waited_for_and_put_beside_each_other(
    lab: Lab, tmp_path: Any
) -> None:
    ids = []
    for seed, strategy in ((41, "wrong_label"), (42, "hybrid")):
        settings = ("--set", f"seeds=[{seed}]", "--set", f"negatives.strategy={strategy}")
        submitted = fflab(lab, "submit", spec_file(tmp_path, epochs=2), *settings, "--wait")
        assert submitted.returncode == 0, submitted.stderr
        ids.append(submitted.stdout.splitlines()[0])
        assert submitted.stdout.splitlines()[-1] == "succeeded 100% done"
    document = json.loads(fflab(lab, "diff", *ids, "--json").stdout)
    assert {"field": "negatives.strategy", "values": ["wrong_label", "hybrid"]} in document["spec"]
    assert all(
        value
        for figure in document["figures"]
        for value in figure["values"]
        if "Theorem 2" in figure["quantity"]
    )
    assert [fact["fact"] for fact in document["provenance"]] == ["seeds"]


def test_curves_grow_in_a_terminal_also_when_the_api_is_killed_meanwhile(
    lab: Lab, tmp_path: Any
) -> None:
    wait_until(
        lambda: not lab.http.get("/v1/workers").json()["items"][0]["job"], "the worker is idle"
    )
    with frozen(lab.runner()):  # so that the job cannot have ended before it is watched
        submitted = fflab(
            lab,
            "submit",
            spec_file(tmp_path, epochs=60, batch_size=20, seeds=[43], optimizer={"lr": 0.01}),
            "--fresh",
        )
        job_id = submitted.stdout.strip()
        terminal = Terminal("watch", job_id, environment={"FFLAB_URL": lab.stack.url}, columns=120)
        terminal.until("running")
    early = terminal.until("running", "● positive", "Hoyer sparsity S")
    lab.until_midway(job_id)
    lab.child("api").kill()
    terminal.until("succeeded", "100%", "epoch 60")
    assert terminal.end() == 0
    last = [frame for frame in terminal.frames if "epoch 60" in frame][-1]
    assert sum("⠀" < mark <= "⣿" for mark in last) > sum("⠀" < mark <= "⣿" for mark in early)
