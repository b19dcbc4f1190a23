"""An island of two ranks under torchrun: DistributedDataParallel with gloo, and samples that the run hands out.

Each rank trains its share of a step's samples. Started without torchrun it is an island of one rank.
"""

import os
from pathlib import Path

import mistura
import torch
import torch.distributed as dist

ROW = 32  # bytes of a sample

torch.set_num_threads(1)
torch.manual_seed(1)
text = b"".join(p.read_bytes() for p in sorted(Path(__file__).resolve().parents[2].glob("*.md")))
rows = torch.frombuffer(bytearray(text[: len(text) // (ROW + 1) * (ROW + 1)]), dtype=torch.uint8).long().view(-1, ROW + 1)

if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    dist.init_process_group("gloo")


class Recurrent(torch.nn.Module):
    """The next byte at every place of a row."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(256, 64)
        self.cell = torch.nn.GRU(64, 96, batch_first=True)
        self.head = torch.nn.Linear(96, 256)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [rows, ROW] bytes → [rows, ROW, 256] logits."""
        return self.head(self.cell(self.embed(x))[0])


model = Recurrent()
replica = torch.nn.parallel.DistributedDataParallel(model) if dist.is_initialized() else model
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

with mistura.join(replica, optimizer, seed=os.environ.get("MISTURA_NAME") == "pair") as island:  # the run sets the rate
    for batch in island.batches(rows):  # [samples of this rank, ROW + 1]
        logits = replica(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        (loss * island.weight()).backward()  # 1 where all ranks have as many samples
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if island.judge(loss, norm):  # one decision for all ranks
            optimizer.step()
        island.step(loss, tokens=batch[:, 1:].numel())
        if island.steps % 25 == 0 and int(os.environ.get("RANK", "0")) == 0:
            print(f"{island.name}: step {island.steps}, loss {loss.item():.3f}, rate {optimizer.param_groups[0]['lr']:.5f}", flush=True)

if dist.is_initialized():
    dist.destroy_process_group()  # else its threads may outlive the process's end and abort it
