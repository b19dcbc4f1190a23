"""What the ranks of an island hold together, and what was written of a run, for checks that train with real engines."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Callable

import torch
import torch.distributed as dist

from mistura import adapters
from trainers import Diary


def whole(adapter: adapters.Adapter, get: Callable[[Any], torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every tensor, put together out of all ranks' pieces of replica 0."""
    mine = [(p.name, p.offset, p.extent, get(p).detach().clone()) for p in adapter.pieces() if p.replica == 0]
    everyone: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, (adapter.tensors(), mine))
    out = {t["name"]: torch.full(t["shape"], float("nan")) for tensors, _ in everyone for t in tensors}
    for name, offset, extent, value in (piece for _, pieces in everyone for piece in pieces):
        if len(offset) == out[name].dim():
            out[name][tuple(slice(o, o + n) for o, n in zip(offset, extent))] = value
        else:
            out[name].view(-1)[offset[0] : offset[0] + extent[0]] = value
    return out


def digest(values: dict[str, torch.Tensor]) -> str:
    """Of all elements, to the bit."""
    h = hashlib.sha256()
    for name in sorted(values):
        h.update(name.encode() + values[name].numpy().tobytes())
    return h.hexdigest()


def gathered(key: bytes, world: int) -> list[bytes]:
    """What every rank gives."""
    out: list[Any] = [None] * world
    dist.all_gather_object(out, key)
    return out


def whole_norms(adapter: adapters.Adapter, name: str) -> dict[str, float]:
    """The length of every tensor's moment."""
    return {tensor: float(value.double().norm()) for tensor, value in whole(adapter, lambda p: adapter.slot(p, name)).items()}


def losses(diaries: list[Diary]) -> list[float]:
    """The mean over ranks, by step."""
    return [sum(values) / len(values) for values in zip(*(d.all("loss") for d in diaries))]


def gates(out: Path) -> list[dict[str, Any]]:
    """What was decided at the gate, from the tape of a run."""
    lines = [line for path in sorted((out / "tape/era-0001/coord").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [r for r in map(json.loads, lines) if r.get("kind") == "gate"]
