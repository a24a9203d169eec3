"""A part of a network whose pass needs more memory than there is, once it is told so."""

from typing import Any

import torch
from torch import nn

FULL = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 39.39 GiB of which 1.20 GiB is "
    "free. Including non-PyTorch memory, this process has 38.18 GiB memory in use. Of the allocated memory 37.00 GiB "
    "is allocated by PyTorch, and 0.50 GiB is reserved by PyTorch but unallocated. If reserved but unallocated memory "
    "is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
"""As torch says it."""


class Crowded(nn.Module):
    """Does as the part inside it, until it is `full`."""

    def __init__(self, inside: nn.Module, *, full: bool = False) -> None:
        super().__init__()
        self.inside, self.full = inside, full

    def forward(self, *arguments: Any) -> Any:
        if self.full:
            raise torch.OutOfMemoryError(FULL)
        return self.inside(*arguments)
