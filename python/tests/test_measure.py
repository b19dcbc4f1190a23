"""Timing a device: every kind of work, what a build of PyTorch cannot do, groups of ranks, what devices say of themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from mistura import device as devices
from mistura import experts, measure
from mistura.measure import Key, Request, Session, Unable

CPU = torch.device("cpu")


def kinds(form: str) -> list[Key]:
    """Small work of every kind that one device does."""
    return [
        Key("product", form, (8, 4, 2), 0), Key("product_wgrad", form, (8, 4, 2), 0), Key("grouped_product", form, (3, 4, 5, 6), 0),
        Key("grouped_wgrad", form, (3, 4, 5, 6), 0), Key("attention", form, (9, 2, 4), 0), Key("attention_grad", form, (9, 2, 4), 0),
    ]  # fmt: skip


def session(keys: list[Key], until: float = 0.0) -> list[dict[str, Any]]:
    """What is said of the keys."""
    said: list[dict[str, Any]] = []
    Session(CPU, Request("cpu", keys, until or time.time() + 3600, 3), said.append).run()
    return said


def test_every_kind_is_timed() -> None:
    keys = [*kinds("fp32"), *kinds("bf16"), Key("copy", "", (4096,), 0)]
    said = session(keys)
    assert [m["at"] for m in said if "at" in m] == list(range(len(keys)))
    times = [m["seconds"] for m in said if "key" in m]
    assert len(times) == len(keys) and all(len(s) == 3 and min(s) > 0 for s in times)


def test_work_is_what_it_is_called() -> None:
    torch.manual_seed(1)
    for key in kinds("fp32")[:4]:
        run = measure.KINDS[key.operation](CPU, key)
        cells = {name: cell.cell_contents for name, cell in zip(run.__code__.co_freevars, run.__closure__ or ())}
        run()
        if "ones" in cells:
            for a, b, c in cells["ones"]:
                assert torch.allclose(c, a @ b, atol=1e-5)
            assert len(cells["ones"]) == 3
        else:
            x, w, y = cells["x"], cells["w"], cells["y"]
            assert torch.allclose(y, x @ w.t(), atol=1e-5) if key.operation == "product" else torch.allclose(w, y.t() @ x, atol=1e-5)


def test_attention_is_causal_with_and_without_pytorchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    outs = []
    for own in (True, False):
        if not own:
            monkeypatch.delattr(torch.nn.functional, "scaled_dot_product_attention", raising=False)
        torch.manual_seed(2)
        outs.append(measure.attention(CPU, Key("attention", "fp32", (9, 2, 4), 0))())
    torch.manual_seed(2)
    q, k, v = (torch.randn(1, 2, 9, 4) for _ in range(3))
    scores = (q @ k.transpose(2, 3) / 2).masked_fill(torch.ones(9, 9, dtype=torch.bool).triu(1), -torch.inf)
    for out in outs:
        assert torch.allclose(out, scores.softmax(-1) @ v, atol=1e-5)


def test_what_cannot_be_done_is_said_in_one_line() -> None:
    keys = [Key("product", "fp8", (16, 16, 16), 0), Key("attention", "fp8", (9, 2, 4), 0), Key("product", "fp32", (4, 4, 4), 0)]
    said = [m for m in session(keys) if "key" in m]
    assert [m["key"] for m in said] == [0, 1, 2] and "seconds" in said[2]
    for m in said[:2]:
        assert "seconds" in m or m["left"] and "\n" not in m["left"]
    if not hasattr(torch, "float8_e4m3fn"):
        assert said[0]["left"] == f"PyTorch {torch.__version__} has no fp8"


def test_without_time_nothing_is_tried() -> None:
    keys = kinds("fp32")
    assert [m.get("left") for m in session(keys, until=1.0) if "key" in m] == ["no time was left"] * len(keys)
    with pytest.raises(Unable, match="one run takes .* s, for which there is no time"):
        measure.repeat(lambda: None, lambda: None, 0.0, 25)


def test_the_device_is_waited_for_in_every_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(torch, "mlu", types.SimpleNamespace(synchronize=lambda: waited.append(1)), raising=False)
    device: Any = types.SimpleNamespace(type="mlu")
    seconds = measure.repeat(lambda: None, measure.waits(device), 60.0, 4)
    assert len(seconds) == 4 and len(waited) == 6


def test_fp32_is_not_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    products = types.SimpleNamespace(allow_hf32=True)
    monkeypatch.setattr(torch, "npu", types.SimpleNamespace(matmul=products), raising=False)
    device: Any = types.SimpleNamespace(type="npu")
    measure.plain(device)
    assert products.allow_hf32 is False
    assert torch.backends.cuda.matmul.allow_tf32 is False


def asked(keys: list[Key], device: str = "cpu") -> str:
    """A request as the program writes it."""
    listed = [{"operation": k.operation, "format": k.format, "extents": list(k.extents), "group": k.group} for k in keys]
    return json.dumps({"device": device, "seconds": 60, "began": time.time(), "repeats": 3, "keys": listed})


def test_ranks_time_collectives(tmp_path: Path) -> None:
    names = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
    keys = [Key("copy", "", (4096,), 0), *(Key(name, "", (4096,), group) for name in names for group in (2, 3))]
    package = Path(measure.__file__).parent
    env = {**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(package / "ranks.py"), "3", "-m", "mistura.measure", "--request", asked(keys)]
    out = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    said = [json.loads(line) for line in out.stdout.splitlines()]
    assert said[0]["about"]["collectives"] == "gloo"
    answers = {m["key"]: m for m in said if "key" in m}
    assert sorted(answers) == list(range(len(keys)))
    for i, key in enumerate(keys):
        if key.operation in ("copy", "all_reduce", "all_gather"):
            assert min(answers[i]["seconds"]) > 0
        else:  # not every release of gloo has them
            assert "seconds" in answers[i] or answers[i]["left"]


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_device_that_is_not_there_is_one_line(rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", rank)
    assert measure.main(["--request", asked(kinds("fp32"), "mlu")]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["error"]["where"] == "device" and "torch_mlu is not installed" in said["error"]["problem"]


def test_what_a_device_says_of_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    properties = types.SimpleNamespace(total_memory=64 << 30, major=9, minor=0)
    runtime = types.SimpleNamespace(
        get_device_name=lambda _: "Ascend910B2", device_count=lambda: 8, get_device_properties=lambda _: properties
    )
    monkeypatch.setattr(torch, "npu", runtime, raising=False)
    driver = tmp_path / "usr/local/Ascend/driver/version.info"
    driver.parent.mkdir(parents=True)
    driver.write_text("package_name=Ascend\nVersion=25.0.1\n")
    device: Any = types.SimpleNamespace(type="npu")
    found = measure.about(device, devices.find("npu")[0], 8, tmp_path)
    assert found["name"] == "Ascend910B2" and found["memory"] == 64 << 30 and found["devices"] == 8 and found["collectives"] == "hccl"
    assert found["software"].endswith("driver 25.0.1, hccl on one host")
    properties.gcnArchName = "gfx942:sramecc+"
    assert measure.architecture(properties) == "gfx942"
    runtime.get_device_properties = lambda _: None  # what is not said is not known
    found = measure.about(device, devices.find("npu")[0], 1, tmp_path)
    assert "memory" not in found and "arch" not in found and "collectives" not in found


def test_experts_are_one_call_where_a_call_is_dear(monkeypatch: pytest.MonkeyPatch) -> None:
    away: Any = torch.device("meta")
    monkeypatch.setattr(experts, "products", lambda x: experts.padded)
    for key in kinds("bf16")[2:4]:
        assert measure.grouped(away, key)().shape == ((3, 4, 5) if key.operation == "grouped_product" else (3, 5, 6))
