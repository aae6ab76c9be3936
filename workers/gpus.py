"""Finds the GPUs of this machine by PyTorch.

Also a program: `python -m workers.gpus` writes them as one line of JSON, for a process that must
not initialise CUDA itself.
"""

import json
import sys

import torch

from workers.devices import Gpus, has_nvidia
from workers.error_mapping import one_line


def find_gpus() -> Gpus:
    """The GPUs of this machine, and where PyTorch can use none, why."""
    if torch.cuda.is_available():
        found = (torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count()))
        ids = [str(getattr(one, "uuid", n)) for n, one in enumerate(found)]
        return Gpus(ids, nvidia=True)
    try:
        torch.cuda.init()
    except Exception as error:  # noqa: BLE001 - whatever a driver raises is the reason
        return Gpus((), has_nvidia(), one_line(error))
    return Gpus((), has_nvidia(), "PyTorch sees no device")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(find_gpus()._asdict()) + "\n")
