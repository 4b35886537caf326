"""Singular values in float64 and the ranks computed from them: numerical, stable and effective.

The default spectrum comes from the Gram matrix of the smaller side, accumulated in float64 over blocks
of rows. For a tall matrix it needs memory for columns^2 numbers and makes no copy of the matrix.

Each singular value has an interval from Weyl's inequality and an a-priori bound on the rounding error.
If the interval leaves a numerical rank undecided, `numerical_rank` recomputes the spectrum by QR and
SVD, which resolves singular values down to 1e-15 of the largest instead of about 1e-7.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.checks import check_floating, check_gamma, check_magnitudes, check_not_empty

GAMMA = 1e-3
"""Rank threshold of the paper, relative to the largest singular value."""

GAMMAS = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
"""Default thresholds of a rank curve."""

PANEL = 64
"""Number of columns per panel in `accumulate_gram`; a multiple of common BLAS block sizes."""

Convention = Literal["matrix", "class-centred", "sample-centred", "covariance"]
"""Of which matrix a numerical rank is: see `numerical_rank`."""

UNIT_ROUNDOFF = torch.finfo(torch.float64).eps / 2


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a batch of matrices (descending, float64), each within [lower, upper].

    The interval bounds the rounding error of the computation, not noise in the data.
    """

    singular_values: Float64[Tensor, "*batch k"]
    lower: Float64[Tensor, "*batch k"]
    upper: Float64[Tensor, "*batch k"]

    @property
    def squared(self) -> "Spectrum":
        """Eigenvalues of A^T A, for singular values of A."""
        return Spectrum(self.singular_values.square(), self.lower.square(), self.upper.square())

    def rank(self, gamma: float = GAMMA) -> Int64[Tensor, "*batch"]:
        """Numerical rank #{i: sigma_i > gamma sigma_1}; 0 for the zero matrix."""
        check_gamma(gamma)
        return _count_above(self.singular_values, gamma * self.singular_values[..., :1])

    def rank_interval(
        self, gamma: float = GAMMA
    ) -> tuple[Int64[Tensor, "*batch"], Int64[Tensor, "*batch"]]:
        """Smallest and largest numerical rank that the rounding error allows (Weyl's inequality)."""
        check_gamma(gamma)
        return (
            _count_above(self.lower, gamma * self.upper[..., :1]),
            _count_above(self.upper, gamma * self.lower[..., :1]),
        )

    def rank_curve(self, gammas: Sequence[float] = GAMMAS) -> Int64[Tensor, "*batch gammas"]:
        """Numerical rank at each threshold."""
        check_not_empty(gammas=gammas)
        return torch.stack([self.rank(gamma) for gamma in gammas], dim=-1)

    def stable_rank(self) -> Float64[Tensor, "*batch"]:
        """||A||_F^2 / sigma_1^2, between 1 and the rank; 0 for the zero matrix."""
        largest = self.singular_values[..., :1]
        return (self.singular_values / _one_where_zero(largest)).square().sum(dim=-1)

    def record(self, gamma: float = GAMMA) -> dict[str, Any]:
        """Rank at gamma with its interval, rank curve, stable and effective rank, as plain numbers."""
        return {
            "rank": self.rank(gamma).tolist(),
            "rank_interval": [end.tolist() for end in self.rank_interval(gamma)],
            "rank_curve": dict(zip(map(str, GAMMAS), self.rank_curve().tolist(), strict=True)),
            "stable_rank": self.stable_rank().tolist(),
            "effective_rank": self.effective_rank().tolist(),
        }

    def effective_rank(self) -> Float64[Tensor, "*batch"]:
        """exp(H(sigma / sum sigma)) with the entropy H in nats (Roy and Vetterli, 2007).

        Singular values whose interval contains zero are left out. The zero matrix has 0.
        """
        values = torch.where(self.lower > 0, self.singular_values, 0.0)
        total = values.sum(dim=-1, keepdim=True)
        shares = torch.where(values > 0, values / _one_where_zero(total), 1.0)
        entropy = torch.special.entr(shares).sum(dim=-1)  # entr(1) = 0
        return torch.where(total.squeeze(-1) > 0, entropy.exp(), 0.0)


def spectrum(
    matrix: Float[Tensor, "*batch rows columns"],
    *,
    method: Literal["gram", "svd"] = "gram",
    centred: bool = False,
) -> Spectrum:
    """Spectrum of each matrix, computed on its device in float64 for any input precision.

    method: "gram" is fast and resolves about 1e-7 sigma_1; "svd" (blocked QR, then the SVD of the
        triangular factor) is several times slower and resolves about 1e-15 sigma_1.
    centred: first subtract from each row its mean over the columns. For logits (n, c) this removes
        the component to which the softmax is invariant.
    Raises ValueError for empty or non-finite matrices and for dtypes that are not floating-point.
    """
    check_floating("matrix", matrix, dimensions=2)
    if method not in ("gram", "svd"):
        raise ValueError(f"method is {method!r}; it must be 'gram' or 'svd'")
    check_magnitudes("matrix", matrix)
    return (_gram_spectrum if method == "gram" else _svd_spectrum)(matrix, centred)


def numerical_rank(
    matrix: Float[Tensor, "*batch rows columns"],
    gamma: float = GAMMA,
    *,
    centred: bool = False,
    convention: Convention | None = None,
) -> Int64[Tensor, "*batch"]:
    """Numerical rank #{i: sigma_i(A) > gamma sigma_1(A)} of each matrix; 0 for the zero matrix.

    gamma: threshold in (0, 1) relative to the largest singular value; the paper uses 1e-3.
    convention: which matrix A is, for logits with a row per sample:
        "matrix"          the logits as they are (the default)
        "class-centred"   less each sample's mean over classes, all that the softmax sees
        "sample-centred"  less each class's mean over samples
        "covariance"      eigenvalues of the covariance over samples above gamma of the largest, that
                          is singular values of "sample-centred" above sqrt(gamma)
    centred: another name of "class-centred".
    The count uses `resolved_spectrum`. Raises ValueError as `spectrum`, for gamma outside (0, 1), and
    for an unknown convention or one beside `centred`.
    """
    return rank_curve(matrix, (gamma,), centred=centred, convention=convention).squeeze(-1)


def rank_curve(
    matrix: Float[Tensor, "*batch rows columns"],
    gammas: Sequence[float] = GAMMAS,
    *,
    centred: bool = False,
    convention: Convention | None = None,
) -> Int64[Tensor, "*batch gammas"]:
    """`numerical_rank` at several thresholds, from one spectrum."""
    if convention not in (None, *get_args(Convention)):
        raise ValueError(
            f"convention is {convention!r}; it must be one of {', '.join(get_args(Convention))}"
        )
    if convention is not None and centred:
        raise ValueError(f"centred is True beside convention {convention!r}; give one of the two")
    if convention in ("sample-centred", "covariance"):
        check_floating("matrix", matrix, dimensions=2)
        check_magnitudes("matrix", matrix)
        matrix = centre(matrix.mT).mT
    if convention == "covariance":
        for gamma in gammas:
            check_gamma(gamma)
        gammas = [gamma**0.5 for gamma in gammas]
    centred = centred or convention == "class-centred"
    return resolved_spectrum(matrix, gammas, centred=centred).rank_curve(gammas)


def resolved_spectrum(
    matrix: Float[Tensor, "*batch rows columns"],
    gammas: Sequence[float] = GAMMAS,
    *,
    centred: bool = False,
) -> Spectrum:
    """Gram spectrum, replaced by the SVD where the rounding error leaves the rank at some gamma open."""
    check_not_empty(gammas=gammas)
    for gamma in gammas:
        check_gamma(gamma)
    result = spectrum(matrix, centred=centred)
    intervals = [result.rank_interval(gamma) for gamma in gammas]
    uncertain = torch.stack([low != high for low, high in intervals]).any(dim=0)
    if bool(uncertain.any()):
        exact = spectrum(matrix[uncertain], method="svd", centred=centred)
        for name in ("singular_values", "lower", "upper"):
            getattr(result, name)[uncertain] = getattr(exact, name)
    return result


def centred_rank(
    logits: Float[Tensor, "*batch n c"], gamma: float = GAMMA
) -> Int64[Tensor, "*batch"]:
    """Numerical rank of the logits after each sample's mean logit is subtracted.

    The softmax depends only on the centred logits. Their rank is at most c - 1, and 0 if all logits of
    each sample are equal.
    """
    return numerical_rank(logits, gamma, centred=True)


def stable_rank(matrix: Float[Tensor, "*batch rows columns"]) -> Float64[Tensor, "*batch"]:
    """||A||_F^2 / sigma_1^2, a lower bound on the rank without a threshold; 0 for the zero matrix."""
    return spectrum(matrix).stable_rank()


def effective_rank(matrix: Float[Tensor, "*batch rows columns"]) -> Float64[Tensor, "*batch"]:
    """Effective rank exp(H(sigma / sum sigma)) of each matrix; 0 for the zero matrix."""
    return spectrum(matrix).effective_rank()


def centre(logits: Float[Tensor, "*batch c"]) -> Float64[Tensor, "*batch c"]:
    """Subtract each sample's mean logit, in float64; exactly zero where all its logits are equal."""
    relative = logits.double()
    relative = relative - relative[..., :1]
    return relative - relative.mean(dim=-1, keepdim=True)


def gram_error(trace: Tensor, terms: int) -> Tensor:
    """Bound on the 2-norm of the rounding error of a Gram matrix A^T A.

    terms: number m of products summed in each entry; trace: of the Gram matrix, ||A||_F^2.
    |fl(A^T A) - A^T A| <= gamma_m |A|^T |A| entrywise (Higham, Accuracy and Stability, 2002,
    section 3.5), and || |A|^T |A| ||_2 <= ||A||_F^2.
    """
    return 1.01 * terms * UNIT_ROUNDOFF * trace


def accumulate_gram(gram: Float[Tensor, "*batch k k"], rows: Tensor) -> None:
    """Add rows^T rows to the upper triangle of `gram`, in panels that skip most of the lower triangle."""
    for start in range(0, gram.shape[-1], PANEL):
        panel = rows[..., start : start + PANEL]
        gram[..., start : start + PANEL, start:] += panel.mT @ rows[..., start:]


def spectrum_from_gram(gram: Float64[Tensor, "*batch k k"], error: Tensor) -> Spectrum:
    """Spectrum of A from the upper triangle of G = A^T A.

    error: bound on the 2-norm of the error of G (batch shape). The backward error of the eigensolver,
    taken as 4 k u ||G||, is added to it.
    """
    if gram.requires_grad:  # the gradient of eigvalsh assumes both triangles
        gram = gram.triu() + gram.triu(1).mT
    squares = torch.linalg.eigvalsh(gram, UPLO="U").flip(-1).clamp(min=0)
    error = error.unsqueeze(-1) + 4 * gram.shape[-1] * UNIT_ROUNDOFF * squares[..., :1]
    ends = (squares - error).clamp(min=0).detach(), (squares + error).detach()
    return Spectrum(root(squares), *(end.sqrt() for end in ends))


def root(squares: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Square root of numbers >= 0, with gradient 0 instead of infinity at 0."""
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)


def _gram_spectrum(matrix: Tensor, centred: bool) -> Spectrum:
    rows, columns = matrix.shape[-2:]
    side = min(rows, columns)
    gram = matrix.new_zeros((*matrix.shape[:-2], side, side), dtype=torch.float64)
    longest = blocks = 0
    for block in _blocks(matrix, centred):
        accumulate_gram(gram, block if rows >= columns else block.mT)
        longest, blocks = max(longest, block.shape[-2 if rows >= columns else -1]), blocks + 1
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    # Centring rounds each entry by a few units in its last place per column.
    roundings = longest + blocks + (2 * columns if centred else 0)
    return spectrum_from_gram(gram, gram_error(trace, roundings))


def _svd_spectrum(matrix: Tensor, centred: bool) -> Spectrum:
    triangle, blocks = None, 0
    for block in _blocks(matrix, centred):
        blocks += 1
        stacked = block if triangle is None else torch.cat([triangle, block], dim=-2)
        # QR of a rank-deficient matrix is not differentiable, but its singular values are.
        triangle = stacked if stacked.requires_grad else torch.linalg.qr(stacked, mode="r").R
    assert triangle is not None
    values = torch.linalg.svdvals(triangle)
    rows, columns = matrix.shape[-2:]
    # An estimate: the QR factorisations and the SVD are backward stable.
    roundings = 4 * (min(rows, columns) + blocks) + (2 * columns if centred else 0)
    found = values.detach()
    error = roundings * UNIT_ROUNDOFF * found.square().sum(dim=-1, keepdim=True).sqrt()
    return Spectrum(values, (found - error).clamp(min=0), found + error)


def _blocks(matrix: Tensor, centred: bool) -> Iterator[Tensor]:
    """Blocks of rows in float64, optionally centred. A wide matrix is one block."""
    rows, columns = matrix.shape[-2:]
    for block in matrix.split(max(columns, 256) if rows > columns else rows, dim=-2):
        yield centre(block) if centred else block.double()


def _count_above(values: Tensor, threshold: Tensor) -> Tensor:
    return (values > threshold).sum(dim=-1)


def _one_where_zero(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 1.0)
