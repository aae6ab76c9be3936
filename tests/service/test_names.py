"""Names that users choose: refused where they would break what shows them, and harmless where an
earlier version has stored them.
"""

import json
import re
from typing import Any

import httpx
import pytest

from service.results.charts import CHARTS, FORMATS, StudyGrid, render
from service.results.load import drawable
from service.results.report import report
from service.store import Store
from service.web.auth import create_key, fingerprint
from service.web.dependencies import Resources
from service.web.lookup import find_job
from tests.commands import Fflab
from tests.hostile import BAD, CHECK, HOSTILE, PART, SCRIPT, stored_once
from tests.over_http import refused, submit
from tests.service.arrays import X, Y, npz

HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ufffe]")


def study(name: str) -> dict[str, Any]:
    return {"kind": "study", "parts": {name: PART}}


@pytest.mark.slow
def test_a_job_is_refused_with_the_character_and_its_place(client: httpx.Client) -> None:
    def post(route: str, body: dict[str, Any]) -> httpx.Response:
        return client.post(
            route, content=json.dumps(body), headers={"Content-Type": "application/json"}
        )

    job = submit(client, CHECK)
    for character in ("\u0001", "\u001b", "\ufffe", *BAD):
        bodies: dict[str, dict[str, Any]] = {
            "/spec/parts": {"spec": study(character)},
            "/name": {"spec": CHECK, "name": f"a{character}"},
            "/tags/1": {"spec": CHECK, "tags": ["a", f"b{character}"]},
            "/webhook": {"spec": CHECK, "webhook": f"https://example.org/{character}"},
            "/spec/grid/theorem/0": {
                "spec": {"kind": "study", "base": CHECK, "grid": {"theorem": [f"1{character}"]}}
            },
        }
        for place, body in bodies.items():
            problem = refused(post("/v1/jobs", body), 422, "invalid")
            assert problem.errors[0].pointer.startswith(place)
            assert not HIDDEN.search(problem.detail)
            if (
                character not in "\x00\ud800\udfff"
            ):  # what no database stores has a message of its own
                assert f"U+{ord(character):04X}" in problem.errors[0].message
        refused(post("/v1/estimate", bodies["/spec/parts"]), 422, "invalid")
        renamed = client.patch(
            f"/v1/jobs/{job.id}",
            content=json.dumps({"name": character}),
            headers={"Content-Type": "application/json"},
        )
        refused(renamed, 422, "invalid")


@pytest.mark.parametrize(
    ("webhook", "pointer"),
    [
        ("https://example.org/" + "a" * 2_000, "/webhook"),
        ({"url": "https://example.org/" + "a" * 2_000}, "/webhook/url"),
        ("https://" + "a" * 900_000, "/webhook"),
        ({"url": "https://example.org/", "secret": "whsec_" + "a" * 2_000}, "/webhook"),
    ],
)
def test_an_address_that_is_too_long_is_refused_in_short(
    client: httpx.Client, webhook: str | dict[str, str], pointer: str
) -> None:
    for route in ("/v1/jobs", "/v1/estimate"):
        response = client.post(route, json={"spec": CHECK, "webhook": webhook})
        problem = refused(response, 422, "invalid")
        assert problem.errors[0].pointer.startswith(pointer)
        assert len(response.content) < 2_000


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\n"])
def test_a_text_to_search_for_has_no_control_characters(
    client: httpx.Client, character: str
) -> None:
    for parameter in ("name", "tag", "search", "submitted_by"):
        response = client.get("/v1/jobs", params={parameter: f"a{character}"})
        problem = refused(response, 422, "invalid")
        assert problem.errors[0].pointer == f"query/{parameter}"
        assert f"U+{ord(character):04X}" in problem.detail
    answer = client.get("/v1/datasets", params={"uploaded_by": f"a{character}"})
    refused(answer, 422, "invalid")
    for long in ("", "a" * 201):
        refused(client.get("/v1/jobs", params={"tag": long}), 422, "invalid")


@pytest.mark.parametrize("key", ["", "a" * 256, "a\x9b", "a\x85", "a\x7f"])
def test_an_idempotency_key_is_printable_and_short(client: httpx.Client, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    response = client.post("/v1/jobs", json={"spec": CHECK}, headers=headers)
    assert refused(response, 422, "invalid").errors[0].pointer == "header/idempotency-key"


def test_names_in_any_script_are_kept_composed_and_found(client: httpx.Client) -> None:
    for name in ("学习率", "تجربة أولى", "👩‍🔬 run", "the\u0301ore\u0300me"):
        submit(client, study(name), name=name, tags=[name], fresh=True)
        (found,) = client.get("/v1/jobs", params={"name": name, "tag": name}).json()["items"]
        assert found["spec"]["parts"].keys() == {found["name"]}
    assert found["name"] == "théorème"


def test_keys_and_data_sets_have_such_names_only(
    client: httpx.Client, store: Store, fflab: Fflab
) -> None:
    for name in ("", " ", "a\x1b", "\u202eada", "a" * 201):
        with pytest.raises(ValueError, match="character"):
            create_key(store.api_keys, name)
        ended = fflab("keys", "create", name)
        assert (ended.code, ended.out, len(ended.err.splitlines())) == (2, "", 1)
        assert not HIDDEN.search(ended.err.rstrip("\n"))
    assert not store.api_keys.all()
    answer = client.post(
        "/v1/datasets", params={"name": "mine", "meaning": "a\u202e"}, content=npz(x=X, y=Y)
    )
    assert "U+202E" in refused(answer, 422, "bad-upload").detail


@pytest.mark.slow
def test_a_name_that_was_stored_once_aborts_and_scripts_nothing(
    resources: Resources, store: Store, client: httpx.Client
) -> None:
    job_id = stored_once(store)
    job = find_job(resources.store, job_id)
    assert job.name == HOSTILE
    sources = drawable(store, job, resources.artifacts)
    assert isinstance(sources[0], StudyGrid)
    there = [line["name"] for line in client.get(f"/v1/jobs/{job_id}/charts").json()["items"]]
    assert "grid_theorem1" in there
    for name in there:
        for fmt in FORMATS:
            answer = client.get(f"/v1/jobs/{job_id}/chart/{name}.{fmt}")
            assert answer.status_code == 200
            if fmt == "html":
                assert answer.text.count("<script>") == answer.text.count("</script>") == 2
            if fmt not in ("png", "pdf"):
                assert SCRIPT not in answer.text or fmt == "json"
                assert not HIDDEN.search(answer.text) or fmt == "html"  # which holds the library
    page = report(job, sources)
    assert SCRIPT not in page
    for text in (
        page,
        client.get(f"/v1/jobs/{job_id}/report.html").text,
        *(client.get(path).text for path in ("/", f"/jobs/{job_id}")),
    ):
        assert not HIDDEN.search(text)
        assert SCRIPT not in text
    assert client.get("/compare", params={"job": [job_id, job_id]}).status_code == 200


@pytest.mark.slow
def test_it_can_be_listed_searched_changed_and_deleted(store: Store, client: httpx.Client) -> None:
    job_id = stored_once(store)
    assert [job["name"] for job in client.get("/v1/jobs").json()["items"]] == [HOSTILE]
    assert client.get("/v1/jobs", params={"search": "script"}).json()["items"]
    assert client.get("/", params={"tag": HOSTILE}).status_code == 200
    for path in ("", "/result", "/result.csv", "/curves", "/log", "/events?after=0"):
        assert (
            client.get(
                f"/v1/jobs/{job_id}{path}", headers={"Accept": "application/json"}
            ).status_code
            == 200
        )
    assert client.get(f"/new?like={job_id}").status_code == 200
    assert client.patch(f"/v1/jobs/{job_id}", json={"name": "better"}).json()["name"] == "better"
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204


@pytest.mark.slow
def test_a_terminal_is_told_nothing_by_it(store: Store, fflab: Fflab) -> None:
    job_id = stored_once(store)
    store.api_keys.add("key_1", HOSTILE, fingerprint("x"))
    store.api_keys.revoke("key_1")
    for command in (
        *(
            ("jobs",),
            ("jobs", "--json"),
            ("show", job_id),
            ("show", job_id, "--json"),
            ("log", job_id),
            ("result", job_id),
        ),
        *(
            ("result", job_id, "--json"),
            ("watch", job_id),
            ("watch", job_id, "--json"),
            ("diff", job_id, job_id),
            ("keys", "list"),
        ),
    ):
        ended = fflab(*command)
        if command == ("jobs",):
            continue
        assert not HIDDEN.search(ended.out.replace("\n", "") + ended.err.replace("\n", "")), command


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    ["</script><script>alert(1)</script>", "<!--<script>", "]]>", "\u2028", "&lt;/script&gt;"],
)
def test_no_text_of_a_chart_leaves_its_script(
    text: str, store: Store, resources: Resources
) -> None:
    job = find_job(resources.store, stored_once(store, text))
    sources = drawable(store, job, resources.artifacts)
    for name in (name for name in CHARTS if name == "grid_theorem1"):
        html = render(name, sources, "html").decode()
        script = html[html.index('vegaEmbed("#chart"') :]
        assert script.count("<") == 3  # </script></body></html>
        specification = json.loads(script[script.index("{") : script.index(', {"renderer"')])
        assert specification == json.loads(render(name, sources, "json"))
