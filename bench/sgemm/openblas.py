"""OpenBLAS's side of bench/sgemm: answers lines on stdin with lines on stdout, both JSON. Arrays and arguments are
made once for a shape, so that a call costs what C would pay plus about a microsecond of ctypes."""

import ctypes
import json
import sys
import time

import numpy as np


def arguments(m, n, k, cache={}):
    """Row-major C = A·B, as (function arguments, arrays that must stay alive)."""
    if (m, n, k) not in cache:
        r = np.random.default_rng(1)
        a, b, c = r.random((m, k), np.float32), r.random((k, n), np.float32), np.zeros((m, n), np.float32)
        at = [ctypes.c_void_p(x.ctypes.data) for x in (a, b, c)]
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        cache[m, n, k] = (101, 111, 111, m, n, k, one, at[0], k, at[1], n, zero, at[2], n), (a, b, c)
    return cache[m, n, k][0]


def main():
    lib = ctypes.CDLL("libopenblas.so.0")
    lib.openblas_get_corename.restype = lib.openblas_get_config.restype = ctypes.c_char_p
    print(json.dumps({"core_type": lib.openblas_get_corename().decode(), "config": lib.openblas_get_config().decode()}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        lib.openblas_set_num_threads(job["threads"])
        args, sgemm = arguments(job["m"], job["n"], job["k"]), lib.cblas_sgemm
        sgemm(*args)
        began = time.perf_counter()
        for _ in range(job["times"]):
            sgemm(*args)
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
