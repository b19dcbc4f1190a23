"""Where a rank that leaves by itself writes why, for those that wait for it on hosts which hear nothing: the store in which
torch.distributed's ranks have met. A collective would not do: nobody knows in which one the others are.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from typing import Any

import torch.distributed as dist

from .errors import Error, carried, raised

_lives = itertools.count()
"""Ranks make their boards together, so that these numbers are equal on all."""


class Board:
    """Of one life of the island."""

    def __init__(self) -> None:
        self._key = f"mistura/over/{next(_lives)}"
        self._store: Any = None
        with contextlib.suppress(AttributeError, RuntimeError, ValueError):
            self._store = dist.distributed_c10d._get_default_store()
        self._found: dict[str, Any] | None = None
        self._asking: threading.Thread | None = None

    def write(self, error: Error) -> None:
        """This rank leaves. Who holds the store may be gone as well: then the others notice that."""
        if self._store is not None and self.read() is None:
            self._begin(self._write, json.dumps(carried(error)))

    def read(self) -> Error | None:
        """Why a rank has left, as far as is known; the store is asked in the background, for its host may have fallen silent."""
        if self._store is not None and self._found is None and (self._asking is None or not self._asking.is_alive()):
            self._begin(self._ask)
        return None if self._found is None else raised(self._found)

    def _begin(self, act: Any, *given: str) -> None:
        self._asking = threading.Thread(target=act, args=given, name="mistura-board", daemon=True)
        self._asking.start()
        self._asking.join(0.1)  # as a rule it is there by then

    def _write(self, text: str) -> None:
        with contextlib.suppress(Exception):
            self._store.set(self._key + "/why", text)
            self._store.add(self._key, 1)

    def _ask(self) -> None:
        with contextlib.suppress(Exception):
            if self._store.add(self._key, 0) > 0:
                self._found = json.loads(self._store.get(self._key + "/why"))
