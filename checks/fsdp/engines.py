"""Ways in which PyTorch itself splits a model over ranks, for a small model that has everything that goes wrong with them: a tied
pair, a norm, biases.

Data: the same rows in each step whatever the number of data-parallel ranks, so that losses and moments can be compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from trainers import batch, hash_of

ROWS, HALVES = 4, 2
"""Of a step: rows that one seed gives, and seeds."""

CPU = torch.device("cpu")


def ddp(model: torch.nn.Module) -> torch.nn.Module:
    """Every rank holds everything."""
    return torch.nn.parallel.DistributedDataParallel(model)


def fsdp1(**how: Any) -> Callable[[torch.nn.Module], torch.nn.Module]:
    """A flat parameter for the first layer, one for the rest."""

    def make(model: torch.nn.Module) -> torch.nn.Module:
        from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision, ShardingStrategy

        more = {**how, "device_id": CPU}
        if "hybrid" in more:
            del more["hybrid"]
            more["device_mesh"] = init_device_mesh("cpu", (2, 2))
            more["sharding_strategy"] = ShardingStrategy.HYBRID_SHARD
        if "param_dtype" in more:
            more["mixed_precision"] = MixedPrecision(param_dtype=more.pop("param_dtype"), reduce_dtype=torch.float32)
        model.first = FullyShardedDataParallel(model.first, **more)
        return FullyShardedDataParallel(model, **more)

    return make


def fsdp2(mesh: tuple[int, ...] | None = None, dtype: torch.dtype | None = None) -> Callable[[torch.nn.Module], torch.nn.Module]:
    """DTensors, sharded along dimension 0; with a mesh of two dimensions replicated over the first."""

    def make(model: torch.nn.Module) -> torch.nn.Module:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        how: dict[str, Any] = {}
        if mesh is not None:
            how["mesh"] = init_device_mesh("cpu", mesh, mesh_dim_names=("replicate", "shard"))
        if dtype is not None:
            how["mp_policy"] = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)
        fully_shard(model.first, **how)
        return fully_shard(model, **how)

    return make


def fsdp2_tensor(model: torch.nn.Module) -> torch.nn.Module:
    """FSDP2 over tensor and sequence parallelism: columns, rows of activations for the norm, whose gradient is a sum over ranks."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor.parallel import ColwiseParallel, PrepareModuleInput, SequenceParallel, parallelize_module

    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
    plan = {
        "first": ColwiseParallel(output_layouts=Shard(0), use_local_output=False),
        "norm": SequenceParallel(sequence_dim=0),
        "second": PrepareModuleInput(input_layouts=(Shard(0),), desired_input_layouts=(Replicate(),), use_local_output=True),
        "head": ColwiseParallel(output_layouts=Replicate()),
    }
    parallelize_module(model, mesh["tensor"], plan)
    fully_shard(model.first, mesh=mesh["data"])
    return fully_shard(model, mesh=mesh["data"])


def compiled(make: Callable[[torch.nn.Module], torch.nn.Module], backend: str) -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Under torch.compile."""
    return lambda model: torch.compile(make(model), backend=backend)


@dataclass(frozen=True)
class Engine:
    """How ranks share a model."""

    make: Callable[[torch.nn.Module], torch.nn.Module]
    ranks: int = 2
    tensor: int = 1
    """Ranks that share a batch."""
    number_format: str = "fp32"

    @property
    def data(self) -> int:
        """Data-parallel ranks."""
        return self.ranks // self.tensor


ENGINES = {
    "DDP": Engine(ddp),
    "FSDP1": Engine(fsdp1()),
    "FSDP1, use_orig_params": Engine(fsdp1(use_orig_params=True)),
    "FSDP1, hybrid on 2 × 2 ranks": Engine(fsdp1(hybrid=True), 4),
    "FSDP2": Engine(fsdp2()),
    "FSDP2, hybrid on 2 × 2 ranks": Engine(fsdp2((2, 2)), 4),
    "FSDP2 over tensor parallelism on 2 × 2 ranks": Engine(fsdp2_tensor, 4, tensor=2),
    "FSDP2 under torch.compile (aot_eager)": Engine(compiled(fsdp2(), "aot_eager")),
    "FSDP1, mixed precision bf16": Engine(fsdp1(param_dtype=torch.bfloat16), number_format="bf16"),
    "FSDP2, mixed precision bf16": Engine(fsdp2(dtype=torch.bfloat16), number_format="bf16"),
    "FSDP2, mixed precision fp16": Engine(fsdp2(dtype=torch.float16), number_format="fp16"),
}


def lone(number_format: str) -> Engine:
    """One rank, plain PyTorch, products in a number format."""
    return Engine(lambda model: model, 1, number_format=number_format)


def products(engine: Engine) -> contextlib.AbstractContextManager[Any]:
    """FSDP has a policy of its own; a lone rank computes under autocast."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(engine.number_format)
    return torch.autocast("cpu", dtype=dtype) if engine.ranks == 1 and dtype is not None else contextlib.nullcontext()


def rows(island: str, step: int, rank: int, engine: Engine) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y of a rank in a step."""
    whole = [batch(hash_of(island, step * HALVES + half), ROWS) for half in range(HALVES)]
    x, y = (torch.cat(both) for both in zip(*whole))
    count, place = ROWS * HALVES // engine.data, rank // engine.tensor
    return x[place * count : (place + 1) * count], y[place * count : (place + 1) * count]
