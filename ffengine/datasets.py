"""Catalogue of data sets: facts, where their files are found, and how they are verified.

A new data set is one new entry of DATASETS (and a reader in dataformats, where its files are of a
new kind).
"""

import math
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ffengine import uploads
from ffengine.arrays import Archive, Arrays, DatasetError, FromTorchvision, digest_of, read_only
from ffengine.dataformats import (
    CIFAR10_FILES,
    EMNIST_FILES,
    MNIST_FILES,
    SVHN_FILES,
    present,
    read_cifar10,
    read_cifar10_grey,
    read_emnist_digits,
    read_mnist,
    read_svhn,
)

DATA_ROOT_VARIABLE = "FFLAB_DATA"


class Files(NamedTuple):
    """Where a data set's files are, how they are read, and whence they come."""

    folder: str  # below the data root
    names: tuple[str, ...]  # all of them, gzipped or not
    read: Callable[[Path], Arrays]
    download: FromTorchvision | Archive
    inside: str = "raw"  # the folder within that one


class Dataset(NamedTuple):
    """What is known of a data set before it is loaded."""

    name: str
    meaning: str
    shape: tuple[int, int, int]
    class_counts: tuple[int, ...]  # training samples of each class
    test_samples: int
    digest: (
        str | None
        # sha256 over shapes and bytes of the four arrays, see digest_of; None: not pinned, reported
        # when loaded
    )
    licence: str
    source: str
    files: Files | None = None  # None: bundled with the package, or uploaded
    uploaded: bool = False

    @property
    def inputs(self) -> int:
        """m: the number of inputs of one sample."""
        return math.prod(self.shape)

    @property
    def classes(self) -> int:
        """C."""
        return len(self.class_counts)

    @property
    def train_samples(self) -> int:
        """Of the training partition."""
        return sum(self.class_counts)


GREY, COLOUR = (1, 28, 28), (3, 32, 32)
MNIST_LICENCE = "CC BY-SA 3.0 (Yann LeCun and Corinna Cortes)"
MNIST_SOURCE = (
    "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document "
    "recognition, Proc. IEEE 86, 1998"
)
CIFAR10_LICENCE = "none stated; the authors ask to be cited"
CIFAR10_SOURCE = "A. Krizhevsky: Learning multiple layers of features from tiny images, 2009"
CIFAR10_ARCHIVE = Archive(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
)

DATASETS: dict[str, Dataset] = {
    entry.name: entry
    for entry in (
        Dataset(
            name="mnist-mini",
            meaning="Class-balanced sample of real MNIST, bundled: the first 600 training and 100 "
            "test images of each digit.",
            shape=GREY,
            class_counts=(600,) * 10,
            test_samples=1_000,
            digest="a16bb9d20dca4ea3a58ed56e84bbcdce306a938d023a99dacecd1da0b27b2dd0",
            licence=MNIST_LICENCE,
            source=MNIST_SOURCE,
        ),
        Dataset(
            name="digits",
            meaning="Handwritten digits of 8 x 8 cells, bundled: scikit-learn's copy, the last "
            "360 of 1 797 to test.",
            shape=(1, 8, 8),
            class_counts=(143, 146, 142, 146, 144, 145, 144, 143, 141, 143),
            test_samples=360,
            digest="b8281f688843ddddc5ffaa88f12a98c7ac4d6d59250d1b21bb86ce1a7c5d53ed",
            licence="CC BY 4.0 (UCI Machine Learning Repository)",
            source="E. Alpaydin, C. Kaynak: Optical recognition of handwritten digits, UCI 1998, "
            "doi 10.24432/C50P49",
        ),
        Dataset(
            name="mnist",
            meaning="Handwritten digits, 28 x 28 grey pixels.",
            shape=GREY,
            class_counts=(5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949),
            test_samples=10_000,
            digest="77eb540ab17a9c2897c208e56c321ce09d0d354bce2865c85d9db1d64ede1521",
            licence=MNIST_LICENCE,
            source=MNIST_SOURCE,
            files=Files("MNIST", MNIST_FILES, read_mnist, FromTorchvision("MNIST")),
        ),
        Dataset(
            name="fashion-mnist",
            meaning="Pictures of clothing in ten classes, 28 x 28 grey pixels.",
            shape=GREY,
            class_counts=(6_000,) * 10,
            test_samples=10_000,
            digest="e7b01118be67ccec596bae4173b0ee5249f3e373d744ba562cef7bb94bbaef67",
            licence="MIT (Zalando SE)",
            source="H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST, arXiv 1708.07747",
            files=Files("FashionMNIST", MNIST_FILES, read_mnist, FromTorchvision("FashionMNIST")),
        ),
        Dataset(
            name="kmnist",
            meaning="Handwritten hiragana in ten classes, 28 x 28 grey pixels.",
            shape=GREY,
            class_counts=(6_000,) * 10,
            test_samples=10_000,
            digest=None,
            licence="CC BY-SA 4.0 (CODH)",
            source="T. Clanuwat et al.: Deep learning for classical Japanese literature, arXiv "
            "1812.01718",
            files=Files("KMNIST", MNIST_FILES, read_mnist, FromTorchvision("KMNIST")),
        ),
        Dataset(
            name="emnist-digits",
            meaning="Handwritten digits of more writers than MNIST has, 28 x 28 grey pixels.",
            shape=GREY,
            class_counts=(24_000,) * 10,
            test_samples=40_000,
            digest=None,
            licence="public domain (NIST)",
            source="G. Cohen, S. Afshar, J. Tapson, A. van Schaik: EMNIST, arXiv 1702.05373",
            files=Files(
                "EMNIST",
                EMNIST_FILES,
                read_emnist_digits,
                FromTorchvision("EMNIST", ({"split": "digits"},)),
            ),
        ),
        Dataset(
            name="cifar10",
            meaning="Photographs of animals and vehicles in ten classes, 32 x 32 colour pixels.",
            shape=COLOUR,
            class_counts=(5_000,) * 10,
            test_samples=10_000,
            digest=None,
            licence=CIFAR10_LICENCE,
            source=CIFAR10_SOURCE,
            files=Files(
                "CIFAR10",
                CIFAR10_FILES,
                read_cifar10,
                CIFAR10_ARCHIVE,
                inside="cifar-10-batches-bin",
            ),
        ),
        Dataset(
            name="cifar10-grey",
            meaning="The photographs of cifar10 in shades of grey (ITU-R BT.601).",
            shape=(1, 32, 32),
            class_counts=(5_000,) * 10,
            test_samples=10_000,
            digest=None,
            licence=CIFAR10_LICENCE,
            source=CIFAR10_SOURCE,
            files=Files(
                "CIFAR10",
                CIFAR10_FILES,
                read_cifar10_grey,
                CIFAR10_ARCHIVE,
                inside="cifar-10-batches-bin",
            ),
        ),
        Dataset(
            name="svhn",
            meaning="House numbers cut from street photographs, 32 x 32 colour pixels; reading "
            "its files needs scipy.",
            shape=COLOUR,
            class_counts=(4_948, 13_861, 10_585, 8_497, 7_458, 6_882, 5_727, 5_595, 5_045, 4_659),
            test_samples=26_032,
            digest=None,
            licence="for non-commercial use",
            source="Y. Netzer et al.: Reading digits in natural images with unsupervised feature "
            "learning, NIPS workshop 2011",
            files=Files(
                "SVHN",
                SVHN_FILES,
                read_svhn,
                FromTorchvision("SVHN", ({"split": "train"}, {"split": "test"})),
            ),
        ),
    )
}


class Loaded(NamedTuple):
    """Verified arrays, and the digest that says which."""

    arrays: Arrays
    digest: str


_root: Path | None = None


def look_in(root: Path | None) -> None:
    """Make `root` this process's place of data sets, whatever the environment says; None: the
    environment's again.
    """
    global _root  # noqa: PLW0603 - one place for the process, as the environment is
    _root = root


def data_root() -> Path:
    """Where data sets are looked for and downloaded to: as look_in said, else $FFLAB_DATA, else
    ~/.local/share/fflab/data.
    """
    chosen = _root or os.environ.get(DATA_ROOT_VARIABLE)
    return (
        Path(chosen).expanduser() if chosen else Path.home() / ".local" / "share" / "fflab" / "data"
    )


def find(name: str, root: Path | None = None) -> Dataset | None:
    """The facts of a data set of the catalogue or uploaded below `root` (default: data_root()), if
    there is one.
    """
    if name in DATASETS:
        return DATASETS[name]
    upload = uploads.find(name, root or data_root())
    return from_upload(upload) if upload else None


def facts_of(name: str, root: Path | None = None) -> Dataset:
    """The same; DatasetError where there is none."""
    facts = find(name, root)
    if facts is None:
        known = ", ".join([*DATASETS, *uploads.names(root or data_root())])
        raise DatasetError(f"{name!r} is not known; choose one of {known}")
    return facts


def from_upload(upload: uploads.Upload) -> Dataset:
    """An uploaded data set as the catalogue shows it."""
    split = "A fifth of every class was held out for the test partition." if upload.held_out else ""
    return Dataset(
        name=upload.name,
        meaning=f"{upload.meaning} {split}".strip(),
        shape=upload.shape,
        class_counts=upload.class_counts,
        test_samples=upload.test_samples,
        digest=upload.digest,
        licence="as its owner says",
        source="uploaded",
        uploaded=True,
    )


def load(name: str, root: Path | None = None) -> Arrays:
    """The verified arrays of a data set, read-only and kept in memory for the next caller.

    Looks below `root` (default: data_root()) first, then downloads with torchvision. Raises
    DatasetError where the files are absent and cannot be fetched, or are not what their facts say.
    """
    return loaded(name, root).arrays


def loaded(name: str, root: Path | None = None) -> Loaded:
    """The same with the digest of what was loaded."""
    return _load(name, root or data_root())


@lru_cache(maxsize=2)
def _load(name: str, root: Path) -> Loaded:
    return read(name, root)


def is_present(facts: Dataset, root: Path) -> bool:
    """Whether a data set can be loaded without fetching it."""
    return facts.uploaded or facts.files is None or present_folder(facts, root) is not None


def read(name: str, root: Path) -> Loaded:
    """What `loaded` gives, read anew and not kept."""
    facts = facts_of(name, root)
    if facts.uploaded:
        return verified(facts, uploads.arrays_of(name, root))
    if facts.files is None:
        return verified(facts, read_bundled(name))
    folder = present_folder(facts, root)
    if folder is None:
        fetch(facts, root)
        folder = present_folder(facts, root)
    if folder is None:
        raise DatasetError(f"{name}: the download left no files below {root}")
    return verified(facts, facts.files.read(folder))


def fetch(facts: Dataset, root: Path) -> None:
    """Download a data set below `root` with torchvision; DatasetError says what to do where that
    fails.
    """
    from ffengine.download import download  # torch is imported only where a download is needed

    if facts.files is None:
        return
    where = Path(facts.files.folder) / facts.files.inside
    try:
        download(facts.files.download, root, facts.files.folder)
    except (OSError, RuntimeError, ImportError) as error:
        why = " ".join(str(error).split())  # torchvision's reasons have several lines
        raise DatasetError(
            f"{facts.name}: not found below {root} and the download failed ({why}). Put its files "
            f"({', '.join(facts.files.names)}; "
            f"gzipped or not) into {root / where}, or set {DATA_ROOT_VARIABLE} to a folder that "
            f"has {where}."
        ) from error


def present_folder(facts: Dataset, root: Path) -> Path | None:
    """The folder below `root` that holds all files of a data set, if there is one."""
    files = facts.files
    if files is None:
        return None
    candidates = (root / files.folder / files.inside, root / files.folder, root / facts.name)
    return next(
        (folder for folder in candidates if all(present(folder, name) for name in files.names)),
        None,
    )


def verified(facts: Dataset, arrays: Arrays) -> Loaded:
    """The same arrays, read-only; DatasetError where they are not the published ones, as far as is
    known of those.
    """
    found = digest_of(arrays)
    if facts.digest and found != facts.digest:
        raise DatasetError(
            f"{facts.name}: the files are not the published data (digest {found[:16]}..., "
            f"expected {facts.digest[:16]}...). "
            "Remove them so that they are fetched again."
        )
    counts = tuple(np.bincount(arrays.y_train, minlength=facts.classes).tolist())
    shapes = (
        arrays.x_train.shape[1:],
        arrays.x_test.shape[1:],
        len(arrays.x_test),
        len(arrays.y_test),
    )
    if counts != facts.class_counts or shapes != (
        facts.shape,
        facts.shape,
        facts.test_samples,
        facts.test_samples,
    ):
        raise DatasetError(
            f"{facts.name}: the files are not the published data (training samples of each class "
            f"{list(counts)}, expected "
            f"{list(facts.class_counts)}; images {shapes[0]}, {shapes[2]} to test). Remove them "
            f"so that they are fetched again."
        )
    return Loaded(read_only(arrays), found)


def read_bundled(name: str) -> Arrays:
    """The arrays of a data set that the package carries."""
    with np.load(Path(__file__).parent / "data" / f"{name}.npz", allow_pickle=False) as archive:
        return Arrays(**{key: archive[key] for key in Arrays._fields})
