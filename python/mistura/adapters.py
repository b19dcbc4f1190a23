"""What an engine holds, as the exchange sees it: tensors of the run, pieces of them, and fp32 weights to read and to add to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .errors import InputError

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, FSDP and checkpoint wrappers put into a parameter's name."""


@dataclass(frozen=True)
class Piece:
    """The box of a tensor that one rank owns; replica 0 is sent, others adopt only."""

    name: str
    offset: tuple[int, ...]
    extent: tuple[int, ...]
    replica: int = 0

    def message(self) -> dict[str, Any]:
        """As the local protocol carries it."""
        return {"name": self.name, "offset": list(self.offset), "extent": list(self.extent), "replica": self.replica}


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside DistributedDataParallel, DataParallel and torch.compile."""
    while True:
        if isinstance(model, (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), torch.nn.Module):
            model = model._orig_mod
        else:
            return model


def plain_name(name: str) -> str:
    """A parameter's name without what wrappers add."""
    return ".".join(p for p in name.split(".") if p not in WRAPPERS)


class Plain:
    """An ordinary model, alone or under DistributedDataParallel: every rank holds every tensor, in fp32."""

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, replica: int) -> None:
        self._optimizer = optimizer
        self._replica = replica
        self._weights: dict[str, torch.nn.Parameter] = {}
        for name, parameter in unwrapped(model).named_parameters():  # a tied parameter comes once, under its first name
            check_master(plain_name(name), parameter)
            self._weights[plain_name(name)] = parameter

    def tensors(self) -> list[dict[str, Any]]:
        """Name and shape of what this rank knows of the model."""
        return [{"name": n, "shape": list(w.shape), "state": False} for n, w in self._weights.items()]

    def pieces(self) -> list[Piece]:
        """What this rank owns."""
        return [Piece(n, (0,) * w.dim(), tuple(w.shape), self._replica) for n, w in self._weights.items()]

    def weights(self, piece: Piece) -> torch.Tensor:
        """The fp32 values of a piece, to be read and changed in place."""
        return self._weights[piece.name].detach()

    def publish(self) -> None:
        """The parameters are the masters."""

    def slots(self) -> Sequence[str]:
        """Optimizer state that can be given and taken, one value a weight."""
        return []


def check_master(name: str, parameter: torch.Tensor) -> None:
    """Weights that are kept in fewer bits than fp32 lose what small updates add."""
    if parameter.dtype == torch.float32:
        return
    kind = str(parameter.dtype).replace("torch.", "")
    problem = f"is {kind} and has no fp32 master, so that small updates are lost in rounding"
    raise InputError(
        f"parameter {name}", None, problem, "keep the model in fp32 and compute under torch.autocast, or give adapter= one that has masters"
    )


def plain(model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, layout: Any = None, replica: int = 0) -> Plain:
    """The adapter for an ordinary model."""
    if layout is not None:
        raise InputError("layout", None, "is not known to the plain adapter", "leave it out")
    return Plain(model, optimizer, replica)
