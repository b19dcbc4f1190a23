"""The examples run as their READMEs say."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from served import ROOT, missing, program

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
