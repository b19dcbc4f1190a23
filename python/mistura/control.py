"""The ranks of one island: who speaks, how all of them do the same, and what they count together.

Rank 0 is the control rank: it alone asks the mistura process what to do, and tells the others. Messages between ranks are
CPU tensors of a gloo group of this package's own, so that the trainer's own groups and devices are never waited for.
A data-parallel rank trains samples of its own; ranks that share one (tensor, pipeline, expert parallel) train the same samples.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
from collections.abc import Sequence
from typing import Any, Callable, TypeVar

import torch
import torch.distributed as dist

from .errors import Error, InputError, Lost, carried, raised

CONTROL = 0
WORDS = 512
"""Length of the tensor that a message between ranks travels in; a longer one is followed by its rest."""

GROUP_PATIENCE = datetime.timedelta(days=7)
"""The others wait for rank 0 as long as rank 0 waits for the run; a rank that dies is noticed by its connection."""

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

    def close(self) -> None:
        """Leave the group."""


class Distributed(Alone):
    """The ranks of torch.distributed's world, which is the island."""

    def __init__(self, data_parallel: tuple[int, int] | None) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.control = self.rank == CONTROL
        self._group = dist.new_group(backend="gloo", timeout=GROUP_PATIENCE)
        self.data_rank, self.data_size = data_parallel or (self.rank, self.world)
        self._places = self._guard(lambda: self._objects((self._place(), self.data_rank, self.data_size)))
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
        words = torch.zeros(max(WORDS, (len(text) + 15) // 8), dtype=torch.int64)
        words[0] = len(text)
        words[1:].view(torch.uint8)[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self._guard(lambda: dist.broadcast(words[:WORDS].clone(), CONTROL, group=self._group))
        if len(words) > WORDS:
            self._guard(lambda: dist.broadcast(words[WORDS:].clone(), CONTROL, group=self._group))

    def _heard(self) -> Any:
        words = torch.zeros(WORDS, dtype=torch.int64)
        self._guard(lambda: dist.broadcast(words, CONTROL, group=self._group))
        length = int(words[0])
        rest = (length + 15) // 8 - WORDS
        if rest > 0:
            more = torch.zeros(rest, dtype=torch.int64)
            self._guard(lambda: dist.broadcast(more, CONTROL, group=self._group))
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
        outcomes = self._guard(lambda: self._objects({"value": value} if mine is None else {"error": carried(mine)}))
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
        mine = torch.tensor(row, dtype=torch.float64)
        rows = [torch.empty_like(mine) for _ in range(self.world)] if self.control else None
        self._guard(lambda: dist.gather(mine, rows, CONTROL, group=self._group))
        return [r.tolist() for r in rows or []]

    def sum(self, values: Sequence[int]) -> list[int]:
        """Element by element over the ranks that count for their data-parallel rank."""
        total = torch.tensor(values, dtype=torch.int64)
        if not self.counts:
            total.zero_()
        self._guard(lambda: dist.all_reduce(total, group=self._group))
        return total.tolist()

    def _objects(self, value: T) -> list[T]:
        everything: list[Any] = [None] * self.world
        dist.all_gather_object(everything, value, group=self._group)
        return everything

    def _guard(self, act: Callable[[], T]) -> T:
        """Whatever the group reports is that another rank does not answer any more."""
        try:
            return act()
        except RuntimeError as err:
            raise Lost(f"another rank of this island is gone ({str(err).splitlines()[0]})") from err

    def close(self) -> None:
        """Leave the group."""
        if dist.is_initialized():
            dist.destroy_process_group(self._group)


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
