"""The presets as parameters of tests that take seconds for each."""

import pytest

from ffengine.findings import FINDINGS
from ffengine.presets import PRESETS

# Those of findings are alike in kind: one of them shows what the others do, and soak tests try all.
SHOWN = next(iter(FINDINGS))
EACH_PRESET = [
    pytest.param(name, marks=pytest.mark.soak) if name in FINDINGS and name != SHOWN else name
    for name in PRESETS
]
