"""Catalogue of data sets: facts, where their files are found, and how they are verified.

A new data set is one new entry of DATASETS (and a reader in dataformats, where its files are of a
new kind).
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple, Self

import numpy as np

from ffengine import uploads
from ffengine.arrays import Archive, Arrays, DatasetError, FromTorchvision, digest_of, read_only
from ffengine.bundled import copy_path, mapped_copy, read_bundled, write_copy
from ffengine.dataformats import (
    CIFAR10_FILES,
    CIFAR100_FILES,
    EMNIST_FILES,
    MNIST_FILES,
    SVHN_FILES,
    present,
    read_cifar10,
    read_cifar10_grey,
    read_cifar100,
    read_emnist_digits,
    read_mnist,
    read_svhn,
)
from ffengine.input_figures import InputFigures, measured
from ffengine.version import NUMERICS_VERSION, UPLOADS_VERSION

DATA_ROOT_VARIABLE = "FFLAB_DATA"
HOME_VARIABLE = "FFLAB_HOME"
UPLOADS_OF_HOME = "datasets"  # the folder of uploads in a home
WEIGHTS_OF_HOME = "weights"  # that of uploaded networks
CACHE_OF_HOME = "cache"  # and that of decoded copies of what the package carries
MEASURED_BYTES = 2**26  # of an upload's arrays that are measured when they are asked about
UPLOADS_OF_ROOT = "uploads"  # and below a data root, where earlier versions kept them


class Files(NamedTuple):
    """Where a data set's files are, how they are read, and where they are downloaded from."""

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
    uploaded_by: str | None = None
    figures: InputFigures | None = None  # None: measured when they are asked for

    @property
    def bundled(self) -> bool:
        """Whether it comes with the package."""
        return self.files is None and not self.uploaded

    @property
    def inputs(self) -> int:
        """m: the number of inputs of one sample."""
        return math.prod(self.shape)

    @property
    def classes(self) -> int:
        """The number of classes, C."""
        return len(self.class_counts)

    @property
    def train_samples(self) -> int:
        """The number of samples of the training partition."""
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
CIFAR100_ARCHIVE = Archive(
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"
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
            "360 of 1,797 to test.",
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
            meaning="All of MNIST, bundled: handwritten digits, 28 x 28 grey pixels.",
            shape=GREY,
            class_counts=(5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949),
            test_samples=10_000,
            digest="77eb540ab17a9c2897c208e56c321ce09d0d354bce2865c85d9db1d64ede1521",
            licence=MNIST_LICENCE,
            source=MNIST_SOURCE,
            figures=InputFigures(
                size=0.3346678634965717,
                spread=0.2593285961566918,
                overlay_share=0.0,
                largest_input=378,
                largest_share=0.0037782174825820346,
                test_class_counts=(980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
                copies=0,
            ),
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
            name="cifar100",
            meaning="Photographs of animals, plants, people and things in a hundred classes, "
            "32 x 32 colour pixels.",
            shape=COLOUR,
            class_counts=(500,) * 100,
            test_samples=10_000,
            digest=None,
            licence=CIFAR10_LICENCE,
            source=CIFAR10_SOURCE,
            files=Files(
                "CIFAR100",
                CIFAR100_FILES,
                read_cifar100,
                CIFAR100_ARCHIVE,
                inside="cifar-100-binary",
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


def figures_version(name: str) -> str:
    """Return the version of the figures of a data set.

    **Arguments:**

    - `name`: of a data set of the catalogue, or of an upload.

    **Returns:**

    What `provenance.engine_version` says of results on it. Only results with the same one share
    figures, checkpoints and the answers to identical jobs.
    """
    return NUMERICS_VERSION if name in DATASETS else UPLOADS_VERSION


class Loaded(NamedTuple):
    """Verified arrays, and the digest that says which."""

    arrays: Arrays
    digest: str


@dataclass(frozen=True)
class Datasets:
    """The data sets of one place: those of the catalogue, and those that were uploaded there.

    Uploads below `root`, where earlier versions kept them, are found in any case, after those in
    `uploads_in`.

    **Attributes:**

    - `root`: the folder of known data sets' files, which downloads go to.
    - `uploads_in`: the folder that new uploads go to; None: the folder `uploads` below `root`.
    - `cache`: the folder of decoded copies of large data sets that the package carries. None: they
      are decoded each time.
    - `weights_in`: the folder of uploaded networks; None: the folder `weights` below `root`.
    - `first_in`: more folders of uploads. The first that has a name decides what it stands for.
    """

    root: Path
    uploads_in: Path | None = None
    cache: Path | None = None
    weights_in: Path | None = None
    first_in: tuple[Path, ...] = ()

    @classmethod
    def of_environment(cls) -> Self:
        """Find the data sets of this machine, as the environment says.

        **Returns:**

        Those below $FFLAB_DATA, by default `data` in the home of fflab, with the uploads of that
        home. The home is $FFLAB_HOME, by default ~/.local/share/fflab.
        """
        home = Path(os.environ.get(HOME_VARIABLE) or "~/.local/share/fflab").expanduser()
        root = os.environ.get(DATA_ROOT_VARIABLE)
        return cls(
            Path(root).expanduser() if root else home / "data",
            home / UPLOADS_OF_HOME,
            home / CACHE_OF_HOME,
            home / WEIGHTS_OF_HOME,
        )

    @property
    def kept_in(self) -> Path:
        """The folder that new uploads go to."""
        return self.uploads_in or self.root / UPLOADS_OF_ROOT

    @property
    def weights_kept_in(self) -> Path:
        """The folder of the networks that were uploaded; see ffengine.uploaded_weights."""
        return self.weights_in or self.root / WEIGHTS_OF_HOME

    @property
    def _upload_folders(self) -> tuple[Path, ...]:
        """All folders of uploads, the one that is written first."""
        return tuple(dict.fromkeys((self.kept_in, self.root / UPLOADS_OF_ROOT)))

    def names(self) -> list[str]:
        """List the names that a spec may use: those of the catalogue, then the uploaded ones."""
        return [*DATASETS, *self.uploaded()]

    def uploaded(self) -> list[str]:
        """List the names of all uploads, in alphabetical order."""
        folders = (*self.first_in, *self._upload_folders)
        found = {name for folder in folders for name in uploads.names(folder)}
        return sorted(found - DATASETS.keys())

    def find(self, name: str) -> Dataset | None:
        """Find the facts of a data set.

        **Arguments:**

        - `name`: of a data set of the catalogue, or of an upload.

        **Returns:**

        The facts; None where no data set has that name.
        """
        if name in DATASETS:
            return DATASETS[name]
        found = self._uploads_named(name)
        return from_upload(found[0][1]) if found else None

    def facts_of(self, name: str) -> Dataset:
        """Return the facts of a data set.

        **Arguments:**

        - `name`: of a data set of the catalogue, or of an upload.

        **Returns:**

        The facts.

        **Raises:**

        - `DatasetError`: no data set has that name; the message lists those that there are.
        """
        facts = self.find(name)
        if facts is None:
            raise DatasetError(f"{name!r} is not known; choose one of {', '.join(self.names())}")
        return facts

    def digest_of(self, name: str) -> str | None:
        """Return the digest that the arrays of a data set must have.

        **Arguments:**

        - `name`: of a data set of the catalogue, or of an upload.

        **Returns:**

        The digest; None where it is not pinned, or no data set has that name.
        """
        facts = self.find(name)
        return facts.digest if facts else None

    def input_figures(self, name: str) -> InputFigures | None:
        """Return what was measured on the arrays of a data set.

        Bundled data sets, and small uploads of earlier versions, are measured at the first call.

        **Arguments:**

        - `name`: of a data set of the catalogue, or of an upload.

        **Returns:**

        The figures; None where measuring would take long, or no data set has that name.
        """
        facts = self.find(name)
        if facts is None or facts.figures or facts.files is not None:
            return facts.figures if facts else None
        folder = self.upload_folder(name)
        try:
            if folder and uploads.arrays_file(name, folder.parent).stat().st_size > MEASURED_BYTES:
                return None
            return _measured(Source.of(self, facts.digest), name)
        except (OSError, DatasetError):  # the arrays are gone or damaged, which is said elsewhere
            return None

    def upload_folder(self, name: str) -> Path | None:
        """Find the folder of an upload.

        **Arguments:**

        - `name`: of the upload.

        **Returns:**

        The folder; None where no upload has that name.
        """
        found = self._uploads_named(name)
        return found[0][0] / name if found else None

    def _uploads_named(self, name: str) -> list[tuple[Path, uploads.Upload]]:
        """List the uploads of that name, each with the folder of uploads that it is in."""
        for folder in self.first_in:
            if upload := uploads.find(name, folder):
                return [(folder, upload)]
        found = ((folder, uploads.find(name, folder)) for folder in self._upload_folders)
        return [(folder, upload) for folder, upload in found if upload]

    def keep(
        self,
        name: str,
        source: IO[bytes],
        meaning: str = "",
        *,
        uploaded_by: str | None = None,
        max_bytes: int | None = None,
        admit: Callable[[int], None] = lambda _bytes: None,
    ) -> uploads.Upload:
        """Read and check an archive, and keep it as an upload under a new name.

        **Arguments:**

        - `name`: what specs call the data set.
        - `source`: the .npz file.
        - `meaning`: one sentence about the data set.
        - `uploaded_by`: who brings it; None where nobody is told apart.
        - `max_bytes`: how large the arrays may be; None: uploads.MAX_BYTES.
        - `admit`: is called with the size of the arrays before they are written, and may raise.

        **Returns:**

        The facts of the data set. Where the same arrays have that name already, those that were
        kept then.

        **Raises:**

        - `NameTaken`: other arrays have that name.
        - `NotStored`: it cannot be written.
        - `DatasetError`: the name cannot be used, or the archive is not valid.
        """
        if name in DATASETS:
            raise uploads.NameTaken(f"{name!r} is a data set of the catalogue")
        self.recover()
        return uploads.keep(
            name,
            source,
            self.kept_in,
            meaning,
            others=self._upload_folders[1:],
            uploaded_by=uploaded_by,
            max_bytes=max_bytes,
            admit=admit,
        )

    def bytes_kept(self, uploaded_by: str | None = None) -> int:
        """Return how much room the uploads of this place take up.

        **Arguments:**

        - `uploaded_by`: only uploads that this one brought; None: all.

        **Returns:**

        Bytes.
        """
        return sum(
            uploads.bytes_of(name, self.kept_in)
            for name in uploads.names(self.kept_in)
            if uploaded_by is None or self._is_by(name, uploaded_by)
        )

    def _is_by(self, name: str, who: str) -> bool:
        found = uploads.find(name, self.kept_in)
        return found is not None and found.uploaded_by == who

    def remove(self, name: str, needed_by: Callable[[], Sequence[str]] = tuple) -> None:
        """Remove an upload, unless something needs it.

        **Arguments:**

        - `name`: of the upload.
        - `needed_by`: names what needs it, such as unfinished jobs.

        **Raises:**

        - `InUse`: something needs it.
        - `DatasetError`: no upload has that name, or it cannot be removed here.
        """
        self.recover()
        if not self.facts_of(name).uploaded:
            raise DatasetError(f"{name} is a data set of the catalogue; only uploads are removed")
        if needing := needed_by():
            raise uploads.InUse(name, needing)
        elsewhere = [folder for folder, _ in self._uploads_named(name) if folder != self.kept_in]
        if elsewhere:  # earlier versions let several services share it
            raise DatasetError(
                f"{name} is in {elsewhere[0]}, where other services may use it: remove the folder "
                f"{elsewhere[0] / name} by hand"
            )
        uploads.remove(name, self.kept_in, needed_by)

    def recover(self) -> list[str]:
        """Put back the uploads whose removal a process began and did not live to finish.

        **Returns:**

        What was done, and what must be done by hand, in words.
        """
        return uploads.recover(self.kept_in)

    def is_present(self, facts: Dataset) -> bool:
        """Whether a data set can be loaded without a download.

        **Arguments:**

        - `facts`: the facts of the data set.

        **Returns:**

        True for uploads, for bundled data sets, and where all files are below `root`.
        """
        return facts.uploaded or facts.files is None or self.folder_of(facts) is not None

    def folder_of(self, facts: Dataset) -> Path | None:
        """Find the folder that holds all files of a known data set.

        **Arguments:**

        - `facts`: the facts of the data set.

        **Returns:**

        The folder; None where files are missing.
        """
        return present_folder(facts, self.root)

    def refuse_missing(self, name: str) -> Dataset:
        """Raise DatasetError where a data set cannot be loaded, as far as is seen without reading.

        Files of a known data set may be missing: they are downloaded.

        **Arguments:**

        - `name`: of a data set of the catalogue, or of an upload.

        **Returns:**

        The facts of the data set.

        **Raises:**

        - `DatasetError`: no data set has that name, an upload's arrays are gone, or two uploads
          with different arrays have that name.
        """
        facts = self.facts_of(name)
        if not facts.uploaded:
            return facts
        found = self._uploads_named(name)
        if len({upload.digest for _, upload in found}) > 1:
            places = " and ".join(str(folder / name) for folder, _ in found)
            raise DatasetError(f"{name!r} names two data sets, {places}; move one of them away")
        path = uploads.arrays_file(name, found[0][0])
        if not path.is_file():
            raise DatasetError(f"{name}: {path} is gone")
        return facts

    def load(self, name: str) -> Arrays:
        """Load and verify the arrays of a data set, and keep them in memory for the next caller.

        Files of a known data set are looked for below `root`, and downloaded there with torchvision
        where they are missing.

        **Arguments:**

        - `name`: of a data set of the catalogue, or of an upload.

        **Returns:**

        The arrays, read-only.

        **Raises:**

        - `DatasetError`: no data set has that name, its files cannot be found or fetched, or they
          are not what the facts say.
        """
        return self.loaded(name).arrays

    def loaded(self, name: str) -> Loaded:
        """Load a data set as `load` does, and return its arrays with their digest.

        **Arguments:**

        - `name`: as for `load`.

        **Returns:**

        The arrays, read-only, and the digest of what was loaded.

        **Raises:**

        - `DatasetError`: as for `load`.
        """
        return _loaded(self, name, self.digest_of(name))

    def mapped(self, name: str) -> Arrays:
        """Return the arrays of a data set to look at a few samples.

        Those of an upload, which may be large, are mapped into memory and not verified.

        **Arguments:**

        - `name`: as for `load`.

        **Returns:**

        The arrays, read-only.

        **Raises:**

        - `DatasetError`: as for `load`.
        """
        folder = self.upload_folder(name) if self.refuse_missing(name).uploaded else None
        return uploads.mapped(name, folder.parent) if folder else self.read(name).arrays

    def read(self, name: str) -> Loaded:
        """Read a data set anew, and do not keep it in memory.

        **Arguments:**

        - `name`: as for `load`.

        **Returns:**

        The arrays, read-only, and the digest of what was read.

        **Raises:**

        - `DatasetError`: as for `load`.
        """
        facts = self.refuse_missing(name)
        if folder := self.upload_folder(name) if facts.uploaded else None:
            return verified(facts, uploads.arrays_of(name, folder.parent))
        if facts.files is None:
            return self._read_bundled(facts)
        found = self.folder_of(facts)
        if found is None:
            fetch(facts, self.root)
            found = self.folder_of(facts)
        if found is None:
            raise DatasetError(f"{name}: the download left no files below {self.root}")
        return verified(facts, facts.files.read(found))

    def _read_bundled(self, facts: Dataset) -> Loaded:
        """Read what the package carries: of a large data set its decoded copy, if there is one.

        A copy that is damaged is decoded again, and written again where that can be done.
        """
        path = copy_path(facts.name, facts.digest, self.cache)
        if path and (loaded := _verified_copy(facts, path)):
            return loaded
        decoded = verified(facts, read_bundled(facts.name))
        if path and write_copy(decoded.arrays, path):
            return _verified_copy(facts, path) or decoded
        return decoded


@dataclass(frozen=True)
class Source:
    """Where the arrays of a digest are read: two are equal wherever that is.

    What was measured on arrays is kept by this: the same arrays are measured once, whichever home
    they are in.

    **Attributes:**

    - `datasets`: where they are read.
    - `digest`: of the arrays; None: it is not known.
    - `place`: what else tells the arrays apart where no digest does.
    """

    datasets: Datasets = field(compare=False)
    digest: str | None
    place: Datasets | None

    @classmethod
    def of(cls, datasets: Datasets, digest: str | None) -> Self:
        """Return the source of arrays.

        **Arguments:**

        - `datasets`: where they are read.
        - `digest`: of the arrays; None: it is not known.

        **Returns:**

        The source.
        """
        return cls(datasets, digest, None if digest else datasets)


def _verified_copy(facts: Dataset, path: Path) -> Loaded | None:
    """Map the decoded copy of a data set; None where it is not there, or not what it should be."""
    arrays = mapped_copy(path)
    try:
        return verified(facts, arrays) if arrays else None
    except DatasetError:
        return None


@lru_cache(maxsize=2)
def _loaded(datasets: Datasets, name: str, _digest: str | None) -> Loaded:
    """Keep what was loaded, as long as the name stands for the same arrays."""
    return datasets.read(name)


@lru_cache(maxsize=64)
def _measured(source: Source, name: str) -> InputFigures:
    """Keep what was measured, as long as the name stands for the same arrays."""
    return measured(source.datasets.read(name).arrays)


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
        uploaded_by=upload.uploaded_by,
        figures=upload.figures,
    )


def fetch(facts: Dataset, root: Path) -> None:
    """Download a data set with torchvision.

    **Arguments:**

    - `facts`: the facts of a known data set.
    - `root`: the folder below which its files go.

    **Raises:**

    - `DatasetError`: the download failed; the message says what to do.
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
    """Find the folder that holds all files of a data set.

    **Arguments:**

    - `facts`: the facts of a known data set.
    - `root`: the folder below which its files are looked for.

    **Returns:**

    The folder; None where files are missing.
    """
    files = facts.files
    if files is None:
        return None
    candidates = (root / files.folder / files.inside, root / files.folder, root / facts.name)
    return next(
        (folder for folder in candidates if all(present(folder, name) for name in files.names)),
        None,
    )


def verified(facts: Dataset, arrays: Arrays) -> Loaded:
    """Verify that arrays are the published ones, as far as is known of those.

    **Arguments:**

    - `facts`: the facts of the data set.
    - `arrays`: what was read.

    **Returns:**

    The arrays, read-only, and their digest.

    **Raises:**

    - `DatasetError`: they are not the published ones.
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
