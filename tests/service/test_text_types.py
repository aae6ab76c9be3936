"""Every text that a user may send has a type: it says how long the text may be, and of what."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from ffengine.text import CHOSEN, LINES, LONGEST_NOTE, SEARCHED, TOKEN, VISIBLE
from service.settings import Settings
from service.web.app import create_app

SENT = {VISIBLE, SEARCHED, TOKEN}
# dates, files, and the secret of webhooks, which is decoded and never shown
OTHER_FORMATS = {"date-time", "binary", "password"}
BOUND = {"enum", "const", "pattern"}
# headers of HTTP itself: matched, and neither stored nor shown
PROTOCOL = {"accept", "prefer", "if-none-match", "if-range", "range"}
# what only answers have, and fflab itself writes
OWN_SHAPES = {
    *(
        "Advice",
        "ChartLine",
        "Described",
        "Diagnostic",
        "Estimate",
        "FieldError",
        "Health",
        "JobError",
        "Onset",
    ),
    *(
        "PluginLine",
        "PluginUse",
        "WeightsProvenance",
        "PresetLine",
        "ProblemDetails",
        "Progress",
        "Provenance",
        "Readiness",
        "WorkerLine",
    ),
    *("DatasetProvenance", "Delivery", "DeliveryAttempt"),
}
OWN_FIELDS = {
    "Job.held_up",
    *("UnreadSpec.stored_kind", "UnreadSpec.why"),
    *("DatasetFacts.digest", "DatasetFacts.licence", "DatasetFacts.source", "Event.job"),
    *("ExpiredJob.id", "ExpiredJob.reason", "JobPage.next_cursor"),
    *("JobPage.states", "RowPage.next_cursor", "SamplePicture.pixels"),
    *("Job.cached_from", "Job.id", "Job.links", "Job.parent", "Job.spec_digest", "Job.waits_for"),
    *("StudyCell.acts", "StudyCell.job", "StudyCell.spec_digest", "StudyCell.state"),
    *("WeightsFacts.digest", "WeightsFacts.file_digest", "WeightsFacts.labels"),
    *("WeightsFacts.normalize", "WeightsFacts.preprocess"),
    *("TrialLine.job", "Checkpoint.weights", "BaselineRow.optimizer", "OodRow.dataset"),
    *("AuditLine.key", "AuditLine.via", "AuditLine.action", "AuditPage.next_cursor"),
    *("Share.id", "Share.job", "NewShare.id", "NewShare.job", "NewShare.url"),
    # of machines, as that of workers and of provenance
    *(f"AttemptProvenance.{name}" for name in ("host", "device", "device_name", "ended_as")),
}


class Text(NamedTuple):
    """The schema of a text, and where it is: a parameter's name, or SHAPE.FIELD."""

    place: str
    schema: Mapping[str, Any]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(home=tmp_path_factory.mktemp("home"))).openapi()


def inner(schema: object) -> Iterator[Mapping[str, Any]]:
    """A schema and all schemas that it consists of, without those that it refers to."""
    if isinstance(schema, list):
        for one in schema:
            yield from inner(one)
    elif isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            if key == "properties":
                yield from inner(list(value.values()))
            elif key not in ("default", "example", "examples", "enum", "const"):
                yield from inner(value)


def texts(place: str, schema: object) -> Iterator[Text]:
    """The texts of a shape, each of its fields by name; names of fields count as texts."""
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        for field, value in schema["properties"].items():
            yield from texts(f"{place}.{field}", value)
        schema = {key: value for key, value in schema.items() if key != "properties"}
    for one in inner(schema):
        if one.get("type") == "string" and not BOUND & one.keys():
            yield Text(place, one)
        if "propertyNames" in one:
            yield Text(place, {"type": "string", **one["propertyNames"]})


def shapes_of(document: Mapping[str, Any], parts: object) -> set[str]:
    """The names of all shapes that parts of the document refer to, directly or by others."""
    found: set[str] = set()
    waiting = [parts]
    while waiting:
        for schema in inner(waiting.pop()):
            name = str(schema.get("$ref", "")).removeprefix("#/components/schemas/")
            if name and name not in found:
                found.add(name)
                waiting.append(document["components"]["schemas"][name])
    return found


def operations(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for methods in document["paths"].values() for one in methods.values()]


def test_every_parameter_is_of_a_type_of_text(document: dict[str, Any]) -> None:
    seen = set()
    for operation in operations(document):
        for parameter in operation.get("parameters", ()):
            for text in texts(parameter["name"], parameter["schema"]):
                if parameter["in"] == "header" and parameter["name"] in PROTOCOL:
                    continue
                kind = text.schema.get("format")
                assert kind in SENT | OTHER_FORMATS, (operation["operationId"], text)
                seen.add(kind)
    assert seen == SENT | {"date-time"}


def test_every_text_of_a_body_is_of_a_type_of_text(document: dict[str, Any]) -> None:
    bodies = [one["requestBody"] for one in operations(document) if "requestBody" in one]
    schemas = {
        name: document["components"]["schemas"][name] for name in shapes_of(document, bodies)
    }
    assert {"JobRequest", "JobChanges", "Webhook", "StudySpec", "DatasetSpec"} <= schemas.keys()
    media = [content["schema"] for body in bodies for content in body["content"].values()]
    found = [text for schema in media for text in texts("body", schema)]
    found += [text for name, schema in schemas.items() for text in texts(name, schema)]
    for text in found:
        assert text.schema.get("format") in SENT | OTHER_FORMATS | {LINES}, text
        if text.schema["format"] == LINES:
            assert text.schema["maxLength"] == LONGEST_NOTE, text
        if text.schema["format"] == VISIBLE:
            assert text.schema["maxLength"] <= 2_000, text
    places = {text.place for text in found if text.schema["format"] == VISIBLE}
    assert places == {
        *("JobRequest.name", "JobRequest.tags", "JobRequest.webhook", "Webhook.url"),
        *("JobChanges.name", "JobChanges.tags", "StudySpec.parts", "SearchSpec.objective"),
        *("JobRequest.project", "JobChanges.project"),
        *("RecordedRun.name", "RecordedRun.tags", "RecordedRun.project", "RecordedRun.device"),
        *("RecordedRun.versions", "RecordedSpec.config", "RecordedSpec.data"),
        *("RecordedSpec.layers", "RecordedSpec.program"),
        "body.meaning",
    }


def test_every_text_of_an_answer_is_fflabs_own_or_said_to_be_a_users(
    document: dict[str, Any],
) -> None:
    schemas = document["components"]["schemas"]
    bodies = [one["requestBody"] for one in operations(document) if "requestBody" in one]
    chosen, own = set(), set()
    for name in schemas.keys() - shapes_of(document, bodies) - OWN_SHAPES:
        for text in texts(name, schemas[name]):
            kind = text.schema.get("format")
            if kind == CHOSEN:
                chosen.add(text.place)
            elif kind not in OTHER_FORMATS:
                own.add(text.place)
    assert own == OWN_FIELDS
    assert chosen == {
        *("Job.name", "Job.tags", "Job.submitted_by", "Job.webhook", "DeliveryPage.url"),
        *("UsageLine.name", "AuditLine.address", "AuditLine.actor", "AuditLine.target"),
        *("Job.project", "Job.note", "Job.label", "Share.created_by", "NewShare.created_by"),
        *("DatasetFacts.name", "DatasetFacts.meaning", "DatasetFacts.uploaded_by"),
        *("WeightsFacts.name", "WeightsFacts.meaning", "WeightsFacts.uploaded_by"),
        *("WeightsFacts.dataset", "WeightsFacts.activation"),
        *("ExpiredJob.name", "StudyCell.part", "SearchReport.objective", "ProjectLine.name"),
        *("RecordedBy.recorded_by", "RecordedBy.versions", "RecordedBy.device"),
    }
    assert schemas.keys() >= OWN_SHAPES
