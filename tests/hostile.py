"""Names that must not pass, and jobs that carry one."""

import re
from typing import Any

from benchmarks.waiting import wait_until
from ffengine.spec import StudySpec
from ffengine.study import expand
from ffengine.text import STORED
from service.jobs import JobState
from service.store import NewJob, Store
from tests.over_http import succeed

BAD = (
    *("\x00", "\x01", "\t", "\n", "\r", "\x0c", "\x1b", "\x7f", "\x80", "\x85", "\x9b", "\xad"),
    *(
        "\u061c",
        "\u200b",
        "\u200e",
        "\u200f",
        "\u2028",
        "\u2029",
        "\u202a",
        "\u202e",
        "\u2060",
        "\u2065",
        "\u2066",
        "\u2069",
        "\ufeff",
    ),
    *("\ud800", "\udfff", "\ue000", "\uf8ff", "\ufdd0", "\ufdef", "\ufff9", "\ufffe", "\uffff"),
    *("\u115f", "\u1160", "\u2800", "\u3164", "\uffa0"),
    *(
        "\U0001fffe",
        "\U0001d173",
        "\U000e0001",
        "\U000e0041",
        "\U000e0fff",
        "\U000f0000",
        "\U0010fffd",
        "\U0010ffff",
    ),
)


SCRIPT = (
    "</script><script>fetch('/v1/jobs/VICTIM',{method:'PATCH',headers:{'Content-Type':'application/json'},"
    'body:\'{"name":"OWNED"}\'})</script>'
)
# texts that a database may hold since an earlier version, and those that none stores
STORABLE = [
    *(
        "\x01",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\x7f",
        "a\nb",
        "a\r\nSet-Cookie: x=1",
        "\t",
        "\u2028",
    ),
    *("\u202edrow", "\u2066a", "\u200f", "\ufeff", "\ufffe", "\U0001ffff", "\U000e0041"),
    *(
        "</script><script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "<!--",
        "]]>",
        "&lt;",
    ),
    *("=1+1", "+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", '=cmd|" /C calc"!A0'),
    *("../../etc/passwd", "C:\\x", 'a";filename="b.exe', "a;b,c", "%2e%2e%2f", "%s{0}{{1}}", "con"),
    *("学习率", "تجربة", "théorème", "👩‍🔬 run", "x" * 10_000, "\\x1b", "'a", " "),
]
NASTY = [*STORABLE, *BAD, "\x00", "\ud800", SCRIPT]
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufffe]")
HOSTILE = "\u0001\u001b[31m\u009b\ufffe\u202e" + SCRIPT
CHECK = {
    "kind": "check",
    "theorem": 1,
    "widths": [8, 16],
    "samples": 20,
    "batch_size": 10,
    "methods": ["exact"],
}
PART: dict[str, Any] = {"base": CHECK, "grid": {"seeds": [[0], [1]]}}


def stored_once(store: Store, name: str = HOSTILE) -> str:
    """A study as an earlier version has stored it: with a name that is refused now everywhere; its
    runs have succeeded.
    """
    spec = StudySpec.model_validate(
        {"parts": {name: PART, "second": {**PART, "base": CHECK | {"samples": 30}}}}, context=STORED
    )
    order = NewJob.model_construct(spec=spec, name=name, tags=[name], submitted_by=name)
    job = store.jobs.submit(order, expand(spec, STORED), max_queued=100).job
    for child, _ in store.jobs.children(job.id):
        succeed(store, child.id)

    def ended() -> bool:
        found = store.jobs.get(job.id)
        return found is not None and found.state == JobState.succeeded

    wait_until(ended, "the study has succeeded")
    return job.id
