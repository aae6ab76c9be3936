"""What the attempts at a job say of its result: where its rows come from, and whether they mix."""

from collections.abc import Sequence
from itertools import groupby

from ffengine.results import AttemptProvenance, Diagnostic, RunResult


def with_attempts(result: RunResult, attempts: Sequence[AttemptProvenance]) -> RunResult:
    """Return a result whose provenance lists its attempts.

    **Arguments:**

    - `result`: of a job.
    - `attempts`: all attempts at it, the first one first.

    **Returns:**

    The result, with a finding where its rows come from more than one kind of device.
    """
    provenance = result.provenance.model_copy(update={"attempts": tuple(attempts)})
    found = device_changed(attempts)
    diagnostics = (*result.diagnostics, *([found] if found else []))
    return result.model_copy(update={"provenance": provenance, "diagnostics": diagnostics})


def stretches(attempts: Sequence[AttemptProvenance]) -> list[str]:
    """Return in words which epochs were computed on which kind of device.

    **Arguments:**

    - `attempts`: all attempts at a job.

    **Returns:**

    A phrase for each stretch, such as "epochs 0 to 19 on cpu"; none where no curve changed its kind
    of device.
    """
    brought = [one for one in attempts if one.epochs and one.kind]
    if len({one.kind for one in brought}) < 2:
        return []
    return [_stretch(kind, list(some)) for kind, some in groupby(brought, key=lambda one: one.kind)]


def _stretch(kind: str, attempts: Sequence[AttemptProvenance]) -> str:
    last = attempts[-1]
    end = {"last_layer": last.last_layer, "last_epoch": last.last_epoch}
    return f"{attempts[0].model_copy(update=end).epochs} on {kind}"


def device_changed(attempts: Sequence[AttemptProvenance]) -> Diagnostic | None:
    """Return the finding that a curve changed its kind of device; None where none did.

    **Arguments:**

    - `attempts`: all attempts at a job.
    """
    found = stretches(attempts)
    if not found:
        return None
    return Diagnostic(
        code="device_changed",
        severity="warning",
        message=f"The run changed its kind of device: {', then '.join(found)}.",
        evidence={"stretches": [*found]},
        suggestion="A CPU and a GPU do not agree to the last bit, and a long run may amplify that. "
        "For figures that are to be repeated, submit it again with needs such as device=cuda and "
        "fresh.",
    )
