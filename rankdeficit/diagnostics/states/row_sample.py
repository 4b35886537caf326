"""A subset of rows that fits in memory: those of the samples with the smallest keys."""

import math

import torch
import torch.distributed as distributed
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.distributed import gather_rows

BYTES = 8
"""Bytes of a float64 number."""

COPIES = 4
"""Copies of the rows in float64 that exist while their span is computed."""

SLACK = 1.25
"""Maximum rows in memory over the rows that are kept: choosing among them costs a copy."""


class RowSample:
    """Up to `most` rows, those of the samples with the smallest keys, whatever the order of the samples.

    most: maximum number of rows; those of one sample are always kept. All samples have equally many rows.
    """

    def __init__(self, width: int, most: int, *, device: torch.device | str | None = None) -> None:
        self._most, self._last = most, torch.iinfo(torch.int64).max
        self._rows = [torch.zeros(0, width, device=device)]
        self._keys = [torch.zeros(0, dtype=torch.int64, device=device)]
        self.seen = 0
        """Number of rows of all samples, kept or not."""

    def update(self, rows: Float[Tensor, "rows width"], keys: Int64[Tensor, " n"]) -> None:
        """Add rows, equally many of each sample."""
        self.seen += len(rows)
        self._append(rows, keys)
        if sum(map(len, self._rows)) > SLACK * self._most:
            self._thin()

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the subset on every process of the group by that of the rows of all processes."""
        rows, keys = torch.cat(self._rows), torch.cat(self._keys)
        size = torch.tensor(rows.element_size(), device=rows.device)
        distributed.all_reduce(size, op=distributed.ReduceOp.MAX, group=group)
        seen = torch.tensor(self.seen, device=rows.device)
        distributed.all_reduce(seen, group=group)
        same = rows.to(torch.float64 if int(size) == BYTES else torch.float32)
        all_rows, all_keys = gather_rows(same, group=group), gather_rows(keys, group=group)
        assert all_rows is not None
        assert all_keys is not None
        self._rows, self._keys, self.seen = [all_rows], [all_keys], int(seen)
        self._thin()

    def kept(self) -> tuple[Float[Tensor, "rows width"], Int64[Tensor, " n"]]:
        """The rows, and the keys of their samples."""
        self._thin()
        return self._rows[0], self._keys[0]

    def _append(self, rows: Tensor, keys: Tensor) -> None:
        chosen = keys <= self._last
        if bool(chosen.any()):
            own = rows[chosen.repeat_interleave(len(rows) // len(keys)).to(rows.device)]
            self._rows.append(own.to(self._rows[0].device, copy=True))
            self._keys.append(keys[chosen].to(self._rows[0].device))

    def _thin(self) -> None:
        """Concatenate all rows and keep those of the samples with the smallest keys."""
        rows, keys = torch.cat(self._rows), torch.cat(self._keys)
        if len(rows) > self._most:
            each = len(rows) // len(keys)
            chosen = keys.argsort(stable=True)[: max(1, self._most // each)]
            rows, keys = rows.unflatten(0, (-1, each))[chosen].flatten(0, 1), keys[chosen]
            self._last = int(keys[-1])
        self._rows, self._keys = [rows], [keys]


def most_rows(width: int, groups: int, memory: int) -> int | None:
    """Number of rows kept if the matrices exceed the memory; None if the matrices fit."""
    if BYTES * groups * width**2 <= memory:
        return None
    return max(1, min(memory // (COPIES * BYTES * width), math.isqrt(memory // (BYTES * groups))))
