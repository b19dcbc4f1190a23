"""An island on two hosts: a tensor-parallel trainer, each rank with a mistura process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import mistura
from hosts import Coordinator, Way, enter, machines, missing_namespaces
from mistura.layout import Split
from served import missing, program, run_file
from trainers import FORK, PATIENCE_SECONDS, Body, Diary, Ranks, _rank, batch, hash_of, together, write_first

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")

STEPS, ROWS = 40, 8


class Summed(torch.autograd.Function):
    """The sum over ranks; each rank's part has the sum's gradient."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        """part [rows, width] of each rank → their sum."""
        total = part.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """The gradient of the sum, for every part."""
        return grad


class Parallel(nn.Module):
    """x [rows, 8] → [rows, 4]; `up` is split by columns and `down` by rows over `count` ranks, `head` is whole on each."""

    def __init__(self, index: int = 0, count: int = 1) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 6, bias=False), nn.Linear(6, 4)
        if count > 1:
            cut = slice(index * 5, index * 5 + (5 if index == 0 else 7))  # uneven
            parts = [(self.up, "weight", self.up.weight[cut]), (self.up, "bias", self.up.bias[cut])]
            for layer, name, part in [*parts, (self.down, "weight", self.down.weight[:, cut])]:
                setattr(layer, name, nn.Parameter(part.detach().clone()))
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        """x [rows, 8] → [rows, 4]."""
        inner = self.down(torch.tanh(self.up(x)))
        return self.head(torch.tanh(Summed.apply(inner) if self.count > 1 else inner))


def layout(rank: int) -> Callable[[str, Tensor], Split | None]:
    """Of two tensor-parallel ranks."""
    dims = {"up.weight": 0, "up.bias": 0, "down.weight": 1}
    return lambda name, _: Split(dims[name], rank, 2, sizes=[5, 7]) if name in dims else None


def trainer(through: bool, name: str = "one", forever: bool = False, begun: Callable[[], object] = lambda: None) -> Body:
    """What a rank does, through mistura or without it; `begun` is called after its first step."""

    def body(diary: Diary, rank: int, world: int) -> None:
        model = Parallel(rank, world)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        island = None
        if through:
            splits = {"layout": layout(rank), "data_parallel": (0, 1)} if world > 1 else {}
            island = mistura.join(model, optimizer, name=name, rate="own", own_data=True, **splits)
            diary.note(child=island._process._child.pid if island._process else None)
        step = 0
        while forever or (step < STEPS if island is None else not island.done):
            x, y = batch(hash_of(name, step), ROWS)
            try:
                loss = torch.nn.functional.mse_loss(model(x), y)
            except RuntimeError:  # the trainer's own collective is often the first to meet a rank that is gone
                if island is not None:
                    island.step(None, tokens=ROWS)
                raise
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if island is not None:
                island.step(loss, tokens=ROWS)
            diary.note(loss=loss.item())
            if step == 1:
                begun()
        diary.note(**{n: p.detach().flatten().tolist() for n, p in model.named_parameters()})

    return body


def _host(diary: Diary, rank: int, namespace: str | None, environment: dict[str, str], body: Any) -> None:
    if namespace:
        enter(namespace)
    os.environ.update(environment)
    _rank(diary, rank, 2, environment["MEET"], body, environment)


class Hosts(Ranks):
    """Two ranks of one island, each on a host of its own."""

    def __init__(self, folder: Path, body: Any, environment: dict[str, str], places: list[tuple[str | None, str]]) -> None:
        folder.mkdir()
        self.diaries = [Diary(folder / f"rank{r}") for r in range(2)]
        self.processes = []
        for rank, (namespace, interface) in enumerate(places):
            own = {"MEET": str(folder / "meet"), "GROUP_RANK": str(rank), "LOCAL_RANK": "0", "GLOO_SOCKET_IFNAME": interface}
            arguments = (self.diaries[rank], rank, namespace, {**environment, **own}, body)
            self.processes.append(FORK.Process(target=_host, args=arguments))
            self.processes[-1].start()


HERE: list[tuple[str | None, str]] = [(None, "lo"), (None, "lo")]


@contextlib.contextmanager
def coordinator(
    tmp_path: Path, tokens: int, islands: list[str], address: str = "127.0.0.1", namespace: str | None = None, heartbeat: float = 10
) -> Iterator[Any]:
    """A run that islands join from outside."""
    first = write_first(tmp_path / "first.safetensors", Parallel())
    text = run_file(tokens=tokens, islands=islands, first=first, step_tokens=ROWS)
    text = text.replace("limits: {", f"limits: {{heartbeat_seconds: {heartbeat}, ")
    with Coordinator(tmp_path / "run", text, address, namespace) as served:
        yield served


def test_d5_two_hosts_are_the_plain_loop(tmp_path: Path) -> None:
    """Alone in a run they make the same losses and weights as without it, to the bit, and the run ends with these weights.

    The state of both is in its checkpoint, each value once, though both hold all of `head`.
    """
    plain = Ranks(tmp_path / "plain", 2, trainer(False), {})
    assert plain.end() == ["done", "done"]
    with coordinator(tmp_path, STEPS * ROWS, ["one"]) as served:
        ranks = Hosts(tmp_path / "one", trainer(True), served.environment("one"), HERE)
        assert ranks.end() == ["done", "done"], served.said()
        served.finish()
    for ours, theirs in zip(ranks.diaries, plain.diaries):
        for what in ("loss", "up.weight", "down.weight", "head.weight"):
            assert ours.all(what) == theirs.all(what), what
    children = [d.all("child")[0] for d in ranks.diaries]
    assert children[0] and children[1] and children[0] != children[1]
    manifest = max(tmp_path.glob("run/run/checkpoints/*/manifest.json"))
    saved = json.loads(manifest.read_text())["meta"]["islands"]["one"]
    assert len(saved["hosts"]) == 1 and len(saved["slots"]) == 3 and all(slot["sha256"] for slot in saved["slots"])


def test_a_host_that_dies_takes_the_island_with_it(tmp_path: Path) -> None:
    """kill -9 of the second host's mistura process: its rank is told at once, and the first host's is, too."""
    with coordinator(tmp_path, 10**6 * ROWS, ["one"]) as served:
        ranks = Hosts(tmp_path / "one", trainer(True, forever=True), served.environment("one"), HERE)
        child = ranks.wait_for(1, "child")
        ranks.wait_for(1, "loss", 20)
        os.kill(child, signal.SIGKILL)
        ends = ranks.end()
        served.await_said("its host 1 is gone")
    assert ends[1].startswith(("Lost: ", "RolledBack: ")), ends  # the second, where it hears that the island may join again
    assert ends[0].startswith(("Lost: ", "RolledBack: ", "Refused: ")), ends


def waiting(diary: Diary, rank: int, world: int) -> None:
    """Collectives are mistura's alone: who waits for a silent host waits in them."""
    model = Parallel(rank, world)
    with mistura.join(model, None, name="one", rate="own", own_data=True, layout=layout(rank), data_parallel=(0, 1)) as island:
        diary.note(child=island._process._child.pid)
        while not island.done:
            island.step(1.0, tokens=ROWS)
            diary.note(loss=1.0)


def test_a_host_that_falls_silent_is_not_waited_for(tmp_path: Path) -> None:
    """Nothing on it runs any more and no connection ends, as when it has lost its power: the other host's rank hears why in time."""
    with coordinator(tmp_path, 10**6 * ROWS, ["one"], heartbeat=2) as served:
        ranks = Hosts(tmp_path / "one", waiting, served.environment("one"), HERE)
        child = ranks.wait_for(1, "child")
        ranks.wait_for(0, "loss", 20)
        for process in (child, ranks.processes[1].pid):
            os.kill(process, signal.SIGSTOP)
        try:
            end = ranks.wait_for(0, "end")
        finally:
            for process in (child, ranks.processes[1].pid):
                os.kill(process, signal.SIGKILL)
        ranks.end()
    assert end.startswith(("Lost: ", "RolledBack: ")) and "host 1" in end, end


def test_a_host_that_was_cut_off_comes_back(tmp_path: Path) -> None:
    """The same two processes join again while its way is still cut, by a join string that was good for one start."""
    with coordinator(tmp_path, 400 * ROWS, ["one"]) as served:
        served.join()
        ways = [Way(served.token("--uses", "1")) for _ in range(2)]
        here = FORK.Event()

        def returning(diary: Diary, rank: int, world: int) -> None:
            os.environ["MISTURA_JOIN"] = ways[rank].join
            model = Parallel(rank, world)
            with pytest.raises(mistura.RolledBack) as caught:
                life(mistura.join(model, None, name="one", rate="own", own_data=True, layout=layout(rank), data_parallel=(0, 1)), diary, 20)
            diary.note(words=str(caught.value))
            again = mistura.join(model, None, name="one", rate="own", own_data=True, layout=layout(rank), data_parallel=(0, 1))
            life(again, diary)
            diary.note(incarnation=again.incarnation)

        def life(island: mistura.Island, diary: Diary, hold: int = 0) -> None:
            while not island.done:
                island.step(1.0, tokens=ROWS)
                diary.note(loss=1.0)
                if island.steps == hold:
                    here.wait(PATIENCE_SECONDS)

        ranks = Hosts(tmp_path / "one", returning, served.environment("one"), HERE)
        for rank in range(2):
            ranks.wait_for(rank, "loss", 20)
        ways[1].cut()
        served.await_said("its host 1 is gone")
        here.set()
        ranks.wait_for(1, "words")
        ways[1].mend()
        assert ranks.end() == ["done", "done"], served.said()
        served.finish()
    for diary in ranks.diaries:
        assert "asked to join again: its host 1 " in diary.all("words")[0] and diary.all("incarnation") == [2], diary.read()


def test_two_hosts_that_cover_a_tensor_twice_are_refused(tmp_path: Path) -> None:
    """The island hears which tensor, which element, and which hosts."""

    def wrong(diary: Diary, rank: int, world: int) -> None:
        model = Parallel()
        said = {"up.weight": Split(0, 0, 1), "head.bias": None}
        mistura.join(model, None, name="one", rate="own", own_data=True, data_parallel=(0, 1), layout=lambda n, _: kept(said.get(n), rank))

    with coordinator(tmp_path, STEPS * ROWS, ["one"]) as served:
        ranks = Hosts(tmp_path / "one", wrong, served.environment("one"), HERE)
        ends = ranks.end()
    said = [end for end in ends if "tensor up.weight [12 8]: element [0 0] is in two pieces" in end and "(hosts 0 and 1)" in end]
    assert said and all(end.startswith(("Refused: ", "Lost: ")) for end in ends), ends  # who hears it second may have lost the first before


def kept(split: Split | None, rank: int) -> Split | None:
    """Rank 1 claims to be the original, too."""
    return None if split is None else Split(split.dim, split.index, split.count, replica=0)


@pytest.mark.skipif(bool(missing_namespaces()) and not os.environ.get("CI"), reason=f"needs {missing_namespaces()}")
def test_two_hosts_in_network_namespaces(tmp_path: Path) -> None:
    """Coordinator, two hosts of one island and an island of one rank, each on a network of its own."""
    with machines(4) as places, coordinator(tmp_path, 100 * ROWS, ["one", "two"], places[0][1], places[0][0]) as served:
        hosts: list[tuple[str | None, str]] = [(name, "eth0") for name, _ in places[1:3]]
        begun = together(3)
        one = Hosts(tmp_path / "one", trainer(True, begun=begun), served.environment("one"), hosts)
        two = Lone(tmp_path / "two", trainer(True, "two", begun=begun), served.environment("two"), places[3][0])
        assert one.end() == ["done", "done"], served.said()
        assert two.end() == ["done"], served.said()
        summary = served.finish()
    assert one.diaries[0].all("head.weight") == one.diaries[1].all("head.weight")
    assert len(one.diaries[0].all("loss")) > 0 and len(two.diaries[0].all("loss")) > 0
    assert summary["tokens"] == 100 * ROWS


@pytest.mark.skipif(bool(missing_namespaces()) and not os.environ.get("CI"), reason=f"needs {missing_namespaces()}")
def test_g15_packets_that_are_dropped_on_the_way_are_an_error(tmp_path: Path) -> None:
    """Nobody answers and nobody refuses, as behind a firewall. Within 10 s the words name both ends."""
    with machines(2) as places:
        name, address = places[1]
        nobody = ["10.77.0.99", "lladdr", "02:00:00:00:00:01", "nud", "permanent", "dev", "eth0"]
        subprocess.run(["ip", "-n", name, "neigh", "replace", *nobody], check=True, capture_output=True)
        environment = {**os.environ, "MISTURA_JOIN": f"mistura://10.77.0.99:7070/r?authority={'ab' * 32}&token=t"}
        command = ["ip", "netns", "exec", name, program(), "join"]
        began = time.monotonic()
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
        took = time.monotonic() - began
    assert done.returncode == 2, done.stderr
    assert 'coordinator "10.77.0.99:7070": cannot be reached: ' in done.stderr and "timeout" in done.stderr, done.stderr
    assert (
        f"(asked from {address} on interface eth0)" in done.stderr and "see that the run is there, and that the port is open" in done.stderr
    )
    assert done.stderr.count("\n") == 1, done.stderr
    assert took < 20  # 8 are the program's patience; what is beyond 10 is the start of a process where others keep the machine busy


def _lone(diary: Diary, namespace: str, environment: dict[str, str], body: Any) -> None:
    enter(namespace)
    _rank(diary, 0, 1, "", body, environment)


class Lone(Ranks):
    """One rank in a namespace."""

    def __init__(self, folder: Path, body: Any, environment: dict[str, str], namespace: str) -> None:
        folder.mkdir()
        self.diaries = [Diary(folder / "rank0")]
        self.processes = [FORK.Process(target=_lone, args=(self.diaries[0], namespace, environment, body))]
        self.processes[0].start()
