"""The versions of what takes part in a run, as far as they are installed here."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("fflab", "numpy", "torch")


def versions_here() -> dict[str, str]:
    """Return the versions of Python and of PACKAGES, without loading any of them."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
