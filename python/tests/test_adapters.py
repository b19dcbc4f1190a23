"""Adapters of engines: which fp32 values belong to which piece, and how changed masters reach the parameters."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mistura import InputError
from mistura.adapters import choose, megatron, plain
from mistura.adapters.base import cut
from mistura.adapters.dtensor import box_of
from mistura.layout import Split


class Model(nn.Module):
    """Two matrices, one of them tied, a norm, a frozen vector, a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)


def trained(optimizer: torch.optim.Optimizer, model: nn.Module, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        sum((p**2).sum() for p in model.parameters() if p.requires_grad).backward()
        optimizer.step()


def test_plain() -> None:
    model = Model()
    adapter = plain(model, None, state=["norm.running_mean"])
    names = [(t["name"], t["shape"], t["state"]) for t in adapter.tensors()]
    assert names == [
        ("frozen", [3], False), ("embedding.weight", [6, 4], False), ("norm.weight", [4], False), ("norm.bias", [4], False),
        ("norm.running_mean", [4], True),
    ]  # fmt: skip
    piece = adapter.pieces()[1]
    adapter.weights(piece).fill_(2.5)
    assert bool((model.head.weight == 2.5).all())
    with pytest.raises(InputError, match='state "mean": is no buffer of the model'):
        plain(model, None, state=["mean"])


def test_wrappers_leave_no_trace_in_names() -> None:
    model = nn.Sequential(nn.Linear(2, 2))

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

    assert [p.name for p in plain(Wrapper(Wrapper(model))).pieces()] == ["0.weight", "0.bias"]


def test_moments_and_steps() -> None:
    model = Model()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)
    adapter = choose(model, optimizer)
    assert adapter.slots() == ["moment1", "moment2"]
    pieces = {p.name: p for p in adapter.pieces()}
    assert float(adapter.slot(pieces["embedding.weight"], "moment2").sum()) == 0  # before the first step
    assert adapter.slot(pieces["frozen"], "moment1").shape == (3,)
    trained(optimizer, model, 3)
    assert adapter.steps() == 3
    state = optimizer.state[model.embedding.weight]
    assert torch.equal(adapter.slot(pieces["embedding.weight"], "moment1"), state["exp_avg"])
    adapter.slot(pieces["embedding.weight"], "moment1").zero_()
    assert float(state["exp_avg"].abs().sum()) == 0
    adapter.set_steps(40)
    assert int(state["step"]) == 40
    optimizer.state_dict()  # nothing is filed that it does not know
    adapter.forget()
    assert adapter.steps() == 0
    trained(optimizer, model, 1)
    assert adapter.steps() == 1


def test_state_set_before_the_first_step_is_what_the_optimizer_goes_on_with() -> None:
    torch.manual_seed(1)
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    optimizer, follower = (torch.optim.AdamW(m.parameters(), lr=0.1) for m in (model, other))
    trained(optimizer, model, 4)
    source, target = plain(model, optimizer), plain(other, follower)
    for piece in source.pieces():
        target.weights(piece).copy_(source.weights(piece))
        for name in source.slots():
            target.slot(piece, name).copy_(source.slot(piece, name))
    target.set_steps(source.steps())
    trained(optimizer, model, 3)
    trained(follower, other, 3)
    assert torch.equal(model.weight, other.weight)


def test_optimizers_whose_state_is_something_else() -> None:
    model = nn.Linear(2, 2)
    assert plain(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)).slots() == []
    assert plain(model, torch.optim.AdamW(model.parameters(), amsgrad=True)).slots() == []
    assert plain(model, None).slots() == []


def test_b11_weights_without_a_master_are_refused() -> None:
    model = nn.Linear(2, 2).to(torch.bfloat16)
    with pytest.raises(InputError, match="parameter weight: is bfloat16 and has no fp32 master"):
        plain(model)
    with pytest.raises(InputError, match="parameter weight: is float64, and weights are exchanged in fp32"):
        plain(nn.Linear(2, 2).double())


def test_b11_masters_move_where_bfloat16_does_not() -> None:
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    nn.init.ones_(model.weight)
    master = model.weight.detach().float()
    adapter = plain(model, None, masters={"weight": master})
    piece = adapter.pieces()[0]
    for _ in range(100):
        adapter.weights(piece).sub_(6e-4)
        adapter.publish()
    assert abs(float(master) - 0.94) < 1e-4
    assert abs(float(model.weight) - 0.94) < 0.004
    with pytest.raises(InputError, match=r"master of weight .*: the parameter is \[1, 1\]"):
        plain(model, None, masters={"weight": torch.ones(2)})


# DTensor: as PyTorch makes them, without it.


class Shard:
    """Stands in for torch.distributed.tensor.Shard: only the class's name and dim count."""

    def __init__(self, dim: int) -> None:
        self.dim = dim


class Replicate:
    """Likewise."""


class Partial:
    """Likewise."""


class _StridedShard(Shard):
    """Likewise."""


class Mesh:
    """A mesh and one place in it."""

    def __init__(self, sizes: tuple[int, ...], place: tuple[int, ...]) -> None:
        self._sizes, self._place = sizes, place

    def size(self, dim: int) -> int:
        """Ranks in a dimension."""
        return self._sizes[dim]

    def get_coordinate(self) -> list[int]:
        """This rank's place."""
        return list(self._place)


class DTensor:
    """A whole tensor's shape with what one rank holds of it."""

    def __init__(self, whole: Tensor, local: Tensor, mesh: Mesh, placements: list[Any]) -> None:
        self.shape, self._local_tensor, self.device_mesh, self.placements = whole.shape, local, mesh, placements


def test_dtensor_boxes_are_what_chunk_gives() -> None:
    for seed in range(200):
        draw = random.Random(seed)
        whole = torch.arange(draw.randint(1, 9) * 4 * draw.randint(1, 7), dtype=torch.float32)
        whole = whole.view(-1, 4, draw.choice([n for n in (1, 2, 3, 5, 7) if whole.numel() // 4 % n == 0]))
        sizes = (draw.randint(1, 3), draw.randint(1, 4))
        strided = draw.random() < 0.3
        kinds = [_StridedShard(0), Shard(0)] if strided else [draw.choice([Shard(0), Shard(1), Shard(2), Replicate()]) for _ in sizes]
        if strided and whole.shape[0] % sizes[1]:
            continue  # FSDP2 over tensor parallelism refuses uneven splits itself
        covered: dict[tuple[int, ...], Tensor] = {}
        for place in ((a, b) for a in range(sizes[0]) for b in range(sizes[1])):
            local = whole
            for i in (1, 0) if strided else (0, 1):  # tensor parallelism first
                if isinstance(kinds[i], Shard):
                    chunks = local.chunk(sizes[i], kinds[i].dim)
                    empty = local.narrow(kinds[i].dim, 0, 0)
                    local = chunks[place[i]] if place[i] < len(chunks) else empty
            _, shape, parts = box_of("w", DTensor(whole, local, Mesh(sizes, place), kinds))
            assert shape == tuple(whole.shape)
            if local.numel() == 0:
                assert parts == []
                continue
            piece = parts[0].piece
            box = whole[tuple(slice(o, o + n) for o, n in zip(piece.offset, piece.extent))]
            assert torch.equal(cut(local, parts[0], parts[0].offset), box), seed
            covered[piece.offset] = box.flatten()
        assert torch.equal(torch.cat(list(covered.values())).sort().values, whole.flatten()), seed


def test_dtensor_placements_that_no_parameter_has() -> None:
    whole = torch.zeros(4, 4)
    with pytest.raises(InputError, match='parameter w "Partial": is a placement that no parameter has between steps'):
        box_of("w", DTensor(whole, whole, Mesh((2,), (0,)), [Partial()]))
    with pytest.raises(InputError, match=r'parameter w "\[3, 4\]": its placements .* give \[2, 4\] here'):
        box_of("w", DTensor(whole, whole[:3], Mesh((2,), (0,)), [Shard(0)]))


# Megatron-core: classes of the same attributes; not run with Megatron itself.


class Span:
    """A range, as Megatron-core has it."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end


class Chunk(nn.Module):
    """A model chunk under Megatron's data parallelism: parameters are views of one buffer, cut into equal shards by rank."""

    def __init__(self, module: nn.Module, shards: int) -> None:
        super().__init__()
        self.module = module
        self.buffer = torch.zeros(-(-sum(p.numel() for p in module.parameters()) // shards) * shards, dtype=torch.bfloat16)
        self.index: dict[nn.Parameter, Span] = {}
        at = 0
        for p in reversed(list(module.parameters())):  # its buffers begin with the last layer
            self.index[p] = Span(at, at + p.numel())
            self.buffer[at : at + p.numel()].copy_(p.detach().flatten())
            p.data = self.buffer[at : at + p.numel()].view(p.shape)
            at += p.numel()
        self.synced = 0
        self.ddp_config = type("Config", (), {"overlap_param_gather": False})()
        self.under_way = False
        self.gathered = self.buffer.clone()

    def start_param_sync(self, *unused: Any, force_sync: bool = False) -> None:
        """Megatron gathers the parameters of all ranks here; one that is under way is waited for instead."""
        assert force_sync
        self.synced += 1
        if self.under_way:
            self.under_way = False
            return
        self.gathered.copy_(self.buffer)


class DistributedOptimizer:
    """What the adapter reads of Megatron-core's, for one data-parallel rank."""

    def __init__(self, chunk: Chunk, rank: int, ranks: int) -> None:
        self.model_chunks = [chunk]
        size = chunk.buffer.numel() // ranks
        self.ranges = {}
        for p, span in chunk.index.items():
            low, high = max(span.start, rank * size), min(span.end, (rank + 1) * size)
            if low < high:
                self.ranges[p] = {"param": Span(low - span.start, high - span.start)}
        self.model_float16_groups = [list(self.ranges)]
        self.shard_float16_groups = [[p.detach().view(-1)[r["param"].start : r["param"].end] for p, r in self.ranges.items()]]
        self.shard_fp32_from_float16_groups = [[s.clone().float() for s in self.shard_float16_groups[0]]]
        self.model_fp32_groups: list[list[Tensor]] = [[]]
        self.shard_fp32_groups: list[list[Tensor]] = [[]]
        self.optimizer = torch.optim.AdamW(self.shard_fp32_from_float16_groups[0], lr=0.1)

    def _get_model_param_range_map(self, p: nn.Parameter) -> dict[str, Span]:
        return self.ranges[p]

    def _copy_main_params_to_model_params(self) -> None:
        for shard, master in zip(self.shard_float16_groups[0], self.shard_fp32_from_float16_groups[0]):
            shard.copy_(master)


class Chained:
    """Megatron-core's ChainedOptimizer."""

    def __init__(self, *optimizers: Any) -> None:
        self.chained_optimizers = list(optimizers)


def test_megatrons_distributed_optimizer() -> None:
    """Two tensor-parallel by three data-parallel ranks: flat shards of columns and rows cover the model exactly once."""
    torch.manual_seed(3)
    column, row, norm = torch.randn(6, 5), torch.randn(4, 6), torch.randn(7)
    whole = {"column": column.bfloat16().float(), "row": row.bfloat16().float(), "norm": norm.bfloat16().float()}
    seen = {name: torch.full_like(w, float("nan")) for name, w in whole.items()}

    def layout(tp: int) -> Any:
        return lambda name, _: {"column": Split(0, tp, 2), "row": Split(1, tp, 2)}.get(name)

    for tp in range(2):
        for dp in range(3):
            module = nn.Module()
            for name, w in [("column", column.chunk(2, 0)[tp]), ("row", row.chunk(2, 1)[tp]), ("norm", norm)]:
                module.register_parameter(name, nn.Parameter(w.clone().bfloat16()))
            chunk = Chunk(module, 3)
            optimizer = DistributedOptimizer(chunk, dp, 3)
            adapter = choose(chunk, Chained(optimizer), layout(tp))
            assert adapter.slots() == ["moment1", "moment2"]
            assert {t["name"]: t["shape"] for t in adapter.tensors() if t["name"] != "norm"}.items() <= {
                "column": [6, 5], "row": [4, 6],
            }.items()  # fmt: skip
            for piece in adapter.pieces():
                if piece.name == "norm" and tp == 1:
                    continue  # a replica
                target = seen[piece.name]
                at = (
                    target.flatten()[piece.offset[0] : piece.offset[0] + piece.extent[0]]
                    if len(piece.offset) != target.dim()
                    else target[tuple(slice(o, o + n) for o, n in zip(piece.offset, piece.extent))]
                )
                assert bool(at.isnan().all()), (piece, "twice")
                place = target.view(-1)[piece.offset[0] : piece.offset[0] + piece.extent[0]] if at.dim() == 1 else at
                place.copy_(adapter.weights(piece))
            changed_by_adoption(adapter, chunk, optimizer)
    for name, w in whole.items():
        assert torch.equal(seen[name], w), name


def changed_by_adoption(adapter: Any, chunk: Chunk, optimizer: DistributedOptimizer) -> None:
    before = chunk.buffer.clone()
    for piece in adapter.pieces():
        adapter.weights(piece).add_(1)
        adapter.slot(piece, "moment1").fill_(2)
    adapter.publish()
    moved = int((chunk.buffer != before).sum())
    assert moved == sum(s.numel() for s in optimizer.shard_float16_groups[0])
    assert chunk.synced == 1
    adapter.set_steps(9)
    assert adapter.steps() == 9
    for master in optimizer.shard_fp32_from_float16_groups[0]:
        assert bool((optimizer.optimizer.state[master]["exp_avg"] == 2).all())
        assert int(optimizer.optimizer.state[master]["step"]) == 9


def test_megatrons_gather_that_is_under_way_brings_older_values() -> None:
    chunk = Chunk(nn.Linear(3, 2).bfloat16(), 1)
    chunk.ddp_config.overlap_param_gather = True
    adapter = choose(chunk, DistributedOptimizer(chunk, 0, 1))
    chunk.under_way = True
    for piece in adapter.pieces():
        adapter.weights(piece).fill_(0.5)
    adapter.publish()
    assert bool((chunk.gathered == 0.5).all())


def test_megatrons_whole_masters() -> None:
    module = nn.Linear(3, 2).bfloat16()
    extra = nn.Parameter(torch.zeros(2))
    module.register_parameter("scale", extra)

    class Float16Optimizer:
        float16_groups = [[module.weight, module.bias]]
        fp32_from_float16_groups = [[module.weight.detach().float(), module.bias.detach().float()]]
        fp32_from_fp32_groups = [[extra]]
        optimizer = torch.optim.AdamW([*fp32_from_float16_groups[0], extra])

        def _copy_main_params_to_model_params(self) -> None:
            for p, master in zip(self.float16_groups[0], self.fp32_from_float16_groups[0]):
                p.data.copy_(master)

    adapter = megatron([module], Float16Optimizer())
    assert sorted(p.name for p in adapter.pieces()) == ["bias", "scale", "weight"]
    for piece in adapter.pieces():
        adapter.weights(piece).fill_(0.5)
    adapter.publish()
    assert bool((module.weight == 0.5).all()) and bool((extra == 0.5).all())
    with pytest.raises(InputError, match="the model has 1 chunks"):
        megatron([module], Float16Optimizer(), [None, None])


def test_masters_inside_a_fused_optimizer_are_refused() -> None:
    chunk = Chunk(nn.Linear(3, 2).bfloat16(), 1)
    optimizer = DistributedOptimizer(chunk, 0, 1)
    optimizer.shard_fp32_from_float16_groups = [[None, None]]  # type: ignore[list-item]
    with pytest.raises(InputError, match="its fp32 master is inside the precision-aware optimizer"):
        megatron(chunk, optimizer)
