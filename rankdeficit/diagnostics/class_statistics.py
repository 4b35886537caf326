"""A mergeable state of labelled features: counts and means per class, and the scatter within classes."""

import torch
import torch.distributed as distributed
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.checks import check_at_least, check_floating, check_magnitudes


class ClassStatistics:
    """Streaming class means and within-class scatter of features that arrive in labelled batches.

    States add up: over batches, over processes (`all_reduce`) and over machines (`merge`). Means and
    scatter are updated by Chan, Golub and LeVeque's pairwise formulas in float64, which lose no
    digits where the classes are much tighter than their means are large, as in collapsed networks.
    Memory is features^2 + classes x features, whatever the samples.

    >>> statistics = ClassStatistics(features=512, classes=10)
    >>> for features, labels in batches:
    ...     statistics.update(features, labels)
    >>> neural_collapse(statistics)
    """

    def __init__(
        self, features: int, classes: int, *, device: torch.device | str | None = None
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
        self.scatter = torch.zeros((features, features), dtype=torch.float64, device=device)
        """Sum over samples of (h - mean of its class)(h - mean of its class)^T."""
        self.squares = torch.zeros(classes, dtype=torch.float64, device=device)
        """Sum over the samples of each class of ||h - mean of its class||^2."""

    @property
    def samples(self) -> int:
        """Samples seen."""
        return int(self.counts.sum())

    def update(self, features: Float[Tensor, "n features"], labels: Int64[Tensor, " n"]) -> None:
        """Add samples. Raises ValueError, state unchanged, for bad shapes, labels or values."""
        self._check(features, labels)
        h, labels = features.detach().to(self.means), labels.to(self.counts.device)
        counts = torch.bincount(labels, minlength=self.classes)
        sums = torch.zeros_like(self.means).index_add_(0, labels, h)
        means = sums / counts.clamp(min=1)[:, None]
        deviations = h - means[labels]
        squares = torch.zeros_like(self.squares)
        squares.index_add_(0, labels, deviations.square().sum(dim=1))
        self._add(counts, means, deviations.mT @ deviations, squares)

    def merge(self, other: "ClassStatistics") -> "ClassStatistics":
        """A new state that has seen the samples of both, on this state's device."""
        if (other.features, other.classes) != (self.features, self.classes):
            raise ValueError(
                f"other has {other.features} features and {other.classes} classes, this state "
                f"{self.features} and {self.classes}; they must be the same"
            )
        merged = ClassStatistics(self.features, self.classes, device=self.means.device)
        for state in (self, other):
            merged._add(
                state.counts.to(merged.counts),
                state.means.to(merged.means),
                state.scatter.to(merged.scatter),
                state.squares.to(merged.squares),
            )
        return merged

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the state on every process of the group by the merge of all of theirs.

        Call it once, when every process has seen its share: a second call counts the samples again.
        """
        world = distributed.get_world_size(group)
        gathered = []
        for value in (self.counts, self.means, self.scatter, self.squares):
            parts = [torch.empty_like(value) for _ in range(world)]
            distributed.all_gather(parts, value.contiguous(), group=group)
            gathered.append(parts)
        for value in (self.counts, self.means, self.scatter, self.squares):
            value.zero_()
        for counts, means, scatter, squares in zip(*gathered, strict=True):
            self._add(counts, means, scatter, squares)

    def _add(self, counts: Tensor, means: Tensor, scatter: Tensor, squares: Tensor) -> None:
        """Merge another set of samples, given by its counts, means and sums of squares."""
        total = self.counts + counts
        share = counts.double() / total.clamp(min=1)
        steps = means - self.means
        weights = self.counts * share  # n_a n_b / (n_a + n_b)
        self.scatter += scatter + (steps * weights[:, None]).mT @ steps
        self.squares += squares + weights * steps.square().sum(dim=1)
        self.means += share[:, None] * steps
        self.counts += counts

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
