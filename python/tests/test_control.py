"""Ranks of one island over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from mistura import InputError, Lost, RolledBack, control


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


class Word:
    """What a link knows of the end, once it has been looked at so often."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def ended(self, patience: float) -> Lost | None:
        """See Link."""
        self.looks -= 1
        return None if self.looks > 0 and patience == 0 else RolledBack("host 1 is gone")


def _one_is_silent(rank: int, folder: str) -> None:
    control.TOGETHER_SECONDS = 0.0
    ranks = control.ranks(None)
    ranks.listen(Word(2))  # type: ignore[arg-type]
    if rank == 1:
        until(Path(folder) / "noticed")
        os._exit(0)
    for call in (lambda: ranks.gather([1.0]), lambda: ranks.share(lambda: "x" * 5000), lambda: ranks.sum([1])):
        with pytest.raises(RolledBack, match="host 1 is gone"):
            call()
    assert ranks.waits
    ranks.close()
    (Path(folder) / "noticed").touch()
    os._exit(0)


class Heard(Word):
    """It is over from the first look on, which it tells."""

    def __init__(self, seen: Path) -> None:
        super().__init__(0)
        self.seen = seen

    def ended(self, patience: float) -> Lost | None:
        """See Link."""
        self.seen.touch()
        return super().ended(patience)


def _one_is_slow(rank: int, folder: str) -> None:
    seen = Path(folder) / "seen"
    ranks = control.ranks(None)
    ranks.listen(Heard(seen))  # type: ignore[arg-type]
    if rank == 0:
        until(seen)
    assert ranks.share(lambda: "the step before it was over") == "the step before it was over"
    ranks.close()


def test_what_was_decided_before_the_end_reaches_all(tmp_path: Path) -> None:
    """A rank that hears of the end sooner does not leave the others alone in the step that they have begun."""
    spawn(2, tmp_path, _one_is_slow)


def _one_leaves(rank: int, folder: str) -> None:
    control.TOGETHER_SECONDS = 0.0
    for life in ("first", "second"):  # what was written of a life is not taken for the next one's
        ranks = control.ranks(None)
        ranks.listen(Word(10**9))  # type: ignore[arg-type]
        if rank == 0:
            ranks.left(RolledBack(f"the {life} is over"))
        else:
            with pytest.raises(RolledBack, match=f"the {life} is over"):
                ranks.share(lambda: "never said")
    until_all(Path(folder), rank)
    os._exit(0)


def until_all(folder: Path, rank: int) -> None:
    """Both ranks are here: the one that has left holds the store."""
    (folder / f"here-{rank}").touch()
    until(folder / f"here-{1 - rank}")


def test_a_rank_that_leaves_alone_says_so_where_ranks_have_met(tmp_path: Path) -> None:
    """The other one's own mistura process hears nothing, as on a host that is cut off."""
    spawn(2, tmp_path, _one_leaves)


def until(path: Path) -> None:
    """Wait for a file."""
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)


def test_a_rank_that_is_silent_is_not_waited_for(tmp_path: Path) -> None:
    """Its host has lost its power, say: no connection ends, and the mistura process says so."""
    spawn(2, tmp_path, _one_is_silent)


SILENT = """
import os, sys, time
import torch.distributed as dist
from mistura import control, errors

class Word:
    def ended(self, patience):
        return errors.Lost("host 1 is gone")

rank = int(sys.argv[1])
control.TOGETHER_SECONDS = 0.0
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/meet", rank=rank, world_size=2)
ranks = control.ranks(None)
if rank == 1:
    print("here", flush=True)
    sys.stdin.read()
    os._exit(0)
ranks.listen(Word())
try:
    ranks.sum([1])
except errors.Lost as err:
    print(err)
ranks.close()
"""


def test_a_process_ends_that_has_left_a_silent_rank(tmp_path: Path) -> None:
    """Nothing waits for the collective that never ends: not the end of the interpreter either."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    start = [[sys.executable, "-c", SILENT, str(rank), str(tmp_path)] for rank in range(2)]
    with subprocess.Popen(start[1], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as other:
        try:
            said = subprocess.run(start[0], capture_output=True, text=True, timeout=60, env=env, check=True).stdout
        finally:
            other.kill()
    assert said == "host 1 is gone\n"


def test_whose_error_a_collective_is() -> None:
    """The trainer's own collective often meets the dead rank first; an error of the trainer's is the trainer's."""
    gloo = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:589] Connection closed by peer [127.0.0.1]:3")
    assert control.of_a_collective(gloo)
    assert control.of_a_collective(RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:1275"))
    assert not control.of_a_collective(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert control.Alone().why(gloo) is None


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
