#!/usr/bin/env bash
# train.py twice in one run on this machine: alone, and with two ranks under torchrun. Takes seconds.
set -euo pipefail
cd "$(dirname "$0")"
export PYTHONPATH=../../python${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=1
mistura=${MISTURA_BINARY:-mistura} python=${PYTHON:-python3}
out=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$out"' EXIT

"$mistura" train run.yaml --out "$out/run" &
pids+=($!)
MISTURA_NAME=single MISTURA_SOCKET=$out/run/islands/single.sock "$python" train.py &
pids+=($!)
# --redirects and --tee: without them PyTorch 1.13 does not start under Python 3.11.
MISTURA_NAME=pair MISTURA_SOCKET=$out/run/islands/pair.sock \
    "$python" -m torch.distributed.run --nproc_per_node 2 --redirects 1 --tee 1 --log_dir "$out/ranks" \
    --rdzv_backend c10d --rdzv_endpoint 127.0.0.1:0 train.py &
pids+=($!)
for pid in "${pids[@]}"; do wait "$pid"; done
