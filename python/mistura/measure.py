"""Times on a device what training is made of: products, experts, attention, copies and collectives.

`mistura chips measure --engine torch` starts it, says what is to be tried, and makes a table of the times. It only times: what a
run counts for is settled over there, for every engine alike.

Messages are lines of JSON on stdout, of rank 0: ``about`` the device, ``at`` a key that begins, its ``seconds`` or why it is
``left``; or of any rank an ``error`` that the user can mend.

Shapes: M tokens, K inputs and N outputs of a linear map, E experts of M tokens each, T tokens, H heads of width D.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from . import device as devices
from . import experts
from .errors import InputError

LEAST_REPEATS, SHORTEST_SECONDS = 3, 0.01

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", "fp8": "float8_e4m3fn"}

DRIVERS = {"cuda": ("/sys/module/nvidia/version", "/sys/module/amdgpu/version"), "npu": ("/usr/local/Ascend/driver/version.info",)}
"""Files in which drivers say their version: the first line, or the one that begins with Version=."""

Run = Callable[[], Any]


class Unable(Exception):
    """Something that this PyTorch does not do here, in words."""


@dataclass(frozen=True)
class Key:
    """What is tried."""

    operation: str
    format: str
    extents: tuple[int, ...]
    group: int


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    device: str
    keys: Sequence[Key]
    until: float  # as time.time() says
    repeats: int  # at most


def values(device: torch.device, name: str, *shape: int) -> Tensor:
    """A tensor of normal values in a number format."""
    dtype = getattr(torch, DTYPES[name], None)
    if dtype is None:
        raise Unable(f"PyTorch {torch.__version__} has no {name}")
    return torch.randn(shape, device=device).to(dtype)


def product(device: torch.device, key: Key) -> Run:
    """X [M, K] · Wᵀ [K, N], or dYᵀ [N, M] · X [M, K]."""
    m, n, k = key.extents
    x, w = values(device, key.format, m, k), values(device, key.format, n, k)
    if key.format == "fp8":
        return scaled(x, w)
    if key.operation == "product":
        y = torch.empty(m, n, device=device, dtype=x.dtype)
        return lambda: torch.mm(x, w.t(), out=y)
    y = values(device, key.format, m, n)
    return lambda: torch.mm(y.t(), x, out=w)


def scaled(x: Tensor, w: Tensor) -> Run:
    """The product in 8 bits, one scale a tensor."""
    multiply: Any = getattr(torch, "_scaled_mm", None)
    if multiply is None:
        raise Unable(f"PyTorch {torch.__version__} has no product in fp8")
    one = torch.ones((), device=x.device)
    return lambda: multiply(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16)


def grouped(device: torch.device, key: Key) -> Run:
    """The same for E experts, as the reference learner computes them: a product each on a processor, else all in one call."""
    e, m, n, k = key.extents
    x, w, y = (values(device, key.format, e, *shape) for shape in ((m, k), (n, k), (m, n)))
    forward = key.operation == "grouped_product"
    if device.type == "cpu":
        ones = [(a, b.t(), c) if forward else (c.t(), a, b) for a, b, c in zip(x, w, y)]
        return lambda: [torch.mm(a, b, out=c) for a, b, c in ones]
    if forward and experts.products(x[0]) is experts.grouped:
        ends = torch.arange(m, e * m + 1, m, device=device, dtype=torch.int32)
        multiply: Any = experts._grouped_mm
        return lambda: multiply(x.flatten(0, 1), w.transpose(1, 2), offs=ends)
    if forward:
        return lambda: torch.bmm(x, w.transpose(1, 2), out=y)
    return lambda: torch.bmm(y.transpose(1, 2), x, out=w)


def attention(device: torch.device, key: Key) -> Run:
    """Causal attention of one sequence, forward, or the gradients of q, k and v [1, H, T, D]."""
    t, h, d = key.extents
    q, k, v = (values(device, key.format, 1, h, t, d).requires_grad_() for _ in range(3))
    fused: Any = getattr(functional, "scaled_dot_product_attention", None)
    hidden = None if fused else torch.ones(t, t, dtype=torch.bool, device=device).triu(1)

    def forward() -> Tensor:
        if fused:
            return fused(q, k, v, is_causal=True)
        return torch.softmax(((q * d**-0.5) @ k.transpose(2, 3)).masked_fill(hidden, -torch.inf), -1) @ v

    if key.operation == "attention":
        return torch.no_grad()(forward)
    out = forward()
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)


def copy(device: torch.device, key: Key) -> Run:
    """Bytes from one place of the device's memory to another."""
    source = torch.ones(key.extents[0], dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return lambda: target.copy_(source)


def collective(device: torch.device, key: Key, group: Any) -> Run:
    """One of a group of ranks; the whole tensor has that many bytes."""
    n = key.group
    whole = torch.ones(max(n, key.extents[0] // 4 // n * n), device=device)
    part, parts, other = torch.ones(len(whole) // n, device=device), list(whole.chunk(n)), torch.empty_like(whole)
    gather: Any = getattr(dist, "all_gather_into_tensor", None) if device.type != "cpu" else None  # gloo gathers lists, in older releases
    scatter: Any = getattr(dist, "reduce_scatter_tensor", None)
    return {
        "all_reduce": lambda: dist.all_reduce(whole, group=group),
        "all_gather": lambda: gather(whole, part, group=group) if gather else dist.all_gather(parts, part, group=group),
        "reduce_scatter": lambda: scatter(part, whole, group=group) if scatter else dist.reduce_scatter(part, parts, group=group),
        "all_to_all": lambda: dist.all_to_all_single(other, whole, group=group),
    }[key.operation]


KINDS: dict[str, Callable[[torch.device, Key], Run]] = {
    "product": product, "product_wgrad": product, "grouped_product": grouped, "grouped_wgrad": grouped,
    "attention": attention, "attention_grad": attention, "copy": copy,
}  # fmt: skip


def waits(device: torch.device) -> Callable[[], None]:
    """What waits until the device has done all it was told."""
    runtime = getattr(torch, device.type, None)
    wait = getattr(runtime, "synchronize", None) if device.type != "cpu" else None
    return wait or (lambda: None)


def plain(device: torch.device) -> None:
    """Products in fp32 are not rounded to a shorter format, where a device would."""
    torch.backends.cuda.matmul.allow_tf32 = False
    products = getattr(getattr(torch, device.type, None), "matmul", None)
    if products is not None:
        products.allow_hf32 = False  # Ascend's


def often(once: float) -> int:
    """Runs of a repeat, so that it lasts long enough for a clock."""
    return 1 + int(SHORTEST_SECONDS / once)


def hurry(once: float, share: float) -> None:
    """There must be time for several runs that take so long."""
    if once > share:
        raise Unable(f"one run takes {once:.2g} s, for which there is no time")


def repeat(run: Run, wait: Callable[[], None], share: float, most: int) -> list[float]:
    """Seconds of a run, for each of several repeats, most at most, in about a share of time.

    The first run does not count: it chooses, allocates, and may load the kernel. The twin in Go is repeat in internal/gauge/device.go.
    """
    began = time.perf_counter()
    hurry(timed(run, wait, 1) / LEAST_REPEATS, share)
    once = timed(run, wait, 1)
    hurry(once, share)
    seconds: list[float] = []
    while len(seconds) < LEAST_REPEATS or len(seconds) < most and time.perf_counter() - began < share:
        seconds.append(timed(run, wait, often(once)))
    return seconds


def timed(run: Run, wait: Callable[[], None], runs: int) -> float:
    """Seconds of one of so many runs."""
    start = time.perf_counter()
    for _ in range(runs):
        run()
    wait()
    return max(1e-9, time.perf_counter() - start) / runs


def words(err: BaseException) -> str:
    """What went wrong, in one line."""
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return (lines[0] if lines else type(err).__name__)[:200]


class Session:
    """The keys of one request, in turn; each has its share of the time that is left."""

    def __init__(self, device: torch.device, asked: Request, tell: Callable[[dict[str, Any]], None]) -> None:
        self.device, self.keys, self.until, self.repeats, self.tell = device, asked.keys, asked.until, asked.repeats, tell
        self.wait = waits(device)
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.control: Any = None
        self.groups: dict[int, Any] = {}
        if dist.is_initialized():
            patience = timedelta(seconds=max(0.0, self.until - time.time()) + 60)  # the others wait while rank 0 is alone
            self.control = dist.new_group(backend="gloo", timeout=patience)
            self.groups = {n: dist.new_group(list(range(n))) for n in sorted({k.group for k in self.keys if k.group})}

    def run(self) -> None:
        """Try every key."""
        for i, key in enumerate(self.keys):
            if key.group == 0 and self.rank:
                continue
            self.tell({"at": i})
            try:
                left = self.until - time.time()
                seconds = self.together(key, left) if key.group else self.alone(key, left / (len(self.keys) - i), left)
                self.tell({"key": i, "seconds": seconds})
            except (Unable, RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as err:
                self.tell({"key": i, "left": words(err)})

    def alone(self, key: Key, share: float, left: float) -> list[float]:
        """Of this device by itself."""
        if left <= 0:
            raise Unable("no time was left")
        return repeat(KINDS[key.operation](self.device, key), self.wait, share, self.repeats)

    def together(self, key: Key, left: float) -> list[float]:
        """Of a group of ranks: rank 0 says how often, and the slowest rank counts."""
        if self.agreed(left) <= 0:
            raise Unable("no time was left")
        member, why, run = self.rank < key.group, "", None
        once = 0.0
        if member:
            try:
                run = collective(self.device, key, self.groups[key.group])
                timed(run, self.wait, 1)
                once = timed(run, self.wait, 1)
            except (Unable, RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as err:
                why = words(err)
        if self.slowest(1.0 if why else 0.0):
            raise Unable(why or "another rank could not")
        once = max(1e-9, self.slowest(once))
        hurry(LEAST_REPEATS * once, self.agreed(left))
        seconds = []
        for _ in range(LEAST_REPEATS + 2):
            dist.barrier(group=self.control)
            seconds.append(self.slowest(timed(run, self.wait, often(once)) if run else 0.0))
        return seconds

    def agreed(self, value: float) -> float:
        """Rank 0's number, on all ranks."""
        x = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(x, 0, group=self.control)
        return float(x)

    def slowest(self, value: float) -> float:
        """The largest number of all ranks."""
        x = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(x, dist.ReduceOp.MAX, group=self.control)
        return float(x)


def about(device: torch.device, kind: devices.Kind, ranks: int, root: Path = Path("/")) -> dict[str, Any]:
    """What the device and the software call themselves; what is not known is left out."""
    runtime: Any = getattr(torch, device.type, None)
    found: dict[str, Any] = {"kind": device.type, "visible": kind.visible}
    software = [f"PyTorch {torch.__version__}", *versions(device, root)]
    if device.type == "cpu":
        software.append(f"{torch.get_num_threads()} threads, {platform.system()} {platform.machine()}")
    if ranks > 1:
        found["collectives"] = kind.backend
        software.append(f"{kind.backend} on one host")
    found["software"] = ", ".join(software)
    ways: dict[str, Run] = {
        "name": lambda: str(runtime.get_device_name(device)),
        "devices": lambda: int(runtime.device_count()),
        "memory": lambda: int(runtime.get_device_properties(device).total_memory),
        "arch": lambda: architecture(runtime.get_device_properties(device)),
    }
    for name, of in ways.items() if device.type != "cpu" else ():
        try:
            found[name] = of()
        except (AttributeError, RuntimeError, AssertionError, TypeError):
            continue
    return {name: value for name, value in found.items() if value}


def architecture(properties: Any) -> str:
    """As the chip's own tools name it."""
    if name := getattr(properties, "gcnArchName", ""):
        return str(name).split(":")[0]
    return f"sm_{properties.major}{properties.minor}"


def versions(device: torch.device, root: Path) -> list[str]:
    """Of the vendor's software below PyTorch, as far as it says."""
    found = []
    for name in ("cuda", "hip", "cann", "musa", "xpu"):
        value = getattr(torch.version, name, None)
        if value and device.type != "cpu":
            found.append(f"{name} {value}")
    for file in DRIVERS.get(device.type, ()):
        try:
            lines = (root / file.lstrip("/")).read_text().splitlines()
        except OSError:
            continue
        first = next((line.partition("=")[2] for line in lines if line.startswith("Version=")), lines[0] if lines else "")
        if first.strip():
            found.append(f"driver {first.strip()}")
    return found


def say(message: dict[str, Any]) -> None:
    """One line of JSON."""
    print(json.dumps(message), flush=True)


def silent(message: dict[str, Any]) -> None:
    """Of the other ranks nobody hears."""


def request(text: str) -> Request:
    """What the JSON asks for. PyTorch has taken its time to load: half of the seconds are for measuring in any case."""
    asked = json.loads(text)
    keys = [Key(k["operation"], k["format"], tuple(k["extents"]), k["group"]) for k in asked["keys"]]
    until = max(asked["began"] + asked["seconds"], time.time() + asked["seconds"] / 2)
    return Request(asked["device"], keys, until, asked["repeats"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and give the exit code."""
    p = argparse.ArgumentParser(prog="python3 -m mistura.measure", description="Times what training is made of, for mistura chips measure.")
    p.add_argument("--request", required=True, metavar="JSON", help="device, keys, repeats, seconds and when they began")
    asked = request(p.parse_args(argv).request)
    rank, ranks, local = (int(os.environ.get(v) or d) for v, d in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0)))
    tell = silent if rank else say
    try:
        kind = devices.find(asked.device)[0]
        device = devices.open_device(asked.device, local)
    except InputError as err:
        say({"error": err.parts()})  # of any rank: there may be fewer devices than ranks
        return 2
    plain(device)
    torch.manual_seed(0)
    torch.set_num_threads(max(1, devices.cpu_limit() // (ranks if rank else 1)))
    tell({"about": about(device, kind, ranks)})
    if ranks > 1:
        dist.init_process_group(kind.backend)
    Session(device, asked, tell).run()
    if ranks > 1:
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
