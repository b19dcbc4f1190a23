"""What only a machine with a CUDA device can show: `make evidence-gpu`, which writes one JSON file under docs/evidence/.

Four parts, each with what it saw and how long it took: a run of one native island and one torch island on the device, in fp32 and in
bf16, with the gate's words about the latter; FSDP2 through mistura with one rank a device, beside the same loop without it; what joining
costs a loop on the device. A part that fails is in the file with its error, and the exit code is 1: evidence is what was seen.

    python3 checks/evidence/gpu.py [--device cuda] [--tokens 2M] [--out docs/evidence]

Needs Go (or MISTURA_BINARY) and a PyTorch with the device. With --device cpu it is a rehearsal of the script: nothing is written to docs/evidence.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "python" / "tests")]

from served import forget_program, program  # noqa: E402 (builds the program once)


def output_of(command: list[str]) -> str:
    """First line of what a command prints, or "unknown"."""
    try:
        lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return lines[0].strip() if lines else "unknown"


def machine(device: str) -> dict[str, Any]:
    """Everything that the evidence depends on."""
    cuda = device == "cuda"
    return {
        "date": datetime.date.today().isoformat(),
        "commit": output_of(["git", "rev-parse", "HEAD"]),
        "changed_files": len(subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()),
        "device": torch.cuda.get_device_name(0) if cuda else platform.processor() or platform.machine(),
        "devices": torch.cuda.device_count() if cuda else 1,
        "driver": output_of(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]) if cuda else "none",
        "runtime": {"cuda": torch.version.cuda, "hip": getattr(torch.version, "hip", None)},
        "torch": torch.__version__,
        "python": platform.python_version(),
        "go": output_of(["go", "version"]),
        "cores": os.cpu_count(),
    }


def islands(folder: Path, o: argparse.Namespace, precision: str) -> dict[str, Any]:
    """A native and a torch island in one run; the native one rests, so that the device has its part of a short run."""
    (folder / "run.yaml").write_text(
        f"tokens: {o.tokens}\nislands:\n  - {{name: native, pace: 0.1}}\n  - {{name: device, engine: torch, device: {o.device}, precision: {precision}}}\n",
        encoding="utf-8",
    )
    command = [program(), "train", str(folder / "run.yaml"), "--out", str(folder / "run"), "--json"]
    environment = {**os.environ, "MISTURA_PYTHON": sys.executable}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}")
    gates = re.findall(r"gate: island device .*", done.stderr)
    if not any(" passed" in g for g in gates):
        raise RuntimeError(f"the gate did not let the device in: {gates}")
    return {"precision": precision, "gate": gates, "summary": json.loads(done.stdout.splitlines()[-1])}


FSDP2 = """
import json, os, sys, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
import mistura

through, device = sys.argv[1] == "through", sys.argv[2]
dist.init_process_group("nccl" if device == "cuda" else "gloo")
rank = dist.get_rank()
if device == "cuda":
    torch.cuda.set_device(rank)
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64)).to(device)
for layer in model:
    fully_shard(layer)
fully_shard(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
island = mistura.join(model, optimizer, rate="own", own_data=True, seed=True) if through else None
draw, losses = torch.Generator().manual_seed(rank), []
while len(losses) < 40 if island is None else not island.done:
    x = torch.randn(32, 64, generator=draw).to(device)
    loss = (model(x) - x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    if island is not None:
        island.step(loss, tokens=32)
if rank == 0:
    print(json.dumps(losses))
dist.destroy_process_group()
"""


def fsdp2(folder: Path, o: argparse.Namespace) -> dict[str, Any]:
    """FSDP2 with one rank a device, alone in a run: the losses of the same loop without mistura, to the bit."""
    from served import Served

    ranks = torch.cuda.device_count() if o.device == "cuda" else 2
    (folder / "fsdp2.py").write_text(FSDP2, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), str(folder / "fsdp2.py")]

    def losses(how: str, more: dict[str, str]) -> list[float]:
        environment = {**os.environ, **more, "PYTHONPATH": str(ROOT / "python"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([*launcher, how, o.device], env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(done.stderr.strip().splitlines()[-1])
        return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("[")))

    plain = losses("plain", {})
    run = f"tokens: {40 * 32 * ranks}\ndata: {{own: true}}\nmodel: {{from: seed}}\ntrain: {{sequence_tokens: 1, batch_sequences: {32 * ranks}}}\n"
    with Served(folder / "served", run + "islands: [{name: one, engine: external, seed: true}]\n") as served:
        mixed = losses("through", served.environment("one"))
        served.finish()
    if plain != mixed:
        raise RuntimeError(f"losses differ from the loop without mistura: {plain[-1]} and {mixed[-1]} at the end")
    return {"ranks": ranks, "steps": len(plain), "losses_equal_to_the_bit": True, "last_loss": plain[-1]}


def overhead(folder: Path, o: argparse.Namespace) -> dict[str, Any]:
    """What joining costs a loop on the device."""
    command = [sys.executable, str(ROOT / "bench" / "client" / "overhead.py"), "--json", "--device", o.device]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "python"), "MISTURA_BINARY": program()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=folder)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


PARTS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "native_and_device_fp32": lambda folder, o: islands(folder, o, "fp32"),
    "native_and_device_bf16": lambda folder, o: islands(folder, o, "bf16"),
    "fsdp2": fsdp2,
    "client_overhead": overhead,
}


def gather(o: argparse.Namespace) -> dict[str, Any]:
    """Every part, whatever became of the others."""
    parts: dict[str, Any] = {}
    for name, part in PARTS.items():
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            print(f"{name} …", file=sys.stderr, flush=True)
            try:
                seen = {"ok": True, **part(Path(folder), o)}
            except Exception as error:  # noqa: BLE001 (whatever it is belongs into the evidence)
                seen = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            parts[name] = {**seen, "seconds": round(time.monotonic() - began, 1)}
            print(f"{name}: {'ok' if seen['ok'] else seen['error']}", file=sys.stderr, flush=True)
    return {"machine": machine(o.device), "parts": parts, "not_run": ["traces: this program has none yet"]}


def main() -> int:
    """Run all parts and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses the script")
    parser.add_argument("--tokens", default="2M", help="of each run of two islands")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "evidence", help="folder of the file")
    o = parser.parse_args()
    if o.device == "cuda" and not torch.cuda.is_available():
        print("evidence: this PyTorch sees no CUDA device; run it on a machine that has one", file=sys.stderr)
        return 2
    result = gather(o)
    text = json.dumps(result, indent=2) + "\n"
    if o.device == "cuda":
        o.out.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^a-z0-9]+", "-", str(result["machine"]["device"]).lower()).strip("-")
        path = o.out / f"{name}-{result['machine']['date']}.json"
        path.write_text(text, encoding="utf-8")
        print(path)
    else:
        print(text)
    forget_program()
    return 0 if all(part["ok"] for part in result["parts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
