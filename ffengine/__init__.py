"""fflab's numerics: Forward-Forward training and the exact form of the two sparsity theorems of
arXiv 2311.05667.

The names that need torch or safetensors load them on first use, so that `ffengine.spec` can be
imported without. So do the specs, which load the plug-ins: a plug-in that is imported first imports
the catalogues alone.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

from ffengine import _old_names
from ffengine.arrays import DatasetError
from ffengine.interrupts import Diverged, Interrupted
from ffengine.results import CheckResult, ForecastResult, RecordedRow, TrainResult
from ffengine.thread_waiting import bound_spinning
from ffengine.version import ENGINE_VERSION, NUMERICS_VERSION

bound_spinning()

if TYPE_CHECKING:
    from ffengine.checking import check
    from ffengine.checkpoint import Checkpoint
    from ffengine.forecasting import forecast
    from ffengine.foreign_weights import LayerNames, convert_weights
    from ffengine.infinite_width import infinite_width_theorem1, infinite_width_theorem2
    from ffengine.margins import TheoremCheck, check_direction, theorem1, theorem2
    from ffengine.sparsity import DeadSamplesWarning, dead_samples, hoyer_sparsity
    from ffengine.spec import CheckSpec, ForecastSpec, StudySpec, TrainSpec
    from ffengine.training import train
    from ffengine.watching import Watch, watch
    from ffengine.weight_evaluation import evaluate_weights
    from ffengine.weights import Weights, export_weights, import_weights

_LAZY = {
    "CheckSpec": "spec",
    "Checkpoint": "checkpoint",
    "DeadSamplesWarning": "sparsity",
    "ForecastSpec": "spec",
    "LayerNames": "foreign_weights",
    "StudySpec": "spec",
    "TheoremCheck": "margins",
    "TrainSpec": "spec",
    "Watch": "watching",
    "Weights": "weights",
    "check": "checking",
    "check_direction": "margins",
    "convert_weights": "foreign_weights",
    "dead_samples": "sparsity",
    "evaluate_weights": "weight_evaluation",
    "export_weights": "weights",
    "forecast": "forecasting",
    "hoyer_sparsity": "sparsity",
    "import_weights": "weights",
    "infinite_width_theorem1": "infinite_width",
    "infinite_width_theorem2": "infinite_width",
    "theorem1": "margins",
    "theorem2": "margins",
    "train": "training",
    "watch": "watching",
}

__all__ = [
    "ENGINE_VERSION",
    "NUMERICS_VERSION",
    "CheckResult",
    "CheckSpec",
    "Checkpoint",
    "DatasetError",
    "DeadSamplesWarning",
    "Diverged",
    "ForecastResult",
    "ForecastSpec",
    "Interrupted",
    "LayerNames",
    "RecordedRow",
    "StudySpec",
    "TheoremCheck",
    "TrainResult",
    "TrainSpec",
    "Watch",
    "Weights",
    "check",
    "check_direction",
    "convert_weights",
    "dead_samples",
    "evaluate_weights",
    "export_weights",
    "forecast",
    "hoyer_sparsity",
    "import_weights",
    "infinite_width_theorem1",
    "infinite_width_theorem2",
    "theorem1",
    "theorem2",
    "train",
    "watch",
]


_old_names.install(__name__)


def __getattr__(name: str) -> object:
    if name in _old_names.OLD_NAMES:
        return importlib.import_module(f"ffengine.{name}")
    if name not in _LAZY and importlib.util.find_spec(f"ffengine.{name}"):
        return importlib.import_module(f"ffengine.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'ffengine' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ffengine.{_LAZY[name]}"), name)
