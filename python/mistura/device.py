"""Devices: one table of what PyTorch needs to reach each vendor's chips.

A plug-in is imported only for its own device, so that a machine without it, or with one
that is broken, trains on every other (case G13). Vendors are known by several names in
several layers; all of them lead to one row (case G14). Rows that were never run here say so.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from .errors import InputError


@dataclass(frozen=True)
class Kind:
    """One kind of device, as PyTorch calls it."""

    type: str
    who: str  # whose chips, for people
    plugins: tuple[str, ...] = ()  # modules, the first one that is there; none: PyTorch has it itself
    install: str = ""  # what brings it, for people
    backend: str = "gloo"  # of torch.distributed inside an island
    visible: str = ""  # variables that say which devices a process sees
    aliases: tuple[str, ...] = ()
    built_in: bool = False  # newer PyTorch has it without the plug-in


# Sources: each vendor's PyTorch plug-in and its documentation. The first row was run with the real thing; of the others nothing is claimed.
KINDS = (
    Kind("cpu", "any processor"),
    Kind(
        "cuda",
        "Nvidia; AMD (ROCm); T-Head PPU, MetaX, Iluvatar and Hygon, whose builds of PyTorch say cuda too",
        install="a build of PyTorch for this chip: of pytorch.org, or the vendor's own",
        backend="nccl",
        visible="CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES",
        aliases=("gpu", "nvidia", "rocm", "hip", "amd", "ppu", "maca", "metax", "corex", "iluvatar", "dcu", "dtk", "hygon"),
    ),
    Kind(
        "npu", "Huawei Ascend", ("torch_npu",), "CANN, then pip install torch_npu", "hccl", "ASCEND_RT_VISIBLE_DEVICES", ("ascend", "cann")
    ),
    Kind("musa", "Moore Threads", ("torch_musa",), "the MUSA SDK and torch_musa", "mccl", "MUSA_VISIBLE_DEVICES", ("mthreads",)),
    Kind("mlu", "Cambricon", ("torch_mlu",), "the Neuware SDK and torch_mlu", "cncl", "MLU_VISIBLE_DEVICES", ("cambricon", "neuware")),
    Kind("gcu", "Enflame", ("torch_gcu",), "TopsRider and torch_gcu", "eccl", "TOPS_VISIBLE_DEVICES", ("enflame", "tops")),
    Kind(
        "xpu",
        "Intel",
        ("intel_extension_for_pytorch",),
        "pip install torch --index-url https://download.pytorch.org/whl/xpu",
        "xccl",
        "ZE_AFFINITY_MASK",
        ("intel",),
        built_in=True,
    ),
    Kind(
        "hpu",
        "Intel Gaudi",
        ("habana_frameworks.torch",),
        "the Gaudi software and habana-torch-plugin",
        "hccl",
        "HABANA_VISIBLE_DEVICES",
        ("gaudi", "habana"),
    ),
    Kind("mps", "Apple", install="PyTorch for macOS"),
)

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def find(name: str) -> tuple[Kind, int | None]:
    """The row for a name such as npu, ascend or cuda:1, and the number behind the colon."""
    word, colon, number = name.strip().lower().partition(":")
    if colon and not number.isdigit():
        raise InputError("device", name, "is not a device with a number", "give for example npu:0")
    for kind in KINDS:
        if word == kind.type or word in kind.aliases:
            return kind, int(number) if colon else None
    raise InputError("device", name, "is not a kind of device that is known here", "choose one of " + ", ".join(k.type for k in KINDS))


def open_device(name: str, local_rank: int = 0) -> torch.device:
    """Import what the device needs, and the device of this rank; words where it is not there."""
    kind, index = find(name)
    if kind.type == "cpu":
        return torch.device("cpu")
    load(kind)
    runtime = getattr(torch, kind.type, None) or getattr(torch.backends, kind.type, None)
    if runtime is None or not runtime.is_available():
        raise InputError(
            "device", name, f"this PyTorch ({torch.__version__}) reaches no such device ({kind.who}){_hidden(kind)}", _remedy(kind)
        )
    index = local_rank if index is None else index
    count = runtime.device_count() if hasattr(runtime, "device_count") else 1
    if index >= count:
        raise InputError("device", f"{kind.type}:{index}", f"there are {count}{_hidden(kind)}", f"use 0 to {count - 1}, or fewer ranks")
    if hasattr(runtime, "set_device"):
        runtime.set_device(index)
    return torch.device(kind.type, index)


def name_of(device: torch.device) -> str:
    """Kind and name of a device, as its framework says."""
    runtime = getattr(torch, device.type, None)
    try:
        return f"{device.type} {runtime.get_device_name(device)}"  # type: ignore[union-attr]
    except (AttributeError, RuntimeError, AssertionError):
        return device.type


def load(kind: Kind) -> ModuleType | None:
    """The plug-in of a kind of device; None where PyTorch needs none.

    A plug-in may fail in any way when the vendor's libraries do not fit it, and says so
    in its own words.
    """
    if not kind.plugins or kind.built_in and hasattr(torch, kind.type):
        return None
    wrong = ""
    for module in kind.plugins:
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as err:
            missing = err.name or module
            wrong = wrong or (
                f"{module} is not installed" if missing.split(".")[0] == module.split(".")[0] else f"{module} needs {missing}"
            )
        except Exception as err:
            wrong = f"{module} is installed and does not load ({' '.join(str(err).split()) or type(err).__name__})"
    raise InputError("device", kind.type, f"{wrong}, which PyTorch needs to reach {kind.who}", "install " + kind.install)


def _hidden(kind: Kind) -> str:
    """A variable that hides devices is the usual reason for there being none."""
    return "".join(f", with {name}={os.environ[name]}" for name in kind.visible.split() if name in os.environ)


def _remedy(kind: Kind) -> str:
    return f"install {kind.install}" if kind.install else "use another device"


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The format of products under autocast, tried once on the device: not every build computes in every format."""
    if precision not in PRECISIONS:
        raise InputError("precision", precision, "is not known", "choose one of " + ", ".join(PRECISIONS))
    dtype = PRECISIONS[precision]
    if dtype is None:
        return None
    problem = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 1.13 warns, and computes in another format
            with torch.autocast(device.type, dtype=dtype):
                ones = torch.ones(2, 2, device=device)
                made = (ones @ ones).dtype
        problem = "" if made == dtype else f"products come out as {str(made).replace('torch.', '')}"
    except (RuntimeError, TypeError, AttributeError) as err:
        problem = str(err).splitlines()[0]
    if problem:
        raise InputError(
            "precision",
            precision,
            f"PyTorch {torch.__version__} cannot compute in it on {device.type} ({problem})",
            "use fp32, or bf16 where that works",
        )
    return dtype


def cpu_limit(root: Path = Path("/sys/fs/cgroup"), cpus: int | None = None) -> int:
    """Processors that this process may use: its affinity, or less where the container has a quota.

    A host of 128 processors and a limit of 8 is a machine of 8 (case G17).
    """
    if cpus is None:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota((root / "cpu.max",)) or _quota((root / "cpu/cpu.cfs_quota_us", root / "cpu/cpu.cfs_period_us"))
    return max(1, min(cpus, round(quota + 0.499))) if quota else max(1, cpus)


def _quota(files: Sequence[Path]) -> float | None:
    """Processors of a quota and a period in microseconds, in one file or two; None: unlimited or unknown."""
    try:
        quota, period = " ".join(f.read_text() for f in files).split()[:2]
        return float(quota) / float(period) if float(quota) > 0 and float(period) > 0 else None
    except (OSError, ValueError):
        return None
