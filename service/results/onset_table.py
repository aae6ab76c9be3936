"""What is known of a training run before its first step, as a table with a sentence for each
figure. It is the same before the run, from its spec and data, and after it, from its result.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ffengine.onset import RECRUITS, turn_formula
from ffengine.results import Onset
from service.results.text_tables import Column, TextTable

COLUMNS = (
    Column("figure", is_number=False),
    Column("value"),
    Column("what it says", is_number=False),
)


class OnsetLine(NamedTuple):
    """A figure, its value as text, and a sentence."""

    name: str
    value: str
    sentence: str


def onset_table(onset: Onset, epochs: int) -> TextTable:
    """The table.

    **Arguments:**

    - `epochs`: how many the run has.
    """
    note = (
        "Predicted for the first layer from the data and the spec alone, before the first step. "
        "In act 1 units switch on and sparsity S falls; in act 2 active units become unequal and S "
        "rises."
    )
    return TextTable("How the run begins", COLUMNS, list(onset_lines(onset, epochs)), (note,))


def onset_lines(onset: Onset, epochs: int) -> Iterator[OnsetLine]:
    """A line for each figure, those that are not known with the reason."""
    for name, field, sentence in (
        ("lambda_1, growth rate", "lambda_1", _rate),
        ("q, overlap of masks", "overlap", _overlap),
        ("R, recruitment number", "recruitment", _recruitment),
        ("tau*, turn of S", "tau_star", _turn),
        ("epochs to leave act 1", "epochs_to_selection", _epochs),
        ("eta_c, critical step size", "eta_c", _critical),
    ):
        value = getattr(onset, field)
        if value is None:
            yield OnsetLine(name, "–", _not_known(onset, field))
        else:
            yield OnsetLine(name, f"{value:.3g}", sentence(onset, epochs))


def _rate(onset: Onset, _epochs: int) -> str:
    assert onset.lambda_1 is not None  # noqa: S101 - narrows the type: it is known
    if onset.lambda_1 <= 0:
        return "No direction of the inputs grows: all classes have the same mean."
    return (
        f"How fast the directions that tell classes apart grow, all units being active: e-fold in "
        f"{1 / (2 * onset.lambda_1):.3g} of flow time."
    )


def _overlap(_onset: Onset, _epochs: int) -> str:
    return (
        "How likely a unit at random weights that is active on one sample is active on another. At "
        "first these directions grow at q lambda_1."
    )


def _recruitment(onset: Onset, _epochs: int) -> str:
    expected = "is expected to fall at first" if onset.falls else "is not expected to fall"
    return (
        f"How far units switch on before these directions have grown. S falls where it is above "
        f"{RECRUITS:g}: here it {expected}."
    )


def _turn(onset: Onset, _epochs: int) -> str:
    spread = ""
    if onset.tau_star_low is not None and onset.tau_star_high is not None:
        spread = f" ({onset.tau_star_low:.3g} to {onset.tau_star_high:.3g})"
    end = "" if onset.tau_end is None else f" The run ends at {onset.tau_end:.3g}."
    formula = turn_formula(onset)
    origin = "" if formula is None else f": {formula}, a factor that is measured, not derived"
    return (
        f"Flow time at which S is expected to be lowest, so that act 2 begins{spread}{origin}.{end}"
    )


def _epochs(onset: Onset, epochs: int) -> str:
    assert onset.epochs_to_selection is not None  # noqa: S101 - narrows the type: it is known
    leaves = onset.epochs_to_selection <= epochs
    return (
        f"Epochs until flow time is tau*. The run has {epochs:,}: it is expected to "
        f"{'leave act 1' if leaves else 'end in act 1'}."
    )


def _critical(onset: Onset, _epochs: int) -> str:
    here = ""
    if onset.eta is not None and onset.eta_c is not None:
        side = "above" if onset.eta > onset.eta_c else "below"
        here = f" The largest step of this run, {onset.eta:.3g}, is {side} it."
    return f"Step size from which the scale of all weights alternates from step to step.{here}"


def _not_known(onset: Onset, field: str) -> str:
    """Why a figure is null: its own reason, or that of the figure that it is computed from."""
    needed = {
        "overlap": ("lambda_1",),
        "recruitment": ("recruitment", "lambda_1"),
        "epochs_to_selection": ("tau_star", "tau_end"),
    }.get(field, (field,))
    why = next((onset.unknown[name] for name in needed if name in onset.unknown), "")
    if field in ("tau_star", "epochs_to_selection") and onset.falls is False and why:
        return f"None: {why}." if field == "tau_star" else "None: there is no act 1 to leave."
    return f"Not known: {why}." if why else "Not known."
