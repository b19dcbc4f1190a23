"""An ordinary model, alone or under DistributedDataParallel, whole or split by the trainer's own layout; DTensor parameters.

Parameters are the masters, or the fp32 tensors that `masters` names for parameters of fewer bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch

from ..errors import InputError
from ..layout import Held, Layout, held
from .base import Adapter, Part, local, plain_name, stepped, unwrapped
from .checks import check_master, check_optimizer, check_shape
from .dtensor import box_of, is_dtensor, laid_out


class Plain(Adapter):
    """Masters that a trainer keeps beside its parameters are copied to them after a change."""

    def __init__(self, model: torch.nn.Module, *args: Any, copies: Iterable[tuple[torch.Tensor, torch.Tensor]] = ()) -> None:
        super().__init__(*args)
        self._model, self._copies = model, list(copies)

    def finish_gradients(self, ours: bool) -> None:
        """PyTorch's own tensor parallelism leaves sums over ranks to whoever reads them."""
        for parameter in self._model.parameters():
            laid_out(parameter)

    def publish(self) -> None:
        """Parameters of fewer bits take the rounded masters."""
        with torch.no_grad():
            for parameter, master in self._copies:
                local(parameter).copy_(local(master))


def plain(
    model: torch.nn.Module,
    optimizer: Any = None,
    layout: Layout | None = None,
    masters: Mapping[str, torch.Tensor] | None = None,
    state: Iterable[str] = (),
    trained_only: bool = False,
) -> Adapter:
    """The adapter for an ordinary model.

    `masters`: by parameter name the fp32 tensor of its shape that the optimizer steps, where the parameter has fewer bits.
    `state`: names of float buffers that belong to the model and are merged as means, such as running statistics.
    `trained_only`: parameters that want no gradient and that no optimizer steps are no part of the run (LoRA). They stay what each
    island has, in whatever format; that it is the same on all, the gate finds out.
    """
    tensors, parts, copies, key = [], [], [], stepped(optimizer)
    buffers = {plain_name(n): b for n, b in unwrapped(model).named_buffers()}
    named = [(plain_name(n), p, False) for n, p in unwrapped(model).named_parameters()]  # a tied one comes once, under its first name
    if trained_only:
        named = [(n, p, s) for n, p, s in named if p.requires_grad or key((masters or {}).get(n, p)) is not None]
    for name in state:
        if name not in buffers:
            raise InputError("state", name, "is no buffer of the model", f"its buffers are {', '.join(buffers) or 'none'}")
        named.append((name, buffers[name], True))
    for name, parameter, is_state in named:
        master = (masters or {}).get(name, parameter)
        frozen = not is_state and not parameter.requires_grad and key(master) is None
        check_master(name, master, "buffer" if is_state else "parameter", "plain" if frozen else "")
        if master.shape != parameter.shape:
            raise InputError(f"master of {name}", list(master.shape), f"the parameter is {list(parameter.shape)}", "give one of its shape")
        called, shape, places = placed(name, parameter, layout)
        check_shape(name, shape, "buffer" if is_state else "parameter")
        tensors.append((called, shape, is_state))
        parts += [Part(place, partial(local, master), key(master), gradient=partial(grad_of, parameter)) for place in places]
        if master is not parameter:
            copies.append((parameter, master))
    check_optimizer(optimizer, [(n, (masters or {}).get(n, p), p.requires_grad) for n, p, is_state in named if not is_state])
    adapter = Plain(model, tensors, parts, optimizer, copies=copies)
    adapter.left_out = len(list(model.parameters())) - sum(not is_state for _, _, is_state in named)
    return adapter


def grad_of(parameter: torch.Tensor) -> torch.Tensor | None:
    """What of a parameter's gradient is in this rank's memory."""
    return None if parameter.grad is None else local(parameter.grad)


def placed(name: str, parameter: torch.Tensor, layout: Layout | None) -> tuple[str, tuple[int, ...], list[Held]]:
    """What of which tensor a parameter is."""
    if is_dtensor(parameter):
        return box_of(name, parameter)
    return held(name, parameter.shape, layout(name, parameter) if layout is not None else None)
