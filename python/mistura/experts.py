"""Routed experts without a loop over tokens.

The N·K choices of a batch are sorted by expert, so that the tokens of one expert are
neighbours; then each expert's products are one matrix product, and the results go back
to their tokens. There are three ways to make those products, alike up to rounding:

``loop``     one product an expert: best on a CPU, where a call costs little
``padded``   all experts in one batched product over runs padded to the longest: few calls,
             for accelerators, where each costs a launch
``grouped``  PyTorch's product for runs of unequal length, where the device has it

Shapes: N tokens, K choices each, E experts, D width of the model, F inner width,
P = N·K choices sorted by expert.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Products = Callable[[Tensor, Sequence[int], Tensor, Tensor, Tensor], Tensor]

# The public name came with torch 2.10; the other stands in releases since 2.8.
_grouped_mm: Any = getattr(functional, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)


class Experts(nn.Module):
    """E gated MLPs. Their matrices are stacked; the run knows each as a tensor of its own."""

    def __init__(self, experts: int, dim: int, width: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(experts, width, dim))
        self.up = nn.Parameter(torch.zeros(experts, width, dim))
        self.down = nn.Parameter(torch.zeros(experts, dim, width))

    def forward(self, x: Tensor, choice: Tensor, weights: Tensor) -> Tensor:
        """x [N, D], choice and weights [N, K] → [N, D]: the chosen experts' outputs, each times its weight."""
        n, k = choice.shape
        order = choice.flatten().sort(stable=True).indices  # [P] choices by expert, tokens rising within one
        counts = torch.bincount(choice.flatten(), minlength=len(self.gate)).tolist()
        y = products(x)(x.index_select(0, order.div(k, rounding_mode="floor")), counts, self.gate, self.up, self.down)
        place = torch.empty_like(order).scatter_(0, order, torch.arange(n * k, device=order.device))
        y = y.index_select(0, place).unflatten(0, (n, k))
        return (y.to(weights.dtype) * weights.unsqueeze(-1)).sum(1)


def products(x: Tensor) -> Products:
    """The way that suits the device and the format of x [N, D]."""
    if x.device.type == "cpu":
        return loop
    if _grouped_mm is not None and x.device.type == "cuda" and x.dtype == torch.bfloat16 and x.shape[-1] % 8 == 0:
        return grouped
    return padded


def loop(x: Tensor, counts: Sequence[int], gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x [P, D], counts [E] summing to P → [P, D]."""
    runs = zip(x.split(list(counts)), gate, up, down)
    return torch.cat([(functional.silu(r @ g.t()) * (r @ u.t())) @ d.t() for r, g, u, d in runs])


def padded(x: Tensor, counts: Sequence[int], gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The same, each expert's run padded to the longest."""
    longest = max(counts)
    starts = [e * longest for e in range(len(counts))]
    slot = torch.cat([torch.arange(s, s + n) for s, n in zip(starts, counts)]).to(x.device)
    runs = torch.zeros(len(counts) * longest, x.shape[-1], dtype=x.dtype, device=x.device)
    runs = runs.index_copy(0, slot, x).unflatten(0, (len(counts), longest))
    h = functional.silu(torch.bmm(runs, gate.transpose(1, 2))) * torch.bmm(runs, up.transpose(1, 2))
    return torch.bmm(h, down.transpose(1, 2)).flatten(0, 1).index_select(0, slot)


def grouped(x: Tensor, counts: Sequence[int], gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The same, by PyTorch's grouped product, which knows bf16 only and no autocast."""
    ends = torch.tensor(counts, device=x.device).cumsum(0).to(torch.int32)
    x, gate, up, down = (t.to(torch.bfloat16) for t in (x, gate, up, down))
    h = functional.silu(_grouped_mm(x, gate.transpose(1, 2), offs=ends)) * _grouped_mm(x, up.transpose(1, 2), offs=ends)
    return _grouped_mm(h, down.transpose(1, 2), offs=ends)
