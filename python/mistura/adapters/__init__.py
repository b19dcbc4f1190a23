"""Adapters: how an engine keeps its weights, said in the exchange's terms. mistura.join() finds the one that fits, or is given one."""

from __future__ import annotations

from typing import Any

import torch

from ..layout import Layout, Piece
from .base import Adapter, tied_names
from .fsdp import fsdp, is_fsdp
from .megatron import is_megatron, megatron
from .plain import plain

__all__ = ["Adapter", "Piece", "choose", "fsdp", "megatron", "plain", "tied_names"]


def choose(model: torch.nn.Module, optimizer: Any = None, layout: Layout | None = None) -> Adapter:
    """The adapter that fits the model and optimizer as they are."""
    if is_megatron(optimizer):
        return megatron(model, optimizer, layout)
    if is_fsdp(model):
        return fsdp(model, optimizer, layout)
    return plain(model, optimizer, layout)
