"""YAML that says no more than JSON can: from files, from --set and from the form; whatever is sent,
the service says what is wrong.
"""

import json
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.waiting import PATIENCE_SECONDS
from ffengine.text import all_visible
from service.settings import Settings
from service.specs.files import SpecError, read_spec
from service.specs.plain_yaml import NotPlain, parsed, written
from service.web.app import create_app
from tests.examples import examples
from tests.over_http import refused
from tests.serving import client_of

ITEMS = ",".join("x" * 10)
BOMB = f"a0: &a0 [{ITEMS}]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
REFUSED = {
    BOMB: r"line 1, column 5: names of values \(&a0, \*a0\) are not taken; write the value out",
    "a: &x [*x]": "names of values",
    "a: *x": r"names of values \(&x, \*x\)",
    "base: &b {a: 1}\nc: {<<: *b}": "names of values",
    "<<: {a: 1}": r"merge keys \(<<\) are not taken",
    "a: !!set {x}": r"line 1, column 4: tags \(tag:yaml.org,2002:set\) are not taken",
    "a: !!binary aGk=": "tags",
    "a: !!bool x": "tags",
    "a: !!int ''": "tags",
    "a: !!timestamp 2020-01-01": "tags",
    "!!python/object/apply:os.system ['true']": "tags",
    "a: 1\nb: 2\na: 3": r"line 3, column 1: 'a' is there twice",
    "a: {b: 1, 'b': 2}": "'b' is there twice",
    '{"epochs": 1, "epochs": 2}': "'epochs' is there twice",
    "1: x": r"the name 1 is a text: write it in quotes, '1'",
    "yes: x": "in quotes, 'yes'",
    "null: x": "in quotes, 'null'",
    "? [a]\n: x": "a name is a text",
    "{{a: 1}: x}": "a name is a text",
    "a: .inf": "not a finite number",
    "a: .nan": "not a finite number",
    "a: 1.0e+999": "not a finite number",
    "a: " + "1" * 5000: "at most 400 characters",
    "a: 1" + ":1" * 90_000: "at most 400 characters",
    "[" * 5_000: "more than 50 deep",
    "- " * 5_000: "more than 50 deep",
    "a: " + "{b: " * 60: "more than 50 deep",
    r'a: "\ud800"': "half of a surrogate pair",
    r'"\ud800": a': "half of a surrogate pair",
    r'a: "\UFFFFFFFF"': "that no character has",
    r'a: "\U00110000"': "that no character has",
    "%YAML 3.0\n---\na: 1": "incompatible YAML document",
    "epochs: 010": "line 1, column 9: 010 is another number, or a text, to other readers of YAML; "
    "write the number as in JSON, or '010' in quotes where it is a text",
    "a: -010": "-010 is another number",
    "a: 08": "08 is another number",
    "a: 0_1": "0_1 is another number",
    "a: [1, 1:30]": "line 1, column 8: 1:30 is another number",
    "a: 1:30:00": "1:30:00 is another number",
    "a: 1:30.5": "1:30.5 is another number",
    "08: a": "the name 08 is a text: write it in quotes, '08'",
    "a: 0x_": "0x_ is not a number; write it in quotes",
    "a: 0b_": "is not a number",
    "a: [": "line 1, column 5: while parsing a flow node, ",
    "a: \x01": "special characters are not allowed",
    "a: 1\n---\nb: 2": "line 2, column 1: expected a single document in the stream, but found "
    "another document",
}
TAKEN: dict[str, Any] = {
    "": None,
    "a: 2020-01-01": {"a": "2020-01-01"},
    "2020-01-01: x": {"2020-01-01": "x"},
    "a: 2020-01-01 10:00:00": {"a": "2020-01-01 10:00:00"},
    "a: 1e-3": {"a": 1e-3},  # as in JSON: YAML 1.1 takes it for a text
    "a: '1e-3'": {"a": "1e-3"},
    "a: 1.0e-3": {"a": 0.001},
    "a: =": {"a": "="},
    "a: <<": {"a": "<<"},
    "'<<': 1": {"<<": 1},
    "a: 0x10": {"a": 16},
    "a: 1_000": {"a": 1000},
    "a: [0, -0, 0.5, 010.5]": {"a": [0, 0, 0.5, 10.5]},
    "a: ['010', \"1:30\", 0:30, 1:99]": {"a": ["010", "1:30", "0:30", "1:99"]},
    "a: [1, 2.5, true, null, ~, x, '5']": {"a": [1, 2.5, True, None, None, "x", "5"]},
    "a: 9223372036854775807": {"a": 2**63 - 1},
    r'a: "\ud83e\uddea"': {"a": "🧪"},
    "\ufeffa: é": {"a": "é"},
    "a: |\n  two\n  lines\n": {"a": "two\nlines\n"},
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
ODD = "a|kind: train|spec:|1|2020-01-01|~|=|<<|&x|*x|!!set|!!int|!|? |: |- |, |\n|  |{|}|[|]|'|\"|>"
ODDER = "%TAG|---|...|#|\\x00|\\ud800|\\U00110000|0x_|1:1|1_|.inf|1e-3|\t|@|`"
WORDS = st.sampled_from([*ODD.split("|"), *ODDER.split("|"), "|", "\ufeff"])
TEXTS = st.lists(WORDS, max_size=12).map("".join) | st.text(max_size=60) | JSON.map(json.dumps)


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=lambda text: text[:20])
def test_what_json_cannot_say_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(NotPlain, match=message) as refusal:
        parsed(text)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value)


@pytest.mark.parametrize(("text", "document"), TAKEN.items(), ids=lambda text: str(text)[:20])
def test_what_json_can_say_is_taken(text: str, document: object) -> None:
    assert parsed(text) == document


@pytest.mark.parametrize("text", ["010", "08", "1:30", "1:30.5", "-0_7", "1_000", "1e-05", "0x10"])
def test_a_text_like_a_number_comes_back_as_a_text(text: str) -> None:
    assert parsed(written({text: [text]})) == {text: [text]}


@given(JSON.map(all_visible))
def test_every_json_document_comes_back_from_its_file(document: Any) -> None:
    assert parsed(written(document)) == document


def test_a_value_in_two_places_is_written_twice() -> None:
    shared = [1]
    assert parsed(written({"a": shared, "b": shared})) == {"a": [1], "b": [1]}


@given(TEXTS)
def test_whatever_is_parsed_is_json_or_refused(text: str) -> None:
    try:
        found = parsed(text)
    except NotPlain:
        return
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert json.dumps(found, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    "text", [BOMB, "kind: train\nkind: check", "kind: train\n1: 2", "kind: train\nepochs: .inf"]
)
def test_files_and_settings_are_read_alike(tmp_path: Path, text: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(text)
    with pytest.raises(SpecError, match=r"spec.yaml: cannot be read as YAML \(line"):
        read_spec(str(file))
    file.write_text("kind: train\noptimizer: {lr: 1e-3}")
    assert read_spec(str(file), ["optimizer.lr=2e-3"])[0].model_dump()["optimizer"]["lr"] == 2e-3
    with pytest.raises(SpecError, match="the value is not YAML"):
        read_spec(str(file), ["optimizer=&a {lr: *a}"])


@pytest.fixture(scope="module")
def shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with client_of(create_app(Settings(home=tmp_path_factory.mktemp("home")))) as client:
        yield client


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
@pytest.mark.parametrize("route", ["/spec.json", "/spec.yaml"])
def test_the_form_is_told_what_is_wrong(shared_client: httpx.Client, route: str, text: str) -> None:
    problem = refused(shared_client.post(route, content=text.encode()), 400, "malformed-body")
    assert problem.detail.startswith("this is not YAML: ")
    assert "\n" not in problem.detail
    assert shared_client.get("/healthz").status_code == 200


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a: \xff", b"kind: \xed\xa0\x80"])
def test_the_form_sends_utf_8(shared_client: httpx.Client, content: bytes) -> None:
    assert (
        "UTF-8"
        in refused(shared_client.post("/spec.json", content=content), 400, "malformed-body").detail
    )
    refused(shared_client.post("/spec.json", content=b"- 1"), 400, "malformed-body")
    refused(
        shared_client.post("/spec.json", content=b"a: " + b"x" * 200_001), 413, "body-too-large"
    )


@pytest.mark.slow
@settings(
    max_examples=examples(300),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(TEXTS, st.sampled_from(["/spec.json", "/spec.yaml"]))
def test_no_text_makes_the_form_fail(shared_client: httpx.Client, text: str, route: str) -> None:
    answer = shared_client.post(route, content=text.encode())
    assert answer.status_code < 500, text
    if answer.status_code != 200:
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.slow
def test_a_long_file_holds_nobody_up(shared_client: httpx.Client) -> None:
    url, slowest, done = str(shared_client.base_url), 0.0, threading.Event()
    answers: list[httpx.Response] = []

    def send() -> None:
        answers.append(
            httpx.post(
                f"{url}/spec.yaml",
                content="a: [" + "x," * 98_000 + "]",
                timeout=PATIENCE_SECONDS,
                trust_env=False,
            )
        )
        done.set()

    thread = threading.Thread(target=send)
    thread.start()
    while not done.is_set():
        before = time.monotonic()
        assert shared_client.get("/healthz").status_code == 200
        slowest = max(slowest, time.monotonic() - before)
    thread.join()
    assert answers[0].status_code == 200
    assert math.isfinite(slowest)
    assert slowest < answers[0].elapsed.total_seconds()  # others were answered meanwhile
