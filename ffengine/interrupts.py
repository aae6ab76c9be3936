"""How a caller steers a run, and how a run ends other than by its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ffengine.checkpoint import Checkpoint
    from ffengine.results import Diagnostic

Control = Literal["run", "stop"] | None


class Interrupted(Exception):
    """The caller's callback said "stop".

    `checkpoint` resumes a training run; it is None for a check, whose cells suffice.
    """

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        super().__init__("the run was stopped by its caller")
        self.checkpoint = checkpoint


class Diverged(ArithmeticError):
    """The numbers of a run are no longer finite; `diagnostic` says where and what to try."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic
