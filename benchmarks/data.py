"""Which data a benchmark runs on: all of MNIST where it is at hand, else the sample of it that the
package carries.
"""

import sys
from functools import cache

from ffengine.datasets import DATA_ROOT_VARIABLE, DATASETS, Dataset, Datasets

BUNDLED = "mnist-mini"


@cache
def mnist_or_bundled() -> Dataset:
    """All of MNIST, or the bundled sample; the choice of the sample is said once on standard error.

    Nothing is downloaded.
    """
    datasets = Datasets.of_environment()
    if datasets.is_present(DATASETS["mnist"]):
        return DATASETS["mnist"]
    bundled = DATASETS[BUNDLED]
    sys.stderr.write(
        f"All of MNIST is not below {datasets.root}: measuring on the bundled {BUNDLED}, "
        f"{bundled.train_samples:,} samples. "
        f"Set {DATA_ROOT_VARIABLE} to a folder that holds MNIST to measure on all of it.\n"
    )
    return bundled
