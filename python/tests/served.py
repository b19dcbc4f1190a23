"""A run of the real program for tests and benches: built once from this checkout, started, waited for, and gone afterwards."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 120.0
WAITS = "limits: {stall_seconds: 300}\n"  # trainers of tests wait for each other


@functools.cache
def program() -> str:
    """The mistura program: MISTURA_BINARY, or built from this checkout."""
    given = os.environ.get("MISTURA_BINARY")
    if given:
        return given
    folder = Path(tempfile.mkdtemp(prefix="built-mistura-"))
    subprocess.run(["go", "build", "-o", str(folder / "mistura"), "./cmd/mistura"], cwd=ROOT, check=True)
    return str(folder / "mistura")


def forget_program() -> None:
    """Remove what program() has built."""
    if program.cache_info().currsize and not os.environ.get("MISTURA_BINARY"):
        shutil.rmtree(Path(program()).parent)
        program.cache_clear()


def missing() -> str:
    """What is not installed, or nothing."""
    return "" if os.environ.get("MISTURA_BINARY") or shutil.which("go") else "Go, to build mistura (or MISTURA_BINARY)"


def run_file(*, tokens: int, islands: list[str], first: Path, step_tokens: int = 8, more: str = "") -> str:
    """A run of the tests' small model whose islands bring their own data."""
    listed = ", ".join(f"{{name: {name}, engine: external}}" for name in islands)
    return f"""
tokens: {tokens}
data: {{own: true}}
train: {{sequence_tokens: 1, batch_sequences: {step_tokens}}}
model: {{from: {first}}}
exchange: {{fragments: 2, period_tokens: {step_tokens * 6 * len(islands)}}}
islands: [{listed}]
{WAITS}{more}"""


def commands() -> list[tuple[int, list[str]]]:
    """Every process of this machine and its command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")))
            except OSError:
                continue  # it has just ended
    return found


def shared() -> set[str]:
    """Shared memory of mistura processes that has a name."""
    return {p.name for p in Path("/dev/shm").glob("mistura-*")}


def leased_file(*, samples: int, islands: list[str], first: Path, text: Path, step_samples: int = 8, more: str = "") -> str:
    """A run of the tests' small model whose samples, of 8 tokens each, the run hands out."""
    listed = ", ".join(f"{{name: {name}, engine: external}}" for name in islands)
    return f"""
tokens: {samples * 8}
data: {{paths: ["{text}"]}}
train: {{sequence_tokens: 8, batch_sequences: {step_samples}}}
model: {{from: {first}}}
exchange: {{fragments: 2, period_tokens: {step_samples * 8 * 3 * len(islands)}}}
islands: [{listed}]
{WAITS}{more}"""


def listens(path: Path) -> bool:
    """Somebody waits on a Unix socket; the connection says nothing and is no rank."""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(str(path))
        except OSError:
            return False
    return True


class Served:
    """`mistura train` in a folder, whose islands wait for trainers of the caller's."""

    verb = "train"

    def __init__(self, folder: Path, run_file: str | None, *flags: str, resume: Path | None = None) -> None:
        """A run by its file, or one that is resumed in its folder."""
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.out = resume or folder / "run"
        command = [*self.start(), "--json", *flags]
        if resume is None:
            (folder / "run.yaml").write_text(run_file or "", encoding="utf-8")
            command += [str(folder / "run.yaml"), "--out", str(self.out)]
        else:
            command += ["--resume", str(resume)]
        self._said = open(folder / "stderr", "w+b")  # noqa: SIM115 (as long as the process)
        self._told = open(folder / "stdout", "w+b")  # noqa: SIM115
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._told, stderr=self._said, cwd=folder)

    def start(self) -> list[str]:
        """The program and what it does."""
        return [program(), self.verb]

    def environment(self, island: str) -> dict[str, str]:
        """What a trainer of the island is told, once somebody waits for it."""
        path = self.out / "islands" / f"{island}.sock"
        self._await(lambda: listens(path), f"socket of island {island}")
        return {"MISTURA_SOCKET": str(path)}

    def attached(self, island: str) -> set[int]:
        """Processes of the program that wait for the island's trainer, or have it."""
        path = str(self.out / "islands" / f"{island}.sock")
        return {pid for pid, command in commands() if path in command}

    def _await(self, there: Any, what: str) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not there():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"no {what}: {self.said()}")
            time.sleep(0.01)

    def await_said(self, words: str) -> None:
        """Wait until its standard error has these words."""
        self._await(lambda: words in self.said(), f"words {words!r}")

    def said(self) -> str:
        """Its standard error so far."""
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")

    def finish(self) -> dict[str, Any]:
        """Wait for the end of the run; its summary."""
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the run does not end: {self.said()}") from None
        assert code == 0, self.said()
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """What it said at its end."""
        return json.loads((self.folder / "stdout").read_text(encoding="utf-8"))

    def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(PATIENCE_SECONDS)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._said.close()
        self._told.close()


class Open(Served):
    """`mistura serve`: trainers come with a join string and start their mistura process themselves."""

    verb = "serve"

    def __init__(self, folder: Path, run_file: str) -> None:
        super().__init__(folder, run_file, "--listen", "127.0.0.1:0")

    def environment(self, island: str) -> dict[str, str]:
        """What a trainer of the island is told."""
        self.temporary.mkdir(exist_ok=True)
        return {"MISTURA_JOIN": self.join(), "MISTURA_NAME": island, "MISTURA_BINARY": program(), "TMPDIR": str(self.temporary)}

    @property
    def temporary(self) -> Path:
        """Where trainers and their mistura processes keep what goes with them."""
        return self.folder / "tmp"

    def join(self) -> str:
        """The join string that it prints."""
        self._await(lambda: re.search(JOIN, self.said()), "join string")
        return re.search(JOIN, self.said())[1]

    def steps(self, island: str) -> int:
        """How many an island has made, as `mistura status` says."""
        said = subprocess.run([program(), "status", str(self.out), "--json"], capture_output=True, text=True, check=False).stdout
        return sum(i["steps"] for i in json.loads(said or "{}").get("islands", []) if i["name"] == island)

    def token(self, *flags: str) -> str:
        """Another join string of the run."""
        said = subprocess.run([program(), "token", str(self.out), "--json", *flags], capture_output=True, text=True, check=True)
        return json.loads(said.stdout)["joins"][0]


JOIN = re.compile(r"MISTURA_JOIN='([^']+)'")
