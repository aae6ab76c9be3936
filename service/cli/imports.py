"""Imports data files: those of a known data set, or an .npz under a new name."""

from pathlib import Path

from ffengine.arrays import DatasetError
from ffengine.bundled import FOLDER as BUNDLED_IN
from ffengine.dataformats import present
from ffengine.datasets import DATA_ROOT_VARIABLE, DATASETS, Datasets, verified
from ffengine.durable import copy_files
from service.specs.files import SpecError


def import_files(name: str, source: Path, datasets: Datasets) -> Path:
    """Copy a data set to where data sets are kept once it is verified, and return its folder.

    **Arguments:**

    - `name`: of a data set of the catalogue, or a new one. Of one that comes with fflab nothing is
      copied.
    - `source`: the folder of the known data set's files, or an .npz.
    - `datasets`: where it is copied to.

    **Raises** SpecError.
    """
    facts = DATASETS.get(name)
    try:
        if facts is None:
            with source.open("rb") as archive:
                datasets.keep(name, archive)
            return datasets.upload_folder(name) or datasets.kept_in / name
        if facts.files is None:
            return BUNDLED_IN
        verified(facts, facts.files.read(source))
    except (DatasetError, OSError) as error:
        said = f"{source}: {error.strerror}" if isinstance(error, OSError) else str(error)
        # a folder is what the files of a known data set are brought in
        advice = (
            f"; a new data set is an .npz, and a folder brings one of {', '.join(DATASETS)}"
            if facts is None and source.is_dir()
            else ""
        )
        raise SpecError(f"{said}{advice}") from error
    target = datasets.root / facts.files.folder / facts.files.inside
    try:
        found = [path for name in facts.files.names if (path := present(source, name))]
        copy_files(found, target)
        _remove_other_forms(found, target)
    except OSError as error:
        raise SpecError(
            f"{name}: cannot be copied to {target} ({error.strerror}); set {DATA_ROOT_VARIABLE} "
            f"to a folder that you can write to"
        ) from error
    return target


def _remove_other_forms(found: list[Path], folder: Path) -> None:
    """Remove older gzipped files beside plain ones, and plain beside gzipped: one is read alone."""
    for path in found:
        plain = path.name.removesuffix(".gz")
        other = folder / (plain if path.name != plain else f"{plain}.gz")
        if path.parent.resolve() != folder.resolve():
            other.unlink(missing_ok=True)
