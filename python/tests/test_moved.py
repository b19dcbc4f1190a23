"""A run moves from the native engine to the reference learner and back: state by its digests, and the loss goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from served import PATIENCE_SECONDS, missing, program

pytestmark = pytest.mark.skipif(bool(missing()) and not os.environ.get("CI"), reason=f"needs {missing()}")

TEXT = Path(__file__).resolve().parents[2] / "docs"
RUN = f"""
gate: off
data: {{paths: [{TEXT}], valid_share: 0.2}}
model: {{preset: ling-tiny}}
train: {{peak_rate: 0.005, warmup_tokens: 2k, decay_tokens: 0}}
eval: {{every_tokens: 0, final_sequences: 40}}
checkpoint: {{every_tokens: 0}}
islands: [{{name: a}}]
"""
TORCH = "islands: [{name: a, engine: torch, ranks: 2, threads: 1}]\n"
NATIVE = "islands: [{name: a}]\n"


def live(folder: Path, tokens: str, *arguments: str) -> tuple[str, float]:
    """The run until so many tokens: what it said, and its validation loss."""
    command = [program(), "train", "--json", "--tokens", tokens, *arguments]
    env = {**os.environ, "MISTURA_PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_SECONDS, cwd=folder, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr, json.loads(done.stdout)["valid_loss"]


def lives(folder: Path, *islands: str) -> tuple[list[str], list[float]]:
    """A run that goes on twice, with the islands that are named: what each life said, and its loss."""
    folder.mkdir()
    (folder / "run.yaml").write_text(RUN, encoding="utf-8")
    texts, losses = [], []
    for life, listed in enumerate(islands):
        (folder / f"{life}.yaml").write_text(listed, encoding="utf-8")
        beginning = ["run.yaml", "--out", "run"] if life == 0 else ["--resume", "run", f"{life}.yaml"]
        text, loss = live(folder, f"{20 * (life + 1)}k", *beginning)
        texts.append(text)
        losses.append(loss)
    return texts, losses


def test_native_to_torch_and_back(tmp_path: Path) -> None:
    """Digests are compared by the run itself, and the loss goes on as it does when nothing is moved, but for rounding."""
    texts, losses = lives(tmp_path / "moved", NATIVE, TORCH, NATIVE)
    assert "layout: a: native → a: torch on cpu, 2 ranks" in texts[1], texts[1]
    assert "island a: native → torch on cpu, 2 ranks; gathered anew, its state is the saved one: weights " in texts[1], texts[1]
    assert "island a: torch on cpu, 2 ranks → native; gathered anew, its state is the saved one: weights " in texts[2], texts[2]
    _, unmoved = lives(tmp_path / "unmoved", NATIVE, NATIVE, NATIVE)
    assert losses[0] > losses[1] > losses[2]
    assert losses == pytest.approx(unmoved, abs=5e-3)
