"""The full MNIST, where it is at hand."""

import os
from pathlib import Path

import pytest

from service.settings import Settings
from tests.needs import ALL_OF_MNIST

FETCHED = (Settings().data or Settings().root / "data") / "MNIST/raw"
BESIDE = Path(__file__).parents[2] / "shared/data/MNIST/raw"
RAW = Path(os.environ.get("FFLAB_TEST_MNIST") or (BESIDE if BESIDE.is_dir() else FETCHED))
needs_mnist = pytest.mark.skipif(
    not RAW.is_dir(),
    reason=f"without {ALL_OF_MNIST}: not at {RAW}; set FFLAB_TEST_MNIST to its raw folder",
)
