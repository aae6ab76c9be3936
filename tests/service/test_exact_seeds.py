"""Seeds beyond 2^53, which a double rounds, are exact wherever they are shown or sent."""

import csv
import html
import io
import json

import httpx
import numpy as np
import pytest

from ffengine.results import CheckResult, Diagnostic, TrainResult
from ffengine.spec import CheckSpec, TrainSpec
from service.client import Client
from service.store import Store
from tests.factories import finished
from tests.over_http import submit
from tests.service.samples import check_result, train_result

SEEDS = (2**53 + 1, 2**63 - 1)
WRITTEN = [str(seed) for seed in SEEDS]
ROUNDED = [str(int(float(seed))) for seed in SEEDS]
FOUND = Diagnostic(
    code="dead_units",
    severity="warning",
    message=f"Of seed {SEEDS[0]} all units are dead.",
    suggestion=f"Leave seed {SEEDS[1]} out.",
    evidence={"seed": SEEDS[0]},
)
RESULTS = {
    "train": train_result(SEEDS).model_copy(update={"diagnostics": (FOUND,)}),
    "check": check_result(SEEDS).model_copy(update={"diagnostics": (FOUND,)}),
}


@pytest.fixture(params=RESULTS)
def job(client: httpx.Client, store: Store, request: pytest.FixtureRequest) -> str:
    """A job of both seeds that has its result."""
    result = RESULTS[request.param]
    assert isinstance(result, TrainResult | CheckResult)
    made = submit(client, {"kind": request.param, "seeds": SEEDS}).id
    finished(store, made, result)
    return made


def test_answers_have_the_seeds_to_the_last_digit(client: httpx.Client, job: str) -> None:
    at = f"/v1/jobs/{job}"
    assert client.get(at).json()["spec"]["seeds"] == [*SEEDS]
    result = client.get(f"{at}/result").json()
    rows = result.get("curves") or result["cells"]
    assert {row["seed"] for row in rows} == {*SEEDS}
    assert result["provenance"]["seeds"] == [*SEEDS]
    assert result["diagnostics"][0]["evidence"] == {"seed": SEEDS[0]}
    assert {row["seed"] for row in client.get(f"{at}/curves").json()["items"]} == {*SEEDS}
    for path in ("result.csv", "curves.csv"):
        lines = [*csv.DictReader(io.StringIO(client.get(f"{at}/{path}").text))]
        assert {line["seed"] for line in lines} == {*WRITTEN}, path


@pytest.mark.slow
def test_the_archive_has_them_as_integers(client: httpx.Client, job: str) -> None:
    content = client.get(f"/v1/jobs/{job}/result.npz").content
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        header = json.loads(str(archive["header"]))
        assert header["seeds"] == [*SEEDS]
        if header["kind"] == "train":
            found = archive[next(name for name in archive.files if name.endswith("seed"))]
            assert found.dtype == np.int64
            assert {*found.tolist()} == {*SEEDS}


@pytest.mark.parametrize(
    "page", ["/jobs/{}", pytest.param("/v1/jobs/{}/report.html", marks=pytest.mark.slow)]
)
def test_pages_and_reports_round_none(client: httpx.Client, job: str, page: str) -> None:
    answer = client.get(page.format(job))
    assert answer.status_code == 200
    text = html.unescape(answer.text)
    assert all(seed in text for seed in WRITTEN)
    assert not any(wrong in text for wrong in ROUNDED)


def test_the_client_has_them(client: httpx.Client, job: str) -> None:
    with Client(str(client.base_url)) as own:
        spec = own.read(job).spec
        assert isinstance(spec, TrainSpec | CheckSpec)
        assert spec.seeds == SEEDS
        assert {row["seed"] for row in own.rows(job)} == {*SEEDS}
