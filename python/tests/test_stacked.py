"""The adapter: every tensor of the run is a view of the model's own storage, weights and moments alike."""

from __future__ import annotations

import pytest
import torch

import models
from mistura.adapters import Adapter
from mistura.config import Training
from mistura.learner import Batch, Learner, adamw
from mistura.model import Model, is_state
from mistura.stacked import stacked

TRAINING = Training(12, 4, 0.9, 0.95, 1e-8, 0.1, 1.0)


def adapter(name: str) -> tuple[Model, Learner, Adapter]:
    """A learner of a configuration and what the exchange sees of it."""
    model = Model(models.config(name))
    learner = Learner(model, adamw(model, TRAINING), TRAINING, seed=1)
    return model, learner, stacked(model, learner.optimizer)


@pytest.mark.parametrize("name", models.NAMES)
def test_the_tensors_are_those_of_the_run(name: str) -> None:
    _, _, a = adapter(name)
    want = models.for_oracle(name).shapes()
    assert {t["name"]: tuple(t["shape"]) for t in a.tensors()} == want
    assert {t["name"] for t in a.tensors() if t["state"]} == {n for n in want if is_state(n)}
    assert [(p.name, p.extent, set(p.offset) <= {0}) for p in a.pieces()] == [(t["name"], tuple(t["shape"]), True) for t in a.tensors()]


def test_pieces_are_views_and_moments_go_with_their_expert() -> None:
    model, learner, a = adapter("routing of every kind")
    weights = models.weights("routing of every kind")
    for piece in a.pieces():
        a.weights(piece).copy_(weights[piece.name])
    assert torch.equal(model.layers[1].experts.up[4], weights["layers.1.experts.4.up"].float())
    learner.optimizer.param_groups[0]["lr"] = learner.optimizer.param_groups[1]["lr"] = 1e-3
    learner.apply(learner.gradient(Batch(models.tokens(4, 13, 7), range(4), None, clock=100)))
    assert a.steps() == 1
    moments = learner.optimizer.state[model.layers[1].experts.up]
    busy = int(moments["exp_avg"].abs().sum((1, 2)).argmax())
    piece = next(p for p in a.pieces() if p.name == f"layers.1.experts.{busy}.up")
    assert torch.equal(a.slot(piece, "moment1"), moments["exp_avg"][busy]) and float(a.slot(piece, "moment1").abs().sum()) > 0
    assert torch.equal(a.slot(piece, "moment2"), moments["exp_avg_sq"][busy])
    a.slot(piece, "moment2").fill_(3.0)
    assert float(moments["exp_avg_sq"][busy].mean()) == 3.0
    state = next(p for p in a.pieces() if is_state(p.name))
    assert float(a.slot(state, "moment1").abs().max()) == 0 and a.slot(state, "moment1").shape == a.weights(state).shape
    a.set_steps(17)
    assert all(float(s["step"]) == 17 for s in learner.optimizer.state.values())
    a.forget()
    assert a.steps() == 0 and float(a.slot(piece, "moment1").abs().max()) == 0
