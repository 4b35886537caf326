"""Bounds on the gap between the extreme singular values: above in terms of the overlap, and below.

Let the columns of the n x n matrix S be probability vectors, n >= 2, G = S^T S, d_i = G_ii, R_i =
sum_{j != i} G_ij, r = max_i R_i, F = ||S||_F^2. Then d_i >= 1 - R_i - (1/2) sum_j R_j, and

    1 - sqrt((F - 1)/(n - 1)) <= sigma_1 - sigma_n <= sqrt(1 + r) - sqrt([floor(r, n)]_+),

where floor(r, n) is the larger of 1/n - r and 1 - (2 + n/2) r, and also, for r < 1/4, of x - sqrt(2) r
with x = (1 + sqrt(1 - 4r))/2 (`small_overlaps`). The right side is at most that of Proposition 3.1 and is
0 at r = 0. The left side is attained exactly when G = alpha^2 I + (1 - alpha^2) 11^T/n for some alpha in
[0, 1]. An example is alpha I + (1 - alpha) 11^T/n, where the gap is 1 - alpha and r = (n - 1)(1 -
alpha^2)/n. The softmax of a simplex ETF whose logits have margin a has this form with alpha = (e^a -
1)/(e^a + n - 1).
"""

from collections.abc import Iterator
from itertools import product
from random import Random

import sympy
from flint import arb, ctx, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, step
from proofs.exact import from_columns, gram, probability_matrices
from proofs.extreme_singular_values import (
    gershgorin,
    largest_is_at_least,
    largest_is_at_most,
    least_is_at_least,
    random_matrix,
)
from proofs.small_overlaps import least_square, random_square

CLAIM = Claim(__name__)


def floor_in_r(r: fmpq, n: int) -> fmpq:
    """Lower bound on sigma_n^2 in terms of r and n, rounded down (128 bits)."""
    floor = max(fmpq(1, n), 1 - (1 + fmpq(n, 2)) * r) - r
    if 4 * r >= 1:
        return floor
    with ctx.workprec(128):
        return max(floor, least_square(r).lower().fmpq())


def mean_of_the_others(G: fmpq_mat) -> fmpq:
    """(F - 1)/(n - 1), an upper bound on sigma_n^2."""
    return (sum(gershgorin(G)[0], fmpq(0)) - 1) / (G.nrows() - 1)


@CLAIM.derivation
def norms_and_overlaps() -> Iterator[Outcome]:
    """d_i >= 1 - R_i - (1/2) sum_j R_j for every column."""
    s, e, p, x = sympy.symbols("s e_2 p x", nonnegative=True)
    # By induction over numbers x in [0, 1] with sum s, e_2 the sum of the products of all pairs, and
    # p = prod (1 - x): 1 - s <= p and p <= 1 - s + e_2. A further x has e_2 + x s, (1 - x) p.
    yield step(
        "1 - s - x = (1 - s - p) + (1 - x) p - x (1 - p), so 1 - s <= p stays true",
        sympy.expand((1 - s - p) + (1 - x) * p - x * (1 - p) - (1 - s - x)) == 0,
    )
    yield step(
        "1 - s - x + e_2 + x s - (1 - x) p = (1 - s + e_2 - p) + x (p - (1 - s)) >= 0, so "
        "p <= 1 - s + e_2 stays true",
        sympy.expand((1 - s + e - p) + x * (p - (1 - s)) - (1 - s - x + e + x * s - (1 - x) * p))
        == 0,
    )
    # Hence s - 1 <= e_2 = (s^2 - sum x^2)/2, as p >= 0. With row k of S: [rho_k - 1]_+ <= e_2(row k), and
    # 2 sum_k e_2(row k) = sum_j R_j. The rho_k sum to n, so sum_k [1 - rho_k]_+ = sum_k [rho_k - 1]_+.
    own, rho = sympy.symbols("S_ki rho_k", nonnegative=True)
    yield step(
        "d_i + R_i = sum_k S_ki rho_k, so 1 - d_i - R_i = sum_k S_ki (1 - rho_k) <= "
        "sum_k [1 - rho_k]_+ <= (1/2) sum_j R_j",
        sympy.expand(own - own * rho - own * (1 - rho)) == 0,
    )


@CLAIM.sampled(method="exact rationals", instances=1000)
def norm_of_a_column(random: Random) -> Outcome:
    """d_i >= 1 - R_i - (1/2) sum_j R_j, n = 2..8."""
    S = random_square(random)
    d, R = gershgorin(gram(S))
    slack = min(own + overlap for own, overlap in zip(d, R, strict=True)) - 1 + sum(R, fmpq(0)) / 2
    return Outcome(slack >= 0, str(S), float(arb(slack)))


@CLAIM.sampled(method="exact rationals", instances=1000)
def from_above(random: Random) -> Outcome:
    """sigma_1^2 <= 1 + r and sigma_n^2 >= 1/n - r, 1 - (2 + n/2) r, and, for r < 1/4, x - sqrt(2) r
    rounded down to 128 bits: n = 2..8.
    """
    S = random_square(random)
    G, n = gram(S), S.nrows()
    r = max(gershgorin(G)[1])
    return Outcome(largest_is_at_most(1 + r, G) and least_is_at_least(floor_in_r(r, n), G), str(S))


@CLAIM.sampled(method="exact rationals", instances=1000)
def from_below(random: Random) -> Outcome:
    """sigma_1 >= 1 and sigma_n^2 <= (F - 1)/(n - 1), n = 2..8."""
    n = random.randint(2, 8)
    S = random_matrix(random, n, n)
    G = gram(S)
    least = largest_is_at_least(-mean_of_the_others(G), -G)
    return Outcome(largest_is_at_least(fmpq(1), G) and least, str(S))


def attains_left_side(G: fmpq_mat) -> bool:
    """Whether sigma_1 = 1 and sigma_n^2 = (F - 1)/(n - 1), both bounds of the left side."""
    return largest_is_at_most(fmpq(1), G) and least_is_at_least(mean_of_the_others(G), G)


def has_form_of_equality(G: fmpq_mat) -> bool:
    """Whether G = alpha^2 I + (1 - alpha^2) 11^T/n for some alpha in [0, 1]."""
    n = G.nrows()
    square = 1 - n * G[0, 1]
    form = [square * (i == j) + (1 - square) / n for i, j in product(range(n), repeat=2)]
    return 0 <= square <= 1 and G.entries() == form


@CLAIM.exhaustive(method="exact rationals")
def equality_from_below() -> Iterator[Outcome]:
    """the left side is attained exactly if G = alpha^2 I + (1 - alpha^2) 11^T/n: all S with entries in
    multiples of 1/8 (n = 2), 1/6 (n = 3), 1/3 (n = 4), 1/2 (n = 5), up to order of columns.
    """
    for n, parts in ((2, 8), (3, 6), (4, 3), (5, 2)):
        for columns in probability_matrices(n, parts):
            G = gram(from_columns(columns))
            yield Outcome(attains_left_side(G) == has_form_of_equality(G), str(columns))


@CLAIM.derivation
def mixtures_of_identity_and_mean() -> Iterator[Outcome]:
    """alpha I + (1 - alpha) 11^T/n has r = (n - 1)(1 - alpha^2)/n, attains the left side, and is the
    softmax of an ETF.
    """
    alpha, n, a = sympy.symbols("alpha n a", positive=True)
    own, other = alpha + (1 - alpha) / n, (1 - alpha) / n
    diagonal = own**2 + (n - 1) * other**2
    overlap = 2 * own * other + (n - 2) * other**2
    yield step("G_ij = (1 - alpha^2)/n, i != j", sympy.simplify(overlap - (1 - alpha**2) / n) == 0)
    yield step(
        "G_ii = alpha^2 + (1 - alpha^2)/n",
        sympy.simplify(diagonal - alpha**2 - (1 - alpha**2) / n) == 0,
    )
    yield step(
        "eigenvalues of G: 1 for the vector 1, alpha^2 for vectors with sum zero",
        sympy.simplify(diagonal + (n - 1) * overlap - 1) == 0
        and sympy.simplify(diagonal - overlap - alpha**2) == 0,
    )
    yield step(
        "(F - 1)/(n - 1) = alpha^2, so the bound from below is the gap 1 - alpha",
        sympy.simplify((n * diagonal - 1) / (n - 1) - alpha**2) == 0,
    )
    weight = (sympy.exp(a) - 1) / (sympy.exp(a) + n - 1)
    total = sympy.exp(a) + n - 1
    yield step(
        "softmax of true logit a, others 0: alpha = (e^a - 1)/(e^a + n - 1)",
        sympy.simplify(own.subs(alpha, weight) - sympy.exp(a) / total) == 0
        and sympy.simplify(other.subs(alpha, weight) - 1 / total) == 0,
    )
