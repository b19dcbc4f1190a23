"""Training: AdamW, schedule, clipping, the router's bias, and the trace of it all."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .config import decays
from .errors import InputError
from .model import Model, Pass
from .routing import moved_bias

WSD = "wsd"
COSINE = "cosine"


@dataclass(frozen=True)
class Training:
    """Settings of a training run; those of optimiser and schedule as in a run file."""

    steps: int
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    clip_norm: float  # 0: never
    shape: str
    peak_rate: float
    final_rate: float
    warmup_tokens: int
    decay_from_tokens: int  # the cosine ignores it
    tokens: int  # end of the schedule

    def check(self, where: str) -> None:
        """Refuse what has no meaning."""
        if self.shape not in (WSD, COSINE):
            raise InputError(f"{where}.shape", self.shape, "is not a shape of schedule", f"choose {WSD} or {COSINE}")
        if self.steps < 1:
            raise InputError(f"{where}.steps", self.steps, "is too small", "use at least 1")

    def rate(self, tokens: int) -> float:
        """The rate of the step that brings the run to so many tokens.

        It rises in a line; WSD stays and falls as 1-√x (arXiv 2405.18392), the
        cosine falls from the end of the rise.
        """
        if tokens < self.warmup_tokens:
            return self.peak_rate * tokens / self.warmup_tokens
        begin = self.warmup_tokens if self.shape == COSINE else self.decay_from_tokens
        if tokens <= begin < self.tokens:
            return self.peak_rate
        x = min(1.0, (tokens - begin) / (self.tokens - begin)) if tokens < self.tokens else 1.0
        left = (1 + math.cos(math.pi * x)) / 2 if self.shape == COSINE else 1 - math.sqrt(x)
        return self.final_rate + (self.peak_rate - self.final_rate) * left


def optimizer(model: Model, s: Training) -> torch.optim.Optimizer:
    """PyTorch's own AdamW with two groups of weights, decayed and not."""
    groups = [
        {
            "params": [w for name, w in model.trained.items() if decays(name, tuple(w.shape)) == decayed],
            "weight_decay": s.weight_decay if decayed else 0.0,
        }
        for decayed in (True, False)
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=s.peak_rate, betas=(s.beta1, s.beta2), eps=s.eps, foreach=True)


def train(model: Model, s: Training, batches: Tensor, end_token: int | None, imposed: dict[int, Tensor] | None) -> dict[str, Tensor]:
    """Train on batches [N, B, T+1], taken in turn, and give the trace.

    Per step: loss (mean over targets), grad_norm (before clipping), balance and z
    (mean over sequences and layers), rate, and choices by layer [steps, B, T, K].
    imposed choices have that same form. The weights at the end are weight.NAME.
    """
    adamw = optimizer(model, s)
    trace: dict[str, list[Tensor]] = {}
    tokens = 0
    for step in range(s.steps):
        chosen = None if imposed is None else {layer: c[step] for layer, c in imposed.items()}
        p = model.forward(batches[step % len(batches)], end_token, chosen)
        targets = int(p.targets.sum())
        tokens += targets
        adamw.zero_grad()
        (p.total(model.c) / targets).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.trained.values(), s.clip_norm or math.inf)
        for group in adamw.param_groups:
            group["lr"] = s.rate(tokens)
        adamw.step()
        rate = torch.tensor(s.rate(tokens), dtype=torch.float64)
        row = {"loss": p.losses.sum() / targets, "grad_norm": norm, "rate": rate, **router_means(p)}
        for layer, r in p.routed.items():
            row[f"choices.{layer}"] = r.choice
            row[f"own.{layer}"] = r.own
            if model.c.router_bias:
                bias = model.weights[f"layers.{layer}.router_bias"]
                bias.copy_(moved_bias(bias, r.choice, model.c.bias_rate))
        for name, value in row.items():
            trace.setdefault(name, []).append(value.detach())
    result = {name: torch.stack(values) for name, values in trace.items()}
    return {**result, **{"weight." + name: w.detach() for name, w in model.weights.items()}}


def router_means(p: Pass) -> dict[str, Tensor]:
    """Balance loss and z-loss, mean over sequences and layers; 0 without routers."""
    if not p.routed:
        return {"balance": torch.zeros(()), "z": torch.zeros(())}
    return {
        "balance": torch.stack([r.balance for r in p.routed.values()]).mean(),
        "z": torch.stack([r.z for r in p.routed.values()]).mean(),
    }
