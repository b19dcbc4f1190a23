"""Trainers of the tests: small models, and processes that train them as ranks of an island.

Ranks are forked from the test's process, which has imported torch already and joins nothing itself. What a rank has to say
it writes as JSON lines; how it ended is its last line.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import torch

import mistura

PATIENCE_SECONDS = 120.0
FORK = multiprocessing.get_context("fork")


class Small(torch.nn.Module):
    """x [batch, 8] → [batch, 4]; 9 tensors, two of them tied."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = torch.nn.Linear(8, 16)
        self.norm = torch.nn.LayerNorm(16)
        self.second = torch.nn.Linear(16, 16, bias=False)
        self.again = torch.nn.Linear(16, 16, bias=False)
        self.again.weight = self.second.weight
        self.head = torch.nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [batch, 8] → [batch, 4]."""
        return self.head(torch.tanh(self.again(torch.tanh(self.second(self.norm(self.first(x)))))))


def batch(seed: int, rows: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """x [rows, 8] and y [rows, 4], the same for the same seed."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 8, generator=draw)
    return x, torch.tanh(x[:, :4] + x[:, 4:])


def loss_of(model: torch.nn.Module, seed: int, rows: int = 8) -> torch.Tensor:
    """Mean squared error of a batch."""
    x, y = batch(seed, rows)
    return torch.nn.functional.mse_loss(model(x), y)


def write_first(path: Path, model: torch.nn.Module) -> Path:
    """A safetensors file of a model's parameters, fp32."""
    head: dict[str, Any] = {}
    data = b""
    for name, p in model.named_parameters():
        values = p.detach().numpy().tobytes()
        head[name] = {"dtype": "F32", "shape": list(p.shape), "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def digest(model: torch.nn.Module) -> str:
    """Of all weights, to the bit."""
    h = hashlib.sha256()
    for p in model.parameters():
        h.update(p.detach().numpy().tobytes())
    return h.hexdigest()


class Diary:
    """What a rank writes, line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, **what: Any) -> None:
        """Add a line."""
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(what) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All whole lines so far."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def all(self, key: str) -> list[Any]:
        """The values of a key, in order."""
        return [line[key] for line in self.read() if key in line]


Body = Callable[[Diary, int, int], None]
"""What a rank does: its diary, rank and world."""


class Ranks:
    """Processes of one island."""

    def __init__(self, folder: Path, world: int, body: Body, environment: dict[str, str]) -> None:
        folder.mkdir()
        self.diaries = [Diary(folder / f"rank{r}") for r in range(world)]
        self.processes = []
        for r, d in enumerate(self.diaries):
            self.processes.append(FORK.Process(target=_rank, args=(d, r, world, str(folder / "meet"), body, environment)))
            self.processes[-1].start()

    def kill(self, rank: int) -> None:
        """As the kernel does it when memory is short."""
        os.kill(self.processes[rank].pid, signal.SIGKILL)

    def end(self) -> list[str]:
        """Wait for all; how each ended."""
        for p in self.processes:
            p.join(PATIENCE_SECONDS)
            if p.is_alive():
                p.kill()
        return [(d.all("end") or ["killed"])[-1] for d in self.diaries]

    def wait_for(self, rank: int, key: str, count: int = 1) -> Any:
        """The count-th value that a rank notes of a key."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            found = self.diaries[rank].all(key)
            if len(found) >= count:
                return found[count - 1]
            if not self.processes[rank].is_alive():
                break
            time.sleep(0.01)
        raise AssertionError(f"rank {rank} never noted {key} {count} times: {self.diaries[rank].read()[-3:]}")


def together(ranks: int) -> Callable[[], object]:
    """What each of so many ranks calls: all go on once the last one has called it, however long some take to start."""
    return FORK.Barrier(ranks, timeout=PATIENCE_SECONDS).wait


def _rank(diary: Diary, rank: int, world: int, meet: str, body: Body, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    tempfile.tempdir = None  # what the test's process has found is not this one's
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=world)
    try:
        body(diary, rank, world)
        end = "done"
    except mistura.Error as err:
        end = f"{type(err).__name__}: {err}"
    except BaseException as err:
        end = f"unexpected {type(err).__name__}: {err}"
    diary.note(end=end)
    sys.stdout.flush()
    os._exit(0)  # not the test's own handlers


def train(
    diary: Diary, rank: int, world: int, *, seed: int = 0, rows: int = 8, name: str = "one", begun: Callable[[], object] = lambda: None
) -> None:
    """Train until the run is over, on batches of this rank's own; `begun` is called after the first step."""
    model: torch.nn.Module = Small(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    replica = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    island = mistura.join(replica, optimizer, rate="own", own_data=True)
    diary.note(joined=island.name, process=island._process.pid if island._process else 0)
    while not island.done:
        loss = loss_of(replica, hash_of(name, island.steps * world + rank), rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        island.step(loss, tokens=rows)
        diary.note(loss=loss.item())
        if island.steps == 1:
            begun()
    diary.note(digest=digest(model), steps=island.steps, tokens=island.tokens_seen)


def hash_of(name: str, step: int) -> int:
    """A seed for a step of an island."""
    return int.from_bytes(hashlib.sha256(f"{name} {step}".encode()).digest()[:4], "little")
