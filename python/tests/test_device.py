"""The table of devices: names, plug-ins that are missing or broken, formats that a build cannot compute in, limits of a container."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import torch

from mistura import device as devices
from mistura.errors import InputError


def test_every_name_leads_to_one_row() -> None:
    names = [n for kind in devices.KINDS for n in (kind.type, *kind.aliases)]
    assert len(names) == len(set(names))
    for kind in devices.KINDS:
        for name in (kind.type, *kind.aliases):
            assert devices.find(name.upper())[0] is kind
            assert devices.find(name + ":3") == (kind, 3)
        assert kind.type == "cpu" or kind.install, "a person without it must hear what brings it"


def test_g14_one_vendor_has_one_row_whatever_a_layer_calls_it() -> None:
    assert devices.find("cann")[0] is devices.find("npu")[0] is devices.find("ascend")[0]


def test_an_unknown_device_is_refused_in_one_line() -> None:
    with pytest.raises(InputError, match=r'^device "tpu": is not a kind of device that is known here; choose one of cpu, cuda, npu'):
        devices.open_device("tpu")
    with pytest.raises(InputError, match="give for example npu:0"):
        devices.open_device("npu:first")


@pytest.mark.parametrize(
    "kind", [k for k in devices.KINDS if k.plugins and not (k.built_in and hasattr(torch, k.type))], ids=lambda k: k.type
)
def test_g13_a_missing_plug_in_is_fatal_for_its_own_device_only(kind: devices.Kind) -> None:
    with pytest.raises(InputError) as caught:
        devices.open_device(kind.type)
    assert kind.plugins[0] in str(caught.value) and kind.install in str(caught.value)
    assert devices.open_device("cpu").type == "cpu"


def test_g13_a_plug_in_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch_npu.py").write_text('raise OSError("libascendcl.so: cannot open\\nshared object file")')
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"torch_npu is installed and does not load \(libascendcl.so: cannot open shared object file\)"):
        devices.open_device("ascend:0")


def test_a_plug_in_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    runtime = types.SimpleNamespace(is_available=lambda: True, device_count=lambda: 2, set_device=chosen.append)
    monkeypatch.setitem(sys.modules, "torch_mlu", types.ModuleType("torch_mlu"))
    monkeypatch.setattr(torch, "mlu", runtime, raising=False)
    monkeypatch.setenv("MLU_VISIBLE_DEVICES", "4,5")
    monkeypatch.setattr(devices.torch, "device", lambda *of: of)
    assert devices.open_device("cambricon", local_rank=1) == ("mlu", 1)
    assert chosen == [1]
    with pytest.raises(InputError, match='device "mlu:2": there are 2, with MLU_VISIBLE_DEVICES=4,5; use 0 to 1, or fewer ranks'):
        devices.open_device("mlu", local_rank=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_says_what_hides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(InputError, match="reaches no such device .*, with CUDA_VISIBLE_DEVICES=7; install a build of PyTorch"):
        devices.open_device("cuda")


def test_formats_are_tried_before_they_are_used() -> None:
    cpu = torch.device("cpu")
    assert devices.autocast_dtype("fp32", cpu) is None
    assert devices.autocast_dtype("bf16", cpu) is torch.bfloat16
    with pytest.raises(InputError, match='precision "fp8": is not known; choose one of fp32, bf16, fp16'):
        devices.autocast_dtype("fp8", cpu)
    if torch.__version__.startswith("1."):
        with pytest.raises(InputError, match="cannot compute in it on cpu"):
            devices.autocast_dtype("fp16", cpu)


def test_g17_a_limit_of_8_on_128_processors_is_8(tmp_path: Path) -> None:
    assert devices.cpu_limit(tmp_path, cpus=128) == 128
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert devices.cpu_limit(tmp_path, cpus=128) == 128
    (tmp_path / "cpu.max").write_text("800000 100000\n")
    assert devices.cpu_limit(tmp_path, cpus=128) == 8
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert devices.cpu_limit(tmp_path, cpus=128) == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("250000\n")
    assert devices.cpu_limit(tmp_path, cpus=128) == 3
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    assert devices.cpu_limit(tmp_path, cpus=2) == 2
