"""The ranks of one island: who speaks, how all of them do the same, and what they count together.

Rank 0 is the control rank: it alone asks the mistura process what to do, and tells the others. Messages between ranks are
CPU tensors of a gloo group of this package's own, so that the trainer's own groups and devices are never waited for.
A data-parallel rank trains samples of its own; ranks that share one (tensor, pipeline, expert parallel) train the same samples.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import pickle
import socket
import time
from collections.abc import Sequence
from typing import Any, Callable, TypeVar

import torch
import torch.distributed as dist

from .board import Board
from .errors import Error, InputError, Lost, carried, raised
from .link import Link

CONTROL = 0
WORDS = 512
"""Length of the tensor that a message between ranks travels in; a longer one is followed by its rest."""

CPU = torch.device("cpu")
"""Said each time: a trainer may have set another default device."""

GROUP_PATIENCE = datetime.timedelta(days=7)
"""The others wait for rank 0 as long as rank 0 waits for the run; a rank that dies is noticed by its connection."""

GLANCE = datetime.timedelta(seconds=1)
"""Between two looks, while a rank waits for others, at whether the mistura process of its host says that all is over."""

TOGETHER_SECONDS = 5.0
"""A rank that hears that all is over, while it waits, waits on for so long: what rank 0 has decided before may be on its way, and a
rank that leaves a step earlier than the others leaves them in a collective of the trainer's own."""

REASON_PATIENCE_SECONDS = 10.0
"""Ranks often notice that another is gone before the mistura process has heard of it and said why."""

T = TypeVar("T")


class Alone:
    """An island of one rank."""

    rank, world = 0, 1
    host, hosts = 0, 1
    host_rank, host_world = 0, 1
    data_rank, data_size = 0, 1
    control = True

    def share(self, act: Callable[[], T]) -> T:
        """What the control rank's `act` returns or raises, on every rank."""
        return act()

    def host_leader(self) -> int:
        """The rank that starts the mistura process of this rank's host."""
        return 0

    def data_ranks(self) -> list[int]:
        """The data-parallel rank of each rank."""
        return [0]

    def everyone(self, act: Callable[[], T]) -> list[T]:
        """What `act` returns on each rank; raises on all ranks when it raises on one."""
        return [act()]

    def each(self, act: Callable[[], T]) -> T:
        """What `act` returns on this rank; raises on all ranks when it raises on one."""
        return act()

    def gather(self, row: Sequence[float]) -> list[list[float]]:
        """The rows of all ranks, on the control rank; elsewhere nothing."""
        return [list(row)]

    def sum(self, values: Sequence[int]) -> list[int]:
        """Element by element over the ranks that count for their data-parallel rank."""
        return list(values)

    waits = False
    """Something that all ranks do together was left before its end."""

    def listen(self, link: Link) -> None:
        """Who says why it is over, when ranks are gone."""

    def why(self, error: BaseException) -> Error | None:
        """Why the island is over, when that is what `error` of the trainer's own code comes from: a collective of its own."""
        return None

    def left(self, why: Error) -> None:
        """This rank leaves, and there is nobody to be told."""

    def close(self) -> None:
        """Leave the group."""


class Distributed(Alone):
    """The ranks of torch.distributed's world, which is the island."""

    def __init__(self, data_parallel: tuple[int, int] | None) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.control = self.rank == CONTROL
        self._link: Link | None = None
        self._board = Board()
        self._group = self._guard(lambda: dist.new_group(backend="gloo", timeout=GROUP_PATIENCE))
        self.data_rank, self.data_size = data_parallel or (self.rank, self.world)
        self._places = self._objects((self._place(), self.data_rank, self.data_size))
        self._locate()
        self._check_data_parallel()

    def _place(self) -> tuple[str, int]:
        """Host of this rank, and its number there if a launcher says so."""
        local, group = os.environ.get("LOCAL_RANK"), os.environ.get("GROUP_RANK")
        return (f"{socket.gethostname()}/{group}" if group else socket.gethostname(), int(local) if local else -1)

    def _locate(self) -> None:
        names: list[str] = []
        for (name, _), _, _ in self._places:
            if name not in names:
                names.append(name)
        mine = self._places[self.rank][0][0]
        here = [r for r, ((name, _), _, _) in enumerate(self._places) if name == mine]
        self.host, self.hosts = names.index(mine), len(names)
        self.host_rank, self.host_world = here.index(self.rank), len(here)

    def host_leader(self) -> int:
        """The rank that starts the mistura process of this rank's host."""
        mine = self._places[self.rank][0][0]
        return next(r for r, ((name, _), _, _) in enumerate(self._places) if name == mine)

    def _check_data_parallel(self) -> None:
        sizes = sorted({size for _, _, size in self._places})
        ranks = {rank for _, rank, _ in self._places}
        if len(sizes) > 1:
            raise InputError(
                "data_parallel", None, f"the ranks give other sizes: {', '.join(map(str, sizes))}", "give every rank the same size"
            )
        if ranks != set(range(sizes[0])):
            problem = f"the ranks of size {sizes[0]} are {', '.join(map(str, sorted(ranks)))}"
            raise InputError("data_parallel", None, problem, f"they must be 0 to {sizes[0] - 1}, each on at least one rank")
        self.counts = self.rank == next(r for r, (_, rank, _) in enumerate(self._places) if rank == self.data_rank)

    def data_ranks(self) -> list[int]:
        """The data-parallel rank of each rank."""
        return [rank for _, rank, _ in self._places]

    def share(self, act: Callable[[], T]) -> T:
        """What the control rank's `act` returns or raises, on every rank; the value must be JSON."""
        if not self.control:
            return self._heard()
        try:
            value, error = act(), None
        except Exception as err:
            value, error = None, err
        self._say({"value": value} if error is None else {"error": carried(error)})
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def _say(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        words = torch.zeros(max(WORDS, (len(text) + 15) // 8), dtype=torch.int64, device=CPU)
        words[0] = len(text)
        words[1:].view(torch.uint8)[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self._wait(lambda: dist.broadcast(words[:WORDS].clone(), CONTROL, group=self._group, async_op=True))
        if len(words) > WORDS:
            self._wait(lambda: dist.broadcast(words[WORDS:].clone(), CONTROL, group=self._group, async_op=True))

    def _heard(self) -> Any:
        words = torch.zeros(WORDS, dtype=torch.int64, device=CPU)
        self._wait(lambda: dist.broadcast(words, CONTROL, group=self._group, async_op=True))
        length = int(words[0])
        rest = (length + 15) // 8 - WORDS
        if rest > 0:
            more = torch.zeros(rest, dtype=torch.int64, device=CPU)
            self._wait(lambda: dist.broadcast(more, CONTROL, group=self._group, async_op=True))
            words = torch.cat([words, more])
        message = json.loads(words[1:].view(torch.uint8)[:length].numpy().tobytes())
        if "error" in message:
            raise raised(message["error"])
        return message["value"]

    def everyone(self, act: Callable[[], T]) -> list[T]:
        """What `act` returns on each rank; raises on all ranks when it raises on one."""
        mine: Exception | None = None
        value: Any = None
        try:
            value = act()
        except Exception as err:
            mine = err
        outcomes = self._objects({"value": value} if mine is None else {"error": carried(mine)})
        if mine is not None:
            raise mine
        for rank, outcome in enumerate(outcomes):
            if "error" in outcome:
                raise self._elsewhere(rank, outcome["error"])
        return [outcome["value"] for outcome in outcomes]

    def each(self, act: Callable[[], T]) -> T:
        """What `act` returns on this rank; raises on all ranks when it raises on one."""
        kept: list[T] = []
        self.everyone(lambda: kept.append(act()))
        return kept[0]

    def _elsewhere(self, rank: int, error: dict[str, Any]) -> Error:
        if "text" in error:
            return raised({**error, "text": f"rank {rank}: {error['text']}"})
        return raised({**error, "where": f"rank {rank}: {error['where']}"})

    def gather(self, row: Sequence[float]) -> list[list[float]]:
        """The rows of all ranks, on the control rank; elsewhere nothing."""
        mine = torch.tensor(row, dtype=torch.float64, device=CPU)
        rows = [torch.empty_like(mine) for _ in range(self.world)] if self.control else None
        self._wait(lambda: dist.gather(mine, rows, CONTROL, group=self._group, async_op=True))
        return [r.tolist() for r in rows or []]

    def sum(self, values: Sequence[int]) -> list[int]:
        """Element by element over the ranks that count for their data-parallel rank."""
        total = torch.tensor(values, dtype=torch.int64, device=CPU)
        if not self.counts:
            total.zero_()
        self._wait(lambda: dist.all_reduce(total, group=self._group, async_op=True))
        return total.tolist()

    def _objects(self, value: T) -> list[T]:
        """The values of all ranks, whatever they are."""
        mine = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)
        sizes = [torch.zeros(1, dtype=torch.int64, device=CPU) for _ in range(self.world)]
        size = torch.tensor([len(mine)], device=CPU)
        self._wait(lambda: dist.all_gather(sizes, size, group=self._group, async_op=True))
        longest = max(int(n) for n in sizes)
        texts = [torch.zeros(longest, dtype=torch.uint8, device=CPU) for _ in sizes]
        padded = torch.nn.functional.pad(mine, (0, longest - len(mine)))
        self._wait(lambda: dist.all_gather(texts, padded, group=self._group, async_op=True))
        return [pickle.loads(text[: int(n)].numpy().tobytes()) for text, n in zip(texts, sizes)]  # of the island's own ranks

    def _wait(self, start: Callable[[], Any]) -> None:
        """For what all ranks do together, or for the word that it is over: a host that fell silent closes no connection."""
        self.waits = True
        try:
            work, until = self._guard(start), 0.0
            while not self._guard(lambda: finished(work)):
                over = (None if self._link is None else self._link.ended(0)) or self._board.read()
                if over is not None:
                    until = until or time.monotonic() + TOGETHER_SECONDS
                    if time.monotonic() >= until:
                        raise over
            self.waits = False
        finally:
            if self.waits:
                never_freed(self._group)

    def _guard(self, act: Callable[[], T]) -> T:
        """Whatever the group reports is that another rank does not answer any more."""
        try:
            return act()
        except RuntimeError as err:
            self.waits = False
            over = self._board.read() or (None if self._link is None else self._link.ended(REASON_PATIENCE_SECONDS))
            raise over or Lost(f"another rank of this island is gone ({str(err).splitlines()[0]})") from err

    def listen(self, link: Link) -> None:
        """Who says why it is over, when ranks are gone."""
        self._link = link

    def left(self, why: Error) -> None:
        """This rank leaves alone: those that wait for it on other hosts, which may be cut off, are told."""
        self._board.write(self._elsewhere(self.rank, carried(why)))

    def why(self, error: BaseException) -> Error | None:
        """Why the island is over, when that is what `error` of the trainer's own code comes from: a collective of its own."""
        if self._link is None or isinstance(error, Error) or not isinstance(error, RuntimeError):
            return None
        return self._link.ended(REASON_PATIENCE_SECONDS if of_a_collective(error) else 0)

    def close(self) -> None:
        """Leave the group."""
        if dist.is_initialized() and not self.waits:  # else it would wait for who is gone
            dist.destroy_process_group(self._group)


def finished(work: Any) -> bool:
    """Wait a little for a collective; raises what went wrong with it."""
    try:
        work.wait(GLANCE)
    except RuntimeError:
        if not work.is_completed():
            return False
        work.wait()  # it may have ended after the wait: then this raises what went wrong, or nothing
    return True


def never_freed(group: Any) -> None:
    """A group whose collective nobody ends: old releases of PyTorch wait for it where they free it, also at the end of the process."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))


LIBRARIES = ("gloo", "nccl", "hccl", "mccl", "cncl", "eccl", "xccl", "closed by peer", "reset by peer", "process group")


def of_a_collective(error: RuntimeError) -> bool:
    """Whether one of the libraries in which ranks meet says it: they have no error class of their own before torch 2.1."""
    return type(error).__name__.startswith("Dist") or any(word.lower() in str(error).lower() for word in LIBRARIES)


def ranks(data_parallel: tuple[int, int] | None) -> Alone | Distributed:
    """The ranks of this island: torch.distributed's world, or this process alone."""
    if data_parallel is not None:
        check_pair(data_parallel)
    if dist.is_available() and dist.is_initialized():
        if dist.get_world_size() > 1:
            return Distributed(data_parallel)
    elif int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise InputError(
            "WORLD_SIZE", os.environ["WORLD_SIZE"], "ranks were started, and torch.distributed is not initialised",
            "call torch.distributed.init_process_group() before mistura.join()",
        )  # fmt: skip
    if data_parallel not in (None, (0, 1)):
        raise InputError("data_parallel", data_parallel, "there is one rank only", "leave it out, or start more ranks")
    return Alone()


def check_pair(pair: Any) -> None:
    """A data-parallel place is (rank, size)."""
    good = isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(n, int) for n in pair) and 0 <= pair[0] < pair[1]
    if not good:
        raise InputError("data_parallel", pair, "is no pair (rank, size)", "give the data-parallel rank of this process and their number")
