"""What a trainer may call, right and wrong, against the real program: one decision for all ranks (B4), leaving, words for mistakes."""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import time
import warnings
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

import mistura
import mistura.layout
from mistura.config import Config, section
from mistura.link import Link
from mistura.model import Model
from mistura.stacked import stacked
from served import WAITS, Served, missing, run_file
from trainers import Body, Diary, Ranks, Small, digest, loss_of, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")


def joined(model: torch.nn.Module, **options: Any) -> tuple[mistura.Island, torch.optim.Optimizer]:
    """An island with data and rate of its own."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    return mistura.join(model, optimizer, **{"rate": "own", "own_data": True, **options}), optimizer


def run(
    tmp_path: Path, body: Body, world: int = 1, more: str = "", tokens: int = 400, finish: bool = True
) -> tuple[Ranks, list[str], dict]:
    """One island whose ranks run `body`; how they ended, and the run's summary."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with Served(tmp_path / "run", run_file(tokens=tokens, islands=["one"], first=first, more=more)) as served:
        ranks = Ranks(tmp_path / "ranks", world, body, served.environment("one"))
        ends = ranks.end()
        return ranks, ends, served.finish() if finish else {}


SPIKES = "spike: {window: 4, limit: 100}\n"


def _judged(diary: Diary, rank: int, world: int) -> None:
    model = Small(0)
    replica = torch.nn.parallel.DistributedDataParallel(model)
    island, optimizer = joined(replica)
    while not island.done:
        optimizer.zero_grad()
        loss_of(replica, island.steps * world + rank).backward()
        said = (2.0, 50.0)[rank] if island.steps == 6 else 1.0 + 0.01 * (island.steps % 3)
        verdict = island.judge(said, gradient_norm=1.0)
        if verdict:
            optimizer.step()
        diary.note(verdict=verdict.verdict, digest=digest(model))
        island.step(said, tokens=4)


def test_b4_ranks_decide_together(tmp_path: Path) -> None:
    """Losses 2 and 50 are one loss of 26: both ranks withhold the step, and go on with the same weights."""
    ranks, ends, summary = run(tmp_path, _judged, world=2, more=SPIKES, tokens=80)
    assert ends == ["done", "done"]
    for key in ("verdict", "digest"):
        assert ranks.diaries[0].all(key) == ranks.diaries[1].all(key)
    assert ranks.diaries[0].all("verdict")[:8] == ["apply"] * 6 + ["withhold", "apply"]
    digests = ranks.diaries[0].all("digest")
    assert digests[5] == digests[6] != digests[7]
    assert summary["skipped_steps"] == 1


def _leaves(diary: Diary, rank: int, world: int) -> None:
    model = Small(0)
    island, optimizer = joined(model)
    assert repr(island) == f"<island one of run {island.run_id}: training, step 0>"
    with island:
        for step in range(5):
            optimizer.zero_grad()
            loss = loss_of(model, step)
            loss.backward()
            optimizer.step()
            island.step(loss, tokens=8)
    diary.note(left=island.done)


def test_leaving_hands_over_what_was_trained(tmp_path: Path) -> None:
    """All five steps are in the model, though no fragment was due."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with Served(tmp_path / "run", run_file(tokens=400, islands=["one"], first=first)) as served:
        ranks = Ranks(tmp_path / "ranks", 1, _leaves, served.environment("one"))
        assert ranks.end() == ["done"]
        served.interrupt()
        assert ranks.diaries[0].all("left") == [True]
        assert served.summary()["tokens"] == 40
        assert isinstance(served.summary()["train_loss"], float)  # the step that leave() did not make has not spoilt it


def _nan(diary: Diary, rank: int, world: int) -> None:
    island, _ = joined(Small(0))
    while not island.done:
        island.step(torch.tensor(math.nan), tokens=torch.tensor(8))


def test_nan_loss_is_reported_as_nan(tmp_path: Path) -> None:
    """B2: never as 0."""
    _, ends, summary = run(tmp_path, _nan, tokens=80)
    assert ends == ["done"]
    assert summary["train_loss"] == "non-finite"


def _wrong_calls(diary: Diary, rank: int, world: int) -> None:
    model = Small(0)
    island, _ = joined(model)
    for what, call in {
        "no tokens": lambda: island.step(1.0),
        "half a token": lambda: island.step(1.0, tokens=1.5),
        "a loss of each row": lambda: island.step(torch.ones(3), tokens=8),
        "tokens of each row": lambda: island.step(1.0, tokens=torch.ones(3)),
        "lease": island.lease,
        "rate": island.lr,
        "twice": lambda: joined(model),
    }.items():
        with pytest.raises(mistura.InputError) as caught:
            call()
        diary.note(what=what, words=str(caught.value))
    if (child := os.fork()) == 0:
        with pytest.raises(mistura.InputError) as caught:
            island.step(1.0, tokens=8)
        diary.note(what="fork", words=str(caught.value))
        os._exit(0)
    os.waitpid(child, 0)
    while not island.done:
        island.step(1.0, tokens=8)
    with pytest.raises(mistura.InputError) as caught:
        island.step(1.0, tokens=8)
    diary.note(what="over", words=str(caught.value))


def test_wrong_calls_have_words_and_spoil_nothing(tmp_path: Path) -> None:
    """After each of them the run goes on."""
    ranks, ends, summary = run(tmp_path, _wrong_calls, tokens=80)
    assert ends == ["done"]
    assert summary["tokens"] == 80
    said = {line["what"]: line["words"] for line in ranks.diaries[0].read() if "what" in line}
    assert said == {
        "no tokens": "tokens: is missing; call island.step(loss, tokens=…) with the tokens this rank trained in the step",
        "half a token": 'tokens "1.5": is no number of tokens; give a whole number, such as batch.numel()',
        "tokens of each row": 'tokens "Tensor": is no number of tokens; give a whole number, such as batch.numel()',
        "a loss of each row": 'loss "Tensor": is no single number; give the mean over the batch, such as loss.item()',
        "lease": "lease(): islands of this run bring their own data; use your own loader, as in island.batches(loader)",
        "rate": "island.lr(): the rate is the trainer's own; join with rate=\"run\" to use the run's",
        "twice": "join(): this process has joined already, as island one; leave that one first",
        "fork": "step(): this process was forked from the one that joined; call it in the process that called mistura.join()",
        "over": "step(): the run is over for this island; end the loop when island.done is true, or use island.batches()",
    }


def interrupts_inside(name: str) -> None:
    """Ctrl-C, once, when the interpreter is next seen in a function of that name."""

    def strike(_: int, frame: Any) -> None:
        while frame is not None and frame.f_code.co_name != name:
            frame = frame.f_back
        if frame is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)


def _interrupted(diary: Diary, rank: int, world: int) -> None:
    model = Small(0)
    island, _ = joined(model)
    interrupts_inside("_line")
    with pytest.raises(KeyboardInterrupt):
        while not island.done:
            island.step(1.0, tokens=8)
    for call in (lambda: island.step(1.0, tokens=8), lambda: island.judge(1.0), island.leave):
        with pytest.raises(mistura.Interrupted) as caught:
            call()
        diary.note(words=str(caught.value))
    again, _ = joined(model)
    assert again.incarnation > island.incarnation
    for _ in range(3):
        again.step(1.0, tokens=8)
    again.leave()


def test_ctrl_c_inside_a_step_leaves_no_answer_to_the_next_call(tmp_path: Path) -> None:
    """What follows would read the answer to another question. The same process joins anew."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    with Served(tmp_path / "run", run_file(tokens=10**6, islands=["one"], first=first)) as served:
        ranks = Ranks(tmp_path / "ranks", 1, _interrupted, served.environment("one"))
        assert ranks.end() == ["done"]
    words = ranks.diaries[0].all("words")
    assert [w.split(";")[0] for w in words] == [
        f"step() was left in the middle (KeyboardInterrupt), so that {call} cannot follow" for call in ("step()", "judge()", "leave()")
    ]


def _fails_while_saving(diary: Diary, rank: int, world: int) -> None:
    island, _ = joined(Small(0), evaluate=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        while not island.done:
            island.step(1.0, tokens=8)
    with pytest.raises(mistura.Interrupted) as caught:
        island.step(1.0, tokens=8)
    diary.note(words=str(caught.value))


def test_an_error_in_a_function_of_the_trainers_ends_the_island(tmp_path: Path) -> None:
    """What was to follow it at that boundary was not done."""
    more = "eval: {every_tokens: 80}\n"
    first = write_first(tmp_path / "first.safetensors", Small(0))
    text = run_file(tokens=4000, islands=["one"], first=first, more=more).replace("name: one", "name: one, evaluate: true")
    with Served(tmp_path / "run", text) as served:
        ranks = Ranks(tmp_path / "ranks", 1, _fails_while_saving, served.environment("one"))
        assert ranks.end() == ["done"]
    (words,) = ranks.diaries[0].all("words")
    assert words.startswith("step() was left in the middle (ZeroDivisionError), so that step() cannot follow; call island.close(), and")


def _with_a_graph(diary: Diary, rank: int, world: int) -> None:
    warnings.simplefilter("error")
    island, _ = joined(Small(0))
    while not island.done:
        island.step(loss_of(Small(0), 1), tokens=8, gradient_norm=torch.ones(1, requires_grad=True))


def test_a_loss_with_its_graph_is_read_in_silence(tmp_path: Path) -> None:
    """Newer PyTorch warns where a number is made of what still wants gradients."""
    assert run(tmp_path, _with_a_graph, tokens=80)[1] == ["done"]


def _one_rank_errs(diary: Diary, rank: int, world: int) -> None:
    island, _ = joined(torch.nn.parallel.DistributedDataParallel(Small(0)))
    island.step(1.0, tokens=None if rank == 1 else 8)


def test_a_mistake_on_one_rank_is_told_on_all(tmp_path: Path) -> None:
    """Nobody hangs."""
    _, ends, _ = run(tmp_path, _one_rank_errs, world=2, finish=False)
    assert ends[0] == "InputError: step(): was called wrongly on rank 1; see the error there"
    assert ends[1].startswith("InputError: tokens: is missing")


def _errs_and_goes_on(diary: Diary, rank: int, world: int) -> None:
    island, _ = joined(torch.nn.parallel.DistributedDataParallel(Small(0)))
    wrong = rank == 1
    for call in (
        lambda: island.step(1.0, tokens=None if wrong else 8),
        lambda: island.judge(torch.ones(3) if wrong else 1.0),
        lambda: island.judge(None),
        lambda: island.validation(1.0, None if wrong else 4),
    ):
        with pytest.raises(mistura.InputError) as caught:
            call()
        diary.note(words=str(caught.value).split(";")[0])
    assert island.judge(None if wrong else 1.0)  # a pipeline stage that knows no loss
    with pytest.raises(mistura.InputError, match="was called for this step already; call it once, before optimizer.step()"):
        island.judge(1.0)
    while not island.done:
        island.step(1.0, tokens=4)
    diary.note(steps=island.steps)


def test_a_mistake_on_one_rank_spoils_nothing(tmp_path: Path) -> None:
    """Every rank hears of it in the same call, and the call can be made again: no step was counted anywhere."""
    ranks, ends, summary = run(tmp_path, _errs_and_goes_on, world=2, tokens=80)
    assert ends == ["done", "done"]
    assert [d.all("steps") for d in ranks.diaries] == [[10], [10]] and summary["tokens"] == 80
    calls = ["step(): was called wrongly on rank 1", "judge(): was called wrongly on rank 1", "judge(): no rank knows the loss"]
    assert ranks.diaries[0].all("words") == [*calls, "validation(): was called wrongly on rank 1"]
    own = ["tokens: is missing", 'loss "Tensor": is no single number', "judge(): no rank knows the loss", "tokens: is missing"]
    assert ranks.diaries[1].all("words") == own


def _experts(diary: Diary, rank: int, world: int) -> None:
    def make(run: dict[str, Any]) -> tuple[Model, None, Any]:
        model = Model(section(Config, run, "model"))
        return model, None, stacked(model, None)

    island = mistura.join(make, rate="own")
    experts, tokens = island.run.model.layers * island.run.model.experts, island.run.train.sequence_tokens
    while not island.done:
        mine = len(island.lease()) * tokens
        counts = [mine, *[0] * (experts - 1)]
        for wrong in (None, counts[1:], ["many"]) if island.steps in (0, 2) else ():
            with pytest.raises(mistura.InputError) as caught:
                island.step(1.0, tokens=mine, expert_tokens=wrong if rank == 1 else torch.tensor(counts))
            diary.note(words=str(caught.value).split(";")[0])
        island.step(1.0, tokens=mine, expert_tokens=None if island.steps == 1 else [counts[:1], counts[1:]])
    diary.note(steps=island.steps)


def test_expert_tokens_of_one_rank_only(tmp_path: Path) -> None:
    """Or fewer than the others', or none at all: every rank hears of it, in the first step as in a later one, and goes on."""
    text = tmp_path / "text"
    text.write_text("unlike chips, one model. " * 400, encoding="utf-8")
    file = (
        f"tokens: 8k\ndata: {{paths: [{text}], valid_share: 0.1}}\nmodel: {{preset: ling-tiny}}\neval: {{every_tokens: 0}}\n"
        f"islands: [{{name: one, engine: external}}]\n{WAITS}"
    )
    with Served(tmp_path / "run", file) as served:
        ranks = Ranks(tmp_path / "ranks", 2, _experts, served.environment("one"))
        assert ranks.end() == ["done", "done"], served.said()
        assert served.finish()["islands"][0]["expert_load"] is not None
    said = [d.all("words") for d in ranks.diaries]
    missing = "expert_tokens: were given, and not on rank 1"
    assert (said[0][:2], said[0][3:5]) == ([missing, "step(): was called wrongly on rank 1"],) * 2
    assert said[1][0] == said[1][3] == missing
    for words in (said[1][1], said[1][4]):
        assert re.fullmatch(r"expert_tokens: ([0-9]+) were given, where there are ([0-9]+) on another rank or in the first step", words)
    assert said[0][2] == 'rank 1: expert_tokens "list": is no list of numbers' and said[0][5] == "step(): was called wrongly on rank 1"
    assert said[1][2] == said[1][5] == 'expert_tokens "list": is no list of numbers'


def _fails_on_one(diary: Diary, rank: int, world: int) -> None:
    def measure() -> tuple[float, int]:
        if rank == 1 and os.environ["FAILS"] == "evaluate":
            raise OSError("no space left\non device")
        if os.environ["FAILS"] == "dies":
            if rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            torch.distributed.all_reduce(torch.ones(1))
        return 1.0, 8

    def save(path: Path) -> None:
        if rank == 1 and os.environ["FAILS"] == "save":
            raise OSError("no space left\non device")
        path.touch()

    island, _ = joined(Small(0), evaluate=measure)
    island.checkpoint(save)
    try:
        with island if os.environ["FAILS"] in ("loop", "dies") else contextlib.nullcontext():
            while not island.done:
                if rank == 1 and island.steps == 3 and os.environ["FAILS"] == "loop":
                    raise OSError("no space left\non device")
                island.step(1.0, tokens=4)
    except OSError:
        while not Path(os.environ["HEARD"]).exists():  # nobody learns of it by the end of this process
            time.sleep(0.01)


@pytest.mark.parametrize("fails", ["evaluate", "save", "loop", "dies"])
def test_what_fails_on_one_rank_is_heard_on_the_others(tmp_path: Path, fails: str) -> None:
    """Who failed, where, and why; although the rank that failed lives on, or others meet its end in a collective of their own first."""
    first = write_first(tmp_path / "first.safetensors", Small(0))
    more = "eval: {every_tokens: 80}\ncheckpoint: {every_tokens: 80}\n"
    text = run_file(tokens=4000, islands=["one"], first=first, more=more).replace("name: one", "name: one, evaluate: true")
    with Served(tmp_path / "run", text) as served:
        about = {**served.environment("one"), "FAILS": fails, "HEARD": str(tmp_path / "heard")}
        ranks = Ranks(tmp_path / "ranks", 2, _fails_on_one, about)
        ranks.wait_for(0, "end")
        (tmp_path / "heard").touch()
        ends = ranks.end()
    where = "the trainer's loop failed" if fails == "loop" else f"step() failed at {fails}"
    why = "its socket was closed" if fails == "dies" else f"{where} (OSError: no space left on device)"
    assert ends[1] == ("killed" if fails == "dies" else "done")
    assert re.match(r"Lost: .*the trainer is gone: rank 1 \(process [0-9]+\): " + re.escape(why), ends[0]), ends[0]


def _two_masters(diary: Diary, rank: int, world: int) -> None:
    island, optimizer = joined(Small(0), rate="run")
    (group,) = optimizer.param_groups
    given, group["lr"] = group["lr"], 7.0
    with pytest.raises(mistura.InputError, match="something else set it"):
        island.step(1.0, tokens=8)
    group["lr"] = given
    while not island.done:
        island.step(1.0, tokens=8)
    diary.note(steps=island.steps)


def test_a_step_that_was_not_told_is_told_again(tmp_path: Path) -> None:
    """A rate that somebody else has set is put right, and the same step counts once."""
    ranks, ends, summary = run(tmp_path, _two_masters, tokens=80)
    assert ends == ["done"], ends
    assert (ranks.diaries[0].all("steps"), summary["tokens"]) == ([10], 80)


def _in_odd_steps(diary: Diary, rank: int, world: int) -> None:
    island, _ = joined(Small(0))
    while not island.done:
        island.step(1.0, tokens=10)


def test_own_data_ends_in_steps_of_any_size(tmp_path: Path) -> None:
    """A step trains beyond its lease; when the next lease is used up by that at once, the run is told so and comes to its end."""
    _, ends, summary = run(tmp_path, _in_odd_steps, tokens=80)
    assert (ends, summary["tokens"]) == (["done"], 80)


def _closes(diary: Diary, rank: int, world: int) -> None:
    island, _ = joined(Small(0))
    island.step(1.0, tokens=8)
    maps = Path("/proc/self/maps")
    if (child := os.fork()) == 0:
        diary.note(child="/mistura-" in maps.read_text())
        os._exit(0)
    os.waitpid(child, 0)
    held = "/mistura-" in maps.read_text()
    island.close()
    diary.note(held=[held, "/mistura-" in maps.read_text()])


def test_a_closed_island_holds_no_memory(tmp_path: Path) -> None:
    """8 bytes a parameter, of which the next life of the island has its own. Nor does a child that was forked, such as a loader's."""
    ranks, ends, _ = run(tmp_path, _closes, tokens=10**6, finish=False)
    assert ends == ["done"]
    assert ranks.diaries[0].all("child") == [False]
    assert ranks.diaries[0].all("held") == [[True, False]]


def _on_another_device_by_default(diary: Diary, rank: int, world: int) -> None:
    replica = torch.nn.parallel.DistributedDataParallel(Small(0))
    torch.set_default_device("meta")
    island, _ = joined(replica, probe=lambda tokens: replica(tokens[:, :8] / 128.0).square().mean())
    while not island.done:
        island.step(1.0, tokens=4)


@pytest.mark.skipif(not hasattr(torch, "set_default_device"), reason="this PyTorch has no default device")
def test_a_default_device_is_the_trainers_alone(tmp_path: Path) -> None:
    """What ranks say to each other is on the CPU."""
    _, ends, summary = run(tmp_path, _on_another_device_by_default, world=2, tokens=80)
    assert (ends, summary["islands"][0]["gate"]) == (["done", "done"], "recorded")


class Other(Small):
    """The run's model with something changed."""

    def __init__(self, change: Callable[[Other], None]) -> None:
        super().__init__()
        change(self)


def untied(m: Other) -> None:
    """One tensor becomes two."""
    m.again = torch.nn.Linear(16, 16, bias=False)


def tied(m: Other) -> None:
    """Two tensors become one."""
    m.norm.bias = m.norm.weight


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.add_module("extra", torch.nn.Linear(2, 2)), 'parameter "extra.weight": the run\'s model does not have it'),
        (lambda m: delattr(m, "norm"), 'parameter "norm.weight": this model lacks it'),
        (lambda m: setattr(m, "head", torch.nn.Linear(16, 5)), 'parameter "head.weight": has shape [5 16] here and [4 16] in'),
        (untied, 'parameter "again.weight": the run\'s model does not have it'),
        (tied, 'parameter "norm.bias": is tied to norm.weight in this model'),
        (lambda m: m.norm.to(torch.bfloat16), "parameter norm.weight: is bfloat16 and has no fp32 master"),
    ],
    ids=["one that the run lacks", "one that it lacks", "another shape", "untied", "tied", "b11 no fp32 master"],
)
def test_another_model_is_refused_by_name(tmp_path: Path, change: Callable[[Other], None], words: str) -> None:
    """The parameter stands first, as the user knows it."""

    def body(diary: Diary, rank: int, world: int) -> None:
        joined(Other(change))

    _, ends, _ = run(tmp_path, body, finish=False)
    assert words in ends[0], ends
    assert ends[0].startswith(("Refused: ", "InputError: "))


LAYOUTS: dict[str, list[tuple[int, int]]] = {  # rows of head.weight [4, 16] that each rank has, from and how many
    "a gap between": [(0, 1), (2, 2)],
    "the end is missing": [(0, 2), (2, 1)],
    "twice": [(0, 3), (2, 2)],
}


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a gap between", "tensor head.weight [4 16]: element [1 0] is in no piece"),
        ("the end is missing", "tensor head.weight [4 16]: element [3 0] is in no piece"),
        ("twice", "tensor head.weight [4 16]: element [2 0] is in two pieces, of ranks 0 and 1; have layout"),
    ],
)
def test_a_layout_that_does_not_cover_a_tensor_once_is_refused(tmp_path: Path, what: str, words: str) -> None:
    """Over the ranks together: the tensor and the first element that is missing, or there twice, on every rank."""

    def body(diary: Diary, rank: int, world: int) -> None:
        first, count = LAYOUTS[what][rank]
        model = Small(0)
        model.head.weight = torch.nn.Parameter(model.head.weight[first : first + count].detach().clone())
        piece = mistura.layout.Piece("head.weight", (first, 0), (count, 16), shape=(4, 16))
        joined(model, layout=lambda name, _: piece if name == "head.weight" else None, data_parallel=(0, 1))

    _, ends, _ = run(tmp_path, body, world=2, finish=False)
    assert all(end.startswith("Refused: ") and words in end for end in ends), ends


def _of_another_protocol(diary: Diary, rank: int, world: int) -> None:
    link = Link(os.environ["MISTURA_SOCKET"], str)
    link.ask("hello", protocol=99, rank=0, world=1, host_rank=0, host_world=1, part=0, parts=1, engine="external")


def test_another_protocol_is_refused_with_both_numbers(tmp_path: Path) -> None:
    """Whichever is newer."""
    _, ends, _ = run(tmp_path, _of_another_protocol, finish=False)
    assert ends[0].startswith("Refused: local protocol")
    assert '"99"' in ends[0] and "speaks 1" in ends[0]
