"""Which samples a rank trains in the next step, and batches of them.

The run hands out samples to the island; a step's samples are cut into one run of neighbours for each data-parallel rank, as
equal as can be, the first ranks taking one more. So nothing depends on how many ranks there were before: the position is the run's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Callable

from .errors import InputError


def numbers(ranges: Sequence[Sequence[Any]]) -> list[int]:
    """The sample numbers of [from, to, retry] ranges, in order."""
    return [n for first, end, _ in ranges for n in range(first, end)]


def share(samples: Sequence[int], rank: int, size: int) -> list[int]:
    """The samples of data-parallel rank `rank` of `size`."""
    each, more = divmod(len(samples), size)
    begin = rank * each + min(rank, more)
    return list(samples[begin : begin + each + (rank < more)])


def weight(count: int, rank: int, size: int) -> float:
    """What makes a mean over ranks of means over samples the mean over samples: this rank's share × ranks."""
    return len(share(range(count), rank, size)) * size / count if count else 1.0


def collated(loader: Any) -> Callable[[list[int]], Any]:
    """How to make a batch of sample numbers: a DataLoader's data set and collate function, or any indexed data set."""
    dataset = getattr(loader, "dataset", loader)
    collate: Any = getattr(loader, "collate_fn", None)
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        problem = f"{type(dataset).__name__} cannot be read by sample number"
        raise InputError(
            "batches()", None, problem, "give a data set with len() and [number], use island.lease(), or let the run say data.own"
        )
    if collate is None:
        from torch.utils.data import default_collate  # of torch 1.11 on

        collate = default_collate
    size = len(dataset)
    return lambda samples: collate([dataset[n % size] for n in samples])


def endless(loader: Any) -> Iterator[Any]:
    """The loader's batches, epoch after epoch, each with the sampler's order of its own."""
    for epoch in range(1 << 62):
        sampler: Any = getattr(loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        empty = True
        for batch in loader:
            empty = False
            yield batch
        if empty:
            raise InputError("batches()", None, "the loader gives no batch", "give one that has data, and that can be gone through again")
