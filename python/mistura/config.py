"""What a run says of its model and its training, under the names that a run file uses.

``docs/formats/run.md`` gives unit, default and the meaning of zero of every key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

from .errors import InputError

SOFTMAX = "softmax"
SIGMOID = "sigmoid"

_Section = TypeVar("_Section")


@dataclass(frozen=True)
class Config:
    """One decoder-only Mixture of Experts; two equal configurations have the same tensors."""

    vocab: int
    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    norm_eps: float
    dense_layers: int = 0
    dense_ffn: int = 0
    experts: int = 0
    top_k: int = 0
    expert_ffn: int = 0
    shared_experts: int = 0
    rotary_dims: int = 0
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

    def dense(self, layer: int) -> bool:
        """Whether the layer has one dense MLP in place of experts."""
        return layer < self.dense_layers

    @property
    def turned(self) -> int:
        """Leading elements of a head that rotary positions turn."""
        return self.rotary_dims or self.head_dim

    @property
    def grouped(self) -> bool:
        """Whether tokens choose groups of experts before experts."""
        return self.expert_groups > 1


@dataclass(frozen=True)
class Training:
    """The inner optimisation of an island. The rate is not here: the run says it step by step."""

    sequence_tokens: int
    batch_sequences: int  # samples of one forward and backward pass
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    clip_norm: float  # 0: never


def section(cls: type[_Section], run: Mapping[str, Any], name: str) -> _Section:
    """Take what a dataclass names out of one section of a resolved run."""
    values = run.get(name)
    if not isinstance(values, Mapping):
        raise InputError(name, values, "is not a section of a resolved run", "start trainer and mistura from one release")
    known = {}
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name in values:
            known[f.name] = _checked(f"{name}.{f.name}", str(f.type), values[f.name])
        elif f.default is MISSING:
            raise InputError(f"{name}.{f.name}", None, "is missing from the resolved run", "start trainer and mistura from one release")
    return cls(**known)


def _checked(where: str, kind: str, value: Any) -> Any:
    """A value of the type that the field declares; whole numbers may stand for fractions."""
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    types = {"int": int, "float": float, "bool": bool, "str": str}
    if type(value) is not types[kind]:
        raise InputError(where, value, f"is not of type {kind}", "correct the run file")
    return value
