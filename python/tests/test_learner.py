"""Training steps of the reference learner against the oracle's, which uses PyTorch's own AdamW and clipping on another program."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracle import training as oracle_training
from oracle.model import Model as OracleModel

import models
from mistura.config import Training
from mistura.draws import ROUTING, normals, philox, quantile
from mistura.learner import Batch, Learner, LossScale, adamw
from mistura.model import Model, tensors

ROWS, LENGTH, STEPS, END = 4, 12, 20, 6
GO_NORMALS = [
    0.57199466967125367,
    -1.2118555292304429,
    1.2367690402479379,
    0.28455877189116829,
    0.20335508267875047,
    1.7056767895114811,
    -0.51200503462483482,
    0.097206283310640559,
]
TRAINING = Training(LENGTH, ROWS, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.1, clip_norm=1.0)
SCHEDULE = oracle_training.Training(
    STEPS,
    0.9,
    0.95,
    1e-8,
    0.1,
    1.0,
    "wsd",
    1e-2,
    1e-3,
    warmup_tokens=4 * ROWS * LENGTH,
    decay_from_tokens=12 * ROWS * LENGTH,
    tokens=STEPS * ROWS * LENGTH,
)


def learner(
    name: str, dtype: torch.dtype = torch.float64, training: Training = TRAINING, weights: dict[str, torch.Tensor] | None = None
) -> Learner:
    """A learner of a configuration, with the weights that the oracle gets."""
    model = Model(models.config(name)).to(dtype)
    for tensor, value in tensors(model).items():
        value.copy_((weights or models.weights(name))[tensor])
    return Learner(model, adamw(model, training), training, seed=7)


def stepped(one: Learner, batch: Batch, rate: float) -> tuple[float, float]:
    """A whole step at a rate; loss and norm."""
    g = one.gradient(batch)
    for group in one.optimizer.param_groups:
        group["lr"] = rate
    one.apply(g)
    return g.loss, g.norm


@pytest.mark.parametrize("name", [n for n in models.NAMES if "warm-up" not in n and "every kind" not in n])
def test_training_is_the_oracles(name: str) -> None:
    weights = models.weights(name)
    batches = torch.stack([models.tokens(ROWS, LENGTH + 1, 7, seed) for seed in range(3)])
    told = oracle_training.train(OracleModel(models.for_oracle(name), weights), SCHEDULE, batches, END, None)
    one, clock = learner(name), 0
    for step in range(STEPS):
        batch = Batch(batches[step % 3], range(ROWS), END)
        clock += int((batch.tokens[:, :-1] != END).sum())
        loss, norm = stepped(one, batch, SCHEDULE.rate(clock))
        assert loss == pytest.approx(float(told["loss"][step]), rel=1e-9), step
        assert norm == pytest.approx(float(told["grad_norm"][step]), rel=1e-7), step
    for tensor, value in tensors(one.model).items():
        want = told["weight." + tensor]
        assert float((value - want).norm()) <= 1e-7 * float(want.norm()) + 1e-12, tensor


@pytest.mark.parametrize("cut", [1, 3, 4])
def test_a_step_does_not_depend_on_how_it_is_cut(cut: int) -> None:
    """A9, and the noise of a warm-up goes with the sample."""
    batch = Batch(models.tokens(ROWS, LENGTH + 1, 7), [11, 5, 8, 2**40], END, clock=200)
    whole, parts = (
        learner("routing of every kind"),
        learner("routing of every kind", training=Training(LENGTH, cut, 0.9, 0.95, 1e-8, 0.1, 1.0)),
    )
    a, b = stepped(whole, batch, 1e-2), stepped(parts, batch, 1e-2)
    assert a == pytest.approx(b, rel=1e-9)
    for tensor, value in tensors(parts.model).items():
        assert torch.allclose(value, tensors(whole.model)[tensor], rtol=1e-7, atol=1e-10), tensor


def test_the_warm_up_moves_its_statistics_as_the_native_engine_does() -> None:
    one = learner("routing warm-up")
    layer = one.model.layers[0]
    layer.router_stats.zero_()
    g = one.gradient(Batch(models.tokens(ROWS, LENGTH + 1, 7), range(ROWS), None, clock=10))
    count, total, squares = g.logits[0].tolist()
    assert count == ROWS * LENGTH * 3
    one.apply(g)
    mean, variance = total / count, squares / count - (total / count) ** 2
    assert layer.router_stats.tolist() == pytest.approx([mean, variance], rel=1e-9)  # the first step's own
    one.apply(g)
    assert layer.router_stats.tolist() == pytest.approx([mean, variance], rel=1e-6)
    g.logits[0] *= torch.tensor([1.0, 2.0, 4.0])
    one.apply(g)
    assert layer.router_stats.tolist() == pytest.approx([mean * 1.25, variance * 1.75], rel=1e-6)  # a quarter of the way


def test_nothing_of_the_warm_up_is_left_behind_it() -> None:
    one = learner("routing warm-up")
    assert one.noise([3], clock=1000) is None
    before = one.model.layers[0].router_stats.clone()
    one.apply(one.gradient(Batch(models.tokens(1, LENGTH + 1, 7), [3], None, clock=1000)))
    assert torch.equal(one.model.layers[0].router_stats, before)


def test_a_loss_that_is_no_number_is_said_as_it_is() -> None:
    one = learner("plain")
    one.model.norm.data[0] = math.nan
    g = one.gradient(Batch(models.tokens(ROWS, LENGTH + 1, 7), range(ROWS)))
    assert math.isnan(g.loss) and math.isnan(g.norm)


def test_a_batch_without_a_target_has_no_loss() -> None:
    g = learner("plain").gradient(Batch(torch.full((1, LENGTH + 1), END), [0], END))
    assert math.isnan(g.loss)


def test_an_overflow_halves_the_scale_and_costs_no_sample() -> None:
    one = learner("plain", torch.float32)
    one.scale = LossScale(on=True)
    one.scale.value = 2.0**127 * 2.0**6  # beyond fp32 once the loss is multiplied
    want = learner("plain", torch.float32).gradient(Batch(models.tokens(ROWS, LENGTH + 1, 7), range(ROWS)))
    got = one.gradient(Batch(models.tokens(ROWS, LENGTH + 1, 7), range(ROWS)))
    assert one.scale.value < 2.0**133
    assert (got.loss, got.norm) == pytest.approx((want.loss, want.norm), rel=1e-5)


def test_the_scale_grows_after_many_good_steps() -> None:
    scale = LossScale(on=True)
    for _ in range(2000):
        scale.applied()
    assert scale.value == 2.0**17
    assert not LossScale(on=False).too_large(1.0, math.inf)


def test_philox_known_answers() -> None:
    """Random123's kat_vectors, as the Go package has them."""
    for counter, key, want in [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]:
        assert tuple(int(w[0]) for w in philox(tuple(np.array([c], np.uint64) for c in counter), key)) == want


def test_normals_are_those_of_the_go_package() -> None:
    """Printed by package rng for seed 2^40+3, purpose routing, sample 2^33+9; and any part of a stream is that part of it."""
    want = GO_NORMALS
    got = normals((1 << 40) + 3, ROUTING, (1 << 33) + 9, 0, len(want))
    assert got == pytest.approx(np.array(want), rel=1e-14)
    for first in range(5):
        assert np.array_equal(normals((1 << 40) + 3, ROUTING, (1 << 33) + 9, first, 3), got[first : first + 3])


def test_the_quantile_inverts_the_distribution() -> None:
    p = np.concatenate([np.logspace(-15, -0.4, 200), 1 - np.logspace(-12, -0.4, 200)])
    back = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in quantile(p)])
    assert back == pytest.approx(p, rel=1e-10)
