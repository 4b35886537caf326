"""Theoretical numerical rank of softmax(s M) at small, intermediate and large scale s.

Samples are rows, and the softmax is over the last dimension. At small s the largest singular value of
the probability matrix is sqrt(n / c) (1 + O(s^2)), which is about 1 for square M. The softmax of
rank-one logits with distinct entries has full exact rank at every s != 0, so the results concern the
numerical rank at a given threshold gamma.
"""

import math
from collections.abc import Sequence

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
)


def critical_scales(
    logits: Float[Tensor, "*batch n n"], gamma: float
) -> Float64[Tensor, "*batch n"]:
    """Scales s*_k = gamma n / sigma_k(P M P) at which singular value k + 1 reaches gamma sigma_1.

    P = I - 11^T/n. They follow from sigma_{k+1}(S) = (s/n) sigma_k(PMP) + O(s^2) and are accurate if
    s*_k times the magnitude of the logits is small, that is for small gamma. Scales beyond the rank of
    PMP are infinite. Raises ValueError unless the logits are square, and for gamma outside (0, 1).
    """
    check_gamma(gamma)
    check_floating("logits", logits, dimensions=2)
    check_magnitudes("logits", logits)
    n = logits.shape[-1]
    if logits.shape[-2] != n:
        raise ValueError(f"logits have shape {tuple(logits.shape)}; they must be square")
    centred = logits.double()
    centred = centred - centred.mean(dim=-1, keepdim=True)
    values = torch.linalg.svdvals(centred - centred.mean(dim=-2, keepdim=True))
    noise = n * torch.finfo(torch.float64).eps * logits.double().abs().amax(dim=(-2, -1))
    seen = values > noise[..., None]
    return torch.where(seen, gamma * n / torch.where(seen, values, 1.0), math.inf)


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
    [-1, 1]. The singular values are computed by Gauss-Legendre quadrature.
    nodes: number of quadrature nodes, at least 2 [default: 64 + 3 ceil(scale)].
    Raises ValueError unless the scale is positive and finite.
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale}; it must be a positive finite number")
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
    if not 0 < scale < math.inf:
        raise ValueError(f"scale is {scale}; it must be a positive finite number")
    square = scale**2
    if square >= 0.5:
        return None
    ratio = math.sqrt((1 + 2 * square) / (1 - 2 * square))
    step = 0.5 * math.log((ratio - 1) / (ratio + 1)) if ratio > 1 else -math.inf
    degrees = math.ceil(math.log(gamma) / step) if step > -math.inf else 1  # p step > ln gamma
    return math.comb(degrees + logits_rank - 1, logits_rank)


def small_scale_ranks(
    logits: Float[Tensor, "n n"], scale: float, gamma: float
) -> tuple[int, int] | None:
    """Proven bounds on the numerical rank of softmax(s M), lower and upper; None if s w > 1.

    w is the largest range of a row of M (maximum minus minimum), and x = s w. For x <= 1 every
    sigma_{i+1} / sigma_1 differs from s sigma_i(PMP) / n by at most x^2 / 2 (proofs/small_scale.md).
    Raises ValueError as `critical_scales`, and unless the scale is positive.
    """
    if not scale > 0:
        raise ValueError(f"scale is {scale}; it must be positive")
    critical = critical_scales(logits, gamma)[:-1]
    x = scale * float((logits.amax(dim=-1) - logits.amin(dim=-1)).max())
    if x > 1:
        return None
    values = gamma * scale / critical
    return 1 + int((values - x**2 / 2 > gamma).sum()), 1 + int((values + x**2 / 2 > gamma).sum())
