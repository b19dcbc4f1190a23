"""What an engine holds, as the exchange sees it: tensors of the run, pieces of them, fp32 weights to read and to add to.

An adapter lists the pieces of this rank and gives, for each, a view of its fp32 values: the *master*, which the optimizer
changes. A view has the piece's extent and is asked for anew each time, for engines move their memory. `publish()` brings
masters that were changed to where the engine computes. Optimizer state is one value a weight: `moment1` and `moment2` of Adam.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable

import torch

from ..errors import InputError
from ..layout import Held, Piece, Shape, numbered

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What torch.compile, FSDP and checkpoint wrappers put into a parameter's name."""

SLOTS = {"moment1": "exp_avg", "moment2": "exp_avg_sq"}
"""Optimizer state by the run's name, and by PyTorch's."""


@dataclass
class Part:
    """A piece and where its values are."""

    held: Held
    master: Callable[[], torch.Tensor]
    """The fp32 tensor that has it now."""
    key: Any
    """What the optimizer files its state under; None: it does not step this."""
    state_at: Shape | None = None
    """First element in the optimizer's state, where that is cut otherwise than the master."""
    gradient: Callable[[], torch.Tensor | None] | None = None
    """The gradient, laid out as the master is; None: it is the master's own."""


class Adapter:
    """The pieces of one rank. Engines differ in how the list is made and in what publish() does."""

    left_out = 0
    """Parameters of the model that are no part of the run, for nothing trains them."""

    def __init__(self, tensors: Iterable[tuple[str, Shape, bool]], parts: Sequence[Part], optimizer: Any = None) -> None:
        self._tensors = list(tensors)
        self._parts = list(parts)
        self._optimizers = listed(optimizer)
        self._owner = {id(p): one for one in self._optimizers for group in one.param_groups for p in group["params"]}
        self._unstepped: dict[int, torch.Tensor] = {}  # zeros for what no optimizer steps
        self._place: dict[Piece, int] = {}
        self._index()

    def _index(self) -> None:
        self._place = {p.held.piece: i for i, p in enumerate(self._parts)}

    def number(self, rank: int, others: Callable[[bytes], Sequence[bytes]]) -> None:
        """Say which pieces other ranks hold too; all ranks call it. See mistura.layout.numbered."""
        pieces = numbered(self.pieces(), rank, others)
        self._parts = [replace(p, held=replace(p.held, piece=piece)) for p, piece in zip(self._parts, pieces)]
        self._index()

    def tensors(self) -> list[dict[str, Any]]:
        """Name and shape of what this rank knows of the model."""
        return [{"name": name, "shape": list(shape), "state": state} for name, shape, state in self._tensors]

    def pieces(self) -> list[Piece]:
        """What this rank owns."""
        return [p.held.piece for p in self._parts]

    def weights(self, piece: Piece) -> torch.Tensor:
        """The fp32 values of a piece, to be read and changed in place; its extent."""
        part = self._parts[self._place[piece]]
        return cut(part.master().detach(), part.held, part.held.offset)

    def gradient(self, piece: Piece) -> torch.Tensor | None:
        """The gradient of a piece after a backward pass; None: there is none."""
        part = self._parts[self._place[piece]]
        value = part.master().grad if part.gradient is None else part.gradient()
        return None if value is None else cut(value.detach(), part.held, part.held.offset)

    def publish(self) -> None:
        """Bring changed masters to where the engine computes; all ranks call it at the same boundary."""

    # Optimizer state.

    def slots(self) -> list[str]:
        """Optimizer state that can be given and taken, one value a weight: Adam's two moments, when every optimizer has them, or none."""
        return list(SLOTS) if self._optimizers and all(adam(one) for one in self._optimizers) else []

    def slot(self, piece: Piece, name: str) -> torch.Tensor:
        """The fp32 values of a piece's optimizer state, to be read and changed in place. Zero when no step was made yet."""
        part = self._parts[self._place[piece]]
        if part.key is None:
            return self._unstepped.setdefault(self._place[piece], torch.zeros(piece.extent, device="cpu"))
        value = local(self._state(part)[SLOTS[name]])
        if value.dtype != torch.float32:
            raise InputError(f"optimizer state of {piece.name}", str(value.dtype), "is not kept in fp32", "keep it in fp32")
        return cut(value, part.held, part.held.offset if part.state_at is None else part.state_at)

    def steps(self) -> int:
        """Steps that the optimizer has made, by its own count (bias correction): in the state (PyTorch) or in the group (fused)."""
        counts = [s["step"] for one in self._inner() for s in one.state.values() if "step" in s]
        counts += [g["step"] for one in self._inner() for g in one.param_groups if "step" in g]
        return max(map(int, counts), default=0)

    def set_steps(self, n: int) -> None:
        """Set that count."""
        for one in self._inner():
            if counts_by_group(one):
                for group in one.param_groups:
                    count(group, n)
        for part in self._parts:
            if part.key is not None and "step" in self._state(part):
                count(self._state(part), n)

    def forget(self) -> None:
        """Moments begin anew."""
        for one in self._inner():
            one.state.clear()
            for group in one.param_groups:
                if "step" in group:
                    count(group, 0)

    def _inner(self) -> list[Any]:
        """The PyTorch optimizers that make the steps."""
        return self._optimizers

    def _stepped(self, key: Any) -> tuple[Any, torch.Tensor]:
        """The optimizer that files a part's state, and the tensor that it is filed under."""
        return self._owner[id(key)], key

    def _state(self, part: Part) -> dict[str, Any]:
        """The optimizer's state of a part, as it is before the first step when there is none."""
        optimizer, key = self._stepped(part.key)
        state = optimizer.state[key]
        if "step" not in state and not counts_by_group(optimizer):
            state["step"] = no_steps(optimizer, key)
        if "exp_avg" not in state:
            for name in SLOTS.values():
                state[name] = torch.zeros_like(key, memory_format=torch.preserve_format)
        return state

    # What the gate needs besides: its forward and backward pass leave nothing.

    def clear_gradients(self) -> None:
        """Forget gradients that an engine keeps elsewhere than in the parameters' grad."""

    def finish_gradients(self, ours: bool) -> None:
        """After a backward pass, before gradients are read: what is still a sum over ranks is summed. All ranks call it.

        `ours`: the gate has run the backward pass; else it was the trainer.
        """

    def aside(self) -> contextlib.AbstractContextManager[Any]:
        """While it lasts, what an engine draws and counts is thrown away."""
        return contextlib.nullcontext()


def counts_by_group(optimizer: Any) -> bool:
    """Apex's and Transformer Engine's FusedAdam keep one count for a group, and none in the state."""
    return any(c.__name__ == "FusedAdam" for c in type(optimizer).__mro__)


def no_steps(optimizer: Any, key: torch.Tensor) -> torch.Tensor:
    """PyTorch's count before the first step: beside the parameter where a kernel on its device reads it."""
    group: dict[str, Any] = next((g for g in optimizer.param_groups if any(p is key for p in g["params"])), {})
    return torch.zeros((), dtype=torch.float32, device=key.device if group.get("fused") or group.get("capturable") else "cpu")


def count(holder: dict[str, Any], n: int) -> None:
    """Set the count of steps in a state or group."""
    if torch.is_tensor(holder.get("step")):
        holder["step"].fill_(n)
    else:
        holder["step"] = n


def cut(tensor: torch.Tensor, held: Held, at: Shape) -> torch.Tensor:
    """The view of a piece in the tensor that holds it: a box of it, or a range of its flattened elements."""
    extent = held.piece.extent
    if len(at) == tensor.dim():
        for d, (first, n) in enumerate(zip(at, held.extent)):
            tensor = tensor.narrow(d, first, n)
        return tensor if tensor.shape == extent else tensor.view(extent)
    return tensor.view(-1).narrow(0, at[0], math.prod(extent)).view(extent)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What of a tensor is in this rank's memory: all of it, or a DTensor's shard."""
    inner = getattr(tensor, "_local_tensor", None)
    return tensor if inner is None else inner


def listed(optimizer: Any) -> list[Any]:
    """A trainer's optimizers: none, one, or a list of several."""
    if optimizer is None:
        return []
    return list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]


def stepped(optimizer: Any) -> Callable[[Any], Any]:
    """Gives a parameter when an optimizer steps it, else None."""
    known = {id(p) for one in listed(optimizer) for group in one.param_groups for p in group["params"]}
    return lambda parameter: parameter if id(parameter) in known else None


def adam(optimizer: Any) -> bool:
    """The optimizer keeps a first and second moment of each weight under PyTorch's names, and nothing else that has to move with them.

    Others are called AdamW too, and keep theirs elsewhere (bitsandbytes: state1 and state2).
    """
    if not isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) and not counts_by_group(optimizer):
        return False
    return not any(g.get("amsgrad") for g in optimizer.param_groups)


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model inside DistributedDataParallel, DataParallel, torch.compile, and wrappers of Megatron's kind."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        children = [name for name, _ in model.named_children()]
        if isinstance(inner, torch.nn.Module):
            model = inner
        elif children == ["module"] and not list(model.named_parameters(recurse=False)):
            model = model.module
        else:
            return model


def plain_name(name: str) -> str:
    """A parameter's name without what wrappers add."""
    return ".".join(p for p in name.split(".") if p not in WRAPPERS)


def tied_names(model: torch.nn.Module) -> dict[str, list[str]]:
    """By the first name of each parameter its other names, where it has some: the run's tensors must be tied the same way."""
    names: dict[int, list[str]] = {}
    for prefix, module in unwrapped(model).named_modules(remove_duplicate=False):
        for name, parameter in module._parameters.items():  # named_parameters() leaves tied ones of one module out
            if parameter is None:
                continue
            names.setdefault(id(parameter), []).append(plain_name(f"{prefix}.{name}" if prefix else name))
    return {first: others for first, *others in names.values() if others}
