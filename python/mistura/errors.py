"""What can go wrong, in words: bad input that the user can mend, a refusal, a process that is gone."""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """Everything that this package raises on purpose."""


class InputError(Error, ValueError):
    """A value that the user can mend: where it stands, what it is, what is wrong with it, what to do.

    The text is one line, as the `mistura` program writes it: `where "value": problem; next`.
    """

    def __init__(self, where: str, value: Any = None, problem: str = "", next: str = "") -> None:  # noqa: A002 (the protocol's word)
        self.where, self.value, self.problem, self.next = where, value, problem, next
        text = where
        if value is not None and value != "":
            text += f' "{value}"'
        if problem:
            text += f": {problem}"
        if next:
            text += f"; {next}"
        super().__init__(" ".join(text.split("\n")))

    def parts(self) -> dict[str, str]:
        """The four parts as the local protocol carries them."""
        return {"where": self.where, "value": "" if self.value is None else str(self.value), "problem": self.problem, "next": self.next}


class Refused(InputError):
    """The run, or this host's mistura process, does not let the trainer in; the text says why."""


class Lost(Error, RuntimeError):
    """The mistura process of this host, or another rank of the island, is gone."""

    again = False
    """Whether the run goes on and takes this trainer in again, from the same process too: mistura.join() may be called anew."""


class RolledBack(Lost):
    """The run goes on without this life of the island, from a checkpoint or past it, and asks it to join anew."""

    again = True


class Interrupted(Lost):
    """A call was left before its end (Ctrl-C, say), so that nobody knows what of it was done; the island can only be closed."""

    again = True


LOSSES = {kind.__name__: kind for kind in (Lost, RolledBack, Interrupted)}
MISTAKES = {kind.__name__: kind for kind in (InputError, Refused)}


def carried(error: BaseException) -> dict[str, Any]:
    """An error as plain values, for the ranks that did not meet it themselves."""
    kind = next((c.__name__ for c in type(error).__mro__ if c.__name__ in {*LOSSES, *MISTAKES}), "Lost")
    if isinstance(error, InputError):
        return {"class": kind, **error.parts()}
    return {"class": kind, "text": str(error) or type(error).__name__}


def raised(carried_error: dict[str, Any]) -> Error:
    """The error that `carried` took apart."""
    kind = carried_error["class"]
    if kind in LOSSES:
        return LOSSES[kind](carried_error["text"])
    return MISTAKES[kind](carried_error["where"], carried_error["value"], carried_error["problem"], carried_error["next"])
