"""Downloads by torchvision: the one place that imports it."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

_schemas: list[torch.library.Library] = []  # kept alive: the schemas vanish with their Library


def download(name: str, root: Path) -> None:
    """Fetch a data set into torchvision's layout below `root`; OSError or RuntimeError where that fails."""
    classes = _dataset_classes()
    classes[name](str(root), train=True, download=True)


def _dataset_classes() -> "dict[str, type[MNIST]]":
    try:
        from torchvision import datasets
    except RuntimeError:
        _declare_missing_operators()
        from torchvision import datasets
    return {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}


def _declare_missing_operators() -> None:
    # PyPI's torchvision is built against CUDA torch: beside a CPU-only torch its compiled operators are absent, and
    # its import fails on the two that it registers fake kernels for. Declaring them is enough: nothing here calls them.
    for module in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.append(library)
