"""A mergeable state of labelled features: counts and means per class, and the scatter within classes."""

import torch
import torch.distributed as distributed
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.checks import check_at_least, check_floating, check_magnitudes
from rankdeficit.spectrum import accumulate_gram

BYTES = 8
"""Bytes of a float64 number."""

ROWS = 2048
"""Samples that `update` converts to float64 at a time, at least."""


class ClassStatistics:
    """Streaming class means and within-class scatter of features that arrive in labelled batches.

    States add up: over batches, over processes (`all_reduce`) and over machines (`merge`). Means and
    scatter are updated by Chan, Golub and LeVeque's pairwise formulas in float64, which lose no
    digits where the classes are much tighter than their means are large, as in collapsed networks.
    Memory is features^2 + classes x features, whatever the samples.

    memory: maximum bytes of the scatter matrix; by default unlimited. For wider features only the means
        and the distances to them are computed.

    >>> statistics = ClassStatistics(features=512, classes=10)
    >>> for features, labels in batches:
    ...     statistics.update(features, labels)
    >>> neural_collapse(statistics)
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        device: torch.device | str | None = None,
        memory: int | None = None,
    ) -> None:
        check_at_least(1, features=features)
        check_at_least(2, classes=classes)
        self.features, self.classes = features, classes
        self.counts: Int64[Tensor, " classes"] = torch.zeros(
            classes, dtype=torch.int64, device=device
        )
        """Samples of each class."""
        self.means = torch.zeros((classes, features), dtype=torch.float64, device=device)
        """Mean of each class; zero for a class without samples."""
        self.has_scatter = memory is None or BYTES * features**2 <= memory
        side = features if self.has_scatter else 0
        self._upper = torch.zeros((side, side), dtype=torch.float64, device=device)
        self.squares = torch.zeros(classes, dtype=torch.float64, device=device)
        """Sum over the samples of each class of ||h - mean of its class||^2."""

    @property
    def samples(self) -> int:
        """Samples seen."""
        return int(self.counts.sum())

    @property
    def scatter(self) -> Float64[Tensor, "{self.features} {self.features}"]:
        """Sum over samples of (h - mean of its class)(h - mean of its class)^T.

        Raises ValueError where the memory does not allow it.
        """
        if not self.has_scatter:
            size = BYTES * self.features**2 / 2**30
            raise ValueError(
                f"the scatter of {self.features} features needs {size:.2g} GiB, more than the allowed "
                "memory; give more memory or fewer features"
            )
        return self._upper.triu() + self._upper.triu(1).mT

    @scatter.setter
    def scatter(self, scatter: Float64[Tensor, "{self.features} {self.features}"]) -> None:
        self._upper = scatter.triu()

    @property
    def mean(self) -> Float64[Tensor, "{self.features}"]:
        """Mean of all samples. Raises ValueError before the first."""
        if not self.samples:
            raise ValueError("the statistics have seen no samples; call update first")
        return self.counts.double() @ self.means / self.samples

    @property
    def total_scatter(self) -> Float64[Tensor, "{self.features} {self.features}"]:
        """Sum over samples of (h - mean of all)(h - mean of all)^T: scatter within plus between."""
        steps = self.counts.double().sqrt()[:, None] * (self.means - self.mean)
        return self.scatter + steps.mT @ steps

    def update(self, features: Float[Tensor, "n features"], labels: Int64[Tensor, " n"]) -> None:
        """Add samples. Raises ValueError, state unchanged, for bad shapes, labels or values."""
        self._check(features, labels)
        labels = labels.to(self.counts.device)
        rows = max(ROWS, self.features) if self.has_scatter else ROWS
        for part, own in zip(features.detach().split(rows), labels.split(rows), strict=True):
            self._update(part.to(self.means, copy=True), own)

    def merge(self, other: "ClassStatistics") -> "ClassStatistics":
        """A new state that has seen the samples of both, on this state's device."""
        if (other.features, other.classes) != (self.features, self.classes):
            raise ValueError(
                f"other has {other.features} features and {other.classes} classes, this state "
                f"{self.features} and {self.classes}; they must be the same"
            )
        both = self.has_scatter and other.has_scatter
        merged = ClassStatistics(
            self.features, self.classes, device=self.means.device, memory=None if both else 0
        )
        for state in (self, other):
            if both:
                merged._upper += state._upper.to(merged._upper)
            merged._add(
                state.counts.to(merged.counts),
                state.means.to(merged.means),
                state.squares.to(merged.squares),
            )
        return merged

    def on(self, device: torch.device | str) -> "ClassStatistics":
        """A copy on another device."""
        memory = None if self.has_scatter else 0
        return ClassStatistics(self.features, self.classes, device=device, memory=memory).merge(
            self
        )

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the state on every process of the group by the merge of all of theirs.

        Call it once, when every process has seen its share: a second call counts the samples again.
        """
        world = distributed.get_world_size(group)
        gathered = []
        for value in (self.counts, self.means, self.squares):
            parts = [torch.empty_like(value) for _ in range(world)]
            distributed.all_gather(parts, value.contiguous(), group=group)
            gathered.append(parts)
            value.zero_()
        distributed.all_reduce(self._upper, group=group)
        for counts, means, squares in zip(*gathered, strict=True):
            self._add(counts, means, squares)

    def _update(self, h: Tensor, labels: Tensor) -> None:
        """Add samples whose features may be overwritten."""
        counts = torch.bincount(labels, minlength=self.classes)
        means = _class_sums(h, labels, counts) / counts.clamp(min=1)[:, None]
        h -= means[labels]
        distances = torch.linalg.vector_norm(h, dim=1)
        squares = torch.bincount(labels, distances.square(), minlength=self.classes)
        self._scatter(h)
        self._add(counts, means, squares)

    def _add(self, counts: Tensor, means: Tensor, squares: Tensor) -> None:
        """Merge other samples, whose scatter has been added, given by the rest of their state."""
        total = self.counts + counts
        share = counts.double() / total.clamp(min=1)
        steps = means - self.means
        weights = self.counts * share  # n_a n_b / (n_a + n_b)
        self._scatter((weights.sqrt()[:, None] * steps)[weights > 0])
        self.squares += squares + weights * steps.square().sum(dim=1)
        self.means += share[:, None] * steps
        self.counts += counts

    def _scatter(self, deviations: Tensor) -> None:
        """Add the products of rows to the scatter, where there is one."""
        if self.has_scatter:
            accumulate_gram(self._upper, deviations)

    def _check(self, features: Tensor, labels: Tensor) -> None:
        check_floating("features", features, dimensions=2)
        if features.ndim != 2 or features.shape[1] != self.features:
            raise ValueError(
                f"features have shape {tuple(features.shape)}; they must be (n, {self.features})"
            )
        check_magnitudes("features", features)
        if labels.shape != features.shape[:1] or labels.dtype != torch.int64:
            raise ValueError(
                f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; they must be "
                f"{features.shape[0]} class indices (torch.int64)"
            )
        if bool(((labels < 0) | (labels >= self.classes)).any()):
            raise ValueError(
                f"labels lie in {int(labels.min())}..{int(labels.max())}; they must lie in "
                f"0..{self.classes - 1}"
            )


def _class_sums(h: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Sum of the rows of each class."""
    order = labels.argsort(stable=True)
    starts = counts.cumsum(dim=0) - counts
    return torch.nn.functional.embedding_bag(order, h, starts, mode="sum")
