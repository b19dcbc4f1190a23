"""kill -9: of a trainer, of one of its ranks, of its mistura process. What is left behind, and how the run goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any, Callable

import pytest

from served import Served, missing, run_file, shared
from trainers import Diary, Ranks, Small, train, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")

TOKENS = 2000


def _slow(name: str, **options: Any) -> Callable[[Diary, int, int], None]:
    return lambda diary, rank, world: train(diary, rank, world, name=name, pause=0.005, **options)


def until(there: Callable[[], bool]) -> None:
    """Wait a little for what must come about by itself."""
    end = time.monotonic() + 20
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("victim", ["trainer", "rank", "program"])
def test_kill(tmp_path: Path, victim: str) -> None:
    """The other processes of the island end by themselves, nothing stays behind, and the run goes on with whoever is there."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    before = shared()
    world = 2 if victim == "rank" else 1
    with Served(tmp_path / "run", run_file(tokens=TOKENS, islands=["one", "two"], first=first)) as served:
        one = Ranks(tmp_path / "one", world, _slow("one", rows=8 // world), served.environment("one"))
        two = Ranks(tmp_path / "two", 1, _slow("two"), served.environment("two"))
        for r in range(world):
            one.wait_for(r, "loss", 10)
        (program,) = served.attached("one")
        if victim == "program":
            os.kill(program, signal.SIGKILL)
        else:
            one.kill(world - 1)
        ends = one.end()
        until(lambda: program not in served.attached("one"))
        again = Ranks(tmp_path / "again", 1, _slow("one"), served.environment("one"))  # comes back, as a new incarnation
        assert two.end() == again.end() == ["done"]
        summary = served.finish()
    check_ends(victim, ends)
    until(lambda: shared() <= before)  # others may have just made theirs
    assert summary["tokens"] == TOKENS
    assert summary["islands"][0]["restarts"] >= 1


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
