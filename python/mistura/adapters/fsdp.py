"""FSDP: the flat parameters of FullyShardedDataParallel (FSDP1), and the DTensors of fully_shard (FSDP2).

FSDP1 lays the parameters of a wrapped module, with padding, one behind the other into a flat one and cuts that into equal
shards; what of a parameter lies in this rank's shard is a range of its flattened elements. FSDP2's shards are DTensors.
Either keeps whole parameters for a while after a forward pass; what is added to a shard reaches them when they are put away.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Callable

import torch

from ..layout import Layout, held, shard
from .base import Adapter, Part, local, plain_name, stepped, unwrapped
from .checks import check_master, check_optimizer, check_shape
from .dtensor import is_dtensor, laid_out
from .plain import grad_of, placed


class Fsdp(Adapter):
    """The shards are the masters."""

    def __init__(self, model: torch.nn.Module, *args: Any) -> None:
        super().__init__(*args)
        self._model = model

    def publish(self) -> None:
        """Put away whole parameters that were gathered before the shards changed."""
        for _, handle in handles(self._model):
            begun = hasattr(handle.flat_param, "_full_param_padded")  # from its first forward pass on
            if handle.uses_sharded_strategy and begun and not handle.needs_unshard():
                handle.reshard(True)
                handle.post_reshard()
                handle._prefetched = False
        for module in self._model.modules():
            if hasattr(module, "reshard") and hasattr(module, "unshard"):
                module.reshard()

    def finish_gradients(self, ours: bool) -> None:
        """Under tensor parallelism some are still sums over ranks."""
        for parameter in self._model.parameters():
            laid_out(parameter)


def handles(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """The flat parameters of FSDP1 with the name of the module that each is of."""
    for name, module in model.named_modules():
        handle = getattr(module, "_handle", None)
        if hasattr(module, "_fsdp_wrapped_module") and getattr(handle, "flat_param", None) is not None:
            yield name, handle


def local_shard(flat: Any) -> torch.Tensor:
    """This rank's shard of a flat parameter, which before the first forward pass is the parameter itself."""
    shard = getattr(flat, "_local_shard", None)
    return flat.data if shard is None else shard


def is_fsdp(model: torch.nn.Module) -> bool:
    """The model is under FSDP1 or FSDP2."""
    return next(handles(model), None) is not None or any(hasattr(m, "reshard") and hasattr(m, "unshard") for m in model.modules())


def fsdp(model: torch.nn.Module, optimizer: Any = None, layout: Layout | None = None, trained_only: bool = False) -> Adapter:
    """The adapter for a model under FSDP1 or FSDP2; `layout` says how parameters were split before they were sharded.

    `trained_only`: parameters that want no gradient and that no optimizer steps are no part of the run (LoRA); see plain(). FSDP1
    flattens several into one, which is left out when nothing in it is trained.
    """
    inner = unwrapped(model)
    tensors: list[tuple[str, tuple[int, ...], bool]] = []
    parts: list[Part] = []
    flattened: set[int] = set()
    key, left_out = stepped(optimizer), 0
    for prefix, handle in handles(inner):
        flat = handle.flat_param
        flattened.update(id(p) for p in (flat, *(getattr(flat, "_params", None) or ())))
        frozen = not any(p.requires_grad or key(p) is not None for p in (flat, *(getattr(flat, "_params", None) or ())))
        if frozen and trained_only:
            left_out += len(flat._fqns)
            continue
        check_master(plain_name(prefix) or "of the model", local_shard(flat), frozen_in="fsdp" if frozen else "")
        for name, shape, mine in spans(prefix, handle, layout, key):
            tensors.append((name, shape, False))
            parts += mine
    for full, parameter in inner.named_parameters():
        if id(parameter) in flattened:
            continue
        name = plain_name(full)
        frozen = not parameter.requires_grad and key(parameter) is None
        if frozen and trained_only:
            left_out += 1
            continue
        check_master(name, parameter, frozen_in="fsdp" if frozen else "")
        called, shape, places = placed(name, parameter, layout if not is_dtensor(parameter) else None)
        check_shape(name, shape)
        tensors.append((called, shape, False))
        parts += [Part(place, partial(local, parameter), key(parameter), gradient=partial(grad_of, parameter)) for place in places]
    check_optimizer(optimizer, [(plain_name(n), p, p.requires_grad) for n, p in inner.named_parameters()])
    adapter = Fsdp(inner, tensors, parts, optimizer)
    adapter.left_out = left_out
    return adapter


def spans(
    prefix: str, handle: Any, layout: Layout | None, stepped: Callable[[Any], Any]
) -> Iterator[tuple[str, tuple[int, ...], list[Part]]]:
    """Each parameter of a flat one, and what of it lies in this rank's shard."""
    flat = handle.flat_param
    length = local_shard(flat).numel()
    low = length * handle.rank if handle.uses_sharded_strategy else 0
    originals = getattr(flat, "_params", None)
    at = number = 0
    for size, padding in zip(flat._numels_with_padding, flat._is_padding_mask):
        if not padding:
            name = plain_name(f"{prefix}.{flat._fqns[number]}" if prefix else flat._fqns[number])
            shape = tuple(flat._shapes[number])
            check_shape(name, shape)
            whole = torch.empty(shape, device="meta")
            called, full, places = held(name, shape, layout(name, whole) if layout is not None else None)
            first, last = max(low - at, 0), min(low + length - at, size)
            start = max(at - low, 0)  # where the range begins in the shard
            parts = []
            for place in shard(places, shape, first, last) if first < last else []:
                here = (place.offset[0] + start,)
                moved = type(place)(place.piece, here, place.extent)
                key, state_at = (flat, None) if originals is None else (originals[number], place.offset)
                parts.append(Part(moved, partial(local_shard, flat), stepped(key), state_at, partial(getattr, handle, "sharded_grad")))
            yield called, full, parts
            number += 1
        at += size
