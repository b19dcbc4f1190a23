"""The model.

Shapes: B sequences of T tokens, D width of the residual stream, H query heads,
G key heads, C elements of a head, E experts of which K are chosen, F inner width
of an MLP, V vocabulary. Weights are [out, in].
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from .config import Config, is_state
from .documents import Documents, split
from .errors import InputError
from .routing import Noise, Routed, noisy, route

NORM_HEAD_EPS = 1e-7

# Deliberate mistakes, for tests that a comparison finds them.
FAULTS = ("attached_norms",)


@dataclass
class Pass:
    """What one forward pass over B sequences came to."""

    documents: Documents
    losses: Tensor = field(default_factory=lambda: torch.empty(0))  # [B, T] cross-entropy, 0 where it does not count
    routed: dict[int, Routed] = field(default_factory=dict)  # by layer
    values: dict[str, Tensor] = field(default_factory=dict)  # every intermediate tensor

    @property
    def targets(self) -> Tensor:
        """[B] tokens whose loss counts."""
        return self.documents.counts.sum(1)

    def total(self, c: Config) -> Tensor:
        """What the gradient is of: a sum over tokens."""
        router = torch.zeros_like(self.losses[:, 0])
        for r in self.routed.values():
            router = router + c.balance_coef * r.balance + c.z_coef * r.z
        return (self.losses.sum(1) + self.targets * router).sum()


class Model:
    """A configuration with its weights, which are leaves of autograd unless they are state."""

    def __init__(self, c: Config, weights: dict[str, Tensor], faults: tuple[str, ...] = ()) -> None:
        self.c = c
        self.faults = faults
        shapes = c.shapes()
        for name in [*shapes, *weights]:
            have = tuple(weights[name].shape) if name in weights else None
            if have != shapes.get(name):
                raise InputError(
                    f"weight {name}",
                    have,
                    f"does not fit the model, which has {shapes.get(name)}",
                    "give weights and configuration of one model",
                )
        self.weights = {name: w.detach().clone().requires_grad_(not is_state(name)) for name, w in weights.items()}

    @property
    def trained(self) -> dict[str, Tensor]:
        """The weights that a gradient reaches."""
        return {name: w for name, w in self.weights.items() if not is_state(name)}

    def forward(
        self,
        tokens: Tensor,
        end_token: int | None = None,
        imposed: dict[int, Tensor] | None = None,
        noise: Noise | None = None,
    ) -> Pass:
        """Run sequences [B, T+1], each token but the last predicting the next.

        imposed are expert choices [B, T, K] by layer; noise is that of a routing warm-up.
        """
        inputs, labels = tokens[:, :-1], tokens[:, 1:]
        p = Pass(split(inputs, end_token))
        x = self.weights["embedding"][inputs]
        p.values["embedding"] = x
        for layer in range(self.c.layers):
            x = self.layer(p, layer, x, None if imposed is None else imposed.get(layer), noise)
        final = rms_norm(x, self.weights["norm"], self.c.norm_eps)
        logits = final @ self.head().T
        p.losses = functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none") * p.documents.counts
        p.values.update({"final": final, "logits": logits, "losses": p.losses})
        return p

    def head(self) -> Tensor:
        """[V, D]; with NormHead its columns are divided by their norm, through which no gradient flows."""
        head = self.weights["embedding" if self.c.tied_embeddings else "head"]
        if not self.c.norm_head:
            return head
        norms = head.norm(dim=0)
        return head / ((norms if "attached_norms" in self.faults else norms.detach()) + NORM_HEAD_EPS)

    def layer(self, p: Pass, layer: int, x: Tensor, imposed: Tensor | None, noise: Noise | None) -> Tensor:
        """x [B, T, D] plus attention, plus MLPs."""
        c, w = self.c, Prefixed(self.weights, f"layers.{layer}.")
        out: dict[str, Tensor] = {}
        h = rms_norm(x, w["attention.norm"], c.norm_eps)
        attention = self.attention(w, h, p.documents, out)
        mid = x + attention @ w["attention.o"].T
        m = rms_norm(mid, w["mlp.norm"], c.norm_eps)
        y = mid
        if c.dense(layer):
            out["wide"] = swiglu(w, "dense.", m)
        elif c.shared_experts:
            out["wide"] = swiglu(w, "shared.", m)
        if "wide" in out:
            y = y + out["wide"]
        if not c.dense(layer):
            logits = m @ w["router"].T
            if noise is not None:
                logits = noisy(logits, w["router_stats"], noise, layer)
            p.routed[layer] = self.experts(w, m, logits, imposed, out)
            y = y + out["routed"]
        out.update({"h": h, "attention": attention, "mid": mid, "m": m, "out": y})
        p.values.update({f"layers.{layer}.{name}": value for name, value in out.items()})
        return y

    def attention(self, w: Prefixed, h: Tensor, documents: Documents, out: dict[str, Tensor]) -> Tensor:
        """All heads side by side [B, T, H·C]: causal, within a document, query heads in runs that share a key head."""
        c = self.c
        q, k, v = ((h @ w["attention." + name].T).unflatten(-1, (-1, c.head_dim)) for name in "qkv")  # [B, T, heads, C]
        if c.qk_norm:
            q = rms_norm(q, w["attention.q_norm"], c.norm_eps)
            k = rms_norm(k, w["attention.k_norm"], c.norm_eps)
        q, k = (rotate(c, x, documents.position) for x in (q, k))
        out.update({"q": q, "k": k, "v": v})
        k, v = (x.repeat_interleave(c.heads // c.kv_heads, dim=2) for x in (k, v))
        scores = torch.einsum("bthc,bshc->bhts", q, k) / c.head_dim**0.5
        scores = scores.masked_fill(~documents.visible[:, None], -torch.inf)
        return torch.einsum("bhts,bshc->bthc", torch.softmax(scores, -1), v).flatten(2)

    def experts(self, w: Prefixed, m: Tensor, logits: Tensor, imposed: Tensor | None, out: dict[str, Tensor]) -> Routed:
        """Every expert on every token of m [B, T, D], combined with weights that are 0 for experts not chosen.

        logits [B, T, E] are the router's.
        """
        c = self.c
        bias = w["router_bias"] if c.router_bias else None
        r = route(c, logits, bias, imposed)
        gate, up, down = (torch.stack([w[f"experts.{e}.{name}"] for e in range(c.experts)]) for name in ("gate", "up", "down"))
        act = functional.silu(torch.einsum("btd,efd->btef", m, gate)) * torch.einsum("btd,efd->btef", m, up)
        weights = torch.zeros_like(logits).scatter(-1, r.choice, r.weights)
        out["routed"] = torch.einsum("btef,edf,bte->btd", act, down, weights)
        out.update({"router.logits": logits, "router.scores": r.scores, "router.choices": r.choice, "router.weights": r.weights})
        return r


class Prefixed:
    """The weights of one layer by their short names."""

    def __init__(self, weights: dict[str, Tensor], prefix: str) -> None:
        self.weights, self.prefix = weights, prefix

    def __getitem__(self, name: str) -> Tensor:
        return self.weights[self.prefix + name]


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x over the root of its mean square along the last dimension, times gain."""
    return gain * x / torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


def swiglu(w: Prefixed, prefix: str, x: Tensor) -> Tensor:
    """The gated MLP of that prefix on x [B, T, D]."""
    return (functional.silu(x @ w[prefix + "gate"].T) * (x @ w[prefix + "up"].T)) @ w[prefix + "down"].T


def rotate(c: Config, x: Tensor, position: Tensor) -> Tensor:
    """Turn heads [B, T, heads, C] by their position [B, T].

    Of the R leading elements, i and i + R/2 are the coordinates of a point that
    turns by position·theta^(-2i/R). The others stay.
    """
    turned = c.rotary_dims or c.head_dim
    half = turned // 2
    rate = c.rope_theta ** (-2 * torch.arange(half, dtype=torch.float64) / turned)
    angle = (position[..., None].double() * rate)[:, :, None, :]  # [B, T, 1, R/2]
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b, rest = x[..., :half], x[..., half:turned], x[..., turned:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)
