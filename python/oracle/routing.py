"""Which experts a token visits, with which weights, and the router's two losses.

Shapes: B sequences of T tokens, E experts of which K are chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .config import SIGMOID, Config

FLOOR = 1e-20  # keeps a division by sigmoid scores finite


@dataclass(frozen=True)
class Noise:
    """The noise of a routing warm-up (Ling report, arXiv 2503.05139, section 3.1)."""

    alpha: float  # how far the warm-up is, 0 to 1
    eps: dict[int, Tensor]  # normal draws [B, T, E] by layer


@dataclass(frozen=True)
class Routed:
    """What the router made of its logits."""

    scores: Tensor  # [B, T, E]
    own: Tensor  # [B, T, K] the experts it would choose
    choice: Tensor  # [B, T, K] the experts that are visited
    weights: Tensor  # [B, T, K]
    balance: Tensor  # [B]
    z: Tensor  # [B]


def route(c: Config, logits: Tensor, bias: Tensor | None, imposed: Tensor | None) -> Routed:
    """Route by logits [B, T, E]; a choice that is imposed [B, T, K] takes the place of its own."""
    scores = torch.sigmoid(logits) if c.router == SIGMOID else torch.softmax(logits, -1)
    own = choose(c, logits.detach(), scores.detach(), bias)
    choice = own if imposed is None else imposed
    weights = scores.gather(-1, choice)
    if c.norm_top_k:
        weights = weights / (weights.sum(-1, keepdim=True) + (FLOOR if c.router == SIGMOID else 0.0))
    if c.routed_scale:
        weights = weights * c.routed_scale
    return Routed(scores, own, choice, weights, balance_loss(c, scores, choice), z_loss(logits))


def noisy(logits: Tensor, stats: Tensor, noise: Noise, layer: int) -> Tensor:
    """What a router sees of its logits [B, T, E] in a warm-up.

    stats are the running mean and variance of its logits; while there is no
    variance, each sequence's own take their place. No gradient flows through them.
    """
    mean, variance = stats
    if variance <= 0:
        own = logits.detach().flatten(1)
        mean, variance = own.mean(1)[:, None, None], own.var(1, unbiased=False)[:, None, None]
    return noise.alpha * logits + (1 - noise.alpha) * (mean + variance.sqrt() * noise.eps[layer])


def choose(c: Config, logits: Tensor, scores: Tensor, bias: Tensor | None) -> Tensor:
    """The chosen experts [B, T, K], best first, the lowest number first among equals."""
    by = logits if bias is None else scores + bias
    if c.expert_groups > 1:
        in_best = best_groups(c, logits, scores, bias).repeat_interleave(c.experts // c.expert_groups, -1)
        by = by.masked_fill(~in_best, -torch.inf)
    return by.sort(dim=-1, descending=True, stable=True).indices[..., : c.top_k]


def best_groups(c: Config, logits: Tensor, scores: Tensor, bias: Tensor | None) -> Tensor:
    """[B, T, groups] bool: the groups of experts that a token may visit.

    A group counts as its best expert with a softmax (DeepSeek-V2, arXiv
    2405.04434), as the sum of its best two with sigmoids (DeepSeek-V3, arXiv
    2412.19437, section 2.1.2).
    """
    if bias is not None:
        by = scores + bias
    else:
        by = scores if c.router == SIGMOID else logits
    grouped = by.unflatten(-1, (c.expert_groups, c.experts // c.expert_groups))
    best = grouped.sort(dim=-1, descending=True).values
    value = best[..., :2].sum(-1) if c.router == SIGMOID else best[..., 0]
    chosen = value.sort(dim=-1, descending=True, stable=True).indices[..., : c.top_groups]
    return torch.zeros_like(value, dtype=torch.bool).scatter(-1, chosen, True)


def balance_loss(c: Config, scores: Tensor, choice: Tensor) -> Tensor:
    """E · Σ_e f_e · P_e of each sequence [B]: 1.0 at perfect balance."""
    fractions = torch.nn.functional.one_hot(choice, c.experts).to(scores.dtype).sum(2).mean(1) / c.top_k  # [B, E]
    shares = scores / (scores.sum(-1, keepdim=True) + FLOOR) if c.router == SIGMOID else scores
    return c.experts * (fractions * shares.mean(1)).sum(-1)


def z_loss(logits: Tensor) -> Tensor:
    """Mean over the tokens of (log Σ exp logits)² of each sequence [B]."""
    return torch.logsumexp(logits, -1).square().mean(-1)


def moved_bias(bias: Tensor, choice: Tensor, rate: float) -> Tensor:
    """The bias [E] after a step: up for experts with fewer choices than the mean (arXiv 2408.15664)."""
    counts = torch.bincount(choice.flatten(), minlength=len(bias)).to(bias.dtype)
    return bias + rate * torch.sign(counts.mean() - counts)
