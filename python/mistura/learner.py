"""One inner step of the reference learner: gradient, norm, AdamW, and what only counts move.

Shapes: S samples of this rank in a step, T tokens of a sample, E experts, L layers.
Conventions are those of the native engine (``docs/engine.md``, sections Losses and Optimiser):
gradients are of sums over target tokens and divided once, by the tokens of all ranks, so
that a step does not depend on how it is cut into passes or ranks (case A9).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .config import Config, Training
from .draws import ROUTING, normals
from .model import Layer, Model, Pass, decays
from .routing import Noise, move_bias, move_stats


@dataclass(frozen=True)
class Batch:
    """A rank's share of a step."""

    tokens: Tensor  # [S, T+1] int64, on the CPU
    samples: Sequence[int]  # number of each among the run's samples, which its routing noise depends on
    end_token: int | None = None  # of a document; None: samples are not cut
    clock: int = 0  # tokens that rate and routing depend on, this step's included


@dataclass(frozen=True)
class Gradient:
    """What a step came to before anything of it is applied, on all ranks alike."""

    loss: float  # mean over target tokens, nats
    norm: float  # of the gradient, before clipping
    counts: Tensor  # [L, E] int64 choices of each expert
    logits: Tensor  # [L, 3] float64: number, sum and sum of squares of routing logits; 0 without a warm-up

    @property
    def expert_tokens(self) -> list[int]:
        """By layer and expert; dense layers have zeros."""
        return self.counts.flatten().tolist()


class LossScale:
    """Keeps small fp16 gradients from vanishing; the rule and the defaults of torch.amp.GradScaler.

    PyTorch's own scaler exists for some devices only. An overflow halves the scale and the
    step is computed again at once, so that no sample is lost to it.
    """

    first, growth_interval, largest = 2.0**16, 2000, 2.0**100

    def __init__(self, on: bool) -> None:
        self.on = on
        self.value = self.first if on else 1.0
        self._good = 0

    def kept(self) -> tuple[float, int]:
        """What a checkpoint keeps: the scale and the good steps since it changed; 0 where nothing is scaled."""
        return (self.value, self._good) if self.on else (0.0, 0)

    def take(self, value: float, good: int) -> None:
        """Go on from what was kept; an island in another precision scales nothing."""
        if self.on:
            self.value, self._good = value, good

    def too_large(self, loss: float, norm: float) -> bool:
        """A smaller scale may help; at 1 or below it does not, nor when the loss itself is no number."""
        return self.on and self.value > 1 and math.isfinite(loss) and not math.isfinite(norm)

    def overflowed(self) -> None:
        """Halve."""
        self.value, self._good = self.value / 2, 0

    def applied(self) -> None:
        """Double after many good steps in a row."""
        self._good += 1
        if self.on and self._good >= self.growth_interval:
            self.value, self._good = min(self.largest, self.value * 2), 0


def adamw(model: Model, t: Training) -> torch.optim.AdamW:
    """PyTorch's own AdamW; matrices decay, norms and the embedding do not. The rate comes step by step."""
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if decays(name, p) == decayed], "weight_decay": t.weight_decay if decayed else 0.0}
        for decayed in (True, False)
    ]
    many = model.norm.device.type in ("cpu", "cuda")  # elsewhere PyTorch may have no products over lists of tensors
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=(t.beta1, t.beta2), eps=t.eps, foreach=many)


class Learner:
    """A model and its optimizer. Ranks hold the same weights and train samples of their own."""

    def __init__(
        self, model: Model, optimizer: torch.optim.Optimizer, training: Training, seed: int, scale: LossScale | None = None
    ) -> None:
        self.model, self.optimizer, self.t, self.seed = model, optimizer, training, seed
        self.c: Config = model.c
        self.scale = scale or LossScale(model.autocast == torch.float16)
        self.ranks = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self._group = dist.new_group(backend="gloo") if self.ranks > 1 else None  # for numbers, which stay on the CPU

    def gradient(self, batch: Batch) -> Gradient:
        """Loss and gradient of a step, into the parameters' ``.grad``; nothing else changes."""
        while True:
            found = self._gradient(batch)
            if not self.scale.too_large(found.loss, found.norm):
                return found
            self.scale.overflowed()

    def _gradient(self, batch: Batch) -> Gradient:
        """Sums over passes and ranks are made in float64 on the CPU, for not every device has float64."""
        self.optimizer.zero_grad(set_to_none=True)
        passes = [self._pass(batch, first) for first in range(0, len(batch.samples), self.t.batch_sequences)]
        sums, counts, logits = (
            torch.zeros(2).double(),
            torch.zeros(self.c.layers, self.c.experts).long(),
            torch.zeros(self.c.layers, 3).double(),
        )
        for p in passes:  # read once all are under way: reading waits for the device
            sums += torch.tensor([float(p.losses.sum()), float(p.targets.sum())], dtype=torch.float64)
            for layer, r in p.routed.items():
                counts[layer] += r.counts.sum(0).cpu()
                if self._alpha(batch.clock) < 1:
                    logits[layer] += r.sums.cpu().double().sum(0)
        for parameter in self.model.parameters():  # a rank without a sample has none
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._add_ranks(sums, counts, logits)
        loss, targets = sums.tolist()
        if not targets:
            return Gradient(math.nan, math.nan, counts, logits)
        grads = [p.grad for p in self.model.parameters()]
        for grad in grads:
            grad.mul_(1 / (self._near * targets))
        norm = float(torch.stack([g.norm() for g in grads]).norm())
        return Gradient(loss / targets, norm, counts, logits)

    @property
    def _near(self) -> float:
        """What losses are multiplied by before the backward pass: a power of two near 1 over a pass's tokens, times
        the loss scale. fp16 has little room for gradients of a sum; in fp32 a power of two changes no bit of them.
        """
        return self.scale.value * 2.0 ** -math.ceil(math.log2(self.t.sequence_tokens * self.t.batch_sequences))

    def _pass(self, batch: Batch, first: int) -> Pass:
        """Forward and backward of a few samples; gradients are added to ``.grad``."""
        rows = slice(first, first + self.t.batch_sequences)
        p = self.model(batch.tokens[rows], batch.end_token, self.noise(batch.samples[rows], batch.clock))
        (p.total(self.c) * self._near).backward()
        return p.detached()

    def _add_ranks(self, *numbers: Tensor) -> None:
        """Add gradients and numbers up over ranks."""
        if self.ranks == 1:
            return
        under_way = [dist.all_reduce(p.grad, async_op=True) for p in self.model.parameters()]
        under_way += [dist.all_reduce(n, group=self._group, async_op=True) for n in numbers]
        for one in under_way:
            one.wait()

    def apply(self, g: Gradient) -> None:
        """AdamW at the optimizer's rate, with the clipped gradient; then what counts move."""
        if self.t.clip_norm and g.norm + 1e-6 > self.t.clip_norm:
            for parameter in self.model.parameters():
                parameter.grad.mul_(self.t.clip_norm / (g.norm + 1e-6))
        self.optimizer.step()
        self.scale.applied()
        for layer in self.model.layers:
            self._move_state(layer, g)

    def _move_state(self, layer: Layer, g: Gradient) -> None:
        if self.c.router_bias and hasattr(layer, "router_bias"):
            move_bias(layer.router_bias, g.counts[layer.index], self.c.bias_rate)
        if float(g.logits[layer.index, 0]):
            move_stats(layer.router_stats, g.logits[layer.index], self.c.routing_warmup_window)

    def noise(self, samples: Sequence[int], clock: int) -> Noise | None:
        """The noise of these samples while the routing warm-up lasts."""
        alpha = self._alpha(clock)
        if alpha >= 1:
            return None
        shape = (self.c.layers, self.t.sequence_tokens, self.c.experts)
        draws = [normals(self.seed, ROUTING, sample, 0, math.prod(shape)).reshape(shape) for sample in samples]
        return Noise(alpha, torch.from_numpy(np.stack(draws, 1)).to(self.model.norm.device, self.model.norm.dtype))

    def _alpha(self, clock: int) -> float:
        """How far the routing warm-up is: 1 when it is over."""
        length = self.c.routing_warmup_tokens
        return min(1.0, max(clock, 0) / length) if length else 1.0
