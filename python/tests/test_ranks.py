"""Data-parallel ranks over gloo: the step of two ranks with unequal shares, one of them empty now and then, is that of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import models
from mistura.config import Training
from mistura.learner import Batch, Learner, adamw
from mistura.model import Model, tensors

NAME, LENGTH = "routing of every kind", 12
TRAINING = Training(LENGTH, 2, 0.9, 0.95, 1e-8, 0.1, 1.0)
SHARES = [(0, 3, 4), (0, 1, 1), (0, 2, 5)]  # samples of each step: from, those of rank 0 up to, all up to


def train(rank: int, ranks: int) -> tuple[list[tuple[float, float, list[int]]], dict[str, torch.Tensor]]:
    """Three steps of this rank's shares: loss, norm and experts' tokens of each, and the weights at the end."""
    model = Model(models.config(NAME)).double()
    for name, value in tensors(model).items():
        value.copy_(models.weights(NAME)[name])
    one, told = Learner(model, adamw(model, TRAINING), TRAINING, seed=3), []
    for group in one.optimizer.param_groups:
        group["lr"] = 1e-2
    for step, (begin, middle, end) in enumerate(SHARES):
        samples = list(range(begin, end))
        mine = samples if ranks == 1 else (samples[:middle], samples[middle:])[rank]
        rows = models.tokens(6, LENGTH + 1, 7, seed=step)[mine]
        g = one.gradient(Batch(rows, mine, 6, clock=100 * step))
        one.apply(g)
        told.append((g.loss, g.norm, g.expert_tokens))
    return told, tensors(model)


def test_two_ranks_make_the_step_of_one(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(["python", *sys.path]), "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)], env=env) for rank in range(2)]
    assert [w.wait(timeout=120) for w in workers] == [0, 0]
    told, weights = train(0, 1)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}")
        for (loss, norm, experts), (want_loss, want_norm, want_experts) in zip(found["told"], told):
            assert (loss, norm) == pytest.approx((want_loss, want_norm), rel=1e-9)
            assert experts == want_experts
        for name, value in weights.items():
            assert torch.allclose(found["weights"][name], value, rtol=1e-9, atol=1e-12), name


if __name__ == "__main__":
    me, folder = int(sys.argv[1]), sys.argv[2]
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=me, world_size=2)
    seen, held = train(me, 2)
    torch.save({"told": seen, "weights": held}, f"{folder}/rank{me}")
    dist.destroy_process_group()  # or its threads may outlive it at exit
