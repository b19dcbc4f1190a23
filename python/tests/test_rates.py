"""Whose learning rate it is."""

from __future__ import annotations

import pytest
import torch

from mistura import InputError
from mistura.rates import Rates


def optimizer(*rates: float) -> torch.optim.Optimizer:
    """One group a rate."""
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": r} for r in rates], lr=rates[0])


def lr(o: torch.optim.Optimizer) -> list[float]:
    """Of each group."""
    return [g["lr"] for g in o.param_groups]


def test_the_runs_rate_is_put_into_the_optimizer() -> None:
    """Groups keep their proportion."""
    o = optimizer(0.1, 0.2)
    r = Rates("run", o)
    r.set(0.5)
    assert lr(o) == [0.5, 1.0]
    assert r.used() == 0.5


def test_who_asks_may_set_it() -> None:
    """In every step, over what was put there."""
    o = optimizer(0.1)
    r = Rates("run", o)
    for rate in (0.5, 0.4):
        r.set(rate)
        assert r.ask() == rate
        o.param_groups[0]["lr"] = 0.7
        assert r.used() == rate


def test_asking_changes_nothing() -> None:
    """One rank prints the rate: its optimizer has that of the next steps all the same, and a scheduler beside it is still noticed."""
    o = optimizer(0.1, 0.2)
    r = Rates("run", o)
    r.set(0.5)
    assert r.ask() == r.used() == 0.5
    r.set(0.4)
    assert lr(o) == [0.4, 0.8]
    o.param_groups[0]["lr"] = 0.3
    with pytest.raises(InputError, match="something else set it"):
        r.used()


def test_who_has_no_optimizer_asks_when_it_likes() -> None:
    """The optimizer is the trainer's to set, every few steps if it wants."""
    r = Rates("run", None)
    for rate in (0.5, 0.4):
        r.set(rate)
        if rate == 0.5:
            assert r.ask() == 0.5
        assert r.used() == rate


def test_a_scheduler_beside_the_runs_rate_is_named() -> None:
    """Two masters."""
    o = optimizer(0.1)
    r = Rates("run", o)
    r.set(0.5)
    o.param_groups[0]["lr"] = 0.3
    with pytest.raises(InputError, match="learning rate is 0.3, the run's for this step was 0.5: something else set it"):
        r.used()


def test_nobody_sets_the_runs_rate() -> None:
    """No optimizer, and nobody asked."""
    r = Rates("run", None)
    r.set(0.5)
    with pytest.raises(InputError, match="nobody sets the run's rate"):
        r.used()


def test_own_rate_is_recorded_and_left_alone() -> None:
    """Whatever the scheduler makes of it."""
    o = optimizer(0.1)
    r = Rates("own", o)
    r.set(None)
    o.param_groups[0]["lr"] = 0.05
    assert r.used() == 0.05
    with pytest.raises(InputError, match="rate is the trainer's own"):
        r.ask()


@pytest.mark.parametrize("whose", ["run", "own"])
def test_half_rate_is_for_one_step(whose: str) -> None:
    """A spike's second try."""
    o = optimizer(0.4, 0.8)
    r = Rates(whose, o)
    r.set(0.4 if whose == "run" else None)
    r.reduce(0.5)
    assert lr(o) == [0.2, 0.4]
    assert r.used() == 0.2
    r.set(0.4 if whose == "run" else None)
    assert lr(o) == [0.4, 0.8]


def test_a_rate_in_a_tensor_stays_one() -> None:
    """Captured graphs read it there."""
    o = optimizer(0.1)
    o.param_groups[0]["lr"] = torch.tensor(0.1)
    Rates("run", o).set(0.25)
    assert o.param_groups[0]["lr"].item() == 0.25


def test_unknown_word() -> None:
    """Neither run nor own."""
    with pytest.raises(InputError, match='rate "mine": is neither run nor own'):
        Rates("mine", None)


def test_a_state_that_is_loaded_brings_its_rate_for_one_step() -> None:
    """load_state_dict() makes new groups: the step says what it used, and from then on the run's rate is in the new ones."""
    o = optimizer(0.1, 0.2)
    saved = o.state_dict()
    r = Rates("run", o)
    r.set(0.5)
    o.load_state_dict(saved)
    assert r.used() == 0.1
    r.set(0.4)
    assert lr(o) == [0.4, 0.8]
    assert r.used() == 0.4


def test_a_rate_of_its_own_is_recorded_after_a_state_was_loaded() -> None:
    """What the optimizer holds now, not what it held when it joined."""
    o = optimizer(0.1)
    r = Rates("own", o)
    saved = o.state_dict()
    saved["param_groups"][0]["lr"] = 0.3
    o.load_state_dict(saved)
    assert r.used() == 0.3
    r.reduce(0.5)
    assert lr(o) == [0.15]


def test_what_is_no_optimizer() -> None:
    """What only knows of one, alone or in a list of them."""
    one = optimizer(0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(one, float)
    for given, kind in ((scheduler, "LambdaLR"), ([one, scheduler], "LambdaLR"), (iter([]), "list_iterator")):
        with pytest.raises(InputError, match=f'optimizer "{kind}": is no optimizer: it has no param_groups; give a torch.optim.Opt'):
            Rates("own", given)


def test_several_optimizers_keep_their_proportion() -> None:
    """To the first group of the first, also when one of them gets another group or another state."""
    one, two = optimizer(0.5, 0.25), optimizer(0.125)
    saved = two.state_dict()
    r = Rates("run", [one, two])
    r.set(1.0)
    assert (lr(one), lr(two)) == ([1.0, 0.5], [0.25])
    one.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 7.0})
    two.load_state_dict(saved)
    assert r.used() == 1.0
    r.reduce(0.5)
    r.set(2.0)
    assert (lr(one), lr(two)) == ([2.0, 1.0, 7.0], [0.5])
    assert r.used() == 2.0


def test_a_group_without_a_rate() -> None:
    """An optimizer that finds its own: it is not the run's to set, and unknown when it is to be recorded."""
    o = optimizer(0.1, 0.2)
    o.param_groups[1]["lr"] = None
    with pytest.raises(InputError, match='"SGD": its parameter group 1 has no lr, and the run sets the rate; join with rate="own"'):
        Rates("run", o)
    del o.param_groups[0]["lr"]
    r = Rates("own", o)
    r.reduce(0.5)
    assert r.used() is None
