"""The Unix socket to this host's mistura process: one JSON object a line, questions and answers (docs/formats/attach.md)."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import socket
import threading
import time
from typing import Any, Callable

from .errors import Error, InputError, Interrupted, Lost, Refused, RolledBack, carried, raised

PROTOCOL = 1
"""Of the conversation with the mistura process of this host; both sides must be of the same."""

LINE_LIMIT_BYTES = 64 << 20


READ_BYTES = 1 << 16
CLOSE_PATIENCE_SECONDS = 2.0
WAIT_SAID_SECONDS = 2.0
"""Between two looks, while an answer is waited for, at what the mistura process writes: why the run waits, say."""

JOIN_AGAIN = "start the trainer anew, or call mistura.join() again: it brings the weights that the run goes on from"


class Link:
    """One rank's connection. Only one thread asks; any thread may tell. How it ended is said again to whoever asks later."""

    def __init__(self, path: str, last_words: Callable[[], str], patience: float = 0.0, waiting: Callable[[], None] = lambda: None) -> None:
        """`last_words` gives the last line that the mistura process wrote, or nothing; `patience` is in seconds.

        `waiting` is called now and then while an answer does not come.
        """
        self.path = path
        self._last_words, self._waiting = last_words, waiting
        self._socket = connected(path, time.monotonic() + patience)
        self._sending = threading.Lock()
        self._reading = threading.Lock()  # guards what follows; taken after _sending is given back
        self._read = bytearray()  # from the socket, and not taken yet: an interrupted wait loses nothing of it
        self._over: dict[str, Any] | None = None  # how the connection ended, as `carried`
        self.unanswered = ""  # what was asked last, while its answer has not come

    def tell(self, kind: str, **fields: Any) -> None:
        """Send a message that has no answer."""
        line = encode(kind, fields)
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError as err:
            raise self._gone() from err
        except BaseException:
            self.unanswered = kind  # half of a line may be on its way
            raise

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a message and wait for its answer. Who was interrupted in an earlier wait cannot go on: the next answer is that one's."""
        if self.unanswered and self._over is None:
            raise Interrupted(f'"{kind}" cannot be asked: the answer to "{self.unanswered}" was not waited for; join again')
        self.unanswered = kind
        self.tell(kind, **fields)
        with self._reading:
            answer = self._answer()
        self.unanswered = ""
        return answer

    def ended(self, patience: float) -> Error | None:
        """Why the mistura process ends, if it says so within `patience` seconds while nothing is asked; None: it does not."""
        with self._reading:
            until = time.monotonic() + patience
            while self._over is None and (b"\n" in self._read or readable(self._socket, until - time.monotonic())):
                with contextlib.suppress(Error):
                    self._answer()
            return None if self._over is None else raised(self._over)

    def _answer(self) -> dict[str, Any]:
        """The next message, unless it is the last one."""
        if self._over is not None:
            raise raised(self._over)
        line = self._line()
        message: dict[str, Any] = json.loads(line) if line else {"kind": "gone"}
        if message.get("kind") not in ("error", "refused", "gone"):
            return message
        end = said(message) if line else Lost(self._loss())
        self._over = carried(end)
        raise end

    def _line(self) -> bytes:
        """The next line, or nothing when the connection ends before it does."""
        seen = 0
        while (end := self._read.find(b"\n", seen)) < 0:
            seen = len(self._read)
            while not readable(self._socket, WAIT_SAID_SECONDS):
                self._waiting()
            try:
                more = self._socket.recv(READ_BYTES)
            except OSError:
                return b""
            if not more or seen > LINE_LIMIT_BYTES:
                return b""
            self._read += more
        line = bytes(self._read[:end])
        del self._read[: end + 1]
        return line

    def _gone(self) -> Error:
        """Why nothing can be sent: what the other side said last explains it better than a broken pipe."""
        try:
            with self._reading:
                while True:
                    self._answer()
        except Error as err:
            return err

    def _loss(self) -> str:
        words = self._last_words()
        if "level=INFO" in words:  # it went its way, and did not end by itself
            return "the mistura process of this host is gone without a word: it was killed, or the host has no memory left"
        return "the mistura process of this host is gone" + (
            f": {words}" if words else f"; what it wrote last says why (socket {self.path})"
        )

    def close(self) -> None:
        """End the connection; the mistura process takes it for the end of this rank. From then on nobody gets in at its socket."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self.ended(CLOSE_PATIENCE_SECONDS)
        with contextlib.suppress(OSError):
            self._socket.close()

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


def readable(s: socket.socket, patience: float) -> bool:
    """Something is there to be read, or comes within so many seconds; the end of a connection is something."""
    poll = select.poll()  # select() takes no descriptors above 1023, and trainers have many
    try:
        poll.register(s, select.POLLIN)
    except (OSError, ValueError):  # it was closed on this side
        return True
    return bool(poll.poll(1000 * max(0.0, patience)))


def said(message: dict[str, Any]) -> Error:
    """What the mistura process reports in place of an answer: a refusal, something to mend, or why it ends."""
    where, problem = message.get("where"), message.get("problem") or "it does not say why"
    if message.get("again"):
        return RolledBack(f"{problem}; {JOIN_AGAIN}")
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
