"""Streaming Gram matrix, for spectra of matrices that do not fit in memory."""

import torch
import torch.distributed as distributed
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.checks import check_floating, check_magnitudes
from rankdeficit.spectrum import (
    GAMMA,
    UNIT_ROUNDOFF,
    Spectrum,
    accumulate_gram,
    gram_error,
    spectrum_from_gram,
)

LEAST_GAMMA = 1e-6
"""Smallest rank threshold that a streamed Gram matrix resolves."""

ROWS = 1024
"""Least number of rows that `update` converts to float64 at a time; larger blocks round more."""


class Gram:
    """Streaming float64 Gram matrix A^T A of rows that arrive in batches, with a rounding error bound.

    States are additive over batches, processes (`all_reduce`) and machines (`merge`). The order and the
    batch size affect the result by rounding only. Memory is features^2 for any number of rows.
    It is not a covariance: nothing is centred. For centred logits, update with `centre(logits)`.

    >>> gram = Gram(features=512)
    >>> for features, _ in batches:
    ...     gram.update(features)
    >>> gram.spectrum().rank(1e-3)
    """

    def __init__(self, features: int, *, device: torch.device | str | None = None) -> None:
        if features < 1:
            raise ValueError(f"features is {features}; it must be at least 1")
        self.features = features
        self._upper = torch.zeros((features, features), dtype=torch.float64, device=device)
        self.rows = 0
        self.error = torch.zeros((), dtype=torch.float64, device=device)
        """A-priori bound on the 2-norm of the rounding error of `matrix`."""

    @property
    def matrix(self) -> Float64[Tensor, "{self.features} {self.features}"]:
        """A^T A of all rows so far."""
        return self._upper.triu() + self._upper.triu(1).mT

    def update(self, batch: Float[Tensor, "n features"]) -> None:
        """Add rows.

        Raises ValueError for a wrong shape or non-finite entries, and then leaves the state unchanged.
        """
        check_floating("batch", batch, dimensions=2)
        if batch.ndim != 2 or batch.shape[1] != self.features:
            raise ValueError(
                f"batch has shape {tuple(batch.shape)}; it must be (rows, {self.features})"
            )
        check_magnitudes("batch", batch)
        for block in batch.detach().split(max(self.features, ROWS)):
            rows = block.to(self._upper)
            self.error += gram_error(rows.square().sum(), rows.shape[0])
            accumulate_gram(self._upper, rows)
            self.error += UNIT_ROUNDOFF * self._upper.trace()
        self.rows += batch.shape[0]

    def merge(self, other: "Gram") -> "Gram":
        """New state with the rows of both, on this state's device. Raises ValueError for other widths."""
        if other.features != self.features:
            raise ValueError(
                f"other has {other.features} features and this state {self.features}; "
                "merge states with the same number of features"
            )
        merged = Gram(self.features, device=self._upper.device)
        merged._upper = self._upper + other._upper.to(self._upper)
        merged.rows = self.rows + other.rows
        merged.error = self.error + other.error.to(self.error)
        merged.error += UNIT_ROUNDOFF * merged._upper.trace()
        return merged

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Merge the states of all processes of the group, in place on each of them.

        Call it once, after all updates; a second call counts the rows again.
        """
        rows = torch.tensor(self.rows, device=self._upper.device)
        for value in (self._upper, self.error, rows):
            distributed.all_reduce(value, group=group)
        self.rows = int(rows)
        additions = distributed.get_world_size(group)
        self.error += additions * UNIT_ROUNDOFF * self._upper.trace()

    def spectrum(self) -> Spectrum:
        """Singular values of all rows so far, descending, with their Weyl intervals.

        Raises ValueError if there are no rows yet.
        """
        if not self.rows:
            raise ValueError("the Gram state has no rows; call update first")
        full = spectrum_from_gram(self._upper, self.error)
        k = min(self.rows, self.features)
        return Spectrum(full.singular_values[:k], full.lower[:k], full.upper[:k])

    def singular_values(self) -> Float64[Tensor, " k"]:
        """Singular values of all rows so far, descending."""
        return self.spectrum().singular_values

    def rank_interval(self, gamma: float = GAMMA) -> tuple[Int64[Tensor, ""], Int64[Tensor, ""]]:
        """Interval of the numerical rank of all rows so far (Weyl's inequality)."""
        return self.spectrum().rank_interval(gamma)
