"""The examples run as their READMEs say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from served import ROOT, Open, missing, program, run_file
from trainers import write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")


@pytest.mark.parametrize(("name", "islands"), [("own-loop", ["one", "two"]), ("torchrun", ["pair", "single"])])
def test_example(name: str, islands: list[str]) -> None:
    """It ends well, and each of its islands has trained."""
    environment = {**os.environ, "MISTURA_BINARY": program(), "PYTHON": sys.executable}
    done = subprocess.run([ROOT / "examples" / name / "run.sh"], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (done.stdout + done.stderr).splitlines()
    for island in islands:
        (said,) = [line.split() for line in lines if line.split()[:1] == [island] and "steps" in line]
        assert int(said[said.index("steps") - 1]) > 0, said


MODEL = """
def model_of():
    return torch.nn.Sequential(torch.nn.Embedding(256, 16), torch.nn.Linear(16, 256))

def batches_of(rank):
    drawn = torch.Generator().manual_seed(rank)
    return [torch.randint(256, (2, 9), generator=drawn) for _ in range(4)]
"""


def test_the_trainer_of_the_recipes_page_runs(tmp_path: Path) -> None:
    """As it stands there for Ascend, on the CPU: two ranks, with the gate."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "import torch_npu" in block]
    code = re.sub(r"^(import torch_npu|torch\.npu\.).*$", "", code, flags=re.MULTILINE).replace(".npu()", "").replace('"npu"', '"cpu"')
    code = code.replace('"hccl"', '"gloo"').replace(", device_ids=[local]", "").replace("import mistura\n", "import mistura\n" + MODEL)
    (tmp_path / "trainer.py").write_text(code, encoding="utf-8")
    torch.manual_seed(1)
    first = write_first(tmp_path / "first.safetensors", torch.nn.Sequential(torch.nn.Embedding(256, 16), torch.nn.Linear(16, 256)))
    with Open(tmp_path / "run", run_file(tokens=2000, islands=["one"], first=first, step_tokens=32)) as served:
        environment = {**os.environ, **served.environment("one"), "PYTHONPATH": str(ROOT / "python")}
        # PyTorch 1.13 does not start under Python 3.11 without these.
        logs = ["--redirects", "1", "--tee", "1", "--log_dir", str(tmp_path / "ranks")]
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv_backend", "c10d"]
        command = [*launcher, "--rdzv_endpoint", "127.0.0.1:0", *logs, str(tmp_path / "trainer.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        summary = served.finish()
    assert summary["outcome"] == "finished" and summary["islands"][0]["gate"] == "recorded", summary
