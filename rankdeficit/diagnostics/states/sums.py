"""A base for states of which every tensor is a sum over samples."""

from typing import TypeVar

import torch.distributed as distributed
from torch import Tensor

Own = TypeVar("Own", bound="Sums")


class Sums:
    """A state whose tensor attributes are sums: it merges over batches, processes and machines.

    A subclass makes its tensors in `__init__` and adds to them in `update`:

    >>> class MeanNorm(Sums):
    ...     def __init__(self, width, *, device=None):
    ...         self.norms, self.samples = torch.zeros(2, dtype=torch.float64, device=device)
    ...     def update(self, features):
    ...         self.norms += features.double().norm(dim=1).sum()
    ...         self.samples += len(features)
    """

    def merge(self: Own, other: Own) -> Own:
        """A new state that has seen the samples of both, on this state's device."""
        merged = object.__new__(type(self))
        merged.__dict__ |= self.__dict__
        for name, value in self._tensors():
            added = getattr(other, name)
            if added.shape != value.shape:
                raise ValueError(
                    f"other has {name} of shape {tuple(added.shape)} and this state "
                    f"{tuple(value.shape)}; they must be the same"
                )
            setattr(merged, name, value + added.to(value))
        return merged

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the state on every process of the group by the merge of all of theirs.

        Call it once, when every process has seen its share: a second call counts the samples again.
        """
        for name, value in self._tensors():
            total = value.clone()
            distributed.all_reduce(total, group=group)
            setattr(self, name, total)

    def _tensors(self) -> list[tuple[str, Tensor]]:
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Tensor)]
