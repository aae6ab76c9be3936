"""Steps captured in a CUDA graph, so that a GPU does not wait for Python between kernels."""

from collections.abc import Callable

import torch

from ffengine.pairs import AnyBatch

Step = Callable[[AnyBatch], None]


def captured(step: Step, device: torch.device) -> Step:
    """Return the step; on a GPU it is captured from its second call on.

    The step must change tensors in place only, and depend on nothing but its input and those
    tensors.

    **Arguments:**

    - `step`: takes one step on a batch.
    - `device`: where it runs.

    **Returns:**

    A function that does the same; on a CPU it is the step itself.
    """
    return CapturedStep(step) if device.type == "cuda" else step


class CapturedStep:
    """Replays a step on batches of the shapes of the first call; others run as they are.

    **Arguments:**

    - `step`: takes one step on a batch.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._shapes: list[torch.Size] | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: AnyBatch | None = None

    def __call__(self, inputs: AnyBatch) -> None:
        """Take the step on the inputs."""
        shapes = [tensor.shape for tensor in inputs]
        if self._shapes is None:
            # This call also makes handles and workspaces, which must not be made in a capture.
            self._shapes = shapes
            self._step(inputs)
        elif shapes != self._shapes:
            self._step(inputs)
        elif self._graph is None or self._inputs is None:
            self._capture(inputs)
        else:
            for buffer, tensor in zip(self._inputs, inputs, strict=True):
                buffer.copy_(tensor)
            self._graph.replay()

    def _capture(self, inputs: AnyBatch) -> None:
        """Record the step on copies of the inputs, then run it."""
        self._inputs = type(inputs)(*(tensor.clone() for tensor in inputs))
        self._graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(inputs.x.device)
        with torch.cuda.graph(self._graph):  # this records the kernels and does not run them
            self._step(self._inputs)
        self._graph.replay()
