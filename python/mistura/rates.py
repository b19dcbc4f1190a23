"""The learning rate: the run's, put into the optimizer or asked for by the trainer, or the trainer's own, recorded."""

from __future__ import annotations

from typing import Any

import torch

from .adapters.base import listed
from .errors import InputError

RUN, OWN = "run", "own"


class Rates:
    """Whose rate it is, and what it is in the step that comes."""

    def __init__(self, whose: str, optimizer: Any) -> None:
        if whose not in (RUN, OWN):
            raise InputError("rate", whose, "is neither run nor own", 'give rate="run" for the run\'s schedule or rate="own" for yours')
        self.own = whose == OWN
        self._optimizers = listed(optimizer)
        for one in self._optimizers:
            check(one, self.own)
        self._given: dict[str, Any] | None = None  # the first group that the run's rate was put into
        rates = [[rate_of(g) for g in one.param_groups] for one in self._optimizers]
        first = next((rate for each in rates for rate in each), None)
        self._scales = [[rate / first if first and rate is not None else 1.0 for rate in each] for each in rates]
        self._asked = False  # island.lr() was, for this step: the trainer may have set the rate itself
        self._run: float | None = None
        self._factor = 1.0

    @property
    def _groups(self) -> list[dict[str, Any]]:
        """As they are now: load_state_dict() makes new ones."""
        return [group for one in self._optimizers for group in one.param_groups]

    def set(self, rate: float | None) -> None:
        """The run's rate for the next step; groups that began with a multiple of the very first group's keep it."""
        if self._factor != 1.0:
            self._scale_by(1 / self._factor)
        self._factor = 1.0
        if self.own:
            return
        self._run = rate
        if self._groups and rate is not None:
            self._asked = False
            for one, scales in zip(self._optimizers, self._scales):
                for group, scale in zip(one.param_groups, scales):
                    put(group, rate * scale)
            self._given = self._groups[0]

    def ask(self) -> float:
        """The rate of the step that comes. Who asks may set others, in each step; who only wants to know it changes nothing."""
        if self.own:
            raise InputError("island.lr()", None, "the rate is the trainer's own", 'join with rate="run" to use the run\'s')
        if self._run is None:
            raise InputError("island.lr()", None, "the run has no rate for this island", 'join with rate="own"')
        self._asked = True
        return self._run

    def reduce(self, factor: float) -> None:
        """The step that comes is applied at `factor` of its rate, and only that one."""
        if factor != self._factor:
            self._scale_by(factor / self._factor)
            self._factor = factor

    def _scale_by(self, factor: float) -> None:
        for group in self._groups:
            rate = rate_of(group)
            if rate is not None:
                put(group, rate * factor)

    def used(self) -> float | None:
        """The rate of the step that was just made; None is unknown."""
        now = rate_of(self._groups[0]) if self._groups else None
        if self.own:
            return now
        if self._run is not None and not self._asked:
            if self._given is not None and self._given is not self._groups[0]:
                return now  # a state was loaded since, and its rate with it; the next step has the run's again
            self._check(now, self._run * self._factor)
        return None if self._run is None else self._run * self._factor

    def _check(self, now: float | None, expected: float) -> None:
        if now is None:
            problem = "nobody sets the run's rate: there is no optimizer here and island.lr() was not asked"
            raise InputError("rate", RUN, problem, 'use island.lr() before each step, give join() the optimizer, or join with rate="own"')
        if abs(now - expected) > 1e-6 * abs(expected):
            problem = f"the optimizer's learning rate is {now:g}, the run's for this step was {expected:g}: something else set it"
            raise InputError("rate", RUN, problem, 'leave out the scheduler, set island.lr() yourself, or join with rate="own"')


def check(optimizer: Any, own: bool) -> None:
    """A torch.optim.Optimizer, whose rate can be set where the run sets it."""
    kind = type(optimizer).__name__
    if not hasattr(optimizer, "param_groups"):
        raise InputError("optimizer", kind, "is no optimizer: it has no param_groups", "give a torch.optim.Optimizer, or a list of them")
    unset = [i for i, g in enumerate(optimizer.param_groups) if rate_of(g) is None]
    if unset and not own:
        raise InputError("optimizer", kind, f"its parameter group {unset[0]} has no lr, and the run sets the rate", 'join with rate="own"')


def rate_of(group: dict[str, Any]) -> float | None:
    """A group's rate; None: its optimizer finds one by itself."""
    rate = group.get("lr")
    return None if rate is None else float(rate)


def put(group: dict[str, Any], rate: float) -> None:
    """Set a group's rate, also where it is a tensor that a captured graph reads."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate
