"""The reference learner: trains the run's own model on any device that PyTorch reaches.

``python -m mistura.train`` is an island like any other trainer's: it calls ``mistura.join()``,
takes samples, computes, asks whether the step is applied, and says how it went. The mistura
process beside it does the rest, and reads the samples' tokens for it too.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import mistura

from . import device as devices
from . import process
from .adapters import Adapter
from .config import Config, Training, section
from .errors import Error, InputError
from .learner import Batch, Learner, LossScale, adamw
from .model import Model
from .stacked import stacked

EXAMPLES = """\
examples:
  MISTURA_JOIN_FILE=join.txt python3 -m mistura.train --device npu --precision bf16
  torchrun --nproc-per-node 8 -m mistura.train --device cuda --precision bf16 --activation-checkpointing

The run is named by MISTURA_JOIN, by a file that --join or MISTURA_JOIN_FILE names, or by MISTURA_SOCKET, the
socket of a mistura process that is running. Exit codes: 0 the run is over, 1 something broke, 2 bad input.
"""

SAY_EVERY_SECONDS = 5.0


def arguments() -> argparse.ArgumentParser:
    """The flags, which are of this process; what is trained stands in the run file."""
    p = argparse.ArgumentParser(
        prog="python3 -m mistura.train",
        description="Join a run with the reference learner, on any device that PyTorch reaches.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--join", "--join-file", metavar="FILE", help="file that holds the join string; a secret does not belong on a command line"
    )
    p.add_argument("--name", metavar="NAME", help="name of the island (default: the run gives one)")
    p.add_argument(
        "--device",
        default="cpu",
        metavar="KIND",
        help="|".join(k.type for k in devices.KINDS) + ", with :N for one of several (default cpu)",
    )
    p.add_argument(
        "--precision",
        default="fp32",
        metavar="FORMAT",
        help="|".join(devices.PRECISIONS) + ": of products; weights stay fp32 (default fp32)",
    )
    p.add_argument("--activation-checkpointing", action="store_true", help="compute layers again in the backward pass, to save memory")
    p.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="threads of a rank on the CPU (default: the processors allowed, shared by the ranks)",
    )
    p.add_argument("--json", action="store_true", help="print a summary as one JSON object at the end")
    p.add_argument("--no-gate", action="store_true", help="join without answering the gate record; the run notes it")
    p.add_argument("--probe", action="store_true", help="only say as JSON whether device and precision can be had here")
    return p


@dataclass
class Built:
    """What a rank holds."""

    model: Model
    optimizer: torch.optim.Optimizer
    training: Training
    scale: LossScale


def build(run: dict[str, Any], device: torch.device, args: argparse.Namespace) -> Built:
    """The run's model on the device, with zero weights: the run sends them."""
    if run["model"].get("tensors"):
        raise InputError("model.tensors", None, "the run's model is not one that the reference learner knows", "join with its own trainer")
    c, t = section(Config, run, "model"), section(Training, run, "train")
    model = Model(c, devices.autocast_dtype(args.precision, device), args.activation_checkpointing).to(device)
    return Built(model, adamw(model, t), t, LossScale(model.autocast == torch.float16))


def rows(island: Any, samples: Sequence[int]) -> tuple[torch.Tensor, int | None]:
    """Tokens of samples, int64 [S, T+1], and the token that ends a document, if samples are to be cut there."""
    if not samples:
        return torch.zeros(0, 1, dtype=torch.int64), None
    answer = island.ask("rows", samples=list(samples))
    flat = np.frombuffer(base64.b64decode(answer["tokens"]), "<i4").astype(np.int64)
    return torch.from_numpy(flat.reshape(len(samples), answer["width"])), answer["end_token"]


def taken(island: Any, samples: Sequence[int], leaving: Sequence[bool]) -> tuple[torch.Tensor, int | None, bool]:
    """rows() on each rank, and whether any of them was asked to leave.

    All hear it together when one hears that the island is over: else the others would wait for it in the gradient's collective.
    """
    kept: list[tuple[torch.Tensor, int | None]] = []

    def take() -> bool:
        kept.append(rows(island, samples))
        return bool(leaving)

    asked = any(island._ranks.everyone(take))
    return (*kept[0], asked)


@dataclass
class Told:
    """What there is to say of the training, for people and for the summary."""

    quiet: bool
    began: float
    said: float = 0.0
    steps: int = 0
    skipped: int = 0
    tokens: int = 0
    loss: float = math.nan
    norm: float = math.nan

    def step(self, tokens: int, loss: float, norm: float, applied: bool, rate: float) -> None:
        """Count a step, and say how it goes every few seconds."""
        self.steps, self.skipped, self.tokens = self.steps + 1, self.skipped + (not applied), self.tokens + tokens
        self.loss, self.norm = loss, norm
        now = time.monotonic()
        if self.quiet or now - self.said < SAY_EVERY_SECONDS:
            return
        self.said = now
        speed = self.tokens / max(1e-9, now - self.began)
        print(
            f"step {self.steps}  loss {loss:.4f}  gradient norm {norm:.3g}  rate {rate:.3g}  {speed:,.0f} tokens/s",
            file=sys.stderr,
            flush=True,
        )

    def summary(self, island: Any, args: argparse.Namespace) -> dict[str, Any]:
        """Numbers that are unknown are null."""
        known = {"loss": self.loss, "gradient_norm": self.norm}
        return {
            "run_id": island.run_id, "island": island.name, "device": args.device, "precision": args.precision, "torch": torch.__version__,
            "steps": self.steps, "skipped_steps": self.skipped, "tokens": self.tokens, "seconds": round(time.monotonic() - self.began, 3),
            **{name: value if math.isfinite(value) else None for name, value in known.items()},
        }  # fmt: skip


class Pace:
    """Slows an island down to a share of its speed, as ``islands[].pace`` asks for: a test aid.

    A step is to take 1/pace of a quick one of the last 32 (their first decile).
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._last: list[float] = []

    def rest(self, took: float) -> float:
        """Seconds to wait after a step that took so many."""
        if self.share >= 1:
            return 0.0
        self._last = [*self._last[-31:], took]
        return max(0.0, sorted(self._last)[len(self._last) // 10] / self.share - took)


def train(island: Any, learner: Learner, told: Told, leaving: Sequence[bool]) -> None:
    """Step by step until the run is over, or until somebody asks this island to leave."""
    sequence = learner.t.sequence_tokens
    mine: dict[str, Any] = next((i for i in island.run["islands"] if i["name"] == island.name), {})
    pace = Pace(float(mine.get("pace", 1)))
    first = not dist.is_initialized() or dist.get_rank() == 0
    while not island.done:
        began = time.perf_counter()
        samples = island.lease()
        tokens, end, asked = taken(island, samples, leaving)
        if asked:
            island.leave("asked to leave")
            return
        g = learner.gradient(Batch(tokens, samples, end, island.act["clock"]))
        verdict = island.judge(g.loss, g.norm)
        rate = float(learner.optimizer.param_groups[0]["lr"])
        if verdict:
            learner.apply(g)
        time.sleep(pace.rest(time.perf_counter() - began))
        experts = g.expert_tokens if first else [0] * len(g.expert_tokens)  # counted over all ranks already
        told.step(len(samples) * sequence, g.loss, g.norm, bool(verdict), rate)
        island.step(g.loss, tokens=len(samples) * sequence, gradient_norm=g.norm, expert_tokens=experts)


def place() -> tuple[int, int, int]:
    """This process among the island's ranks: number, how many, and number on its host, as launchers say."""
    return tuple(int(os.environ.get(name) or default) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))  # type: ignore[return-value]


def threads(asked: int) -> int:
    """Threads of this rank: what was asked for, or its share of the processors that it may use."""
    if asked < 0:
        raise InputError("--threads", asked, "is below 0", "give the threads of one rank, or leave it out")
    return asked or max(1, devices.cpu_limit() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE") or 1)))


def run(args: argparse.Namespace) -> None:
    """Train until the run is over: an island that the run goes on without joins anew, unless it has made no step since it joined."""
    rank, world, local = place()
    torch.set_num_threads(threads(args.threads))
    device = devices.open_device(args.device, local)
    leaving: list[bool] = []

    def leave(*_: Any) -> None:
        leaving.append(True)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, leave)
    if world > 1:
        dist.init_process_group(devices.find(args.device)[0].backend)
    while True:
        told = Told(quiet=rank != 0, began=time.monotonic())
        try:
            live(args, device, told, leaving)
            break
        except mistura.RolledBack as err:
            if leaving or told.steps == 0:
                raise
            sys.stderr.write(f"mistura.train: {err}: joins again\n")  # in one piece: other ranks write too
            sys.stderr.flush()
    if world > 1:
        dist.destroy_process_group()


def live(args: argparse.Namespace, device: torch.device, told: Told, leaving: Sequence[bool]) -> None:
    """Join, train, and say how it went."""
    built: list[Built] = []

    def make(settings: dict[str, Any]) -> tuple[Model, torch.optim.Optimizer, Adapter]:
        built.append(build(settings, device, args))
        b = built[0]
        held: Any = stacked(b.model, b.optimizer)
        held.scale, held.set_scale = b.scale.kept, b.scale.take  # into checkpoints of the run, and back
        return b.model, b.optimizer, held

    text = None if args.join is None else process.read_join("--join", args.join)
    island = mistura.join(
        make,
        join=text,
        name=args.name,
        engine="torch",
        no_gate=args.no_gate,
        probe=mistura.Probe(lambda q: answer(built[0].model, q), args.precision),
    )
    b = built[0]
    told.began = time.monotonic()
    train(island, Learner(b.model, b.optimizer, b.training, int(island.run["seed"]), b.scale), told, leaving)
    if args.json and not told.quiet:
        print(json.dumps(told.summary(island, args)), flush=True)


def answer(model: Model, q: mistura.Question) -> mistura.Answer:
    """What the model makes of the gate's probe, with the record's experts; then those that it chooses itself."""
    imposed = {layer: choice.to(model.norm.device) for layer, choice in (q.choices or {}).items()}
    p = model(q.tokens, q.end_token, None, imposed)
    with torch.no_grad():
        free = model(q.tokens, q.end_token)
    return mistura.Answer(p.total(model.c) / p.targets.sum(), {layer: r.choice for layer, r in free.routed.items()})


def probe(args: argparse.Namespace) -> int:
    """Print what there is, or what is missing, as one JSON object; asked before a run begins."""
    try:
        device = devices.open_device(args.device, place()[2])
        devices.autocast_dtype(args.precision, device)
        answer: dict[str, Any] = {"python": sys.version.split()[0], "torch": str(torch.__version__), "device": devices.name_of(device)}
    except InputError as err:
        answer = {"error": err.parts()}
    print(json.dumps(answer), flush=True)
    return 2 if "error" in answer else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run and give the exit code."""
    args = arguments().parse_args(argv)
    if args.probe:
        return probe(args)
    try:
        run(args)
    except InputError as err:
        print(f"mistura.train: {err}", file=sys.stderr)
        return 2
    except Error as err:
        print(f"mistura.train: {err}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
