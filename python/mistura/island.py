"""An island as its trainer sees it: one object on each rank, whose calls are made by all ranks alike.

Between two steps of the trainer lies a boundary. There rank 0 tells the mistura process how the step went and hears what
to do; all ranks then send, adopt or install fragments and go on. Loss is the mean over tokens, tokens count the island once.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple

from . import lease as leases
from .adapters.base import listed
from .control import Alone
from .errors import Error, InputError, Interrupted, Lost
from .exchange import Exchange
from .link import Link, number
from .process import Log, Process
from .rates import Rates
from .settings import Settings
from .state import Files, State
from .told import Row, check, check_experts, counted, flat, instead, largest_norm, mean_loss, row_of, tokens_once, told

LEAVE_PATIENCE_SECONDS = 30.0
WORDS_LIMIT = 2000
"""Of what a rank says of its failure, in characters."""

AGAIN = "call island.close(), and mistura.join() to go on with the run's weights"


@dataclass
class Life:
    """What is known of an island's life once nobody holds the island any more."""

    over: bool = False  # in order: the run has ended for it, or it has left


class Verdict(NamedTuple):
    """Whether a step is applied: the same on every rank. True in a condition when it is."""

    apply: bool
    factor: float  # of the learning rate of this step; an optimizer that join() was given has it already
    verdict: str  # apply, half, withhold or skip
    reason: str

    def __bool__(self) -> bool:
        return self.apply


class Island:
    """Made by mistura.join()."""

    def __init__(
        self,
        ranks: Alone,
        link: Link,
        process: Process | None,
        log: Log,
        adapter: Any,
        optimizer: Any,
        welcome: dict[str, Any],
        rates: Rates,
        gate: Any = None,
    ) -> None:
        self._ranks, self._link, self._process, self._log = ranks, link, process, log
        self._adapter, self._optimizer, self._rates, self._gate = adapter, optimizer, rates, gate
        self._pid = os.getpid()
        self.name: str = welcome["island"]
        self.run_id: str = welcome["run_id"]
        self.incarnation: int = welcome["incarnation"]
        self.run = Settings(welcome["run"])
        self.own_data = bool(self.run.get("data", {}).get("own", False))
        self.steps = 0
        self.tokens_seen = 0
        self.left = 0
        self.evaluation_due = False
        self.evaluate: Callable[[], tuple[Any, Any]] | None = None
        self.life = Life()
        self._closed = False
        self._done = False
        self._paused = False  # the last boundary goes on once the trainer's loop has saved what checkpoint() told of
        self._begun = False  # what the run asked for at a boundary is being done
        self._left = ""  # the call that ended in the middle of it
        self._over = False  # a call has said so, of another rank perhaps, whose process knew it first
        self._verdict: Verdict | None = None
        self._judged_norm: float | None = None  # the gradient norm that judge() was told, which step() need not be told again
        self._applied = True  # of the step that was made last
        self._experts = 0  # numbers in expert_tokens, as the first step has it
        self._doing = ""  # the run's action that is being done
        self.act: dict[str, Any] = {}  # the last answer to a boundary, the same on every rank
        self._samples: list[int] = []
        self._taken = False
        self._exchange = Exchange(link, adapter, welcome)
        self._state = State(link, adapter, self._exchange.areas, ranks.rank, Path(f"mistura-{self.run_id}") / self.name, optimizer)
        self._actions: dict[str, Callable[[dict[str, Any]], None]] = {
            "gather": lambda a: self._exchange.gather(a, self.steps),
            "adopt": self._adopt,
            "install": self._install,
            "forget": self._forget,
            "save": lambda a: self._state.save(a),
            "restore": self._restore,
            "evaluate": self._evaluate,
            "gate": self._at_gate,
            "aside": lambda a: self._exchange.put_aside(),
            "back": self._take_back,
        }
        self._entered = self._resumed = time.perf_counter()

    def _begin(self) -> None:
        """The boundary before the first step: weights of the run come in."""
        self._boundary(Row(), [])

    # What the trainer says of its steps.

    def step(
        self, loss: Any, *, tokens: Any = None, gradient_norm: Any = None, expert_tokens: Any = None, applied: bool | None = None
    ) -> None:
        """A step was made: its mean loss and tokens on this rank. Sends and adopts what is due; may wait for the run.

        A rank that knows no loss (a pipeline stage before the last) gives None. gradient_norm is the global norm before
        clipping; expert_tokens the tokens routed to each expert, layer by layer, in this rank's batch, given on all ranks alike.
        applied: False when the trainer's own loss scaler has left the weights alone; None follows the last judge().
        """
        self._go_on()
        with self._whole("step()"):
            self._step(loss, tokens, gradient_norm, expert_tokens, applied)

    def _step(self, loss: Any, tokens: Any, gradient_norm: Any, expert_tokens: Any, applied: bool | None) -> None:
        busy, before = time.perf_counter() - self._resumed, self.steps
        if not before:  # from here on all ranks add up as many numbers, whatever one of them gives
            self._experts = max(self._ranks.everyone(lambda: len(flat(expert_tokens))))
        counts: list[int] = []

        def say() -> Row:
            counts.extend(self._counts(expert_tokens))
            return self._row(loss, tokens, gradient_norm, busy)._replace(experts=len(counts))

        row, mistake = told(say)
        self.steps += 1
        with instead(mistake):
            try:
                self._applied = bool(applied) if applied is not None else self._verdict is None or self._verdict.apply
                experts = self._ranks.sum(counts or [0] * self._experts) if self._experts else []
                self._boundary(row, experts)
            except InputError:
                if not self._begun:  # the run has not heard of the step, on no rank: it can be told again, rightly
                    self.steps = before
                raise

    def _counts(self, given: Any) -> list[int]:
        """expert_tokens as numbers; none when there are none."""
        counts = flat(given)
        if counts and len(counts) != self._experts:
            problem = f"{len(counts)} were given, where there are {self._experts} on another rank or in the first step"
            raise InputError("expert_tokens", None, problem, "give one for each expert of the model, in all steps or in none")
        return counts

    def _row(self, loss: Any, tokens: Any, norm: Any, busy: float) -> Row:
        count = counted(tokens)
        if not self.own_data:
            if not self._taken:
                problem = "the run hands out its samples, and none were taken for this step"
                raise InputError("step()", None, problem, "take them with island.lease() or island.batches()")
            if not self._mine():
                count = 0  # the batch was another rank's, to keep this one company
        return row_of(loss, count, self._judged_norm if norm is None else norm, busy)

    def _boundary(self, row: Row, experts: Sequence[int], may_pause: bool = True) -> None:
        self._state.settle()
        rows = [Row(*r) for r in self._ranks.gather(row)]
        now = time.perf_counter()
        seconds, self._entered = now - self._entered, now
        self._obey(lambda: self._link.ask("boundary", **self._report(rows, seconds, experts)), may_pause)
        self._resumed = time.perf_counter()

    def _report(self, rows: list[Row], seconds: float, experts: Sequence[int]) -> dict[str, Any]:
        """What rank 0 says for the island."""
        check("step()", rows)
        known = check_experts(rows)
        return {
            "step": self.steps, "applied": self._applied, "loss": mean_loss(rows), "tokens": tokens_once(rows, self._ranks.data_ranks()),
            "gradient_norm": largest_norm(rows), "seconds": seconds, "busy_seconds": max(r.busy for r in rows),
            "rate": self._rates.used() if self._applied and self.steps else None, "expert_tokens": list(experts) if known else None,
        }  # fmt: skip

    def judge(self, loss: Any, gradient_norm: Any = None, *, tokens: Any = None) -> Verdict:
        """Before optimizer.step(): whether this step is to be applied, decided once for all ranks from what all say.

        A rank that knows no loss gives None.
        """
        self._go_on()
        with self._whole("judge()"):
            return self._judge(loss, gradient_norm, tokens)

    def _judge(self, loss: Any, gradient_norm: Any, tokens: Any) -> Verdict:
        if self._verdict is not None:
            raise InputError("judge()", None, "was called for this step already", "call it once, before optimizer.step()")
        row, mistake = told(lambda: row_of(loss, 1 if tokens is None else counted(tokens), gradient_norm))
        rows = [Row(*r) for r in self._ranks.gather(row)]

        def ask() -> dict[str, Any]:
            check("judge()", rows)
            if not any(r.weight for r in rows):
                raise InputError("judge()", None, "no rank knows the loss", "give it on one rank at least")
            return self._link.ask("judge", loss=mean_loss(rows), gradient_norm=largest_norm(rows))

        with instead(mistake):
            answer = self._ranks.share(ask)
        self._judged_norm = row.norm if row.norm_known else None
        self._verdict = Verdict(bool(answer["apply"]), float(answer["factor"]), answer["verdict"], answer.get("reason", ""))
        if self._verdict.apply:
            self._rates.reduce(self._verdict.factor)
        return self._verdict

    def validation(self, loss: Any, tokens: Any) -> None:
        """The validation loss that evaluation_due asks for: mean and target tokens of this rank's part; every rank calls it."""
        self._go_on()
        with self._whole("validation()"):
            self._validate(loss, tokens)

    def _validate(self, loss: Any, tokens: Any) -> None:
        row, mistake = told(lambda: row_of(loss, counted(tokens), None))
        rows = [Row(*r) for r in self._ranks.gather(row)]

        def tell() -> None:
            check("validation()", rows)
            tokens = tokens_once(rows, self._ranks.data_ranks())
            self._link.tell("validation", loss=mean_loss(rows), tokens=tokens, step=self.steps)

        with instead(mistake):
            self._ranks.share(tell)
        self.evaluation_due = False

    def checkpoint(self, save: Callable[[Path], None] | None = None) -> Path | None:
        """Save what the run cannot save by itself: an optimizer whose state is not Adam's, a data loader's position.

        Give a function once: whenever the run saves a checkpoint it is called on each rank, with the path of a file to write. Or
        call this after each step(): it gives that path when a save is due, and the file must be there before the trainer looks at
        `done`, takes its next batch or makes its next step. Path and digest go into the run's checkpoint.
        """
        return self._state.checkpoint(save)

    @property
    def restored(self) -> dict[int, Path]:
        """By rank, the files that ranks had saved in checkpoint(), unaltered: after a resume, or a loss of this island.

        A rank that saved none is no key, and to ask for it is an InputError.
        """
        return Files(self._state.files)

    # What the trainer asks.

    @property
    def done(self) -> bool:
        """The run is over for this island. Every rank asks alike: after a save that checkpoint() has told of it may wait for the run."""
        self._go_on()
        return self._done

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """A question to this host's mistura process beyond those that have a call of their own (docs/formats/attach.md)."""
        self._go_on()
        self._check_usable(f"ask({kind})")
        return self._link.ask(kind, **fields)

    def lr(self) -> float:
        """The run's learning rate for the step that comes. The optimizer that join() was given has it already."""
        self._go_on()
        return self._rates.ask()

    def lease(self) -> list[int]:
        """Numbers of the samples that this rank trains in the next step; none when the run is over (see done).

        The same until step() is called. With more ranks than samples some ranks get none and train with weight 0.
        """
        self._go_on()
        self._check_usable("lease()")
        if self.own_data:
            raise InputError(
                "lease()", None, "islands of this run bring their own data", "use your own loader, as in island.batches(loader)"
            )
        self._taken = True
        return self._mine()

    def _mine(self) -> list[int]:
        return leases.share(self._samples, self._ranks.data_rank, self._ranks.data_size)

    def weight(self) -> float:
        """Multiply a mean loss by it before backward(), so that DDP's mean over ranks is the mean over samples; 1 when shares are equal."""
        if self.own_data:
            return 1.0
        return leases.weight(len(self._samples), self._ranks.data_rank, self._ranks.data_size)

    def batches(self, loader: Any) -> Iterator[Any]:
        """Batches until the run is over.

        With own data they are the loader's, epoch after epoch. Otherwise one batch is this rank's samples of one step:
        `loader` is then a DataLoader or a data set, read by sample number modulo its length.
        """
        if self.own_data:
            source = leases.endless(loader)
            while not self.done:
                yield next(source)
            return
        make, before = leases.collated(loader), -1
        while not self.done:
            if self.steps == before:
                raise InputError(
                    "batches()",
                    None,
                    "the samples of one step are one batch, and island.step() was not called after it",
                    "call it once a batch",
                )
            before = self.steps
            yield make(self.lease() or self._samples[:1])

    # What the run wants done.

    @contextlib.contextmanager
    def _whole(self, call: str) -> Iterator[None]:
        """A call that is made whole. One that is left in the middle, by Ctrl-C or by an error in a function of the trainer's, is the
        last: the answer to a question would be taken for that of the next, and weights may have been added to in part. The other
        ranks wait for this one by then, and hear why it does not come.
        """
        self._check_usable(call)
        before, self._begun = (self._begun, self._doing), False
        try:
            yield
        except BaseException as err:
            self._over = self._over or isinstance(err, Lost)
            if isinstance(err, Lost):
                self._ranks.left(err)
            alike = isinstance(err, InputError) or self._ranks.world == 1  # all ranks raise it, and the call can be made again
            if not isinstance(err, Lost) and (self._begun or not (alike and isinstance(err, Exception))):
                self._left = f"{call} was left in the middle ({type(err).__name__})"
                self._fail(f"{call} failed{self._doing and ' at ' + self._doing}", err)
            raise
        finally:
            self._begun, self._doing = before

    def _fail(self, what: str, error: BaseException) -> Error | None:
        """Tell the other ranks, through the mistura process, that this one does not go on; or why it is over, if that is the reason."""
        why = self._ranks.why(error)
        if why is None and self._ranks.world > 1:
            words = " ".join(f"{what} ({type(error).__name__}: {error}".split())
            with contextlib.suppress(Error):
                self._link.tell("error", problem=words[:WORDS_LIMIT] + ")")
        return why

    def _obey(self, ask: Callable[[], dict[str, Any]], may_pause: bool = True) -> None:
        """Ask, do what is asked for in order, and wait until the run says go or stop, or the trainer's loop has a file to save."""
        while True:
            act = self._ranks.share(ask)
            self._begun = True
            self._do(act["actions"])
            self._paused = may_pause and act["then"] == "wait" and self._polled(act["actions"])
            if self._paused:
                return
            if act["then"] != "go":
                self._ranks.each(self._state.settle)
            if act["then"] != "wait":
                break
            ask = self._ask_again
        self.act, self._verdict, self._judged_norm, self._taken = act, None, None, False
        self._samples = leases.numbers(act.get("samples") or [])
        self.left, self.tokens_seen = act.get("left") or 0, act.get("tokens_seen") or 0
        self._rates.set(number(act.get("rate")))
        self._log.tell()
        if act["then"] == "stop":
            self._finish()

    def _polled(self, actions: list[dict[str, Any]]) -> bool:
        """Whether the trainer's loop, on any rank, is to save a file before the run goes on."""
        return any(a["do"] == "save" for a in actions) and any(self._ranks.everyone(lambda: self._state.due))

    def _go_on(self) -> None:
        """The rest of a boundary that was left for the trainer's loop to save a file."""
        if not self._paused or self._closed or os.getpid() != self._pid:
            return
        self._paused = False
        with self._whole("the wait after checkpoint()"):
            self._ranks.each(self._state.settle)
            self._obey(self._ask_again)
        self._resumed = time.perf_counter()

    def _ask_again(self) -> dict[str, Any]:
        return self._link.ask("again")

    def _do(self, actions: list[dict[str, Any]]) -> None:
        self._exchange.check()
        self._changed = False
        for action in actions:
            do = self._actions.get(action["do"])
            if do is None:
                raise InputError(
                    "mistura process", action["do"], "asks for something that this package cannot do", "update the Python package"
                )
            self._doing = action["do"]
            do(action)
        self._doing = ""
        if self._changed:
            self._adapter.publish()

    def _adopt(self, action: dict[str, Any]) -> None:
        self._exchange.adopt(action, self.steps)
        self._changed = True  # on every rank alike, wherever the fragment's pieces are: publish() may be collective

    def _install(self, action: dict[str, Any]) -> None:
        self._exchange.install(action, self.steps)
        self._changed = True

    def _forget(self, action: dict[str, Any]) -> None:
        """Moments begin anew: they belong to weights that are gone."""
        forget = getattr(self._adapter, "forget", None)
        if forget is not None:
            forget()
        else:
            for one in listed(self._optimizer):
                one.state.clear()

    def _at_gate(self, action: dict[str, Any]) -> None:
        if self._changed:
            self._adapter.publish()
        self._gate.answer(action, self._ranks, self._adapter, self._exchange, self._link)

    def _take_back(self, action: dict[str, Any]) -> None:
        self._exchange.take_back()
        self._changed = True

    def _restore(self, action: dict[str, Any]) -> None:
        self._state.restore(action)
        self._changed = True

    def _evaluate(self, action: dict[str, Any]) -> None:
        """The loop measures when it next looks; a function can also while the loop waits, as at the end of the run."""
        self.evaluation_due = True
        if self.evaluate is not None:
            if self._changed:
                self._adapter.publish()
            self._validate(*self.evaluate())

    # The end.

    def leave(self, reason: str = "asked to leave") -> None:
        """Hand over what was trained and leave the run in order; every rank calls it."""
        if self.done or self._closed:
            return
        with self._whole("leave()"):
            self._ranks.share(lambda: self._link.tell("bye", reason=reason))
            while not self._done:  # the step that would come now is not made; its boundary is where the rest is handed over
                self.steps, self._applied = self.steps + 1, False
                self._boundary(Row(), [], may_pause=False)

    def _finish(self) -> None:
        self._done = self.life.over = True
        self._exchange.close()
        if self._ranks.host > 0:  # the first host's process knows already
            with contextlib.suppress(Error):
                self._link.tell("bye", reason="the run is over")
        self._release()

    def close(self) -> None:
        """Drop out at once: what was not handed over is lost. The mistura process ends, and the run goes on without the island."""
        if not self._closed:
            self._release()

    def _release(self) -> None:
        self._closed = True
        self._link.close()
        self._exchange.close()
        if self._process is not None:
            self._process.wait(LEAVE_PATIENCE_SECONDS)
        self._log.tell()
        self._log.close()
        self._ranks.close()

    def _abandon(self) -> None:
        """In a forked child: what is the parent's alone, shared memory too, which stays as long as a loader's worker has it."""
        self._link.abandon()
        self._exchange.areas.close()
        if self._process is not None:
            self._process.abandon()

    def is_lost(self) -> bool:
        """Whether no call can follow: the mistura process of this host or of another has ended, or a call was left in the middle."""
        return self._over or bool(self._left) or self._link.ended(0) is not None

    def _check_usable(self, call: str) -> None:
        if os.getpid() != self._pid:
            raise InputError(
                call, None, "this process was forked from the one that joined", "call it in the process that called mistura.join()"
            )
        if self._done:
            raise InputError(
                call, None, "the run is over for this island", "end the loop when island.done is true, or use island.batches()"
            )
        if self._closed:
            raise Lost("the island was closed")
        if self._left and self._link.ended(0) is None:
            raise Interrupted(f"{self._left}, so that {call} cannot follow; {AGAIN}")

    def __repr__(self) -> str:
        state = "over" if self._done else "closed" if self._closed else "training"
        return f"<island {self.name} of run {self.run_id}: {state}, step {self.steps}>"

    def __enter__(self) -> Island:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.leave()
            return
        why = None if self._closed else self._fail("the trainer's loop failed", error)
        self.close()
        if why is not None:
            raise why from error
