#!/usr/bin/env bash
# Two copies of train.py on this machine, in one run. Takes seconds.
set -euo pipefail
cd "$(dirname "$0")"
export PYTHONPATH=../../python${PYTHONPATH:+:$PYTHONPATH}
mistura=${MISTURA_BINARY:-mistura} python=${PYTHON:-python3}
out=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; rm -rf "$out"' EXIT

"$mistura" train run.yaml --out "$out/run" &
pids+=($!)
for name in one two; do
    MISTURA_NAME=$name MISTURA_SOCKET=$out/run/islands/$name.sock "$python" train.py &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid"; done
