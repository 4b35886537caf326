"""A mergeable state of features without labels: their number, mean and scatter about it."""

import torch
import torch.distributed as distributed
from jaxtyping import Float, Float64
from torch import Tensor

from rankdeficit.checks import check_at_least, check_floating, check_magnitudes
from rankdeficit.spectrum import accumulate_gram

ROWS = 1024
"""Samples that `update` converts to float64 at a time."""


class Moments:
    """Streaming mean and scatter of features that arrive in batches, in float64.

    Chan, Golub and LeVeque's pairwise formulas, as in `ClassStatistics`: no digits are lost where
    features are tight about a large mean. Memory is features^2, whatever the samples.

    >>> moments = Moments(features=512)
    >>> for features, _ in batches:
    ...     moments.update(features)
    >>> neco = fit_neco(moments, dimension=99)
    """

    def __init__(self, features: int, *, device: torch.device | str | None = None) -> None:
        check_at_least(1, features=features)
        self.features = features
        self.samples = 0
        """Samples seen."""
        self.mean = torch.zeros(features, dtype=torch.float64, device=device)
        self._upper = torch.zeros((features, features), dtype=torch.float64, device=device)

    @property
    def total_scatter(self) -> Float64[Tensor, "{self.features} {self.features}"]:
        """Sum over samples of (h - mean)(h - mean)^T."""
        return self._upper.triu() + self._upper.triu(1).mT

    def update(self, features: Float[Tensor, "n features"]) -> None:
        """Add samples. Raises ValueError, state unchanged, for wrong shapes and non-finite values."""
        check_floating("features", features, dimensions=2)
        if features.ndim != 2 or features.shape[1] != self.features:
            raise ValueError(
                f"features have shape {tuple(features.shape)}; they must be (n, {self.features})"
            )
        check_magnitudes("features", features)
        for block in features.detach().split(ROWS):
            h = block.to(self.mean, copy=True)
            mean = h.mean(dim=0)
            accumulate_gram(self._upper, h.sub_(mean))
            self._add(len(h), mean)

    def merge(self, other: "Moments") -> "Moments":
        """A new state that has seen the samples of both, on this state's device."""
        if other.features != self.features:
            raise ValueError(
                f"other has {other.features} features and this state {self.features}; "
                "they must be the same"
            )
        merged = Moments(self.features, device=self.mean.device)
        for state in (self, other):
            merged._upper += state._upper.to(merged._upper)
            merged._add(state.samples, state.mean.to(merged.mean))
        return merged

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the state on every process of the group by the merge of all of theirs.

        Call it once, when every process has seen its share: a second call counts the samples again.
        """
        world = distributed.get_world_size(group)
        own = torch.cat([self.mean, self.mean.new_tensor([float(self.samples)])])
        parts = [torch.empty_like(own) for _ in range(world)]
        distributed.all_gather(parts, own, group=group)
        distributed.all_reduce(self._upper, group=group)
        self.samples, self.mean = 0, torch.zeros_like(self.mean)
        for part in parts:
            self._add(int(part[-1]), part[:-1])

    def _add(self, samples: int, mean: Tensor) -> None:
        """Merge other samples, whose scatter about their own mean has been added."""
        if samples == 0:
            return
        share = samples / (self.samples + samples)
        step = mean - self.mean
        accumulate_gram(self._upper, (self.samples * share) ** 0.5 * step[None])
        self.mean = self.mean + share * step
        self.samples += samples
