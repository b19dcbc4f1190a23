"""Runs of the real program with trainers of one and two ranks."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Callable

import pytest
import torch

from served import Served, missing, run_file
from trainers import Diary, Ranks, Small, digest, hash_of, loss_of, together, train, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")


def alone(steps: int) -> tuple[list[float], str]:
    """The losses of the same loop without mistura, and the weights it ends with."""
    model = Small(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for step in range(steps):
        loss = loss_of(model, hash_of("one", step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, digest(model)


def test_d5_one_island_is_the_plain_loop(tmp_path: Path) -> None:
    """Equal to the bit, step by step, whatever is exchanged meanwhile."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with Served(tmp_path / "run", run_file(tokens=8 * 60, islands=["one"], first=first)) as served:
        ranks = Ranks(tmp_path / "one", 1, train, served.environment("one"))
        assert ranks.end() == ["done"]
        served.finish()
    losses, weights = alone(60)
    assert ranks.diaries[0].all("loss") == losses
    assert ranks.diaries[0].all("digest") == [weights]


def _two(diary: Diary, rank: int, world: int, begun: Callable[[], object]) -> None:
    train(diary, rank, world, name="two", seed=5 + rank, rows=4 + rank, begun=begun)


def test_two_ranks_beside_an_island_of_one(tmp_path: Path) -> None:
    """Both ranks stay one model, weights come from the run, tokens of both count once."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with Served(tmp_path / "run", run_file(tokens=2000, islands=["one", "two"], first=first)) as served:
        begun = together(3)
        one = Ranks(tmp_path / "one", 1, partial(train, begun=begun), served.environment("one"))
        two = Ranks(tmp_path / "two", 2, partial(_two, begun=begun), served.environment("two"))
        assert two.end() == ["done", "done"]
        assert one.end() == ["done"]
        summary = served.finish()
    digests = [d.all("digest")[0] for d in two.diaries]
    assert digests[0] == digests[1]
    steps = [len(d.all("loss")) for d in (one.diaries[0], two.diaries[0])]
    assert min(steps) > 0 and steps[0] * 8 + steps[1] * 9 >= 2000
    assert summary["tokens"] >= 2000
