"""Adapters of engines: which fp32 values belong to which piece, and how changed masters reach the parameters."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mistura import InputError
from mistura.adapters import choose, fsdp, plain
from mistura.adapters.base import cut
from mistura.adapters.dtensor import box_of, laid_out
from mistura.gate import Gate
from mistura.join import _warn_of_base


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
    assert plain(model, type("AdamW", (torch.optim.SGD,), {})(model.parameters(), lr=0.1)).slots() == []  # another's, of that name
    assert plain(model, None).slots() == []


def test_b11_weights_without_a_master_are_refused() -> None:
    model = nn.Linear(2, 2).to(torch.bfloat16)
    with pytest.raises(InputError, match="parameter weight: is bfloat16 and has no fp32 master"):
        plain(model)
    with pytest.raises(InputError, match="parameter weight: is float64, and weights are exchanged in fp32"):
        plain(nn.Linear(2, 2).double())


@pytest.mark.parametrize("engine", [plain, fsdp])
def test_b11_a_frozen_base_is_no_part_of_the_run(caplog: pytest.LogCaptureFixture, engine: Any) -> None:
    """LoRA: fp32 adapters beside weights of fewer bits, which never move."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    model[0].to(torch.bfloat16).requires_grad_(False)
    optimizer = torch.optim.AdamW(model[1].parameters(), lr=0.1)
    words = (
        rf"^parameter 0.weight: is bfloat16 .*; nothing trains it: leave it out .*{engine.__name__}\(model, optimizer, trained_only=True"
    )
    with pytest.raises(InputError, match=words):
        engine(model, optimizer)
    adapter = engine(model, optimizer, trained_only=True)
    assert [t["name"] for t in adapter.tensors()] == [p.name for p in adapter.pieces()] == ["1.weight", "1.bias"]
    assert adapter.slots() == ["moment1", "moment2"] and not caplog.records
    for held, probe in ((adapter, print), (engine(model[1], optimizer), None), (adapter, None)):
        _warn_of_base(held, Gate(model, probe))
    assert [r.getMessage() for r in caplog.records] == [
        "2 parameters are no part of the run, and without a probe nobody compares them with other islands'"
    ]
    with pytest.raises(InputError, match="^parameter 0.weight: is bfloat16 and has no fp32 master"):  # something trains it after all
        engine(model, torch.optim.SGD(model.parameters(), lr=0.1), trained_only=True)


def with_extra(extra: Any) -> nn.Module:
    """A model with one parameter more."""
    model = nn.Sequential(nn.Linear(2, 2))
    model.extra = extra
    return model


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (nn.Parameter(torch.zeros(0, 3)), "has no elements; take it out of the model"),
        (nn.parameter.UninitializedParameter(), "has no shape yet; run a batch through the model before mistura.join"),
        (nn.Parameter(torch.zeros(2, device="meta")), r"is on the meta device and has no values; give it memory .*to_empty"),
        (
            nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False),
            "is int8, of which there is no mean; nothing trains it: leave",
        ),
        (nn.Parameter(torch.zeros(2, dtype=torch.complex64)), "is complex64, of which there is no mean; keep it out"),
    ],
)
def test_parameters_that_are_no_weights(extra: Any, words: str) -> None:
    """Each is refused by its name, in whatever wrapper."""
    with pytest.raises(InputError, match=f"^parameter extra: {words}"):
        choose(with_extra(extra))


def test_a_buffer_that_has_no_mean() -> None:
    with pytest.raises(InputError, match="^buffer norm.num_batches_tracked: is int64, of which there is no mean"):
        plain(Model(), None, state=["norm.num_batches_tracked"])


def test_an_optimizer_of_another_model() -> None:
    """All of it is a mistake; a part may be meant, and is said."""
    other = torch.optim.AdamW(Model().parameters(), lr=0.1)
    with pytest.raises(InputError, match='^optimizer "AdamW": steps none of this model.s parameters, such as embedding.weight'):
        choose(Model(), other)


def test_parameters_that_the_optimizer_misses(caplog: pytest.LogCaptureFixture) -> None:
    """Frozen ones are not missed, tied ones are one, and what is stepped besides is not exchanged."""
    model, strange = Model(), nn.Parameter(torch.zeros(1))
    choose(model, torch.optim.SGD(model.parameters(), lr=0.1))
    choose(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))
    assert not caplog.records
    choose(model, torch.optim.SGD([model.head.weight, strange], lr=0.1))
    assert [r.getMessage() for r in caplog.records] == [
        "optimizer SGD does not step parameter norm.weight and 1 more: they train here only if something else does",
        "optimizer SGD steps tensors that are not the model's (1): they are not exchanged",
    ]


def two_optimizers(model: Model) -> list[torch.optim.Optimizer]:
    """One of the embedding, one of the rest."""
    return [torch.optim.Adam([model.embedding.weight], lr=0.1), torch.optim.AdamW(model.norm.parameters(), lr=0.2)]


def test_moments_are_where_their_optimizer_has_them() -> None:
    """Each parameter's in its own; what one has not is not made up."""
    model = Model()
    optimizers = two_optimizers(model)
    adapter = choose(model, optimizers)
    for optimizer in optimizers:
        trained(optimizer, model, 3)
    pieces = {p.name: p for p in adapter.pieces()}
    for name, value, optimizer in (("embedding.weight", model.embedding.weight, 0), ("norm.bias", model.norm.bias, 1)):
        assert torch.equal(adapter.slot(pieces[name], "moment2"), optimizers[optimizer].state[value]["exp_avg_sq"])
    assert adapter.steps() == 3
    adapter.set_steps(5)
    assert [int(s["step"]) for o in optimizers for s in o.state.values()] == [5, 5, 5]
    adapter.forget()
    assert [len(o.state) for o in optimizers] == [0, 0] and adapter.steps() == 0
    momentum = torch.optim.SGD([model.frozen], lr=0.1, momentum=0.9)
    assert choose(model, [*optimizers, momentum]).slots() == []


def test_parameters_of_several_optimizers(caplog: pytest.LogCaptureFixture) -> None:
    """One that two of them step is a mistake, by its name; one that none steps may be meant."""
    model = Model()
    first, second = two_optimizers(model)
    with pytest.raises(InputError, match="^parameter norm.weight: is stepped by two of the optimizers Adam and AdamW and SGD; leave it"):
        choose(model, [first, second, torch.optim.SGD([model.norm.weight], lr=0.1)])
    with pytest.raises(InputError, match="steps none of this model.s parameters, such as embedding.weight"):
        choose(Model(), [first, second])
    choose(model, [first, second])
    assert not caplog.records
    choose(model, [first, torch.optim.SGD([model.norm.weight], lr=0.1)])
    (said,) = (r.getMessage() for r in caplog.records)
    assert said == "optimizers Adam and SGD do not step parameter norm.bias: they train here only if something else does"


def test_an_optimizer_of_masters(caplog: pytest.LogCaptureFixture) -> None:
    """It steps them in place of the parameters, whether or not they want gradients."""
    model = nn.Linear(2, 2).to(torch.bfloat16)
    masters = {n: p.detach().float() for n, p in model.named_parameters()}
    plain(model, torch.optim.SGD(list(masters.values()), lr=0.1), masters=masters)
    assert not caplog.records
    with pytest.raises(InputError, match="steps none of this model's parameters, such as weight"):
        plain(model, torch.optim.SGD(model.parameters(), lr=0.1), masters=masters)


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
        self.grad: Any = None

    def redistribute(self, placements: list[Any]) -> DTensor:
        """Two ranks with equal parts of a sum."""
        return DTensor(self._local_tensor, self._local_tensor * 2, self.device_mesh, placements)


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


def test_a_gradient_that_is_still_a_sum_over_ranks_is_summed() -> None:
    """A replicated norm under sequence parallelism: each rank has the part of its own positions."""
    mesh, one, whole = Mesh((2,), (0,)), Replicate(), torch.ones(3)
    parameter = DTensor(whole, whole, mesh, [one])
    parameter.grad = DTensor(whole, torch.tensor([1.0, 2.0, 3.0]), mesh, [Partial()])
    laid_out(parameter)
    assert parameter.grad._local_tensor.tolist() == [2.0, 4.0, 6.0]
    laid_out(parameter)  # it is as its parameter is: nothing more to be done
    assert parameter.grad._local_tensor.tolist() == [2.0, 4.0, 6.0]


def fused(model: nn.Module) -> Any:
    """Stands in for Apex's and Transformer Engine's FusedAdam, which count steps in the group."""

    class FusedAdam(torch.optim.Adam):
        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                group["step"] = group.get("step", 0) + 1
                for p in group["params"]:
                    state = self.state[p]
                    if not state:
                        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
                    assert set(state) == {"exp_avg", "exp_avg_sq"}
                    state["exp_avg"].mul_(0.9).add_(p.grad, alpha=0.1)

    return FusedAdam(model.parameters(), lr=0.1)


def test_steps_that_are_counted_in_the_group() -> None:
    model = nn.Linear(3, 2)
    optimizer = fused(model)
    adapter = plain(model, optimizer)
    assert adapter.slots() == ["moment1", "moment2"]
    adapter.set_steps(7)  # before its first step
    assert adapter.steps() == 7
    trained(optimizer, model, 2)
    assert adapter.steps() == 9
    adapter.forget()
    assert adapter.steps() == 0


@pytest.mark.skipif(torch.__version__ < "2.4", reason="this PyTorch has no fused AdamW on the CPU")
def test_a_fused_kernel_finds_its_count_beside_the_parameter() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    plain(model, optimizer).set_steps(3)
    trained(optimizer, model, 1)
    assert plain(model, optimizer).steps() == 4


def test_modules_in_a_list_are_megatrons() -> None:
    with pytest.raises(InputError, match="the optimizer is none of Megatron's; give the module that has them all"):
        choose([nn.Linear(2, 2), nn.Linear(2, 2)], None)
