"""The softmax of rank-1 logits with many points, and the kernel that its singular values tend to.

Let x_1, .., x_m and y_1, .., y_n lie in [-1, 1] and S = softmax(s x y^T) over columns, s > 0. Let t_1 >=
t_2 >= .. be the singular values, for the uniform distribution on [-1, 1], of the kernel

    k(x, y) = e^{sxy} sy/sinh(sy).

Let W_x be the quadratic mean and delta the maximum, over u in (0, 1], of the distance of the k-th
smallest x, k = ceil(um), from the uniform quantile 2u - 1, and r_x the quadratic mean of the x or
1/sqrt(3), whichever is larger. Then for every i, with sigma_i(S) = 0 for i > min(m, n),

    |sqrt(m/n) sigma_i(S) - t_i| <= s (1 + 2s) e^{s delta} (W_x r_y + r_x W_y).

For independent uniform points the mean of W_x^2 is 2/(3m), so the singular values tend to the t_i.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache, partial
from itertools import count, pairwise, zip_longest
from math import factorial
from random import Random

import sympy
from flint import acb, arb, arb_mat, ctx, fmpq

from proofs.claims import PRECISIONS, Claim, Outcome, nonnegative, step
from proofs.exact import (
    eigenvalues,
    in_order,
    singular_values,
    softmax_columns,
    square_root,
    to_fmpq,
)

CLAIM = Claim(__name__)

Points = Sequence[Fraction]


@CLAIM.steps
def kernel_and_distance() -> Iterator[Outcome]:
    """the kernel and its bound, its derivative along moving points, and the mean of W_x^2."""
    z, s, x, y = sympy.symbols("z s x y", positive=True)
    D = sympy.sinh(s * y) / (s * y)
    yield step(
        "the mean of e^{sxy} over uniform x is D(y) = sinh(sy)/(sy), the limit of the column sums over m",
        sympy.simplify(
            sympy.integrate(sympy.exp(s * x * y), (x, -1, 1)).rewrite(sympy.exp) / 2
            - D.rewrite(sympy.exp)
        )
        == 0,
    )
    below = 1 - (1 + 2 * z) * sympy.exp(-2 * z)
    yield step(
        "e^z z/sinh z = 2z/(1 - e^{-2z}) <= 1 + 2z, as 1 - (1 + 2z) e^{-2z} has the slope 4z e^{-2z}",
        sympy.simplify((sympy.exp(z) * z / sympy.sinh(z)).rewrite(sympy.exp)
                       - 2 * z / (1 - sympy.exp(-2 * z))) == 0
        and sympy.expand((1 + 2 * z) * (1 - sympy.exp(-2 * z)) - 2 * z - below) == 0
        and sympy.simplify(below.diff(z) - 4 * z * sympy.exp(-2 * z)) == 0,
    )  # fmt: skip
    theta = sympy.Symbol("theta", real=True)
    X, Y, D = (sympy.Function(name)(theta) for name in ("X", "Y", "D"))
    g = sympy.exp(s * X * Y) / D
    rate = s * (X.diff(theta) * Y + X * Y.diff(theta))
    yield step(
        "g = e^{sXY}/D changes by g times s (X'Y + XY') less (ln D)', its mean over X with weights g",
        sympy.simplify(g.diff(theta) - g * (rate - sympy.log(D).diff(theta))) == 0,
    )
    m, k = sympy.symbols("m k", positive=True)
    middle, u = (2 * k - 1) / m - 1, sympy.Symbol("u", real=True)
    square = m * sympy.integrate((x - 2 * u + 1) ** 2, (u, (k - 1) / m, k / m))
    yield step(
        "the mean of (x - 2u + 1)^2 over (k - 1)/m < u <= k/m is (x - middle)^2 + 1/(3m^2)",
        sympy.simplify(square - (x - middle) ** 2 - 1 / (3 * m**2)) == 0,
    )
    # The k-th smallest of m uniform points is 2B - 1, B of the beta distribution (k, m + 1 - k).
    B, variance = k / (m + 1), k * (m + 1 - k) / ((m + 1) ** 2 * (m + 2))
    expected = 4 * variance + (2 * B - 1 - middle) ** 2 + 1 / (3 * m**2)
    yield step(
        "for uniform points the mean of W_x^2 is 2/(3m)",
        sympy.simplify(sympy.summation(sympy.expand(expected), (k, 1, m)) / m - 2 / (3 * m)) == 0,
    )


@cache
def kernel_values(s: fmpq) -> list[arb]:
    """The P largest singular values t_i of the kernel, in balls.

    The squares for sum_p x^p (s^p/p!) y^p w(y), w = sy/sinh(sy), are the eigenvalues of A B, with the
    second moments A of the x^p and B of the functions of y. The powers p >= P that are left out are at
    most sum_p s^p/p! < 1e-15.
    """
    P = next(P for P in count(2, 2) if s**P * 10**16 < factorial(P))
    for bits in PRECISIONS[2:]:
        with ctx.workprec(bits):
            of_y = moments(s, P)
            squares = [x for start in (0, 1) for x in squared_values(s, range(start, P, 2), of_y)]
            if all(x.is_finite() for x in squares):
                error = arb(0, (arb(s) ** P / factorial(P) / (1 - arb(s) / (P + 1))).upper())
                return [square_root(x) + error for x in reversed(in_order(squares))]
    raise ArithmeticError(f"the singular values of the kernel at s = {s} are not isolated")


def squared_values(s: fmpq, powers: range, of_y: Sequence[arb]) -> list[arb]:
    """Eigenvalues of A B for even or odd powers, from the moments of y."""
    A = arb_mat([[arb(fmpq(1, p + q + 1)) for q in powers] for p in powers])
    B = arb_mat(
        [
            [arb(s) ** (p + q) / (factorial(p) * factorial(q)) * of_y[(p + q) // 2] for q in powers]
            for p in powers
        ]
    )
    return eigenvalues(A * B)


def moments(s: fmpq, number: int) -> list[arb]:
    """int_0^1 y^(2j) (sy/sinh(sy))^2 dy for j < number, in balls."""
    found = []
    for j in range(number):

        def integrand(y: acb, _: bool, power: int = 2 * j) -> acb:
            return y**power / (acb(0, 1) * acb(s) * y).sinc() ** 2

        found.append(acb.integral(integrand, 0, 1).real)
    return found


def offsets(points: Points) -> list[Fraction]:
    """The k-th smallest of m points less the middle (2k - 1)/m - 1 of its quantiles."""
    m = len(points)
    return [x - Fraction(2 * k + 1, m) + 1 for k, x in enumerate(sorted(points))]


def distance(points: Points) -> arb:
    """W_x, the quadratic mean of the k-th smallest point less 2u - 1, (k - 1)/m < u <= k/m."""
    m = len(points)
    square = sum((x * x for x in offsets(points)), Fraction(0)) / m + Fraction(1, 3 * m * m)
    return arb(to_fmpq(square)).sqrt()


def size(points: Points) -> arb:
    """r_x, the larger of the quadratic means of the points and of the uniform distribution."""
    square = sum((x * x for x in points), Fraction(0)) / len(points)
    return arb(to_fmpq(max(square, Fraction(1, 3)))).sqrt()


def distance_bound(s: fmpq, x: Points, y: Points) -> arb:
    """s (1 + 2s) e^{s delta} (W_x r_y + r_x W_y)."""
    delta = max(abs(offset) for offset in offsets(x)) + Fraction(1, len(x))
    growth = s * (1 + 2 * s) * arb(s * to_fmpq(delta)).exp()
    return growth * (distance(x) * size(y) + size(x) * distance(y))


def slack_of(s: fmpq, x: Points, y: Points) -> arb:
    """Smallest slack of the bound over all i, divided by the bound.

    i runs to the largest of m, n and the number of kernel values; missing values count as 0.
    """
    S = softmax_columns([[s * to_fmpq(a * b) for b in y] for a in x])
    if len(x) < len(y):
        S = S.transpose()
    found = [(arb(len(x)) / len(y)).sqrt() * value for value in singular_values(S)]
    bound = distance_bound(s, x, y)
    pairs = zip_longest(found, kernel_values(s), fillvalue=arb(0))
    return in_order([bound - abs(a - b) for a, b in pairs])[0] / bound


def random_points(random: Random, number: int) -> list[Fraction]:
    """Points in [-1, 1]: uniform, the middles of equal intervals, moved, shrunk, crowded or equal."""
    kind = random.choice(["uniform", "middles", "moved", "shrunk", "crowded", "equal"])
    middles = [Fraction(2 * k + 1, number) - 1 for k in range(number)]
    if kind == "uniform":
        return [Fraction(random.randint(-999, 999), 1000) for _ in middles]
    if kind == "moved":
        return [x + Fraction(random.randint(-9, 9), 10 * number) for x in middles]
    if kind == "shrunk":
        share = Fraction(random.randint(1, 9), 10)
        return [x * share for x in middles]
    if kind == "crowded":
        return [x**3 for x in middles]
    return [Fraction(random.choice([0, 1, 1]))] * number if kind == "equal" else middles


@CLAIM.sampled(method="ball arithmetic", instances=100)
def near_the_kernel(random: Random) -> Outcome:
    """|sqrt(m/n) sigma_i(S) - t_i| <= s (1 + 2s) e^{s delta} (W_x r_y + r_x W_y) for all i: m, n = 2..12,
    s = 1/1000..4; slack: divided by the bound.
    """
    s = to_fmpq(random.choice([Fraction(1, 1000), Fraction(1, 10), Fraction(1), Fraction(4)]))
    x, y = (random_points(random, random.randint(2, 12)) for _ in range(2))
    return nonnegative(lambda: slack_of(s, x, y), (s, x, y))


@CLAIM.exhaustive(method="ball arithmetic")
def middles_of_intervals() -> Iterator[Outcome]:
    """m = n = 4, 8, 16 middles of equal intervals, s = 1, 4: the bound, and errors of t_1, t_2 and t_3
    that fall by a factor of 3 at least where n doubles.
    """
    for s in (fmpq(1), fmpq(4)):
        errors: list[list[arb]] = []
        for n in (4, 8, 16):
            x = [Fraction(2 * k + 1, n) - 1 for k in range(n)]
            yield nonnegative(partial(slack_of, s, x, x), f"n = {n}, s = {s}")
            with ctx.workprec(256):
                S = softmax_columns([[s * to_fmpq(a * b) for b in x] for a in x])
                found = singular_values(S)[:3]
                errors.append([abs(a - b) for a, b in zip(found, kernel_values(s), strict=False)])
        for i in range(3):
            falls = all(3 * after[i] < before[i] for before, after in pairwise(errors))
            yield Outcome(falls, f"s = {s}, t_{i + 1}: {[float(e[i].mid()) for e in errors]}")


@CLAIM.exhaustive(method="ball arithmetic")
def sum_of_squares() -> Iterator[Outcome]:
    """sum t_i^2 = int_0^1 sy coth(sy) dy, the mean of k^2, to 12 digits, s = 1/10, 1, 4."""
    for s in (fmpq(1, 10), fmpq(1), fmpq(4)):

        def integrand(y: acb, _: bool, s: fmpq = s) -> acb:
            z = acb(s) * y
            return z.cosh() / (acb(0, 1) * z).sinc()

        def agreement(s: fmpq = s) -> arb:
            squares = sum((t * t for t in kernel_values(s)), arb(0))
            return arb(10) ** -12 - abs(squares - acb.integral(integrand, 0, 1).real)

        yield nonnegative(agreement, f"s = {s}")
