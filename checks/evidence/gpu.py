"""What only a machine with a CUDA device can show: `make evidence-gpu`, which writes one JSON file under docs/evidence/.

Parts, each with what it saw and how long it took: the program is built; a run of one native island and one torch island on the
device, in fp32 and in bf16, with the gate's words about the latter; FSDP2 through mistura with one rank a device, beside the same loop
without it; training traces of the reference learner on the device and on the CPU; what joining costs a loop on the device. A part
that fails is in the file with its error, and the exit code is 1: evidence is what was seen. The whole is bounded (--minutes), each part
by its share of what is left; the file is written anew after each part, and says whether it is complete.

    python3 checks/evidence/gpu.py [--device cuda] [--minutes 14] [--tokens 2M] [--out docs/evidence]

Needs Go (or MISTURA_BINARY) and a PyTorch with the device. MISTURA_COMMIT says the commit where there is no git. With --device cpu it
is a rehearsal of the script: it prints what it would write.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "python" / "tests")]

from served import program  # noqa: E402

GRACE_SECONDS = 15.0
"""An interrupted command may still end in order for so long."""


class Stopped(RuntimeError):
    """A command that failed or took too long, in a line; in the latter case with what it had said until then."""

    said = ""


def bounded(command: list[str], seconds: float, **how: Any) -> tuple[str, str]:
    """What a command printed. One that takes longer is interrupted, as Ctrl-C does it, and then killed with all that it started."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **how)
    late = ""
    try:
        out, err = process.communicate(timeout=max(1.0, seconds - GRACE_SECONDS))
    except subprocess.TimeoutExpired:
        late = f"not over after {seconds - GRACE_SECONDS:.0f} s; "
        process.send_signal(signal.SIGINT)
        out, err = remains(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode or late:
        said = (err.strip() or out.strip()).splitlines()
        error = Stopped(f"{late}exit code {process.returncode}: {said[-1] if said else 'it said nothing'}")
        error.said = err if late else ""
        raise error
    return out, err


def remains(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process that was interrupted still prints."""
    try:
        return process.communicate(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # or its children hold the pipes open for ever
        return process.communicate()


def output_of(command: list[str]) -> list[str]:
    """The lines that a command prints; none when there is no such command here."""
    try:
        return bounded(command, 60 + GRACE_SECONDS, cwd=ROOT)[0].splitlines()
    except (OSError, Stopped):
        return []


def first(command: list[str]) -> str | None:
    """The first line of what a command prints; None is unknown."""
    return next(iter(output_of(command)), None)


def machine(device: str) -> dict[str, Any]:
    """Everything that the evidence depends on. What cannot be found out is null."""
    cuda = device == "cuda"
    commit = os.environ.get("MISTURA_COMMIT") or first(["git", "rev-parse", "HEAD"])
    number = torch.cuda.device_count() if cuda else 1
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "changed_files": len(output_of(["git", "status", "--porcelain"])) if first(["git", "rev-parse", "HEAD"]) else None,
        "device": torch.cuda.get_device_name(0) if cuda else platform.processor() or platform.machine(),
        "devices": [torch.cuda.get_device_name(i) for i in range(number)] if cuda else [],
        "memory_bytes": torch.cuda.get_device_properties(0).total_memory if cuda else None,
        "driver": first(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]) if cuda else None,
        "runtime": {"cuda": torch.version.cuda, "hip": getattr(torch.version, "hip", None), "nccl": nccl() if cuda else None},
        "torch": torch.__version__,
        "python": platform.python_version(),
        "go": first(["go", "version"]),
        "system": platform.platform(),
        "cores": os.cpu_count(),
    }


def nccl() -> str | None:
    """The version of the collectives that PyTorch has."""
    try:
        return ".".join(map(str, torch.cuda.nccl.version()))
    except (AttributeError, RuntimeError):
        return None


def build(folder: Path, o: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The program itself, once for all parts."""
    if not os.environ.get("MISTURA_BINARY"):
        bounded(["go", "build", "-o", o.binary, "./cmd/mistura"], seconds, cwd=ROOT)
        os.environ["MISTURA_BINARY"] = o.binary
    return {"version": first([program(), "version"])}


def islands(folder: Path, o: argparse.Namespace, precision: str, seconds: float) -> dict[str, Any]:
    """A native and a torch island in one run; the native one rests, so that the device has its part of a short run."""
    listed = f"{{name: device, engine: torch, device: {o.device}, precision: {precision}}}"
    text = f"tokens: {o.tokens}\nislands:\n  - {{name: native, pace: 0.1}}\n  - {listed}\n"
    (folder / "run.yaml").write_text(text, encoding="utf-8")
    command = [program(), "train", str(folder / "run.yaml"), "--out", str(folder / "run"), "--json"]
    seen: dict[str, Any] = {"precision": precision, "summary": None}
    try:
        out, err = bounded(command, seconds, env={**os.environ, "MISTURA_PYTHON": sys.executable})
        seen["summary"] = json.loads(out.splitlines()[-1])
    except Stopped as error:  # a device that is slower than thought has still been at the gate
        if not error.said:
            raise
        err, seen["not_over"] = error.said, str(error)
    seen["gate"], seen["last_lines"] = re.findall(r"gate: island device .*", err), err.splitlines()[-4:]
    if not any(" passed" in g for g in seen["gate"]):
        raise Stopped(f"the gate did not let the device in: {seen}")
    return seen


FSDP2 = """
import json, os, sys, torch, torch.distributed as dist
from torch.distributed.fsdp import fully_shard
import mistura

through, device = sys.argv[1] == "through", sys.argv[2]
if device == "cuda":
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
dist.init_process_group("nccl" if device == "cuda" else "gloo")
rank = dist.get_rank()
torch.use_deterministic_algorithms(True)
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


def fsdp2(folder: Path, o: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """FSDP2 with one rank a device, alone in a run: the losses of the same loop without mistura, to the bit."""
    from served import Served

    ranks = torch.cuda.device_count() if o.device == "cuda" else 2
    (folder / "fsdp2.py").write_text(FSDP2, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(ranks), str(folder / "fsdp2.py")]
    always = {"PYTHONPATH": str(ROOT / "python"), "OMP_NUM_THREADS": "1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}

    def losses(how: str, more: dict[str, str]) -> list[float]:
        out, _ = bounded([*launcher, how, o.device], seconds / 2, env={**os.environ, **more, **always})
        return json.loads(next(line for line in out.splitlines() if line.startswith("[")))

    plain = losses("plain", {})
    run = f"tokens: {40 * 32 * ranks}\ndata: {{own: true}}\nmodel: {{from: seed}}\n"
    run += f"train: {{sequence_tokens: 1, batch_sequences: {32 * ranks}}}\n"
    with Served(folder / "served", run + "islands: [{name: one, engine: external, seed: true}]\n") as served:
        mixed = losses("through", served.environment("one"))
        served.finish()
    if plain != mixed:
        raise Stopped(f"losses differ from the loop without mistura: {plain[-1]} and {mixed[-1]} at the end")
    return {"ranks": ranks, "steps": len(plain), "losses_equal_to_the_bit": True, "last_loss": plain[-1]}


def overhead(folder: Path, o: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """What joining costs a loop on the device."""
    command = [sys.executable, str(ROOT / "bench" / "client" / "overhead.py"), "--json", "--device", o.device]
    out, _ = bounded(command, seconds, env={**os.environ, "PYTHONPATH": str(ROOT / "python"), "MISTURA_BINARY": program()}, cwd=folder)
    return json.loads(out.splitlines()[-1])


def traces(folder: Path, o: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """Loss and gradient norm, step by step, of the reference learner on the device and on the CPU."""
    seen = {}
    for precision in ("fp32", "bf16"):
        command = [sys.executable, str(ROOT / "checks" / "evidence" / "trace.py"), "--device", o.device, "--precision", precision]
        out, _ = bounded(command, seconds / 2, env={**os.environ, "PYTHONPATH": str(ROOT / "python")}, cwd=folder)
        seen[precision] = json.loads(out.splitlines()[-1])
    return seen


PARTS: dict[str, Callable[[Path, argparse.Namespace, float], dict[str, Any]]] = {
    "build": build,
    "native_and_device_fp32": lambda folder, o, seconds: islands(folder, o, "fp32", seconds),
    "native_and_device_bf16": lambda folder, o, seconds: islands(folder, o, "bf16", seconds),
    "fsdp2": fsdp2,
    "traces": traces,
    "client_overhead": overhead,
}


def one(name: str, o: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """A part, whatever becomes of it."""
    began = time.monotonic()
    print(f"{name} … ({seconds:.0f} s at most)", file=sys.stderr, flush=True)
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            seen = {"ok": True, **PARTS[name](Path(folder), o, seconds)}
    except Exception as error:  # noqa: BLE001 (whatever it is belongs into the evidence)
        seen = {"ok": False, "error": f"{type(error).__name__}: {error}"}
    print(f"{name}: {'ok' if seen['ok'] else seen['error']}", file=sys.stderr, flush=True)
    return {**seen, "seconds": round(time.monotonic() - began, 1)}


def gather(o: argparse.Namespace, write: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Every part in its share of the time, and the file after each: who ends this early has what was seen until then."""
    ends = time.monotonic() + 60 * o.minutes
    result: dict[str, Any] = {"complete": False, "machine": machine(o.device), "parts": {}}
    for number, name in enumerate(PARTS):
        write(result)
        result["parts"][name] = one(name, o, max(5.0, (ends - time.monotonic()) / (len(PARTS) - number)))
    result["complete"] = True
    write(result)
    return result


def writer(o: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    """Puts the evidence where it belongs: whole, or as it was before."""

    def write(result: dict[str, Any]) -> None:
        name = re.sub(r"[^a-z0-9]+", "-", str(result["machine"]["device"]).lower()).strip("-")
        path = o.out / f"{name}-{result['machine']['date']}.json"
        path.with_suffix(".part").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        path.with_suffix(".part").replace(path)
        if result["complete"]:
            print(path)

    o.out.mkdir(parents=True, exist_ok=True)
    return write


def main() -> int:
    """Run all parts and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses the script")
    parser.add_argument("--minutes", type=float, default=14, help="for all of it")
    parser.add_argument("--tokens", default="2M", help="of each run of two islands")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "evidence", help="folder of the file")
    o = parser.parse_args()
    if o.device == "cuda" and not torch.cuda.is_available():
        print("evidence: this PyTorch sees no CUDA device; run it on a machine that has one", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        o.binary = str(Path(folder) / "mistura")
        result = gather(o, writer(o) if o.device == "cuda" else lambda _: None)
    if o.device != "cuda":
        print(json.dumps(result, indent=2))
    return 0 if all(part["ok"] for part in result["parts"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
