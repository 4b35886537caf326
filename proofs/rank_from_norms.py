"""Bounds on the rank of a probability matrix from its norms, and growth of the norm with the logits.

Let S (m x n) have probability columns, k = min(m, n), F = ||S||_F^2, q = F / sigma_1^2 its stable rank,
0 < gamma < 1 and N_gamma = #{i : sigma_i > gamma sigma_1}. Then

    (q - k gamma^2) / (1 - gamma^2) <= N_gamma <= 1 + (q - 1) / gamma^2,
    sigma_{i+1}(S) <= sigma_i(C) <= sigma_i(S) for C = S - 11^T/m.

For S = softmax(s M) over columns p with logits m, F'(s) = 2 sum_columns Cov_p(p, m), where Cov_p is
the covariance under p; it is >= 0 for s >= 0, and > 0 for s > 0 unless every column of M is constant.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import reduce
from itertools import combinations
from random import Random

import sympy
from flint import arb, ctx, fmpq, fmpq_mat, fmpq_poly

from proofs.claims import Claim, Outcome, combine, nonnegative, positive, step
from proofs.exact import (
    eigenvalues,
    gram,
    inertia,
    random_probability_matrix,
    real_roots,
    shifted,
    softmax_columns,
    to_fmpq,
)

CLAIM = Claim(__name__)


def stable_rank_holds(G: fmpq_mat, k: int, square: fmpq, count: int) -> bool:
    """Check both bounds on N_gamma = count as bounds on sigma_1^2; square = gamma^2, G = S^T S."""
    F = sum((G[i, i] for i in range(G.nrows())), fmpq(0))
    low = F / (count * (1 - square) + k * square)
    high = F / (1 + (count - 1) * square)
    _, at_low, above_low = inertia(shifted(G, low))
    return at_low + above_low > 0 and inertia(shifted(G, high))[2] == 0


def numerical_rank(G: fmpq_mat, square: fmpq) -> int | None:
    """N_gamma, or None if 256 bits do not decide it; square = gamma^2."""
    with ctx.workprec(256):
        values = eigenvalues(G)
        threshold = arb(square) * values[-1]
        count = sum(value > threshold for value in values)
        certain = count + sum(value < threshold for value in values) == len(values)
    return count if certain else None


@CLAIM.sampled(method="exact rationals", instances=1000)
def stable_rank(random: Random) -> Outcome:
    """(q - k gamma^2)/(1 - gamma^2) <= N_gamma <= 1 + (q - 1)/gamma^2: m, n = 1..8."""
    S = random_probability_matrix(random, random.randint(1, 8), random.randint(1, 8))
    G, k = gram(S), min(S.nrows(), S.ncols())
    # A prime over a prime is unlikely to equal a ratio of eigenvalues.
    square = fmpq(random.choice([3, 13, 103, 499, 883, 991]), 997 ** random.choice([1, 1, 2]))
    count = numerical_rank(G, square)
    return Outcome(
        None if count is None else stable_rank_holds(G, k, square, count), f"{square}, {S}"
    )


@CLAIM.sampled(method="ball arithmetic", instances=500)
def interlacing(random: Random) -> Outcome:
    """sigma_{i+1}(S) <= sigma_i(C) <= sigma_i(S) for C = S - 11^T/m: m, n = 1..8; slack: of the
    squares, without those that both matrices share.
    """
    m, n = random.randint(1, 8), random.randint(1, 8)
    S = random_probability_matrix(random, m, n)
    G, centred = gram(S), gram(S - fmpq_mat(m, n, [fmpq(1, m)] * (m * n)))
    if centred != G - fmpq_mat(n, n, [fmpq(1, m)] * (n * n)):
        return Outcome(False, str(S))
    whole, part = without_common_roots(G.charpoly(), centred.charpoly())

    def slack() -> arb:
        outer, inner = real_roots(whole)[::-1], real_roots(part)[::-1]
        gaps = [high - low for high, low in zip(outer, inner, strict=True)]
        gaps += [high - low for high, low in zip(inner, outer[1:], strict=False)]
        return reduce(arb.min, gaps, arb(1))

    return nonnegative(slack, S)


def without_common_roots(p: fmpq_poly, q: fmpq_poly) -> tuple[fmpq_poly, fmpq_poly]:
    """Divide both by their greatest common divisor, which does not affect the interlacing."""
    common = p.gcd(q)
    return p // common, q // common


@CLAIM.exhaustive(method="symbolic")
def slope_of_the_norm() -> Iterator[Outcome]:
    """F'(s) = 2 sum_columns Cov_p(p, m) = sum_columns sum_{i,j} p_i p_j (p_i - p_j)(m_i - m_j):
    m = 2..4 rows.
    """
    s = sympy.symbols("s", real=True)
    for n in (2, 3, 4):
        m = sympy.symbols(f"m1:{n + 1}", real=True)
        p = sympy.symbols(f"p1:{n + 1}", positive=True)
        weights = [sympy.exp(s * x) for x in m]
        total = sum(weights)
        mean = sum(x * w for x, w in zip(m, weights, strict=True)) / total
        yield step(
            f"n = {n}: p_i' = p_i (m_i - <p, m>)",
            all(
                sympy.simplify(sympy.diff(w / total, s) - w / total * (x - mean)) == 0
                for x, w in zip(m, weights, strict=True)
            ),
        )
        mu = sum(x * y for x, y in zip(p, m, strict=True))
        slope = sum(2 * x * x * (y - mu) for x, y in zip(p, m, strict=True))
        covariance = sum(x * x * y for x, y in zip(p, m, strict=True)) - mu * sum(x * x for x in p)
        yield step(
            f"n = {n}: sum_i 2 p_i p_i' = 2 Cov_p(p, m)", sympy.expand(slope - 2 * covariance) == 0
        )
        pairs = sum(
            2 * p[i] * p[j] * (p[i] - p[j]) * (m[i] - m[j]) for i, j in combinations(range(n), 2)
        )
        unit = {p[-1]: 1 - sum(p[:-1])}
        yield step(
            f"n = {n}: it is a sum over pairs, where p_i - p_j and m_i - m_j have the same sign",
            sympy.expand((slope - pairs).subs(unit)) == 0,
        )


@CLAIM.sampled(method="ball arithmetic", instances=200)
def norm_grows_with_scale(random: Random) -> Outcome:
    """||softmax(s M)||_F increases strictly with s >= 0 and sum Cov_p(p, m) > 0, unless the columns of M
    are constant: m, n = 2..6, s = 1/100..30.
    """
    m, n = random.randint(2, 6), random.randint(2, 6)
    spread = random.choice([1, 100, 10**6])
    logits = [
        [Fraction(random.randint(-spread, spread), spread) for _ in range(n)] for _ in range(m)
    ]
    if random.random() < 0.3:  # nearly constant columns
        logits = [[x / 10**4 + j for j, x in enumerate(row)] for row in logits]
    logits[0][0] = logits[1][0] + Fraction(1, 10**3)
    scale = random.choice([Fraction(1, 100), Fraction(1), Fraction(10), Fraction(29)])
    first, second = scaled(logits, scale), scaled(logits, scale * Fraction(31, 30))
    more = positive(lambda: frobenius(second) - frobenius(first), first)
    return combine([more, positive(lambda: slope(logits, scale), first)])


def scaled(logits: list[list[Fraction]], scale: Fraction) -> list[list[fmpq]]:
    """Scaled logits s M as flint rationals."""
    return [[to_fmpq(scale * x) for x in row] for row in logits]


def frobenius(logits: list[list[fmpq]]) -> arb:
    """||softmax(M)||_F^2."""
    return sum((x * x for x in softmax_columns(logits).entries()), arb(0))


def slope(logits: list[list[Fraction]], scale: Fraction) -> arb:
    """2 sum_columns Cov_p(p, m), the derivative of ||softmax(s M)||_F^2."""
    S = softmax_columns(scaled(logits, scale)).transpose().table()
    result = arb(0)
    for p, column in zip(S, zip(*logits, strict=True), strict=True):
        m = [arb(to_fmpq(x)) for x in column]
        squares = [x * x for x in p]
        result += dot(squares, m) - sum(squares, arb(0)) * dot(p, m)
    return 2 * result


def dot(u: Sequence[arb], v: Sequence[arb]) -> arb:
    """Sum of products."""
    return sum((x * y for x, y in zip(u, v, strict=True)), arb(0))
