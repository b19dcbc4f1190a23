"""A training loop of one's own: a small byte model on the Markdown of this repository, plain PyTorch.

The lines that make it an island of a run are marked; without them it trains alone.
"""

import os
from pathlib import Path

import mistura  # 1
import torch

CONTEXT, BATCH = 16, 64

torch.set_num_threads(1)
name = os.environ.get("MISTURA_NAME", "alone")
text = b"".join(p.read_bytes() for p in sorted(Path(__file__).resolve().parents[2].glob("*.md")))
data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
draw = torch.Generator().manual_seed(sum(name.encode()))  # each island reads other places of the text


class Bytes(torch.nn.Module):
    """The next byte from the last CONTEXT ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(256, 32)
        self.hidden = torch.nn.Linear(32 * CONTEXT, 256)
        self.head = torch.nn.Linear(256, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [batch, CONTEXT] bytes → [batch, 256] logits."""
        return self.head(torch.relu(self.hidden(self.embed(x).flatten(1))))


def batches():
    """Without end: x [BATCH, CONTEXT], y [BATCH]."""
    while True:
        at = torch.randint(len(data) - CONTEXT, (BATCH,), generator=draw)
        yield data[at[:, None] + torch.arange(CONTEXT)], data[at + CONTEXT]


model = Bytes()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
island = mistura.join(model, optimizer, rate="own", seed=name == "one", own_data=True)  # 2

for x, y in island.batches(batches()):  # 3
    loss = torch.nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    island.step(loss, tokens=y.numel())  # 4
    if island.steps % 100 == 0:
        print(f"{name}: step {island.steps}, loss {loss.item():.3f}", flush=True)

print(f"{name}: done after {island.steps} steps; the run has trained {island.tokens_seen} tokens", flush=True)
