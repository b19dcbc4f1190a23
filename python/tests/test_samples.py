"""Which rank trains which sample, across ends and resumes with other numbers of ranks (B8, B9)."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import Callable

import pytest
import torch

import mistura
from served import Served, leased_file, missing
from trainers import FORK, PATIENCE_SECONDS, Diary, Ranks, Small, loss_of, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")

SAMPLES = 800


def _leased(diary: Diary, rank: int, world: int, fifth: Callable[[int], object] = lambda rank: None) -> None:
    """Note the samples of every step that came to its boundary; `fifth` is called in the fifth step."""
    model: torch.nn.Module = Small(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    replica = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    with mistura.join(replica, optimizer) as island:
        while not island.done:
            mine = island.lease()
            loss = loss_of(replica, sum(mine), len(mine)) * island.weight()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            diary.note(samples=mine)
            if island.steps == 4:
                fifth(rank)
            island.step(loss / island.weight(), tokens=8 * len(mine))


def samples(ranks: Ranks) -> list[int]:
    """Of all ranks, step by step."""
    steps = zip(*(d.all("samples") for d in ranks.diaries))
    return [n for step in steps for mine in step for n in mine]


def begin(tmp_path: Path, more: str = "") -> str:
    """The run file."""
    text = tmp_path / "text"
    text.write_text("".join(f"line {n} of a text that is long enough\n\n" for n in range(2000)))
    first = write_first(tmp_path / "first.safetensors", Small(0))
    return leased_file(samples=SAMPLES, islands=["one"], first=first, text=text, more=more)


def test_b8_every_sample_once_when_ranks_change(tmp_path: Path) -> None:
    """Four ranks have read a part; two go on, and read each of the others once."""
    stopping = FORK.Event()
    with Served(tmp_path / "run", begin(tmp_path)) as served:
        four = Ranks(tmp_path / "four", 4, partial(_leased, fifth=lambda rank: stopping.wait(PATIENCE_SECONDS)), served.environment("one"))
        four.wait_for(0, "samples", 5)
        served.process.send_signal(signal.SIGINT)
        served.await_said("interrupted")
        stopping.set()
        assert served.process.wait(PATIENCE_SECONDS) == 130
        assert four.end() == ["done"] * 4
    with Served(tmp_path / "again", None, resume=tmp_path / "run" / "run") as served:
        two = Ranks(tmp_path / "two", 2, _leased, served.environment("one"))
        assert two.end() == ["done"] * 2
        served.finish()
    assert samples(four) and samples(two)
    assert sorted(samples(four) + samples(two)) == list(range(SAMPLES))
    assert {len(s) for s in two.diaries[0].all("samples")} == {4}  # B12: a step stays 8 samples


def _dies(rank: int) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def test_b9_a_killed_rank_loses_no_position(tmp_path: Path) -> None:
    """What was trained and not handed over is trained again, once; nothing is left out."""
    with Served(tmp_path / "run", begin(tmp_path)) as served:
        first = Ranks(tmp_path / "first", 2, partial(_leased, fifth=_dies), served.environment("one"))
        assert first.end()[1] == "killed"
        second = Ranks(tmp_path / "second", 2, _leased, served.environment("one"))
        assert second.end() == ["done"] * 2
        served.finish()
    before, after = samples(first), samples(second)
    again = set(before) & set(after)
    assert len(set(after)) == len(after)
    assert set(before) | set(after) == set(range(SAMPLES))
    assert set(before[len(before) - len(again) :]) == again  # the last ones of the first life
