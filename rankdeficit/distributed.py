"""Helpers for torch.distributed that also work without a process group."""

from typing import Any

import torch
import torch.distributed as distributed
from jaxtyping import Shaped
from torch import Tensor, nn


def rank_and_size() -> tuple[int, int]:
    """Rank of this process and the number of processes; (0, 1) without a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def gather_rows(
    rows: Shaped[Tensor, "n *shape"],
    destination: int | None = None,
    group: distributed.ProcessGroup | None = None,
) -> Shaped[Tensor, "all *shape"] | None:
    """Concatenate the rows of all processes, in order of rank. The number of rows may differ.

    destination: the only process that receives the result; the others get None [default: all receive it].
    Every process must call it with rows of the same dtype and trailing shape. Without a process group
    the rows are returned unchanged. group: of processes that take part [default: all].
    """
    own, size = rank_and_size()
    size = distributed.get_world_size(group) if size > 1 else size
    if size == 1:
        return rows
    device = torch.device("cuda" if distributed.get_backend(group) == "nccl" else "cpu")
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(size)]
    distributed.all_gather(counts, torch.tensor([len(rows)], device=device), group=group)
    longest = max(int(count) for count in counts)
    padded = torch.zeros((longest, *rows.shape[1:]), dtype=rows.dtype, device=device)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(size)]
    if destination is None:
        distributed.all_gather(parts, padded, group=group)
    else:
        distributed.gather(padded, parts if destination == own else None, destination, group)
    if destination not in (None, own):
        return None
    joined = torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
    return joined.to(rows.device)


def is_first() -> bool:
    """Whether this is process 0, which prints and writes."""
    return rank_and_size()[0] == 0


def from_first(value: Any) -> Any:
    """Broadcast a picklable value from process 0. Every process must call it."""
    box = [value]
    if rank_and_size()[1] > 1:
        distributed.broadcast_object_list(box)
    return box[0]


def raise_together(error: ValueError | None) -> None:
    """Raise in every process the error of the first one that has one. Every process must call it."""
    found: list[ValueError | None] = [error] * rank_and_size()[1]
    if len(found) > 1:
        distributed.all_gather_object(found, error)
    for own in found:
        if own is not None:
            raise own


def buffers_from_first(model: nn.Module) -> None:
    """Broadcast all buffers from process 0, as BatchNorm statistics differ between processes."""
    if rank_and_size()[1] > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
