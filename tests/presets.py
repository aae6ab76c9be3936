"""The presets as parameters of tests that take seconds for each."""

import pytest

from ffengine.findings import FINDINGS
from ffengine.presets import PRESETS

# One of many parts, one of checks and trainings, one of a publication and one of a finding show
# what the others do; soak tests try all
SHOWN = ("quick", "paper", "loewe", next(iter(FINDINGS)))
EACH_PRESET = [
    name if name in SHOWN else pytest.param(name, marks=pytest.mark.soak) for name in PRESETS
]
