"""Megatron-core on CPUs: where it says cuda it gets the CPU, and everything else is its own code.

Its optimizers sort parameters by names such as torch.cuda.BFloat16Tensor, make their scalars on "cuda", and its generators are
CUDA's. That is all that stands between it and gloo on CPUs, and all that is changed here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class OnCpu(TorchFunctionMode):
    """Tensors that are asked for on CUDA are on the CPU, and their type is called CUDA's."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Every call of PyTorch's comes by here."""
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        if func in (torch.Tensor.cuda, torch.Tensor.pin_memory):
            return args[0]
        if func is torch.Tensor.cpu:
            return on_host(args[0])
        if func == torch.Tensor.is_cuda.__get__:
            return not hasattr(args[0], "on_host")
        out = func(*args, **kwargs)
        return out.replace("torch.", "torch.cuda.") if func is torch.Tensor.type and len(args) == 1 and not kwargs else out


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that says it is on the CPU."""
    copy = tensor.clone()
    copy.on_host = True
    return copy


class Stream:
    """Everything on a CPU is done when it is called."""

    def wait_stream(self, other: Any) -> None:
        """Nothing is under way."""

    def record_event(self) -> Stream:
        """Nor ever will be."""
        return self

    def wait(self, stream: Any) -> None:
        """See wait_stream()."""

    def synchronize(self) -> None:
        """See wait_stream()."""

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *what: Any) -> None:
        return None


def begin() -> None:
    """For the rest of this process."""
    import megatron.core.tensor_parallel.random as random
    import megatron.core.transformer.moe.moe_utils as moe

    torch.cuda.current_device = lambda: torch.device("cpu")
    torch.cuda.get_rng_state = lambda *_: torch.get_rng_state()
    torch.cuda.manual_seed = torch.manual_seed
    torch.cuda.synchronize = lambda *_: None
    moe.te_general_gemm = None  # as Transformer Engine's absence is told; 0.16.1 forgets to tell it here
    torch.cuda.Stream = torch.cuda.current_stream = torch.cuda.default_stream = lambda *_, **__: Stream()
    torch.cuda.stream = lambda stream: stream
    random._get_cuda_rng_state = lambda *_, **__: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
    OnCpu().__enter__()
