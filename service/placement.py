"""Where a job may run: what it needs of a worker, and what a worker is fit for."""

import re
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema

from ffengine.entry import ExactTypes

GB = 10**9  # as the makers of GPUs count: one of 80 GB has 79 GiB
MOST_MEMORY_GB = 1e6
DeviceKind = Literal["cpu", "cuda"]

LONGEST_TAG = 40
MOST_TAGS = 20
TAG_FORM = f"[a-z0-9][a-z0-9._-]{{0,{LONGEST_TAG - 1}}}"


def worker_tag(text: str) -> str:
    """Return a tag of a worker in lower case. Raises ValueError for what is none."""
    tag = text.strip().lower()
    if not re.fullmatch(TAG_FORM, tag):
        raise ValueError(
            f"{text!r} is not a tag of a worker: letters of ASCII, digits, and . _ - after the "
            f"first, at most {LONGEST_TAG}"
        )
    return tag


# what is read may be in any case of letters
WorkerTag = Annotated[
    str,
    AfterValidator(worker_tag),
    WithJsonSchema(
        {"type": "string", "pattern": f"^{TAG_FORM}$".replace("a-z", "A-Za-z"), "minLength": 1}
    ),
]


def worker_tags(text: str) -> list[str]:
    """Return the tags of a text in which commas separate them, each once and in order.

    Raises ValueError.
    """
    tags = sorted({worker_tag(part) for part in text.split(",") if part.strip()})
    if len(tags) > MOST_TAGS:
        raise ValueError(f"a worker has at most {MOST_TAGS} tags, not {len(tags)}")
    return tags


class Needs(ExactTypes):
    """What a job needs of the worker that computes it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"device": "cuda", "memory_gb": 40, "tags": ["a100"]}]},
    )

    device: DeviceKind | None = Field(None, description="null: either")
    memory_gb: float | None = Field(
        None,
        gt=0,
        le=MOST_MEMORY_GB,
        description="memory of the device, in 10^9 bytes; null: what the estimate says",
    )
    tags: list[WorkerTag] = Field(
        default=[], max_length=MOST_TAGS, description="the worker has all of these"
    )


class Fitness(NamedTuple):
    """What a worker is fit for: its device, that one's memory, its tags.

    What is None is not known: then no job goes there that needs a kind of device, and memory is
    not compared.
    """

    device: str | None
    memory_bytes: int | None
    tags: Collection[str] = ()

    @property
    def kind(self) -> str:
        """The kind of the device, as `cuda`; empty where it is not known."""
        return (self.device or "").partition(":")[0]


def need_columns(needs: dict[str, Any] | None) -> dict[str, Any]:
    """The columns of a job by which the queue compares it with a worker, but for its memory.

    **Arguments:**

    - `needs`: a document of Needs; None: nothing is asked for.
    """
    asked = Needs.model_validate(needs or {})
    return {"need_device": asked.device, "need_tags": joined_tags(asked.tags)}


def asked_memory(needs: dict[str, Any] | None) -> int | None:
    """The bytes of memory that a document of Needs asks for; None: none."""
    asked = Needs.model_validate(needs or {}).memory_gb
    return None if asked is None else int(asked * GB)


def joined_tags(tags: Collection[str]) -> str | None:
    """Tags as one text, from which the queue takes away those of a worker: `|80g||a100|`."""
    return "".join(f"|{tag}|" for tag in sorted(set(tags))) or None


def split_tags(joined: str | None) -> list[str]:
    """The tags of such a text."""
    return [tag for tag in (joined or "").split("|") if tag]


def needs_in_words(needs: Needs) -> str:
    """Write what is asked for as `fflab submit` has it: `device=cuda memory_gb=40 tags=a100`."""
    said = [
        f"device={needs.device}" if needs.device else "",
        f"memory_gb={needs.memory_gb:g}" if needs.memory_gb else "",
        f"tags={','.join(needs.tags)}" if needs.tags else "",
    ]
    return " ".join(filter(None, said))


def needs_of_words(words: Sequence[str]) -> dict[str, Any]:
    """Read what a command line asks for: texts such as `device=cuda`, `memory_gb=40`, `tags=a100`.

    Tags add up, and commas may separate several. Whether the values are valid is not looked at.

    Raises ValueError for a text that is none of these.
    """
    found: dict[str, Any] = {}
    for text in words:
        name, sign, value = text.partition("=")
        if not sign or name not in Needs.model_fields:
            known = ", ".join(f"{field}=..." for field in Needs.model_fields)
            raise ValueError(f"{text!r} is none of {known}")
        if name == "tags":
            found.setdefault("tags", []).extend(tag for tag in value.split(",") if tag)
        elif name == "memory_gb":
            try:
                found[name] = float(value)
            except ValueError:
                raise ValueError(f"{text!r}: expected a number of GB") from None
        else:
            found[name] = value or None
    return found
