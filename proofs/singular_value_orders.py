"""Number of singular values of softmax(s M) of order s^p as s -> 0.

M is m x n with the softmax over columns, N = P M P' is its doubly centred form, k = rank N >= 1, and
N = A B^T with A (m x k) and B (n x k). Let H(p) = C(p+k, k) be the number of monomials of degree <= p in
k variables.

If no nonzero polynomial of degree < p vanishes on all rows of A or on all rows of B, then exactly
C(q+k-1, k-1) singular values are of order s^q for each q < p, and the next are

    sigma_{H(p-1)+i}(softmax(s M)) = s^p/(m p!) sigma_i(Q_A N^(p) Q_B) + O(s^{p+1}),

with the entrywise power N^(p) and the projections Q_A and Q_B onto the orthogonal complements of the
monomials of degree < p in the rows of A and B. If the hypothesis also holds for p + 1, then C(p+k-1, k-1)
of them are nonzero.

For N = A A^T no hypothesis is needed: exactly H_A(p) - H_A(p-1) singular values are of order s^p, where
H_A(p) is the rank of the monomials of degree <= p at the rows of A.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import reduce
from itertools import combinations_with_replacement, pairwise
from math import comb, factorial, prod
from random import Random

import sympy
from flint import arb, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, nonnegative, step
from proofs.exact import from_columns, identity, singular_values, softmax_columns, to_fmpq
from proofs.small_scale import doubly_centred

CLAIM = Claim(__name__)

Points = Sequence[Sequence[Fraction | int]]


def monomials(points: Points, degree: int) -> fmpq_mat:
    """Monomials up to the given degree (columns) at the points (rows)."""
    k = len(points[0])
    exponents = [e for q in range(degree + 1) for e in combinations_with_replacement(range(k), q)]
    rows = [[to_fmpq(Fraction(prod(point[i] for i in e))) for e in exponents] for point in points]
    return fmpq_mat(rows)


def polynomials(points: Points, degree: int) -> int:
    """Dimension of the polynomials up to the given degree, restricted to the points."""
    return monomials(points, degree).rank() if degree >= 0 else 0


def softmax_coefficients(M: fmpq_mat, degree: int) -> list[fmpq_mat]:
    """Coefficients S_0 .. S_degree of softmax(s M) = sum_p S_p s^p over columns.

    They follow from S diag(z) = E, where E = exp(s M) has the coefficients M^(p)/p! and column sums z.
    """
    m, n = M.nrows(), M.ncols()
    E = [fmpq_mat(m, n, [x**p / factorial(p) for x in M.entries()]) for p in range(degree + 1)]
    z = [[sum(column, fmpq(0)) for column in X.transpose().table()] for X in E]
    S: list[fmpq_mat] = []
    for p in range(degree + 1):
        known = sum((scale_columns(S[q], z[p - q]) for q in range(p)), fmpq_mat(m, n))
        S.append((E[p] - known) / m)
    return S


def scale_columns(X: fmpq_mat, factors: Sequence[fmpq]) -> fmpq_mat:
    """Scaled columns X diag(factors)."""
    return fmpq_mat([[x * f for x, f in zip(row, factors, strict=True)] for row in X.table()])


def counts_of_orders(coefficients: Sequence[fmpq_mat]) -> list[int]:
    """Numbers of singular values of S = sum_p S_p s^p of order s^q or larger, for q = 0, 1, ..

    S = U diag(s^e_1, s^e_2, ..) V with power series U and V that are invertible at s = 0, so the singular
    values are of order s^e_i. As a map modulo s^{q+1}, which is the block Toeplitz matrix of S_0 .. S_q,
    S has rank sum_i max(0, q + 1 - e_i). The differences of these ranks count e_i <= q.
    """
    m, n = coefficients[0].nrows(), coefficients[0].ncols()
    tables = [X.table() for X in coefficients]
    zero = [fmpq(0)] * n
    ranks = [0]
    for q in range(len(coefficients)):
        rows = [
            [x for j in range(q + 1) for x in (tables[i - j][k] if i >= j else zero)]
            for i in range(q + 1)
            for k in range(m)
        ]
        ranks.append(fmpq_mat(rows).rank())
    return [b - a for a, b in pairwise(ranks)]


def random_points(random: Random, count: int, k: int) -> list[list[int]]:
    """Points of a grid in k dimensions; on coarse grids some polynomials of low degree vanish."""
    size = random.choice([1, 2, 5, 30, 1000])
    return [[random.randint(-size, size) for _ in range(k)] for _ in range(count)]


def independent_points(random: Random, count: int, k: int, degree: int) -> list[list[int]]:
    """Distinct points on which no nonzero polynomial up to the given degree vanishes."""
    while True:
        points = random_points(random, count, k)
        distinct = len(set(map(tuple, points))) == count
        if distinct and polynomials(points, degree) == comb(degree + k, k):
            return points


def shifted_product(random: Random, A: Points, B: Points) -> fmpq_mat:
    """A B^T + u 1^T + 1 v^T with random u and v, zero for half of the matrices."""
    size = random.choice([0, 9])
    u, v = ([random.randint(-size, size) for _ in points] for points in (A, B))
    columns = [
        [
            sum(x * y for x, y in zip(a, b, strict=True)) + row + column
            for a, row in zip(A, u, strict=True)
        ]
        for b, column in zip(B, v, strict=True)
    ]
    return from_columns(columns)


@CLAIM.exhaustive(method="symbolic")
def expansion() -> Iterator[Outcome]:
    """(s <a, b>)^p/p! = s^p sum_|e|=p a^e b^e/e! for (k, p) = (1, 3), (2, 1), (2, 2), (2, 4), (3, 2),
    (3, 3), and the Schur complement that separates the orders.
    """
    for k, p in ((1, 3), (2, 1), (2, 2), (2, 4), (3, 2), (3, 3)):
        a, b = (sympy.symbols(f"{name}1:{k + 1}") for name in "ab")
        exponents = list(combinations_with_replacement(range(k), p))
        total = sum(
            prod((a[i] * b[i] for i in e), start=sympy.Integer(1))
            / prod(factorial(e.count(i)) for i in range(k))
            for e in exponents
        )
        inner = sum(x * y for x, y in zip(a, b, strict=True))
        yield step(
            f"k = {k}, p = {p}: {comb(p + k - 1, k - 1)} monomials",
            len(exponents) == comb(p + k - 1, k - 1)
            and sympy.expand(total - inner**p / factorial(p)) == 0,
        )
    Y, F, G, H = sympy.symbols("Y F G H", commutative=False)
    whole = sympy.Matrix([[Y, F], [G, H]])
    lower = sympy.Matrix([[1, 0], [G * Y**-1, 1]])
    middle = sympy.Matrix([[Y, 0], [0, H - G * Y**-1 * F]])
    upper = sympy.Matrix([[1, Y**-1 * F], [0, 1]])
    yield step(
        "(Y F; G H) = (1 0; G/Y 1) diag(Y, H - G F/Y) (1 F/Y; 0 1) for blocks",
        (lower * middle * upper - whole).expand() == sympy.zeros(2),
    )


@CLAIM.sampled(method="exact rationals", instances=120)
def orders(random: Random) -> Outcome:
    """exactly C(q+k-1, k-1) singular values are of order s^q for q <= p if no nonzero polynomial of
    degree <= p vanishes on the rows of A or B: k = 1..3, m, n = k+1..10, with and without shifts.
    """
    k = random.randint(1, 3)
    top = 7 if k == 1 else 10
    A, B = (random_points(random, random.randint(k + 1, top), k) for _ in range(2))
    M = shifted_product(random, A, B)
    p = 0
    while all(polynomials(points, p + 1) == comb(p + 1 + k, k) for points in (A, B)):
        p += 1
    found = counts_of_orders(softmax_coefficients(M, p))
    rank_is_k = p == 0 or doubly_centred(M).rank() == k
    return Outcome(found == [comb(q + k, k) for q in range(p + 1)] and rank_is_k, str(M))


@CLAIM.sampled(method="exact rationals", instances=80)
def orders_of_positive_logits(random: Random) -> Outcome:
    """logits A A^T + u 1^T + 1 v^T have H_A(q) - H_A(q-1) singular values of order s^q, q = 0..5, for any
    points: k = 1..3, n = 2..8.
    """
    k, n = random.randint(1, 3), random.randint(2, 8)
    A: Points = random_points(random, n, k)
    if k == 2 and random.random() < 0.5:  # rational points of the circle
        A = [circle_point(Fraction(random.randint(-9, 9), random.randint(1, 9))) for _ in A]
    M = shifted_product(random, A, A)
    found = counts_of_orders(softmax_coefficients(M, 5))
    return Outcome(found == [polynomials(A, q) for q in range(6)], str(A))


def circle_point(t: Fraction) -> list[Fraction]:
    """Random rational point of the unit circle."""
    return [(1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)]


def complement(points: Points, degree: int) -> fmpq_mat:
    """Projection onto the complement of the monomials up to the degree, which must be independent."""
    V = monomials(points, degree)
    return identity(len(points)) - V * (V.transpose() * V).inv() * V.transpose()


def leading_matrix(M: fmpq_mat, A: Points, B: Points, p: int) -> fmpq_mat:
    """Leading term Q_A N^(p) Q_B/(m p!)."""
    N = doubly_centred(M)
    power = fmpq_mat(N.nrows(), N.ncols(), [x**p for x in N.entries()])
    return complement(A, p - 1) * power * complement(B, p - 1) / (N.nrows() * factorial(p))


@CLAIM.sampled(method="ball arithmetic", instances=50)
def leading_terms(random: Random) -> Outcome:
    """sigma_{H(p-1)+i}(softmax(s M)) = s^p (sigma_i(Q_A N^(p) Q_B)/(m p!) + C s) with the same C at s =
    10^-40 and 10^-50, up to 10^-15 max |N_ij|^(p+1): k = 1..3, m, n = k+1..5, p = 1..3; slack: in this
    unit.
    """
    k = random.randint(1, 3)
    p = random.randint(1, 3 if k == 1 else 2)
    before = comb(p - 1 + k, k)
    n = random.randint(max(before, k) + 1, 5)
    m = random.randint(n, 5)
    A, B = (independent_points(random, count, k, p - 1) for count in (m, n))
    M = shifted_product(random, A, B)
    lead = leading_matrix(M, A, B, p)
    unit = max(abs(x) for x in doubly_centred(M).entries()) ** (p + 1) / 10**15

    def constants(s: fmpq) -> list[arb]:
        values = singular_values(softmax_columns([[s * x for x in row] for row in M.table()]))
        limits = singular_values(lead)
        return [
            (value / arb(s) ** p - limit) / s
            for value, limit in zip(values[before:], limits, strict=False)
        ]

    def slack() -> arb:
        ends = zip(constants(fmpq(1, 10**40)), constants(fmpq(1, 10**50)), strict=True)
        return 1 - reduce(arb.max, (abs(a - b) / unit for a, b in ends))

    return nonnegative(slack, (A, B))
