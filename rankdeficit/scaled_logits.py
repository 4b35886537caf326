"""Theoretical numerical rank of softmax(s M), or of softmax(M / T), at all scales s = 1/T.

`rank_bounds` and `dropout_temperatures` are proven for any logits (proofs/rank_norm_temperature.md).

Samples are rows, and the softmax is over the last dimension. At small s the largest singular value of
the probability matrix is sqrt(n / c) (1 + O(s^2)), which is about 1 for square M. The softmax of
rank-one logits with distinct entries has full exact rank at every s != 0, so the results concern the
numerical rank at a given threshold gamma.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from rankdeficit.checks import (
    check_at_least,
    check_floating,
    check_gamma,
    check_magnitudes,
    check_not_empty,
    check_positive,
    check_temperature,
)


def critical_scales(
    logits: Float[Tensor, "*batch n c"], gamma: float
) -> Float64[Tensor, "*batch k"]:
    """Scales s*_i = gamma sqrt(nc) / sigma_i(P M P') at which singular value i + 1 reaches gamma sigma_1.

    P and P' centre samples and classes, and k = min(n, c). They follow from sigma_{i+1}/sigma_1 =
    s sigma_i(PMP')/sqrt(nc) + O(s^2) and are accurate if s*_i times the magnitude of the logits is small,
    that is for small gamma; `dropout_temperatures` has proven bounds on 1/s. Scales beyond the rank of
    PMP' are infinite. Raises ValueError for gamma outside (0, 1).
    """
    check_gamma(gamma)
    check_floating("logits", logits, dimensions=2)
    check_magnitudes("logits", logits)
    values, noise = _centred_singular_values(logits)
    seen = values > noise
    size = math.sqrt(logits.shape[-2] * logits.shape[-1])
    return torch.where(seen, gamma * size / torch.where(seen, values, 1.0), math.inf)


def large_scale_rank(logits: Float[Tensor, "*batch n c"], gamma: float) -> Int64[Tensor, "*batch"]:
    """Numerical rank in the limit s -> infinity, for logits without ties within a row.

    The softmax tends to the 0/1 matrix of argmaxes. Its nonzero singular values are the square roots
    of the number of rows with each argmax. Raises ValueError for gamma outside (0, 1).
    """
    check_gamma(gamma)
    check_floating("logits", logits, dimensions=2)
    check_magnitudes("logits", logits)
    winners = torch.nn.functional.one_hot(logits.argmax(dim=-1), logits.shape[-1])
    values = winners.sum(dim=-2).double().sqrt()
    return (values > gamma * values.amax(dim=-1, keepdim=True)).sum(dim=-1)


def kernel_spectrum(scale: float, nodes: int | None = None) -> Float64[np.ndarray, " nodes"]:
    """Singular values tau_p = sigma_p / sigma_0 of the kernel exp(s x y) s y / sinh(s y) on [-1, 1]^2.

    It is the limit n -> infinity of the softmax of rank-one logits s x_i y_j with x, y uniform on
    [-1, 1] (proofs/kernel_limit.md). The singular values are computed by Gauss-Legendre quadrature.
    nodes: number of quadrature nodes, at least 2 [default: 64 + 3 ceil(scale)].
    Raises ValueError unless the scale is positive and finite.
    """
    check_positive(scale=scale)
    # the kernel has poles at distance pi / s from the real line
    count = 64 + 3 * math.ceil(scale) if nodes is None else nodes
    check_at_least(2, nodes=count)
    x, weights = np.polynomial.legendre.leggauss(count)
    growth = np.abs(scale * x)
    # s y / sinh(s y) = 2 s|y| e^{-s|y|} / (1 - e^{-2 s|y|}), with joint exponents to avoid overflow
    prefactor = 2 * np.where(growth > 0, growth / -np.expm1(-2 * np.maximum(growth, 1e-300)), 0.5)
    kernel = np.exp(scale * np.outer(x, x) - growth) * prefactor
    root = np.sqrt(weights)
    values = np.linalg.svd(root[:, None] * kernel * root, compute_uv=False)
    return values / values[0]


def large_n_rank(scale: float, logits_rank: int, gamma: float) -> int:
    """Numerical rank for n -> infinity of softmax(s A B^T) with uniform entries on [-1, 1].

    The kernel is a product over the k = `logits_rank` columns of A and B, so
    N = #{(p_1 .. p_k): prod tau_{p_l}(s) > gamma} with tau from `kernel_spectrum`. It approximates
    finite n only for s << n and N << n. Raises ValueError for gamma outside (0, 1), a rank below 1, and
    as `kernel_spectrum`.
    """
    check_gamma(gamma)
    check_at_least(1, logits_rank=logits_rank)
    tau = kernel_spectrum(scale)
    tau = tau[tau > gamma]
    products = tau
    for _ in range(logits_rank - 1):
        ascending = np.sort(products)
        # tau_p x > gamma exactly for x > gamma / tau_p
        first = np.searchsorted(ascending, gamma / tau, side="right")
        products = np.concatenate([t * ascending[i:] for t, i in zip(tau, first, strict=True)])
    return len(products)


def random_logits(n: int, rank: int, seeds: Sequence[int]) -> Float64[Tensor, "seeds n n"]:
    """Logits A B^T with n x rank matrices A and B, uniform on [-1, 1] (the paper's Figure 6).

    Raises ValueError for sizes below 1 and without seeds.
    """
    check_at_least(1, n=n, rank=rank)
    check_not_empty(seeds=seeds)
    generator = torch.Generator()
    factors = torch.stack(
        [
            torch.rand(2, n, rank, dtype=torch.float64, generator=generator.manual_seed(seed))
            for seed in seeds
        ]
    )
    factors = 2 * factors - 1
    return factors[:, 0] @ factors[:, 1].mT


def gaussian_large_n_rank(scale: float, logits_rank: int, gamma: float) -> int | None:
    """Numerical rank for n -> infinity of softmax(s Q K^T), Q and K n x k with standard normal entries.

    The softmax tends to the kernel exp(s q.k - s^2 |q|^2 / 2) on normal q and k. Its squares K K^T are
    exp(s^2 q.q'), with geometric eigenvalues in each of the k = `logits_rank` dimensions: the singular
    values are r^{p/2} sigma_1, C(p + k - 1, k - 1) of them for p = 0, 1, ..., with r = (u - 1) / (u + 1),
    u = sqrt((1 + 2 s^2) / (1 - 2 s^2)). For s^2 >= 1/2 the kernel has no singular values: None. It
    approximates n >> N. Raises ValueError for gamma outside (0, 1), a rank below 1 and unless the scale
    is positive and finite.
    """
    check_gamma(gamma)
    check_at_least(1, logits_rank=logits_rank)
    check_positive(scale=scale)
    square = scale**2
    if square >= 0.5:
        return None
    ratio = math.sqrt((1 + 2 * square) / (1 - 2 * square))
    step = 0.5 * math.log((ratio - 1) / (ratio + 1)) if ratio > 1 else -math.inf
    degrees = math.ceil(math.log(gamma) / step) if step > -math.inf else 1  # p step > ln gamma
    return math.comb(degrees + logits_rank - 1, logits_rank)


def small_scale_ranks(
    logits: Float[Tensor, "n c"], scale: float, gamma: float
) -> tuple[int, int] | None:
    """Proven bounds on the numerical rank of softmax(s M), lower and upper; None if s w > 1.

    w is the largest range of a row of M (maximum minus minimum), and x = s w. For x <= 1 every
    sigma_{i+1} / sigma_1 differs from s sigma_i(PMP') / sqrt(nc) by at most x^2 / 2
    (proofs/small_scale.md). Raises ValueError as `critical_scales`, and unless the scale is positive.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}; it must be positive")
    critical = critical_scales(logits, gamma)[:-1]
    x = scale * float((logits.amax(dim=-1) - logits.amin(dim=-1)).max())
    if x > 1:
        return None
    values = gamma * scale / critical
    return 1 + int((values - x**2 / 2 > gamma).sum()), 1 + int((values + x**2 / 2 > gamma).sum())


class RankBounds(NamedTuple):
    """Proven bounds on a numerical rank."""

    lower: Int64[Tensor, "*shape"]
    upper: Int64[Tensor, "*shape"]


class DropoutTemperatures(NamedTuple):
    """Highest temperature at which each mode is in the numerical rank: estimate and proven bounds."""

    first_order: Float64[Tensor, "*batch modes"]
    lower: Float64[Tensor, "*batch modes"]
    """0 where nothing is proven."""
    upper: Float64[Tensor, "*batch modes"]


def rank_bounds(
    logits: Float[Tensor, "*batch n c"], temperature: float | Tensor, gamma: float
) -> RankBounds:
    """Proven bounds on the numerical rank of S = softmax(M / T), for any logits and temperature.

    mu_i = sigma_i(PMP')/sqrt(nc) of the doubly centred logits, x_j the range of row j over T, H the
    quadratic mean of the e^x_j - 1 - x_j and C the mean of the cosh(x_j/2)^2 give
    1 + #{mu_i/T > gamma C + H/2} <= N <= 1 + #{mu_i/T > gamma - H/2}. The argmax matrix, whose singular
    values are the roots of its counts, bounds the rank at low T: those of S differ from them by at most
    E, E^2 = 2 sum_j [(c-1)/(e^{g_j/T} + c-1)]^2, g_j the top gap of row j.
    temperature: a number, or a tensor that broadcasts with the batch. Raises ValueError for logits that
    are not finite, for gamma outside (0, 1), and unless T > 0.
    """
    check_gamma(gamma)
    check_temperature(temperature)
    modes, noise, ranges = _modes(logits)
    T = torch.as_tensor(temperature, dtype=torch.float64, device=logits.device)[..., None]
    half, growth = (own[..., None] for own in ranges.errors(1 / T[..., 0]))
    inside = (modes - noise) / T > gamma * growth + half
    outside = (modes + noise) / T <= gamma - half
    M = logits.double()
    classes = M.shape[-1]
    roots = torch.nn.functional.one_hot(M.argmax(dim=-1), classes).sum(dim=-2).double().sqrt()
    roots = roots.sort(descending=True).values[..., : modes.shape[-1] + 1]
    top = M.topk(min(2, classes)).values
    shares = (classes - 1) / (((top[..., 0] - top[..., -1]) / T).exp() + classes - 1)
    room = (1 + gamma) * (2 * shares.square().sum(dim=-1, keepdim=True)).sqrt()
    threshold = gamma * roots[..., :1]
    lower = (roots > threshold + room).sum(dim=-1), 1 + inside.sum(dim=-1)
    upper = (roots > threshold - room).sum(dim=-1), 1 + (~outside).sum(dim=-1)
    return RankBounds(torch.maximum(*lower), torch.minimum(*upper))


def dropout_temperatures(logits: Float[Tensor, "*batch n c"], gamma: float) -> DropoutTemperatures:
    """Highest temperatures with sigma_{i+1} > gamma sigma_1 for softmax(M / T), i = 1 .. min(n, c) - 1.

    They are mu_i/gamma in first order, and lie between 1/s_i and 1/t_i, notation as in `rank_bounds` with
    H and C as functions of s = 1/T. t_i is the zero of mu_i t + H(t)/2 - gamma; s_i is the first zero of
    mu_i s - H(s)/2 - gamma C(s), which exists for gamma w^2/mu_i^2 below about 1, w^4 the mean of the
    fourth powers of the ranges. From the upper bound on, the rank is at most i. Raises ValueError as
    `rank_bounds`.
    """
    check_gamma(gamma)
    modes, noise, ranges = _modes(logits)
    small, large = (modes - noise).clamp(min=0), modes + noise
    zero = torch.zeros_like(modes)
    most = ranges.large_scale[..., None].expand_as(modes)
    t, _ = _zero(lambda t: large * t + ranges.errors(t)[0] - gamma, zero, most)

    def surplus(s: Tensor) -> Tensor:
        half, growth = ranges.errors(s)
        return small * s - half - gamma * growth

    def slope(s: Tensor) -> Tensor:
        half, growth = ranges.slopes(s)
        return half + gamma * growth - small

    peak, _ = _zero(slope, zero, most)
    _, s = _zero(surplus, zero, peak)
    lower = torch.where(surplus(peak) > 0, 1 / s, 0.0)
    upper = torch.where(ranges.values[..., :1] > 0, 1 / t, 0.0)  # equal logits have rank 1
    return DropoutTemperatures(modes / gamma, lower, upper)


def _zero(rising: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bracket of the zero of a function that rises from below 0 at `low` to above at `high`."""
    for _ in range(80):
        middle = (low + high) / 2
        above = rising(middle) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return low, high


class _Ranges(NamedTuple):
    """Ranges of the rows of logits (maximum minus minimum), in groups.

    Each group stands for its largest range, so what increases with the ranges is at most overestimated.
    """

    values: Float64[Tensor, "*batch groups"]
    shares: Float64[Tensor, " groups"]

    @property
    def large_scale(self) -> Float64[Tensor, "*batch"]:
        """A scale s at which H(s)/2 > 1, as H(s) >= h(s mean) and h(3)/2 > 1, without overflow."""
        mean, most = (self.values * self.shares).sum(dim=-1), self.values[..., 0]
        return torch.where(most > 0, torch.minimum(3 / mean, 300 / most), 3.0)

    def errors(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """H(s)/2 and C(s) for scales (*batch) or (*batch, k)."""
        x = self._scaled(scale)
        remainder = x.expm1() - x
        mean = (self.shares * remainder.square()).sum(dim=-1)
        return mean.sqrt() / 2, (self.shares * (x / 2).cosh().square()).sum(dim=-1)

    def slopes(self, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Their derivatives in s."""
        x, values = self._scaled(scale), self._scaled(torch.ones_like(scale))
        remainder = x.expm1() - x
        mean = (self.shares * remainder.square()).sum(dim=-1).sqrt()
        product = (self.shares * values * remainder * x.expm1()).sum(dim=-1)
        half = torch.where(mean > 0, product / torch.where(mean > 0, mean, 1.0), 0.0) / 2
        return half, (self.shares * values * x.sinh()).sum(dim=-1) / 2

    def _scaled(self, scale: Tensor) -> Tensor:
        extra = scale.ndim - self.values.ndim + 1
        values = self.values.unsqueeze(-2) if extra == 1 else self.values
        return scale[..., None] * values


EXACT_RANGES = 256
"""Largest ranges that are kept; the others are put in as many groups."""


def _grouped(ranges: Float64[Tensor, "*batch n"]) -> _Ranges:
    ordered, n = ranges.sort(dim=-1, descending=True).values, ranges.shape[-1]
    starts = list(range(min(n, EXACT_RANGES)))
    if n > EXACT_RANGES:
        rest = n - EXACT_RANGES
        groups = min(rest, EXACT_RANGES)
        starts += [EXACT_RANGES + rest * i // groups for i in range(groups)]
    ends = [*starts[1:], n]
    counts = [end - start for start, end in zip(starts, ends, strict=True)]
    shares = torch.tensor(counts, dtype=torch.float64, device=ranges.device) / n
    return _Ranges(ordered[..., torch.tensor(starts, device=ranges.device)], shares)


def _modes(logits: Float[Tensor, "*batch n c"]) -> tuple[Tensor, Tensor, _Ranges]:
    """mu_i with its rounding error, and the ranges of the rows."""
    check_floating("logits", logits, dimensions=2)
    check_magnitudes("logits", logits)
    values, noise = _centred_singular_values(logits)
    size = math.sqrt(logits.shape[-2] * logits.shape[-1])
    ranges = logits.double().amax(dim=-1) - logits.double().amin(dim=-1)
    return values[..., :-1] / size, noise / size, _grouped(ranges)


def _centred_singular_values(logits: Float[Tensor, "*batch n c"]) -> tuple[Tensor, Tensor]:
    """Singular values of the doubly centred logits, and a bound on their rounding errors."""
    centred = logits.double()
    centred = centred - centred.mean(dim=-1, keepdim=True)
    values = torch.linalg.svdvals(centred - centred.mean(dim=-2, keepdim=True))
    noise = torch.finfo(torch.float64).eps * logits.double().abs().amax(dim=(-2, -1))
    return values, max(logits.shape[-2:]) * noise[..., None]
