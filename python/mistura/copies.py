"""Weights into the shared memory and what came back onto the weights, on CPUs and on devices.

A piece's weights are a view in fp32, of the piece's extent, that the adapter gives anew each time (engines move theirs).
On a CPU everything is one copy at the boundary. On a device a gather costs the boundary a copy inside the device: from
there pinned memory, a side stream and a thread bring it to the host while the next steps run.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Any, Callable

import torch

from .areas import Areas

Weights = Callable[[int], torch.Tensor]
"""Gives the fp32 view of piece i."""


class HostCopies:
    """Weights in host memory."""

    def __init__(self, areas: Areas, weights: Weights) -> None:
        self._areas, self._weights = areas, weights

    def gather(self, pieces: Sequence[int], done: Callable[[], None]) -> None:
        """out ← θ for the pieces that are sent; then `done`."""
        for i in pieces:
            self._areas.out[i].copy_(self._weights(i))
        done()

    def add(self, pieces: Sequence[int]) -> None:
        """θ ← θ + in."""
        for i in pieces:
            self._weights(i).add_(self._areas.into[i])

    def install(self, pieces: Sequence[int]) -> None:
        """θ ← in."""
        for i in pieces:
            self._weights(i).copy_(self._areas.into[i])

    def trouble(self) -> Exception | None:
        """What went wrong behind the trainer's back."""
        return None

    def close(self) -> None:
        """Nothing runs in the background."""


class DeviceCopies:
    """Weights on a device: CUDA, or any back end that PyTorch offers under its own name (npu, musa, mlu, xpu …)."""

    def __init__(self, areas: Areas, weights: Weights, device: torch.device) -> None:
        self._areas, self._weights, self._device = areas, weights, device
        module: Any = getattr(torch, device.type, None)
        has = all(hasattr(module, name) for name in ("Stream", "Event", "stream", "current_stream"))
        self._streams = has and device.type != "cpu"  # newer PyTorch has empty ones there
        side: Any = module.Stream(device) if self._streams else None
        self._module, self._side = module, side
        self._held: list[torch.Tensor] = []  # staging of what came in last
        self._taken: Any = None  # event after which that is free
        self._error: Exception | None = None
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="mistura-copies", daemon=True)
        self._worker.start()

    def gather(self, pieces: Sequence[int], done: Callable[[], None]) -> None:
        """out ← θ for the pieces that are sent, in the background; then `done`."""
        clones = [(i, self._weights(i).detach().clone()) for i in pieces]
        if not self._streams:
            staged = [(i, clone.cpu()) for i, clone in clones]
            self._queue.put(lambda: self._deliver(staged, done))
            return
        self._side.wait_stream(self._module.current_stream(self._device))
        with self._module.stream(self._side):
            staged = [(i, pinned_like(clone)) for i, clone in clones]
            for (_, host), (_, clone) in zip(staged, clones):
                host.copy_(clone, non_blocking=clone.device == self._device)  # nobody waits for another device's stream
            event = self._module.Event()
            event.record(self._side)

        def deliver(held: Any = clones) -> None:  # the clones stay until the side stream has read them
            event.synchronize()
            self._deliver(staged, done)

        self._queue.put(deliver)

    def _deliver(self, staged: list[tuple[int, torch.Tensor]], done: Callable[[], None]) -> None:
        for i, host in staged:
            self._areas.out[i].copy_(host)
        done()

    def _work(self) -> None:
        if self._streams and hasattr(self._module, "set_device"):
            self._module.set_device(self._device)  # a thread begins on the first device
        while True:
            job = self._queue.get()
            if job is None:
                return
            try:
                job()
            except Exception as err:  # told at the next boundary: a thread has nobody to raise to
                self._error = err
                return

    def add(self, pieces: Sequence[int]) -> None:
        """θ ← θ + in."""
        for i, value in self._brought(pieces):
            self._weights(i).add_(value)

    def install(self, pieces: Sequence[int]) -> None:
        """θ ← in."""
        for i, value in self._brought(pieces):
            self._weights(i).copy_(value)

    def _brought(self, pieces: Sequence[int]) -> list[tuple[int, torch.Tensor]]:
        if self._taken is not None:
            self._taken.synchronize()
        self._held = [pinned_like(self._areas.into[i]).copy_(self._areas.into[i]) for i in pieces]
        values = [(i, self._there(host, self._weights(i).device)) for i, host in zip(pieces, self._held)]
        if self._streams:
            self._taken = self._module.Event()
            self._taken.record(self._module.current_stream(self._device))
        return values

    def _there(self, host: torch.Tensor, device: torch.device) -> torch.Tensor:
        return host.to(device, non_blocking=self._streams and device == self._device)

    def trouble(self) -> Exception | None:
        """What went wrong behind the trainer's back."""
        return self._error

    def close(self) -> None:
        """Finish what is under way."""
        self._queue.put(None)
        self._worker.join(60)


def pinned_like(t: torch.Tensor) -> torch.Tensor:
    """Host memory for a tensor of t's shape: pinned where the back end can, for only then does a copy not block."""
    try:
        return torch.empty(t.shape, dtype=t.dtype, device="cpu", pin_memory=True)
    except RuntimeError:
        return torch.empty(t.shape, dtype=t.dtype, device="cpu")


def copies(areas: Areas, weights: Weights, pieces: int) -> HostCopies | DeviceCopies:
    """The way for where the weights are."""
    for i in range(pieces):
        device = weights(i).device
        if device.type != "cpu":
            return DeviceCopies(areas, weights, device)
    return HostCopies(areas, weights)
