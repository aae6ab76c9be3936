"""How a caller stops a run, and how a run ends without a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ffengine.checkpoint import Checkpoint
    from ffengine.results import Diagnostic

Control = Literal["run", "stop"] | None


class Interrupted(Exception):
    """A callback returned "stop", so the run ended without a result.

    **Attributes:**

    - `checkpoint`: resumes a training run; None for a check, which resumes from its cells.
    """

    def __init__(self, checkpoint: Checkpoint | None) -> None:
        super().__init__("the run was stopped by its caller")
        self.checkpoint = checkpoint


class Diverged(ArithmeticError):
    """The numbers of a run are no longer finite.

    **Attributes:**

    - `diagnostic`: says in which layer, epoch and seed, and what to try.
    """

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic
