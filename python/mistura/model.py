"""The model of a run, as the native engine computes it, in plain PyTorch.

``docs/engine.md`` is its specification. Shapes: B sequences of T tokens, D width of the
residual stream, H query heads, G key and value heads, C elements of a head, E experts of
which K are chosen, V vocabulary. Matrices are [out, in].

The weights are zero until the run sends its own: initial weights never come from a
device's generator, which differs between kinds of devices (case A1). ``tensors(model)``
gives them under the names that the run and its checkpoints use.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from .config import Config
from .documents import Documents
from .experts import Experts
from .routing import Noise, Routed, route

NORM_HEAD_EPS = 1e-7


def weight(*shape: int) -> nn.Parameter:
    """Room for a weight that the run sends."""
    return nn.Parameter(torch.zeros(*shape))


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x over the root of its mean square along the last dimension, times gain; never in fewer than 32 bits."""
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * gain


@dataclass(frozen=True)
class Places:
    """Where the tokens of a batch stand: what every attention layer needs, made once a pass."""

    cos: Tensor  # [B or 1, 1, T, R/2] of the angles by which positions turn R elements of a head
    sin: Tensor
    visible: Tensor  # [B or 1, 1, T, T] bool: keys that a query may see
    causal: bool  # it sees all keys up to its own, for there is one document in each sequence

    @staticmethod
    def of(c: Config, documents: Documents, like: Tensor) -> Places:
        """The angles are computed in float64: at position 100,000 one in fp32 is off by thousandths."""
        rate = c.rope_theta ** (-2 * torch.arange(c.turned // 2, dtype=torch.float64) / c.turned)
        angle = documents.position[:, None, :, None].double() * rate
        cos, sin = (a.to(like.device, like.dtype) for a in (angle.cos(), angle.sin()))
        causal = bool((documents.number == documents.number[:, :1]).all())
        return Places(cos, sin, documents.visible()[:, None].to(like.device), causal)


def rotate(x: Tensor, places: Places) -> Tensor:
    """Turn heads [B, heads, T, C] by their positions: element i < R/2 is the partner of element i + R/2."""
    half = places.cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned = (a * places.cos - b * places.sin, b * places.cos + a * places.sin)
    return torch.cat((*turned, rest) if rest.shape[-1] else turned, -1)


class Attention(nn.Module):
    """Causal attention within a document; runs of H/G query heads share a key and value head."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.norm = weight(c.dim)
        self.q = weight(c.heads * c.head_dim, c.dim)
        self.k = weight(c.kv_heads * c.head_dim, c.dim)
        self.v = weight(c.kv_heads * c.head_dim, c.dim)
        self.o = weight(c.dim, c.heads * c.head_dim)
        if c.qk_norm:
            self.q_norm = weight(c.head_dim)
            self.k_norm = weight(c.head_dim)

    def forward(self, x: Tensor, places: Places) -> Tensor:
        """x [B, T, D] → [B, T, D]."""
        c, h = self.c, rms_norm(x, self.norm, self.c.norm_eps)
        q, k, v = ((h @ w.t()).unflatten(-1, (-1, c.head_dim)).transpose(1, 2) for w in (self.q, self.k, self.v))
        if c.qk_norm:
            q, k = rms_norm(q, self.q_norm, c.norm_eps), rms_norm(k, self.k_norm, c.norm_eps)
        q, k = rotate(q, places).to(v.dtype), rotate(k, places).to(v.dtype)
        attend = attend_fused if hasattr(functional, "scaled_dot_product_attention") else attend_plain
        return attend(q, k, v, places).transpose(1, 2).flatten(2) @ self.o.t()


def attend_plain(q: Tensor, k: Tensor, v: Tensor, places: Places) -> Tensor:
    """q [B, H, T, C], k and v [B, G, T, C] → [B, H, T, C].

    Query heads that share a key head are rows of one product, so that no key is copied.
    """
    b, heads, t, size = q.shape
    shared = k.shape[1]
    rows = (q * size**-0.5).reshape(b, shared, -1, size)  # [B, G, H/G·T, C]
    scores = (rows @ k.transpose(2, 3)).reshape(b, heads, t, t)
    shares = torch.softmax(scores.masked_fill(~places.visible, -torch.inf), -1)
    return (shares.reshape(b, shared, -1, t) @ v).reshape(b, heads, t, size)


def attend_fused(q: Tensor, k: Tensor, v: Tensor, places: Places) -> Tensor:
    """The same by PyTorch's own attention (torch 2), which keeps no scores in memory."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    mask = None if places.causal else places.visible
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)


class MLP(nn.Module):
    """The gated MLP: down · (silu(gate · x) * (up · x))."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.gate = weight(width, dim)
        self.up = weight(width, dim)
        self.down = weight(dim, width)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., D] → [..., D]."""
        return (functional.silu(x @ self.gate.t()) * (x @ self.up.t())) @ self.down.t()


class Norm(nn.Module):
    """A gain, under the name that the run has for it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = weight(dim)


class Layer(nn.Module):
    """Attention, then one dense MLP, or routed experts and the shared ones."""

    def __init__(self, c: Config, index: int, autocast: torch.dtype | None) -> None:
        super().__init__()
        self.c, self.index, self.autocast = c, index, autocast
        self.attention = Attention(c)
        self.mlp = Norm(c.dim)
        if c.dense(index):
            self.dense = MLP(c.dim, c.dense_ffn)
            return
        self.router = weight(c.experts, c.dim)
        if c.router_bias:
            self.register_buffer("router_bias", torch.zeros(c.experts))
        if c.routing_warmup_tokens:
            self.register_buffer("router_stats", torch.zeros(2))  # mean and variance of the logits
        self.experts = Experts(c.experts, c.dim, c.expert_ffn)
        if c.shared_experts:
            self.shared = MLP(c.dim, c.expert_ffn * c.shared_experts)

    def forward(self, x: Tensor, places: Places, noise: Noise | None, imposed: Tensor | None) -> tuple[Tensor, Routed | None]:
        """x [B, T, D] → the residual stream behind this layer, and what its router decided."""
        x = x + self.attention(x, places)
        m = rms_norm(x, self.mlp.norm, self.c.norm_eps)
        if self.c.dense(self.index):
            return x + self.dense(m), None
        routed = self.route(m, noise, imposed)
        rows = m.flatten(0, 1).to(self.autocast or m.dtype)  # rounded once, before they are copied to their experts
        y = self.experts(rows, routed.choice.flatten(0, 1), routed.weights.flatten(0, 1)).view_as(x)
        if self.c.shared_experts:
            y = y + self.shared(m)
        return x + y, routed

    def route(self, m: Tensor, noise: Noise | None, imposed: Tensor | None) -> Routed:
        """The router computes in full precision whatever autocast says."""
        with cast(m.device, None) if self.autocast else nullcontext():
            logits = m @ self.router.t()
            drawn = None if noise is None else (noise.alpha, noise.eps[self.index], self.router_stats)
            return route(self.c, logits, getattr(self, "router_bias", None), drawn, imposed)


@dataclass(frozen=True)
class Pass:
    """What a forward pass over B sequences came to."""

    losses: Tensor  # [B, T] cross-entropy in nats; 0 for inputs whose loss does not count
    targets: Tensor  # [B] inputs whose loss counts
    routed: dict[int, Routed]  # by layer

    def total(self, c: Config) -> Tensor:
        """What the gradient is of: a sum over target tokens, router losses included."""
        router = torch.zeros_like(self.losses[:, 0])
        for r in self.routed.values():
            router = router + c.balance_coef * r.balance + c.z_coef * r.z
        return (self.losses.sum(1) + self.targets * router).sum()

    def detached(self) -> Pass:
        """The numbers alone, so that nothing of the pass stays in memory."""
        return Pass(self.losses.detach(), self.targets, {layer: Routed(*(x.detach() for x in r)) for layer, r in self.routed.items()})


def cast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """Products in a narrower format; None: in the format of their operands, within such a region."""
    if dtype is None:
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=dtype)


class Model(nn.Module):
    """A decoder-only Mixture of Experts of the Ling family (arXiv 2503.05139).

    autocast is the format of products, torch.bfloat16 or torch.float16; None: that of the
    weights. Weights, residual stream, norms, routers and losses stay in fp32 either way.
    """

    def __init__(self, c: Config, autocast: torch.dtype | None = None, activation_checkpointing: bool = False) -> None:
        super().__init__()
        self.c = c
        self.autocast = autocast
        self.activation_checkpointing = activation_checkpointing
        self.embedding = weight(c.vocab, c.dim)
        self.layers = nn.ModuleList(Layer(c, index, autocast) for index in range(c.layers))
        self.norm = weight(c.dim)
        if not c.tied_embeddings:
            self.head = weight(c.vocab, c.dim)

    def forward(
        self,
        tokens: Tensor,
        end_token: int | None = None,
        noise: Noise | None = None,
        imposed: dict[int, Tensor] | None = None,
    ) -> Pass:
        """Run sequences [B, T+1] of the CPU, each token but the last predicting the next.

        noise is that of a routing warm-up; imposed are expert choices [B, T, K] by layer.
        """
        documents = Documents.split(tokens[:, :-1], end_token)  # on the CPU: nothing waits for the device
        device = self.embedding.device
        tokens = tokens.to(device)
        with cast(device, self.autocast) if self.autocast else nullcontext():
            logits, routed = self.logits(tokens[:, :-1], Places.of(self.c, documents, self.embedding), noise, imposed or {})
        counts = documents.counts.to(device)
        logits = logits.float() if self.autocast else logits
        losses = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        return Pass(losses.view_as(counts) * counts, counts.sum(1), routed)

    def logits(self, inputs: Tensor, places: Places, noise: Noise | None, imposed: dict[int, Tensor]) -> tuple[Tensor, dict[int, Routed]]:
        """inputs [B, T] → logits [B, T, V], and what the routers decided."""
        x, routed = functional.embedding(inputs, self.embedding), {}
        for layer in self.layers:
            x, r = self.run(layer, x, places, noise, imposed.get(layer.index))
            if r is not None:
                routed[layer.index] = r
        return rms_norm(x, self.norm, self.c.norm_eps) @ self.output().t(), routed

    def run(self, layer: nn.Module, *inputs: object) -> tuple[Tensor, Routed | None]:
        """A layer; with activation checkpointing it is computed again in the backward pass, and keeps its input only."""
        if self.activation_checkpointing and torch.is_grad_enabled():
            x, routed = checkpoint(layer, *inputs, use_reentrant=False)
            return x, routed
        return layer(*inputs)

    def output(self) -> Tensor:
        """The head [V, D]; NormHead divides its columns by their norms, through which no gradient flows."""
        head = self.embedding if self.c.tied_embeddings else self.head
        if not self.c.norm_head:
            return head
        return head / (head.detach().norm(dim=0) + NORM_HEAD_EPS)


def tensors(model: Model) -> dict[str, Tensor]:
    """Every tensor of the run by its name, as views of the model's own storage, state included."""
    found: dict[str, Tensor] = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        prefix, _, matrix = name.rpartition(".")
        if prefix.endswith(".experts"):
            found.update({f"{prefix}.{e}.{matrix}": value.data[e] for e in range(len(value))})
        else:
            found[name] = value.data
    return found


def is_state(name: str) -> bool:
    """Whether a tensor is state of a router, which no gradient reaches."""
    return name.endswith((".router_bias", ".router_stats"))


def decays(name: str, value: Tensor) -> bool:
    """Whether a weight takes weight decay: matrices do; norms and the embedding do not."""
    return value.dim() >= 2 and name != "embedding"
