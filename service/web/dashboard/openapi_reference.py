"""The reference page's view of the OpenAPI document."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Operation(NamedTuple):
    """A route as the reference shows it."""

    method: str
    path: str
    summary: str
    description: str
    parameters: Sequence[Mapping[str, Any]]
    bodies: Sequence[str]
    example: str
    answers: Sequence[tuple[str, str]]

    @property
    def anchor(self) -> str:
        """The id of the route on the page, for links to it."""
        return (
            f"{self.method.lower()}{''.join(sign if sign.isalnum() else '-' for sign in self.path)}"
        )


def operations(document: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """Return the routes of the document by their tag."""
    found: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, described in methods.items():
            tag = (described.get("tags") or ["system"])[0]
            found.setdefault(tag, []).append(
                _operation(method.upper(), path, described, document["components"]["schemas"])
            )
    return found


def _operation(
    method: str, path: str, described: Mapping[str, Any], schemas: Mapping[str, Any]
) -> Operation:
    content = described.get("requestBody", {}).get("content", {})
    names = [
        shape.get("schema", {}).get("$ref", "").rpartition("/")[2] for shape in content.values()
    ]
    examples = [one for name in names if name for one in schemas[name].get("examples", [])]
    example = json.dumps(examples[0], indent=2) if examples else ""
    answers = [
        (status, answer.get("description", ""))
        for status, answer in sorted(described["responses"].items())
    ]
    return Operation(
        method,
        path,
        described["summary"],
        described.get("description", ""),
        described.get("parameters", ()),
        list(content),
        example,
        answers,
    )
