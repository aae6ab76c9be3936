"""Steps captured in a CUDA graph: a GPU then runs a small step without waiting for Python between its kernels."""

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor], None]


def captured(step: Step, device: torch.device) -> Step:
    """The step, on a GPU captured from its second call on; elsewhere the step itself.

    The step must change tensors in place only, and depend on nothing but its input and those tensors.
    """
    return CapturedStep(step) if device.type == "cuda" else step


class CapturedStep:
    """Replays a step on inputs of the shape that came first; others are run as they are."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._shape: torch.Size | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._input: Tensor | None = None

    def __call__(self, x: Tensor) -> None:
        """Take the step on x."""
        if self._shape is None:  # the first call also sets up what a capture may not: handles, workspaces
            self._shape = x.shape
            self._step(x)
        elif x.shape != self._shape:
            self._step(x)
        elif self._graph is None or self._input is None:
            self._capture(x)
        else:
            self._input.copy_(x)
            self._graph.replay()

    def _capture(self, x: Tensor) -> None:
        self._input = x.clone()
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(x.device)
        with torch.cuda.graph(self._graph):  # records, does not run
            self._step(self._input)
        self._graph.replay()
