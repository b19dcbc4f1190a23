"""A rank's part of the exchange: which of its pieces belong to a fragment, and what the run's actions do to them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Callable

import torch

from .areas import Areas
from .copies import copies
from .errors import Error, InputError
from .link import Link

log = logging.getLogger("mistura")


class Exchange:
    """Carries out the actions that concern weights. `welcome` is the mistura process's answer to hello."""

    def __init__(self, link: Link, adapter: Any, welcome: dict[str, Any]) -> None:
        self._link, self._adapter = link, adapter
        self._pieces = adapter.pieces()
        extents = [p.extent for p in self._pieces]
        self.areas = areas = Areas(welcome["shm"]["path"], welcome["shm"]["bytes"], extents, welcome["out"], welcome["in"])
        link.tell("mapped")
        self._out = areas.out
        self._fragments: list[list[int]] = welcome["fragments"]
        self._sent = [[i for i in f if areas.out[i] is not None] for f in self._fragments]
        self._aside: list[torch.Tensor] = []
        self._copies = copies(areas, lambda i: adapter.weights(self._pieces[i]), len(self._pieces))

    def gather(self, action: dict[str, Any], step: int) -> None:
        """out ← θ, and the word that it is there once it is."""
        fragment = action["fragment"]

        def done() -> None:
            self._link.tell("gathered", fragment=fragment, sequence=action["sequence"], step=step)

        self._copies.gather(self._sent[fragment], done)

    def adopt(self, action: dict[str, Any], step: int) -> bool:
        """θ ← θ + in. Nothing is touched when there is nothing to add: even the sign of a zero stays (D5)."""
        return self._take(action, step, "adopt", self._copies.add)

    def install(self, action: dict[str, Any], step: int) -> bool:
        """θ ← in."""
        return self._take(action, step, "install", self._copies.install)

    def put_aside(self) -> None:
        """Keep the weights in host memory, while a probe is computed with others."""
        self._aside = [self._adapter.weights(piece).detach().to("cpu", copy=True) for piece in self._pieces]

    def take_back(self) -> None:
        """θ ← what was kept, to the bit."""
        for piece, kept in zip(self._pieces, self._aside):
            self._adapter.weights(piece).copy_(kept)
        self._aside = []

    def _take(self, action: dict[str, Any], step: int, how: str, put: Callable[[Sequence[int]], None]) -> bool:
        fragment, version = action["fragment"], action["version"]
        pieces = self._fragments[fragment]
        changed = False
        if pieces:
            changed = self._link.ask("fetch", fragment=fragment, version=version, op=how)["changed"]
            if changed:
                put(pieces)
        self._link.tell("adopted", fragment=fragment, version=version, step=step)
        return changed

    def give(self, value: Callable[[Any], torch.Tensor | None], factor: float) -> bool:
        """out ← factor · value of each piece that this rank sends, 0 where there is none; whether all of it is finite."""
        finite = True
        for piece, out in zip(self._pieces, self._out):
            if out is None:
                continue
            given = value(piece)
            if given is None:
                out.zero_()
            else:
                out.copy_(given.detach()).mul_(factor)
                finite = finite and bool(torch.isfinite(out).all())
        return finite

    def check(self) -> None:
        """Raise what went wrong in the background since the last boundary."""
        error = self._copies.trouble()
        if error is not None:
            raise error if isinstance(error, Error) else InputError("gathering weights", None, f"failed ({error})", "see the device's log")

    def close(self) -> None:
        """Finish copies that are under way, and let go of the shared memory: it is there as long as somebody holds it."""
        self._copies.close()
        self._aside = []
        self.areas.close()
