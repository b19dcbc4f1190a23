"""kill -9: of a trainer, of one of its ranks, of its mistura process. What is left behind, and how the run goes on."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest

from served import Served, missing, run_file, shared
from trainers import PATIENCE_SECONDS, Ranks, Small, train, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")

ENDLESS = 10**9  # tokens: such a run is there until it is interrupted


def until(there: Callable[[], bool]) -> None:
    """Wait for what must come about by itself."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("victim", ["trainer", "rank", "program"])
def test_kill(tmp_path: Path, victim: str) -> None:
    """The other processes of the island end by themselves, nothing stays behind, and the run goes on with whoever is there."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    before = shared()
    world = 2 if victim == "rank" else 1
    with Served(tmp_path / "run", run_file(tokens=ENDLESS, islands=["one", "two"], first=first)) as served:
        one = Ranks(tmp_path / "one", world, partial(train, name="one", rows=8 // world), served.environment("one"))
        two = Ranks(tmp_path / "two", 1, partial(train, name="two"), served.environment("two"))
        for r in range(world):
            one.wait_for(r, "loss", 10)
        (program,) = served.attached("one")
        if victim == "program":
            os.kill(program, signal.SIGKILL)
        else:
            one.kill(world - 1)
        ends = one.end()
        until(lambda: program not in served.attached("one"))
        again = Ranks(tmp_path / "again", 1, partial(train, name="one"), served.environment("one"))  # comes back, as a new incarnation
        summary = interrupted(served, again, two)
    check_ends(victim, ends)
    until(lambda: shared() <= before)  # others may have just made theirs
    assert summary["islands"][0]["restarts"] >= 1


def interrupted(served: Served, again: Ranks, other: Ranks) -> dict[str, Any]:
    """A run that has lost an island goes on: who comes back and who was there train until it is interrupted, and all of it counts."""
    before = len(other.diaries[0].all("loss"))
    again.wait_for(0, "loss", 10)
    other.wait_for(0, "loss", before + 10)
    assert served.interrupt() == 130, served.said()
    assert again.end() + other.end() == ["done", "done"]
    summary = served.summary()
    steps = [len(r.diaries[0].all("loss")) for r in (again, other)]
    assert summary["tokens"] >= 8 * (sum(steps) - 2)  # a step that was under way when the lease was taken back counts after a resume
    return summary


def check_ends(victim: str, ends: list[str]) -> None:
    """How the ranks of the island ended."""
    if victim == "trainer":
        assert ends == ["killed"]
    elif victim == "rank":
        assert ends[1] == "killed"
        # Whichever it hears of first: another rank in mistura's group or in DDP's own, or the end of the mistura process.
        heard = ("Lost: another rank of this island is gone", "Lost: the mistura process of this host", "unexpected RuntimeError")
        assert ends[0].startswith(heard), ends
    else:
        assert ends[0].startswith("Lost: the mistura process of this host is gone"), ends
