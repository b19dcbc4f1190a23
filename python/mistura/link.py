"""The Unix socket to this host's mistura process: one JSON object a line, questions and answers (docs/formats/attach.md)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
from typing import Any, Callable

from .errors import InputError, Lost, Refused

PROTOCOL = 1
"""Of the conversation with the mistura process of this host; both sides must be of the same."""

LINE_LIMIT_BYTES = 64 << 20


class Link:
    """One rank's connection. Only one thread asks; any thread may tell."""

    def __init__(self, path: str, last_words: Callable[[], str], patience: float = 0.0) -> None:
        """`last_words` gives the last line that the mistura process wrote, or nothing; `patience` is in seconds."""
        self.path = path
        self._last_words = last_words
        self._socket = connected(path, time.monotonic() + patience)
        self._answers = self._socket.makefile("rb", buffering=1 << 16)
        self._sending = threading.Lock()

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a message that has no answer."""
        line = encode(kind, fields)
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError as err:
            raise self._gone() from err

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a message and wait for its answer."""
        self.tell(kind, **fields)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._answers.readline(LINE_LIMIT_BYTES + 1)
        except (OSError, ValueError) as err:
            raise Lost(self._loss()) from err
        if not line.endswith(b"\n"):
            raise Lost(self._loss())
        message = json.loads(line)
        if message.get("kind") in ("error", "refused"):
            raise said(message)
        return message

    def _gone(self) -> Exception:
        """Why nothing can be sent: what the other side said last explains it better than a broken pipe."""
        try:
            while True:
                self._answer()
        except (Refused, Lost) as err:
            return err

    def _loss(self) -> str:
        words = self._last_words()
        return "the mistura process of this host is gone" + (
            f": {words}" if words else f"; what it wrote last says why (socket {self.path})"
        )

    def close(self) -> None:
        """End the connection; the mistura process takes it for the end of this rank."""
        # A makefile keeps the descriptor open until it is closed too.
        for end in (self._answers, self._socket):
            with contextlib.suppress(OSError):
                end.close()

    def abandon(self) -> None:
        """In a forked child: drop the descriptor, so that the connection ends with the rank that owns it."""
        with contextlib.suppress(OSError):
            os.close(self._socket.detach())


def connected(path: str, until: float) -> socket.socket:
    """A connection to whoever listens there, or will before `until`."""
    while True:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            s.connect(path)
            return s
        except OSError as err:
            s.close()
            if time.monotonic() >= until:
                problem, help_ = f"nobody answers there ({err.strerror})", "start `mistura join` first, or leave MISTURA_SOCKET unset"
                raise InputError("socket", path, problem, help_) from err
        time.sleep(0.05)


def said(message: dict[str, Any]) -> Exception:
    """What the mistura process reports in place of an answer: a refusal, something to mend, or why it ends."""
    where, problem = message.get("where"), message.get("problem") or "it does not say why"
    if message["kind"] == "refused":
        return Refused(where or "this run", message.get("value"), problem, message.get("next", ""))
    if where:
        return Refused(where, message.get("value"), problem, message.get("next", ""))
    return Lost(f"the mistura process of this host ends: {problem}")


def encode(kind: str, fields: dict[str, Any]) -> bytes:
    """One line. Numbers that are not finite become text, for JSON has none."""
    plain = {k: spelled(v) for k, v in fields.items()}
    return (json.dumps({"kind": kind, **plain}, allow_nan=False, separators=(",", ":")) + "\n").encode()


def spelled(value: Any) -> Any:
    """`value`, or "nan", "inf", "-inf" in place of a number that JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def number(value: Any) -> float | None:
    """What `spelled` wrote, as a number; None stays unknown."""
    return None if value is None else float(value)
