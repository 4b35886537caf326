"""Alignment of a weight matrix with the representations it reads (the paper's Figure 3)."""

from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as distributed
from jaxtyping import Float, Float64, Int64
from scipy.sparse.linalg import eigsh
from torch import Tensor

from rankdeficit.checks import check_finite, check_floating, check_magnitudes
from rankdeficit.diagnostics.states.sampling import scramble
from rankdeficit.spectrum import accumulate_gram

DIRECTIONS = 15
"""Number of top singular directions compared, the paper's choice."""

ROWS = 1024
"""Rows that `update` converts to float64 at a time, at least."""

LEAST_EXPONENT = -1000
"""Of the powers of two that scale rows: that of the other sign is still a float64."""


def alignment(
    weight: Float[Tensor, "*batch out width"],
    inputs: Float[Tensor, "*batch n width"],
    directions: int = DIRECTIONS,
) -> Float64[Tensor, "*batch"]:
    """Largest |cosine| between top right singular vectors of W and top left ones of its input A.

    weight: W, (out, width); inputs: A^T, samples first, (n, width).
    directions: how many top vectors of each are compared, at most; those whose singular value is
        below 1e-6 of the largest are no directions and are left out.
    1 when some pair coincides, 0 when either matrix is zero; two sets of 15 random directions in
    128 dimensions reach about 0.28. Raises ValueError for empty or non-finite matrices.
    """
    if directions < 1:
        raise ValueError(f"directions is {directions}; it must be at least 1")
    for name, matrix in (("weight", weight), ("inputs", inputs)):
        check_floating(name, matrix, dimensions=2)
        check_magnitudes(name, matrix)
    if weight.shape[-1] != inputs.shape[-1] or weight.shape[:-2] != inputs.shape[:-2]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} and inputs {tuple(inputs.shape)}; "
            "their batches and their last dimensions must agree"
        )
    cosines = _top_directions(weight, directions).mT @ _top_directions(inputs, directions)
    return cosines.abs().amax(dim=(-2, -1)).clamp(max=1)


class StreamedAlignment(NamedTuple):
    """Alignment of a layer whose input was streamed."""

    value: float
    """Largest |cosine|, from all rows seen."""
    error: float
    """Half the difference between what two halves of the samples give: about one standard error.

    It tells the spread, not the bias: of fewer samples than about ten per dimension the directions,
    and with them the value, may be off by more.
    """
    rows: int
    """Rows of the input that were used."""


class InputDirections:
    """Streaming Gram matrices of some rows of what a layer reads, from which its alignment is told.

    The rows are a sample of all (patches of a convolution, tokens). Two matrices, one per half of the
    samples, tell the error of that choice. Products and sums are in float64, of rows over a power of two
    that grows with the largest entry: no scale of the rows overflows or underflows. Memory is 2 width^2.
    """

    def __init__(self, width: int, *, device: torch.device | str | None = None) -> None:
        self._halves = torch.zeros((2, width, width), dtype=torch.float64, device=device)
        self._rows = torch.zeros(2, dtype=torch.int64, device=device)
        self._exponent = torch.full((), LEAST_EXPONENT, dtype=torch.int64, device=device)
        """The matrices are those of rows over 2^exponent."""

    def update(self, rows: Float[Tensor, "rows width"], keys: Int64[Tensor, " n"]) -> None:
        """Add rows, equally many of each sample; keys (`sample_keys`) tell the halves apart."""
        check_floating("rows", rows, dimensions=2)
        check_finite("rows", rows)
        rows = rows.detach()
        self._rescale(torch.maximum(self._exponent, _exponent(rows)))
        second = (scramble(keys) & 1).bool().repeat_interleave(len(rows) // len(keys))
        for half, own in enumerate((~second, second)):
            for block in rows[own].split(max(ROWS, rows.shape[1])):
                accumulate_gram(self._halves[half], _times_power(block.double(), -self._exponent))
            self._rows[half] += own.sum()

    def all_reduce(self, group: distributed.ProcessGroup | None = None) -> None:
        """Replace the state on every process of the group by the merge of all of theirs."""
        exponent = self._exponent.clone()
        distributed.all_reduce(exponent, op=distributed.ReduceOp.MAX, group=group)
        self._rescale(exponent)
        for value in (self._halves, self._rows):
            distributed.all_reduce(value, group=group)

    def alignment(
        self,
        weight: Float[Tensor, "out width"],
        directions: int = DIRECTIONS,
        *,
        with_error: bool = True,
    ) -> StreamedAlignment:
        """Alignment of the layer's matrix with the rows seen; its error takes two thirds of the time."""
        weights = _top_directions(weight.detach(), directions)

        def value(upper: Tensor, accuracy: float) -> float:
            square = upper.triu() + upper.triu(1).mT
            inputs = _leading_eigenvectors(square, directions, accuracy).to(weights)
            return float((weights.mT @ inputs).abs().max().clamp(max=1))

        first, second = self._halves
        error = float("nan")
        if with_error and bool((self._rows > 0).all()):
            error = abs(value(first, 1e-3) - value(second, 1e-3)) / 2
        return StreamedAlignment(value(first + second, 1e-10), error, int(self._rows.sum()))

    def _rescale(self, exponent: Int64[Tensor, ""]) -> None:
        """Take a larger power of two, or the same."""
        if bool(exponent > self._exponent):
            self._halves = _times_power(self._halves, 2 * (self._exponent - exponent))
            self._exponent = exponent


def _leading_eigenvectors(
    square: Float64[Tensor, "k k"], count: int, accuracy: float
) -> Float64[Tensor, "k top"]:
    """Eigenvectors of the largest eigenvalues of a Gram matrix, zero where it has no such direction."""
    k = square.shape[0]
    square = _times_power(square, -_exponent(square))  # ARPACK's tolerance is absolute below 1e-11
    if k <= 8 * count or not bool(square.any()):
        values, vectors = torch.linalg.eigh(square)
    else:  # a few leading vectors of a large matrix: Lanczos is many times faster
        start = np.random.default_rng(0).standard_normal(k)
        found = eigsh(square.cpu().numpy(), count, v0=start, tol=accuracy)
        values, vectors = (torch.from_numpy(x).to(square) for x in found)
        order = values.argsort()
        values, vectors = values[order], vectors[:, order]
    values, vectors = values[-count:], vectors[:, -count:]
    return torch.where(values > 1e-12 * values[-1], vectors, 0.0)


def _top_directions(matrix: Tensor, count: int) -> Tensor:
    """Top right singular vectors as columns, zero where the matrix has no such direction.

    From the Gram matrix of the shorter side: images have thousands of columns and few rows.
    """
    matrix = matrix.double()
    matrix = _times_power(matrix, -_exponent(matrix, (-2, -1)))
    wide = matrix.shape[-2] < matrix.shape[-1]
    squares, vectors = torch.linalg.eigh(matrix @ matrix.mT if wide else matrix.mT @ matrix)
    count = min(count, *matrix.shape[-2:])
    squares, vectors = squares[..., None, -count:], vectors[..., -count:]
    kept = squares > 1e-12 * squares[..., -1:]
    if wide:
        vectors = matrix.mT @ vectors / torch.where(kept, squares, 1.0).sqrt()
    return torch.where(kept, vectors, 0.0)


def _exponent(values: Tensor, dim: tuple[int, ...] = ()) -> Int64[Tensor, "..."]:
    """Least e with |values| < 2^e, of all or over some axes, which stay with length 1."""
    keep = bool(dim)
    largest = torch.maximum(-values.amin(dim, keepdim=keep), values.amax(dim, keepdim=keep))
    exponent = torch.frexp(largest.double()).exponent.long().clamp(min=LEAST_EXPONENT)
    return torch.where(largest > 0, exponent, LEAST_EXPONENT)


def _times_power(values: Float64[Tensor, "*shape"], exponent: Tensor) -> Float64[Tensor, "*shape"]:
    """values 2^exponent, exact but where it underflows; in two steps, as 2^exponent may be no float64."""
    half = exponent // 2
    return values * torch.pow(2.0, half.double()) * torch.pow(2.0, (exponent - half).double())
