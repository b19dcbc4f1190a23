"""Starts the ranks of one host: the same command several times, with the variables by which PyTorch finds the others.

    python3 mistura/ranks.py 8 -m mistura.train --device npu

It is a file to run, not a module to import: nothing of PyTorch is loaded by the process that only waits. When one rank
ends in trouble the others are ended too, and its exit code is this one's. PyTorch's own launcher does the same and more,
but does not run with every pair of releases of Python and PyTorch.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.05


def free_port() -> int:
    """A port of this host that nobody has."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """What rank `rank` of `ranks` is told."""
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "GROUP_RANK": 0}
    return {**os.environ, **{name: str(value) for name, value in places.items()}, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def run(ranks: int, command: list[str]) -> int:
    """Start all ranks and wait for them; the first exit code that is not 0, or 0."""
    port = free_port()
    running = [subprocess.Popen([sys.executable, *command], env=environment(rank, ranks, port)) for rank in range(ranks)]

    def pass_on(number: int, _: object) -> None:
        for one in running:
            if one.poll() is None:
                one.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    code = 0
    while code == 0 and any(one.poll() is None for one in running):
        time.sleep(POLL_SECONDS)
        code = next((one.returncode for one in running if one.returncode), 0)
    until = time.monotonic() + PATIENCE_SECONDS
    while code and any(one.poll() is None for one in running):  # they notice by themselves that the island is gone
        pass_on(signal.SIGKILL if time.monotonic() > until else signal.SIGTERM, None)
        time.sleep(POLL_SECONDS)
    code = code or next((one.returncode for one in running if one.returncode), 0)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        print("usage: python3 ranks.py N ARGUMENT...: runs python3 ARGUMENT... as N ranks", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
