"""Entering a run: who is there, which mistura process serves this host, what the model is, and the first weights."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Sequence
from typing import Any, Callable

import torch

from . import adapters, control, process
from .areas import Areas
from .device import name_of
from .errors import InputError
from .gate import Gate
from .island import Island, Life
from .link import PROTOCOL, Link
from .rates import Rates
from .version import VERSION

log = logging.getLogger("mistura")

SOCKET_PATIENCE_SECONDS = 20.0
"""A mistura process that is started at the same time as the trainer may take so long until it listens."""

_current: weakref.ref[Island] | None = None
"""The island of this process: one at a time, and none in a child that was forked from it."""

_last: Life | None = None
"""Of that island: one that came to no end is joined again by whoever joins next, also when it is collected by then."""

_returns: dict[tuple[str, str | None], tuple[str, float]] = {}
"""By join string and name that were given: the join string by which that island comes back, whatever the first was good for,
and for how many seconds the run may be away then."""


Build = Callable[[dict[str, Any]], "tuple[torch.nn.Module, Any, Any]"]
"""Makes model, optimizer and adapter (or None) of a resolved run."""


def join(
    model: torch.nn.Module | Sequence[torch.nn.Module] | Build,
    optimizer: Any = None,
    *,
    join: str | None = None,
    socket: str | None = None,
    binary: str | None = None,
    name: str | None = None,
    layout: Any = None,
    data_parallel: tuple[int, int] | None = None,
    adapter: Any = None,
    probe: Any = None,
    seed: bool = False,
    evaluate: bool | Callable[[], tuple[Any, Any]] = False,
    rate: str = "run",
    own_data: bool | None = None,
    no_gate: bool = False,
    engine: str = "external",
) -> Island:
    """Join a run with `model` as (this rank's part of) an island, and install the run's weights in it.

    Where the run is: `join` (or MISTURA_JOIN, or the file in MISTURA_JOIN_FILE), or `socket` (MISTURA_SOCKET) of a mistura
    process that is running already. Under torch.distributed every rank calls it. `optimizer` may be a list of several, each of
    parameters of its own. `model` may be Megatron's list of chunks, with one `layout` or one for each. A trainer that can make
    the run's own model gives a function in place of the model, which is called with the resolved run.

    `probe` computes the loss of a few sequences for the gate at the door: a function of tokens [R, T+1], or a mistura.Probe.
    """
    again = _check_free()
    name = name or os.environ.get("MISTURA_NAME")
    chunks = _chunks(model)
    ranks = control.ranks(data_parallel)
    begun: list[Any] = [ranks.close]  # what to undo, last first
    try:
        made = len(chunks) > 0
        if made:
            rates = ranks.each(lambda: Rates(rate, optimizer))
            held = _held(ranks, chunks, optimizer, adapter, layout)
        link, started, said = _connect(ranks, begun, join, socket, binary, again, name)
        if not made:
            model, optimizer, adapter = ranks.each(lambda: model(link.ask("describe")["run"]))  # type: ignore[operator]
            chunks = _chunks(model)
            rates = ranks.each(lambda: Rates(rate, optimizer))
            held = _held(ranks, chunks, optimizer, adapter, layout)
        whole = chunks[0] if len(chunks) == 1 else torch.nn.ModuleList(chunks)
        gate = ranks.each(lambda: Gate(whole, probe))
        _warn_of_base(held, gate)
        about = {
            "name": name, "seed": seed, "evaluate": bool(evaluate), "own_data": own_data,
            "own_rate": rates.own, "no_gate": no_gate, "probe": gate.ready, "engine": engine, "device": name_of(device_of(whole)),
        }  # fmt: skip
        welcome = _enter(ranks, link, chunks, held, about)
        island = ranks.each(lambda: Island(ranks, link, started, said, held, optimizer, welcome, rates, gate))
        begun.append(island._exchange.close)
        if callable(evaluate):
            island.evaluate = evaluate
        if started is not None:
            started.forget_folder()
            _returns[started.given, name] = welcome.get("back") or started.given, welcome["run"]["limits"]["runway_seconds"]
        if again:  # what the optimizer has kept is of weights that the run does not go on from
            island._forget({})
        island._begin()
        _remember(island)
        return island
    except BaseException as err:
        for undo in reversed(begun):
            undo()
        if isinstance(err, InputError):  # its line says all: where in this package it was found does not help who reads it
            raise err.with_traceback(None) from None
        raise


def _chunks(model: Any) -> list[torch.nn.Module]:
    """The modules of a model: one, or Megatron's chunks of it; none yet when it is a function that makes the model."""
    chunks = list(model) if isinstance(model, (list, tuple)) else [model]
    if chunks and all(isinstance(chunk, torch.nn.Module) for chunk in chunks):
        return chunks
    if callable(model):
        return []
    raise InputError("model", type(model).__name__, "is no torch.nn.Module and no list of them", "give the model itself")


def _held(ranks: Any, chunks: Sequence[torch.nn.Module], optimizer: Any, adapter: Any, layout: Any) -> Any:
    """What this rank holds, as the exchange sees it."""
    model = chunks[0] if len(chunks) == 1 else chunks
    held = ranks.each(lambda: adapter or adapters.choose(model, optimizer, layout))
    if hasattr(held, "number"):
        held.number(ranks.rank, lambda mine: ranks.everyone(lambda: mine))
    return held


def _warn_of_base(held: Any, gate: Gate) -> None:
    """What is no part of the run must be the same on all islands, and only a probe shows whether it is."""
    if getattr(held, "left_out", 0) and not gate.ready:
        log.warning("%d parameters are no part of the run, and without a probe nobody compares them with other islands'", held.left_out)


def _check_free() -> bool:
    """Whether a life of the island that was lost came before; one that goes on is in the way of another."""
    if _last is None or _last.over:
        return False
    island = _current() if _current is not None else None
    if island is not None:
        if not island._closed and not island.is_lost():
            raise InputError("join()", None, f"this process has joined already, as island {island.name}", "leave that one first")
        island.close()
    return True


def _connect(ranks: Any, begun: list[Any], join: str | None, socket: str | None, binary: str | None, again: bool, name: str | None) -> Any:
    """A connection to this host's mistura process, which the first rank of the host starts unless there is one."""
    path = socket or os.environ.get("MISTURA_SOCKET")
    started: process.Process | None = None

    def start() -> tuple[str, str | None]:
        nonlocal started
        if path:
            return path, None
        if ranks.host_rank != 0:
            return "", None
        given = process.join_string(join)
        program = process.find_binary(binary)
        process.check_version(program)
        back, patience = _returns.get((given, name), (given, 0.0))
        started = process.Process(program, given, back, patience if again else 0.0)
        begun.append(started.stop)
        return started.socket, started.log

    places = ranks.everyone(start)
    where, written = places[ranks.rank if path else ranks.host_leader()]
    said = ranks.each(lambda: process.Log(written))
    begun.append(said.close)
    link = ranks.each(lambda: Link(where, said.last, SOCKET_PATIENCE_SECONDS, said.tell))
    begun.append(link.close)
    ranks.listen(link)
    return link, started, said


def _enter(ranks: Any, link: Link, chunks: Sequence[torch.nn.Module], held: Any, about: dict[str, Any]) -> dict[str, Any]:
    """Say hello and be welcomed: the first host before the others, which enter the same life of the island."""
    tied = {first: others for chunk in chunks for first, others in adapters.tied_names(chunk).items()}
    fields = {
        "protocol": PROTOCOL, "version": VERSION, "rank": ranks.rank, "world": ranks.world, "host_rank": ranks.host_rank,
        "host_world": ranks.host_world, "part": ranks.host, "parts": ranks.hosts, "pid": os.getpid(), "torch": str(torch.__version__),
        "tensors": [{"tied": tied.get(t["name"], []), **t} for t in held.tensors()],
        "pieces": [p.message() for p in held.pieces()], "slots": list(held.slots()), **about,
    }  # fmt: skip

    def hello(incarnation: int) -> dict[str, Any]:
        answer = link.ask("hello", incarnation=incarnation, **fields)
        if answer["kind"] == "seed":  # the run has no weights yet: these are its version 0
            _hand_over(held, answer)
            answer = link.ask("seeded")
        return answer

    first = ranks.each(lambda: hello(0) if ranks.host == 0 else None)
    incarnation = ranks.share(lambda: first["incarnation"])
    return ranks.each(lambda: first or hello(incarnation))


def _hand_over(held: Any, wanted: dict[str, Any]) -> None:
    """Copy what this rank sends of the model to the memory that the mistura process has made for it."""
    pieces = held.pieces()
    areas = Areas(wanted["shm"]["path"], wanted["shm"]["bytes"], [p.extent for p in pieces], wanted["out"], [-1] * len(pieces))
    for piece, area in zip(pieces, areas.out):
        if area is not None:
            area.copy_(held.weights(piece).reshape(area.shape))


def device_of(model: torch.nn.Module) -> torch.device:
    """What the model is on."""
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise InputError("model", type(model).__name__, "has no parameters", "give the model that is trained")
    return parameter.device


def _remember(island: Island) -> None:
    global _current, _last
    _current, _last = weakref.ref(island), island.life


def _in_child() -> None:
    """A fork (a data loader's worker, say) must not keep the connection alive when the trainer dies, and does not come back as it."""
    _returns.clear()
    island = _current() if _current is not None else None
    if island is not None and not island._closed:
        island._abandon()


def _at_exit() -> None:
    island = _current() if _current is not None else None
    if island is not None and not island._closed and island._pid == os.getpid():
        log.warning("the trainer ends without island.leave(): what it trained since its last contribution is lost")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
