"""Bounds on the largest and smallest singular values of a probability matrix.

Let the columns s_1 .. s_n of S (m x n) be probability vectors, G = S^T S, d_i = ||s_i||^2,
R_i = sum_{j != i} G_ij, r = max_i R_i, rho = S 1 and t_k the rows of S. Then d_i + R_i = <s_i, rho>,

    n/m <= ||rho||^2 / n <= sigma_1^2 <= max_i <s_i, rho> <= min(1 + r, max_k rho_k),
    lambda_min(G) >= min_i (d_i - R_i),   lambda_min(S S^T) >= min_k (2 ||t_k||^2 - rho_k).

The ratios (Gv)_i / v_i with v = G 1 bracket sigma_1^2 (Collatz and Wielandt), and the largest is at most
max <s_i, rho>. All eigenvalues of G lie in Brauer's ovals of Cassini, which extend no further than the
Gershgorin discs.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from random import Random

import sympy
from flint import arb, ctx, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, step
from proofs.exact import (
    from_columns,
    gram,
    inertia,
    random_probability_matrix,
    random_probability_vector,
    shifted,
)

CLAIM = Claim(__name__)


def random_matrix(random: Random, rows: int, columns: int) -> fmpq_mat:
    """Random probability matrix; half of the square ones are nearly permutations."""
    if rows != columns or random.random() < 0.5:
        return random_probability_matrix(random, rows, columns)
    noise = Fraction(1, 10 ** random.choice([1, 2, 4, 8]))
    vectors = []
    for one in random.sample(range(rows), rows):
        weight = noise * random.choice([Fraction(0), Fraction(1), Fraction(1, 3)])
        vector = random_probability_vector(random, rows)
        vectors.append([weight * x + (1 - weight) * (k == one) for k, x in enumerate(vector)])
    return from_columns(vectors)


def gershgorin(G: fmpq_mat) -> tuple[list[fmpq], list[fmpq]]:
    """Centres d_i and radii R_i of the discs of G."""
    centres = [G[i, i] for i in range(G.nrows())]
    return centres, [total - d for total, d in zip(row_sums(G), centres, strict=True)]


def row_sums(S: fmpq_mat) -> list[fmpq]:
    """Row sums rho = S 1."""
    return [sum(row, fmpq(0)) for row in S.table()]


def squared_norm(entries: Sequence[fmpq]) -> fmpq:
    """Sum of squares."""
    return sum((x * x for x in entries), fmpq(0))


def collatz_wielandt(G: fmpq_mat) -> tuple[fmpq, fmpq]:
    """Least and largest (G v)_i / v_i with v = G 1."""
    v = fmpq_mat(G.nrows(), 1, row_sums(G))
    ratios = [x / y for x, y in zip((G * v).entries(), v.entries(), strict=True)]
    return min(ratios), max(ratios)


def cassini(G: fmpq_mat, *, largest: bool) -> fmpq:
    """Extreme real point of |x - d_i| |x - d_j| <= R_i R_j, i != j, rounded outwards (128 bits)."""
    d, R = gershgorin(G)
    sign = 1 if largest else -1
    with ctx.workprec(128):
        ends = [
            arb((d[i] - d[j]) ** 2 / 4 + R[i] * R[j]).sqrt() + arb(sign * (d[i] + d[j]) / 2)
            for i, j in combinations(range(len(d)), 2)
        ]
        return sign * max(end.upper().fmpq() for end in ends)


def largest_is_at_most(bound: fmpq, symmetric: fmpq_mat) -> bool:
    """Whether lambda_max <= bound."""
    return inertia(shifted(symmetric, bound))[2] == 0


def largest_is_at_least(bound: fmpq, symmetric: fmpq_mat) -> bool:
    """Whether lambda_max >= bound."""
    return inertia(shifted(symmetric, bound))[0] < symmetric.nrows()


def least_is_at_least(bound: fmpq, symmetric: fmpq_mat) -> bool:
    """Whether lambda_min >= bound."""
    return inertia(shifted(symmetric, bound))[0] == 0


@CLAIM.sampled(method="exact rationals", instances=1000)
def largest(random: Random) -> Outcome:
    """d_i + R_i = <s_i, rho> and n/m <= ||rho||^2/n <= sigma_1^2 <= max <s_i, rho> <=
    min(1 + r, max rho_k): m, n = 1..8; slack: of the inequalities between bounds.
    """
    m, n = random.randint(1, 8), random.randint(1, 8)
    S = random_matrix(random, m, n)
    G = gram(S)
    d, R = gershgorin(G)
    rho = row_sums(S)
    overlaps = (S.transpose() * fmpq_mat(m, 1, rho)).entries()
    below, above = squared_norm(rho) / n, max(overlaps)
    slack = min(below - fmpq(n, m), above - below, 1 + max(R) - above, max(rho) - above)
    holds = (
        overlaps == [a + b for a, b in zip(d, R, strict=True)]
        and slack >= 0
        and largest_is_at_least(below, G)
        and largest_is_at_most(above, G)
    )
    return Outcome(holds, str(S), float(arb(slack)))


@CLAIM.sampled(method="exact rationals", instances=1000)
def smallest(random: Random) -> Outcome:
    """lambda_min(S^T S) >= min (d_i - R_i) and lambda_min(S S^T) >= min (2 ||t_k||^2 - rho_k); for m = n
    both eigenvalues are sigma_n^2: m, n = 1..8.
    """
    S = random_matrix(random, random.randint(1, 8), random.randint(1, 8))
    G = gram(S)
    d, R = gershgorin(G)
    column_bound = min(a - b for a, b in zip(d, R, strict=True))
    row_bound = min(2 * squared_norm(t) - sum(t, fmpq(0)) for t in S.table())
    holds = least_is_at_least(column_bound, G) and least_is_at_least(row_bound, S * S.transpose())
    return Outcome(holds, str(S))


@CLAIM.sampled(method="exact rationals", instances=500)
def collatz_and_wielandt(random: Random) -> Outcome:
    """min (Gv)_i/v_i <= sigma_1^2 <= max (Gv)_i/v_i <= max <s_i, rho> for v = G 1: m, n = 1..8;
    slack: of the last inequality.
    """
    S = random_matrix(random, random.randint(1, 8), random.randint(1, 8))
    G = gram(S)
    low, high = collatz_wielandt(G)
    slack = max(row_sums(G)) - high
    holds = largest_is_at_least(low, G) and largest_is_at_most(high, G) and slack >= 0
    return Outcome(holds, str(S), float(arb(slack)))


@CLAIM.sampled(method="exact rationals", instances=500)
def ovals(random: Random) -> Outcome:
    """the eigenvalues of G lie in the ovals |x - d_i| |x - d_j| <= R_i R_j, i != j: m, n = 2..8, with the
    endpoints of the ovals rounded outwards to 128 bits.
    """
    S = random_matrix(random, random.randint(2, 8), random.randint(2, 8))
    G = gram(S)
    high, low = cassini(G, largest=True), cassini(G, largest=False)
    return Outcome(largest_is_at_most(high, G) and least_is_at_least(low, G), str(S))


@CLAIM.derivation
def ovals_are_no_worse_than_discs() -> Iterator[Outcome]:
    """an oval of Cassini extends no further than the larger of its two Gershgorin discs."""
    d, x = sympy.symbols("d_i x", real=True)
    R, Q, t, beyond = sympy.symbols("R_i R_j t u", nonnegative=True)
    for sign, side in ((1, "right"), (-1, "left")):
        end = d + sign * R  # of disc i; disc j ends t before it
        other = end - sign * (t + Q)  # d_j
        product = (x - d) * (x - other)
        yield step(
            f"{side}: where disc i ends, (x - d_i)(x - d_j) = R_i R_j + R_i t",
            sympy.expand(product.subs(x, end) - R * Q - R * t) == 0,
        )
        yield step(
            f"{side}: u further out it is larger by u^2 + u (R_i + R_j + t)",
            sympy.expand(
                product.subs(x, end + sign * beyond)
                - product.subs(x, end)
                - beyond**2
                - beyond * (R + Q + t)
            )
            == 0,
        )
