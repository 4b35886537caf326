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
    spectrum,
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
    While there are fewer rows than features, the rows themselves are kept: their spectrum is that of
    the smaller Gram matrix A A^T, and memory that of the rows.
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
        self.rows = 0
        self._error = torch.zeros((), dtype=torch.float64, device=device)
        self._few: list[Tensor] | None = []
        """All rows, while there are fewer than features; then None."""
        self._gram = torch.zeros((0, 0), dtype=torch.float64, device=device)
        """Upper triangle of A^T A, of no size while rows are kept."""

    @property
    def matrix(self) -> Float64[Tensor, "{self.features} {self.features}"]:
        """A^T A of all rows so far."""
        upper = self._summed()._gram
        return upper.triu() + upper.triu(1).mT

    @property
    def error(self) -> Float64[Tensor, ""]:
        """A-priori bound on the 2-norm of the rounding error of `matrix`."""
        return self._summed()._error

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
        self.rows += batch.shape[0]
        if self._few is not None and self.rows < self.features:
            self._few.append(batch.detach().to(self._error.device, copy=True))
            return
        self._sum()
        self._add(batch.detach())

    def _add(self, batch: Tensor) -> None:
        """Add rows to the matrix."""
        for block in batch.split(max(self.features, ROWS)):
            rows = block.to(self._gram)
            self._error += gram_error(torch.linalg.vector_norm(rows).square(), rows.shape[0])
            accumulate_gram(self._gram, rows)
            self._error += UNIT_ROUNDOFF * self._gram.trace()

    def _sum(self) -> None:
        """Replace rows that were kept by their matrix."""
        if self._few is not None:
            few, self._few = self._few, None
            self._gram = self._gram.new_zeros((self.features, self.features))
            for batch in few:
                self._add(batch)

    def _summed(self) -> "Gram":
        """The state with its matrix; a copy where rows are kept."""
        if self._few is None:
            return self
        summed = Gram(self.features, device=self._error.device)
        summed._few, summed.rows = list(self._few), self.rows
        summed._sum()
        return summed

    def merge(self, other: "Gram") -> "Gram":
        """New state with the rows of both, on this state's device. Raises ValueError for other widths."""
        if other.features != self.features:
            raise ValueError(
                f"other has {other.features} features and this state {self.features}; "
                "merge states with the same number of features"
            )
        merged = Gram(self.features, device=self._error.device)
        merged.rows = self.rows + other.rows
        if self._few is not None and other._few is not None and merged.rows < self.features:
            merged._few = [*self._few, *(own.to(self._error.device) for own in other._few)]
            return merged
        own, more = self._summed(), other._summed()
        merged._few = None
        merged._gram = own._gram + more._gram.to(own._gram)
        merged._error = own._error + more._error.to(own._error)
        merged._error += UNIT_ROUNDOFF * merged._gram.trace()
        return merged

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Merge the states of all processes of the group, in place on each of them.

        Call it once, after all updates; a second call counts the rows again.
        """
        self._sum()
        rows = torch.tensor(self.rows, device=self._gram.device)
        for value in (self._gram, self._error, rows):
            distributed.all_reduce(value, group=group)
        self.rows = int(rows)
        additions = distributed.get_world_size(group)
        self._error += additions * UNIT_ROUNDOFF * self._gram.trace()

    def spectrum(self) -> Spectrum:
        """Singular values of all rows so far, descending, with their Weyl intervals.

        Raises ValueError if there are no rows yet.
        """
        if not self.rows:
            raise ValueError("the Gram state has no rows; call update first")
        if self._few is not None:
            return spectrum(torch.cat([own.double() for own in self._few]))
        full = spectrum_from_gram(self._gram, self._error)
        k = min(self.rows, self.features)
        return Spectrum(full.singular_values[:k], full.lower[:k], full.upper[:k])

    def singular_values(self) -> Float64[Tensor, " k"]:
        """Singular values of all rows so far, descending."""
        return self.spectrum().singular_values

    def rank_interval(self, gamma: float = GAMMA) -> tuple[Int64[Tensor, ""], Int64[Tensor, ""]]:
        """Interval of the numerical rank of all rows so far (Weyl's inequality)."""
        return self.spectrum().rank_interval(gamma)
