"""The state of this rank on its way to a checkpoint of the run and back.

Weights and what the optimizer keeps of each weight (fp32, of the piece's extent) go through the shared memory slot by slot;
the mistura process puts the pieces of all ranks together, so that another layout can go on with them. What comes back is
given to it once more, and it compares. Optimizers that have no one value for each weight save themselves to a file of the rank.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import torch

from .adapters.base import listed
from .areas import Areas
from .errors import InputError
from .link import Link

log = logging.getLogger("mistura")

WEIGHTS = "weights"

Save = Callable[[Path], None]
"""Writes what the rank must not lose to a file."""


class State:
    """Carries out the actions save and restore for one rank."""

    def __init__(self, link: Link, adapter: Any, areas: Areas, rank: int, spare: Path, optimizer: Any = None) -> None:
        """`spare` is where files go when the run's own folder is not on this host."""
        self._optimizer, self._warned = optimizer, False
        self._link, self._adapter, self._areas, self._rank, self._spare = link, adapter, areas, rank, spare
        self._pieces = adapter.pieces()
        self._save: Save | None = None
        self._asks = False  # the trainer looks at checkpoint() itself
        self._due: tuple[int, Path] | None = None
        self.files = Files()

    def checkpoint(self, save: Save | None) -> Path | None:
        """See Island.checkpoint()."""
        if save is None:
            self._asks = True
            return None if self._due is None else self._due[1]
        if not callable(save):
            raise InputError("checkpoint()", save, "is no function", "give one that writes to the path it is called with, or nothing")
        self._save = save
        return None

    @property
    def due(self) -> bool:
        """The trainer's loop is to save a file."""
        return self._due is not None

    def save(self, action: dict[str, Any]) -> None:
        """Give every slot, and save what is this rank's own."""
        checkpoint, slots = action["checkpoint"], action["slots"]
        for slot in slots:
            self._give(checkpoint, slot)
        path = Path(action["folder"] or self._spare / f"{checkpoint:08d}") / f"rank-{self._rank:04d}"
        if self._save is None and not self._asks:
            self._warn_of_loss(checkpoint, slots)
            self._link.tell("kept", checkpoint=checkpoint, path="")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._due = checkpoint, path
        if self._save is not None:
            self._save(path)
            self.settle()

    def _warn_of_loss(self, checkpoint: int, slots: list[str]) -> None:
        """Say once that whoever resumes from here begins with an empty optimizer."""
        keep = [type(one).__name__ for one in listed(self._optimizer) if has_state(one)]
        if len(slots) > 1 or self._warned or not keep:
            return
        self._warned = True
        kind, mend = " and ".join(keep), "give island.checkpoint() a function that saves it"
        log.warning("checkpoint %d is without the state of optimizer %s, which the run cannot save; %s", checkpoint, kind, mend)

    def settle(self) -> None:
        """Before the next question of rank 0: what was due is there by now, or it is not."""
        if self._due is None:
            return
        (checkpoint, path), self._due = self._due, None
        there = path.is_file()
        if not there:
            log.warning("checkpoint %d: rank %d saved nothing at %s", checkpoint, self._rank, path)
        self._link.tell("kept", checkpoint=checkpoint, path=str(path.absolute()) if there else "")

    def restore(self, action: dict[str, Any]) -> None:
        """Take every slot, and show that it is there."""
        for slot in action["slots"]:
            self._link.ask("load", slot=slot)
            for i, value in enumerate(self._values(slot)):
                value.copy_(self._areas.into[i])
            self._give(0, slot)
        if any(slot != WEIGHTS for slot in action["slots"]):
            self._adapter.set_steps(action["steps"])
        if hasattr(self._adapter, "set_scale") and float(action["scale"]) > 0:
            self._adapter.set_scale(float(action["scale"]), action["scale_steps"])
        self.files = Files((f["rank"], Path(f["path"])) for f in action["files"] or [])

    def _values(self, slot: str) -> list[torch.Tensor]:
        if slot == WEIGHTS:
            return [self._adapter.weights(p) for p in self._pieces]
        return [self._adapter.slot(p, slot).detach() for p in self._pieces]

    def _give(self, checkpoint: int, slot: str) -> None:
        """out ← the slot, and the word that it is there; it is free again with the answer."""
        for out, value in zip(self._areas.out, self._values(slot)):
            if out is not None:
                out.copy_(value)
        scale, good = self._adapter.scale() if hasattr(self._adapter, "scale") else (0.0, 0)
        steps = self._adapter.steps() if hasattr(self._adapter, "steps") and len(self._adapter.slots()) > 0 else 0
        self._link.ask("slot", checkpoint=checkpoint, slot=slot, steps=steps, scale=float(scale), scale_steps=int(good))


class Files(dict[int, Path]):
    """What ranks saved themselves, by rank. A rank that saved nothing must not go on from another's place in the data (case B9)."""

    def __missing__(self, rank: Any) -> Path:
        others = ", ".join(map(str, sorted(self))) or "none"
        problem = f"saved nothing in the checkpoint that the run goes on from; the ranks that did are {others}"
        raise InputError("island.restored, rank", rank, problem, "work out what this rank needs from what those saved, or begin without it")


def has_state(optimizer: Any) -> bool:
    """The optimizer keeps something from step to step."""
    state = getattr(optimizer, "state", None)
    kept = state.values() if isinstance(state, Mapping) else ()
    return any(value is not None for one in kept if isinstance(one, Mapping) for value in one.values())
