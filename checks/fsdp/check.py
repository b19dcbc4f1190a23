"""FSDP1, FSDP2 and DDP through mistura, on CPUs with gloo: `python checks/fsdp/check.py` with a current torch, and Go.

Debian's torch, which the tests run with, cannot import FSDP under its Python. So this is run by hand; what it wrote last stands
beside it in output.txt. For each engine: alone in a run it must make the same losses and weights, to the bit, as the
same loop without mistura; losses and optimizer state, tensor by tensor, must be those of DDP within the rounding of sums; and beside
an island of one rank both must train and all ranks must end as one model. The two are compared at the gate: the first that comes
makes the record, and the loss and gradients of the other must be the same within the bounds of their number format. Words behind the
command choose some of the engines.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(HERE), str(ROOT / "python"), str(ROOT / "python" / "tests")]

from served import Served, forget_program, run_file  # noqa: E402
from trainers import Diary, Ranks, Small, write_first  # noqa: E402
from whole import digest, gates, gathered, losses, whole, whole_norms  # noqa: E402

import mistura  # noqa: E402
from engines import ENGINES, HALVES, ROWS, Engine, lone, products, rows  # noqa: E402
from mistura import adapters  # noqa: E402

STEPS = 20


def trainer(engine: Engine, through: bool, island: str, seed: int, others: Path | None = None) -> Callable[[Diary, int, int], None]:
    """What a rank does, through mistura or without it. `others`: a file that is there once the other island has joined."""
    tokens = ROWS * HALVES // engine.data

    def body(diary: Diary, rank: int, world: int) -> None:
        replica = engine.make(Small(seed if through else 0))
        optimizer = torch.optim.AdamW(replica.parameters(), lr=0.01, foreach=False)  # meshes of several parameters differ

        def loss_on(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            with products(engine):
                made = replica(x)
            return torch.nn.functional.mse_loss(made.float(), y)

        def probe(question: mistura.Question) -> torch.Tensor:
            x = question.tokens[:, :240].reshape(-1, 8) / 128 - 1
            return loss_on(x, torch.tanh(x[:, :4] + x[:, 4:]))

        def join() -> Any:
            place = (rank // engine.tensor, engine.data) if world > 1 else None
            asked = mistura.Probe(probe, engine.number_format)
            return mistura.join(replica, optimizer, rate="own", own_data=True, probe=asked, data_parallel=place)

        joined = join() if through else None
        diary.note(joined=through)
        while others is not None and not others.exists():
            time.sleep(0.01)
        step = 0
        while step < STEPS if joined is None else not joined.done:
            loss = loss_on(*rows(island, step, rank, engine))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if joined is not None:
                joined.step(loss, tokens=tokens)
            diary.note(loss=loss.item())
            time.sleep(0.02 if world == 1 else 0)  # the lone rank leaves the others their share
        if world == 1:
            diary.note(digest=digest({n: p.detach() for n, p in replica.named_parameters()}))
            return
        adapter = adapters.choose(replica, optimizer)
        adapter.number(rank, lambda key: gathered(key, world))
        diary.note(digest=digest(whole(adapter, adapter.weights)))
        for name in adapter.slots():
            diary.note(**{name: whole_norms(adapter, name)}, count=adapter.steps())

    return body


def run(folder: Path, islands: dict[str, Engine], tokens: int) -> tuple[dict[str, list[Diary]], list[dict[str, Any]]]:
    """A run of the real program, and its gate."""
    folder.mkdir()
    first = write_first(folder / "first.safetensors", Small(0))
    with Served(folder / "run", run_file(tokens=tokens, islands=list(islands), first=first, step_tokens=ROWS * HALVES)) as served:
        all_here = folder / "all-here"
        started = {
            name: Ranks(folder / name, engine.ranks, trainer(engine, True, name, seed, all_here), served.environment(name))
            for seed, (name, engine) in enumerate(islands.items(), 5)
        }
        for ranks in started.values():
            ranks.wait_for(0, "joined")
        all_here.touch()
        for name, ranks in started.items():
            ends = ranks.end()
            assert set(ends) == {"done"}, f"{name}: {ends} {served.said()[-2000:]}"
        served.finish()
        decided = gates(served.out)
    return {name: ranks.diaries for name, ranks in started.items()}, decided


class Check:
    """A line for each thing that must hold."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.good = folder, True
        self.reference: tuple[list[float], dict[str, float]] | None = None

    def say(self, ok: bool, text: str) -> None:
        """One of them."""
        self.good = self.good and ok
        print(f"{'ok  ' if ok else 'FAIL'} {text}", flush=True)

    def alone(self, name: str, engine: Engine, folder: Path) -> None:
        """An island that is alone in its run."""
        plain = Ranks(folder / "plain", engine.ranks, trainer(engine, False, "one", 0), {})
        ends = plain.end()
        assert set(ends) == {"done"}, ends
        mixed = run(folder / "alone", {"one": engine}, STEPS * ROWS * HALVES)[0]["one"]
        same = losses(plain.diaries) == losses(mixed) and plain.diaries[0].all("digest") == mixed[0].all("digest")
        self.say(same, f"{name}: {len(losses(mixed))} losses and all weights are those of the loop without mistura, to the bit")
        moments = {**mixed[0].all("moment1")[0], **{"2 " + k: v for k, v in mixed[0].all("moment2")[0].items()}}
        self.say(mixed[0].all("count")[0] == STEPS, f"{name}: the optimizer counts {mixed[0].all('count')[0]} steps")
        self.compare(name, engine, losses(mixed), moments)

    def compare(self, name: str, engine: Engine, found: list[float], moments: dict[str, float]) -> None:
        """With DDP, the first of them."""
        if self.reference is None:
            self.reference = found, moments
            return
        near, close = (1e-5, 1e-3) if engine.number_format == "fp32" else (5e-2, 5e-1)
        gap = max(abs(a - b) for a, b in zip(found, self.reference[0]))
        self.say(gap < near, f"{name}: losses differ from DDP's by {gap:.1e} at most")
        apart = max(abs(v - self.reference[1][k]) / (abs(v) + 1e-12) for k, v in moments.items())
        alike = apart < close and moments.keys() == self.reference[1].keys()
        self.say(alike, f"{name}: moments by tensor differ from DDP's by {apart:.1e} at most")

    def beside(self, name: str, engine: Engine, folder: Path) -> None:
        """Beside an island of one rank; the two are compared at the gate."""
        both, decided = run(folder / "mixed", {"one": engine, "two": lone(engine.number_format)}, 2 * STEPS * ROWS * HALVES)
        steps = {island: len(losses(diaries)) for island, diaries in both.items()}
        equal = len({d.all("digest")[0] for d in both["one"]}) == 1
        self.say(equal and min(steps.values()) > 0, f"{name} beside an island of one rank: {steps['one']} and {steps['two']} steps")
        outcomes = [record["outcome"] for record in decided]
        worst = [record["verdict"]["worst"] for record in decided if record["outcome"] == "passed"]
        figures = ", ".join(f"{w['name']} off by {w['at_least']:.1e} at least, of {w['bound']:.1e}" for w in worst)
        self.say(
            outcomes == ["recorded", "passed"],
            f"{name}: gate in {engine.number_format} {', then '.join(outcomes)}; worst gradient {figures}",
        )


def check(folder: Path, only: list[str]) -> bool:
    """Everything, a line each. False: something is not as it must be."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    print(f"commit {commit}")
    print(f"date {datetime.date.today()}, {versions}, CPUs only, gloo, 2 ranks where nothing else is said")
    c = Check(folder)
    for number, (name, engine) in enumerate(ENGINES.items()):
        if number and only and not any(word in name for word in only):
            continue
        for part in (c.alone, c.beside):
            place = folder / f"{number}-{part.__name__}"
            place.mkdir()
            try:
                part(name, engine, place)
            except AssertionError as err:
                c.say(False, f"{name}: {err}")
    return c.good


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        fine = check(Path(where), sys.argv[1:])
    forget_program()
    sys.exit(0 if fine else 1)
