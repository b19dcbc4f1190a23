"""The reference learner's weights as the exchange sees them: stacked experts are tensors of their own.

A stack [E, out, in] holds the run's tensors ``…experts.0.gate`` to ``…experts.E-1.gate``, each [out, in]: a piece is a
layer of the stack, in the parameter and in the optimizer's state alike.
"""

from __future__ import annotations

from functools import partial

import torch

from .adapters.base import Adapter, Part, local
from .layout import Held, Piece
from .model import Model, is_state


def stacked(model: Model, optimizer: torch.optim.Optimizer) -> Adapter:
    """The adapter for the reference learner; every rank holds the whole model."""
    tensors, parts = [], []
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        state = is_state(name)
        prefix, _, matrix = name.rpartition(".")
        stack = len(value) if prefix.endswith(".experts") else 0
        for expert in range(max(1, stack)):
            called = f"{prefix}.{expert}.{matrix}" if stack else name
            shape = tuple(value.shape[1:] if stack else value.shape)
            place = (expert,) * bool(stack) + (0,) * len(shape)
            held = Held(Piece(called, (0,) * len(shape), shape, None, shape), place, (1,) * bool(stack) + shape)
            tensors.append((called, shape, state))
            parts.append(Part(held, partial(local, value), None if state else value))
    return Adapter(tensors, parts, optimizer)
