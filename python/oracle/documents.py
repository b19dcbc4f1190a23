"""Which tokens of a sequence belong together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Documents:
    """B sequences of T inputs, cut into documents."""

    number: Tensor  # [B, T] of the document within its sequence
    position: Tensor  # [B, T] of the token within its document
    counts: Tensor  # [B, T] bool: the loss of this input counts

    @property
    def visible(self) -> Tensor:
        """[B, T, T] bool: query t may look at key s."""
        t = torch.arange(self.number.shape[1])
        return (self.number[:, :, None] == self.number[:, None, :]) & (t[:, None] >= t[None, :])


def split(inputs: Tensor, end_token: int | None) -> Documents:
    """Cut inputs [B, T] after each end token; None: every sequence is one document.

    An end token belongs to the document that it ends. Its target begins the next
    document, which nothing can know: that loss does not count.
    """
    rows, length = inputs.shape
    steps = torch.arange(length).expand(rows, length)
    if end_token is None:
        return Documents(torch.zeros_like(inputs), steps, torch.ones_like(inputs, dtype=torch.bool))
    ends = inputs == end_token
    begins = torch.cat([torch.ones(rows, 1, dtype=torch.bool), ends[:, :-1]], dim=1)
    number = begins.long().cumsum(1) - 1
    first = torch.where(begins, steps, torch.zeros_like(steps)).cummax(1).values
    return Documents(number, steps - first, ~ends)
