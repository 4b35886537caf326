"""Bounds on the singular values of a softmax matrix: the paper's Proposition 3.1 and refinements.

Notation as in the paper: the columns s_1 .. s_n of S are probability vectors (for probabilities
(n, c) with samples first, pass `probabilities.mT`), G = S^T S, d_i = ||s_i||^2,
R_i = sum_{j != i} G_ij, r = max_i R_i, rho = S 1, t_k are the rows of S, and F = ||S||_F^2.

All functions accept batches and return float64. S is converted to float64 and its columns are
normalised to sum 1, so the bounds hold for an exact probability matrix up to float64 rounding.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from rankdeficit.checks import check_floating, check_gamma, check_magnitudes, check_positive
from rankdeficit.softmax import softmax
from rankdeficit.spectrum import centre, root

Scalars = Float64[Tensor, "*batch"]


class SingularGap(NamedTuple):
    """Proposition 3.1: lower <= gap <= upper, with gap = sigma_1(S) - sigma_n(S)."""

    lower: Scalars
    gap: Scalars
    upper: Scalars
    r: Scalars


class Interval(NamedTuple):
    """lower <= value <= upper, with the computed value and its theoretical bounds."""

    lower: Scalars
    value: Scalars
    upper: Scalars


def singular_gap(S: Float[Tensor, "*batch n n"]) -> SingularGap:
    """0 <= sigma_1 - sigma_n <= sqrt(1 + r) - sqrt(max(1/n - r, 0)) (the paper's Proposition 3.1).

    r measures the similarity of the columns. Only permutation matrices attain the left side. Every
    0/1 assignment matrix that is not a permutation attains the right side; the softmax of finite
    logits never does. Where columns share their largest entry the bound grows with the scale of the
    logits, so it does not by itself explain the post-softmax rank.
    Raises ValueError unless S is square with probability vectors as columns.
    """
    S = probability_columns(S, square=True)
    values = torch.linalg.svdvals(S)
    return SingularGap(
        torch.zeros_like(values[..., 0]), values[..., 0] - values[..., -1], *gap_bound_of(S)
    )


def gap_bound(S: Float[Tensor, "*batch n n"]) -> Scalars:
    """Right side of Proposition 3.1, without computing singular values. Raises as `singular_gap`."""
    return gap_bound_of(probability_columns(S, square=True))[0]


def refined_gap(S: Float[Tensor, "*batch n n"]) -> Interval:
    """Sharpest bounds of this module on sigma_1 - sigma_n. Raises ValueError as `singular_gap`.

    The upper bound combines `largest_singular_value`, `smallest_singular_value` and `gap_bound_in_r`.
    The lower bound is 1 - sqrt((F - 1)/(n - 1)), with equality for alpha I + (1 - alpha) 11^T/n.
    """
    S = probability_columns(S, square=True)
    n = S.shape[-1]
    largest, smallest = largest_singular_value(S), smallest_singular_value(S)
    upper = torch.minimum(largest.upper - smallest.lower, gap_bound_in_r(_largest_overlap(S), n))
    if n == 1:
        lower = torch.zeros_like(upper)
    else:
        excess = (S.square().sum(dim=(-2, -1)) - 1).clamp(min=0)
        lower = 1 - root(excess / (n - 1))
    return Interval(lower, largest.value - smallest.value, upper)


def gap_bound_in_r(r: Float64[Tensor, "*batch"], n: int) -> Float64[Tensor, "*batch"]:
    """Upper bound on sigma_1 - sigma_n in terms of r and n; at most that of Proposition 3.1.

    It is sqrt(1 + r) - sqrt([f]_+) with f = max(1/n, 1 - (1 + n/2) r) - r, or, for r < 1/4 and if that is
    larger, f = (1 + sqrt(1 - 4r))/2 - sqrt(2) r, which does not depend on n (proofs/small_overlaps.md).
    It is exact at r = 0. For n = 2 it is the best possible: sqrt(2) r up to r = sqrt(2) - 1, then
    1 - sqrt(1 - 2r) up to r = 1/2, then sqrt(2r).
    """
    if n == 2:
        middle = 1 - root((1 - 2 * r).clamp(min=0))
        return torch.where(r <= 2**0.5 - 1, 2**0.5 * r, torch.where(r <= 0.5, middle, root(2 * r)))
    floor = (1 - (1 + n / 2) * r).clamp(min=1 / n) - r
    own = (1 + root((1 - 4 * r).clamp(min=0))) / 2 - 2**0.5 * r
    floor = torch.where((r < 0.25) & (own >= floor), own, floor)
    return (1 + r).sqrt() - root(floor.clamp(min=0))


def largest_singular_value(S: Float[Tensor, "*batch m n"]) -> Interval:
    """Bounds on sigma_1(S) of an m x n matrix with probability vectors as columns.

    Lower bounds on sigma_1^2: ||rho||^2 / n >= n / m and the Collatz-Wielandt minimum with v = G 1.
    Upper bounds: max_i <s_i, rho> = max_i (d_i + R_i), max_k rho_k, Brauer's ovals of Cassini and the
    Collatz-Wielandt maximum. The tightest of each are returned.
    Raises ValueError unless the columns are probability vectors.
    """
    S = probability_columns(S)
    lower, upper = squares_of_largest(S)
    value = torch.linalg.svdvals(S)[..., 0]
    return Interval(_tightest(lower, "lower").sqrt(), value, _tightest(upper, "upper").sqrt())


def smallest_singular_value(S: Float[Tensor, "*batch n n"]) -> Interval:
    """Bounds on sigma_n(S) of a square matrix with probability vectors as columns.

    Lower bounds on sigma_n^2: min_i (d_i - R_i), min_k (2 ||t_k||^2 - rho_k), Brauer's ovals of Cassini
    and 0. The upper bound (F - 1)/(n - 1) follows from sigma_1 >= 1.
    Raises ValueError as `singular_gap`.
    """
    S = probability_columns(S, square=True)
    lower, upper = squares_of_smallest(S)
    value = torch.linalg.svdvals(S)[..., -1]
    return Interval(
        root(_tightest(lower, "lower").clamp(min=0)),
        value,
        root(_tightest(upper or lower, "upper").clamp(min=0)),
    )


Squares = dict[str, Scalars]
"""Bounds on the square of a singular value by name."""


def squares_of_largest(
    S: Float64[Tensor, "*batch m n"], *, pairs: bool = True
) -> tuple[Squares, Squares]:
    """Lower and upper bounds on sigma_1^2. pairs: with Brauer's, of all pairs of columns."""
    m, n = S.shape[-2:]
    rho = S.sum(dim=-1)
    overlaps = (S.mT @ rho.unsqueeze(-1)).squeeze(-1)
    ratios = (S.mT @ (S @ overlaps.unsqueeze(-1))).squeeze(-1) / overlaps
    lower = {
        "mean column": torch.full_like(overlaps[..., 0], n / m),
        "row sums": rho.square().sum(dim=-1) / n,
        "Collatz-Wielandt": ratios.amin(dim=-1),
    }
    upper = {"Gershgorin": overlaps.amax(dim=-1), "largest row sum": rho.amax(dim=-1)}
    if pairs:
        upper["Brauer"] = _cassini(S, largest=True)
    return lower, upper | {"Collatz-Wielandt": ratios.amax(dim=-1)}


def squares_of_smallest(
    S: Float64[Tensor, "*batch m n"], *, pairs: bool = True
) -> tuple[Squares, Squares]:
    """Lower and upper bounds on sigma_k^2, k = min(m, n), in the same way; lower ones may be negative."""
    m, n = S.shape[-2:]
    k, squares, lower = min(m, n), S.square(), {}
    if n <= m:
        diagonal, radii = _gershgorin(S)
        lower["Gershgorin"] = (diagonal - radii).amin(dim=-1)
        if pairs:
            lower["Brauer"] = _cassini(S, largest=False)
    if m <= n:
        lower["rows"] = (2 * squares.sum(dim=-1) - S.sum(dim=-1)).amin(dim=-1)
    if k == 1:
        return lower, {}
    return lower, {"mean square": (squares.sum(dim=(-2, -1)) - n / m) / (k - 1)}


def _tightest(squares: Squares, side: Literal["lower", "upper"]) -> Tensor:
    found = torch.stack(list(squares.values()))
    return found.amax(dim=0) if side == "lower" else found.amin(dim=0)


def numerical_rank_bounds(S: Float[Tensor, "*batch m n"], gamma: float) -> Interval:
    """Bounds on N_gamma = #{sigma_i > gamma sigma_1} in terms of the stable rank q = F / sigma_1^2.

    (q - k gamma^2) / (1 - gamma^2) <= N_gamma <= min(1 + (q - 1) / gamma^2, k) with k = min(m, n); the
    lower bound is not below 1, since sigma_1 always counts.
    Raises ValueError for gamma outside (0, 1), and unless the columns of S are probability vectors.
    """
    check_gamma(gamma)
    values = torch.linalg.svdvals(probability_columns(S))
    k, square = values.shape[-1], gamma**2
    q = (values / values[..., :1]).square().sum(dim=-1)
    count = (values > gamma * values[..., :1]).sum(dim=-1).double()
    lower = ((q - k * square) / (1 - square)).clamp(min=1, max=k)
    return Interval(lower, count, (1 + (q - 1) / square).clamp(min=1, max=k))


class Interlacing(NamedTuple):
    """lower_k <= values_k <= upper_k for the singular values of C = S - 11^T/m, descending."""

    lower: Float64[Tensor, "*batch k"]
    values: Float64[Tensor, "*batch k"]
    upper: Float64[Tensor, "*batch k"]


def centred_interlacing(S: Float[Tensor, "*batch m n"]) -> Interlacing:
    """sigma_{k+1}(S) <= sigma_k(C) <= sigma_k(S) for C = S - 11^T/m, so the ranks differ by at most 1.

    Raises ValueError unless the columns of S are probability vectors.
    """
    S = probability_columns(S)
    values = torch.linalg.svdvals(S)
    lower = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], dim=-1)
    return Interlacing(lower, torch.linalg.svdvals(S - 1 / S.shape[-2]), values)


def frobenius_slope(logits: Float[Tensor, "*batch n c"], scale: float) -> Float64[Tensor, "*batch"]:
    """d/ds ||softmax(s M)||_F^2 = 2 sum_samples Cov_p(p, m) >= 0.

    logits: samples first, with the softmax over the last dimension; scale: s > 0, an inverse
    temperature. Raises ValueError unless s is positive and finite and the logits are finite.
    """
    check_positive(scale=scale)
    m = centre(logits)  # the result is invariant; centring reduces the rounding error
    p = softmax(m, 1 / scale)
    covariance = (p * p * m).sum(-1) - (p * p).sum(-1) * (p * m).sum(-1)
    return 2 * covariance.sum(dim=-1)


def gap_bound_of(S: Float64[Tensor, "*batch m n"]) -> tuple[Scalars, Scalars]:
    """sqrt(1 + r) - sqrt(max(1/m - r, 0)) and r, for n <= m."""
    r = _largest_overlap(S)
    return (1 + r).sqrt() - root((1 / S.shape[-2] - r).clamp(min=0)), r


def _largest_overlap(S: Tensor) -> Tensor:
    return _gershgorin(S)[1].amax(dim=-1)


def _gershgorin(S: Tensor) -> tuple[Tensor, Tensor]:
    """Centres d_i and radii R_i of the Gershgorin discs of G = S^T S."""
    gram = S.mT @ S
    diagonal = gram.diagonal(dim1=-2, dim2=-1)
    off_diagonal = gram - torch.diag_embed(diagonal)
    return diagonal, off_diagonal.sum(dim=-1)


def _cassini(S: Tensor, *, largest: bool) -> Tensor:
    """Extreme real point of Brauer's ovals |x - d_i||x - d_j| <= R_i R_j of G, i != j."""
    diagonal, radii = _gershgorin(S)
    n = S.shape[-1]
    if n == 1:
        return diagonal.squeeze(-1)
    first, second = torch.triu_indices(n, n, offset=1, device=S.device)
    mean = (diagonal[..., first] + diagonal[..., second]) / 2
    half_gap = (diagonal[..., first] - diagonal[..., second]) / 2
    reach = root(half_gap.square() + radii[..., first] * radii[..., second])
    return (mean + reach).amax(dim=-1) if largest else (mean - reach).amin(dim=-1)


def probability_columns(S: Tensor, *, square: bool = False) -> Tensor:
    """S in float64 with normalised columns. Raises ValueError unless they sum to 1 up to rounding."""
    check_floating("S", S, dimensions=2)
    if square and S.shape[-1] != S.shape[-2]:
        raise ValueError(f"S has shape {tuple(S.shape)}; this bound needs a square matrix")
    check_magnitudes("S", S)
    # float32 is the least tolerance: S may have been computed in float32 and converted to float64.
    eps = max(torch.finfo(S.dtype).eps, torch.finfo(torch.float32).eps)
    tolerance = min(4 * S.shape[-2] * eps, 0.05)
    S = S.double()
    sums = S.sum(dim=-2, keepdim=True)
    if bool((S < 0).any()) or bool(((sums - 1).abs() > tolerance).any()):
        raise ValueError(
            "the columns of S must be probability vectors (non-negative, sum 1); "
            "for probabilities with samples as rows pass S.mT"
        )
    return S / sums
