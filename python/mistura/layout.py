"""Which part of which tensor of the run a rank owns.

A *piece* is a box of a tensor in the coordinates of the whole tensor: `offset` and `extent`, one number a dimension, row-major.
One number each on a tensor of more dimensions is a range of its flattened elements (flat shards of FSDP, ZeRO and Megatron's
distributed optimizer). A trainer that splits its model says how in a callable:

    def layout(name: str, parameter: Tensor) -> Piece | list[Piece] | Split | None

`Split` for an even or uneven split along one dimension, `Piece` for anything else, None for a tensor that this rank holds as a
whole. `megatron()` makes one for Megatron-style names. Of the ranks that hold the same box the lowest sends it, the others only
adopt; together the ranks of an island must cover every tensor exactly once.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, Union

from .errors import InputError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """The box of a tensor that one rank owns. Replica 0 is sent, others adopt only; None: decided by who else holds the same box.

    `shape` is of the whole tensor; a `layout` that answers with pieces gives it, or the pieces cannot be checked.
    """

    name: str
    offset: Shape
    extent: Shape
    replica: int | None = None
    shape: Shape | None = None

    def message(self) -> dict[str, Any]:
        """As the local protocol carries it."""
        return {"name": self.name, "offset": list(self.offset), "extent": list(self.extent), "replica": self.replica or 0}

    def size(self) -> int:
        """Elements."""
        return math.prod(self.extent)


@dataclass(frozen=True)
class Split:
    """This rank holds part `index` of `count` along dimension `dim`: equal parts, or of `sizes` in order.

    `blocks`: the tensor is that many equal blocks one behind the other along `dim`, each of them split (a gate and an up
    projection in one matrix). `name` where the run's tensor has another name than the parameter.
    """

    dim: int
    index: int
    count: int
    sizes: Sequence[int] | None = None
    blocks: int = 1
    replica: int | None = None
    name: str | None = None


@dataclass(frozen=True)
class Named:
    """This rank holds all of the run's tensor `name`: the parameter has another name here (pipeline stage, expert)."""

    name: str
    replica: int | None = None


Answer = Optional[Union[Piece, Sequence[Piece], Split, Named]]
Layout = Callable[[str, Any], Answer]


@dataclass(frozen=True)
class Held:
    """A piece and where it lies in the tensor that this rank holds: a box of it, or a range of its flattened elements."""

    piece: Piece
    offset: Shape
    extent: Shape


def held(name: str, shape: Sequence[int], answer: Answer) -> tuple[str, Shape, list[Held]]:
    """What a layout's answer means for a parameter of this (local) shape: name and shape of the run's tensor, and its pieces."""
    local = tuple(int(n) for n in shape)
    if answer is None or isinstance(answer, Named):
        called = name if answer is None else answer.name
        piece = Piece(called, (0,) * len(local), local, None if answer is None else answer.replica, local)
        return called, local, [Held(piece, piece.offset, local)]
    if isinstance(answer, Split):
        return _split(name, local, answer)
    if isinstance(answer, Piece):
        answer = [answer]
    if isinstance(answer, Sequence) and answer and all(isinstance(p, Piece) for p in answer):
        return _listed(name, local, answer)
    raise InputError(f"layout of {name}", answer, "is neither a Piece, a list of pieces, a Split nor None", "see mistura.layout")


def _split(name: str, local: Shape, s: Split) -> tuple[str, Shape, list[Held]]:
    where, called = f"layout of {name}", s.name or name
    if not 0 <= s.dim < len(local):
        raise InputError(where, s.dim, f"the parameter has {len(local)} dimensions", "give dim as one of them, from 0 on")
    if not 0 <= s.index < s.count:
        raise InputError(where, f"{s.index} of {s.count}", "is no part", "index counts from 0 to count - 1")
    if s.blocks < 1 or local[s.dim] % s.blocks != 0:
        raise InputError(where, s.blocks, f"{local[s.dim]} rows are not that many equal blocks", "give the number of blocks that are split")
    mine = local[s.dim] // s.blocks
    sizes = list(s.sizes) if s.sizes is not None else [mine] * s.count
    if len(sizes) != s.count or any(n < 0 for n in sizes) or sizes[s.index] != mine:
        problem = f"part {s.index} of {s.count} has {mine} here (dimension {s.dim} of {list(local)})"
        raise InputError(where, sizes, problem, "sizes are those of all parts, in order")
    total = sum(sizes)
    shape = (*local[: s.dim], total * s.blocks, *local[s.dim + 1 :])
    extent = (*local[: s.dim], mine, *local[s.dim + 1 :])
    out = []
    for block in range(s.blocks if mine else 0):
        there = tuple(block * total + sum(sizes[: s.index]) if d == s.dim else 0 for d in range(len(local)))
        here = tuple(block * mine if d == s.dim else 0 for d in range(len(local)))
        out.append(Held(Piece(called, there, extent, s.replica, shape), here, extent))
    return called, shape, out


def _listed(name: str, local: Shape, pieces: Sequence[Piece]) -> tuple[str, Shape, list[Held]]:
    """The pieces' elements, row-major, one behind the other, are the parameter's."""
    where = f"layout of {name}"
    called, shape = pieces[0].name or name, pieces[0].shape
    if shape is None or any((p.name or name) != called or p.shape != shape for p in pieces):
        problem = "pieces of one parameter belong to one tensor, and name its whole shape"
        raise InputError(where, None, problem, "give every Piece the same name and shape=")
    if sum(p.size() for p in pieces) != math.prod(local):
        problem = f"its pieces have {sum(p.size() for p in pieces)} elements, the parameter {math.prod(local)}"
        raise InputError(where, [p.extent for p in pieces], problem, "extents are those of what this rank holds")
    if len(pieces) == 1 and pieces[0].extent == local:
        return called, shape, [Held(replace(pieces[0], name=called), (0,) * len(local), local)]
    out, at = [], 0
    for p in pieces:
        out.append(Held(replace(p, name=called), (at,), (p.size(),)))
        at += p.size()
    return called, shape, out


def shard(parts: Sequence[Held], local: Sequence[int], first: int, last: int) -> list[Held]:
    """What remains of a parameter's pieces when a rank holds only its flattened elements first <= n < last.

    `local` is the shape of the parameter before that, `parts` its pieces. The places that come out are in the shard.
    """
    out = []
    for part in parts:
        start = begin(part.offset, part.extent, local)
        if start is None:
            problem = "its blocks are split along a dimension that does not lie in one range, and then flattened"
            raise InputError(f"layout of {part.piece.name}", None, problem, "keep the blocks in parameters of their own")
        low, high = max(first - start, 0), min(last - start, part.piece.size())
        for offset, extent, at in _ranges(part.piece, low, high):
            out.append(Held(replace(part.piece, offset=offset, extent=extent), (start + at - first,), (math.prod(extent),)))
    return out


def begin(offset: Sequence[int], extent: Sequence[int], shape: Sequence[int]) -> int | None:
    """Number of a box's first element in the tensor, row-major, when the box is one range of elements; else None."""
    if len(offset) != len(shape):
        return offset[0]
    wide = [d for d, n in enumerate(extent) if n > 1]
    if wide and any(n != m for n, m in zip(extent[wide[0] + 1 :], shape[wide[0] + 1 :])):
        return None
    number = 0
    for at, n in zip(offset, shape):
        number = number * n + at
    return number


def _ranges(piece: Piece, first: int, last: int) -> Iterator[tuple[Shape, Shape, int]]:
    """Boxes of the elements first <= n < last of a piece, with the number of each one's first element in the piece."""
    if first >= last:
        return
    number = begin(piece.offset, piece.extent, piece.shape if piece.shape is not None else piece.extent)
    if number is not None:
        yield (number + first,), (last - first,), first
    else:
        yield from _boxes(piece.offset, piece.extent, first, last, ())


def _boxes(offset: Shape, extent: Shape, first: int, last: int, prefix: Shape) -> Iterator[tuple[Shape, Shape, int]]:
    """The rest of a row, whole rows, and the beginning of a row; and so in every dimension below `prefix`."""
    d = len(prefix)
    row = math.prod(extent[d + 1 :])
    base = sum(n * math.prod(extent[i + 1 :]) for i, n in enumerate(prefix))

    def block(low: int, high: int) -> tuple[Shape, Shape, int]:
        index = (*prefix, low)
        at = tuple(o + n for o, n in zip(offset, index)) + offset[d + 1 :]
        return at, (*(1 for _ in prefix), high - low, *extent[d + 1 :]), base + low * row

    low, high = -(-first // row), last // row
    if low > high:  # within one row
        yield from _boxes(offset, extent, first - high * row, last - high * row, (*prefix, high))
        return
    if first % row:
        yield from _boxes(offset, extent, first % row, row, (*prefix, low - 1))
    if low < high:
        yield block(low, high)
    if last % row:
        yield from _boxes(offset, extent, 0, last % row, (*prefix, high))


def numbered(pieces: Sequence[Piece], rank: int, others: Callable[[bytes], Sequence[bytes]]) -> list[Piece]:
    """The pieces of this rank with their replicas: of equal boxes the lowest rank's is replica 0.

    `others` gives what every rank gives to it, in the order of ranks; all ranks call it.
    """
    mine = [_key(p) for p in pieces]
    seen: dict[bytes, int] = {}
    for one in others(b"".join(mine))[:rank]:
        for i in range(0, len(one), KEY_BYTES):
            key = one[i : i + KEY_BYTES]
            seen[key] = seen.get(key, 0) + 1
    return [p if p.replica is not None else replace(p, replica=seen.get(key, 0)) for p, key in zip(pieces, mine)]


KEY_BYTES = 16


def _key(piece: Piece) -> bytes:
    text = repr((piece.name, tuple(map(int, piece.offset)), tuple(map(int, piece.extent))))
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


COLUMNS = (
    "word_embeddings.weight", "output_layer.weight", "lm_head.weight", "linear_qkv.weight", "linear_qkv.bias", "query_key_value.weight",
    "query_key_value.bias", "linear_q_proj.weight", "linear_q_up_proj.weight", "linear_kv_up_proj.weight", "linear_fc1.weight",
    "linear_fc1.bias", "dense_h_to_4h.weight", "dense_h_to_4h.bias",
)  # fmt: skip
"""Megatron's column-parallel parameters: split along dimension 0."""

ROWS = ("linear_proj.weight", "linear_fc2.weight", "attention.dense.weight", "dense_4h_to_h.weight")
"""Its row-parallel ones: split along dimension 1. Their biases are whole on every rank."""

GATED = ("linear_fc1.", "dense_h_to_4h.")
"""Gate and up projection in one matrix, each of them split."""


def megatron(
    *,
    tp_rank: int = 0,
    tp_size: int = 1,
    ep_rank: int = 0,
    ep_size: int = 1,
    expert_tp_rank: int | None = None,
    expert_tp_size: int | None = None,
    experts: int | None = None,
    first_layer: int = 0,
    gated: bool = True,
) -> Layout:
    """The layout of one model chunk under Megatron-style names.

    Tensor parallelism: as the parameter itself says (tensor_model_parallel, partition_dim), else by its name. Expert parallelism:
    rank `ep_rank` of `ep_size` holds as many of `experts` as the others, in order; local expert 0 is the run's
    ep_rank * experts / ep_size. Pipeline parallelism: layer 0 of this chunk is the run's `first_layer`. `gated`: the first
    projection of an MLP is gate and up in one (SwiGLU).
    """
    if ep_size > 1 and (not experts or experts % ep_size):
        raise InputError(
            "experts", experts, f"are not shared out evenly among {ep_size} expert-parallel ranks", "give the number of all experts"
        )
    first_expert = (experts or 0) // ep_size * ep_rank
    expert_place = (tp_rank if expert_tp_rank is None else expert_tp_rank, tp_size if expert_tp_size is None else expert_tp_size)

    def layout(name: str, parameter: Any) -> Answer:
        if re.search(r"experts\.weight[12]$", name):
            problem = "holds all local experts in one matrix"
            raise InputError(f"parameter {name}", None, problem, "train with experts of their own (TEGroupedMLP, SequentialMLP)")
        called = _global_name(name, first_layer, first_expert)
        replica = 1 if getattr(parameter, "shared", False) else None
        if replica is not None:  # the last stage's copy of the embedding
            called = re.sub(r"output_layer\.weight$", "embedding.word_embeddings.weight", called)
        index, count = expert_place if _of_expert(name) else (tp_rank, tp_size)
        dim = _parallel_dim(name, parameter)
        if dim is None or count == 1:
            return Named(called, replica)
        blocks = 2 if gated and any(word in name for word in GATED) else 1
        return Split(dim, index, count, blocks=blocks, replica=replica, name=called)

    return layout


def _of_expert(name: str) -> bool:
    return re.search(r"\bexperts\.", name) is not None and ".shared_experts." not in name


def _global_name(name: str, first_layer: int, first_expert: int) -> str:
    def later(by: int) -> Callable[[re.Match[str]], str]:
        return lambda m: f"{m.group(1)}{int(m.group(2)) + by}"

    name = re.sub(r"(\blayers\.)(\d+)", later(first_layer), name, count=1)
    if _of_expert(name):
        name = re.sub(r"(\blocal_experts\.)(\d+)", later(first_expert), name, count=1)
        name = re.sub(r"(\bexperts\.linear_fc[12]\.(?:weight|bias))(\d+)$", later(first_expert), name)
    return name


def _parallel_dim(name: str, parameter: Any) -> int | None:
    """The dimension that tensor parallelism splits; None: none."""
    if hasattr(parameter, "tensor_model_parallel"):
        return int(parameter.partition_dim) if parameter.tensor_model_parallel else None
    plain = re.sub(r"(\.(?:weight|bias))\d+$", r"\1", name)
    if plain.endswith(ROWS):
        return 1
    return 0 if plain.endswith(COLUMNS) else None
