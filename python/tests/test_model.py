"""The reference learner's model against the oracle, which is written from the same page and computes every expert for every token."""

from __future__ import annotations

import pytest
import torch
from oracle import model as oracle_model
from oracle import routing as oracle_routing
from torch import Tensor

import models
from mistura import experts, routing
from mistura.documents import Documents
from mistura.model import Model, Pass, Places, attend_fused, attend_plain, is_state, tensors
from mistura.routing import Noise

END = 6  # of a document, where there are documents
ROWS, LENGTH = 3, 13
BATCH = models.tokens(ROWS, LENGTH + 1, vocab=7)


def made(name: str, dtype: torch.dtype, weights: dict[str, Tensor], **options: object) -> Model:
    """The reference learner's model with these weights."""
    model = Model(models.config(name), **options).to(dtype)
    mine = tensors(model)
    assert sorted(mine) == sorted(weights)
    for tensor, value in weights.items():
        mine[tensor].copy_(value)
    return model


def noise_of(name: str, length: int) -> Tensor | None:
    """Draws [layers, B, T, E] of a routing warm-up, if the model has one."""
    c = models.config(name)
    if not c.routing_warmup_tokens:
        return None
    return torch.randn(c.layers, ROWS, length, c.experts, dtype=torch.float64, generator=torch.Generator().manual_seed(5))


def gradients(model: Model) -> dict[str, Tensor]:
    """Gradients under the names of the run."""
    shadow = {name: p.grad if p.grad is not None else torch.zeros_like(p) for name, p in model.named_parameters()}
    found = {}
    for name, value in shadow.items():
        prefix, _, matrix = name.rpartition(".")
        if prefix.endswith(".experts"):
            found.update({f"{prefix}.{e}.{matrix}": value[e] for e in range(len(value))})
        else:
            found[name] = value
    return found


def off(got: Tensor, want: Tensor) -> float:
    """Relative L2 distance."""
    got, want = got.detach().double(), want.detach().double()
    return float((got - want).norm() / want.norm().clamp_min(1e-12))


def asked(
    name: str, end: int | None, weights: dict[str, Tensor], imposed: dict[int, Tensor] | None = None
) -> tuple[oracle_model.Pass, dict[str, Tensor]]:
    """The oracle's pass, in the format of the weights, and its gradients."""
    dtype = weights["norm"].dtype
    oracle, eps = oracle_model.Model(models.for_oracle(name), weights), noise_of(name, LENGTH)
    noise = None if eps is None else oracle_routing.Noise(0.25, dict(enumerate(eps.to(dtype))))
    told = oracle.forward(BATCH, end, imposed, noise)
    told.total(oracle.c).backward()
    return told, {tensor: w.grad for tensor, w in oracle.trained.items()}


def answered(model: Model, name: str, end: int | None, imposed: dict[int, Tensor] | None = None) -> tuple[Pass, dict[str, Tensor]]:
    """The same of the model under test."""
    eps = noise_of(name, LENGTH)
    own = model(BATCH, end, None if eps is None else Noise(0.25, eps.to(model.norm.dtype)), imposed)
    own.total(model.c).backward()
    return own, gradients(model)


def same(own: Pass, told: oracle_model.Pass, bound: float) -> None:
    """Losses, targets, choices and both router losses agree."""
    assert off(own.losses, told.losses) < bound
    assert torch.equal(own.targets, told.targets)
    for layer, r in told.routed.items():
        assert torch.equal(own.routed[layer].choice, r.choice)
        assert off(own.routed[layer].balance, r.balance) < bound
        assert off(own.routed[layer].z, r.z) < bound


@pytest.mark.parametrize("end", [None, END], ids=["one document", "documents"])
@pytest.mark.parametrize("name", models.NAMES)
def test_losses_and_gradients_are_the_oracles(name: str, end: int | None) -> None:
    weights = models.weights(name)
    told, want = asked(name, end, weights)
    own, found = answered(made(name, torch.float64, weights), name, end)
    same(own, told, 1e-12)
    assert sorted(found) == sorted(want)
    for tensor in want:
        assert off(found[tensor], want[tensor]) < 1e-10, tensor


@pytest.mark.parametrize("end", [None, END], ids=["one document", "documents"])
@pytest.mark.parametrize("name", models.NAMES)
def test_fp32_is_as_near_as_the_oracle_in_fp32(name: str, end: int | None) -> None:
    """Where a gradient is a difference of large numbers, the oracle's own rounding says what can be asked for."""
    weights = models.weights(name)
    told, want = asked(name, end, weights)
    imposed = {layer: r.choice for layer, r in told.routed.items()}
    _, rounded = asked(name, end, {tensor: w.float() for tensor, w in weights.items()}, imposed)
    own, found = answered(made(name, torch.float32, weights), name, end, imposed)
    same(own, told, 2e-6)
    for tensor in want:
        assert off(found[tensor], want[tensor]) < max(5e-6, 4 * off(rounded[tensor], want[tensor])), tensor


def test_a_wrong_model_would_be_noticed() -> None:
    """The comparison is worth nothing if gate and up could change places."""
    weights = models.weights("everything")
    told, _ = asked("everything", None, weights)
    a, b = "layers.1.experts.2.gate", "layers.1.experts.2.up"
    weights[a], weights[b] = weights[b], weights[a]
    own, _ = answered(made("everything", torch.float64, weights), "everything", None)
    assert off(own.losses, told.losses) > 1e-6


@pytest.mark.parametrize("name", ["everything", "routing of every kind"])
def test_checkpointing_gives_the_same_gradients(name: str) -> None:
    weights = models.weights(name)
    kept, again = (answered(made(name, torch.float32, weights, activation_checkpointing=on), name, END)[1] for on in (False, True))
    assert all(torch.equal(kept[tensor], again[tensor]) for tensor in kept)


@pytest.mark.parametrize("name", models.NAMES)
def test_bf16_stays_within_its_bounds(name: str) -> None:
    """Products are rounded to 8 bits; losses and gradients stay near, and the weights stay fp32."""
    weights = models.weights(name, deviation=0.2)
    told, want = asked(name, END, weights)
    model = made(name, torch.float32, weights, autocast=torch.bfloat16)
    own, found = answered(model, name, END, {layer: r.choice for layer, r in told.routed.items()})
    assert own.losses.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert all(g.dtype == torch.float32 for g in found.values())
    assert off(own.losses, told.losses) < 2e-2
    whole = (torch.cat([of[tensor].flatten().double() for tensor in want]) for of in (found, want))
    assert 1e-5 < off(*whole) < 0.2  # and it is bf16: fp32 would be nearer


def test_the_router_is_never_rounded() -> None:
    """Logits that bf16 rounds alike still send tokens to the larger one, under autocast too."""
    model = made("plain", torch.float32, models.weights("plain"), autocast=torch.bfloat16)
    m = torch.ones(1, 1, 6)
    model.layers[0].router.data.copy_(torch.full((3, 6), 1 / 6) + torch.tensor([[0.0], [1e-6], [2e-6]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        routed = model.layers[0].route(m, None, None)
    assert routed.choice.tolist() == [[[2, 1]]]


@pytest.mark.parametrize("seed", range(8))
def test_every_way_of_products_is_the_loop_over_tokens(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    n, k, e, d, f = (int(torch.randint(1, top, (), generator=draw)) for top in (40, 4, 9, 8, 8))
    k = min(k, e)
    layer = experts.Experts(e, d, f).double()
    for p in layer.parameters():
        p.data.normal_(generator=draw)
    x = torch.randn(n, d, dtype=torch.float64, generator=draw)
    choice = torch.rand(n, e, generator=draw).topk(k).indices // (1 + seed % 2)  # now and then experts without a token, or one twice
    weights = torch.rand(n, k, dtype=torch.float64, generator=draw)
    want = torch.zeros_like(x)
    for t in range(n):
        for place in range(k):
            g, u, o = (m[choice[t, place]] for m in (layer.gate, layer.up, layer.down))
            want[t] += weights[t, place] * (o @ (torch.nn.functional.silu(g @ x[t]) * (u @ x[t])))
    assert off(layer(x, choice, weights), want) < 1e-12
    order = choice.flatten().sort(stable=True).indices
    rows, counts = x[order // k], torch.bincount(choice.flatten(), minlength=e).tolist()
    loop, padded = (way(rows, counts, layer.gate, layer.up, layer.down) for way in (experts.loop, experts.padded))
    assert off(padded, loop) < 1e-12
    for a, b in zip(torch.autograd.grad(loop.sum(), layer.parameters()), torch.autograd.grad(padded.sum(), layer.parameters())):
        assert off(a, b) < 1e-12


def test_a6_equal_scores_go_to_the_lowest_expert() -> None:
    logits = torch.tensor([[[1.0, 2.0, 2.0, 2.0, 0.0]]])
    c = models.config("plain")
    assert routing.choose(c, logits, torch.softmax(logits, -1), None).tolist() == [[[1, 2]]]


def test_the_loss_does_not_depend_on_how_a_batch_is_cut() -> None:
    """A9: sums over tokens are divided once, so micro-batches of unequal targets weigh what they should."""
    whole = made("everything", torch.float64, models.weights("everything"))
    whole(BATCH, END).total(whole.c).backward()
    parts = made("everything", torch.float64, models.weights("everything"))
    for cut in (BATCH[:1], BATCH[1:]):
        parts(cut, END).total(parts.c).backward()
    want = gradients(whole)
    assert all(off(g, want[tensor]) < 1e-12 for tensor, g in gradients(parts).items())


def test_documents_are_kept_apart() -> None:
    d = Documents.split(torch.tensor([[10, 11, 99, 20]]), 99)
    assert d.position.tolist() == [[0, 1, 2, 0]]
    assert d.counts.tolist() == [[True, True, False, True]]
    assert d.visible()[0].tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [True, True, True, False],
        [False, False, False, True],
    ]


def test_weights_are_zero_until_the_run_sends_them() -> None:
    """A1: nothing is drawn from a device's generator."""
    state = torch.get_rng_state()
    assert all(float(value.abs().max()) == 0 for value in tensors(Model(models.config("everything"))).values())
    assert torch.equal(torch.get_rng_state(), state)


def test_only_state_is_without_a_gradient() -> None:
    model = Model(models.config("routing of every kind"))
    trained = gradients(model)
    assert {name for name in tensors(model) if name not in trained} == {name for name in tensors(model) if is_state(name)}


if hasattr(torch.nn.functional, "scaled_dot_product_attention"):  # torch 2

    @pytest.mark.parametrize("rows", [1, ROWS])
    @pytest.mark.parametrize("end", [None, END])
    def test_fused_attention_is_the_plain_one(end: int | None, rows: int) -> None:
        draw = torch.Generator().manual_seed(3)
        c = models.config("grouped queries, no shared expert")
        q, k, v = (torch.randn(rows, h, LENGTH, 4, dtype=torch.float64, generator=draw) for h in (6, 2, 2))
        places = Places.of(c, Documents.split(models.tokens(rows, LENGTH, 7), end), q)
        assert off(attend_fused(q, k, v, places), attend_plain(q, k, v, places)) < 1e-12


if hasattr(torch.nn.functional, "grouped_mm"):  # torch 2.10, on CPUs too

    def test_the_grouped_product_is_the_loop_in_bf16() -> None:
        draw = torch.Generator().manual_seed(1)
        layer = experts.Experts(5, 16, 24)
        for p in layer.parameters():
            p.data.normal_(std=0.3, generator=draw)
        counts = [3, 0, 7, 1, 5]
        rows = torch.randn(sum(counts), 16, generator=draw).bfloat16()
        grouped = experts.grouped(rows, counts, layer.gate, layer.up, layer.down)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loop = experts.loop(rows, counts, layer.gate, layer.up, layer.down)
        assert off(grouped, loop) < 1e-2
        found = (torch.autograd.grad(y.float().square().sum(), layer.parameters()) for y in (grouped, loop))
        assert all(off(a, b) < 1e-2 for a, b in zip(*found))
