"""YAML that can say no more than JSON, for specs from files and forms.

No anchors and aliases (a few lines of them expand to gigabytes), no tags, no merge keys, each key
once. Every value is one of JSON's: a date is text.
"""

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml
from pydantic import JsonValue
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent, Event, NodeEvent

DEEPEST = 50
LONGEST_NUMBER = 400  # characters
_TEXT = "tag:yaml.org,2002:str"
_NO_JSON = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("timestamp", "merge", "value"))


class NotPlain(ValueError):
    """The text is not such YAML; the message is one line with the place and the reason."""


def parsed(text: str) -> JsonValue:
    """Parse such YAML. Raises NotPlain."""
    try:
        found: JsonValue = yaml.load(text, PlainLoader)  # noqa: S506 - a safe loader, and less
    except yaml.MarkedYAMLError as error:
        raise NotPlain(_one_line(error)) from error
    except yaml.YAMLError as error:
        raise NotPlain(" ".join(str(error).split())) from error
    except (ValueError, OverflowError) as error:
        raise NotPlain("an escape (\\U) has a number that no character has") from error
    return found


def written(document: JsonValue) -> str:
    """Write a document as such YAML."""
    return yaml.dump(document, Dumper=PlainDumper, sort_keys=False, allow_unicode=True)


class PlainLoader(yaml.SafeLoader):
    """A loader that builds the values of JSON only."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - of the base class, less three
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NO_JSON]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, AliasEvent) or (
            isinstance(event, NodeEvent) and event.anchor is not None
        ):
            raise _error_at(
                event,
                f"names of values (&{event.anchor}, *{event.anchor}) are not taken; write the "
                f"value out",
            )
        if (tag := getattr(event, "tag", None)) is not None:
            raise _error_at(event, f"tags ({tag}) are not taken; write the value alone")
        if self.depth >= DEEPEST:
            raise _error_at(event, f"values within values, more than {DEEPEST} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        found: dict[Hashable, Any] = {}
        for key, value in node.value:
            name = self._name(key)
            if name in found:
                raise _error_at(key, f"{name!r} is there twice")
            found[name] = self.construct_object(value, deep=deep)
        return found

    def text(self, node: yaml.Node) -> str:
        """Read a text; JSON's two escapes of a surrogate pair become one character."""
        found = str(self.construct_scalar(node))  # type: ignore[arg-type]
        try:
            return found.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise _error_at(node, "half of a surrogate pair is no character") from None

    def number(self, node: yaml.ScalarNode) -> int | float:
        """Read a finite number."""
        if len(node.value) > LONGEST_NUMBER:
            raise _error_at(node, f"a number has at most {LONGEST_NUMBER} characters")
        if _READ_OTHERWISE.match(node.value):
            raise _error_at(
                node,
                f"{node.value} is another number, or a text, to other readers of YAML; write the "
                f"number as in JSON, or '{node.value}' in quotes where it is a text",
            )
        try:
            found = (
                self.construct_yaml_float(node)
                if node.tag.endswith("float")
                else self.construct_yaml_int(node)
            )
        except ValueError:
            raise _error_at(
                node,
                f"{node.value} is not a number; write it in quotes, '{node.value}', where it is a "
                f"text",
            ) from None
        if isinstance(found, float) and not math.isfinite(found):
            raise _error_at(node, f"{node.value} is not a finite number")
        return found

    def _name(self, key: yaml.Node) -> str:
        if not isinstance(key, yaml.ScalarNode):
            raise _error_at(key, "a name is a text")
        if key.tag != _TEXT:
            raise _error_at(
                key, f"the name {key.value} is a text: write it in quotes, '{key.value}'"
            )
        if key.value == "<<" and key.style is None:
            raise _error_at(key, "merge keys (<<) are not taken; write the fields out")
        return self.text(key)


class PlainDumper(yaml.SafeDumper):
    """A dumper that writes every value out, even one object in two places."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


# YAML 1.1 reads 010 as 8, 08 as a text and 1:30 as 90; YAML 1.2 as 10, 8 and a text
_READ_OTHERWISE = re.compile(
    r"[-+]?(?:0[0-9_]+|[1-9][0-9_]*(?::[0-5]?[0-9])+|[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*)$"
)
# YAML 1.1 reads JSON's number 1e-05, which has no point, as a text
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+$")
for _class in (PlainLoader, PlainDumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789"))
    _class.add_implicit_resolver("tag:yaml.org,2002:int", _READ_OTHERWISE, list("-+0123456789"))
for _kind in ("int", "float"):
    PlainLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", PlainLoader.number)
PlainLoader.add_constructor(_TEXT, PlainLoader.text)


def _error_at(where: Event | yaml.Node, problem: str) -> ConstructorError:
    mark: Any = where.start_mark
    return ConstructorError(None, None, problem, mark)


def _one_line(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return place + ", ".join(
        " ".join(part.split()) for part in (error.context, error.problem) if part
    )
