"""Megatron-core itself through mistura, on CPUs with gloo: `python checks/megatron/check.py` with torch, megatron-core and Go.

For each way to split a small GPT over 2 ranks: alone in a run it must make the same losses and fp32 masters, to the bit, as the
same loop without mistura. Beside an island of one rank both must train, and the gradients that it gives at the gate must be those
of the first within the bounds of their number format. And a run goes on with other splits, from its checkpoint.
What is changed of Megatron so that it runs on CPUs is in on_cpu.py.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(HERE), str(ROOT / "python"), str(ROOT / "python" / "tests")]
warnings.simplefilter("ignore")  # of Megatron's: what is not installed

import megatron.core.distributed  # noqa: E402
import megatron.core.models.gpt.gpt_layer_specs  # noqa: E402
import megatron.core.optimizer  # noqa: E402, F401 (before ranks are forked, which saves each of them some seconds)
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from served import Served, forget_program  # noqa: E402
from trainers import Diary, Ranks  # noqa: E402
from whole import digest, gates, gathered, whole  # noqa: E402

from mistura import adapters  # noqa: E402
from trainer import LENGTH, MICRO, ROWS, Engine, Trainer  # noqa: E402

STEPS = 20
ONE = Engine(ranks=1)
ENGINES = {
    "data-parallel, distributed optimizer, bf16": (Engine(), ONE),
    "the same, communication overlapped": (Engine(overlap=True), ONE),
    "the same, masters offloaded to the CPU": (Engine(offload=True), ONE),
    "data-parallel, distributed optimizer, fp16 with its scaler": (Engine(precision="fp16"), Engine(ranks=1, precision="fp16")),
    "data-parallel, distributed optimizer, fp32": (Engine(precision="fp32"), Engine(ranks=1, precision="fp32")),
    "data-parallel, whole masters, bf16": (Engine(sharded=False), ONE),
    "data-parallel, no masters, fp32": (Engine(sharded=False, precision="fp32"), Engine(ranks=1, precision="fp32")),
    "tensor-parallel, distributed optimizer, bf16": (Engine(tensor=2), ONE),
    "pipeline of 2 stages, bf16": (Engine(pipeline=2), ONE),
    "pipeline of 2 stages, 2 chunks on each rank, fp32": (
        Engine(pipeline=2, chunks=2, precision="fp32"), Engine(ranks=1, precision="fp32"),
    ),
    "pipeline of 2 stages, tied embedding, fp32": (
        Engine(pipeline=2, tied=True, precision="fp32"), Engine(ranks=1, tied=True, precision="fp32"),
    ),
    "expert-parallel, 4 experts, fp32": (Engine(expert=2, experts=4, precision="fp32"), Engine(ranks=1, experts=4, precision="fp32")),
}  # fmt: skip
LIVES = {
    "one rank": ONE,
    "tensor-parallel on 2": Engine(tensor=2),
    "pipeline of 2 stages with 2 chunks each": Engine(pipeline=2, chunks=2),
    "2 stages, whole masters": Engine(pipeline=2, sharded=False),
    "one rank again": ONE,
}
"""Of a run that is moved; a step has the same tokens in each."""


def step_tokens(engine: Engine) -> int:
    """Of all data-parallel ranks."""
    return MICRO * ROWS * LENGTH * engine.data


def body(engine: Engine, through: bool, island: str) -> Callable[[Diary, int, int], None]:
    """What a rank does, through mistura or without it."""

    def rank_body(diary: Diary, rank: int, world: int) -> None:
        logging.disable(logging.WARNING)
        if world == 1:
            dist.init_process_group("gloo", init_method=f"file://{diary.path}.meet", rank=0, world_size=1)
        t = Trainer(engine, seed=1)
        joined = t.join(island == "one") if through else None
        step = 0 if joined is None else joined.steps
        while step < STEPS if joined is None else not joined.done:
            loss, applied, norm = t.step(1000 * len(island) + step)
            step += 1
            if joined is not None:
                joined.step(loss, tokens=MICRO * ROWS * LENGTH, gradient_norm=norm, applied=applied)
            diary.note(loss=loss, applied=applied)
            time.sleep(0.05 if world == 1 else 0)  # the lone rank leaves the others their share
        adapter = adapters.choose(t.chunks, t.optimizer, t.layouts)
        adapter.number(rank, lambda key: gathered(key, world))
        slots = {name: digest(whole(adapter, lambda p, n=name: adapter.slot(p, n))) for name in adapter.slots()}
        diary.note(digest=digest(whole(adapter, adapter.weights)), count=adapter.steps(), scale=list(adapter.scale()), slots=slots)
        dist.barrier()

    return rank_body


def run_file(islands: dict[str, Engine], steps: int, more: str = "") -> str:
    """A run whose first weights the first island brings."""
    each = max(step_tokens(e) for e in islands.values())
    listed = ", ".join(f"{{name: {n}, engine: external, seed: {str(i == 0).lower()}}}" for i, n in enumerate(islands))
    return f"""
tokens: {steps * each * len(islands)}
data: {{own: true}}
model: {{from: seed}}
train: {{sequence_tokens: 1, batch_sequences: {each}}}
exchange: {{fragments: 2, period_tokens: {each * 4 * len(islands)}}}
islands: [{listed}]
{more}"""


def run(folder: Path, islands: dict[str, Engine]) -> tuple[dict[str, list[Diary]], list[dict[str, Any]]]:
    """A run of the real program: what ranks noted, and what was decided at the gate."""
    folder.mkdir()
    with Served(folder / "run", run_file(islands, STEPS)) as served:
        noted, _ = train(folder, served, islands)
        return noted, gates(served.out)


def train(folder: Path, served: Served, islands: dict[str, Engine]) -> tuple[dict[str, list[Diary]], str]:
    """What ranks noted until the run was over, and what it said."""
    started = {n: Ranks(folder / n, e.ranks, body(e, True, n), served.environment(n)) for n, e in islands.items()}
    for name, ranks in started.items():
        ends = ranks.end()
        assert set(ends) == {"done"}, f"{name}: {ends} {served.said()[-2000:]}"
    served.finish()
    return {name: ranks.diaries for name, ranks in started.items()}, served.said()


def known(diaries: list[Diary], key: str) -> list[list[Any]]:
    """What each rank noted."""
    return [d.all(key) for d in diaries]


class Check:
    """A line for each thing that must hold."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.good = folder, True

    def say(self, ok: bool, text: str) -> None:
        """One of them."""
        self.good = self.good and ok
        print(f"{'ok  ' if ok else 'FAIL'} {text}", flush=True)

    def engine(self, number: int, name: str) -> None:
        """One way to split the model."""
        engine, other = ENGINES[name]
        plain = Ranks(self.folder / f"plain{number}", engine.ranks, body(engine, False, "one"), {})
        ends = plain.end()
        assert set(ends) == {"done"}, f"{name}: {ends}"
        mixed = run(self.folder / f"alone{number}", {"one": engine})[0]["one"]
        same = all(known(plain.diaries, key) == known(mixed, key) for key in ("loss", "digest", "slots", "count", "scale"))
        first, last = ([v for d in mixed for v in d.all("loss") if v is not None][i] for i in (0, -1))
        what = f"{STEPS} losses ({first:.2f} to {last:.2f}), masters and moments"
        self.say(same, f"{name}: {what} are those of the loop without mistura, to the bit")
        both, decided = run(self.folder / f"mixed{number}", {"one": engine, "three": other})
        steps = {n: len(diaries[0].all("applied")) for n, diaries in both.items()}
        self.say(min(steps.values()) > 0, f"{name}: beside an island of one rank, {steps['one']} and {steps['three']} steps")
        outcomes = [r["outcome"] for r in decided]
        worst = [r["verdict"]["worst"] for r in decided if "verdict" in r and "worst" in r["verdict"]]
        figures = ", ".join(f"{w['name']} off by {w['at_least']:.1e} at least, of {w['bound']:.1e}" for w in worst)
        self.say(outcomes == ["recorded", "passed"], f"{name}: gate {', then '.join(outcomes)}; worst gradient {figures}")

    def moved(self) -> None:
        """A run that goes on with other splits, weights and moments included."""
        out, folder = self.folder / "moved" / "run" / "run", self.folder / "moved"
        folder.mkdir()
        for life, (name, engine) in enumerate(LIVES.items()):
            (folder / f"life{life}").mkdir()
            steps = STEPS * (life + 1)
            tokens = steps * step_tokens(ONE)
            served = Served(folder / "run", run_file({"one": engine}, STEPS)) if life == 0 else Served(
                folder / "run", None, "--tokens", str(tokens), resume=out
            )  # fmt: skip
            with served:
                noted, said = train(folder / f"life{life}", served, {"one": engine})
            losses = [v for d in noted["one"] for v in d.all("loss") if v is not None]
            counts = {d.all("count")[-1] for d in noted["one"]}
            proof = re.search(r"gathered anew, its state is the saved one: (.*)", said)
            self.say(
                counts == {steps} and (life == 0 or proof is not None),
                f"a run goes on: {name}, loss {losses[0]:.2f} to {losses[-1]:.2f}, {steps} steps by the optimizer's count"
                + (f"; as saved: {proof[1]}" if proof else ""),
            )


def check(folder: Path, only: list[str]) -> bool:
    """Everything, a line each. False: something is not as it must be."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    print(f"commit {commit}")
    print(f"date {datetime.date.today()}, megatron-core {importlib.metadata.version('megatron-core')}, torch {torch.__version__}, "
          f"Python {platform.python_version()}, {platform.machine()}, CPUs only, gloo, 2 ranks")  # fmt: skip
    c = Check(folder)
    for number, name in enumerate(ENGINES):
        if not only or any(word in name for word in only):
            try:
                c.engine(number, name)
            except AssertionError as err:
                c.say(False, f"{name}: {err}")
    if not only or "moved" in only:
        c.moved()
    return c.good


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        fine = check(Path(where), sys.argv[1:])
    forget_program()
    sys.exit(0 if fine else 1)
