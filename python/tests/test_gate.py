"""The gate at the door: trainers in PyTorch that compute the run's model, and some that do not."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

import mistura
import mistura.adapters
from mistura.config import Config
from mistura.model import Model
from mistura.stacked import stacked
from mistura.train import answer
from served import Served, missing
from served import run_file as own_file
from trainers import FORK, PATIENCE_SECONDS, Diary, Ranks, Small, digest, hash_of, loss_of, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")

TINY = Config(
    vocab=256, dim=16, layers=2, heads=2, kv_heads=1, head_dim=8, rope_theta=10000.0, norm_eps=1e-6, experts=4, top_k=2, expert_ffn=16,
    shared_experts=1, norm_top_k=True, norm_head=True, balance_coef=0.015, z_coef=1e-4,
)  # fmt: skip


def run_file(text: Path, more: str = "") -> str:
    """A run of TINY for one island whose trainer is the test's."""
    model = {**asdict(TINY), "preset": "", "init_std": 0.2}
    return f"""
tokens: 512
model: {json.dumps(model)}
train: {{sequence_tokens: 32, batch_sequences: 4}}
data: {{paths: ["{text}"]}}
islands: [{{name: one, engine: external}}]
{more}"""


def text(folder: Path) -> Path:
    """Enough to train on."""
    path = folder / "text"
    path.write_text("".join(f"line {n} of a text that is long enough\n\n" for n in range(2000)))
    return path


def sign(model: Model) -> None:
    """The gradient of one tensor has the wrong sign."""
    model.layers[1].attention.k.register_hook(lambda g: -g)


def router(model: Model) -> None:
    """A router learns nothing."""
    model.layers[0].router.register_hook(torch.zeros_like)


def detached(model: Model) -> None:
    """No gradient comes through an attention's output."""
    model.layers[0].attention.o.register_hook(torch.zeros_like)


FAULTS = {"sign": (sign, "layers.1.attention.k"), "router": (router, "layers.0.router"), "detached": (detached, "layers.0.attention.o")}
AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def learner(precision: str = "fp32", declared: str | None = None, fault: str = "", probe: bool = True, no_gate: bool = False) -> Any:
    """A rank that trains TINY on tokens of its own making."""

    def body(diary: Diary, rank: int, world: int) -> None:
        model = Model(TINY, AUTOCAST[precision])
        if fault:
            FAULTS[fault][0](model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        asked = mistura.Probe(lambda q: answer(model, q), declared or precision) if probe else None
        with mistura.join(model, optimizer, adapter=stacked(model, optimizer), probe=asked, no_gate=no_gate) as island:
            diary.note(gradients=sum(p.grad is not None for p in model.parameters()))
            while not island.done:
                mine = island.lease()
                p = model(torch.randint(256, (len(mine), 33), generator=torch.Generator().manual_seed(sum(mine))))
                loss = p.losses.sum() / p.targets.sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                island.step(loss, tokens=32 * len(mine))

    return body


def gates(served: Served) -> list[dict[str, Any]]:
    """The gate's records on the tape."""
    lines = [line for path in sorted((served.out / "tape/era-0001/coord").glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [r for r in map(json.loads, lines) if r.get("kind") == "gate"]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_reference_learner_passes(tmp_path: Path, precision: str) -> None:
    """Within the bounds of what it declares, and nothing of the probe stays."""
    if precision == "fp16" and torch.__version__ < "2":
        pytest.skip("this PyTorch has no fp16 on the CPU")
    with Served(tmp_path / "run", run_file(text(tmp_path))) as served:
        ranks = Ranks(tmp_path / "one", 1, learner(precision), served.environment("one"))
        assert ranks.end() == ["done"], served.said()
        served.finish()
        (record,) = gates(served)
    assert record["outcome"] == "passed", record
    verdict = record["verdict"]
    assert verdict["number_format"] == precision
    assert verdict["worst"]["at_least"] < verdict["worst"]["bound"]
    assert ranks.diaries[0].all("gradients") == [0]
    print(precision, verdict["loss"], verdict["worst"], verdict["other_choices"])


def test_two_ranks_pass_as_one(tmp_path: Path) -> None:
    """Data-parallel ranks compute the probe alike."""
    with Served(tmp_path / "run", run_file(text(tmp_path))) as served:
        ranks = Ranks(tmp_path / "one", 2, learner(), served.environment("one"))
        assert ranks.end() == ["done", "done"], served.said()
        served.finish()
        (record,) = gates(served)
    assert record["outcome"] == "passed", record


@pytest.mark.parametrize("fault", list(FAULTS))
def test_faults_are_named(tmp_path: Path, fault: str) -> None:
    """The trainer that joins hears which tensor is wrong, and by how much."""
    with Served(tmp_path / "run", run_file(text(tmp_path))) as served:
        ranks = Ranks(tmp_path / "one", 1, learner(fault=fault), served.environment("one"))
        (end,) = ranks.end()
        served.interrupt()
        record = gates(served)[0]
    assert record["outcome"] == "refused"
    assert record["verdict"]["first_outside"]["name"] == FAULTS[fault][1]
    assert "does not compute the same model" in end
    assert f"tensor {FAULTS[fault][1]} is off" in end


def test_a_format_that_is_not_declared(tmp_path: Path) -> None:
    """bf16 that says it is fp32 is refused; a fault that bf16 cannot explain is refused there too."""
    for body in (learner("bf16", declared="fp32"), learner("bf16", fault="sign")):
        folder = tmp_path / str(id(body))
        folder.mkdir()
        with Served(folder / "run", run_file(text(folder))) as served:
            ranks = Ranks(folder / "one", 1, body, served.environment("one"))
            (end,) = ranks.end()
            served.interrupt()
        assert "does not compute the same model" in end


@pytest.mark.parametrize(
    ("body", "why"), [(learner(probe=False), "no probe"), (learner(no_gate=True), "--no-gate"), (learner(), "off in the run file")]
)
def test_what_is_skipped_is_recorded(tmp_path: Path, body: Any, why: str) -> None:
    """The island trains, and the tape says why it was not compared."""
    more = "gate: 'off'" if "run file" in why else ""
    with Served(tmp_path / "run", run_file(text(tmp_path), more)) as served:
        ranks = Ranks(tmp_path / "one", 1, body, served.environment("one"))
        assert ranks.end() == ["done"], served.said()
        served.finish()
        (record,) = gates(served)
    assert record["outcome"] == "skipped"
    assert why in record["why"]


def stranger(fault: bool = False, joined: Callable[[], object] = lambda: None) -> Any:
    """A rank whose model only its own trainer knows; with a fault the gradient of one tensor has the wrong sign."""

    def body(diary: Diary, rank: int, world: int) -> None:
        model = Small(3)  # other weights than the run's: the probe is on those that come
        if fault:
            model.norm.bias.register_hook(lambda g: -g)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

        def probe(tokens: torch.Tensor) -> torch.Tensor:
            x = tokens[:, :240].reshape(-1, 8) / 128 - 1
            return torch.nn.functional.mse_loss(model(x), torch.tanh(x[:, :4] + x[:, 4:]))

        with mistura.join(model, optimizer, rate="own", own_data=True, probe=probe) as island:
            diary.note(joined=True)
            joined()
            while not island.done:
                loss = loss_of(model, hash_of("stranger", island.steps))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                island.step(loss, tokens=8)

    return body


@pytest.mark.parametrize("fault", [False, True])
def test_models_that_only_trainers_know(tmp_path: Path, fault: bool) -> None:
    """The first island makes the record that the second is compared with, and the run is not over before it was."""
    compared = FORK.Event()
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with Served(tmp_path / "run", own_file(tokens=8 * 300, islands=["one", "two"], first=first)) as served:
        one = Ranks(tmp_path / "one", 1, stranger(joined=partial(compared.wait, PATIENCE_SECONDS)), served.environment("one"))
        one.wait_for(0, "joined")
        two = Ranks(tmp_path / "two", 1, stranger(fault), served.environment("two"))
        two.wait_for(0, "end" if fault else "joined")
        compared.set()
        (end,) = two.end()
        assert one.end() == ["done"]
        served.finish()
        records = [(r["island"], r["outcome"]) for r in gates(served)]
    assert records[:2] == [("one", "recorded"), ("two", "refused" if fault else "passed")]
    assert "tensor norm.bias is off" in end if fault else end == "done"


class Lora(torch.nn.Module):
    """A frozen base of few bits, and what is trained beside it. x [batch, 8] → [batch, 4]."""

    def __init__(self, base: int) -> None:
        super().__init__()
        torch.manual_seed(base)
        self.base = torch.nn.Linear(8, 8).to(torch.bfloat16).requires_grad_(False)
        torch.manual_seed(0)
        self.down, self.up = torch.nn.Linear(8, 2, bias=False), torch.nn.Linear(2, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [batch, 8] → [batch, 4]."""
        return self.up(self.down(torch.tanh(self.base(x.to(torch.bfloat16)).float())))


def adapting(base: int, joined: Callable[[], object] = lambda: None) -> Any:
    """A rank that trains what is beside the base of that number."""

    def body(diary: Diary, rank: int, world: int) -> None:
        model = Lora(base)
        before = model.base.weight.clone()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)

        def probe(tokens: torch.Tensor) -> torch.Tensor:
            x = tokens[:, :240].reshape(-1, 8) / 128 - 1
            return torch.nn.functional.mse_loss(model(x), torch.tanh(x[:, :4] + x[:, 4:]))

        adapter = mistura.adapters.plain(model, optimizer, trained_only=True)
        with mistura.join(model, optimizer, rate="own", own_data=True, probe=probe, adapter=adapter) as island:
            diary.note(joined=True)
            joined()
            while not island.done:
                loss = loss_of(model, hash_of("lora", island.steps))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                island.step(loss, tokens=8)
        assert torch.equal(model.base.weight, before)

    return body


@pytest.mark.parametrize("base", [7, 8])
def test_b11_another_frozen_base_is_found_at_the_gate(tmp_path: Path, base: int) -> None:
    """It is no part of the run, and the gradients of what is show whether it is the first island's, which is 7."""
    compared = FORK.Event()
    shared = Lora(7)
    del shared.base
    first = write_first(tmp_path / "first.safetensors", shared)
    with Served(tmp_path / "run", own_file(tokens=8 * 300, islands=["one", "two"], first=first)) as served:
        one = Ranks(tmp_path / "one", 1, adapting(7, partial(compared.wait, PATIENCE_SECONDS)), served.environment("one"))
        one.wait_for(0, "joined")
        two = Ranks(tmp_path / "two", 1, adapting(base), served.environment("two"))
        two.wait_for(0, "joined" if base == 7 else "end")
        compared.set()
        (end,) = two.end()
        assert one.end() == ["done"]
        served.finish()
    assert end == "done" if base == 7 else "does not compute the same model" in end, end


class Seldom(Small):
    """A parameter that few steps have a gradient of, and a buffer that every forward pass changes."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.seldom = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [batch, 8] → [batch, 4], with noise."""
        self.passes += 1
        return super().forward(x + 0.01 * torch.randn(x.shape))


def seldom_step(model: Seldom, optimizer: torch.optim.Optimizer, step: int) -> torch.Tensor:
    """A step whose zeroed gradients stay for the next one, as they do by default in old PyTorch."""
    optimizer.zero_grad(set_to_none=False)
    loss = loss_of(model, hash_of("seldom", step)) + 0.001 * model.passes
    if step % 7 == 3:
        loss = loss + (model.seldom - 1).square().sum()
    loss.backward()
    optimizer.step()
    return loss


def recorder(diary: Diary, rank: int, world: int) -> None:
    """A lone island that answers at the gate, and whenever a checkpoint is saved."""
    model = Seldom(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def probe(tokens: torch.Tensor) -> torch.Tensor:
        diary.note(probed=True)
        return model(tokens[:, :240].reshape(-1, 8) / 128 - 1).square().mean() + model.seldom.sum()

    with mistura.join(model, optimizer, rate="own", own_data=True, probe=probe) as island:
        torch.manual_seed(5)
        while not island.done:
            loss = seldom_step(model, optimizer, island.steps)
            diary.note(loss=loss.item())
            island.step(loss, tokens=8)
    diary.note(digest=digest(model))


def test_d5_checkpoint_records_change_nothing(tmp_path: Path) -> None:
    """Every checkpoint has a record that the island made between two steps: weights, moments, gradients, buffers, noise are its own."""
    steps = 60
    first = write_first(tmp_path / "first.safetensors", Seldom(0))
    run = own_file(tokens=8 * steps, islands=["one"], first=first, more="checkpoint: {every_tokens: 80, keep: 100}")
    with Served(tmp_path / "run", run) as served:
        ranks = Ranks(tmp_path / "one", 1, recorder, served.environment("one"))
        assert ranks.end() == ["done"], served.said()
        served.finish()
        folders = sorted((served.out / "checkpoints").iterdir())
    model = Seldom(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(5)
    losses = [seldom_step(model, optimizer, step).item() for step in range(steps)]
    assert ranks.diaries[0].all("loss") == losses
    assert ranks.diaries[0].all("digest") == [digest(model)]
    assert len(folders) >= 2
    for folder in folders:
        record = json.loads((folder / "gate.json").read_text())
        assert len(record["tensors"]) == len(list(model.named_parameters()))
    assert len(ranks.diaries[0].all("probed")) == 1 + len(folders)
