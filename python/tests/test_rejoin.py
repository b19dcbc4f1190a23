"""A run that goes back to a checkpoint: its trainers are told so and join again, in the same process or as a command started anew."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mistura
from served import ROOT, WAITS, Open, Served, missing, program, run_file
from trainers import PATIENCE_SECONDS, Diary, Ranks, Small, loss_of, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")

ROLLBACK = "spike: {window: 4, limit: 1}"
SPIKE_AT = 8


def life(island: mistura.Island, replica: torch.nn.Module, optimizer: torch.optim.Optimizer, spike: bool) -> None:
    """Train to the end; `spike` is one step whose loss rolls the run back."""
    while not island.done:
        optimizer.zero_grad()
        loss = loss_of(replica, island.steps)
        loss.backward()
        said = 50.0 if spike and island.steps == SPIKE_AT else 1.0 + 0.01 * (island.steps % 3)
        if island.judge(said, gradient_norm=1.0):
            optimizer.step()
        island.step(said, tokens=4)


def _comes_back(diary: Diary, rank: int, world: int) -> None:
    model = Small(0)
    replica: torch.nn.Module = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with pytest.raises(mistura.RolledBack) as caught, mistura.join(replica, optimizer, rate="own", own_data=True) as first:
        life(first, replica, optimizer, spike=True)
    assert caught.value.again
    diary.note(words=str(caught.value), moments=len(optimizer.state))
    with mistura.join(replica, optimizer, rate="own", own_data=True) as second:
        diary.note(moments=[float(s["step"]) for s in optimizer.state.values()], newer=second.incarnation > first.incarnation)
        life(second, replica, optimizer, spike=False)
    diary.note(went=second.steps)


def _comes_back_unheld(diary: Diary, rank: int, world: int) -> None:
    model = Small(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def one(spike: bool) -> None:
        with mistura.join(model, optimizer, rate="own", own_data=True) as island:
            diary.note(moments=[float(s["step"]) for s in optimizer.state.values()])
            life(island, model, optimizer, spike)

    with pytest.raises(mistura.RolledBack):
        one(spike=True)
    diary.note(kept=len(optimizer.state))
    gc.collect()
    one(spike=False)


def test_moments_of_a_life_that_nobody_holds_any_more_are_forgotten(tmp_path: Path) -> None:
    """The island of a function that was left is collected: who joins then comes back all the same."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with Open(tmp_path / "run", run_file(tokens=400, islands=["one"], first=first, more=ROLLBACK)) as served:
        ranks = Ranks(tmp_path / "ranks", 1, _comes_back_unheld, served.environment("one"))
        assert ranks.end() == ["done"], served.said()
    (diary,) = ranks.diaries
    assert diary.all("kept")[0] > 0
    assert all(step == 0 for step in diary.all("moments")[1]), diary.all("moments")


class OneUse(Open):
    """Its join string is good for one start."""

    def join(self) -> str:
        """A join string of the run."""
        super().join()
        return self.token("--uses", "1")


@pytest.mark.parametrize(
    ("kind", "world"),
    [(Open, 1), (Open, 2), (OneUse, 2), (Served, 1)],
    ids=["serve", "serve, two ranks", "serve, a join string for one start", "train"],
)
def test_a_rollback_is_told_and_the_same_process_joins_again(tmp_path: Path, kind: type[Served], world: int) -> None:
    """Every rank hears why; the optimizer begins anew, for its moments are of weights that are gone."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with kind(tmp_path / "run", run_file(tokens=400, islands=["one"], first=first, more=ROLLBACK)) as served:
        ranks = Ranks(tmp_path / "ranks", world, _comes_back, served.environment("one"))
        assert ranks.end() == ["done"] * world, served.said()
        summary = served.finish()
    assert (summary["rollbacks"], summary["tokens"]) == (1, 400)
    for diary in ranks.diaries:
        (words,) = diary.all("words")
        assert "asked to join again: the run was rolled back: rollback 1 of 3: 1 spikes within" in words, words
        next_step = "; start the trainer anew, or call mistura.join() again: it brings the weights that the run goes on from"
        assert words.endswith(next_step), words
        assert words.count("start the trainer") == 1, words
        assert diary.all("newer") == [True]
        assert all(step == 0 for step in diary.all("moments")[1])


def _pauses(diary: Diary, rank: int, world: int) -> None:
    model = Small(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    first = mistura.join(model, optimizer, rate="own", own_data=True)
    first.step(1.0, tokens=4)
    assert first._link.ended(PATIENCE_SECONDS) is not None  # a pause, for as long as it takes
    with pytest.raises(mistura.Lost) as caught:
        first.step(1.0, tokens=4)
    diary.note(again=caught.value.again, words=str(caught.value))
    with mistura.join(model, optimizer, rate="own", own_data=True) as second:
        diary.note(newer=second.incarnation > first.incarnation)


@pytest.mark.parametrize("kind", [Open, Served], ids=["serve", "train"])
def test_a_trainer_that_paused_for_too_long_may_join_again(tmp_path: Path, kind: type[Served]) -> None:
    """It was taken for dead, and hears that it may come back, whoever has started its mistura process."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    text = run_file(tokens=10**6, islands=["one"], first=first).replace(WAITS, "limits: {heartbeat_seconds: 3, stall_seconds: 3}\n")
    with kind(tmp_path / "run", text) as served:
        ranks = Ranks(tmp_path / "ranks", 1, _pauses, served.environment("one"))
        assert ranks.end() == ["done"], served.said()
    (diary,) = ranks.diaries
    assert diary.all("again") == diary.all("newer") == [True], diary.read()
    assert "no inner step for" in diary.all("words")[0], diary.read()


COMMAND = """
import os, sys
from pathlib import Path
import torch, mistura
from test_rejoin import life
from trainers import Small

times = Path(sys.argv[1])
with times.open("a") as f:
    f.write("started\\n")
first = len(times.read_text().splitlines()) == 1
model = Small(0)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
with mistura.join(model, optimizer, rate="own", own_data=True) as island:
    life(island, model, optimizer, spike=first)
"""


def joined_command(tmp_path: Path, served: Open, code: str) -> subprocess.CompletedProcess[str]:
    """`mistura join … -- python3 -c code`, to its end."""
    environment = {**os.environ, **served.environment("one"), "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), *sys.path])}
    command = [program(), "join", "--engine", "external", "--name", "one", "--", sys.executable, "-c", code, str(tmp_path / "times")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL)


def test_a_command_is_started_again_after_a_rollback(tmp_path: Path) -> None:
    """It ends of what it was told, and `mistura join -- COMMAND` says so and starts it anew, by a join string for one start, too."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with OneUse(tmp_path / "run", run_file(tokens=400, islands=["one"], first=first, more=ROLLBACK)) as served:
        ended = joined_command(tmp_path, served, COMMAND)
        assert ended.returncode == 0, ended.stderr
        assert served.finish()["tokens"] == 400
    assert (tmp_path / "times").read_text() == "started\n" * 2
    assert "mistura.errors.RolledBack: " in ended.stderr  # what the trainer died of
    assert 'msg=joins_again reason="asked to join again: the run was rolled back' in ended.stderr and "time=1 of=5" in ended.stderr
    assert "msg=trainer_starts_again" in ended.stderr


def test_a_command_that_ends_in_order_is_not_started_again(tmp_path: Path) -> None:
    """It was asked to join again and has decided otherwise."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    code = COMMAND.replace("with mistura", "import contextlib\nwith contextlib.suppress(mistura.RolledBack), mistura")
    with Open(tmp_path / "run", run_file(tokens=400, islands=["one"], first=first, more=ROLLBACK)) as served:
        ended = joined_command(tmp_path, served, code)
    assert ended.returncode == 1
    assert "the run goes on, and the trainer has ended in order in place of joining again" in ended.stderr
    assert (tmp_path / "times").read_text() == "started\n"
