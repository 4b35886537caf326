"""Proposition 3.1 of the paper, its equality cases, and the best bound for n = 2.

Let the columns s_1 .. s_n of the n x n matrix S be probability vectors, n >= 2, and
r = max_i sum_{j != i} <s_i, s_j>. Then

    0 <= sigma_1(S) - sigma_n(S) <= sqrt(1 + r) - sqrt(max(1/n - r, 0)).

The left side is attained exactly by the permutation matrices. The right side is attained exactly
when, for some m >= 2, S has m identical one-hot columns e_k, every other column has a zero k-th
entry, and no row sum of overlaps R_i exceeds m - 1. So no softmax of finite logits attains either.
For n = 2 the best bound in r alone is sqrt(2) r up to r = sqrt(2) - 1, 1 - sqrt(1 - 2r) up to
r = 1/2, and sqrt(2r) beyond.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from random import Random

import sympy
from flint import arb, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, combine, nonnegative, positive, step
from proofs.exact import (
    diagonal,
    from_columns,
    gram,
    in_order,
    inertia,
    probability_matrices,
    random_probability_matrix,
    shifted,
    singular_values,
    softmax_columns,
    square_root,
    to_fmpq,
)

CLAIM = Claim(__name__)

Columns = Sequence[Sequence[Fraction | int]]


def largest_overlap(G: fmpq_mat) -> fmpq:
    """Largest overlap r = max_i R_i, from the Gram matrix."""
    n = G.nrows()
    return max(sum((G[i, j] for j in range(n) if j != i), fmpq(0)) for i in range(n))


def upper_bound(r: fmpq, n: int) -> arb:
    """Right side of the proposition."""
    return arb(1 + r).sqrt() - arb(max(fmpq(1, n) - r, fmpq(0))).sqrt()


@CLAIM.exhaustive(method="symbolic")
def norms_of_probability_vectors() -> Iterator[Outcome]:
    """squared column norms lie in [1/n, 1], so all discs of G lie in [1/n - r, 1 + r]: n = 2..6."""
    for n in range(2, 7):
        s = sympy.symbols(f"s1:{n + 1}", nonnegative=True)
        square, total = sum(x**2 for x in s), sum(s)
        spread = sum((x - total / n) ** 2 for x in s)
        yield step(
            f"n = {n}: sum s_k^2 - (sum s_k)^2/n is a sum of squares",
            sympy.expand(square - total**2 / n - spread) == 0,
        )
        cross = sum(a * b for a, b in product(s, s) if a is not b)
        yield step(
            f"n = {n}: (sum s_k)^2 - sum s_k^2 is a sum of products of entries >= 0",
            sympy.expand(total**2 - square - cross) == 0,
        )


@CLAIM.sampled(method="ball arithmetic", instances=1000)
def bound(random: Random) -> Outcome:
    """0 <= gap <= sqrt(1 + r) - sqrt(max(1/n - r, 0)), n = 2..8."""
    n = random.randint(2, 8)
    S = random_probability_matrix(random, n, n)
    G = gram(S)
    r = largest_overlap(G)
    if attains_right_side(G, r):  # the slack is exactly zero, which balls cannot decide
        return Outcome(True, str(S), 0.0)

    def slack() -> arb:
        values = singular_values(S)
        return upper_bound(r, n) - (values[0] - values[-1])

    return nonnegative(slack, S)


@CLAIM.sampled(method="ball arithmetic", instances=200)
def softmax_is_strict(random: Random) -> Outcome:
    """0 < gap < sqrt(1 + r) - sqrt(max(1/n - r, 0)) for the softmax of finite logits: n = 2..6."""
    n = random.randint(2, 6)
    scale = random.choice([Fraction(1, 10), Fraction(1), Fraction(10), Fraction(30)])
    logits = [
        [to_fmpq(scale * Fraction(random.randint(-99, 99), 100)) for _ in range(n)]
        for _ in range(n)
    ]

    def gap_and_bound() -> tuple[arb, arb]:
        S = softmax_columns(logits)
        G = gram(S)
        rows = [sum((G[i, j] for j in range(n) if j != i), arb(0)) for i in range(n)]
        r = in_order(rows)[-1]
        values = singular_values(S)
        return values[0] - values[-1], (1 + r).sqrt() - square_root(arb(1) / n - r)

    def slack_above() -> arb:
        gap, bound = gap_and_bound()
        return bound - gap

    below = positive(lambda: gap_and_bound()[0], logits)
    return combine([below, positive(slack_above, logits)])


def attains_right_side(G: fmpq_mat, r: fmpq) -> bool:
    """Decide exactly whether lambda_max(G) = 1 + r and lambda_min(G) = max(1/n - r, 0).

    The proposition bounds both eigenvalues, so it is attained only if both bounds are.
    """
    n = G.nrows()
    floor = max(fmpq(1, n) - r, fmpq(0))
    _, at_top, above = inertia(shifted(G, 1 + r))
    below, at_floor, _ = inertia(shifted(G, floor))
    return above == 0 < at_top and below == 0 < at_floor


def has_form_of_equality(columns: Columns) -> bool:
    """Whether S has m >= 2 one-hot columns e_k, zero k-th entries elsewhere, and every R_i <= m - 1."""
    n = len(columns)
    G = gram(from_columns(columns))
    overlap = largest_overlap(G)
    for k in range(n):
        m = sum(column[k] == 1 for column in columns)
        others_vanish = all(column[k] in (0, 1) for column in columns)
        if m >= 2 and others_vanish and overlap <= m - 1:
            return True
    return False


@CLAIM.exhaustive(method="exact rationals")
def assignment_matrices() -> Iterator[Outcome]:
    """0/1 matrices: permutations have gap 0, and all others attain the right side, n = 2..5."""
    for n in range(2, 6):
        for labels in product(range(n), repeat=n):
            columns = [[int(k == label) for k in range(n)] for label in labels]
            G = gram(from_columns(columns))
            permutation = len(set(labels)) == n
            attained = attains_right_side(G, largest_overlap(G))
            yield Outcome(permutation == _is_multiple_of_identity(G) != attained, str(labels))


@CLAIM.exhaustive(method="exact rationals")
def equality_cases() -> Iterator[Outcome]:
    """the gap is 0 exactly for permutations, and the right side is attained exactly by the stated form:
    all S with entries in multiples of 1/8 (n = 2), 1/4 (n = 3), 1/3 (n = 4), 1/2 (n = 5), up to order of
    columns.
    """
    for n, parts in ((2, 8), (3, 4), (4, 3), (5, 2)):
        for columns in probability_matrices(n, parts):
            G = gram(from_columns(columns))
            permutation = (
                all(1 in column for column in columns) and len(set(map(str, columns))) == n
            )
            attained = attains_right_side(G, largest_overlap(G))
            holds = (
                _is_multiple_of_identity(G) == permutation
                and attained == has_form_of_equality(columns)
            )  # fmt: skip
            yield Outcome(holds, str(columns))


@CLAIM.derivation
def best_bound_for_two() -> Iterator[Outcome]:
    """n = 2: the best bound on the gap in r alone is sqrt(2) r for r <= sqrt(2) - 1, 1 - sqrt(1 - 2r) up
    to r = 1/2, and sqrt(2r) beyond.
    """
    u, v = sympy.symbols("u v", real=True)
    r, D = sympy.symbols("r D", nonnegative=True)
    S = sympy.Matrix([[sympy.Rational(1, 2) + u, sympy.Rational(1, 2) + v],
                      [sympy.Rational(1, 2) - u, sympy.Rational(1, 2) - v]])  # fmt: skip
    overlap = (S.T * S)[0, 1]
    # gap^2 = sigma_1^2 + sigma_2^2 - 2 sigma_1 sigma_2 = ||S||_F^2 - 2 |det S|, and D = |det S|.
    yield step("D = |u - v|", sympy.expand(S.det() - (u - v)) == 0)
    yield step("r = 1/2 + 2uv", sympy.expand(overlap - sympy.Rational(1, 2) - 2 * u * v) == 0)
    frobenius = sum(x**2 for x in S)
    gap_square = 2 * r - 2 * D * (1 - D)
    yield step(
        "gap^2 = 2r - 2D(1 - D) is convex in D, so its maximum is at an endpoint of the range of D",
        sympy.expand(frobenius - 2 * D - gap_square.subs(r, overlap))
        .subs(D**2, (u - v) ** 2)
        .expand()
        == 0,
    )
    half = sympy.Rational(1, 2)
    yield step(
        "D <= 1 - r, as (1 - r)^2 - D^2 = 4 (1/4 - u^2)(1/4 - v^2) and |u|, |v| <= 1/2",
        sympy.expand((1 - overlap) ** 2 - (u - v) ** 2 - 4 * (half**2 - u**2) * (half**2 - v**2))
        == 0,
    )
    yield step(
        "D^2 >= 1 - 2r, as D^2 - (1 - 2r) = (u + v)^2",
        sympy.expand((u - v) ** 2 - (1 - 2 * overlap) - (u + v) ** 2) == 0,
    )
    yield step(
        "at u = 1/2, D = 1 - r",
        sympy.expand((u - v - 1 + overlap).subs(u, sympy.Rational(1, 2))) == 0,
    )
    yield step(
        "at D = 1 - r, gap = sqrt(2) r", sympy.expand(gap_square.subs(D, 1 - r) - 2 * r**2) == 0
    )
    least = sympy.sqrt(1 - 2 * r)
    yield step("for r < 1/2 the least D is at v = -u, where D^2 = 1 - 2r",
               sympy.expand(((u - v) ** 2 - 1 + 2 * overlap).subs(v, -u)) == 0)  # fmt: skip
    yield step(
        "there gap = 1 - sqrt(1 - 2r)",
        sympy.expand(gap_square.subs(D, least) - (1 - least) ** 2) == 0,
    )
    yield step(
        "at D = 0, gap = sqrt(2r) >= sqrt(2) r, as 2r - 2r^2 = 2r (1 - r)",
        gap_square.subs(D, 0) == 2 * r and sympy.expand(2 * r - 2 * r**2 - 2 * r * (1 - r)) == 0,
    )
    crossing = sympy.sqrt(2) - 1
    yield step(
        "sqrt(2) r and 1 - sqrt(1 - 2r) cross at r = sqrt(2) - 1, where both are 2 - sqrt(2)",
        sympy.simplify((1 - least - sympy.sqrt(2) * r).subs(r, crossing)) == 0,
    )
    slope = sympy.diff(1 - least - sympy.sqrt(2) * r, r)
    convex = sympy.diff(slope, r)
    yield step(
        "their difference is 0 at r = 0, decreases there, and is convex, so there is one crossing",
        slope.subs(r, 0) < 0 and sympy.simplify(convex - (1 - 2 * r) ** sympy.Rational(-3, 2)) == 0,
    )


@CLAIM.sampled(method="exact rationals", instances=500)
def two_columns(random: Random) -> Outcome:
    """n = 2: no S exceeds this bound."""
    a, b = (Fraction(random.randint(0, 1000), 1000) for _ in range(2))
    S = from_columns([[a, 1 - a], [b, 1 - b]])
    G = gram(S)
    r = G[0, 1]
    square = G[0, 0] + G[1, 1] - 2 * abs(S.det())
    if r * r + 2 * r <= 1:  # r <= sqrt(2) - 1
        slack = 2 * r * r - square
    elif 2 * r <= 1:  # square <= (1 - x)^2 = 2 - 2r - 2x with x = sqrt(1 - 2r)
        room = 2 - 2 * r - square
        slack = min(room, room * room - 4 * (1 - 2 * r))
    else:
        slack = 2 * r - square
    return Outcome(slack >= 0, str(S), float(arb(slack)))


def _is_multiple_of_identity(G: fmpq_mat) -> bool:
    """Whether all singular values are equal, so that the gap is 0."""
    return diagonal([G[0, 0]] * G.nrows()) == G
