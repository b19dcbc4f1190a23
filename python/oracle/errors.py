"""Bad input."""

from __future__ import annotations


class InputError(Exception):
    """Bad input, said in one line: where, what was read, what is wrong, what to do."""

    def __init__(self, where: str, value: object, problem: str, then: str) -> None:
        super().__init__(f"{where} {value!r}: {problem}; {then}" if value is not None else f"{where}: {problem}; {then}")
