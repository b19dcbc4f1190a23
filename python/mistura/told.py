"""What each rank tells of a step, as numbers that travel to rank 0, and what they say of the island together."""

from __future__ import annotations

import contextlib
import math
import numbers
from collections.abc import Iterator
from typing import Any, Callable, NamedTuple

from .errors import InputError


class Row(NamedTuple):
    """What one rank says of a step, as numbers that travel to rank 0."""

    good: float = 1  # 0: the call was wrong on this rank
    loss: float = math.nan
    weight: float = 0  # of the loss in the mean: tokens; 0 where the loss is not known
    tokens: float = 0
    norm: float = math.nan
    norm_known: float = 0
    busy: float = 0
    experts: float = 0  # expert_tokens were given


def told(make: Callable[[], Row]) -> tuple[Row, InputError | None]:
    """A rank's row. What is wrong with it rank 0 hears with the others': a rank that only raised would leave them waiting."""
    try:
        return make(), None
    except InputError as err:
        return Row(good=0), err


@contextlib.contextmanager
def instead(mistake: InputError | None) -> Iterator[None]:
    """A rank's own mistake says more than that one was made."""
    try:
        yield
    except InputError:
        if mistake is not None:
            raise mistake from None
        raise


def row_of(loss: Any, tokens: int, norm: Any, busy: float = 0.0) -> Row:
    """Loss and norm as a trainer gives them: None is unknown, NaN is a value."""
    value = math.nan if loss is None else scalar("loss", loss)
    size = math.nan if norm is None else scalar("gradient_norm", norm)
    return Row(1, value, 0 if loss is None else tokens, tokens, size, norm is not None, busy)


def counted(tokens: Any) -> int:
    """A number of tokens."""
    if tokens is None:
        raise InputError("tokens", None, "is missing", "call island.step(loss, tokens=…) with the tokens this rank trained in the step")
    value: Any = tokens.item() if hasattr(tokens, "item") and not many(tokens) else tokens
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or value != value or value < 0 or value != int(value):
        shown = type(tokens).__name__ if many(tokens) else tokens
        raise InputError("tokens", shown, "is no number of tokens", "give a whole number, such as batch.numel()")
    return int(value)


def scalar(where: str, value: Any) -> float:
    """A number, on whatever device it is; NaN stays NaN."""
    wrong = InputError(where, type(value).__name__, "is no single number", "give the mean over the batch, such as loss.item()")
    if many(value):
        raise wrong
    try:
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError) as err:
        raise wrong from err


def many(value: Any) -> bool:
    """A tensor that is not one number. What it raises when read may be an error of the device, which is another matter."""
    return hasattr(value, "numel") and value.numel() != 1


def flat(values: Any) -> list[int]:
    """Whole numbers of a tensor or of nested lists, in order; none of None."""
    if values is None:
        return []
    try:
        if hasattr(values, "reshape"):
            return [int(n) for n in values.reshape(-1).tolist()]
        return [n for v in values for n in flat(v)] if isinstance(values, (list, tuple)) else [int(values)]
    except (TypeError, ValueError, OverflowError) as err:
        raise InputError("expert_tokens", type(values).__name__, "is no list of numbers", "give the tokens of each expert") from err


def check(call: str, rows: list[Row]) -> None:
    """Nobody called it wrongly."""
    bad = [str(rank) for rank, row in enumerate(rows) if not row.good]
    if bad:
        raise InputError(call, None, f"was called wrongly on rank {', '.join(bad)}", "see the error there")


def check_experts(rows: list[Row]) -> bool:
    """Whether expert_tokens were given: on all ranks or on none."""
    without = [str(rank) for rank, row in enumerate(rows) if not row.experts]
    if without and len(without) < len(rows):
        problem = f"were given, and not on rank {', '.join(without)}"
        raise InputError("expert_tokens", None, problem, "give them on every rank, zeros where a rank has none, or leave them out on all")
    return not without


def tokens_once(rows: list[Row], data_ranks: list[int]) -> int:
    """Tokens of the island: each data-parallel rank's once, however many ranks share it."""
    known: dict[int, tuple[int, float]] = {}
    for rank, (row, data_rank) in enumerate(zip(rows, data_ranks)):
        first, tokens = known.setdefault(data_rank, (rank, row.tokens))
        if tokens != row.tokens:
            problem = f"rank {first} says {tokens:.0f} and rank {rank} says {row.tokens:.0f}, and both train data-parallel rank {data_rank}"
            raise InputError("tokens", None, problem, "ranks that share their batch give the same number")
    return int(sum(tokens for _, tokens in known.values()))


def mean_loss(rows: list[Row]) -> float:
    """The loss of the island, the mean over tokens: not finite when a rank's that counts is not, NaN when none is known."""
    known = [r for r in rows if r.weight > 0]
    if not known:
        return math.nan
    if not all(math.isfinite(r.loss) for r in known):
        return sum(r.loss for r in known)  # NaN, or an infinity
    return math.fsum(r.loss * r.weight for r in known) / math.fsum(r.weight for r in known)


def largest_norm(rows: list[Row]) -> float | None:
    """The gradient norm of the island, NaN when a rank's is; None when no rank knows it."""
    norms = [r.norm for r in rows if r.norm_known]
    if not norms:
        return None
    return math.nan if any(math.isnan(n) for n in norms) else max(norms)
