"""A low softmax-MSE needs large logits, as a low cross-entropy does, but only up to 35 classes.

With logits M of n samples over c classes at temperature T, R = ||M||_F/(sqrt(n) T), k = sqrt(c/(c-1)) and
q(R) = (c - 1)/(e^{kR} + c - 1),

    mean ||softmax(m_i/T) - e_{y_i}||^2 >= psi(R) = c/(c - 1) q(R)^2    for c <= 35,

with equality for the simplex logits r (e_y - 1/c). So a loss epsilon < (c - 1)/c needs

    ||M||_F >= sqrt(n) T sqrt((c-1)/c) ln((c - 1)(1/q - 1)),    q = sqrt(epsilon (c-1)/c).

For a single sample, or equal norms of all samples, this holds for every c. For c >= 36 it fails at some
norms: psi(sqrt(u)) is convex in u = R^2 exactly if c - 1 <= q/(1 - q) e^{1/(3q - 2)} for q = (15 +
sqrt(33))/24, which is 34.4, and otherwise samples of unequal norms have a lower mean loss.
"""

from collections.abc import Iterator
from fractions import Fraction
from random import Random

import sympy
from flint import arb, fmpq

from proofs.claims import Claim, Outcome, nonnegative, positive, step
from proofs.loss_needs_norm import Logits, effective_norm, is_simplex

CLAIM = Claim(__name__)


def least_mse(R: arb, c: int) -> arb:
    """Lower bound psi(R) of the loss of one sample."""
    wrong = (c - 1) / ((R * (arb(c) / (c - 1)).sqrt()).exp() + c - 1)
    return wrong**2 * c / (c - 1)


def turning_point() -> arb:
    """q = (15 + sqrt(33))/24, where q/(1 - q) e^{1/(3q - 2)} is least."""
    return (15 + arb(33).sqrt()) / 24


@CLAIM.derivation
def one_sample() -> Iterator[Outcome]:
    """||p - e_y||^2 >= psi(R) for one sample of any number of classes, with the norm that psi needs."""
    q, squares, m, u = sympy.symbols("q squares m u", positive=True)  # m = c - 1 wrong classes
    spread = squares - 2 * q / m * q + m * (q / m) ** 2
    yield step(
        "||p - e_y||^2 = q^2 + sum p_k^2 with q = 1 - p_y, and sum p_k^2 - q^2/m = sum (p_k - q/m)^2 "
        ">= 0: at least q^2 (m + 1)/m",
        sympy.expand(spread - (squares - q**2 / m)) == 0
        and sympy.simplify(q**2 + q**2 / m - q**2 * (m + 1) / m) == 0,
    )
    least = sympy.log(1 + m * sympy.exp(-u))  # the least cross-entropy at kR = u
    yield step(
        "-ln(1 - q) >= ln(1 + m e^{-kR}) (loss-needs-norm), so q >= m/(e^{kR} + m)",
        sympy.simplify(1 - sympy.exp(-least) - m / (sympy.exp(u) + m)) == 0,
    )
    loss = sympy.Symbol("epsilon", positive=True)
    share = sympy.sqrt(loss * m / (m + 1))
    needed = m * (1 / share - 1)  # e^{kR}
    yield step(
        "psi = epsilon at e^{kR} = (c - 1)(1/q - 1), q = sqrt(epsilon (c-1)/c)",
        sympy.simplify((m / (needed + m)) ** 2 * (m + 1) / m - loss) == 0,
    )


@CLAIM.derivation
def convexity() -> Iterator[Outcome]:
    """psi(sqrt(u)) is convex in u exactly if c - 1 <= q/(1 - q) e^{1/(3q - 2)} at q = (15 +
    sqrt(33))/24.
    """
    x, m, q = sympy.symbols("x m q", positive=True)  # x = kR
    share = m / (sympy.exp(x) + m)
    psi = share**2
    yield step(
        "d/dx q^2 = -2 q^2 (1 - q) and d2/dx2 q^2 = 2 q^2 (1 - q)(2 - 3q)",
        sympy.simplify(psi.diff(x) + 2 * share**2 * (1 - share)) == 0
        and sympy.simplify(psi.diff(x, 2) - 2 * share**2 * (1 - share) * (2 - 3 * share)) == 0,
    )
    f = sympy.Function("f")
    u = sympy.Symbol("u", positive=True)
    second = f(sympy.sqrt(u)).diff(u, 2).doit().subs(u, x**2).doit()
    expected = (x * f(x).diff(x, 2) - f(x).diff(x)) / (4 * x**3)
    yield step(
        "f(sqrt(u))'' = (x f'' - f')/(4 x^3), so it is >= 0 exactly if x (2 - 3q) + 1 >= 0",
        sympy.simplify(second - expected) == 0,
    )
    yield step(
        "x = ln(m (1 - q)/q): for q <= 2/3 always, and for q > 2/3 exactly if ln m <= ln(q/(1 - q)) + "
        "1/(3q - 2)",
        sympy.simplify(m / (m * (1 - q) / q + m) - q) == 0,
    )
    limit = sympy.log(q / (1 - q)) + 1 / (3 * q - 2)
    curvature = (2 * q - 1) / (q * (1 - q)) ** 2 + 18 / (3 * q - 2) ** 3
    best = (15 + sympy.sqrt(33)) / 24
    yield step(
        "the right side is convex on (2/3, 1), with slope 0 where 12 q^2 - 15 q + 4 = 0",
        sympy.simplify(limit.diff(q, 2) - curvature) == 0
        and sympy.simplify(
            limit.diff(q) * q * (1 - q) * (3 * q - 2) ** 2 - (12 * q**2 - 15 * q + 4)
        )
        == 0
        and sympy.expand(12 * best**2 - 15 * best + 4) == 0,
    )


@CLAIM.exhaustive(method="ball arithmetic")
def largest_number_of_classes() -> Iterator[Outcome]:
    """34 < q/(1 - q) e^{1/(3q - 2)} < 35 at q = (15 + sqrt(33))/24: convex exactly for c <= 35."""

    def limit() -> arb:
        q = turning_point()
        return q / (1 - q) * (1 / (3 * q - 2)).exp()

    yield positive(lambda: limit() - 34, "above 34")
    yield positive(lambda: 35 - limit(), "below 35")


@CLAIM.exhaustive(method="ball arithmetic")
def unequal_norms() -> Iterator[Outcome]:
    """c = 36..200: two samples with simplex logits of squared norms R^2 (1 +- 1/100) have a mean loss
    below psi(R), at q(R) = (15 + sqrt(33))/24; slack: relative to psi(R).
    """
    for c in range(36, 201):

        def slack(c: int = c) -> arb:
            q = turning_point()
            R = ((c - 1) * (1 - q) / q).log() * (arb(c - 1) / c).sqrt()
            ends = [least_mse(R * (1 + arb(sign) / 100).sqrt(), c) for sign in (1, -1)]
            return 1 - (ends[0] + ends[1]) / 2 / least_mse(R, c)

        yield positive(slack, f"c = {c}")


@CLAIM.sampled(method="ball arithmetic", instances=300)
def least_loss_for_a_norm(random: Random) -> Outcome:
    """mean ||p - e_y||^2 >= psi(R) for random, nearly simplex and wrong logits of unequal norms: c = 2,
    3, 5, 8, 35, n = 1..5, T = 1/10 .. 1000, R of centred logits.
    """
    c, n = random.choice([2, 3, 5, 8, 35]), random.randint(1, 5)
    T = Fraction(random.choice([1, 10, 370, 10**4]), 10)
    labels = [random.randrange(c) for _ in range(n)]
    noise = random.choice([Fraction(1, 10**6), Fraction(1, 10), Fraction(1)])
    columns = []
    for y in labels:
        size = T * random.choice([Fraction(1, 100), Fraction(1), Fraction(4), Fraction(12)])
        right = random.choice([0, 1, 1, 1, -1])
        wobbles = [noise * Fraction(random.randint(-99, 99), 100) for _ in range(c)]
        columns.append([size * (right * (k == y) + x) for k, x in enumerate(wobbles)])
    witness = f"logits (columns) {columns}, labels {labels}, T = {T}"

    def distance() -> arb:
        return mean_squared_error(columns, labels, T) - least_mse(effective_norm(columns, T), c)

    if is_simplex(columns, labels):
        outcome = nonnegative(lambda: arb(10) ** -30 - abs(distance()), witness)
        return outcome._replace(slack=None)
    return nonnegative(distance, witness)


def mean_squared_error(columns: Logits, labels: list[int], T: Fraction) -> arb:
    """Mean of ||softmax - e_y||^2 over samples, given as columns of exact logits."""
    total = arb(0)
    for column, label in zip(columns, labels, strict=True):
        scaled = [(x - column[label]) / T for x in column]
        exponentials = [arb(fmpq(x.numerator, x.denominator)).exp() for x in scaled]
        weight = sum(exponentials, arb(0))
        others = [x / weight for k, x in enumerate(exponentials) if k != label]
        total += sum(others, arb(0)) ** 2 + sum((p * p for p in others), arb(0))
    return total / len(columns)
