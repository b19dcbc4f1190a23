"""DTensor parameters: FSDP2's fully_shard and tensor parallelism that PyTorch itself distributes.

Which box a rank holds follows from the placements alone, in the order of the mesh's dimensions: Shard(d) cuts what is left of
dimension d as torch.chunk does. FSDP2 over tensor parallelism is marked _StridedShard: its mesh dimension comes first and its
cut last.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..layout import Held, Piece


def is_dtensor(tensor: Any) -> bool:
    """Without importing what a process may not have."""
    return hasattr(tensor, "placements") and hasattr(tensor, "device_mesh") and hasattr(tensor, "_local_tensor")


def box_of(name: str, tensor: Any) -> tuple[str, tuple[int, ...], list[Held]]:
    """Name, shape of the whole, and the piece of this rank; none when it holds nothing."""
    shape = tuple(tensor.shape)
    offset, extent = [0] * len(shape), list(shape)
    place = tensor.device_mesh.get_coordinate()
    if place is None:
        return name, shape, []
    cuts: list[tuple[str, int, int]] = [(kind(p), getattr(p, "dim", -1), i) for i, p in enumerate(tensor.placements)]
    for word, _, _ in cuts:
        if word not in ("Shard", "_StridedShard", "Replicate"):
            raise InputError(
                f"parameter {name}", word, "is a placement that no parameter has between steps", "see torch.distributed.tensor"
            )
    strided = [c for c in cuts if c[0] == "_StridedShard"]
    if len({d for _, d, _ in strided}) != len(strided):
        raise InputError(f"parameter {name}", list(tensor.placements), "is cut twice with strides", "give layout= or adapter=")
    for _, dim, i in [c for c in cuts if c[0] == "Shard"] + strided:
        count, index = tensor.device_mesh.size(i), place[i]
        step = -(-extent[dim] // count)  # torch.chunk: parts of equal size, the last ones smaller or empty
        first = min(index * step, extent[dim])
        offset[dim] += first
        extent[dim] = min(step, extent[dim] - first)
    mine = tuple(tensor._local_tensor.shape)
    if 0 in extent and 0 in mine:
        return name, shape, []
    if mine != tuple(extent):
        raise InputError(
            f"parameter {name}", list(mine), f"its placements {tensor.placements} give {extent} here", "give layout= or adapter="
        )
    return name, shape, [Held(Piece(name, tuple(offset), mine, None, shape), (0,) * len(mine), mine)]


def kind(placement: Any) -> str:
    """The placement's class; private ones count by name."""
    return type(placement).__name__


def laid_out(parameter: Any) -> None:
    """Lay a gradient out as its parameter is: one that is still a sum over ranks (Partial) is summed. All ranks of the mesh call it."""
    grad = parameter.grad
    if is_dtensor(grad) and is_dtensor(parameter) and tuple(grad.placements) != tuple(parameter.placements):
        parameter.grad = grad.redistribute(placements=parameter.placements)
