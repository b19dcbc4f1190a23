"""What joining costs a trainer: step times of one loop with and without mistura, in turn, on this machine.

    PYTHONPATH=python python3 bench/client/overhead.py --pairs 9 --json

The model is a stack of square layers of 8 MB in all a fragment; a fragment is sent and adopted every 3 steps. Coordinator,
syncer and the mistura process of the island run on the same machine, and what they take is part of what is measured. A pair
is two blocks of 12 steps, one with island.step() and one without, in turn first; a ratio is of their times; the median counts.
Beside them stands the CPU time of each process in a step of the joined blocks: what the trainer's neighbours on this machine do.
Needs Go to build mistura, or MISTURA_BINARY.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mistura
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python" / "tests"))
from served import Served, forget_program  # noqa: E402 (starts the coordinator)

WIDTH, LAYERS, FRAGMENTS = 1024, 8, 4  # 2 layers of 4 MB a fragment
EVERY = 3  # steps between two fragments
BLOCK = EVERY * FRAGMENTS  # steps, in which each fragment is exchanged once


def run_file(rows: int) -> str:
    """One island with its own data and rate, whose weights are version 0; outer momentum, so that each adoption changes them."""
    return f"""
name: overhead
tokens: {rows * 1_000_000}
data: {{own: true}}
train: {{sequence_tokens: 1, batch_sequences: {rows}}}
model: {{from: seed}}
checkpoint: {{every_tokens: {rows * 500_000}}}
exchange: {{fragments: {FRAGMENTS}, period_tokens: {rows * BLOCK}, outer_rate: 0.7, outer_momentum: 0.5}}
limits: {{stall_seconds: 600, first_step_seconds: 600, runway_seconds: 600}}
islands: [{{name: one, engine: external, seed: true}}]
"""


class Loop:
    """An ordinary training loop; data are drawn before it is timed."""

    def __init__(self, rows: int, device: str = "cpu") -> None:
        torch.manual_seed(1)
        layers: list[torch.nn.Module] = []
        for _ in range(LAYERS):
            layers += [torch.nn.Linear(WIDTH, WIDTH, bias=False), torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.x, self.y = torch.randn(rows, WIDTH).to(device), torch.randn(rows, WIDTH).to(device)

    def step(self) -> torch.Tensor:
        """Forward, backward, update."""
        loss = torch.nn.functional.mse_loss(self.model(self.x), self.y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def block(self, island: mistura.Island | None) -> tuple[float, float]:
        """Seconds of BLOCK steps, each with what its user reads anyway, the loss: on the clock, and of this process's CPU."""
        began, used = time.perf_counter(), time.process_time()
        for _ in range(BLOCK):
            loss = self.step().item()
            if island is not None:
                island.step(loss, tokens=len(self.x))
        return time.perf_counter() - began, time.process_time() - used


class Neighbours:
    """CPU seconds of the run's own processes on this machine."""

    def __init__(self, served: Served) -> None:
        self._pids = {"coordinator_and_syncer": {served.process.pid}, "island": served.attached("one")}

    def seconds(self) -> dict[str, float | None]:
        """Of each until now, user and system."""
        return {name: cpu_seconds(pids) for name, pids in self._pids.items()}

    def since(self, before: dict[str, float | None], steps: int) -> dict[str, float | None]:
        """Of a step, since then; None where the system does not tell."""
        now = self.seconds()
        return {name: (s - at) / steps if s is not None and (at := before[name]) is not None else None for name, s in now.items()}


def cpu_seconds(pids: set[int]) -> float | None:
    """User and system time of processes, seconds (proc(5), fields 14 and 15 of stat); None where the system does not tell."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(loop: Loop, island: mistura.Island, pairs: int) -> list[dict[str, float]]:
    """The pairs, after one block of each kind that does not count."""
    loop.block(island)
    loop.block(None)
    rows = []
    for pair in range(pairs):
        times = {}
        for joined in (True, False) if pair % 2 else (False, True):
            times[joined] = loop.block(island if joined else None)
            time.sleep(0.5)  # what is under way must not be counted against the loop without it
        (joined_s, joined_cpu), (alone_s, alone_cpu) = times[True], times[False]
        row = {"with": joined_s / BLOCK, "without": alone_s / BLOCK, "ratio": joined_s / alone_s, "cpu_ratio": joined_cpu / alone_cpu}
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7, help="pairs of blocks")
    parser.add_argument("--rows", type=int, default=512, help="rows of a batch: they set the step time")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch; 0: as PyTorch chooses")
    parser.add_argument("--device", default="cpu", help="what the loop runs on, as PyTorch names it")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    with tempfile.TemporaryDirectory() as folder, Served(Path(folder), run_file(o.rows)) as served:
        loop = Loop(o.rows, o.device)
        socket = served.environment("one")["MISTURA_SOCKET"]
        island = mistura.join(loop.model, loop.optimizer, socket=socket, rate="own", own_data=True, seed=True)
        neighbours = Neighbours(served)
        before = neighbours.seconds()
        rows = measure(loop, island, o.pairs)
        beside = neighbours.since(before, BLOCK * (o.pairs + 1))
        island.close()
    forget_program()
    show(o, rows, beside)


def show(o: argparse.Namespace, rows: list[dict[str, float]], beside: dict[str, float | None]) -> None:
    """As JSON or in a line."""
    ratios = [r["ratio"] for r in rows]
    result: dict[str, Any] = {
        "fragment_bytes": WIDTH * WIDTH * LAYERS * 4 // FRAGMENTS,
        "steps_between_fragments": EVERY,
        "rows": o.rows,
        "device": o.device,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "step_seconds": statistics.median(r["without"] for r in rows),
        "overhead": statistics.median(ratios) - 1,
        "overhead_cpu": statistics.median(r["cpu_ratio"] for r in rows) - 1,
        "ratios": ratios,
        "neighbours_cpu_seconds_per_step": beside,
    }
    if o.json:
        print(json.dumps(result))
        return
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"{result['step_seconds'] * 1e3:.1f} ms a step, {len(rows)} pairs: overhead {result['overhead']:+.2%} ({spread})")
    print(f"of the trainer's own CPU time: {result['overhead_cpu']:+.2%}")
    print("CPU time beside it, a step: " + ", ".join(f"{name} " + ("unknown" if s is None else f"{s * 1e3:.1f} ms") for name, s in beside.items()))


if __name__ == "__main__":
    main()
