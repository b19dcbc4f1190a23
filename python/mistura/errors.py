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


def carried(error: BaseException) -> dict[str, Any]:
    """An error as plain values, for the ranks that did not meet it themselves."""
    if isinstance(error, InputError):
        return {"class": "refused" if isinstance(error, Refused) else "input", **error.parts()}
    return {"class": "lost", "text": str(error) or type(error).__name__}


def raised(carried_error: dict[str, Any]) -> Error:
    """The error that `carried` took apart."""
    kind = carried_error["class"]
    if kind == "lost":
        return Lost(carried_error["text"])
    made = Refused if kind == "refused" else InputError
    return made(carried_error["where"], carried_error["value"], carried_error["problem"], carried_error["next"])
