"""Which tokens of a sequence belong together.

Shapes: B sequences of T inputs; B is 1 where all sequences are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Documents:
    """Sequences cut into documents."""

    number: Tensor  # [B or 1, T] of the document within its sequence
    position: Tensor  # [B or 1, T] of the token within its document
    counts: Tensor  # [B, T] bool: the loss of this input counts

    @staticmethod
    def split(inputs: Tensor, end_token: int | None) -> Documents:
        """Cut inputs [B, T] behind each end token; None: every sequence is one document.

        An end token is the last of its document. Its target begins the next one, which
        nothing can know: that loss does not count.
        """
        steps = torch.arange(inputs.shape[1])[None]
        ends = torch.zeros_like(inputs, dtype=torch.bool) if end_token is None else inputs == end_token
        if not ends.any():
            return Documents(torch.zeros_like(steps), steps, ~ends)
        begins = torch.ones_like(ends)
        begins[:, 1:] = ends[:, :-1]
        first = torch.where(begins, steps, torch.zeros_like(steps)).cummax(1).values
        return Documents(begins.long().cumsum(1), steps - first, ~ends)

    def visible(self) -> Tensor:
        """[B or 1, T, T] bool: query t may look at key s."""
        t = torch.arange(self.number.shape[1])
        return (self.number[:, :, None] == self.number[:, None, :]) & (t[:, None] >= t[None, :])
