"""Trainers that come to `mistura serve` with a join string: join() starts the mistura process, and it ends with them."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch

import mistura
from served import Open, missing, run_file, shared
from test_kill import ENDLESS, interrupted, until
from trainers import Diary, Ranks, Small, together, train, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")


def begin(tmp_path: Path, tokens: int, islands: list[str]) -> Open:
    """A run of the tests' model."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    return Open(tmp_path / "run", run_file(tokens=tokens, islands=islands, first=first))


def alive(pid: int) -> bool:
    """Neither gone nor waiting to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_ranks_and_islands_join_by_string(tmp_path: Path) -> None:
    """An island of two ranks beside an island of one; the processes end with the run and leave nothing."""
    with begin(tmp_path, 800, ["one", "two"]) as served:
        begun = together(3)
        one = Ranks(tmp_path / "one", 1, partial(train, name="one", begun=begun), served.environment("one"))
        two = Ranks(tmp_path / "two", 2, partial(train, name="two", rows=4, begun=begun), served.environment("two"))
        assert one.end() + two.end() == ["done"] * 3
        summary = served.finish()
    assert summary["tokens"] == 800
    processes = [n for r in (one, two) for d in r.diaries for n in d.all("process")]
    assert [n > 0 for n in processes] == [True, True, False]  # the first rank of a host starts it
    assert not any(alive(n) for n in processes if n)
    assert not list(served.temporary.iterdir())


@pytest.mark.parametrize("victim", ["first rank", "other rank", "program"])
def test_kill(tmp_path: Path, victim: str) -> None:
    """kill -9: trainer and mistura process end each other, nothing stays behind, the run goes on, and the island comes back."""
    memory = shared()
    with begin(tmp_path, ENDLESS, ["one", "two"]) as served:
        one = Ranks(tmp_path / "one", 2, partial(train, name="one", rows=4), served.environment("one"))
        two = Ranks(tmp_path / "two", 1, partial(train, name="two"), served.environment("two"))
        program = one.wait_for(0, "process")
        for r in range(2):
            one.wait_for(r, "loss", 10)
        if victim == "program":
            os.kill(program, signal.SIGKILL)
        else:
            one.kill(0 if victim == "first rank" else 1)
        ends = one.end()
        until(lambda: not alive(program))
        again = Ranks(tmp_path / "again", 1, partial(train, name="one"), served.environment("one"))
        interrupted(served, again, two)
    for end in ends:
        assert end == "killed" or end.startswith(("Lost: ", "unexpected RuntimeError")), end
    if victim == "program":
        assert any(end.startswith("Lost: the mistura process of this host is gone without a word") for end in ends), ends
    until(lambda: not list(served.temporary.iterdir()) and shared() <= memory)


def _refused(diary: Diary, rank: int, world: int) -> None:
    mistura.join(Small(0), rate="own", own_data=True)


def test_a_wrong_or_expired_join_string_has_words(tmp_path: Path) -> None:
    """What is wrong with it, and the trainer ends."""
    with begin(tmp_path, 80, ["one"]) as served:
        good = served.environment("one")
        expired, made = served.token("--expires", "1ms"), time.time()  # whole seconds count
        run_id = good["MISTURA_JOIN"].split("?")[0].rsplit("/", 1)[1]
        strings = {
            "garbled": ("mistura//x", "mistura join: join string: does not begin with mistura://"),
            "altered": (good["MISTURA_JOIN"][:-3] + "abc", "is not of this run, or was altered"),
            "of another run": (good["MISTURA_JOIN"].replace(run_id, run_id[::-1], 1), "is not the coordinator of this run"),
            "expired": (expired, "expired"),
        }
        for what, (join, words) in strings.items():
            until(lambda what=what: what != "expired" or time.time() > made + 1)
            ranks = Ranks(tmp_path / what, 1, _refused, {**good, "MISTURA_JOIN": join})
            (end,) = ranks.end()
            assert end.startswith("Refused: ") and words in end, (what, end)


def _of_another_run(diary: Diary, rank: int, world: int) -> None:
    model = Small(0)
    model.head = torch.nn.Linear(16, 5)
    mistura.join(model, rate="own", own_data=True)


def test_the_model_of_another_run_is_refused(tmp_path: Path) -> None:
    """By the name of the first parameter that differs: a digest would tell nobody what to mend. Its process leaves nothing behind."""
    with begin(tmp_path, 80, ["one"]) as served:
        ranks = Ranks(tmp_path / "other", 1, _of_another_run, served.environment("one"))
        (end,) = ranks.end()
        until(lambda: not list(served.temporary.iterdir()))
    assert end.startswith('Refused: parameter "head.weight": has shape [5 16] here and [4 16] in the run\'s model'), end
