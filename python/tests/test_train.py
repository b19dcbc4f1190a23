"""Torch islands in real runs: `mistura train` starts them, and they train beside native ones, alone, and over several ranks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from served import Open, program

PATIENCE_SECONDS = 240
TEXT = Path(__file__).resolve().parents[2] / "docs"
SMALL = (
    f"data: {{paths: [{TEXT}], valid_share: 0.2}}\nmodel: {{preset: ling-tiny}}\ntrain: {{peak_rate: 0.01}}\n"
    "eval: {every_tokens: 0, final_sequences: 40}\ncheckpoint: {every_tokens: 0}\n"
)


def train(folder: Path, run_file: str, code: int = 0, **variables: str) -> tuple[dict, str]:
    """A run to its end: the summary, and what it said."""
    (folder / "run.yaml").write_text(run_file, encoding="utf-8")
    command = [program(), "train", str(folder / "run.yaml"), "--out", str(folder / "run"), "--json"]
    env = {**os.environ, "MISTURA_PYTHON": sys.executable, **variables}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=env, check=False)
    logs = "".join(f.read_text(encoding="utf-8") for f in sorted((folder / "run").glob("logs/*.log")))
    assert done.returncode == code, done.stderr + logs
    return json.loads(done.stdout) if done.stdout else {}, done.stderr + logs


def loss(folder: Path, islands: str, head: str = SMALL, tokens: str = "12k") -> float:
    """The final validation loss of a run in a folder of its own."""
    folder.mkdir()
    summary, said = train(folder, f"tokens: {tokens}\n{head}islands: {islands}\n")
    assert summary["outcome"] == "finished", said
    assert all(i["restarts"] == 0 and i["refused"] == 0 and i["dropped"] == 0 for i in summary["islands"]), said
    return summary["valid_loss"]


def test_native_and_torch_islands_train_one_model(tmp_path: Path) -> None:
    """The native island is so slow that, alone, it would take half a minute, in which the other one's Python is there."""
    summary, said = train(tmp_path, f"tokens: 60k\n{SMALL}islands: [{{name: n, pace: 0.02}}, {{name: t, engine: torch, threads: 1}}]\n")
    shares = {i["name"]: i["share"] for i in summary["islands"]}
    assert summary["outcome"] == "finished" and shares["t"] > 0.05 and shares["n"] > 0.05, said
    assert summary["valid_loss"] < 4.5 and summary["refused"] == 0 and summary["skipped_samples"] == [], said
    assert all(i["expert_load"] is not None for i in summary["islands"])


def test_alone_it_comes_to_the_native_engines_loss(tmp_path: Path) -> None:
    """The same samples in the same order, the same rate: only rounding differs, and so few steps do not spread it far."""
    want = loss(tmp_path / "native", "[{name: a}]")
    assert loss(tmp_path / "one", "[{name: a, engine: torch, threads: 1}]") == pytest.approx(want, abs=2e-3)
    assert loss(tmp_path / "two", "[{name: a, engine: torch, threads: 2, ranks: 2, recompute: true}]") == pytest.approx(want, abs=2e-3)
    assert loss(tmp_path / "bf16", "[{name: a, engine: torch, threads: 1, precision: bf16}]") == pytest.approx(want, abs=0.1)


def test_everything_of_a_router_is_trained_as_natively(tmp_path: Path) -> None:
    """Bias, groups and a warm-up whose noise both draw from one stream; state goes through the exchange too."""
    model = (
        "model: {preset: ling-tiny, router: sigmoid, router_bias: true, bias_rate: 0.001, experts: 6, expert_groups: 3, top_groups: 2,"
        " routing_warmup_tokens: 8000, routing_warmup_window: 8, qk_norm: true, tied_embeddings: true}\n"
    )
    head = SMALL.replace("model: {preset: ling-tiny}\n", model)
    want = loss(tmp_path / "native", "[{name: a}]", head)
    assert loss(tmp_path / "torch", "[{name: a, engine: torch, threads: 1}]", head) == pytest.approx(want, abs=5e-3)


def test_it_joins_a_run_on_another_host(tmp_path: Path) -> None:
    """`python -m mistura.train` with a join string in a file: it asks what the run's model is, and its mistura process reads the text."""
    with Open(tmp_path / "served", f"tokens: 12k\n{SMALL}") as served:
        (tmp_path / "join.txt").write_text(served.join() + "\n", encoding="utf-8")
        env = {
            **os.environ,
            **served.environment("far"),
            "PYTHONPATH": str(TEXT.parent / "python"),
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
        }
        del env["MISTURA_JOIN"]
        command = [sys.executable, "-m", "mistura.train", "--join", str(tmp_path / "join.txt"), "--threads", "1", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=env, check=False)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        summary = served.finish()
    assert said["island"] == "far" and said["steps"] == 24 and said["skipped_steps"] == 0 and said["loss"] < 5.6
    assert summary["tokens"] == said["tokens"] == 24 * 512


def test_it_joins_again_when_the_run_goes_on_without_it(tmp_path: Path) -> None:
    """Stopped for longer than the run waits, it is taken for dead, hears so when it goes on, and trains the rest."""
    text = f"tokens: 12k\n{SMALL}limits: {{heartbeat_seconds: 2, stall_seconds: 2}}\nislands: [{{name: far, pace: 0.1}}]\n"
    with Open(tmp_path / "served", text) as served:
        env = {**os.environ, **served.environment("far"), "PYTHONPATH": str(TEXT.parent / "python")}
        command = [sys.executable, "-m", "mistura.train", "--threads", "1"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as learner:
            served._await(lambda: served.steps("far") > 0, "step of island far")
            learner.send_signal(signal.SIGSTOP)
            served.await_said("no inner step for")
            learner.send_signal(signal.SIGCONT)
            _, said = learner.communicate(timeout=PATIENCE_SECONDS)
        summary = served.finish()
    assert learner.returncode == 0 and ": joins again\n" in said, said
    assert summary["outcome"] == "finished" and summary["islands"][0]["restarts"] == 1, summary


STALLS = """
import os, sys
import mistura.train as t

real, asked = t.rows, []
def stalls(island, samples):
    asked.append(samples)
    if len(asked) == 4 and os.environ["RANK"] == "0":
        assert island._link.ended(200) is not None
    return real(island, samples)
t.rows = stalls
sys.exit(t.main(["--threads", "1"]))
"""


def test_ranks_join_again_together_when_one_has_held_up_the_others(tmp_path: Path) -> None:
    """One hears that the island was taken for dead where it reads its samples; the other has read them, and waits for it."""
    text = f"tokens: 12k\n{SMALL}limits: {{heartbeat_seconds: 3, stall_seconds: 3, stall_factor: 2}}\nislands: [{{name: pair}}]\n"
    (tmp_path / "stalls.py").write_text(STALLS, encoding="utf-8")
    with Open(tmp_path / "served", text) as served:
        env = {**os.environ, **served.environment("pair"), "PYTHONPATH": str(TEXT.parent / "python")}
        command = [sys.executable, str(TEXT.parent / "python" / "mistura" / "ranks.py"), "2", str(tmp_path / "stalls.py")]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env) as ranks:
            try:
                _, said = ranks.communicate(timeout=PATIENCE_SECONDS)
            finally:
                ranks.terminate()
        summary = served.finish()
    assert ranks.returncode == 0 and said.count(": joins again\n") == 2, said
    assert summary["outcome"] == "finished" and summary["islands"][0]["restarts"] == 1, summary


def test_the_example_runs(tmp_path: Path) -> None:
    """As its first lines say, with fewer tokens."""
    example = TEXT.parent / "examples" / "native-torch" / "run.yaml"
    command = [program(), "train", str(example), "--data", str(TEXT), "--tokens", "20k", "--out", str(tmp_path / "run"), "--json"]
    env = {**os.environ, "MISTURA_PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=env, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["outcome"] == "finished" and [i["name"] for i in summary["islands"]] == ["native", "torch"], done.stderr


def test_what_is_missing_is_said_before_anything_starts(tmp_path: Path) -> None:
    """A machine without PyTorch, and a device that is not there: exit code 2, one line, no run folder."""
    bare = tmp_path / "python3"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    islands = "islands: [{name: n}, {name: t, engine: torch%s}]\n"
    _, said = train(tmp_path, f"tokens: 30k\n{SMALL}{islands % ''}", code=2, MISTURA_PYTHON=str(bare), PYTHONPATH="")
    assert f'island t "torch": {bare}' in said and f"install it by: {bare} -m pip install torch numpy" in said
    _, said = train(tmp_path, f"tokens: 30k\n{SMALL}{islands % ', device: musa'}", code=2)
    assert 'island t device "musa": torch_musa is not installed' in said
    assert not (tmp_path / "run" / "run.yaml").exists()


def test_the_join_string_stays_off_the_command_line() -> None:
    command = [sys.executable, "-m", "mistura.train", "--join", "mistura://host:1/run?secret=x"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, env=env, check=False)
    assert done.returncode == 2 and "secret would be on the command line" in done.stderr and "secret=x" not in done.stderr
