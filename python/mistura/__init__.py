"""Join a mistura run from a PyTorch trainer.

    island = mistura.join(model, optimizer)
    for batch in island.batches(loader):
        loss = train_step(batch)
        island.step(loss, tokens=batch.numel())

Needs torch and numpy. The network, encoding and leases are the business of a `mistura` process on the same host, which
join() finds or starts; this package copies weights into shared memory, adds what comes back, and asks what to do.
"""

from . import needs, openmp  # noqa: F401 (before torch)
from .errors import Error, InputError, Interrupted, Lost, Refused, RolledBack
from .gate import Answer, Probe, Question
from .island import Island, Verdict
from .join import join
from .version import VERSION

__all__ = [
    "Answer", "Error", "InputError", "Interrupted", "Island", "Lost", "Probe", "Question", "Refused", "RolledBack", "Verdict", "join",
]  # fmt: skip

__version__ = VERSION
