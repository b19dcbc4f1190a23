"""The configuration of a model, under the names that it has in a run file."""

from __future__ import annotations

import difflib
from dataclasses import MISSING, dataclass, fields
from typing import Any

from .errors import InputError

SOFTMAX = "softmax"
SIGMOID = "sigmoid"


def from_json(cls: type, where: str, value: Any) -> Any:
    """Build a flat dataclass from a JSON object: every key known, every type right."""
    if not isinstance(value, dict):
        raise InputError(where, value, "is not an object", "give the keys of " + cls.__name__)
    types = {f.name: f.type for f in fields(cls)}
    for key, v in value.items():
        if key not in types:
            close = difflib.get_close_matches(key, list(types), n=1)
            raise InputError(where, key, "is not a known key", f"did you mean {close[0]}?" if close else "known: " + ", ".join(types))
        kind = str(types[key])
        good = {
            "bool": isinstance(v, bool),
            "int": isinstance(v, int) and not isinstance(v, bool),
            "float": isinstance(v, (int, float)) and not isinstance(v, bool),
            "str": isinstance(v, str),
        }[kind]
        if not good:
            raise InputError(f"{where}.{key}", v, f"is not of type {kind}", "correct it")
    for f in fields(cls):
        if f.name not in value and f.default is MISSING:
            raise InputError(f"{where}.{f.name}", None, "is missing", "give it")
    return cls(**value)


@dataclass(frozen=True)
class Config:
    """One decoder-only Mixture of Experts; the meaning of each field is in docs/formats/run.md."""

    name: str = ""
    vocab: int = 0
    dim: int = 0
    layers: int = 0
    heads: int = 0
    kv_heads: int = 0
    head_dim: int = 0
    dense_layers: int = 0
    dense_ffn: int = 0
    experts: int = 0
    top_k: int = 0
    expert_ffn: int = 0
    shared_experts: int = 0
    rope_theta: float = 0.0
    rotary_dims: int = 0
    norm_eps: float = 0.0
    router: str = SOFTMAX
    norm_top_k: bool = False
    expert_groups: int = 0
    top_groups: int = 0
    routed_scale: float = 0.0
    router_bias: bool = False
    bias_rate: float = 0.0
    routing_warmup_tokens: int = 0
    routing_warmup_window: int = 0
    qk_norm: bool = False
    norm_head: bool = False
    tied_embeddings: bool = False
    balance_coef: float = 0.0
    z_coef: float = 0.0
    init_std: float = 0.0

    def check(self, where: str) -> None:
        """Refuse what cannot be computed; the program itself checks the rest."""
        if self.router not in (SOFTMAX, SIGMOID):
            raise InputError(f"{where}.router", self.router, "is not a kind of router", f"choose {SOFTMAX} or {SIGMOID}")
        for key in ("vocab", "dim", "layers", "heads", "kv_heads", "head_dim"):
            if getattr(self, key) < 1:
                raise InputError(f"{where}.{key}", getattr(self, key), "is too small", "use at least 1")
        if self.heads % self.kv_heads:
            raise InputError(f"{where}.heads", self.heads, "is not a multiple of kv_heads", f"use a multiple of {self.kv_heads}")

    def dense(self, layer: int) -> bool:
        """Whether the layer has one dense MLP instead of experts."""
        return layer < self.dense_layers

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight with its shape; matrices are [out, in]."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"embedding": (self.vocab, self.dim), "norm": (self.dim,)}
        if not self.tied_embeddings:
            shapes["head"] = (self.vocab, self.dim)

        def mlp(prefix: str, width: int) -> None:
            shapes[prefix + "gate"] = shapes[prefix + "up"] = (width, self.dim)
            shapes[prefix + "down"] = (self.dim, width)

        for layer in range(self.layers):
            p = f"layers.{layer}."
            shapes[p + "attention.norm"] = shapes[p + "mlp.norm"] = (self.dim,)
            shapes[p + "attention.q"] = (queries, self.dim)
            shapes[p + "attention.k"] = shapes[p + "attention.v"] = (keys, self.dim)
            shapes[p + "attention.o"] = (self.dim, queries)
            if self.qk_norm:
                shapes[p + "attention.q_norm"] = shapes[p + "attention.k_norm"] = (self.head_dim,)
            if self.dense(layer):
                mlp(p + "dense.", self.dense_ffn)
                continue
            shapes[p + "router"] = (self.experts, self.dim)
            if self.router_bias:
                shapes[p + "router_bias"] = (self.experts,)
            if self.routing_warmup_tokens:
                shapes[p + "router_stats"] = (2,)
            for e in range(self.experts):
                mlp(f"{p}experts.{e}.", self.expert_ffn)
            if self.shared_experts:
                mlp(p + "shared.", self.expert_ffn * self.shared_experts)
        return shapes


def is_state(name: str) -> bool:
    """Whether a tensor is state of the router, which no gradient reaches."""
    return name.endswith((".router_bias", ".router_stats"))


def decays(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a weight takes weight decay: matrices do; norms and the embedding do not."""
    return len(shape) == 2 and name != "embedding"
