"""POST /v1/datasets: an array file over HTTP becomes a data set that jobs may name."""

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from service.settings import Settings
from service.web.app import create_app
from tests.engine.arrays import ILLEGIBLE, member, npy
from tests.over_http import refused
from tests.service.arrays import X, Y, npz
from tests.serving import client_of


def test_an_upload_is_listed_and_can_be_trained_on(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/datasets", params={"name": "mine", "meaning": "Three kinds."}, content=npz(x=X, y=Y)
    )
    assert answer.status_code == 201, answer.text
    facts = answer.json()
    assert (facts["shape"], facts["classes"], facts["class_counts"]) == ([1, 6, 6], 3, [16, 16, 16])
    assert (facts["train_samples"], facts["test_samples"], facts["uploaded"], facts["bundled"]) == (
        48,
        12,
        True,
        False,
    )
    assert len(facts["digest"]) == 64
    assert client.get(answer.headers["Location"]).json() == facts
    assert facts in client.get("/v1/datasets").json()["items"]
    spec = {"kind": "train", "dataset": {"name": "mine"}, "batch_size": 24}
    job = client.post("/v1/jobs", json={"spec": spec})
    assert job.status_code == 202, job.text
    assert client.get(job.headers["Location"]).json()["spec"]["dataset"]["name"] == "mine"
    refused(
        client.post("/v1/jobs", json={"spec": spec | {"dataset": {"name": "yours"}}}),
        422,
        "invalid",
    )


def test_a_form_will_do_and_a_name_is_given_once(client: httpx.Client) -> None:
    archive = npz(x=X, y=Y)
    first = client.post(
        "/v1/datasets", data={"name": "mine"}, files={"file": ("data.npz", archive)}
    )
    assert first.status_code == 201, first.text
    again = client.post("/v1/datasets", params={"name": "mine"}, content=archive)
    assert (again.status_code, again.json()) == (200, first.json())
    refused(
        client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=2 - Y)),
        409,
        "name-taken",
    )
    refused(
        client.post("/v1/datasets", params={"name": "mnist"}, content=archive), 409, "name-taken"
    )


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("mine", b""),
        ("mine", b"PK\x03\x04 nonsense"),
        ("../up", npz(x=X, y=Y)),
        ("", npz(x=X, y=Y)),
        ("mine", npz(x=X)),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(
    client: httpx.Client, name: str, body: bytes
) -> None:
    refused(client.post("/v1/datasets", params={"name": name}, content=body), 422, "bad-upload")
    refused(
        client.post("/v1/datasets", data={"name": "mine"}, files={"other": ("data.npz", body)}),
        422,
        "bad-upload",
    )
    assert not [item for item in client.get("/v1/datasets").json()["items"] if item["uploaded"]]


@pytest.mark.parametrize("header", ILLEGIBLE, ids=range(len(ILLEGIBLE)))
def test_a_header_that_is_none_is_refused(hardy: httpx.Client, header: str) -> None:
    refused(
        hardy.post(
            "/v1/datasets", params={"name": "mine"}, content=member("x.npy", npy(header)).read()
        ),
        422,
        "bad-upload",
    )
    assert hardy.get("/v1/datasets/mine").status_code == 404  # on the same connection


def test_uploads_have_a_limit_of_their_own(settings: Settings) -> None:
    small: FastAPI = create_app(settings.model_copy(update={"max_upload_bytes": 5_000_000}))
    big = np.zeros((3_000, 20, 20), dtype=np.uint8)
    labels = np.arange(3_000) % 2
    with client_of(small) as client:
        assert (
            client.post(
                "/v1/datasets", params={"name": "fits"}, content=npz(x=big, y=labels)
            ).status_code
            == 201
        )
        too_big = npz(x=np.concatenate([big] * 5), y=np.concatenate([labels] * 5))
        refused(
            client.post("/v1/datasets", params={"name": "no"}, content=too_big),
            413,
            "body-too-large",
        )
