"""Ranks of one island over gloo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from mistura import InputError, Lost, control


def _enter(rank: int, world: int, folder: str, body: Callable[[int, str], None]) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    body(rank, folder)
    torch.distributed.destroy_process_group()  # or its threads may outlive it at exit


def spawn(world: int, folder: Path, body: Callable[[int, str], None]) -> None:
    """Run `body` on every rank."""
    mp.start_processes(_enter, (world, str(folder), body), nprocs=world, start_method="fork")


def _messages(rank: int, folder: str) -> None:
    ranks = control.ranks(None)
    assert (ranks.rank, ranks.world, ranks.control) == (rank, 2, rank == 0)
    assert (ranks.host, ranks.hosts, ranks.host_rank, ranks.host_world) == (0, 1, rank, 2)
    for size in (0, 1, 4079, 4080, 4081, 100_000):
        said = {"text": "é" * size, "number": 1.5}
        assert ranks.share(lambda said=said: said if rank == 0 else None) == said
    assert ranks.sum([rank + 1, 10]) == [3, 20]
    rows = ranks.gather([float(rank), float("nan")])
    assert [r[0] for r in rows] == ([0.0, 1.0] if rank == 0 else [])
    assert ranks.everyone(lambda: rank * 5) == [0, 5]
    wrong(ranks, rank)


def wrong(ranks: Any, rank: int) -> None:
    """What goes wrong on one rank is raised on all."""

    def bad() -> None:
        raise InputError("parameter w", None, "is odd", "mend it")

    for call in (ranks.share, ranks.each):
        with pytest.raises(InputError, match="parameter w: is odd; mend it"):
            call(bad)
    with pytest.raises(InputError, match="is odd" if rank == 1 else "rank 1: parameter w: is odd"):
        ranks.each(lambda: bad() if rank == 1 else None)


def test_messages(tmp_path: Path) -> None:
    """Short and long values, sums, rows and errors."""
    spawn(2, tmp_path, _messages)


def _tensor_parallel(rank: int, folder: str) -> None:
    ranks = control.ranks((rank // 2, 2))
    assert ranks.data_ranks() == [0, 0, 1, 1]
    assert ranks.sum([1]) == [2]
    for pair, text in (((0, rank + 1), "other sizes: 1, 2, 3, 4"), ((0, 2), "ranks of size 2 are 0")):
        if pair[0] < pair[1]:
            with pytest.raises(InputError, match=text):
                control.ranks(pair)


def test_ranks_that_share_a_batch(tmp_path: Path) -> None:
    """Two by two; and places that do not fit together."""
    spawn(4, tmp_path, _tensor_parallel)


def _one_dies(rank: int, folder: str) -> None:
    ranks = control.ranks(None)
    if rank == 1:
        os._exit(0)
    with pytest.raises(Lost, match="another rank of this island is gone"):
        for _ in range(100):
            ranks.gather([1.0])
    ranks.close()


def test_a_rank_that_dies_is_noticed(tmp_path: Path) -> None:
    """Not waited for."""
    spawn(2, tmp_path, _one_dies)


def test_alone_refuses_what_needs_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words for a launcher without init_process_group, and for wrong places."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match='WORLD_SIZE "2": ranks were started, and torch.distributed is not initialised'):
        control.ranks(None)
    monkeypatch.delenv("WORLD_SIZE")
    for pair in ((1,), (2, 2), "ab", (-1, 2)):
        with pytest.raises(InputError, match=r"is no pair \(rank, size\)"):
            control.ranks(pair)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is one rank only"):
        control.ranks((1, 2))
    assert control.ranks(None).everyone(lambda: 3) == [3]
