"""Adapters: how an engine keeps its weights, said in the exchange's terms. mistura.join() finds the one that fits, or is given one."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import InputError
from ..layout import Piece
from .base import Adapter, tied_names
from .fsdp import fsdp, is_fsdp
from .megatron import is_megatron, megatron
from .plain import plain

__all__ = ["Adapter", "Piece", "choose", "fsdp", "megatron", "plain", "tied_names"]


def choose(model: Any, optimizer: Any = None, layout: Any = None) -> Adapter:
    """The adapter that fits the model and optimizer as they are. `model` may be Megatron's list of chunks, with a layout or one each."""
    if is_megatron(optimizer):
        return megatron(model, optimizer, layout)
    if not isinstance(model, torch.nn.Module):
        problem = "are Megatron's way to say it, and the optimizer is none of Megatron's"
        raise InputError("model", f"{len(model)} modules", problem, "give the module that has them all")
    if is_fsdp(model):
        return fsdp(model, optimizer, layout)
    return plain(model, optimizer, layout)
