"""Checkpoints of runs with trainers: optimizer state moves to another number of ranks, and what a trainer saves itself comes back."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import mistura
from mistura.adapters.base import listed
from mistura.learner import LossScale
from served import Served, missing, run_file
from trainers import Diary, Ranks, Small, digest, hash_of, loss_of, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")


def moments(optimizers: list[torch.optim.Optimizer], *keys: str) -> str:
    """Digest of the optimizers' state, to the bit."""
    h = hashlib.sha256()
    for one, p in ((o, p) for o in optimizers for group in o.param_groups for p in group["params"]):
        for key in keys:
            value = one.state[p].get(key) if p in one.state else None
            h.update(b"none" if value is None else value.detach().reshape(-1).numpy().tobytes())
    return h.hexdigest()


def trained(diary: Diary, rank: int, world: int, optimizer: Any, keys: tuple[str, ...], own: bool) -> None:
    """Train until the run is over, and note weights and moments when they come and when they go."""
    model: torch.nn.Module = Small(rank)
    given = optimizer(model)
    optimizers = listed(given)
    replica = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    island = mistura.join(replica, given, rate="own", own_data=True)
    if own:
        island.checkpoint(lambda path: torch.save([o.state_dict() for o in optimizers], path))
        if island.restored:
            for one, saved in zip(optimizers, torch.load(island.restored[rank if rank in island.restored else 0])):
                one.load_state_dict(saved)
    diary.note(came=[digest(model), moments(optimizers, *keys)], files=len(island.restored))
    while not island.done:
        loss = loss_of(replica, hash_of("one", island.steps * world + rank))
        replica.zero_grad()
        loss.backward()
        for one in optimizers:
            one.step()
        island.step(loss, tokens=8)
        diary.note(loss=loss.item())
    diary.note(went=[digest(model), moments(optimizers, *keys)])


def adamw(diary: Diary, rank: int, world: int) -> None:
    """Adam's moments are the run's to save."""
    keys = ("exp_avg", "exp_avg_sq", "step")
    trained(diary, rank, world, lambda m: torch.optim.AdamW(m.parameters(), lr=0.01), keys, own=False)


def two(diary: Diary, rank: int, world: int) -> None:
    """Two optimizers, each with moments of its own parameters."""

    def both(m: Any) -> list[torch.optim.Optimizer]:
        head = list(m.head.parameters())
        rest = [p for p in m.parameters() if not any(p is h for h in head)]
        return [torch.optim.AdamW(rest, lr=0.01), torch.optim.Adam(head, lr=0.02)]

    trained(diary, rank, world, both, ("exp_avg", "exp_avg_sq", "step"), own=False)


def momentum(diary: Diary, rank: int, world: int) -> None:
    """SGD's momentum is not: the trainer saves it."""
    trained(diary, rank, world, lambda m: torch.optim.SGD(m.parameters(), lr=0.01, momentum=0.9), ("momentum_buffer",), own=True)


def stopped(folder: Path, world: int, body: Any, more: str = "") -> Ranks:
    """A run that is interrupted once its trainer has made 20 steps."""
    first = write_first(folder / "first.safetensors", Small(0))
    with Served(folder / "run", run_file(tokens=10**6, islands=["one"], first=first, more=more)) as served:
        ranks = Ranks(folder / "before", world, body, served.environment("one"))
        ranks.wait_for(0, "loss", 20)
        assert served.interrupt() == 130, served.said()
        assert ranks.end() == ["done"] * world
    return ranks


def resumed(folder: Path, name: str, world: int, body: Any) -> Ranks:
    """The same run with so many ranks, interrupted again."""
    with Served(folder / name, None, resume=folder / "run" / "run") as served:
        ranks = Ranks(folder / f"ranks of {name}", world, body, served.environment("one"))
        ranks.wait_for(0, "loss", 5)
        assert served.interrupt() == 130, served.said()
        assert ranks.end() == ["done"] * world
        said = served.said()
    assert "layout: one: external on cpu" in said, said
    return ranks


def test_d10_other_number_of_ranks(tmp_path: Path) -> None:
    """2 ranks → 3 → 1: weights and moments are the same to the bit, on every rank, and training goes on."""
    before = stopped(tmp_path, 2, adamw)
    for name, world in (("three", 3), ("one", 1)):
        after = resumed(tmp_path, name, world, adamw)
        went = before.diaries[0].all("went")
        for diary in after.diaries:
            assert diary.all("came") == went
        last, following = before.diaries[0].all("loss")[-5:], after.diaries[0].all("loss")[:5]
        assert sum(following) / 5 < 1.5 * sum(last) / 5
        before = after


def test_d10_two_optimizers(tmp_path: Path) -> None:
    """Moments of both, on two ranks and then on one."""
    before = stopped(tmp_path, 2, two)
    after = resumed(tmp_path, "one", 1, two)
    assert after.diaries[0].all("came") == before.diaries[0].all("went")


def test_trainer_saves_itself(tmp_path: Path) -> None:
    """An optimizer that is not Adam: its file comes back, and one that was altered stops the resume."""
    before = stopped(tmp_path, 2, momentum)
    after = resumed(tmp_path, "again", 2, momentum)
    for b, a in zip(before.diaries, after.diaries):
        assert a.all("came") == b.all("went")
        assert a.all("files") == [2]
    newest = max((tmp_path / "run" / "run" / "checkpoints").iterdir())
    files = json.loads((newest / "manifest.json").read_text(encoding="utf-8"))["meta"]["islands"]["one"]["files"]
    assert [f["rank"] for f in files] == [0, 1]
    path = tmp_path / "run" / "run" / files[1]["path"]
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with Served(tmp_path / "altered", None, resume=tmp_path / "run" / "run") as served:
        assert served.process.wait(60) == 2
        said = served.said()
    assert f'state of island one, rank 1 "{path}": has SHA-256' in said


def forgetful(diary: Diary, rank: int, world: int) -> None:
    """SGD's momentum, and nobody saves it."""
    heard = logging.Handler(logging.WARNING)
    heard.emit = lambda record: diary.note(heard=record.getMessage())
    logging.getLogger("mistura").addHandler(heard)
    momentum_of = {"with": 0.9, "without": 0.0}[os.environ["MOMENTUM"]]
    trained(diary, rank, world, lambda m: torch.optim.SGD(m.parameters(), lr=0.01, momentum=momentum_of), (), own=False)


@pytest.mark.parametrize("momentum", ["with", "without"])
def test_a_checkpoint_that_lacks_the_optimizer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, momentum: str) -> None:
    """Once, not at every checkpoint; and not of one that keeps nothing."""
    monkeypatch.setenv("MOMENTUM", momentum)
    ranks = stopped(tmp_path, 1, forgetful, more="checkpoint: {every_tokens: 40}")
    words = "checkpoint [0-9]+ is without the state of optimizer SGD, which the run cannot save; give island.checkpoint"
    heard = [re.match(words, said) is not None for said in ranks.diaries[0].all("heard")]
    assert heard == ([True] if momentum == "with" else [])


def polled(diary: Diary, rank: int, world: int) -> None:
    """The loop looks at checkpoint() itself, though Adam's moments are the run's to save: its loader's position is not."""
    model = Small(rank)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    replica = torch.nn.parallel.DistributedDataParallel(model) if world > 1 else model
    island = mistura.join(replica, optimizer, rate="own", own_data=True)
    diary.note(came=int(island.restored[rank].read_text()) if island.restored else 0)
    while not island.done:
        loss = loss_of(replica, island.steps * world + rank)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        island.step(loss, tokens=8)
        diary.note(loss=loss.item())
        assert ": training, step" in repr(island)  # shown, the run is not asked anything
        path = island.checkpoint()
        if path is not None:
            path.write_text(str(island.steps))
            diary.note(saved=island.steps, on=str(path.parent))
    diary.note(went=island.steps)


@pytest.mark.parametrize("world", [1, 2])
def test_a_loop_that_polls_misses_no_save(tmp_path: Path, world: int) -> None:
    """Not that at the end of a run, for which no step comes any more; and what it saved comes back."""
    ranks = stopped(tmp_path, world, polled)
    went = ranks.diaries[0].all("went")[0]
    assert [d.all("saved")[-1] for d in ranks.diaries] == [went] * world
    newest = max((tmp_path / "run" / "run" / "checkpoints").iterdir())
    files = json.loads((newest / "manifest.json").read_text(encoding="utf-8"))["meta"]["islands"]["one"]["files"]
    assert [f["rank"] for f in files] == list(range(world))
    after = resumed(tmp_path, "again", world, polled)
    assert [d.all("came") for d in after.diaries] == [[went]] * world


def one_saves(diary: Diary, rank: int, world: int) -> None:
    """The save function of rank 0 alone writes a file."""
    model = Small(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    replica = torch.nn.parallel.DistributedDataParallel(model)
    island = mistura.join(replica, optimizer, rate="own", own_data=True)
    island.checkpoint(lambda path: path.write_text(str(island.steps)) if rank == 0 else None)
    if island.restored:
        try:
            diary.note(came=island.restored[rank].read_text())
        except mistura.InputError as err:
            diary.note(refused=str(err))
    while not island.done:
        optimizer.zero_grad()
        loss = loss_of(replica, island.steps * world + rank)
        loss.backward()
        optimizer.step()
        island.step(loss, tokens=8)
        diary.note(loss=loss.item())


def test_b9_a_rank_that_saved_nothing_does_not_go_on_from_anothers_place(tmp_path: Path) -> None:
    """It asks for its file and hears which ranks have one."""
    stopped(tmp_path, 2, one_saves)
    first, second = resumed(tmp_path, "again", 2, one_saves).diaries
    assert len(first.all("came")) == 1 and first.all("refused") == []
    words = 'island.restored, rank "1": saved nothing in the checkpoint that the run goes on from; the ranks that did are 0; '
    assert second.all("came") == [] and second.all("refused")[0].startswith(words)


def test_loss_scale_is_kept() -> None:
    """The scale and its good steps go to a checkpoint and come back; where nothing is scaled there is none to keep."""
    old, new, other = LossScale(True), LossScale(True), LossScale(False)
    old.overflowed()
    old.applied()
    new.take(*old.kept())
    other.take(*old.kept())
    assert new.kept() == old.kept() == (2.0**15, 1)
    assert other.kept() == (0.0, 0)
