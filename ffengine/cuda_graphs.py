"""Steps captured in a CUDA graph: a GPU then runs a small step without waiting for Python between
its kernels.
"""

from collections.abc import Callable

import torch

from ffengine.pairs import AnyPairs

Step = Callable[[AnyPairs], None]


def captured(step: Step, device: torch.device) -> Step:
    """The step, on a GPU captured from its second call on; elsewhere the step itself.

    The step must change tensors in place only, and depend on nothing but its input and those
    tensors.
    """
    return CapturedStep(step) if device.type == "cuda" else step


class CapturedStep:
    """Replays a step on inputs of the shapes that came first; others are run as they are."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._shapes: list[torch.Size] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: AnyPairs | None = None

    def __call__(self, inputs: AnyPairs) -> None:
        """Take the step on the inputs."""
        shapes = [tensor.shape for tensor in inputs]
        if (
            self._shapes is None
        ):  # the first call also sets up what a capture may not: handles, workspaces
            self._shapes = shapes
            self._step(inputs)
        elif shapes != self._shapes:
            self._step(inputs)
        elif self._graph is None or self._inputs is None:
            self._capture(inputs)
        else:
            for held, tensor in zip(self._inputs, inputs, strict=True):
                held.copy_(tensor)
            self._graph.replay()

    def _capture(self, inputs: AnyPairs) -> None:
        self._inputs = type(inputs)(*(tensor.clone() for tensor in inputs))
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(inputs.x.device)
        with torch.cuda.graph(self._graph):  # records, does not run
            self._step(self._inputs)
        self._graph.replay()
