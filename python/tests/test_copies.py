"""The device's way against the CPU's, its slow twin: what lands where must be the same."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from mistura.areas import Areas
from mistura.copies import DeviceCopies, HostCopies, copies
from mistura.errors import InputError


def areas(path: Path, extents: list[tuple[int, ...]], fill: np.ndarray) -> Areas:
    """A mapped file with an out- and an in-area for each piece, `in` filled."""
    sizes = [int(np.prod(e)) for e in extents]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    total = int(starts[-1])
    np.concatenate([np.zeros(total, np.float32), fill[:total]]).tofile(path)
    return Areas(str(path), 8 * total, extents, [4 * int(s) for s in starts[:-1]], [4 * int(s + total) for s in starts[:-1]])


def test_both_ways_agree(tmp_path: Path) -> None:
    """Random pieces; gather, add, install."""
    draw, numbers = random.Random(3), np.random.default_rng(3)
    for case in range(20):
        extents = [tuple(draw.randrange(1, 5) for _ in range(draw.randrange(0, 4))) for _ in range(draw.randrange(1, 6))]
        fill = numbers.standard_normal(10_000).astype(np.float32)
        start = [torch.from_numpy(numbers.standard_normal(e).astype(np.float32).reshape(e)) for e in extents]
        results = []
        for how in ("host", "device"):
            weights = [t.clone() for t in start]
            a = areas(tmp_path / f"{case}{how}", extents, fill)
            c = HostCopies(a, weights.__getitem__) if how == "host" else DeviceCopies(a, weights.__getitem__, torch.device("cpu"))
            gathered = threading.Event()
            c.gather(range(len(extents)), gathered.set)
            for w in weights:
                w.zero_()  # the next step does not wait for the gather
            assert gathered.wait(10)
            c.install(range(len(extents)))
            c.add(range(len(extents)))
            c.close()
            assert c.trouble() is None
            results.append(([o.clone() for o in a.out], weights))
        for host, device, first in zip(results[0][0], results[1][0], start):
            assert torch.equal(host, first)
            assert torch.equal(device, first)
        for host, device, into in zip(results[0][1], results[1][1], a.into):
            assert torch.equal(host, device)
            assert torch.equal(host, into + into)


def test_trouble_in_the_background_is_told(tmp_path: Path) -> None:
    """The thread has nobody to raise to."""
    a = areas(tmp_path / "a", [(2,)], np.zeros(2, np.float32))
    c = DeviceCopies(a, lambda i: torch.zeros(2), torch.device("cpu"))

    def fail() -> None:
        raise RuntimeError("device lost")

    c.gather([0], fail)
    c.close()
    assert "device lost" in str(c.trouble())


def test_nothing_is_held_after_the_end(tmp_path: Path) -> None:
    """Neither the thread nor the memory: the same process may join again, and again."""
    a = areas(tmp_path / "a", [(2,)], np.zeros(2, np.float32))
    c = DeviceCopies(a, lambda i: torch.zeros(2), torch.device("cpu"))
    assert str(tmp_path / "a") in Path("/proc/self/maps").read_text()
    c.close()
    c.close()
    a.close()
    assert not c._worker.is_alive()
    assert str(tmp_path / "a") not in Path("/proc/self/maps").read_text()


def test_cpu_weights_are_copied_directly(tmp_path: Path) -> None:
    """No thread where none is needed."""
    a = areas(tmp_path / "a", [(2,)], np.zeros(2, np.float32))
    assert isinstance(copies(a, lambda i: torch.zeros(2), 1), HostCopies)


def test_an_area_beyond_the_file_is_refused(tmp_path: Path) -> None:
    """A program of another version."""
    (tmp_path / "a").write_bytes(bytes(16))
    with pytest.raises(InputError, match="4 values do not fit there"):
        Areas(str(tmp_path / "a"), 16, [(4,)], [4], [-1])
