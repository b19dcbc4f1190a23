"""The gate at the door: the trainer shows with a probe that it computes the run's model.

The run sends weights and a few sequences. The trainer computes their loss with these weights, once, and the gradient of
its pieces goes into shared memory; the mistura process makes norms and projections of it. Nothing of it stays: the run's
own weights follow, gradients are dropped, and buffers and random numbers are as before.

Shapes: R sequences of T+1 tokens, K experts that a token visits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Callable

import torch

from .errors import InputError

FIRST_SCALE = 2.0**16
"""Of an fp16 loss before its backward pass, so that small gradients do not vanish; halved while they overflow."""

SMALLEST_SCALE = 2.0**-24


@dataclass(frozen=True)
class Question:
    """What to compute."""

    tokens: torch.Tensor
    """int64 [R, T+1], on the CPU; each but the last of a row predicts the next. All ranks get the same, whole."""
    end_token: int | None
    """It ends a document: attention and positions begin anew behind it, and its own loss does not count. None: nothing does."""
    choices: dict[int, torch.Tensor] | None
    """int64 [R, T, K] experts by layer, in place of the router's own choice. None: the router chooses."""


@dataclass(frozen=True)
class Answer:
    """The loss that training minimises, as a mean over target tokens in nats, and what the routers would have chosen."""

    loss: torch.Tensor | None
    """None on a rank that knows none. Its backward pass is run unless there is nothing to run it on."""
    choices: dict[int, torch.Tensor] | None = None


@dataclass(frozen=True)
class Probe:
    """How a trainer computes a question, and the number format of its products.

    `compute` gets a Question and gives an Answer or a loss. `number_format`: fp32, tf32, bf16 or fp16; None: that of the
    model's parameters. The bounds that the answer is held to follow from it.
    """

    compute: Callable[[Question], Any]
    number_format: str | None = None


FORMATS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class Gate:
    """A rank at the gate."""

    def __init__(self, model: torch.nn.Module, probe: Any) -> None:
        self._model = model
        self._probe = prepared(model, probe)

    @property
    def ready(self) -> bool:
        """There is a probe."""
        return self._probe is not None

    def answer(self, action: dict[str, Any], ranks: Any, adapter: Any, exchange: Any, link: Any) -> None:
        """Compute what is asked for, leave the gradients of this rank's pieces, and say so. A problem is said, not raised."""
        asked = Question(**question(action["gate"]))
        with untouched(self._model):
            answer, problem = self._settle(asked, ranks, adapter, exchange)
        loss = math.nan if answer.loss is None else float(answer.loss.detach() if torch.is_tensor(answer.loss) else answer.loss)
        rows = ranks.gather([loss, answer.loss is not None])
        if ranks.control:
            known = [value for value, there in rows if there]
            loss = sum(known) / len(known) if known else math.nan
        choices = None if answer.choices is None else listed(answer.choices, action["gate"]["choices"])
        link.tell("gated", loss=loss, number_format=self._format(), choices=choices, problem=problem)

    def _format(self) -> str:
        return "" if self._probe is None else self._probe.number_format or ""

    def _settle(self, asked: Question, ranks: Any, adapter: Any, exchange: Any) -> tuple[Answer, str]:
        """The answer, and what is wrong with it; with fp16 at the largest scale of the loss that suits all ranks."""
        if self._format() != "fp16":
            return self._attempt(asked, adapter, exchange, 1.0)[:2]
        scale = FIRST_SCALE
        while True:
            answer, problem, finite = self._attempt(asked, adapter, exchange, scale)
            states = ranks.everyone(lambda good=finite, bad=problem: [good, bool(bad)])
            if all(good for good, _ in states) or any(bad for _, bad in states) or scale <= SMALLEST_SCALE:
                return answer, problem
            scale /= 2

    def _attempt(self, asked: Question, adapter: Any, exchange: Any, scale: float) -> tuple[Answer, str, bool]:
        """Compute once, and leave the gradients; the answer, what is wrong, and whether the gradients are finite."""
        try:
            self._model.zero_grad(set_to_none=True)
            answer = self._probe.compute(asked) if self._probe else None
            if not isinstance(answer, Answer):
                answer = Answer(answer)
            if answer.loss is not None and answer.loss.requires_grad:
                (answer.loss * scale).backward()
            return answer, "", exchange.give(lambda piece: gradient(adapter, piece), 1 / scale)
        except InputError as err:
            return Answer(None), str(err), True
        except Exception as err:  # of the trainer's own code: the run is told
            return Answer(None), f"the probe failed: {type(err).__name__}: {err}", True


def prepared(model: torch.nn.Module, probe: Any) -> Probe | None:
    """A Probe with its number format; a plain function gets the tokens alone, on the model's device."""
    if probe is None:
        return None
    first = next(model.parameters())
    if not isinstance(probe, Probe):
        if not callable(probe):
            raise InputError("probe", type(probe).__name__, "cannot be called", "give a function of tokens, or a mistura.Probe")
        plain = probe
        probe = Probe(lambda question: plain(question.tokens.to(first.device)))
    form = probe.number_format or FORMATS.get(first.dtype)
    if form is None:
        raise InputError("probe", str(first.dtype), "is no number format with known bounds", "give mistura.Probe its number_format")
    return Probe(probe.compute, form)


def question(asked: dict[str, Any]) -> dict[str, Any]:
    """The fields of a Question as they come."""
    tokens = torch.tensor(asked["tokens"], dtype=torch.int64).view(asked["rows"], -1)
    choices = None
    if asked.get("choices"):
        inputs = (tokens.shape[0], tokens.shape[1] - 1)
        choices = {layer: torch.tensor(c, dtype=torch.int64).view(*inputs, -1) for layer, c in enumerate(asked["choices"]) if c}
    return {"tokens": tokens, "end_token": asked["end_token"] if asked["boundaries"] else None, "choices": choices}


def listed(choices: dict[int, torch.Tensor], like: Sequence[Any] | None) -> list[list[int]]:
    """Choices as they are sent: by layer, row by row."""
    layers = len(like) if like else 1 + max(choices, default=-1)
    return [choices[i].reshape(-1).tolist() if i in choices else [] for i in range(layers)]


def gradient(adapter: Any, piece: Any) -> torch.Tensor | None:
    """The gradient of a piece as the adapter has it; None: there is none."""
    find = getattr(adapter, "gradient", None)
    if find is None:
        raise InputError("adapter", type(adapter).__name__, "has no gradient(piece), which the gate needs", "join without a probe")
    return find(piece)


@contextmanager
def untouched(model: torch.nn.Module) -> Iterator[None]:
    """Leave the model's buffers and random numbers as they are, and no gradient."""
    devices = sorted({p.device for p in model.parameters() if p.device.type == "cuda"}, key=str)
    buffers = [(b, b.detach().clone()) for b in model.buffers()]
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


__all__ = ["Answer", "Gate", "Probe", "Question"]
