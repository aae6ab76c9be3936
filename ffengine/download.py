"""Downloads by torchvision: the one place that imports it."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

from ffengine.arrays import Archive, FromTorchvision

_schemas: list[torch.library.Library] = []  # kept alive: the schemas vanish with their Library


def download(what: FromTorchvision | Archive, root: Path, folder: str) -> None:
    """Fetch a data set's files into a folder below `root`; OSError or RuntimeError where that
    fails.
    """
    datasets = torchvision().datasets
    if isinstance(what, Archive):
        datasets.utils.download_and_extract_archive(
            what.url, str(root / folder), md5=what.md5, remove_finished=True
        )
        return
    maker = getattr(datasets, what.name)
    where = (
        root if issubclass(maker, datasets.MNIST) else root / folder
    )  # MNIST's family adds its own folder
    for options in what.options:
        maker(str(where), download=True, **options)


def torchvision() -> ModuleType:
    """The module, imported so that it works beside a torch that it was not built for."""
    try:
        return import_module("torchvision")
    except RuntimeError:
        _declare_missing_operators()
        return import_module("torchvision")


def _declare_missing_operators() -> None:
    # PyPI's torchvision is built against CUDA torch: beside a CPU-only torch its compiled operators
    # are absent, and its import fails on the two that it registers fake kernels for. Declaring them
    # is enough: nothing here calls them.
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.append(library)
