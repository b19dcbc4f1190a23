"""Pieces of any split, against the elements themselves: a tensor of its own numbers is cut as the trainer cuts its weights."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mistura import InputError
from mistura.adapters import plain
from mistura.adapters.base import cut
from mistura.layout import Held, Named, Piece, Split, _key, begin, held, megatron, numbered, shard

ROUNDS = 300


def uneven(draw: random.Random, total: int, parts: int) -> list[int]:
    """`parts` sizes that add up to total, some of them nothing."""
    cuts = sorted(draw.randint(0, total) for _ in range(parts - 1))
    return [b - a for a, b in zip([0, *cuts], [*cuts, total])]


def box(whole: Tensor, piece: Piece) -> Tensor:
    """The piece of a whole tensor, element by element."""
    if len(piece.offset) != whole.dim():
        return whole.flatten()[piece.offset[0] : piece.offset[0] + piece.extent[0]]
    return whole[tuple(slice(o, o + n) for o, n in zip(piece.offset, piece.extent))]


def ways(draw: random.Random, whole: Tensor, ranks: int) -> list[tuple[Tensor, Any]]:
    """What each rank holds of a tensor of its own numbers, and what its layout says of that."""
    way = draw.choice(["whole", "even", "uneven", "blocks", "pieces"] if whole.dim() else ["whole"])
    dim = draw.randrange(max(1, whole.dim()))
    if way == "even" and whole.shape[dim] % ranks == 0:
        return [(t.contiguous(), Split(dim, r, ranks)) for r, t in enumerate(whole.chunk(ranks, dim))]
    if way == "uneven":
        sizes = uneven(draw, whole.shape[dim], ranks)
        return [(t.contiguous(), Split(dim, r, ranks, sizes=sizes)) for r, t in enumerate(whole.split(sizes, dim))]
    if way == "blocks" and whole.shape[dim] % (2 * ranks) == 0:
        gate, up = whole.chunk(2, dim)
        both = zip(gate.chunk(ranks, dim), up.chunk(ranks, dim))
        return [(torch.cat(pair, dim), Split(dim, r, ranks, blocks=2)) for r, pair in enumerate(both)]
    if way == "pieces":
        out = []
        at = 0
        for n in uneven(draw, whole.numel(), ranks):
            first = draw.randint(0, n)
            both = [Piece("", (at,), (first,), shape=tuple(whole.shape)), Piece("", (at + first,), (n - first,), shape=tuple(whole.shape))]
            both = [p for p in both if p.extent[0]]
            if both:
                out.append((whole.flatten()[at : at + n].clone(), both))
            at += n
        return out
    return [(whole.clone(), None) for _ in range(ranks)]


def sharded(draw: random.Random, local: Tensor, parts: list[Held], over: int) -> list[tuple[Tensor, list[Held]]]:
    """The flat shards of what one rank holds, over data-parallel ranks."""
    out = []
    at = 0
    for n in uneven(draw, local.numel(), over):
        out.append((local.flatten()[at : at + n].clone(), shard(parts, local.shape, at, at + n)))
        at += n
    return out


def splits(draw: random.Random, whole: Tensor) -> list[tuple[Tensor, list[Held]]]:
    """What every rank of a random layout holds of a tensor: local values and pieces."""
    out: list[tuple[Tensor, list[Held]]] = []
    for local, answer in ways(draw, whole, draw.randint(1, 4)):
        _, shape, parts = held("w", local.shape, answer)
        assert shape == tuple(whole.shape)
        flat = all(begin(h.offset, h.extent, local.shape) is not None for h in parts)
        if draw.random() < 0.5 and flat:
            out += sharded(draw, local, parts, draw.randint(1, 3))
        else:
            out.append((local, parts))
    return out


def shapes(draw: random.Random) -> list[int]:
    return [draw.choice([1, 2, 3, 4, 6, 8]) for _ in range(draw.randint(0, 3))]


def test_pieces_are_the_elements_that_a_rank_holds() -> None:
    for seed in range(ROUNDS):
        draw = random.Random(seed)
        shape = shapes(draw)
        whole = torch.arange(math.prod(shape), dtype=torch.float32).view(shape)
        for local, parts in splits(draw, whole):
            seen = []
            for part in parts:
                mine = cut(local, part, part.offset)
                assert mine.shape == part.piece.extent, (seed, part)
                assert torch.equal(mine, box(whole, part.piece)), (seed, part)
                seen.append(mine.flatten())
            both = torch.cat(seen).sort().values if seen else torch.empty(0)
            assert torch.equal(both, local.flatten().sort().values), (seed, "elements without a piece")


class Rank(torch.nn.Module):
    """What one rank holds, as parameters."""

    def __init__(self, values: Sequence[Tensor]) -> None:
        super().__init__()
        self.parts = torch.nn.ParameterList([torch.nn.Parameter(v.clone()) for v in values])


def test_any_split_merges_as_the_whole_does() -> None:
    """Weights go out in pieces, an update comes back in pieces: to the bit what one rank with everything does."""
    for seed in range(ROUNDS):
        draw = random.Random(seed)
        torch.manual_seed(seed)
        wholes = [torch.randn(shapes(draw)) for _ in range(3)]
        adapters = []
        for number, whole in enumerate(wholes):
            for local, answer in ways(draw, torch.arange(whole.numel()).view(whole.shape), draw.randint(1, 4)):
                values = whole.flatten()[local.flatten()].view(local.shape)
                adapters.append(plain(Rank([values]), None, lambda _, __, a=answer, n=f"w{number}": renamed(a, n)))
        everyone = [b"".join(keys(a.pieces())) for a in adapters]
        for rank, adapter in enumerate(adapters):
            adapter.number(rank, lambda _, e=everyone: e)
        sent = [torch.full_like(w, float("nan")) for w in wholes]
        for adapter in adapters:
            for piece in adapter.pieces():
                if piece.replica == 0:
                    target = box(sent[int(piece.name[1:])], piece)
                    assert bool(target.isnan().all()), (seed, "twice")
                    target.copy_(adapter.weights(piece))
        for whole, got in zip(wholes, sent):
            assert torch.equal(whole, got), (seed, "not all of it, or not the same bits")
        deltas = [torch.randn(w.shape) for w in wholes]
        for adapter in adapters:
            for piece in adapter.pieces():
                n = int(piece.name[1:])
                adapter.weights(piece).add_(box(deltas[n], piece))
                assert torch.equal(adapter.weights(piece), box(wholes[n] + deltas[n], piece))


def renamed(answer: Any, name: str) -> Any:
    """The same answer for the tensor of this name."""
    if answer is None:
        return Named(name)
    return replace(answer, name=name) if isinstance(answer, Split) else [replace(p, name=name) for p in answer]


def keys(pieces: Sequence[Piece]) -> list[bytes]:
    return [_key(p) for p in pieces]


def test_the_lowest_rank_that_holds_a_box_sends_it() -> None:
    whole, left, right = Piece("w", (0, 0), (4, 6)), Piece("v", (0, 0), (4, 3)), Piece("v", (0, 3), (4, 3))
    ranks = [[whole, left], [whole, right], [whole, left], [whole, right]]
    everyone = [b"".join(keys(p)) for p in ranks]
    got = [[p.replica for p in numbered(pieces, r, lambda _: everyone)] for r, pieces in enumerate(ranks)]
    assert got == [[0, 0], [1, 0], [2, 1], [3, 1]]
    said = [Piece("w", (0, 0), (4, 6), replica=7)]
    assert numbered(said, 0, lambda mine: [mine]) == said


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Split(2, 0, 2), 'layout of w "2": the parameter has 2 dimensions'),
        (Split(0, 2, 2), 'layout of w "2 of 2": is no part'),
        (Split(0, 0, 2, sizes=[3, 3]), 'layout of w "[3, 3]": part 0 of 2 has 4 here'),
        (Split(0, 0, 2, sizes=[4]), "part 0 of 2 has 4 here"),
        (Split(0, 0, 2, blocks=3), "4 rows are not that many equal blocks"),
        (Piece("w", (0, 0), (4, 6)), "pieces of one parameter belong to one tensor, and name its whole shape"),
        (Piece("w", (0, 0), (4, 5), shape=(8, 6)), "its pieces have 20 elements, the parameter 24"),
        ("column", "is neither a Piece, a list of pieces, a Split nor None"),
        ([], "is neither a Piece"),
    ],
)
def test_layouts_that_cannot_be(answer: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        held("w", (4, 6), answer)
    assert words in str(caught.value)


LAYERS = [
    # name, local shape, run's tensor, its shape, offset of the first piece, pieces
    ("embedding.word_embeddings.weight", (8, 4), "embedding.word_embeddings.weight", (16, 4), (8, 0), 1),
    ("decoder.layers.1.self_attention.linear_qkv.weight", (6, 4), "decoder.layers.5.self_attention.linear_qkv.weight", (12, 4), (6, 0), 1),
    ("decoder.layers.1.self_attention.linear_qkv.layer_norm_weight", (4,), "decoder.layers.5.self_attention.linear_qkv.layer_norm_weight",
     (4,), (0,), 1),
    ("decoder.layers.0.self_attention.linear_proj.weight", (4, 2), "decoder.layers.4.self_attention.linear_proj.weight", (4, 4), (0, 2), 1),
    ("decoder.layers.0.self_attention.linear_proj.bias", (4,), "decoder.layers.4.self_attention.linear_proj.bias", (4,), (0,), 1),
    ("decoder.layers.0.mlp.linear_fc1.weight", (6, 4), "decoder.layers.4.mlp.linear_fc1.weight", (12, 4), (3, 0), 2),
    ("decoder.layers.0.mlp.linear_fc2.weight", (4, 3), "decoder.layers.4.mlp.linear_fc2.weight", (4, 6), (0, 3), 1),
    ("decoder.layers.0.mlp.router.weight", (8, 4), "decoder.layers.4.mlp.router.weight", (8, 4), (0, 0), 1),
    ("decoder.layers.0.mlp.experts.local_experts.1.linear_fc1.weight", (6, 4),
     "decoder.layers.4.mlp.experts.local_experts.7.linear_fc1.weight", (6, 4), (0, 0), 1),
    ("decoder.layers.0.mlp.experts.linear_fc2.weight0", (4, 3), "decoder.layers.4.mlp.experts.linear_fc2.weight6", (4, 3), (0, 0), 1),
    ("decoder.layers.0.mlp.shared_experts.linear_fc2.weight", (4, 3), "decoder.layers.4.mlp.shared_experts.linear_fc2.weight", (4, 6),
     (0, 3), 1),
    ("output_layer.weight", (8, 4), "output_layer.weight", (16, 4), (8, 0), 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "called", "whole", "offset", "count"), LAYERS)
def test_megatron_names(name: str, shape: Any, called: str, whole: Any, offset: Any, count: int) -> None:
    layout = megatron(tp_rank=1, tp_size=2, ep_rank=3, ep_size=4, expert_tp_rank=0, expert_tp_size=1, experts=8, first_layer=4)
    got, full, parts = held(name, shape, layout(name, torch.empty(shape)))
    assert (got, full, parts[0].piece.offset, len(parts)) == (called, whole, offset, count)


def test_megatron_says_itself_what_is_split() -> None:
    parameter = torch.nn.Parameter(torch.empty(4, 6))
    parameter.tensor_model_parallel, parameter.partition_dim = True, 1  # type: ignore[attr-defined]
    layout = megatron(tp_rank=1, tp_size=2)
    assert layout("decoder.final.projection", parameter) == Split(1, 1, 2, name="decoder.final.projection")
    parameter.tensor_model_parallel = False  # type: ignore[attr-defined]
    assert layout("decoder.layers.0.mlp.linear_fc2.weight", parameter) == Named("decoder.layers.0.mlp.linear_fc2.weight")
    parameter.shared = True  # type: ignore[attr-defined]
    assert layout("output_layer.weight", parameter) == Named("embedding.word_embeddings.weight", 1)
    with pytest.raises(InputError, match="holds all local experts in one matrix"):
        layout("decoder.layers.0.mlp.experts.weight1", parameter)
    with pytest.raises(InputError, match="are not shared out evenly among 4"):
        megatron(ep_rank=0, ep_size=4, experts=6)
