#!/usr/bin/env bash
# train.py twice in one run on this machine: alone, and with two ranks under torchrun. Takes seconds.
set -euo pipefail
cd "$(dirname "$0")"
export PYTHONPATH=../../python${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=1
mistura=${MISTURA_BINARY:-mistura} python=${PYTHON:-python3}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$mistura" train run.yaml --out "$out/run" &
MISTURA_NAME=single MISTURA_SOCKET=$out/run/islands/single.sock "$python" train.py &
MISTURA_NAME=pair MISTURA_SOCKET=$out/run/islands/pair.sock \
    "$python" -m torch.distributed.run --nproc_per_node 2 --rdzv_backend c10d --rdzv_endpoint 127.0.0.1:0 train.py &
wait
