"""How long torch's threads spin while they wait for one another, before torch is loaded.

A step of training is some hundred short parallel regions. By default GNU OpenMP, which torch and
its matrix libraries use, lets a thread spin for milliseconds at the end of each. On a machine of
its own that costs nothing. Beside another busy process the thread that is waited for has no
processor, because the waiting one keeps it: most of the time is spent spinning. A spin of some
microseconds bridges the gap between two operations and no more. It changes no figure.
"""

import os
import sys

SPINS = "1000"  # some 15 microseconds; 300 000 are the default
ASKED_FOR = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def bound_spinning() -> None:
    """Bound how long threads spin, unless the environment says so or torch is loaded already."""
    if "torch" not in sys.modules and not any(name in os.environ for name in ASKED_FOR):
        os.environ["GOMP_SPINCOUNT"] = SPINS
