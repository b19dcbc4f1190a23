"""Which experts a token visits, with which weights, and the router's two losses.

Shapes: B sequences of T tokens, E experts of which K are chosen, G groups of experts.
Everything here is fp32 (or float64), whatever the rest of a pass computes in: logits
that a narrower format rounds alike would send kinds of chips to different experts.
Conventions and their sources are in ``docs/engine.md``, section Router.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .config import SIGMOID, Config

FLOOR = 1e-20  # keeps a division by sigmoid scores finite (DeepSeek-V3)


@dataclass(frozen=True)
class Noise:
    """The noise of a routing warm-up (Ling report, arXiv 2503.05139, section 3.1)."""

    alpha: float  # how far the warm-up is: 0 to below 1
    eps: Tensor  # normal draws [layers, B, T, E]


class Routed(NamedTuple):
    """What one layer's router decided. A tuple of tensors, as activation checkpointing needs it."""

    choice: Tensor  # [B, T, K] experts, the best first
    weights: Tensor  # [B, T, K]
    balance: Tensor  # [B] balance loss: 1.0 at perfect balance
    z: Tensor  # [B] z-loss
    counts: Tensor  # [B, E] int64 choices of each expert
    sums: Tensor  # [B, 3]: number, sum and sum of squares of the logits before any noise


def route(
    c: Config, logits: Tensor, bias: Tensor | None, noise: tuple[float, Tensor, Tensor] | None, imposed: Tensor | None = None
) -> Routed:
    """Route by logits [B, T, E].

    bias [E] enters the choice alone. noise is (alpha, eps [B, T, E], running mean and
    variance [2]). imposed [B, T, K] takes the place of the router's own choice: two
    logits closer than rounding would make two right programs differ, so that who
    compares programs gives both the same choice.
    """
    clean = logits.detach().flatten(1)
    sums = torch.stack([torch.full_like(clean[:, 0], clean.shape[1]), clean.sum(1), clean.square().sum(1)], 1)
    if noise is not None:
        logits = noisy(logits, *noise)
    scores = torch.sigmoid(logits) if c.router == SIGMOID else torch.softmax(logits, -1)
    choice = choose(c, logits.detach(), scores.detach(), bias) if imposed is None else imposed
    weights = scores.gather(-1, choice)
    if c.norm_top_k:
        weights = weights / (weights.sum(-1, keepdim=True) + (FLOOR if c.router == SIGMOID else 0.0))
    if c.routed_scale:
        weights = weights * c.routed_scale
    counts = torch.zeros_like(logits[:, 0], dtype=torch.long)
    counts = counts.scatter_add(1, choice.flatten(1), torch.ones_like(choice.flatten(1)))
    return Routed(choice, weights, balance_loss(c, scores, counts), z_loss(logits), counts, sums)


def noisy(logits: Tensor, alpha: float, eps: Tensor, stats: Tensor) -> Tensor:
    """What a router sees of its logits [B, T, E] in a warm-up.

    stats [2] are the running mean and variance; while there is no variance, each
    sequence goes by its own. No gradient flows through them.
    """
    own = logits.detach().flatten(1)
    mean, variance = own.mean(1)[:, None, None], own.var(1, unbiased=False)[:, None, None]
    known = stats[1] > 0
    mean, variance = torch.where(known, stats[0], mean), torch.where(known, stats[1], variance)
    return alpha * logits + (1 - alpha) * (mean + variance.sqrt() * eps)


def choose(c: Config, logits: Tensor, scores: Tensor, bias: Tensor | None) -> Tensor:
    """The chosen experts [B, T, K], best first, the lowest number first among equals."""
    by = logits if bias is None else scores + bias
    if c.grouped:
        kept = best_groups(c, logits, scores, bias).repeat_interleave(c.experts // c.expert_groups, -1)
        by = by.masked_fill(~kept, -torch.inf)
    return best(by, c.top_k)


def best_groups(c: Config, logits: Tensor, scores: Tensor, bias: Tensor | None) -> Tensor:
    """[B, T, G] bool: the groups of experts that a token may visit.

    Softmax routers compare groups by their best expert (DeepSeek-V2, arXiv 2405.04434),
    sigmoid routers by the sum of their best two (DeepSeek-V3, arXiv 2412.19437). Such a
    sum is of scores, never of logits.
    """
    by = scores if c.router == SIGMOID else logits
    if bias is not None:
        by = scores + bias
    groups = by.unflatten(-1, (c.expert_groups, -1))
    used = 2 if c.router == SIGMOID else 1
    value = groups.topk(min(used, groups.shape[-1]), -1).values.sum(-1)
    return torch.zeros_like(value, dtype=torch.bool).scatter(-1, best(value, c.top_groups), True)


def best(values: Tensor, count: int) -> Tensor:
    """Indices of the largest values. ``topk`` promises nothing among equals; a stable sort does."""
    return values.sort(dim=-1, descending=True, stable=True).indices[..., :count]


def balance_loss(c: Config, scores: Tensor, counts: Tensor) -> Tensor:
    """E · Σ_e f_e · P_e of each sequence [B], f being a share of choices and P a mean score."""
    shares = scores / (scores.sum(-1, keepdim=True) + FLOOR) if c.router == SIGMOID else scores
    fractions = counts.to(scores.dtype) / (scores.shape[1] * c.top_k)
    return c.experts * (fractions * shares.mean(1)).sum(-1)


def z_loss(logits: Tensor) -> Tensor:
    """Mean over the tokens of (log Σ exp logits)² of each sequence [B]."""
    return torch.logsumexp(logits, -1).square().mean(-1)


@torch.no_grad()
def move_bias(bias: Tensor, counts: Tensor, rate: float) -> None:
    """Move bias [E] by a step's choices [E]: up for experts below the mean (arXiv 2408.15664, algorithm 1)."""
    bias.add_(torch.sign(counts.sum() - counts * len(counts)).to(bias.dtype), alpha=rate)


@torch.no_grad()
def move_stats(stats: Tensor, sums: Tensor, window: int) -> None:
    """Let a step's logits, as sums [3], enter the running mean and variance [2]; the first step's own begin the average."""
    count, total, squares = sums.tolist()
    mean = total / count
    share = 1.0 if float(stats[1]) <= 0 else 1.0 / window
    now = torch.tensor([mean, max(0.0, squares / count - mean * mean)], dtype=torch.float64)
    old = stats.cpu().double()
    stats.add_((share * (now - old)).to(stats.dtype).to(stats.device))
