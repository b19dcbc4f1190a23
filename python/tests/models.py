"""Configurations that between them turn on every part of the model, and weights so large that every part matters."""

from __future__ import annotations

import numpy as np
import torch
from oracle import config as oracle_config

from mistura.config import Config

# Small enough for float64, and no two extents equal that could be mixed up unseen.
BASE = {
    "vocab": 7, "dim": 6, "layers": 2, "heads": 2, "kv_heads": 2, "head_dim": 4,
    "experts": 3, "top_k": 2, "expert_ffn": 5, "shared_experts": 1,
    "rope_theta": 100.0, "norm_eps": 1e-4, "router": "softmax", "norm_top_k": True,
    "balance_coef": 0.05, "z_coef": 0.02,
}  # fmt: skip

# The list of internal/engine/enginetest, which the native engine is tested with.
CHANGES = {
    "plain": {},
    "grouped queries, no shared expert": {"heads": 6, "kv_heads": 2, "shared_experts": 0},
    "two shared experts, weights as scored": {"shared_experts": 2, "norm_top_k": False},
    "norm head, untied": {"norm_head": True},
    "norm head, tied, one key head": {"norm_head": True, "tied_embeddings": True, "kv_heads": 1},
    "tied, top 1": {"tied_embeddings": True, "top_k": 1},
    "dense first layer": {"dense_layers": 1, "dense_ffn": 9},
    "dense only": {"dense_layers": 2, "dense_ffn": 9, "experts": 0, "top_k": 0},
    "sigmoid": {"router": "sigmoid"},
    "sigmoid, weights as scored, norm of q and k": {"router": "sigmoid", "norm_top_k": False, "qk_norm": True},
    "everything": {
        "heads": 4, "kv_heads": 2, "qk_norm": True, "norm_head": True,
        "layers": 3, "dense_layers": 1, "dense_ffn": 8, "experts": 4, "shared_experts": 2,
    },
    "partial rotary positions": {"head_dim": 6, "rotary_dims": 4},
    "bias": {"router_bias": True, "bias_rate": 0.01},
    "sigmoid, bias, scaled weights": {"router": "sigmoid", "router_bias": True, "bias_rate": 0.01, "routed_scale": 2.5},
    "groups, scaled weights as scored": {"experts": 6, "expert_groups": 3, "top_groups": 2, "norm_top_k": False, "routed_scale": 1.5},
    "sigmoid, groups": {"router": "sigmoid", "experts": 8, "top_k": 3, "expert_groups": 4, "top_groups": 2},
    "routing warm-up": {"routing_warmup_tokens": 1000, "routing_warmup_window": 4},
    "routing of every kind": {
        "layers": 3, "dense_layers": 1, "dense_ffn": 8, "qk_norm": True, "rotary_dims": 2,
        "router": "sigmoid", "router_bias": True, "bias_rate": 0.01, "routed_scale": 2.0,
        "experts": 6, "expert_groups": 3, "top_groups": 2, "top_k": 3,
        "routing_warmup_tokens": 1000, "routing_warmup_window": 4,
    },
    "no router losses": {"balance_coef": 0.0, "z_coef": 0.0},
}  # fmt: skip

NAMES = list(CHANGES)


def config(name: str) -> Config:
    """One of the configurations."""
    return Config(**{**BASE, **CHANGES[name]})


def for_oracle(name: str) -> oracle_config.Config:
    """The same for the oracle."""
    return oracle_config.Config(**{**BASE, **CHANGES[name]})


def weights(name: str, deviation: float = 0.4, seed: int = 1) -> dict[str, torch.Tensor]:
    """Weights in float64 that fp32 holds exactly."""
    draw = np.random.RandomState(seed)
    made = {}
    for tensor, shape in for_oracle(name).shapes().items():
        value = draw.standard_normal(shape).astype(np.float32) * np.float32(deviation)
        if tensor.endswith("norm"):
            value = 1 + value * np.float32(0.25)
        if tensor.endswith("router_stats"):
            value = np.array([0.1, 1.5], np.float32)
        made[tensor] = torch.from_numpy(value.astype(np.float64))
    return made


def tokens(rows: int, length: int, vocab: int, seed: int = 2) -> torch.Tensor:
    """Token numbers [rows, length]."""
    return torch.from_numpy(np.random.RandomState(seed).randint(0, vocab, (rows, length)).astype(np.int64))
