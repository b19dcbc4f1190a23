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
data: {{paths: [{TEXT}], valid_share: 0.2}}
model: {{preset: ling-tiny}}
train: {{peak_rate: 0.005, warmup_tokens: 2k, decay_tokens: 0}}
eval: {{every_tokens: 0, final_sequences: 40}}
checkpoint: {{every_tokens: 0}}
islands: [{{name: a}}]
"""
TWO = "islands: [{name: a, engine: torch, ranks: 2, threads: 1}]\n"
THREE = "islands: [{name: a, engine: torch, ranks: 3, threads: 1}]\n"
NATIVE = "islands: [{name: a}]\n"


def live(folder: Path, tokens: str, *arguments: str) -> tuple[str, float]:
    """The run until so many tokens: what it said, and its validation loss."""
    command = [program(), "train", "--json", "--tokens", tokens, *arguments]
    env = {**os.environ, "MISTURA_PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_SECONDS, cwd=folder, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr, json.loads(done.stdout)["valid_loss"]


def lives(folder: Path, *islands: str) -> tuple[list[str], list[float], list[dict[str, str]]]:
    """A run that goes on with the islands that are named: what each life said, its loss, and the digests that it saved."""
    folder.mkdir()
    (folder / "run.yaml").write_text(RUN, encoding="utf-8")
    texts, losses, saved = [], [], []
    for life, listed in enumerate(islands):
        (folder / f"{life}.yaml").write_text(listed, encoding="utf-8")
        beginning = ["run.yaml", "--out", "run"] if life == 0 else ["--resume", "run", f"{life}.yaml"]
        text, loss = live(folder, f"{20 * (life + 1)}k", *beginning)
        texts.append(text)
        losses.append(loss)
        saved.append(saved_slots(folder))
    return texts, losses, saved


def saved_slots(folder: Path) -> dict[str, str]:
    """The digests of island a's weights and moments in the newest checkpoint."""
    newest = max(folder.glob("run/checkpoints/*/manifest.json"))
    return {s["slot"]: s["sha256"] for s in json.loads(newest.read_text(encoding="utf-8"))["meta"]["islands"]["a"]["slots"]}


def same(slots: dict[str, str]) -> str:
    told = ", ".join(f"{slot} {slots[slot][:12]}" for slot in ("weights", "moment1", "moment2"))
    return "gathered anew, its state is the saved one: " + told


def test_native_to_torch_and_back(tmp_path: Path) -> None:
    """Native, two ranks, three ranks, native: each life begins with the digests that the one before has saved, says so on one line,
    and the loss goes on as it does when nothing is moved, but for rounding.
    """
    homes = [(NATIVE, "native"), (TWO, "torch on cpu, 2 ranks"), (THREE, "torch on cpu, 3 ranks"), (NATIVE, "native")]
    texts, losses, saved = lives(tmp_path / "moved", *(listed for listed, _ in homes))
    for life in range(1, len(homes)):
        before, now, text = homes[life - 1][1], homes[life][1], texts[life]
        assert f"layout: a: {before} → a: {now}\n" in text, text
        assert f"island a: {before} → {now}; {same(saved[life - 1])}\n" in text, text
    _, unmoved, _ = lives(tmp_path / "unmoved", *[NATIVE] * len(homes))
    assert losses == sorted(losses, reverse=True)
    assert losses == pytest.approx(unmoved, abs=5e-3)
