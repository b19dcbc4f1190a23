"""The reference learner's weights as the exchange sees them: stacked experts are tensors of their own.

An adapter in the sense of ``mistura.adapters``. Every rank holds the whole model; data-parallel
rank r is replica r, of which replica 0 sends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .adapters import Piece
from .model import Model, is_state, tensors

SLOTS = {"moment1": "exp_avg", "moment2": "exp_avg_sq"}


class Stacked:
    """Model and AdamW by the names that the run has for them."""

    def __init__(self, model: Model, optimizer: torch.optim.Optimizer, replica: int = 0) -> None:
        self._optimizer, self._replica = optimizer, replica
        self._weights = tensors(model)
        self._parameters = dict(model.named_parameters())
        self._states = {name: torch.zeros_like(value) for name, value in self._weights.items() if is_state(name)}
        for parameter in model.parameters():  # PyTorch makes them in the first step; the run may send some before
            optimizer.state[parameter] = {"step": torch.tensor(0.0), **{own: torch.zeros_like(parameter) for own in SLOTS.values()}}

    def tensors(self) -> list[dict[str, Any]]:
        """Name, shape and kind of every tensor."""
        return [{"name": name, "shape": list(value.shape), "state": is_state(name)} for name, value in self._weights.items()]

    def pieces(self) -> list[Piece]:
        """What this rank owns: everything, whole."""
        return [Piece(name, (0,) * value.dim(), tuple(value.shape), self._replica) for name, value in self._weights.items()]

    def weights(self, piece: Piece) -> Tensor:
        """The fp32 values of a piece, to be read and changed in place."""
        return self._weights[piece.name]

    def gradient(self, piece: Piece) -> Tensor | None:
        """The gradient of a piece; a router's state has none."""
        prefix, _, matrix = piece.name.rpartition(".")
        stack, _, expert = prefix.rpartition(".")
        stacked = stack.endswith(".experts")
        parameter = self._parameters.get(f"{stack}.{matrix}" if stacked else piece.name)
        if parameter is None or parameter.grad is None:
            return None
        return parameter.grad[int(expert)] if stacked else parameter.grad

    def publish(self) -> None:
        """The parameters are the masters; autocast rounds copies."""

    def slots(self) -> Sequence[str]:
        """AdamW's moments."""
        return list(SLOTS)

    def slot(self, piece: Piece, name: str) -> Tensor:
        """A moment of a piece, in place; state has none and stays at zero."""
        if is_state(piece.name):
            return self._states[piece.name]
        prefix, _, matrix = piece.name.rpartition(".")
        stack, _, expert = prefix.rpartition(".")
        if stack.endswith(".experts"):
            return self._moment(f"{stack}.{matrix}", name)[int(expert)]
        return self._moment(piece.name, name)

    def _moment(self, parameter: str, name: str) -> Tensor:
        return self._optimizer.state[self._parameters[parameter]][SLOTS[name]]

    def forget(self) -> None:
        """Begin anew: the moments belong to weights that are gone."""
        for state in self._optimizer.state.values():
            for value in state.values():
                value.zero_()

    def steps(self) -> int:
        """Steps applied, which AdamW's bias correction depends on."""
        return int(next(iter(self._optimizer.state.values()))["step"])

    def set_steps(self, steps: int) -> None:
        """Go on from a saved state, or from 0 when the moments are forgotten."""
        for state in self._optimizer.state.values():
            state["step"].fill_(float(steps))
