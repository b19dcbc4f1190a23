"""Megatron-core's optimizers, as classes of the same attributes. With Megatron itself: checks/megatron."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mistura
from mistura import InputError
from mistura.adapters import choose, megatron
from mistura.control import Alone
from mistura.gate import Answer, Gate, Probe
from mistura.layout import Named, Split
from served import Served, missing, run_file
from trainers import Diary, Ranks, Small, hash_of, loss_of, write_first


class Span:
    """A range, as Megatron-core has it."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end


def accumulated(p: Any, gradient: Tensor) -> None:
    """As Megatron's hook does it."""
    p.main_grad.add_(gradient)


class Chunk(nn.Module):
    """A model chunk under Megatron's data parallelism: parameters are views of one buffer, cut into equal shards by rank."""

    def __init__(self, module: nn.Module, shards: int) -> None:
        super().__init__()
        self.module = module
        self.buffer = torch.zeros(-(-sum(p.numel() for p in module.parameters()) // shards) * shards, dtype=torch.bfloat16)
        self.buffers = [self.buffer]  # type: ignore[assignment] (Megatron's name for it, which hides PyTorch's)
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
        self.gradients = torch.full(self.buffer.shape, 7.0)  # of an earlier step
        for p, span in self.index.items():
            p.main_grad = self.gradients[span.start : span.end].view(p.shape)  # type: ignore[attr-defined]
            p.register_hook(lambda g, p=p: accumulated(p, g))
        self.finished = 0

    def forward(self, *inputs: Any) -> Any:
        """As the module inside."""
        return self.module(*inputs)

    def zero_grad_buffer(self) -> None:
        """Before each step of Megatron's loop."""
        self.gradients.zero_()

    def finish_grad_sync(self) -> None:
        """The mean over two ranks, of which the other has twice this one's gradients."""
        self.finished += 1
        self.gradients.mul_(1.5)

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


# At the gate.


class Asked:
    """Stands in for the exchange and for the mistura process: what the gate gives and says."""

    def __init__(self, adapter: Any) -> None:
        self.pieces, self.given, self.told = adapter.pieces(), {}, {}

    def give(self, value: Any, factor: float) -> bool:
        """The gradients of all pieces."""
        self.given = {p.name: None if value(p) is None else value(p).float() * factor for p in self.pieces}
        return all(bool(g.isfinite().all()) for g in self.given.values() if g is not None)

    def ask(self, kind: str, **fields: Any) -> None:
        """What the rank says at the end."""
        self.told = fields


def gated(chunk: nn.Module, adapter: Any, compute: Any, form: str = "bf16") -> Asked:
    """Ask a rank for the gradients of a probe."""
    asked = Asked(adapter)
    question = {"tokens": [1, 2, 3, 4], "rows": 2, "end_token": None, "boundaries": False, "choices": None}
    Gate(chunk, Probe(compute, form)).answer({"gate": question}, Alone(), adapter, asked, asked)
    return asked


def sharded(rank: int = 0, ranks: int = 1) -> tuple[Chunk, DistributedOptimizer, Any]:
    """A chunk whose loss is the sum of its 8 weights times 2."""
    chunk = Chunk(nn.Linear(4, 2, bias=False).bfloat16(), ranks)
    optimizer = DistributedOptimizer(chunk, rank, ranks)
    return chunk, optimizer, choose(chunk, optimizer)


def test_gradients_at_the_gate_are_of_the_probe_alone_and_of_all_ranks() -> None:
    chunk, optimizer, adapter = sharded(1, 2)
    asked = gated(chunk, adapter, lambda _: (chunk.module.weight.float() * 2).sum())
    assert asked.told["problem"] == ""
    assert asked.given["weight"].tolist() == [3.0] * 4  # this rank's shard: 2 here, 4 there
    assert chunk.finished == 1
    assert not bool(chunk.gradients.any()), "the next step would train on the probe"
    assert all(m.grad is None for m in optimizer.shard_fp32_from_float16_groups[0])


def test_a_schedule_that_has_finished_gradients_is_left_alone() -> None:
    chunk, _, adapter = sharded()
    chunk.config = type("Config", (), {"finalize_model_grads_func": staticmethod(lambda *_: None)})()

    def schedule(_: Any) -> Answer:
        loss = (chunk.module.weight.float() * 2).sum()
        (loss * 1024).backward()  # by its own loss scale
        chunk.finish_grad_sync()
        return Answer(loss.detach(), scale=1024)

    asked = gated(chunk, adapter, schedule, "fp16")
    assert asked.told["problem"] == "" and chunk.finished == 1
    assert asked.given["weight"].flatten().tolist() == [3.0] * 8


def test_gradients_that_are_sums_over_tokens_are_divided() -> None:
    """--calculate-per-token-loss: Megatron divides by the tokens of all ranks, here one of each."""
    chunk, _, adapter = sharded()

    def finalize(chunks: Any, tokens: Tensor) -> None:
        for one in chunks:
            one.gradients.mul_(4 / (4 * float(tokens)))

    chunk.config = type("Config", (), {"finalize_model_grads_func": staticmethod(finalize), "calculate_per_token_loss": True})()
    asked = gated(chunk, adapter, lambda _: (chunk.module.weight.float() * 2).sum())
    assert asked.told["problem"] == "" and asked.given["weight"].flatten().tolist() == [2.0] * 8


def test_megatrons_own_generators_go_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tensor-parallel ranks draw apart, as states or (for captured graphs) as generators."""
    torch.manual_seed(1)
    states: dict[str, Any] = {"model-parallel-rng": torch.get_rng_state(), "expert-parallel-rng": torch.Generator().manual_seed(5)}
    tracker = type("Tracker", (), {"get_states": lambda _: dict(states), "set_states": lambda _, new: states.update(new)})()
    monkeypatch.setitem(sys.modules, "megatron.core.tensor_parallel.random", type("R", (), {"_CUDA_RNG_STATE_TRACKER": tracker}))
    chunk, _, adapter = sharded()
    before = [states["model-parallel-rng"].clone(), states["expert-parallel-rng"].get_state()]

    def compute(_: Any) -> Tensor:
        states["model-parallel-rng"] = torch.zeros(3)
        torch.rand(2, generator=states["expert-parallel-rng"])
        return (chunk.module.weight.float() * 2).sum()

    assert gated(chunk, adapter, compute).told["problem"] == ""
    assert torch.equal(states["model-parallel-rng"], before[0])
    assert torch.equal(states["expert-parallel-rng"].get_state(), before[1])


def test_a_probe_is_no_step_to_learn_from_when_reductions_begin() -> None:
    """With overlap_grad_reduce, Megatron counts in the first step how often each gradient is added to."""
    chunk, _, adapter = sharded()
    group = type("BucketGroup", (), {"is_first_batch": True, "golden_per_param_grad_ready_counts": {}, "counted": {}})()

    def reset() -> None:
        chunk.gradients.zero_()
        if group.is_first_batch and group.counted:
            group.golden_per_param_grad_ready_counts, group.is_first_batch = group.counted, False
        group.counted = {}

    chunk.bucket_groups = [group]
    chunk.zero_grad_buffer = reset  # type: ignore[method-assign]
    asked = []

    def compute(_: Any) -> Tensor:
        asked.append(group.is_first_batch)
        group.counted = {"weight": 1}
        return (chunk.module.weight.float() * 2).sum()

    assert gated(chunk, adapter, compute).told["problem"] == ""
    assert (group.is_first_batch, group.golden_per_param_grad_ready_counts) == (True, {})
    group.is_first_batch, group.golden_per_param_grad_ready_counts = False, {"weight": 2}  # two micro-batches without no_sync
    assert gated(chunk, adapter, compute).told["problem"] == ""
    assert (group.is_first_batch, group.golden_per_param_grad_ready_counts) == (False, {"weight": 2})
    assert asked == [True, True]


# Optimizer state.


class FP32Optimizer:
    """Megatron-core's for a model in fp32: there are no masters, and gradients are in main_grad all the same."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.param_groups = optimizer.param_groups

    def reload_model_params(self) -> None:
        """Every optimizer of Megatron's has it."""

    def zero_grad(self) -> None:
        """And this."""
        self.optimizer.zero_grad()

    def step(self) -> None:
        """And this."""
        self.optimizer.step()


def test_megatron_without_masters() -> None:
    module = nn.Linear(3, 2, bias=False)
    module.weight.main_grad = torch.full((2, 3), 5.0)  # type: ignore[assignment]
    adapter = choose([module], Chained(FP32Optimizer(torch.optim.AdamW(module.parameters()))))
    (piece,) = adapter.pieces()
    assert adapter.weights(piece).data_ptr() == module.weight.data_ptr()
    assert adapter.gradient(piece).tolist() == [[5.0] * 3] * 2
    assert adapter.slots() == ["moment1", "moment2"]


def test_a_checkpoint_before_the_first_step_leaves_an_optimizer_that_steps() -> None:
    chunk, optimizer, adapter = sharded()
    (piece,) = adapter.pieces()
    assert float(adapter.slot(piece, "moment1").sum()) == 0
    master = optimizer.shard_fp32_from_float16_groups[0][0]
    master.grad = torch.ones_like(master)
    optimizer.optimizer.step()
    assert adapter.steps() == 1


def test_an_optimizer_that_steps_nothing_on_this_rank() -> None:
    chunk, optimizer, _ = sharded()
    stub = type("Stub", (), {"optimizer": None, "is_stub_optimizer": True, "reload_model_params": None})()
    adapter = choose(chunk, Chained(stub, optimizer))
    assert adapter.slots() == ["moment1", "moment2"] and len(adapter.pieces()) == 1


class Offloaded:
    """Megatron-core's HybridDeviceOptimizer: what it was given is on the device, what it steps are copies on the CPU."""

    def __init__(self, given: list[Tensor]) -> None:
        self.param_groups = [{"params": given}]
        self.param_to_inner_param = {p: p.detach().clone().float() for p in given}
        self.sub_optimizers = [torch.optim.AdamW([p], lr=0.1) for p in self.param_to_inner_param.values()]
        self.state: dict[Tensor, Any] = {}


@pytest.mark.parametrize("aware", [False, True])
def test_masters_that_are_offloaded_to_the_cpu(aware: bool) -> None:
    """What is adopted is stepped on the CPU and computed with on the device; precision-aware: there is no other master."""
    chunk, optimizer, _ = sharded()
    if aware:
        optimizer.shard_fp32_from_float16_groups = [[None]]  # type: ignore[list-item]
        optimizer._copy_main_params_to_model_params = lambda: None  # type: ignore[method-assign]
    given = optimizer.shard_float16_groups[0] if aware else optimizer.shard_fp32_from_float16_groups[0]
    optimizer.optimizer = hybrid = Offloaded(given)  # type: ignore[assignment]
    adapter = choose(chunk, optimizer)
    (piece,) = adapter.pieces()
    adapter.weights(piece).fill_(0.5)
    adapter.publish()
    assert bool((chunk.module.weight == 0.5).all())
    (master,) = hybrid.param_to_inner_param.values()
    assert bool((master == 0.5).all())
    adapter.slot(piece, "moment1").fill_(3)
    adapter.set_steps(11)
    (state,) = (sub.state[master] for sub in hybrid.sub_optimizers)
    assert float(state["exp_avg"].mean()) == 3 and int(state["step"]) == 11 == adapter.steps()


def test_the_loss_scale_goes_into_checkpoints_and_comes_back() -> None:
    chunk, optimizer, adapter = sharded()
    assert adapter.scale() == (0.0, 0)
    scaler = type(
        "DynamicGradScaler", (), {"_scale": torch.tensor([1024.0]), "_growth_tracker": 9, "scale": property(lambda s: s._scale)}
    )()
    optimizer.grad_scaler = scaler  # type: ignore[attr-defined]
    assert adapter.scale() == (1024.0, 9)
    adapter.set_scale(64.0, 3)
    assert adapter.scale() == (64.0, 3) and scaler._scale.shape == (1,)


def test_ways_of_sharding_that_are_not_known() -> None:
    chunk, optimizer, _ = sharded()
    layers = type("LayerWiseDistributedOptimizer", (Chained,), {"shard_params": None})(optimizer)
    with pytest.raises(InputError, match="LayerWiseDistributedOptimizer shares layers out .* train with --use-distributed-optimizer"):
        choose(chunk, layers)
    chunk.ddp_config.use_megatron_fsdp = True
    with pytest.raises(InputError, match="Megatron-FSDP keeps its shards in buffers of its own"):
        choose(chunk, optimizer)


# A run.


@pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")
def test_a_list_of_chunks_joins(tmp_path: Path) -> None:
    """An interleaved pipeline's rank has several modules, whose names say where they are in the model by a layout each."""

    def body(diary: Diary, rank: int, world: int) -> None:
        model = Small(3)
        chunks = [nn.ModuleDict({"a": model.first, "b": model.norm}), nn.ModuleDict({"a": model.second, "b": model.head})]
        called = [{"a": "first", "b": "norm"}, {"a": "second", "b": "head"}]
        layouts = [lambda name, _, c=c: Named(f"{c[name.split('.')[0]]}.{name.split('.')[1]}") for c in called]
        optimizer = Chained(*(FP32Optimizer(torch.optim.AdamW(c.parameters(), lr=0.01)) for c in chunks))
        optimizer.param_groups = [g for one in optimizer.chained_optimizers for g in one.param_groups]  # type: ignore[attr-defined]
        with mistura.join(chunks, optimizer, layout=layouts, rate="own", own_data=True) as island:
            while not island.done:
                loss = loss_of(model, hash_of("chunks", island.steps))
                for one in optimizer.chained_optimizers:
                    one.zero_grad()
                loss.backward()
                for one in optimizer.chained_optimizers:
                    one.step()
                island.step(loss, tokens=8)
            diary.note(steps=island.steps)

    first = write_first(tmp_path / "first.safetensors", Small(0))
    with Served(tmp_path / "run", run_file(tokens=8 * 20, islands=["one"], first=first)) as served:
        ranks = Ranks(tmp_path / "one", 1, body, served.environment("one"))
        assert ranks.end() == ["done"], served.said()
        served.finish()
    assert ranks.diaries[0].all("steps") == [20]


def test_what_is_no_model() -> None:
    with pytest.raises(InputError, match='model "list": is no torch.nn.Module and no list of them'):
        mistura.join([], None)
