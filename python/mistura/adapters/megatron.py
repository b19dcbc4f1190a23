"""Megatron-core's optimizers: fp32 masters of half-precision parameters, whole or sharded over data-parallel ranks.

The distributed optimizer cuts its buckets into equal shards; what of a parameter lies in this rank's shard is a range of its
flattened elements, and its master a flat fp32 tensor of just these (Megatron-core: DistributedOptimizer, attributes
model_float16_groups, shard_fp32_from_float16_groups, model_fp32_groups, shard_fp32_groups, _get_model_param_range_map). Without it
masters are whole (Float16OptimizerWithFloat16Params: float16_groups, fp32_from_float16_groups, fp32_from_fp32_groups).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ..errors import InputError
from ..layout import Layout, held, shard
from .base import SLOTS, Adapter, Part, adam, check_master, plain_name, unwrapped


class Megatron(Adapter):
    """Masters are the optimizers'; publish() copies them to the parameters and gathers these over data-parallel ranks."""

    def __init__(self, optimizers: Sequence[Any], *args: Any) -> None:
        super().__init__(*args)
        self._optimizers = list(optimizers)

    def publish(self) -> None:
        """As after a step of the optimizer, all of it before the next forward pass.

        With overlap_param_gather a gather of older values may be under way, and a forced one only waits for that.
        """
        sharded = [one for one in self._optimizers if hasattr(one, "_get_model_param_range_map")]
        chunks = {id(chunk): chunk for one in sharded for chunk in one.model_chunks}.values()
        for chunk in chunks:
            if getattr(getattr(chunk, "ddp_config", None), "overlap_param_gather", False):
                chunk.start_param_sync(force_sync=True)
        for one in self._optimizers:
            if hasattr(one, "_copy_main_params_to_model_params"):
                one._copy_main_params_to_model_params()
        for chunk in chunks:
            chunk.start_param_sync(force_sync=True)

    def gradient(self, piece: Any) -> torch.Tensor | None:
        """The masters' gradients are made from the parameters' when the optimizer steps, and here."""
        for one in self._optimizers:
            if hasattr(one, "_copy_model_grads_to_main_grads"):
                one._copy_model_grads_to_main_grads()
        return super().gradient(piece)

    def slots(self) -> list[str]:
        """Adam's moments, when every optimizer inside has them."""
        return list(SLOTS) if all(adam(one.optimizer) for one in self._optimizers) else []

    def _state(self, part: Part) -> dict[str, Any]:
        optimizer, key = part.key
        state = optimizer.state[key]
        if "exp_avg" not in state:
            for name in SLOTS.values():
                state[name] = torch.zeros_like(key)
        return state

    def steps(self) -> int:
        """Steps by the optimizers' own count: in the state (PyTorch) or in the group (fused)."""
        counts = [0]
        for one in self._optimizers:
            counts += [int(s["step"]) for s in one.optimizer.state.values() if "step" in s]
            counts += [int(g["step"]) for g in one.optimizer.param_groups if "step" in g]
        return max(counts)

    def set_steps(self, n: int) -> None:
        """Set that count."""
        for one in self._optimizers:
            fused = any("step" in g for g in one.optimizer.param_groups)
            for group in one.optimizer.param_groups:
                if fused:
                    group["step"] = n
        for part in self._parts:
            if part.key is None:
                continue
            state = self._state(part)
            if "step" in state or not any("step" in g for g in part.key[0].param_groups):
                state["step"] = torch.tensor(float(n)) if not torch.is_tensor(state.get("step")) else state["step"].fill_(n)

    def forget(self) -> None:
        """Moments begin anew."""
        for one in self._optimizers:
            one.optimizer.state.clear()
            for group in one.optimizer.param_groups:
                if "step" in group:
                    group["step"] = 0


def is_megatron(optimizer: Any) -> bool:
    """One of Megatron-core's optimizers, or a chain of them."""
    return any(hasattr(one, "_copy_main_params_to_model_params") for one in chained(optimizer))


def chained(optimizer: Any) -> list[Any]:
    """Dense and expert parameters have optimizers of their own."""
    return list(getattr(optimizer, "chained_optimizers", None) or [optimizer])


def megatron(model: Any, optimizer: Any, layout: Layout | Sequence[Layout] | None = None) -> Adapter:
    """The adapter for a model trained by Megatron-core.

    `model` is a module or the list of its chunks (interleaved pipeline); `layout` one callable, or one a chunk. See
    mistura.layout.megatron.
    """
    chunks = list(model) if isinstance(model, (list, tuple)) else [model]
    layouts = list(layout) if isinstance(layout, (list, tuple)) else [layout] * len(chunks)
    if len(layouts) != len(chunks):
        raise InputError("layout", len(layouts), f"the model has {len(chunks)} chunks", "give one layout, or one for each chunk")
    optimizers = chained(optimizer)
    masters = {id(p): (main, span, inner) for one in optimizers for p, main, span, inner in mains(one)}
    sharded = any(hasattr(one, "_get_model_param_range_map") for one in optimizers)
    tensors: list[tuple[str, tuple[int, ...], bool]] = []
    parts: list[Part] = []
    for chunk, say in zip(chunks, layouts):
        for full, parameter in unwrapped(chunk).named_parameters():
            name = plain_name(full)
            called, shape, places = held(name, parameter.shape, say(name, parameter) if say is not None else None)
            tensors.append((called, shape, False))
            found = masters.get(id(parameter))
            if found is None and sharded and parameter.requires_grad:
                continue  # all of it lies in another rank's shard
            main, span, inner = found or (parameter, None, None)
            if main is None:
                problem = "its fp32 master is inside the precision-aware optimizer"
                raise InputError(f"parameter {name}", None, problem, "train without --use-precision-aware-optimizer")
            check_master(name, main)
            if span is not None:
                places = shard(places, parameter.shape, *span)
            parts += [Part(place, lambda m=main: m, None if inner is None else (inner, main)) for place in places]
    return Megatron(optimizers, tensors, parts, None)


def mains(one: Any) -> Iterator[tuple[torch.Tensor, Any, tuple[int, int] | None, Any]]:
    """Of one optimizer: parameter, fp32 master, the range of the flattened parameter that it is of (None: all), optimizer inside."""
    inner = one.optimizer
    if hasattr(one, "_get_model_param_range_map"):
        pairs = [(one.model_float16_groups, one.shard_fp32_from_float16_groups), (one.model_fp32_groups, one.shard_fp32_groups)]
        for parameters, main in ((p, m) for groups, shards in pairs for g, s in zip(groups, shards) for p, m in zip(g, s)):
            span = one._get_model_param_range_map(parameters)["param"]
            yield parameters, main, (span.start, span.end), inner
        return
    for group, main in zip(getattr(one, "float16_groups", ()), getattr(one, "fp32_from_float16_groups", ())):
        for parameter, master in zip(group, main):
            yield parameter, master, None, inner
    rest = getattr(one, "fp32_from_fp32_groups", None)
    for group in rest if rest is not None else [g["params"] for g in inner.param_groups if not hasattr(one, "float16_groups")]:
        for parameter in group:
            yield parameter, parameter, None, inner
