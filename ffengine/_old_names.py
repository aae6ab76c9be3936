"""The module paths that earlier versions had: importing one gives the module that replaced it, and
a DeprecationWarning.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

OLD_NAMES = {
    "capture": "cuda_graphs",
    "control": "interrupts",
    "draws": "random_streams",
    "learning": "layer_updates",
    "limit": "infinite_width",
    "persample": "margin_files",
    "readout": "linear_probe",
}


class OldNameFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of OLD_NAMES below a package.

    **Arguments:**

    - `package`: the name of the package, such as "ffengine".
    """

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for an old path, and None for any other.

        **Arguments:**

        - `fullname`: the path that is imported.
        - `path`, `target`: of the import system; not used.

        **Returns:**

        The spec, loaded by this finder.
        """
        package, _, name = fullname.rpartition(".")
        if package != self._package or name not in OLD_NAMES:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """Put the new module in the place of one that was made for the old path.

        **Arguments:**

        - `module`: the empty module of the old path.
        """
        new = f"{self._package}.{OLD_NAMES[module.__name__.rpartition('.')[2]]}"
        warnings.warn(
            f"{module.__name__} is now called {new}; import that",
            DeprecationWarning,
            stacklevel=2,  # the importing line: frames of importlib do not count
        )
        sys.modules[module.__name__] = importlib.import_module(new)


def install(package: str) -> None:
    """Let the old paths below a package be imported; a second call changes nothing.

    **Arguments:**

    - `package`: the name of the package.
    """
    if not any(isinstance(finder, OldNameFinder) for finder in sys.meta_path):
        sys.meta_path.append(OldNameFinder(package))
