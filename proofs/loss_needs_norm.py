"""A low cross-entropy needs large logits: the minimum loss for a given norm.

With logits M of n samples over c classes at temperature T and R = ||M||_F / (sqrt(n) T),

    mean cross-entropy >= phi(R) = ln(1 + (c - 1) exp(-R sqrt(c / (c - 1)))),

attained exactly by the simplex logits r (e_y - 1/c), for any class sizes. So a loss epsilon < ln c needs

    ||M||_F >= sqrt(n) T sqrt((c - 1) / c) ln((c - 1) / (e^epsilon - 1)),

Uniform predictions have the loss phi(0) = ln c, and every loss differs from ln c by at most sqrt(2) R.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from random import Random

import sympy
from flint import arb

from proofs.claims import Claim, Outcome, combine, nonnegative, step
from proofs.exact import to_fmpq

CLAIM = Claim(__name__)


@CLAIM.exhaustive(method="symbolic")
def least_loss() -> Iterator[Outcome]:
    """c = 2..6, one sample with centred logits x, ||x|| = R, T = 1: -ln p_y >= phi(R), equality for
    x = R sqrt(c / (c - 1)) (e_y - 1/c); phi is convex and decreasing, so the bound holds for means;
    phi(0) = ln c; |-ln p_y - ln c| <= sqrt(2) R.
    """
    t, u = sympy.symbols("t u", real=True)
    tangent = sympy.exp(t) - 1 - t
    yield step(
        "e^t >= 1 + t: e^t - 1 - t is convex, with value and slope 0 at 0",
        tangent.subs(t, 0) == 0
        and tangent.diff(t).subs(t, 0) == 0
        and tangent.diff(t, 2) == sympy.exp(t),
    )
    for c in range(2, 7):
        x = sympy.symbols(f"x1:{c}", real=True)  # the wrong logits
        own = -sum(x)
        mean = sum(x) / sympy.Integer(c - 1)
        yield step(
            f"c = {c}: sum_wrong (1 + u_k - mean u) = c - 1: sum_wrong e^u_k >= (c - 1) e^(mean u)",
            sympy.expand(sum(1 + v - mean for v in x)) == c - 1,
        )
        yield step(
            f"c = {c}: mean of x_k - x_y is -c/(c-1) x_y",
            sympy.expand(mean - own + sympy.Rational(c, c - 1) * own) == 0,
        )
        spread = sum((v - mean) ** 2 for v in x)
        square = own**2 + sum(v**2 for v in x)
        yield step(
            f"c = {c}: ||x||^2 = c/(c-1) x_y^2 + a sum of squares, so x_y <= R sqrt((c-1)/c)",
            sympy.expand(square - sympy.Rational(c, c - 1) * own**2 - spread) == 0,
        )
        p = sympy.symbols(f"p1:{c}", nonnegative=True)  # the wrong probabilities
        cross = sum(a * b for a, b in product(p, p) if a is not b)
        yield step(
            f"c = {c}: ||p - e_y||^2 = 2 (1 - p_y)^2 - a sum of products >= 0",
            sympy.expand(sum(v**2 for v in p) + sum(p) ** 2 - 2 * sum(p) ** 2 + cross) == 0,
        )
    c = sympy.Symbol("c", integer=True, positive=True)
    m = sympy.Symbol("m", positive=True)  # c - 1
    k = sympy.sqrt((m + 1) / m)
    phi = sympy.log(1 + m * sympy.exp(-k * u))
    q = m * sympy.exp(-k * u) / (1 + m * sympy.exp(-k * u))
    yield step("phi' = -k q, 0 < q < 1", sympy.simplify(phi.diff(u) + k * q) == 0)
    yield step("phi'' = k^2 q (1 - q)", sympy.simplify(phi.diff(u, 2) - k**2 * q * (1 - q)) == 0)
    yield step("phi(0) = ln c", phi.subs({u: 0, m: c - 1}) == sympy.log(c))
    loss = sympy.Symbol("epsilon", positive=True)
    needed = sympy.log(m / (sympy.exp(loss) - 1)) / k
    yield step(
        "phi(R) = epsilon at R = sqrt((c-1)/c) ln((c-1)/(e^epsilon - 1))",
        sympy.simplify(1 + m * sympy.exp(-k * needed) - sympy.exp(loss)) == 0,
    )
    R = sympy.Symbol("R", positive=True)
    right, wrong = R * k * (1 - 1 / (m + 1)), -R * k / (m + 1)
    yield step(
        "simplex logits have norm R and gap k R",
        sympy.simplify(right**2 + m * wrong**2 - R**2) == 0
        and sympy.simplify(right - wrong - k * R) == 0,
    )


Logits = list[list[Fraction]]


def mean_cross_entropy(columns: Logits, labels: Sequence[int], T: Fraction) -> arb:
    """Mean cross-entropy of samples, given as columns of exact logits."""
    total = arb(0)
    for column, label in zip(columns, labels, strict=True):
        terms = (arb(to_fmpq((x - column[label]) / T)).exp() for x in column)
        total += sum(terms, arb(0)).log()
    return total / len(columns)


def centred_square(column: Sequence[Fraction]) -> Fraction:
    """Squared distance from the mean."""
    mean = sum(column, Fraction(0)) / len(column)
    return sum(((x - mean) ** 2 for x in column), Fraction(0))


def effective_norm(columns: Logits, T: Fraction) -> arb:
    """R = ||M||_F / (sqrt(n) T) of the centred logits."""
    square = sum(map(centred_square, columns), Fraction(0)) / len(columns)
    return arb(to_fmpq(square / T**2)).sqrt()


def least_cross_entropy(R: arb, c: int) -> arb:
    """Lower bound phi(R) of the loss."""
    return (1 + (c - 1) * (-R * (arb(c) / (c - 1)).sqrt()).exp()).log()


def is_simplex(columns: Logits, labels: Sequence[int]) -> bool:
    """Whether the centred columns are r (e_y - 1/c) with one r >= 0 for all."""
    gaps = [
        {column[label] - x for k, x in enumerate(column) if k != label}
        for column, label in zip(columns, labels, strict=True)
    ]
    return len(set.union(*gaps)) == 1 and min(gaps[0]) >= 0


@CLAIM.sampled(method="ball arithmetic", instances=500)
def least_loss_for_a_norm(random: Random) -> Outcome:
    """phi(R) <= mean cross-entropy <= ln c + sqrt(2) R for random, nearly simplex and wrong logits,
    c = 2..6, n = 1..6, T = 1/10 .. 1000, any class sizes, R of centred logits; phi(R) to 30 digits for
    simplex logits.
    """
    c, n = random.randint(2, 6), random.randint(1, 6)
    T = Fraction(random.choice([1, 10, 370, 10**4]), 10)
    labels = [random.randrange(c) for _ in range(n)]
    size = T * random.choice([Fraction(1, 1000), Fraction(1), Fraction(10)])
    simplex, noise = (
        random.choice([0, 1, 1, -1]),
        random.choice([Fraction(0), Fraction(1, 10**6), Fraction(1)]),
    )
    columns = [
        [
            size * (simplex * (k == y) + noise * Fraction(random.randint(-99, 99), 100))
            for k in range(c)
        ]
        for y in labels
    ]
    witness = f"logits (columns) {columns}, labels {labels}, T = {T}"

    def distance() -> arb:
        return mean_cross_entropy(columns, labels, T) - least_cross_entropy(
            effective_norm(columns, T), c
        )

    if is_simplex(columns, labels):
        outcome = nonnegative(lambda: arb(10) ** -30 - abs(distance()), witness)
        return outcome._replace(slack=None)

    def room_above() -> arb:
        R = effective_norm(columns, T)
        return arb(c).log() + arb(2).sqrt() * R - mean_cross_entropy(columns, labels, T)

    return combine([nonnegative(distance, witness), nonnegative(room_above, witness)])
