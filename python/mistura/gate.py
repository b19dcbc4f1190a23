"""The gate at the door: the trainer shows with a probe that it computes the run's model.

The run sends weights and a few sequences. The trainer computes their loss with these weights, once, and the gradient of
its pieces goes into shared memory; the mistura process makes norms and projections of it. Nothing of it stays: the run's
own weights follow, or in the middle of a run those that were set aside; gradients are zero or none, as they were, and buffers
and random numbers are as before.

Shapes: R sequences of T+1 tokens, K experts that a token visits.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Callable

import torch

from .errors import InputError

log = logging.getLogger("mistura")

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
    """None on a rank that knows none. Its backward pass is run unless the trainer has done so (there is no graph)."""
    choices: dict[int, torch.Tensor] | None = None
    scale: float = 1.0
    """What the trainer's own backward pass has multiplied the loss by (a loss scale); `loss` is without it."""


@dataclass(frozen=True)
class Outcome:
    """What a rank has to say of one attempt."""

    answer: Answer
    problem: str = ""
    finite: bool = True
    """Its gradients are."""
    ours: bool = False
    """The backward pass was the gate's."""


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
        self._warned = False

    @property
    def ready(self) -> bool:
        """There is a probe."""
        return self._probe is not None

    def answer(self, action: dict[str, Any], ranks: Any, adapter: Any, exchange: Any, link: Any) -> None:
        """Compute what is asked for, leave the gradients of this rank's pieces, and say so. A problem is said, not raised."""
        asked = Question(**question(action["gate"]))
        with untouched(self._model, self._warn_of_draws), hook(adapter, "aside", contextlib.nullcontext)():
            outcome = self._settle(asked, ranks, adapter, exchange)
            hook(adapter, "clear_gradients")()
        answer = outcome.answer
        loss = math.nan if answer.loss is None else float(answer.loss.detach() if torch.is_tensor(answer.loss) else answer.loss)
        rows = ranks.gather([loss, answer.loss is not None])
        if ranks.control:
            known = [value for value, there in rows if there]
            loss = sum(known) / len(known) if known else math.nan
        choices = None if answer.choices is None else listed(answer.choices, action["gate"]["choices"])
        link.ask("gated", loss=loss, number_format=self._format(), choices=choices, problem=outcome.problem)

    def _warn_of_draws(self) -> None:
        """Say it once: what is refused for it looks like a wrong model."""
        if not self._warned:
            self._warned = True
            log.warning("the probe draws random numbers, as dropout does, and no two answers of it agree; call model.eval() in it")

    def _format(self) -> str:
        return "" if self._probe is None else self._probe.number_format or ""

    def _settle(self, asked: Question, ranks: Any, adapter: Any, exchange: Any) -> Outcome:
        """What came of it; with fp16 at the largest scale of the loss that suits all ranks, where the scale is the gate's to choose."""
        if self._format() != "fp16":
            return self._attempt(asked, adapter, exchange, 1.0)
        scale = FIRST_SCALE
        while True:
            outcome = self._attempt(asked, adapter, exchange, scale)
            rows = ranks.everyone(lambda o=outcome: [o.finite, bool(o.problem), o.ours])
            finite, bad, ours = ([row[i] for row in rows] for i in range(3))
            if all(finite) or any(bad) or not any(ours) or scale <= SMALLEST_SCALE:
                return outcome
            scale /= 2

    def _attempt(self, asked: Question, adapter: Any, exchange: Any, scale: float) -> Outcome:
        """Compute once, and leave the gradients."""
        try:
            self._model.zero_grad(set_to_none=True)
            hook(adapter, "clear_gradients")()
            answer = answered(self._probe.compute(asked)) if self._probe else Answer(None)
            loss: Any = answer.loss
            ours = torch.is_tensor(loss) and loss.requires_grad
            if ours:
                (loss * scale).backward()
                answer = replace(answer, loss=loss.detach())
            hook(adapter, "finish_gradients")(ours)
            finite = exchange.give(lambda piece: gradient(adapter, piece), 1 / (scale if ours else answer.scale))
            return Outcome(answer, "", finite, ours)
        except InputError as err:
            return Outcome(Answer(None), str(err))
        except Exception as err:  # of the trainer's own code: the run is told, and the trainer where in it
            log.warning("the probe failed", exc_info=True)
            return Outcome(Answer(None), f"the probe failed: {type(err).__name__}: {err}")


def hook(adapter: Any, name: str, absent: Any = lambda *_: None) -> Any:
    """What an adapter does about its engine's own ways; one that a trainer brought may have none."""
    return getattr(adapter, name, absent)


def answered(value: Any) -> Answer:
    """What a probe gave, with one number as its loss."""
    answer = value if isinstance(value, Answer) else Answer(value)
    loss: Any = answer.loss
    if hasattr(loss, "full_tensor"):  # a DTensor, which may be a sum over ranks
        loss = loss.full_tensor()
    if torch.is_tensor(loss) and loss.numel() != 1:
        problem = f"gives a loss of {loss.numel()} numbers"
        raise InputError("probe", list(loss.shape), problem, "give the mean over target tokens, such as loss.mean()")
    if loss is not None and not torch.is_tensor(loss) and (isinstance(loss, bool) or not isinstance(loss, (int, float))):
        raise InputError("probe", type(loss).__name__, "is no loss", "give the mean over target tokens, or a mistura.Answer")
    if not (math.isfinite(answer.scale) and answer.scale > 0):
        raise InputError("probe", answer.scale, "is no loss scale", "give Answer the scale that the backward pass used")
    return replace(answer, loss=loss)


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
    tokens = torch.tensor(asked["tokens"], dtype=torch.int64, device="cpu").view(asked["rows"], -1)
    choices = None
    if asked.get("choices"):
        inputs = (tokens.shape[0], tokens.shape[1] - 1)
        layers = [(layer, c) for layer, c in enumerate(asked["choices"]) if c]
        choices = {layer: torch.tensor(c, dtype=torch.int64, device="cpu").view(*inputs, -1) for layer, c in layers}
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
def untouched(model: torch.nn.Module, drawn: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Leave the model's modes, buffers and random numbers as they are, and gradients zero where there were some.

    A parameter without a gradient is not stepped, one whose gradient is zero is: which of both it is stays as it was.
    """
    had = {id(p) for p in model.parameters() if p.grad is not None}
    modes = [(m, m.training) for m in model.modules()]
    buffers = [(b, b.detach().clone()) for _, b in model.named_buffers()]  # buffers() is a list of other things in Megatron's modules
    with same_draws({p.device for p in model.parameters()}, drawn):
        try:
            yield
        finally:
            for module, training in modes:
                if module.training != training:
                    module.training = training
            with torch.no_grad():
                for p in model.parameters():
                    if id(p) not in had:
                        p.grad = None
                    elif p.grad is None:
                        p.grad = torch.zeros_like(p)
                    else:
                        p.grad.zero_()
                for buffer, before in buffers:
                    buffer.copy_(before)


@contextmanager
def same_draws(devices: Iterable[torch.device], drawn: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Random numbers of the CPU and of devices go on as if nothing had been drawn; `drawn` is called if something was.

    Vendors' plug-ins have the two functions where CUDA has them (torch.npu, torch.musa, torch.mlu …).
    """
    known: list[tuple[Any, tuple[Any, ...]]] = [(torch, ())]
    for device in sorted(devices, key=str):
        module = getattr(torch, device.type, None)
        if device.type != "cpu" and hasattr(module, "get_rng_state") and hasattr(module, "set_rng_state"):
            known.append((module, () if device.type == "mps" else (device,)))
    before = [module.get_rng_state(*place) for module, place in known]
    try:
        yield
    finally:
        for (module, place), state in zip(known, before):
            if not torch.equal(module.get_rng_state(*place), state):
                module.set_rng_state(state, *place)
                drawn()


__all__ = ["Answer", "Gate", "Probe", "Question"]
