"""Shared by all tests of the package: one thread each, and the package as it lies here."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts what it puts into the background with interrupts ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def pytest_sessionfinish() -> None:
    """What was built goes with the session."""
    from served import forget_program

    forget_program()
