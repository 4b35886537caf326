"""Parts of a data set, defined by the content of the samples, and predictions of networks on them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor, nn

from rankdeficit.control.compression.early import Early
from rankdeficit.diagnostics.reading.batches import as_batches, checked_batch
from rankdeficit.diagnostics.reading.inputs import Forward, Inputs
from rankdeficit.diagnostics.reading.taps import Select, undisturbed

BUCKETS = 2**20
"""Number of buckets of samples; a part of a data set is an interval of buckets."""

MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64
"""Odd number that mixes the bits of keys."""

OnProgress = Callable[[str, int, int], None]
"""Called with the name of the current task, the amount done, and the total (0 if unknown)."""


@dataclass(frozen=True)
class Part:
    """Samples of a data set, selected by a hash of their content, so that every pass has the same ones.

    The order of the samples does not matter, and equal samples belong to the same part. Iteration yields
    checked batches on the device on which the data set gives them.
    """

    source: Iterable[Any]
    name: str
    forward: Forward
    seed: int = 0
    low: float = 0.0
    high: float = 1.0
    """The part holds the samples whose hash, scaled to [0, 1), lies in [low, high)."""

    @classmethod
    def of(cls, source: Any, name: str, model: nn.Module, seed: int) -> "Part":
        """All of a data set or loader. Raises ValueError for an iterator."""
        batches = as_batches(source, name)
        if iter(batches) is batches:
            raise ValueError(
                f"{name} is an iterator, which can be read only once; pass a list of batches or a loader"
            )
        return cls(batches, name, Forward.of(model), seed)

    def split(self, share: float, first: str, second: str) -> tuple["Part", "Part"]:
        """Two parts: about this share of the samples, and the others."""
        middle = self.low + share * (self.high - self.low)
        return (
            replace(self, name=first, high=middle),
            replace(self, name=second, low=middle),
        )

    def __iter__(self) -> Iterator[tuple[Inputs, Int64[Tensor, " n"]]]:
        for batch in self.source:
            inputs, labels = checked_batch(batch, self.name, self.forward)
            if self.low > 0 or self.high < 1:
                rows = self._mine(inputs).nonzero()[:, 0]
                inputs, labels = inputs[rows], labels[rows.to(labels.device)]
            if len(labels):
                yield inputs, labels

    def count(self) -> int:
        """Number of samples, from a pass over the data set."""
        return sum(len(labels) for _, labels in self)

    def _mine(self, inputs: Inputs) -> Bool[Tensor, " n"]:
        mixed = (inputs.keys() + 2 * self.seed + 1) * MULTIPLIER
        places = ((mixed >> 20) % BUCKETS).double() / BUCKETS
        return (places >= self.low) & (places < self.high)


@dataclass(frozen=True)
class Runner:
    """How networks are run on parts: device, precision, choice of the logits, and number of classes."""

    device: torch.device
    dtype: torch.dtype
    select: Select
    classes: int

    def batches(
        self, part: Part, on_batch: Callable[[int], None] | None = None
    ) -> Iterator[tuple[Inputs, Int64[Tensor, " n"]]]:
        """Batches of a part on the device. Raises ValueError for labels outside 0..classes-1."""
        done = 0
        for inputs, labels in part:
            low, high = (int(bound) for bound in labels.aminmax())
            if low < 0 or high >= self.classes:
                raise ValueError(
                    f"{part.name} has labels in {low}..{high}; they must lie in 0..{self.classes - 1}, "
                    "the classes of the model"
                )
            yield inputs.on(self.device, self.dtype), labels.to(self.device)
            done += len(labels)
            if on_batch is not None:
                on_batch(done)

    def logits(self, model: nn.Module, inputs: Inputs) -> Tensor:
        """Logits of a batch that is on the device; a cut network returns nothing else."""
        output = inputs.run(model)
        return output if isinstance(model, Early) else self.select(output)

    @torch.no_grad()
    def correct(self, model: nn.Module, part: Part) -> Bool[Tensor, " n"]:
        """Which samples are classified correctly, in the order of their keys and labels.

        Samples with NaN or infinite logits are wrong. The order is the same for every network.
        """
        keys, targets, hits = [], [], []
        with undisturbed(model):
            for inputs, labels in self.batches(part):
                logits = self.logits(model, inputs)
                keys.append(inputs.keys().cpu())
                targets.append(labels.cpu())
                right = (logits.argmax(dim=1) == labels) & logits.isfinite().all(dim=1)
                hits.append(right.cpu())
        if not keys:
            raise ValueError(
                f"{part.name} has no samples; give some, or a larger set to choose from"
            )
        order = in_order(torch.cat(keys), torch.cat(targets))
        return torch.cat(hits)[order]


def in_order(keys: Int64[Tensor, " n"], labels: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Indices that sort samples by key, and by label among equal keys."""
    first = labels.argsort(stable=True)
    return first[keys[first].argsort(stable=True)]


class Moments:
    """Sums of rows and of their outer products, in float64, relative to the first batch's mean."""

    def __init__(self) -> None:
        self.samples = 0
        self._origin = self._sum = self._products = torch.zeros(0)

    def update(self, rows: Tensor) -> None:
        """Add rows (n, width)."""
        rows = rows.detach().double()
        if not self.samples:
            self._origin = rows.mean(dim=0)
            self._sum = torch.zeros_like(self._origin)
            self._products = self._sum.new_zeros(rows.shape[1], rows.shape[1])
        rows = rows - self._origin
        self._sum += rows.sum(dim=0)
        self._products += rows.mT @ rows
        self.samples += len(rows)

    @property
    def mean(self) -> Float64[Tensor, " width"]:
        """Mean of all rows."""
        return self._origin + self._sum / self.samples

    @property
    def covariance(self) -> Float64[Tensor, "width width"]:
        """Covariance of all rows, divided by n."""
        shift = self._sum / self.samples
        return self._products / self.samples - shift[:, None] * shift
