"""Resume of a large checkpoint with another number of ranks: from the command to the first step, and where the time goes.

A model of one's own whose rows are split over the ranks, trained by a loop that computes next to nothing, is saved by 2 ranks
and resumed by 3. The state of the island is weights and both moments of AdamW, fp32.

    python3 bench/resume/resume.py --state-bytes 1000000000

Needs torch, and memory of about nine times the state for all processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "python" / "tests")]

import torch  # noqa: E402

import mistura  # noqa: E402
from mistura.layout import Split  # noqa: E402
from served import Served, forget_program, program  # noqa: E402
from trainers import Diary, Ranks  # noqa: E402

COLUMNS = 1024
TENSORS = 24
STATE_VALUES = 3
"""Weight and two moments."""

ROWS = 0
"""Of each tensor; set once."""


class Rows(torch.nn.Module):
    """This rank's rows of every tensor: [rows / world, COLUMNS]."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__()
        mine = ROWS * (rank + 1) // world - ROWS * rank // world
        for i in range(TENSORS):
            self.register_parameter(f"t{i}", torch.nn.Parameter(torch.zeros(mine, COLUMNS)))


def train(diary: Diary, rank: int, world: int) -> None:
    """Steps whose gradient is the weights' distance from a constant."""
    model = Rows(rank, world)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
    sizes = [ROWS * (r + 1) // world - ROWS * r // world for r in range(world)]

    def layout(name: str, parameter: torch.Tensor) -> Split:
        return Split(0, rank, world, sizes=sizes)

    began = time.time()
    island = mistura.join(model, optimizer, rate="own", own_data=True, layout=layout, data_parallel=(0, 1))
    diary.note(joined=time.time(), took=time.time() - began)
    while not island.done:
        loss = 0.0
        for p in model.parameters():
            p.grad = (p.detach() - 0.5).clone()
            loss += float(p.grad.square().mean())
        optimizer.step()
        optimizer.zero_grad()
        diary.note(stepped=time.time())
        island.step(loss / TENSORS, tokens=8)
        diary.note(loss=loss / TENSORS)


def run_file() -> str:
    """The run; its weights begin at the zeros that a file has."""
    listed = ", ".join(f"{{name: t{i}, shape: [{ROWS}, {COLUMNS}]}}" for i in range(TENSORS))
    return f"""
tokens: 1000000
gate: "off"
data: {{own: true}}
train: {{batch_sequences: 8}}
model: {{from: first.safetensors, tensors: [{listed}]}}
exchange: {{fragments: 4, period_tokens: 4000}}
checkpoint: {{every_tokens: 0}}
islands: [{{name: one, engine: external}}]
"""


def write_zeros(path: Path) -> None:
    """A safetensors file of zeros, sparse."""
    size = ROWS * COLUMNS * 4
    head = {f"t{i}": {"dtype": "F32", "shape": [ROWS, COLUMNS], "data_offsets": [i * size, (i + 1) * size]} for i in range(TENSORS)}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        f.truncate(8 + len(text) + TENSORS * size)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(folder: Path, before: int, after: int) -> dict[str, float]:
    """Save on `before` ranks, resume on `after`."""
    write_zeros(folder / "first.safetensors")
    text = run_file().replace("first.safetensors", str(folder / "first.safetensors"))
    with Served(folder / "run", text) as served:
        ranks = Ranks(folder / "before", before, train, served.environment("one"))
        ranks.wait_for(0, "loss", 3)
        began = time.time()
        assert served.interrupt() == 130, served.said()
        saved = time.time() - began
        assert ranks.end() == ["done"] * before, ranks.end()
    newest = max((folder / "run" / "run" / "checkpoints").iterdir())
    total = sum(p.stat().st_size for p in newest.rglob("*") if p.is_file())
    state = (newest / "islands" / "one.safetensors").stat().st_size
    began = time.time()
    with Served(folder / "again", None, resume=folder / "run" / "run") as served:
        environment = served.environment("one")
        waited = time.time() - began
        ranks = Ranks(folder / "after", after, train, environment)
        first = max(ranks.wait_for(r, "stepped") for r in range(after)) - began
        joined = max(ranks.wait_for(r, "joined") for r in range(after)) - began
        ranks.wait_for(0, "loss", 2)
        while "gathered anew, its state is the saved one" not in served.said():
            assert served.process.poll() is None and time.time() - began < 300, served.said()
            time.sleep(0.05)
        compared = time.time() - began
        coordinator, island = cpu_seconds(served.process.pid), sum(cpu_seconds(pid) for pid in served.attached("one"))
        served.process.kill()
        ranks.end()
    return {
        "state_bytes": state, "checkpoint_bytes": total, "from_ranks": before, "to_ranks": after,
        "seconds_to_save": round(saved, 2), "seconds_until_island_listens": round(waited, 2),
        "seconds_until_joined": round(joined, 2), "seconds_to_first_step": round(first, 2), "seconds_until_compared": round(compared, 2),
        "coordinator_cpu_seconds": round(coordinator, 2), "island_cpu_seconds": round(island, 2),
    }  # fmt: skip


def main() -> None:
    """Print one JSON object."""
    global ROWS
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--state-bytes", type=int, default=1_000_000_000)
    p.add_argument("--from-ranks", type=int, default=2)
    p.add_argument("--to-ranks", type=int, default=3)
    args = p.parse_args()
    ROWS = args.state_bytes // (4 * STATE_VALUES * TENSORS * COLUMNS)
    folder = Path(tempfile.mkdtemp(prefix="resume-", dir=os.environ.get("TMPDIR")))
    try:
        program()
        print(json.dumps({**measure(folder, args.from_ranks, args.to_ranks), "cores": os.cpu_count(), "torch": torch.__version__}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        forget_program()


if __name__ == "__main__":
    main()
