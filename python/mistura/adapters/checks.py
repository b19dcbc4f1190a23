"""What an adapter refuses: parameters that cannot be exchanged, and an optimizer that is not this model's."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from ..errors import InputError
from .base import listed

log = logging.getLogger("mistura")


def check_shape(name: str, shape: Sequence[int], what: str = "parameter") -> None:
    """A whole tensor has elements; what one rank holds of it may have none."""
    if not math.prod(shape):
        raise InputError(f"{what} {name}", None, "has no elements", "take it out of the model, or make it a buffer")


def check_master(name: str, tensor: torch.Tensor, what: str = "parameter", frozen_in: str = "") -> None:
    """Weights are fp32 values that are there; fewer bits would lose what small updates add.

    `frozen_in`: the adapter by which a parameter that nothing trains can be left out.
    """
    problem, mend = unfit(tensor)
    if problem and frozen_in:
        mend = f"nothing trains it: leave it out of the run with adapter=mistura.adapters.{frozen_in}(model, optimizer, trained_only=True)"
    if problem:
        raise InputError(f"{what} {name}", None, problem, mend)


def unfit(tensor: torch.Tensor) -> tuple[str, str]:
    """Why a tensor cannot be exchanged and what to do about it; two empty texts when it can."""
    kind = str(tensor.dtype).replace("torch.", "")
    if is_lazy(tensor):
        return "has no shape yet", "run a batch through the model before mistura.join()"
    if tensor.device.type == "meta":
        return "is on the meta device and has no values", "give it memory before mistura.join(), as model.to_empty(device=...) does"
    if not tensor.is_floating_point():
        return f"is {kind}, of which there is no mean", "keep it out of the exchange, as a buffer that is no state"
    if tensor.dtype == torch.float32:
        return "", ""
    mend = "keep the model in fp32 and compute under torch.autocast, or give adapter= one that has masters"
    if tensor.dtype == torch.float64:
        return "is float64, and weights are exchanged in fp32", mend
    return f"is {kind} and has no fp32 master, so that small updates are lost in rounding", mend


def check_optimizer(optimizer: Any, named: Iterable[tuple[str, torch.Tensor, bool]]) -> None:
    """Optimizers step tensors of this model, each of them once; what they miss, or have besides, is said.

    `named`: by parameter its name, the tensor that is to be stepped for it, and whether it is trained.
    """
    optimizers = listed(optimizer)
    if not optimizers:
        return
    kind, several = " and ".join(type(one).__name__ for one in optimizers), len(optimizers) > 1
    stepping = [key for one in optimizers for key in {id(p) for group in one.param_groups for p in group["params"]}]
    known = set(stepping)
    ours = {id(tensor): name for name, tensor, trained in named if trained or id(tensor) in known}
    missed = [name for key, name in ours.items() if key not in known]
    if ours and len(missed) == len(ours):
        problem = f"steps none of this model's parameters, such as {missed[0]}"
        raise InputError("optimizer", kind, problem, "make it of model.parameters(), after the model was wrapped or sharded")
    if len(stepping) > len(known):
        twice = next(key for key in stepping if stepping.count(key) > 1)
        where = f"parameter {ours.get(twice, 'that is not of the model')}"
        raise InputError(where, None, f"is stepped by two of the optimizers {kind}", "leave it to one of them")
    who = ("optimizers " if several else "optimizer ") + kind
    if missed:
        more = f" and {len(missed) - 1} more" if len(missed) > 1 else ""
        does = "do" if several else "does"
        log.warning("%s %s not step parameter %s%s: they train here only if something else does", who, does, missed[0], more)
    if strange := len(known - ours.keys()):
        log.warning("%s %s tensors that are not the model's (%d): they are not exchanged", who, "step" if several else "steps", strange)
