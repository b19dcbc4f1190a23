"""A training trace: loss and gradient norm of each step of the reference learner on a device, beside the same steps in fp32 on the CPU.

    PYTHONPATH=python python3 checks/evidence/trace.py --device cuda --precision bf16 [--steps 50]

Model of the size of ling-nano, weights and tokens drawn on the CPU, one JSON object on stdout. Deviations are relative to the CPU's
figure. The exit code is 1 where the first step is further off than the format explains (FIRST), for it has no step before it to grow from.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from mistura import device as devices
from mistura.config import Config, Training
from mistura.learner import Batch, Learner, adamw
from mistura.model import Model, tensors

CONFIG = Config(
    vocab=256, dim=128, layers=4, heads=4, kv_heads=2, head_dim=32, rope_theta=10_000.0, norm_eps=1e-6, experts=16, top_k=2,
    expert_ffn=96, shared_experts=1, norm_top_k=True, norm_head=True, balance_coef=0.015, z_coef=1e-4,
)  # fmt: skip
TRAINING = Training(sequence_tokens=128, batch_sequences=4, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, clip_norm=1.0)
RATE, INIT_STD = 2e-3, 0.08

FIRST = {"fp32": 1e-4, "bf16": 0.05, "fp16": 0.02}
"""Of the first step's loss and norm, several times what rounding makes: it is to find another computation, not to measure rounding."""


def trace(where: torch.device, precision: str, steps: int) -> list[tuple[float, float]]:
    """Loss (nats) and gradient norm by step. Tokens go up by three from where they begin: there is something to learn."""
    drawn = torch.Generator().manual_seed(1)
    model = Model(CONFIG, devices.autocast_dtype(precision, where)).to(where)
    for _, value in sorted(tensors(model).items()):
        fresh = torch.ones(value.shape) if value.dim() == 1 else torch.randn(value.shape, generator=drawn) * INIT_STD
        value.copy_(fresh)
    learner, seen = Learner(model, adamw(model, TRAINING), TRAINING, seed=1), []
    for group in learner.optimizer.param_groups:
        group["lr"] = RATE
    for step in range(steps):
        tokens = (torch.arange(TRAINING.sequence_tokens + 1) * 3 + torch.randint(256, (4, 1), generator=drawn)) % 256
        g = learner.gradient(Batch(tokens, range(4 * step, 4 * step + 4), None, clock=512 * (step + 1)))
        learner.apply(g)
        seen.append((g.loss, g.norm))
    return seen


def off(a: float, b: float) -> float:
    """Relative deviation."""
    return abs(a - b) / abs(b)


def main() -> int:
    """Both traces, and how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="as PyTorch calls it")
    parser.add_argument("--precision", default="fp32", choices=tuple(FIRST), help="of products on the device")
    parser.add_argument("--steps", type=int, default=50, help="steps of 512 tokens")
    o = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    there, here = trace(devices.open_device(o.device), o.precision, o.steps), trace(torch.device("cpu"), "fp32", o.steps)
    first = max(off(a, b) for a, b in zip(there[0], here[0]))
    result = {
        "precision": o.precision, "steps": o.steps, "loss_nats": [t[0] for t in there], "gradient_norm": [t[1] for t in there],
        "cpu_loss_nats": [h[0] for h in here], "cpu_gradient_norm": [h[1] for h in here],
        "first_step_off": first, "first_step_bound": FIRST[o.precision],
        "largest_loss_off": max(off(t[0], h[0]) for t, h in zip(there, here)), "last_loss_off": off(there[-1][0], here[-1][0]),
    }  # fmt: skip
    print(json.dumps(result))
    if not first <= FIRST[o.precision]:
        print(f"trace: the first step in {o.precision} is off by {first:.2g}, at most {FIRST[o.precision]:.2g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
