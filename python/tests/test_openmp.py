"""How OpenMP's threads wait: said before torch is loaded, by the reference learner only, and not over what a user says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mistura import openmp


@pytest.mark.parametrize(
    ("command", "variable", "want"),
    [
        (["-m", "mistura.train", "--probe"], {}, "passive"),
        (["-m", "mistura.train", "--probe"], {"OMP_WAIT_POLICY": "active"}, "active"),
        (["-m", "mistura.train", "--probe"], {"GOMP_SPINCOUNT": "7"}, "None"),
        (["-c", "import mistura"], {}, "None"),
    ],
)
def test_what_openmp_reads(tmp_path: Path, command: list[str], variable: dict[str, str], want: str) -> None:
    """In place of torch stands a module that says what torch would find."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text('import os; raise SystemExit(os.environ.get("OMP_WAIT_POLICY", "None"))\n')
    inherited = {k: v for k, v in os.environ.items() if k not in openmp.SAID}
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parent.parent)])
    env = {**inherited, **variable, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *command], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.strip() == want
