"""Streaming Gram matrix, for spectra of matrices that do not fit in memory."""

from collections.abc import Sequence

import torch
import torch.distributed as distributed
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.checks import check_floating, check_magnitudes
from rankdeficit.distributed import gather_rows
from rankdeficit.spectrum import (
    GAMMA,
    UNIT_ROUNDOFF,
    Convention,
    Spectrum,
    accumulate_gram,
    centre,
    gram_error,
    spectrum_from_gram,
)

LEAST_GAMMA = 1e-6
"""Smallest rank threshold that a streamed Gram matrix resolves."""

ROWS = 1024
"""Least number of rows that `update` converts to float64 at a time; larger blocks round more."""

COLUMNS = 2**14
"""Columns of kept rows that are converted to float64 at a time."""

BYTES = 8
"""Bytes of a float64 number."""


class Gram:
    """Streaming float64 Gram matrix A^T A of rows that arrive in batches, with a rounding error bound.

    States are additive over batches, processes (`all_reduce`) and machines (`merge`). The order and the
    batch size affect the result by rounding only. Memory is features^2 for any number of rows.
    While there are fewer rows than features, the rows themselves are kept: their spectrum is that of
    the smaller Gram matrix A A^T, and memory that of the rows.
    It is not a covariance: rows are centred only if `spectrum` is given another convention.

    memory: maximum bytes of the matrix or of the kept rows; by default unlimited. If neither fits,
        the state discards its rows, `reason` states why, and it has no spectrum.

    >>> gram = Gram(features=512)
    >>> for features, _ in batches:
    ...     gram.update(features)
    >>> gram.spectrum().rank(1e-3)
    """

    def __init__(
        self,
        features: int,
        *,
        device: torch.device | str | None = None,
        memory: int | None = None,
    ) -> None:
        if features < 1:
            raise ValueError(f"features is {features}; it must be at least 1")
        self.features, self.memory = features, memory
        self.rows = 0
        self.reason: str | None = None
        """Why memory allows no spectrum; None if it does."""
        self._error = torch.zeros((), dtype=torch.float64, device=device)
        self._few: list[Tensor] | None = []
        """All rows, while there are fewer than features; then None."""
        self._gram = torch.zeros((0, 0), dtype=torch.float64, device=device)
        """Upper triangle of A^T A, of no size while rows are kept."""
        self._total = torch.zeros(features, dtype=torch.float64, device=device)
        """Sum of the rows in the matrix."""

    @property
    def matrix(self) -> Float64[Tensor, "{self.features} {self.features}"]:
        """A^T A of all rows so far. Raises ValueError where the memory does not allow it."""
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
        if self.reason is not None:
            return
        if self._few is not None and self._keeps_rows(self.rows, batch.element_size()):
            self._few.append(batch.detach().to(self._error.device, copy=True))
            return
        if not self._has_room():
            self._forget()
            return
        self._sum()
        self._add(batch.detach())

    def _has_room(self) -> bool:
        """Whether the memory holds the matrix."""
        return self.memory is None or BYTES * self.features**2 <= self.memory

    def _keeps_rows(self, rows: int, size: int) -> bool:
        """Whether this many rows, with numbers of `size` bytes, are kept as they are."""
        if rows >= self.features:
            return False
        if self.memory is None or self._has_room():
            return True
        return max(rows * self.features * size, BYTES * rows**2) <= self.memory

    def _forget(self) -> None:
        """Discard all rows: there will be no spectrum."""
        least = BYTES * min(self.features, self.rows) ** 2
        self.reason = (
            f"the spectrum of {self.rows} rows of {self.features} features needs a matrix of "
            f"{least / 2**30:.2g} GiB or the rows themselves, more than the allowed "
            f"{(self.memory or 0) / 2**30:.2g} GiB"
        )
        self._few, self._gram = None, self._gram.new_zeros((0, 0))

    def _add(self, batch: Tensor) -> None:
        """Add rows to the matrix."""
        for block in batch.split(max(self.features, ROWS)):
            rows = block.to(self._gram)
            self._error += gram_error(torch.linalg.vector_norm(rows).square(), rows.shape[0])
            accumulate_gram(self._gram, rows)
            self._total += rows.sum(dim=0)
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
        self._check_remembered()
        if self._few is None:
            return self
        summed = Gram(self.features, device=self._error.device)
        summed._few, summed.rows = list(self._few), self.rows
        summed._sum()
        return summed

    def _check_remembered(self) -> None:
        if self.reason is not None:
            raise ValueError(f"{self.reason}; give more memory, or fewer rows or features")

    def merge(self, other: "Gram") -> "Gram":
        """New state with the rows of both, on this state's device. Raises ValueError for other widths."""
        if other.features != self.features:
            raise ValueError(
                f"other has {other.features} features and this state {self.features}; "
                "merge states with the same number of features"
            )
        merged = Gram(self.features, device=self._error.device, memory=self.memory)
        merged.rows = self.rows + other.rows
        few = None if self._few is None or other._few is None else [*self._few, *other._few]
        if reason := self.reason or other.reason:
            merged._forget()
            merged.reason = reason if self.memory is None else merged.reason
        elif few is not None and merged._keeps_rows(merged.rows, _size(few)):
            merged._few = [own.to(self._error.device) for own in few]
        elif not merged._has_room():
            merged._forget()
        else:
            own, more = self._summed(), other._summed()
            merged._few = None
            merged._gram = own._gram + more._gram.to(own._gram)
            merged._total = own._total + more._total.to(own._total)
            merged._error = own._error + more._error.to(own._error)
            merged._error += UNIT_ROUNDOFF * merged._gram.trace()
        return merged

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Merge the states of all processes of the group, in place on each of them.

        Call it once, after all updates; a second call counts the rows again.
        """
        device, size = self._error.device, _size(self._few or [])
        own = torch.tensor([self.rows, self.reason is not None, self._few is None], device=device)
        together = own.clone()
        distributed.all_reduce(together, group=group)
        largest = torch.tensor(size, device=device)
        distributed.all_reduce(largest, op=distributed.ReduceOp.MAX, group=group)
        self.rows = int(together[0])
        few = not together[2] and not self._has_room() and self._keeps_rows(self.rows, int(largest))
        if together[1] or not (few or self._has_room()):
            self._forget()
            return
        if few:  # the matrix has no room
            rows = torch.cat([torch.zeros(0, self.features, device=device), *(self._few or [])])
            gathered = gather_rows(rows.double() if largest == BYTES else rows.float(), group=group)
            assert gathered is not None
            self._few = [gathered]
            return
        self._sum()
        for value in (self._gram, self._error, self._total):
            distributed.all_reduce(value, group=group)
        additions = distributed.get_world_size(group)
        self._error += additions * UNIT_ROUNDOFF * self._gram.trace()

    def spectrum(self, convention: Convention = "matrix") -> Spectrum:
        """Singular values of all rows so far, descending, with their Weyl intervals.

        convention: of which matrix, as in `rankdeficit.numerical_rank`: "class-centred" subtracts each
            row's mean, "sample-centred" the mean row, and "covariance" has the eigenvalues of the
            covariance (of n rows, not n - 1). The intervals cover the digits that
            large means cost.
        Raises ValueError if there are no rows yet, and where the memory does not allow a spectrum.
        """
        if not self.rows:
            raise ValueError("the Gram state has no rows; call update first")
        self._check_remembered()
        if convention == "covariance":
            found = self.spectrum("sample-centred").squared
            ends = (found.singular_values, found.lower, found.upper)
            return Spectrum(*(own / self.rows for own in ends))
        if self._few is not None:
            return _spectrum_of_few(torch.cat(self._few), convention)
        full = spectrum_from_gram(*self._centred(convention))
        k = min(self.rows, self.features)
        return Spectrum(full.singular_values[:k], full.lower[:k], full.upper[:k])

    def _centred(self, convention: Convention) -> tuple[Tensor, Tensor]:
        """The matrix after centring, as its upper triangle, with the bound on its error."""
        if convention == "matrix":
            return self._gram, self._error
        trace = UNIT_ROUNDOFF * self._gram.trace()
        if convention == "sample-centred":
            mean = self._total / self.rows**0.5
            return self._gram - mean[:, None] * mean, 5 * self._error + 8 * trace
        full = self.matrix
        mean = full.mean(dim=0)
        full -= mean[:, None] + (mean - mean.mean())
        return full, self._error + 4 * (self.features + 4) * trace

    def singular_values(self) -> Float64[Tensor, " k"]:
        """Singular values of all rows so far, descending."""
        return self.spectrum().singular_values

    def rank_interval(self, gamma: float = GAMMA) -> tuple[Int64[Tensor, ""], Int64[Tensor, ""]]:
        """Interval of the numerical rank of all rows so far (Weyl's inequality)."""
        return self.spectrum().rank_interval(gamma)


def _spectrum_of_few(rows: Float[Tensor, "n features"], convention: Convention) -> Spectrum:
    """Spectrum of fewer rows than features, from A A^T, converted to float64 in blocks of columns."""
    n, features = rows.shape
    gram = torch.zeros((n, n), dtype=torch.float64, device=rows.device)
    first, shift = rows[:, :1].double(), torch.zeros(n, 1, dtype=torch.float64, device=rows.device)
    if convention == "class-centred":
        for columns in rows.split(COLUMNS, dim=1):
            shift += (columns.double() - first).sum(dim=1, keepdim=True) / features
    parts = rows.split(COLUMNS, dim=1)
    for columns in parts:
        block = columns.double()
        if convention == "class-centred":
            block = block - first - shift
        elif convention == "sample-centred":
            block = centre(block.mT).mT
        accumulate_gram(gram, block.mT)
    roundings = min(features, COLUMNS) + len(parts)
    if convention != "matrix":
        roundings += 2 * (features if convention == "class-centred" else n)
    return spectrum_from_gram(gram, gram_error(gram.trace(), roundings))


def _size(rows: Sequence[Tensor]) -> int:
    """Bytes of the largest number."""
    return max((own.element_size() for own in rows), default=1)
