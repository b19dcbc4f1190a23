"""A Python without PyTorch: who runs a program of the package hears it in one line, a trainer has Python's own error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def bare(*command: str) -> subprocess.CompletedProcess[str]:
    """What a Python without installed packages says."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    return subprocess.run([sys.executable, "-S", *command], env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("module", ["train", "measure"])
def test_a_program_says_what_to_install(module: str) -> None:
    done = bare("-m", f"mistura.{module}", "--help")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert " has no torch and no numpy; install it by: " in done.stderr
    assert done.stderr.endswith("-m pip install torch numpy\n") and done.stderr.startswith("mistura: ")


def test_a_trainer_has_pythons_own_error() -> None:
    done = bare("-c", "import mistura")
    assert done.returncode == 1 and "No module named" in done.stderr.splitlines()[-1]
