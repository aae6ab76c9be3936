"""POST /v1/weights: a network trained elsewhere becomes one that checks may name."""

import asyncio
import hashlib
import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import save

from ffengine.spec import CheckSpec, StudySpec, UploadedWeights
from service.client import AsyncClient, Client, Refused
from service.results.descriptions import title_of
from service.results.methods import sentences_of
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from service.web.auth import create_key
from tests.commands import Fflab
from tests.over_http import refused
from tests.service.arrays import X, Y, npz
from tests.serving import client_of

INPUTS = 64
TOLD = {"name": "mine", "data": "digits", "normalize": "l2"}
CHECK: dict[str, Any] = {
    "kind": "check",
    "at": {"weights": "mine", "layer": 1},
    "dataset": {"name": "digits"},
    "seeds": [0],
}


def network(scale: float = 1.0, inputs: int = INPUTS) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(3)
    return {
        "0.weight": scale * draw.standard_normal((12, inputs), dtype=np.float32),
        "2.weight": scale * draw.standard_normal((7, 12), dtype=np.float32),
    }


FILE = save(network())


def uploaded(client: httpx.Client, content: bytes = FILE, **told: Any) -> httpx.Response:
    return client.post("/v1/weights", params=TOLD | told, content=content)


def test_an_upload_is_listed_and_can_be_checked(client: httpx.Client, store: Store) -> None:
    answer = uploaded(client, meaning="Of my own loop.")
    assert answer.status_code == 201, answer.text
    facts = answer.json()
    assert facts["file_digest"] == hashlib.sha256(FILE).hexdigest()
    assert (facts["widths"], facts["inputs"], facts["bias"]) == ([12, 7], INPUTS, False)
    assert (facts["normalize"], facts["activation"], facts["labels"]) == ("l2", "relu", "overlay")
    assert (facts["dataset"], facts["seeds"], facts["by_fflab"]) == ("digits", [0], False)
    assert client.get(answer.headers["Location"]).json() == facts
    assert client.get("/v1/weights").json() == {"items": [facts]}
    job = client.post("/v1/jobs", json={"spec": CHECK})
    assert job.status_code == 202, job.text
    assert job.json()["spec"]["at"] == {**CHECK["at"], "digest": facts["digest"]}
    stored = store.jobs.get(job.json()["id"])
    assert stored
    assert title_of(stored) == "theorem 2 on digits, layer 1 of mine"
    assert client.get(f"/jobs/{stored.id}").status_code == 200
    assert "uploaded weights mine" in client.get(f"/jobs/{stored.id}").text


def test_a_name_is_given_once(client: httpx.Client) -> None:
    first = uploaded(client).json()
    archive = io.BytesIO()
    np.savez_compressed(archive, **network())  # type: ignore[arg-type]
    for content in (FILE, archive.getvalue()):
        again = uploaded(client, content)
        assert (again.status_code, again.json()) == (200, first)
    for answer in (uploaded(client, save(network(2.0))), uploaded(client, normalize="none")):
        problem = refused(answer, 409, "weights-name-taken")
        assert f"'mine' is taken, with digest {first['digest'][:16]}..." in problem.detail
    assert uploaded(client, save(network(2.0)), name="mine2").status_code == 201


@pytest.mark.parametrize(
    ("content", "told", "words"),
    [
        (b"", {}, "the file is empty or cut short"),
        (b"PK\x03\x04 nonsense", {}, "not a readable .npz"),
        (FILE[:-4], {}, "is not the size of its data"),
        (FILE, {"name": "../up"}, "the name '../up' cannot be used"),
        (FILE, {"name": ""}, "no name is given"),
        (FILE, {"data": "nothing"}, "'nothing' is not known; choose one of mnist-mini"),
        (FILE, {"data": None}, "data: say on which data set"),
        (FILE, {"activation": "wavelet"}, "network: activation"),
        (FILE, {"layer": ["0.weight", "3.weight"]}, "there is no tensor '3.weight'; there are"),
        (FILE, {"layer": ["0.weight,2.weight"]}, "2.weight is of shape"),
        (FILE, {"layout": "in_out"}, "0.weight F32 12x64, 2.weight F32 7x12"),
        (FILE, {"labels": "append"}, "0.weight has 64 inputs, but a sample of digits has 74"),
        (npz(x=X, y=Y), {}, "The file has x uint8 60x6x6, y int64 60"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(
    client: httpx.Client, content: bytes, told: dict[str, Any], words: str
) -> None:
    given = {key: value for key, value in (TOLD | told).items() if value is not None}
    answer = client.post("/v1/weights", params=given, content=content)
    assert words in refused(answer, 422, "bad-weights").detail
    assert client.get("/v1/weights").json() == {"items": []}


def test_parameters_and_forms_that_are_wrong_are_named(client: httpx.Client) -> None:
    for told, pointer in (
        ({"normalise": "l2"}, "query/normalise"),
        ({"normalize": "l3"}, "query/normalize"),
        ({"layout": "across"}, "query/layout"),
        ({"data": ["digits", "mnist"]}, "query/data"),
    ):
        problem = refused(uploaded(client, **told), 422, "invalid")
        assert problem.errors
        assert problem.errors[0].pointer.startswith(pointer)
    form = client.post("/v1/weights", params=TOLD, files={"file": ("mine.safetensors", FILE)})
    assert "the body is a form" in refused(form, 422, "bad-weights").detail


def test_unknown_weights_are_refused_where_a_job_is_submitted(client: httpx.Client) -> None:
    def refusal(**changes: Any) -> tuple[str, str]:
        answer = client.post("/v1/jobs", json={"spec": CHECK | changes})
        errors = refused(answer, 422, "invalid").errors
        assert errors
        return errors[0].pointer, errors[0].message

    pointer, message = refusal()
    assert (pointer, message.endswith("there are none, so upload them first")) == (
        "/spec/at/weights",
        True,
    )
    uploaded(client)
    at = CHECK["at"]
    pointer, message = refusal(at=at | {"weights": "yours"})
    assert (pointer, message.endswith("called 'yours'; there are mine")) == (
        "/spec/at/weights",
        True,
    )
    assert refusal(at=at | {"layer": 2})[0] == "/spec/at/layer"
    assert refusal(at=at | {"digest": "0" * 64})[0] == "/spec/at/digest"
    assert refusal(at=at | {"digest": "short"})[0] == "/spec/at/digest"
    assert refusal(at=at | {"epoch": 1})[0] == "/spec/at/epoch"
    assert refusal(seeds=[0, 1])[0] == "/spec/seeds"
    assert refusal(along="training_step", methods=["exact"])[0] == "/spec/along"
    assert refusal(dataset={"name": "mnist-mini"})[0] == "/spec/dataset/name"
    study = {"kind": "study", "base": CHECK, "grid": {"at.layer": [0, 5]}}
    answer = client.post("/v1/jobs", json={"spec": study})
    assert "one of its checks cannot be run" in refused(answer, 422, "invalid").errors[0].message


def test_other_weights_of_the_same_name_are_another_job(client: httpx.Client, store: Store) -> None:
    """A result of weights that are gone is no answer to a check of those that have the name."""
    uploaded(client)
    first = client.post("/v1/jobs", json={"spec": CHECK}).json()
    same = client.post("/v1/jobs", json={"spec": CHECK}).json()
    assert same["waits_for"] == first["id"]
    for job in (same, first):
        client.post(f"/v1/jobs/{job['id']}/cancel")
    assert client.delete("/v1/weights/mine").status_code == 204
    uploaded(client, save(network(2.0)))
    other = client.post("/v1/jobs", json={"spec": CHECK}).json()
    assert other["waits_for"] is None
    assert other["spec"]["at"]["digest"] != first["spec"]["at"]["digest"]
    clone = client.post("/v1/jobs", json={"spec": first["spec"]})
    problem = refused(clone, 422, "invalid")
    assert problem.errors[0].pointer == "/spec/at/digest"


@pytest.mark.parametrize("study", [False, True])
def test_weights_that_a_job_needs_are_kept_until_it_ends(
    client: httpx.Client, store: Store, study: bool
) -> None:
    uploaded(client)
    spec = {"kind": "study", "base": CHECK, "grid": {"theorem": [1, 2]}} if study else CHECK
    job = client.post("/v1/jobs", json={"spec": spec}).json()
    answer = client.delete("/v1/weights/mine")
    problem = refused(answer, 409, "weights-in-use")
    assert job["id"] in answer.json()["jobs"]
    assert f"mine is needed by {answer.json()['jobs'][0]}" in problem.detail
    assert client.get("/v1/weights/mine").status_code == 200
    client.post(f"/v1/jobs/{job['id']}/cancel")
    assert client.delete("/v1/weights/mine").status_code == 204
    for answer in (client.get("/v1/weights/mine"), client.delete("/v1/weights/mine")):
        assert "there are none" in refused(answer, 404, "no-such-weights").detail


def test_a_data_set_is_kept_while_a_check_names_weights_that_learnt_from_it(
    client: httpx.Client,
) -> None:
    client.post("/v1/datasets", params={"name": "small"}, content=npz(x=X, y=Y))
    uploaded(client, save(network(inputs=36)), data="small")
    spec = CHECK | {"dataset": {"name": "small"}, "samples": 20, "batch_size": 20}
    job = client.post("/v1/jobs", json={"spec": spec})
    assert job.status_code == 202, job.text
    refused(client.delete("/v1/datasets/small"), 409, "dataset-in-use")


def test_sizes_and_quotas_are_those_of_uploads(settings: Settings) -> None:
    limits = {"max_weight_bytes": 3_000, "max_upload_bytes": 9_000}
    with client_of(create_app(settings.model_copy(update=limits))) as small:
        told = refused(uploaded(small), 422, "bad-weights").detail
        assert "the layers have 3,408 bytes as float32; at most 3,000 are taken" in told
        refused(uploaded(small, b"\0" * 9_001), 413, "body-too-large")
    with Store(settings.database) as store:
        secrets = {name: create_key(store.api_keys, name).secret for name in ("ada", "bob")}
    headers = {name: {"Authorization": f"Bearer {secret}"} for name, secret in secrets.items()}
    quota = {"upload_quota_per_key": 9_000}  # a network of these takes up 6 kB
    with client_of(create_app(settings.model_copy(update=quota))) as client:
        refused(uploaded(client), 401, "key-needed")
        for who, name, status in (("ada", "a", 201), ("ada", "b", 507), ("bob", "b", 201)):
            answer = client.post(
                "/v1/weights",
                params=TOLD | {"name": name},
                content=save(network(2.0 if name == "b" else 1.0)),
                headers=headers[who],
            )
            assert answer.status_code == status, answer.text
        mine = client.get("/v1/weights?uploaded_by=bob", headers=headers["ada"]).json()["items"]
        assert [(one["name"], one["uploaded_by"]) for one in mine] == [("b", "bob")]


def test_the_clients_upload_list_and_delete(client: httpx.Client) -> None:
    url = str(client.base_url)
    sent: list[int] = []
    with Client(url) as here:
        facts = here.upload_weights(
            "mine", FILE, data="digits", normalize="l2", normalize_first=True, on_sent=sent.append
        )
        assert facts["normalize_first"] is True
        assert sent[-1] == len(FILE)
        with pytest.raises(Refused, match="is taken"):
            here.upload_weights("mine", FILE, data="digits")
        assert here.uploaded_weights() == [facts]
        at = UploadedWeights(weights="mine")
        job = here.submit(CheckSpec.model_validate(CHECK | {"at": at}))
        with pytest.raises(Refused, match="is needed by"):
            here.delete_weights("mine")
        job.cancel()

    async def elsewhere() -> None:
        async with AsyncClient(url) as there:
            layers = ["0.weight", "2.weight"]
            other = await there.upload_weights("other", FILE, data="digits", layers=layers)
            assert await there.uploaded_weights() == [facts, other]
            await there.delete_weights("other")
            await there.delete_weights("mine")
            assert await there.uploaded_weights() == []

    asyncio.run(elsewhere())


def test_the_commands_upload_list_and_delete(
    client: httpx.Client, fflab: Fflab, tmp_path: Path
) -> None:
    file = tmp_path / "mine.safetensors"
    file.write_bytes(FILE)
    told = fflab("weights", "upload", str(file), "--data", "digits", "--normalize", "l2")
    assert told.code == 0, told.err
    assert told.out.startswith("mine: 64 - 12 - 7 relu without biases, of digits, at http")
    assert fflab("weights", "list").lines[-1].split()[:4] == ["mine", "12", "7", "relu"]
    assert fflab("weights", "delete", "mine").out == "mine: removed\n"
    gone = fflab("weights", "delete", "mine")
    assert gone.code != 0
    assert "'mine' is not known" in gone.err


def test_the_methods_name_the_digest() -> None:
    at = UploadedWeights(weights="mine", layer=1, digest="ab" * 32)
    spec = CheckSpec.model_validate(CHECK | {"at": at, "methods": ["exact"]})
    told = " ".join(sentences_of(spec, ()))
    assert f"layer 1 of the uploaded network mine (SHA-256 of the network {'ab' * 32})" in told
    assert StudySpec.model_validate({"kind": "study", "base": spec.model_dump()})
