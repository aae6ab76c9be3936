"""The full MNIST, where it is at hand."""

import os
from pathlib import Path

import pytest

RAW = Path(os.environ.get("FFLAB_TEST_MNIST", Path(__file__).parents[2] / "shared/data/MNIST/raw"))
needs_mnist = pytest.mark.skipif(
    not RAW.is_dir(),
    reason=f"without all of MNIST: not at {RAW}; set FFLAB_TEST_MNIST to its raw folder",
)
