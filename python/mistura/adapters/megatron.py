"""Megatron-core's optimizers: fp32 masters of half-precision parameters, whole or sharded over data-parallel ranks.

The distributed optimizer cuts its buckets into equal shards; what of a parameter lies in this rank's shard is a range of its
flattened elements, and its master a flat fp32 tensor of just these (Megatron-core: DistributedOptimizer, attributes
model_float16_groups, shard_fp32_from_float16_groups, model_fp32_groups, shard_fp32_groups, _get_model_param_range_map). Without it
masters are whole (Float16OptimizerWithFloat16Params: float16_groups, fp32_from_float16_groups, fp32_from_fp32_groups), or there are
none (FP32Optimizer). Masters that are offloaded to the CPU are HybridDeviceOptimizer's, of either (param_to_inner_param).

Gradients are in main_grad, a view of the buckets. They are this rank's own until a schedule has called finalize_model_grads.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from ..errors import InputError
from ..layout import Layout, held, shard
from .base import SLOTS, Adapter, Part, adam, listed, plain_name, unwrapped
from .checks import check_master, check_shape
from .dtensor import is_dtensor


class Megatron(Adapter):
    """Masters are the optimizers'; publish() copies them to the parameters and gathers these over data-parallel ranks."""

    def __init__(self, optimizers: Sequence[Any], chunks: Sequence[Any], *args: Any) -> None:
        super().__init__(*args)
        self._optimizers, self._chunks = list(optimizers), list(chunks)

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
            back_from_cpu(one.optimizer)
            if hasattr(one, "_copy_main_params_to_model_params"):
                one._copy_main_params_to_model_params()
        for chunk in chunks:
            chunk.start_param_sync(force_sync=True)

    # Gradients.

    def clear_gradients(self) -> None:
        """Backward passes add to main_grad, which only this clears.

        With overlap_grad_reduce the first step shows how often each gradient is added to, after which its reduction begins on
        its own: a probe is no step to learn that from, nor one to apply it to.
        """
        for group in self._reductions():
            group.is_first_batch = False
        for chunk in self._chunks:
            if hasattr(chunk, "zero_grad_buffer"):
                chunk.zero_grad_buffer()
        for group in self._reductions():
            group.is_first_batch = True

    def _reductions(self) -> Iterator[Any]:
        for chunk in self._chunks:
            for group in (*getattr(chunk, "bucket_groups", ()), *getattr(chunk, "expert_parallel_bucket_groups", ())):
                if hasattr(group, "is_first_batch"):
                    yield group

    def finish_gradients(self, ours: bool) -> None:
        """As after the last micro-batch of a step. A schedule that has run the backward pass has done it when it was told to."""
        chunks = [chunk for chunk in self._chunks if hasattr(chunk, "finish_grad_sync")]
        config = getattr(chunks[0], "config", None) if chunks else None
        given = getattr(config, "finalize_model_grads_func", None)
        if not chunks or given is not None and not ours:
            return
        finish = given or getattr(sys.modules.get("megatron.core.distributed"), "finalize_model_grads", None)
        if finish is None:
            for chunk in chunks:
                chunk.finish_grad_sync()
        elif getattr(config, "calculate_per_token_loss", False):  # gradients are sums over ranks, which are divided by the sum of these
            finish(chunks, torch.ones(1, dtype=torch.int, device=next(chunks[0].parameters()).device))
        else:
            finish(chunks)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Megatron has generators of its own for what tensor-parallel ranks draw apart. See also clear_gradients()."""
        tracker: Any = getattr(sys.modules.get("megatron.core.tensor_parallel.random"), "_CUDA_RNG_STATE_TRACKER", None)
        before = {} if tracker is None else {name: kept(state) for name, state in tracker.get_states().items()}
        learned = [(g, g.is_first_batch, getattr(g, "golden_per_param_grad_ready_counts", None)) for g in self._reductions()]
        try:
            yield
        finally:
            if before:
                tracker.set_states({name: put_back(before[name], state) for name, state in tracker.get_states().items()})
            for group, first, counts in learned:
                group.is_first_batch, group.golden_per_param_grad_ready_counts = first, counts

    # Optimizer state.

    def slots(self) -> list[str]:
        """Adam's moments, when every optimizer inside has them."""
        return list(SLOTS) if all(adam(one) for one in self._inner()) else []

    def _inner(self) -> list[Any]:
        return [sub for one in self._optimizers for sub in getattr(one.optimizer, "sub_optimizers", [one.optimizer])]

    def _stepped(self, key: Any) -> tuple[Any, torch.Tensor]:
        inner, tensor = key
        if not hasattr(inner, "sub_optimizers"):
            return inner, tensor
        tensor = inner.param_to_inner_param[tensor]
        return next(sub for sub in inner.sub_optimizers if any(p is tensor for g in sub.param_groups for p in g["params"])), tensor

    def forget(self) -> None:
        """Moments begin anew; an offloading optimizer has a list of its own of what those inside keep."""
        super().forget()
        for one in self._optimizers:
            one.optimizer.state.clear()

    def scale(self) -> tuple[float, int]:
        """The loss scale and the steps since it last changed; 0: it never changes, or there is none."""
        return next(((float(s.scale), int(s._growth_tracker)) for s in self._scalers()), (0.0, 0))

    def set_scale(self, value: float, steps: int) -> None:
        """Go on with a loss scale."""
        for scaler in self._scalers():
            scaler._scale, scaler._growth_tracker = torch.full_like(scaler._scale, value), steps

    def _scalers(self) -> Iterator[Any]:
        for one in self._optimizers:
            if hasattr(getattr(one, "grad_scaler", None), "_growth_tracker"):
                yield one.grad_scaler


def kept(state: Any) -> torch.Tensor:
    """A generator's state, which Megatron keeps as that or, for captured graphs, as the generator itself."""
    return state.get_state() if hasattr(state, "get_state") else state.clone()


def put_back(before: torch.Tensor, state: Any) -> Any:
    """The generator or state as it was."""
    if not hasattr(state, "set_state"):
        return before
    state.set_state(before)
    return state


def is_megatron(optimizer: Any) -> bool:
    """One of Megatron-core's optimizers, or a chain of them."""
    return any(hasattr(one, "_copy_main_params_to_model_params") or hasattr(one, "reload_model_params") for one in chained(optimizer))


def chained(optimizer: Any) -> list[Any]:
    """Dense and expert parameters have optimizers of their own."""
    return [sub for one in listed(optimizer) for sub in getattr(one, "chained_optimizers", None) or [one]]


def megatron(model: Any, optimizer: Any, layout: Layout | Sequence[Layout] | None = None) -> Adapter:
    """The adapter for a model trained by Megatron-core.

    `model` is a module or the list of its chunks (interleaved pipeline); `layout` one callable, or one a chunk. See
    mistura.layout.megatron.
    """
    chunks = list(model) if isinstance(model, (list, tuple)) else [model]
    layouts = list(layout) if isinstance(layout, (list, tuple)) else [layout] * len(chunks)
    if len(layouts) != len(chunks):
        raise InputError("layout", len(layouts), f"the model has {len(chunks)} chunks", "give one layout, or one for each chunk")
    check_kind(optimizer, chunks)
    optimizers = [one for one in chained(optimizer) if getattr(one, "optimizer", None) is not None]  # stubs step nothing
    masters = {id(m.parameter): m for one in optimizers for m in mains(one)}
    sharded = any(hasattr(one, "_get_model_param_range_map") for one in optimizers)
    tensors: list[tuple[str, tuple[int, ...], bool]] = []
    parts: list[Part] = []
    for chunk, say in zip(chunks, layouts):
        for full, parameter in unwrapped(chunk).named_parameters():
            name = plain_name(full)
            called, shape, places = held(name, parameter.shape, say(name, parameter) if say is not None else None)
            check_shape(name, shape)
            tensors.append((called, shape, False))
            found = masters.get(id(parameter))
            if found is None and sharded and parameter.requires_grad:
                continue  # all of it lies in another rank's shard
            mine = found or Main(parameter, parameter, None, None)
            check_master(name, mine.master(name))
            if mine.span is not None:
                places = shard(places, parameter.shape, *mine.span)
            key = None if found is None else (mine.inner, mine.given)
            parts += [Part(place, partial(mine.master, name), key, gradient=mine.gradient) for place in places]
    return Megatron(optimizers, chunks, tensors, parts, None)


def check_kind(optimizer: Any, chunks: Sequence[Any]) -> None:
    """Ways in which Megatron-core can shard that are others than the distributed optimizer's."""
    what = None
    if hasattr(optimizer, "shard_params"):
        what = f"{type(optimizer).__name__} shares layers out over data-parallel ranks"
    if any(getattr(getattr(chunk, "ddp_config", None), "use_megatron_fsdp", False) for chunk in chunks):
        what = "Megatron-FSDP keeps its shards in buffers of its own"
    if any(is_dtensor(p) for chunk in chunks for p in chunk.parameters()):
        what = "DTensor parameters have masters that are DTensors"
    if what is not None:
        raise InputError("optimizer", None, f"{what}, which this adapter does not know", "train with --use-distributed-optimizer alone")


@dataclass(frozen=True)
class Main:
    """A parameter, the tensor that the optimizer inside was given for it, and the range of its flattened elements that this is of."""

    parameter: torch.Tensor
    given: Any
    """None, or a shard of fewer bits: the optimizer inside has the fp32 master."""
    span: tuple[int, int] | None
    """None: all of it."""
    inner: Any

    def master(self, name: str) -> torch.Tensor:
        """The fp32 tensor that is stepped."""
        if self.given is None:
            problem = "its fp32 master is inside the precision-aware optimizer"
            raise InputError(
                f"parameter {name}", None, problem, "train without --use-precision-aware-optimizer, or with --optimizer-cpu-offload"
            )
        return getattr(self.inner, "param_to_inner_param", {}).get(self.given, self.given)

    def gradient(self) -> torch.Tensor | None:
        """What of the parameter's gradient is the master's."""
        found = getattr(self.parameter, "main_grad", None)
        found = self.parameter.grad if found is None else found
        return found if found is None or self.span is None else found.view(-1)[slice(*self.span)]


def mains(one: Any) -> Iterator[Main]:
    """What one of Megatron's optimizers steps."""
    inner = one.optimizer
    offloaded = hasattr(inner, "param_to_inner_param")
    if hasattr(one, "_get_model_param_range_map"):
        halves = zip(one.model_float16_groups, one.shard_float16_groups, one.shard_fp32_from_float16_groups)
        pairs = [(p, m if m is not None or not offloaded else s) for group in halves for p, s, m in zip(*group)]
        pairs += [pair for groups in zip(one.model_fp32_groups, one.shard_fp32_groups) for pair in zip(*groups)]
        for parameter, given in pairs:
            span = one._get_model_param_range_map(parameter)["param"]
            yield Main(parameter, given, (span.start, span.end), inner)
        return
    for group, given in zip(getattr(one, "float16_groups", ()), getattr(one, "fp32_from_float16_groups", ())):
        yield from (Main(p, m, None, inner) for p, m in zip(group, given))
    rest = getattr(one, "fp32_from_fp32_groups", None)
    for group in rest if rest is not None else [g["params"] for g in inner.param_groups if not hasattr(one, "float16_groups")]:
        yield from (Main(p, p, None, inner) for p in group)


def back_from_cpu(inner: Any) -> None:
    """Masters that an offloading optimizer keeps go to the tensors that it was given, as after its step."""
    with torch.no_grad():
        for given, master in getattr(inner, "param_to_inner_param", {}).items():
            if master is not given:
                given.data.copy_(master)
