"""Shared memory between a rank and its host's mistura process.

One file of fp32 values a rank, mapped by both sides. For each piece of the rank it has an area `out`, which the rank
fills with its weights, and an area `in`, which holds what the rank is to add or to install. Views have the piece's extent.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .errors import InputError

FP32_BYTES = 4


class Areas:
    """Tensors over the mapped file: `out[i]` and `into[i]` for piece i, None where the rank sends nothing."""

    def __init__(self, path: str, size: int, extents: Sequence[Sequence[int]], out: Sequence[int], into: Sequence[int]) -> None:
        if sys.byteorder != "little":
            raise InputError("this machine", sys.byteorder, "is big-endian; tensors are exchanged little-endian", "use another machine")
        fd = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
        try:
            memory = mmap.mmap(fd, size)
        finally:
            os.close(fd)
        self.out: list[Any] = [view(memory, at, extent) for at, extent in zip(out, extents)]  # which hold the memory
        self.into: list[Any] = [view(memory, at, extent) for at, extent in zip(into, extents)]

    def close(self) -> None:
        """There are no areas any more."""
        self.out.clear()
        self.into.clear()


def view(memory: mmap.mmap, at: int, extent: Sequence[int]) -> torch.Tensor | None:
    """The values from byte `at` on, of the shape `extent`; None for the offset -1."""
    if at < 0:
        return None
    count = math.prod(extent)
    if at % FP32_BYTES != 0 or at + count * FP32_BYTES > len(memory):
        raise InputError("shared memory", at, f"{count} values do not fit there", "the mistura process is of another version")
    return torch.from_numpy(np.frombuffer(memory, np.float32, count, at).reshape(tuple(extent)))
