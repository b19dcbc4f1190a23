"""Hosts for tests: a run that islands join from outside, and network namespaces that stand for machines."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from served import Open, Served

CLONE_NEWNET = 0x40000000


def missing_namespaces() -> str:
    """What network namespaces need and is not there, or nothing."""
    if shutil.which("ip") is None:
        return "ip (iproute2)"
    return "" if os.geteuid() == 0 else "root"


def enter(namespace: str) -> None:
    """This process, and those it starts, live in the namespace from here on."""
    with open(f"/run/netns/{namespace}", "rb") as f:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(f.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"entering network namespace {namespace}")


@contextlib.contextmanager
def machines(count: int) -> Iterator[list[tuple[str, str]]]:
    """Namespaces with their addresses, on one bridge; the first is the coordinator's. They are gone afterwards."""
    prefix = f"mistura{os.getpid()}"
    names = [f"{prefix}-{n}" for n in range(count)]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", names[0], "link", "add", "bridge", "type", "bridge")
        ip("-n", names[0], "addr", "add", "10.77.0.1/24", "dev", "bridge")
        ip("-n", names[0], "link", "set", "bridge", "up")
        for n, name in enumerate(names[1:], 2):
            ip("-n", names[0], "link", "add", f"port{n}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("-n", names[0], "link", "set", f"port{n}", "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{n}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
        yield [(name, f"10.77.0.{n}") for n, name in enumerate(names, 1)]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


class Way:
    """A port of this machine that leads to a coordinator, and that can be cut."""

    def __init__(self, join: str) -> None:
        """`join` is the join string; with this way in it, it is `self.join`."""
        host, port = re.match(r"mistura://([^:/]+):(\d+)", join).groups()
        self._to, self._open, self._ends = (host, int(port)), True, []
        self._port = socket.create_server(("127.0.0.1", 0))
        self.join = join.replace(f"{host}:{port}", f"127.0.0.1:{self._port.getsockname()[1]}", 1)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            end, _ = self._port.accept()
            if not self._open:
                end.close()
                continue
            other = socket.create_connection(self._to)
            self._ends += [end, other]
            for pair in ((end, other), (other, end)):
                threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                to.sendall(data)
        for end in (source, to):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Nobody gets through, and who is on the way is cut off."""
        self._open = False
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """It leads to the coordinator again."""
        self._open = True


class Coordinator(Open):
    """`mistura serve` in a folder, at an address, and in a namespace if one is named."""

    def __init__(self, folder: Path, run_file: str, address: str, namespace: str | None = None) -> None:
        self._namespace = namespace
        Served.__init__(self, folder, run_file, "--listen", f"{address}:0")

    def start(self) -> list[str]:
        """The program and what it does, in its namespace."""
        inside = ["ip", "netns", "exec", self._namespace] if self._namespace else []
        return [*inside, *super().start()]
