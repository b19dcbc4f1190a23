"""How a step's samples are shared out, and means of what ranks say (B8, B12)."""

from __future__ import annotations

import math
import random

import pytest

from mistura import InputError
from mistura import lease as leases
from mistura.told import Row, mean_loss


def test_b12_global_batch_stays_when_a_rank_leaves() -> None:
    """64 samples on 4 ranks are 16 each; on 3 they are 22, 21 and 21."""
    samples = list(range(64))
    assert [len(leases.share(samples, r, 4)) for r in range(4)] == [16, 16, 16, 16]
    assert [len(leases.share(samples, r, 3)) for r in range(3)] == [22, 21, 21]


def test_shares_cover_every_sample_once() -> None:
    """Whatever the sizes, and against dealing them out one by one."""
    draw = random.Random(1)
    for _ in range(500):
        samples = draw.sample(range(10_000), draw.randrange(40))
        size = draw.randrange(1, 9)
        shares = [leases.share(samples, r, size) for r in range(size)]
        assert [n for s in shares for n in s] == samples
        dealt = [len(samples[r::size]) for r in range(size)]
        assert [len(s) for s in shares] == dealt


def test_weight_makes_the_mean_over_ranks_the_mean_over_samples() -> None:
    """A7/A9: a mean of means is right only with these weights."""
    draw = random.Random(2)
    for _ in range(200):
        values = [draw.uniform(0, 9) for _ in range(draw.randrange(1, 40))]
        size = draw.randrange(1, 6)
        means = []
        for r in range(size):
            mine = leases.share(values, r, size)
            means.append(leases.weight(len(values), r, size) * (math.fsum(mine) / len(mine) if mine else 0.0))
        assert math.fsum(means) / size == pytest.approx(math.fsum(values) / len(values), rel=1e-12)


def test_numbers_of_ranges() -> None:
    """In order, retries included."""
    assert leases.numbers([[3, 5, False], [10, 11, True]]) == [3, 4, 10]


def test_a9_mean_counts_tokens() -> None:
    """100 tokens of sum 200 and 300 of sum 1200 are 3.5, not 3."""
    assert mean_loss([Row(loss=2.0, weight=100), Row(loss=4.0, weight=300)]) == 3.5


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([(math.nan, 10), (2.0, 30)], math.nan), ([(math.inf, 10), (2.0, 30)], math.inf), ([(math.nan, 0), (2.0, 30)], 2.0), ([], math.nan)],
)
def test_mean_is_not_finite_when_a_part_is_not(rows: list[tuple[float, float]], expected: float) -> None:
    """B2: never 0; and who does not count does not spoil it."""
    assert mean_loss([Row(loss=loss, weight=weight) for loss, weight in rows]) == pytest.approx(expected, nan_ok=True)


def test_endless_goes_through_epochs_and_refuses_an_empty_loader() -> None:
    """A loader begins anew with the sampler's next order."""

    class Sampler:
        epochs: list[int] = []

        def set_epoch(self, epoch: int) -> None:
            self.epochs.append(epoch)

    class Loader(list):
        sampler = Sampler()

    source = leases.endless(Loader([1, 2]))
    assert [next(source) for _ in range(5)] == [1, 2, 1, 2, 1]
    assert Sampler.epochs == [0, 1, 2]
    with pytest.raises(InputError, match="gives no batch"):
        next(leases.endless([]))


def test_collated_reads_a_data_set_by_number() -> None:
    """Numbers beyond its length begin anew."""
    make = leases.collated([0.0, 1.0, 2.0])
    assert make([1, 3, 5]).tolist() == [1.0, 0.0, 2.0]
    with pytest.raises(InputError, match="cannot be read by sample number"):
        leases.collated(iter([1]))
