"""What a rank does at the gate with what its trainer's probe gives, without a run."""

from __future__ import annotations

import math
import types
from typing import Any

import pytest
import torch
from torch import nn

from mistura.adapters import plain
from mistura.control import Alone
from mistura.gate import FIRST_SCALE, Answer, Gate, Probe, same_draws


class Asked:
    """Stands in for the exchange and for the mistura process."""

    def __init__(self, pieces: Any) -> None:
        self.pieces, self.given, self.told, self.times = pieces, {}, {}, 0

    def give(self, value: Any, factor: float) -> bool:
        """The gradients of all pieces."""
        self.times += 1
        self.given = {p.name: value(p).float() * factor for p in self.pieces if value(p) is not None}
        return all(bool(g.isfinite().all()) for g in self.given.values())

    def ask(self, kind: str, **fields: Any) -> None:
        """What the rank says at the end."""
        self.told = fields


def ask(model: nn.Module, compute: Any, form: str = "fp32") -> Asked:
    """What comes of a question."""
    adapter = plain(model)
    asked = Asked(adapter.pieces())
    question = {"tokens": [1, 2, 3, 4], "rows": 2, "end_token": None, "boundaries": False, "choices": None}
    Gate(model, Probe(compute, form)).answer({"gate": question}, Alone(), adapter, asked, asked)
    return asked


def one() -> nn.Linear:
    """Two weights that are 1."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    return model


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda m: m.weight.flatten(), 'probe "[2]": gives a loss of 2 numbers; give the mean over target tokens'),
        (lambda m: (m.weight.sum(), {}), 'probe "tuple": is no loss; give the mean over target tokens, or a mistura.Answer'),
        (lambda m: Answer(m.weight.sum(), scale=0.0), 'probe "0.0": is no loss scale'),
    ],
)
def test_what_is_no_loss(loss: Any, words: str) -> None:
    model = one()
    asked = ask(model, lambda _: loss(model))
    assert asked.told["problem"].startswith(words)
    assert math.isnan(asked.told["loss"])


def test_a_loss_of_one_number_in_whatever_shape() -> None:
    model = one()
    for shape in ((), (1,), (1, 1)):
        asked = ask(model, lambda _, s=shape: (model.weight * 3).sum().view(s))
        assert asked.told == {"loss": 6.0, "number_format": "fp32", "choices": None, "problem": ""}
        assert asked.given["weight"].tolist() == [[3.0, 3.0]]
    assert model.weight.grad is None


def test_fp16_is_scaled_by_the_gate_until_it_fits() -> None:
    """A gradient that overflows at the first scale; what is given has no scale in it."""
    model, seen = one(), []

    def keep(gradient: torch.Tensor) -> torch.Tensor:
        seen.append(float(gradient[0, 0]))
        return torch.where(gradient.abs() > 65504, torch.full_like(gradient, math.inf), gradient)

    model.weight.register_hook(keep)
    asked = ask(model, lambda _: (model.weight * 3).sum(), "fp16")
    assert seen == [3 * FIRST_SCALE, 3 * FIRST_SCALE / 2, 3 * FIRST_SCALE / 4]
    assert asked.given["weight"].tolist() == [[3.0, 3.0]]


def test_fp16_of_a_trainer_that_runs_its_own_backward_pass() -> None:
    """The gate's scale was never in it: the trainer's is, if it says so; and there is nothing to try again when it overflows."""
    for scale in (1.0, 256.0):
        model = one()

        def compute(_: Any, model: nn.Module = model, scale: float = scale) -> Answer:
            loss = (model.weight * 3).sum()
            (loss * scale).backward()
            return Answer(loss.detach(), scale=scale)

        asked = ask(model, compute, "fp16")
        assert asked.given["weight"].tolist() == [[3.0, 3.0]] and asked.told["loss"] == 6.0
    model = one()

    def overflowing(_: Any) -> float:
        (model.weight * math.inf).sum().backward()
        return 6.0

    assert ask(model, overflowing, "fp16").times == 1


def test_random_numbers_of_any_device_go_on_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plug-in keeps its generators where CUDA does: torch.npu, torch.musa, torch.mlu … (here one that is named xpu)."""
    state = {"xpu:0": torch.tensor([1]), "xpu:1": torch.tensor([2])}
    plug = types.SimpleNamespace(
        get_rng_state=lambda device: state[str(device)], set_rng_state=lambda value, device: state.__setitem__(str(device), value)
    )
    monkeypatch.setattr(torch, "xpu", plug, raising=False)
    before = torch.get_rng_state()
    with same_draws({torch.device("xpu", 0), torch.device("xpu", 1), torch.device("cpu")}):
        torch.rand(3)
        state.update({"xpu:0": torch.tensor([7]), "xpu:1": torch.tensor([8])})
    assert [int(s) for s in state.values()] == [1, 2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_probe_that_draws_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    """With dropout no two answers agree, and the island would be refused as a wrong model; what the probe switches off is on again."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Dropout())
    ask(model, lambda _: model(torch.ones(4, 2)).mean())
    assert "the probe draws random numbers, as dropout does" in caplog.text
    caplog.clear()
    ask(model, lambda _: model.eval()(torch.ones(4, 2)).mean())
    assert not caplog.records and model.training and model[1].training
