"""The command line."""

from __future__ import annotations

import argparse
import json
import sys
import time

import numpy as np
import torch

from . import job as jobs
from .errors import InputError
from .model import FAULTS

DESCRIPTION = """\
Runs a model of mistura in plain PyTorch and writes every tensor.

With weights, configuration and tokens it computes one forward and backward pass and
writes, as safetensors: loss (cross-entropy, summed), targets, balance and z (means over
sequences and layers), grad.NAME for every weight (of the sum over targets), choices.LAYER,
and value.NAME for every intermediate tensor: embedding; layers.L.h, q, k, v (normed and
turned), attention, mid, m, router.logits, router.scores, router.choices, router.weights,
wide (shared or dense MLP), routed, out; final, logits, losses, positions, counts.

With --training it trains instead and writes per step: loss (mean), grad_norm (before
clipping), balance, z, rate, choices.LAYER; and weight.NAME at the end.

Per job one line of JSON is printed: name, seconds, and, where choices were imposed,
otherwise: the share of tokens that would choose other experts.
"""

EPILOG = """\
example, from the folder python/:
  python3 -m oracle --config model.json --weights ../runs/x/store/checkpoints/00000001/model.safetensors \\
      --tokens tokens.json --out result.safetensors
  python3 -m oracle --jobs jobs.json      # a list of objects with these flags as keys; one process for many

config.json has the keys of a run file's model section; tokens.json is [rows][T+1] numbers, or
[batches][rows][T+1] with --training, whose file has steps, beta1, beta2, eps, weight_decay, clip_norm,
shape, peak_rate, final_rate, warmup_tokens, decay_from_tokens and tokens.
Exit codes: 0 done, 2 bad input.
"""


def arguments() -> argparse.ArgumentParser:
    """The flags, most of which are keys of a job."""
    p = argparse.ArgumentParser(
        prog="python3 -m oracle", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--jobs", metavar="FILE", help="JSON file with a list of jobs, run in order")
    p.add_argument("--version", action="store_true", help="print the versions of Python, torch and numpy as JSON")
    p.add_argument("--config", metavar="FILE", help="JSON file with the model's configuration")
    p.add_argument("--weights", metavar="FILE", help="safetensors file with all weights, as in a checkpoint")
    p.add_argument("--tokens", metavar="FILE", help="JSON file with token numbers")
    p.add_argument("--out", metavar="FILE", help="safetensors file to write")
    p.add_argument("--dtype", help="float64 (default) or float32")
    p.add_argument("--end-token", type=int, metavar="N", help="token that ends a document; without it sequences are not cut")
    p.add_argument("--choices", metavar="FILE", help="impose the expert choices that an earlier job wrote to this file")
    p.add_argument("--noise", metavar="FILE", help="JSON file with the noise of a routing warm-up: alpha, and eps by layer")
    p.add_argument("--training", metavar="FILE", help="JSON file with training settings: train, and write the trace")
    p.add_argument("--nudge", type=int, metavar="SEED", help="first move every weight by one fp32 unit in the last place, at random")
    p.add_argument("--inject", metavar="FAULT", help="compute something wrong on purpose: " + ", ".join(FAULTS))
    return p


def parse_jobs(args: argparse.Namespace) -> list[jobs.Job]:
    """The jobs that the flags describe."""
    flags = {k: v for k, v in vars(args).items() if k not in ("jobs", "version") and v is not None}
    if args.jobs is None:
        return [jobs.parse("flags", flags)]
    if flags:
        raise InputError("--jobs", args.jobs, "stands beside flags of a single job", "put them into the file")
    listed = jobs.load(args.jobs)
    if not isinstance(listed, list):
        raise InputError(args.jobs, None, "is not a list", "give a list of jobs")
    return [jobs.parse(f"{args.jobs} job {i}", value) for i, value in enumerate(listed)]


def main(argv: list[str]) -> int:
    """Run and give the exit code."""
    args = arguments().parse_args(argv)
    if args.version:
        print(json.dumps({"python": sys.version.split()[0], "torch": torch.__version__, "numpy": np.__version__}))
        return 0
    torch.set_num_threads(1)  # one order of summation, and no fight over the cores
    try:
        for job in parse_jobs(args):
            began = time.monotonic()
            share = jobs.run(job)
            line = {"name": job.name, "seconds": round(time.monotonic() - began, 3)}
            print(json.dumps(line if share is None else {**line, "otherwise": share}), flush=True)
    except InputError as err:
        print(f"oracle: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
