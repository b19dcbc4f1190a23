"""This host's mistura process: found, compared, started, tied to the trainer, and what it said last.

The process hears the join string on its standard input, which stays open: its end is the end of the trainer. It writes its
log to a file that every rank of the host opens and that is then removed, so that nothing stays behind however a rank dies.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
from typing import Any

from .errors import InputError, Refused
from .link import PROTOCOL

log = logging.getLogger("mistura")

START_PATIENCE_SECONDS = 30.0
LOG_NAME, SOCKET_NAME = "log", "s"
LAST_WORDS_BYTES = 8192
JOIN_LIMIT_CHARACTERS = 64 << 10
INSTALL = "install it and put it on PATH, or name it in MISTURA_BINARY"


def find_binary(given: str | None) -> str:
    """Path of the mistura program: the argument, MISTURA_BINARY, or PATH."""
    for where, value in (("binary", given), ("MISTURA_BINARY", os.environ.get("MISTURA_BINARY"))):
        if not value:
            continue
        found = shutil.which(value)
        if found is None:
            raise InputError(
                where, value, "is no program that can be run", "name the mistura program, or leave it out to use the one on PATH"
            )
        return found
    found = shutil.which("mistura")
    if found is None:
        raise InputError("mistura", None, "the program is not on PATH", INSTALL)
    return found


def check_version(binary: str) -> str:
    """The program's version; refused when it speaks another local protocol than this package."""
    try:
        answer = subprocess.run([binary, "version", "--json"], capture_output=True, timeout=START_PATIENCE_SECONDS, check=True)
        about: dict[str, Any] = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as err:
        raise InputError("mistura", binary, "does not say its version as mistura does", INSTALL) from err
    version, theirs = about.get("version", "unknown"), about.get("local_protocol")
    if theirs is None:
        raise InputError(
            "mistura", binary, f"version {version} takes no trainers from outside", "install one as new as this Python package"
        )
    if theirs != PROTOCOL:
        older = "the program" if theirs < PROTOCOL else "the Python package"
        problem = f"version {version} speaks local protocol {theirs}, this Python package speaks {PROTOCOL}"
        raise InputError("mistura", binary, problem, f"update {older}")
    return str(version)


def join_string(given: str | None) -> str:
    """Where the run is: the argument, MISTURA_JOIN, or the file that MISTURA_JOIN_FILE names."""
    if given:
        return given.strip()
    if os.environ.get("MISTURA_JOIN"):
        return os.environ["MISTURA_JOIN"].strip()
    path = os.environ.get("MISTURA_JOIN_FILE")
    if not path:
        raise InputError(
            "join",
            None,
            "nothing says which run to join",
            "set MISTURA_JOIN, MISTURA_JOIN_FILE or MISTURA_SOCKET, or give join= the join string",
        )
    return read_join("MISTURA_JOIN_FILE", path)


def read_join(where: str, path: str) -> str:
    """The join string in a file: its first line that is neither empty nor a comment, as `mistura join --join-file` reads it."""
    if path.startswith("mistura:"):
        problem = "is a join string, and its secret would be on the command line" if where.startswith("--") else "is a join string itself"
        raise InputError(where, None, problem, "write it to a file and name that, or set MISTURA_JOIN")
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read(JOIN_LIMIT_CHARACTERS).splitlines()
    except (OSError, UnicodeError) as err:
        problem = f"cannot be read ({getattr(err, 'strerror', None) or 'it is no text'})"
        raise InputError(where, path, problem, "name the file that holds the join string") from err
    text = next((line.strip() for line in lines if line.strip() and not line.strip().startswith("#")), "")
    if not text:
        raise InputError(where, path, "holds no join string", "put the one that serve or token printed on a line of its own")
    return text


class Process:
    """A mistura process that this rank started."""

    def __init__(self, binary: str, join: str, back: str | None = None, patience: float = 0.0) -> None:
        """Start it and wait until its socket is there.

        `back` is the join string of an island that comes back, which has been there by `join`; the run, or the way to it, may be
        away for so many seconds then.
        """
        self.given = join
        self.folder = tempfile.mkdtemp(prefix="mistura-")
        self.socket = os.path.join(self.folder, SOCKET_NAME)
        self.log = os.path.join(self.folder, LOG_NAME)
        command = [binary, "join", "-", "--engine", "external", "--socket", self.socket, *([f"--again={patience}s"] if patience else [])]
        environment = {k: v for k, v in os.environ.items() if k != "MISTURA_JOIN"}
        with open(self.log, "ab") as said:
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment, start_new_session=True
            )
        try:
            self._hand_over(back or join)
            self._await_socket()
        except BaseException:
            self.stop()
            raise

    def _hand_over(self, join: str) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(join.encode() + b"\n")
            self._child.stdin.flush()
        except OSError:
            pass  # it ended at once: what it wrote says why

    def _await_socket(self) -> None:
        until = time.monotonic() + START_PATIENCE_SECONDS
        while not os.path.exists(self.socket):
            if self._child.poll() is not None:
                said = Log(self.log).last().removeprefix("mistura: ")
                raise Refused("mistura join", None, said or f"ended with code {self._child.returncode} and without a word")
            if time.monotonic() > until:
                raise Refused("mistura join", None, f"opened no socket within {START_PATIENCE_SECONDS:.0f} s", Log(self.log).last())
            time.sleep(0.005)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    def forget_folder(self) -> None:
        """Remove socket and log from the file system, once every rank of the host has opened both."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self, seconds: float) -> None:
        """Wait until the process has ended by itself; end it when that takes too long."""
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("the mistura process did not end within %.0f s and is stopped", seconds)
        self.stop()

    def stop(self) -> None:
        """End the process and leave nothing behind."""
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.close()
        try:
            self._child.wait(5)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self.forget_folder()

    def abandon(self) -> None:
        """In a forked child: drop the tie, which belongs to the rank that started the process."""
        if self._child.stdin is not None:
            os.close(self._child.stdin.fileno())


class Log:
    """What the mistura process of this host writes, kept open by every rank of the host."""

    def __init__(self, path: str | None) -> None:
        """None: the process was not started by this island and its words go elsewhere."""
        try:
            self._fd = -1 if path is None else os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as err:
            problem = f"its first rank has written {path}, which is not here ({err.strerror})"
            mend = "give each host a name of its own, or set GROUP_RANK to its number"
            raise InputError("host", socket.gethostname(), problem, mend) from err
        self._told = 0

    def last(self) -> str:
        """The last line, or nothing."""
        lines = self._since(None).splitlines()
        return lines[-1].strip() if lines else ""

    def tell(self) -> None:
        """Hand lines that are new on to the logger "mistura"; cheap when there are none."""
        if self._fd < 0 or os.fstat(self._fd).st_size == self._told:
            return
        for line in self._since(self._told).splitlines():
            if line.strip():
                log.log(_level(line), "%s", line)

    def _since(self, start: int | None) -> str:
        if self._fd < 0:
            return ""
        size = os.fstat(self._fd).st_size
        begin = max(0, size - LAST_WORDS_BYTES) if start is None else start
        text = os.pread(self._fd, size - begin, begin)
        if start is not None:
            whole = text.rfind(b"\n") + 1
            text = text[:whole]
            self._told = begin + whole
        return text.decode("utf-8", "replace")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _level(line: str) -> int:
    """Of a line as the program writes it: level=WARN, level=ERROR; other lines are for those who ask."""
    if "level=ERROR" in line:
        return logging.ERROR
    return logging.WARNING if "level=WARN" in line else logging.INFO
