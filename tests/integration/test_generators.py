"""Generators of clients read the OpenAPI document, and what they make works against the service."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest

from scripts.typescript import TYPES, generate
from service.settings import Settings
from service.web.app import create_app
from tests.needs import program
from tests.serving import client_of

MAKE_SECONDS = 300

USE_PYTHON = """
import sys
sys.path.insert(0, sys.argv[1])
from fflab_client import Client
from fflab_client.api.jobs import list_jobs, read_job, submit_job
from fflab_client.models import JobRequest, JobState

client = Client(base_url=sys.argv[2])
body = JobRequest.from_dict({"spec": {"kind": "train", "epochs": 1}, "name": "made"})
job = submit_job.sync(client=client, body=body)
assert (job.name, job.spec.epochs) == ("made", 1), job
page = list_jobs.sync(client=client, state=[JobState.QUEUED, JobState.RUNNING], total=True)
assert (page.total, page.items[0].id) == (1, job.id), page
assert read_job.sync(job.id, client=client).state == JobState.QUEUED
body = JobRequest.from_dict({"spec": {"kind": "train", "epochs": -1}})
refused = submit_job.sync(client=client, body=body)
assert refused.code == "invalid", refused
print("used")
"""

USE_TYPESCRIPT = """
import type { paths, components } from "./fflab";
type Job = components["schemas"]["Job"];
type Listed = paths["/v1/jobs"]["get"]["responses"]["200"]["content"]["application/json"];
type Query = NonNullable<paths["/v1/jobs"]["get"]["parameters"]["query"]>;
type Problem = components["schemas"]["ProblemDetails"];
const query: Query = { state: ["queued", "running"], total: true, fields: "id,name" };
const body: components["schemas"]["JobRequest"] = {
  spec: { kind: "train", epochs: 1 },
};
export const first = (page: Listed): Job | undefined => page.items[0];
export const said = (problem: Problem): string => `${problem.code}: ${problem.detail}`;
export const asked = [query, body];
// @ts-expect-error a state that there is not
export const wrong: Query = { state: ["dead"] };
"""

USE_EXAMPLE = """
import { Fflab, Refused } from "./client.ts";
const lab = new Fflab(process.argv[2]);
const options = { name: "made", tags: ["ts"] };
const job = await lab.submit({ kind: "train", epochs: 1 }, options, "once");
const again = await lab.submit({ kind: "train", epochs: 1 }, options, "once");
if (again.id !== job.id) throw new Error("submitted twice");
const study = await lab.submit("quick");
const found = [];
for await (const one of lab.jobs({ state: ["queued"], limit: 1 })) found.push(one.id);
if (`${found}` !== `${[study.id, job.id]}`) throw new Error(`${found}`);
if ((await lab.rows(job.id)).length !== 0) throw new Error("rows");
const table = new TextDecoder().decode(await lab.download(job.id, "curves.csv"));
if (!table.startsWith("seed,")) throw new Error(table);
for (const [call, code] of [
  [() => lab.result(job.id), "no-result-yet"],
  [() => lab.submit({ kind: "train", epochs: -1 }), "invalid"],
])
  await call().then(
    () => { throw new Error("was not refused"); },
    (error) => {
      if (!(error instanceof Refused) || error.problem.code !== code) throw error;
    },
  );
await lab.act(job.id, "cancel");
console.log((await lab.ended(job.id)).state);
"""


pytestmark = pytest.mark.soak


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with client_of(create_app(Settings(home=tmp_path / "home"))) as client:
        yield client


def run(command: Sequence[str | Path], folder: Path) -> str:
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=MAKE_SECONDS, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_a_generated_python_client_submits_and_lists(client: httpx.Client, tmp_path: Path) -> None:
    generator = program("bin/openapi-python-client")
    document = client.get("/openapi.json").json()
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    (tmp_path / "config.yml").write_text(
        "package_name_override: fflab_client\n"
        "content_type_overrides:\n"
        "  application/zip: application/octet-stream\n"
        "  application/vnd.apache.parquet: application/octet-stream\n"
        "post_hooks: []\n",
        encoding="utf-8",
    )
    made = tmp_path / "made"
    told = run(
        [
            *(generator, "generate", "--path", "openapi.json", "--config", "config.yml"),
            *("--output-path", made, "--fail-on-warning"),
        ],
        tmp_path,
    )
    assert "warning" not in told.lower(), told
    python = program("bin/python")  # it has what the made client needs
    used = run([python, "-c", USE_PYTHON, made, str(client.base_url)], tmp_path)
    assert used == "used\n"


def test_generated_typescript_types_fit_the_requests(client: httpx.Client, tmp_path: Path) -> None:
    node = program("bin/node")
    generator = program("node_modules/openapi-typescript/bin/cli.js")
    compiler = program("node_modules/typescript/bin/tsc")
    (tmp_path / "openapi.json").write_bytes(client.get("/openapi.json").content)
    # what has a default may be left out of a request
    options = ["--output", "fflab.d.ts", "--default-non-nullable=false"]
    run([node, generator, "openapi.json", *options], tmp_path)
    (tmp_path / "use.ts").write_text(USE_TYPESCRIPT, encoding="utf-8")
    run([node, compiler, "--noEmit", "--strict", "--target", "es2022", "use.ts"], tmp_path)


def test_the_typescript_example_has_the_types_of_this_version_and_works(
    client: httpx.Client, tmp_path: Path
) -> None:
    node, compiler = program("bin/node"), program("node_modules/typescript/bin/tsc")
    generate(tmp_path / "fflab.d.ts")
    assert (tmp_path / "fflab.d.ts").read_text() == TYPES.read_text(), (
        "write it anew: python -m scripts.typescript"
    )
    for file in TYPES.parent.iterdir():
        shutil.copy(file, tmp_path)
    run([node, compiler, "--project", "."], tmp_path)
    (tmp_path / "use.ts").write_text(USE_EXAMPLE, encoding="utf-8")
    assert run([node, "use.ts", str(client.base_url).rstrip("/")], tmp_path) == "cancelled\n"
