"""FSDP1, FSDP2 and DDP through mistura, on CPUs with gloo: `python checks/fsdp/check.py` with a current torch, and Go.

Debian's torch, which the tests run with, cannot import FSDP under its Python. So this is run by hand; what it wrote last stands
beside it in output.txt. For each engine, with 2 ranks: alone in a run it must make the same losses and weights, to the bit, as the
same loop without mistura; losses and optimizer state, tensor by tensor, must be those of DDP within the rounding of sums; and beside
an island of one rank both must train and all ranks must end as one model. The two are compared at the gate: the first that comes
makes the record, and the loss and gradients of the other must be the same within fp32's bounds.
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

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "python" / "tests")]

from served import Served, forget_program, run_file  # noqa: E402
from trainers import Diary, Ranks, Small, hash_of, loss_of, write_first  # noqa: E402
from whole import digest, gates, gathered, losses, whole, whole_norms  # noqa: E402

import mistura  # noqa: E402
from mistura import adapters  # noqa: E402

STEPS, RANKS, ROWS = 40, 2, 4


def ddp(model: torch.nn.Module) -> torch.nn.Module:
    """Every rank holds everything."""
    return torch.nn.parallel.DistributedDataParallel(model)


def fsdp1(model: torch.nn.Module) -> torch.nn.Module:
    """A flat parameter for the first layer, one for the rest."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    model.first = FullyShardedDataParallel(model.first, device_id=torch.device("cpu"))
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"))


def fsdp1_originals(model: torch.nn.Module) -> torch.nn.Module:
    """The same, where the optimizer sees the parameters by their own names."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    model.first = FullyShardedDataParallel(model.first, use_orig_params=True, device_id=torch.device("cpu"))
    return FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))


def fsdp2(model: torch.nn.Module) -> torch.nn.Module:
    """DTensors, sharded along dimension 0."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(model.first)
    return fully_shard(model)


ENGINES: dict[str, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "DDP": ddp, "FSDP1": fsdp1, "FSDP1, use_orig_params": fsdp1_originals, "FSDP2": fsdp2,
}  # fmt: skip


def trainer(engine: str, through: bool, island: str, seed: int) -> Callable[[Diary, int, int], None]:
    """What a rank does, through mistura or without it."""

    def body(diary: Diary, rank: int, world: int) -> None:
        replica = ENGINES[engine](Small(seed if through else 0)) if world > 1 else Small(seed)
        optimizer = torch.optim.AdamW(replica.parameters(), lr=0.01)

        def probe(tokens: torch.Tensor) -> torch.Tensor:
            x = tokens[:, :240].reshape(-1, 8) / 128 - 1
            return torch.nn.functional.mse_loss(replica(x), torch.tanh(x[:, :4] + x[:, 4:]))

        joined = mistura.join(replica, optimizer, rate="own", own_data=True, probe=probe) if through else None
        step = 0
        while step < STEPS if joined is None else not joined.done:
            loss = loss_of(replica, hash_of(island, step * world + rank), ROWS if world > 1 else ROWS * RANKS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if joined is not None:
                joined.step(loss, tokens=ROWS if world > 1 else ROWS * RANKS)
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


def run(folder: Path, islands: dict[str, tuple[str, int]], tokens: int) -> tuple[dict[str, list[Diary]], list[dict[str, Any]]]:
    """A run of the real program, and its gate; each island is (engine, ranks)."""
    folder.mkdir()
    first = write_first(folder / "first.safetensors", Small(0))
    with Served(folder / "run", run_file(tokens=tokens, islands=list(islands), first=first, step_tokens=ROWS * RANKS)) as served:
        started = {
            name: Ranks(folder / name, ranks, trainer(engine, True, name, seed), served.environment(name))
            for seed, (name, (engine, ranks)) in enumerate(islands.items(), 5)
        }
        for name, ranks in started.items():
            ends = ranks.end()
            assert set(ends) == {"done"}, (name, ends, served.said())
        served.finish()
        decided = gates(served.out)
    return {name: ranks.diaries for name, ranks in started.items()}, decided


def check(folder: Path) -> bool:
    """Everything, a line each. False: something is not as it must be."""
    versions = f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    print(f"commit {commit}")
    print(f"date {datetime.date.today()}, {versions}, CPUs only, gloo, {RANKS} ranks")
    good = True

    def say(ok: bool, text: str) -> None:
        nonlocal good
        good = good and ok
        print(f"{'ok  ' if ok else 'FAIL'} {text}")

    reference: tuple[list[float], dict[str, float]] | None = None
    for number, engine in enumerate(ENGINES):
        plain = Ranks(folder / f"plain{number}", RANKS, trainer(engine, False, "one", 0), {})
        assert set(plain.end()) == {"done"}, plain.diaries[0].read()[-1:]
        mixed = run(folder / f"alone{number}", {"one": (engine, RANKS)}, STEPS * ROWS * RANKS)[0]["one"]
        same = losses(plain.diaries) == losses(mixed) and plain.diaries[0].all("digest") == mixed[0].all("digest")
        say(same, f"{engine}: {len(losses(mixed))} losses and all weights are those of the loop without mistura, to the bit")
        moments = {**mixed[0].all("moment1")[0], **{"2 " + k: v for k, v in mixed[0].all("moment2")[0].items()}}
        say(mixed[0].all("count")[0] == STEPS, f"{engine}: the optimizer counts {mixed[0].all('count')[0]} steps")
        if reference is None:
            reference = losses(mixed), moments
            continue
        gap = max(abs(a - b) for a, b in zip(losses(mixed), reference[0]))
        say(gap < 1e-5, f"{engine}: losses differ from DDP's by {gap:.1e} at most")
        apart = max(abs(v - reference[1][k]) / (abs(v) + 1e-12) for k, v in moments.items())
        say(apart < 1e-3 and moments.keys() == reference[1].keys(), f"{engine}: moments by tensor differ from DDP's by {apart:.1e} at most")
    for number, engine in enumerate(ENGINES):
        both, decided = run(folder / f"mixed{number}", {"one": (engine, RANKS), "two": ("DDP", 1)}, 2 * STEPS * ROWS * RANKS)
        steps = {name: len(losses(diaries)) for name, diaries in both.items()}
        equal = both["one"][0].all("digest") == both["one"][1].all("digest")
        say(equal and min(steps.values()) > 0, f"{engine} beside an island of one rank: {steps['one']} and {steps['two']} steps")
        outcomes = [record["outcome"] for record in decided]
        worst = [record["verdict"]["worst"] for record in decided if record["outcome"] == "passed"]
        figures = ", ".join(f"{w['name']} off by {w['at_least']:.1e} at least, of {w['bound']:.1e}" for w in worst)
        say(outcomes == ["recorded", "passed"], f"{engine}: gate {', then '.join(outcomes)}; worst gradient {figures}")
    return good


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        fine = check(Path(where))
    forget_program()
    sys.exit(0 if fine else 1)
