"""Singular values of the softmax of small logits, with explicit error bounds, and critical scales.

Let M be m x n, S = softmax(s M) over columns, s > 0, w the largest spread (maximum minus minimum) of a
column of M, x = s w, P = I - 11^T/m and P' = I - 11^T/n. Then for every s

    sqrt(n/m) <= sigma_1(S) <= ||S||_F <= sqrt(n/m) cosh(x/2),
    sigma_i(P S P') / cosh(x/2) <= sigma_{i+1}(S) <= sigma_i(P S P'),
    |sigma_i(P S P') - (s/m) sigma_i(P M P')| <= sqrt(n/m) (e^x - 1 - x)/2,

and for x <= 1, with mu = sigma_i(P M P') / sqrt(m n),

    |sigma_{i+1}(S) / sqrt(n/m) - s mu| <= x^2/2,    |sigma_{i+1}(S)/sigma_1(S) - s mu| <= x^2/2.

So the scale at which sigma_{i+1}/sigma_1 first reaches gamma in (0, 1) lies between s*/(1 + kappa) and
s* (1 + 2 kappa), with s* = gamma/mu and kappa = gamma w^2/(2 mu^2), if kappa <= 1/5.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import reduce
from random import Random

import sympy
from flint import arb, arb_mat, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, nonnegative, positive, step
from proofs.exact import Matrix, singular_values, softmax_columns, to_fmpq

CLAIM = Claim(__name__)


def spread(M: fmpq_mat) -> fmpq:
    """Largest spread w, the difference between the extreme entries of a column."""
    return max(max(column) - min(column) for column in M.transpose().table())


def doubly_centred(M: fmpq_mat) -> fmpq_mat:
    """Doubly centred logits P M P'."""
    m, n = M.nrows(), M.ncols()
    rows = fmpq_mat(m, m, [fmpq(1, m)] * (m * m))
    columns = fmpq_mat(n, n, [fmpq(1, n)] * (n * n))
    centred = M - rows * M
    return centred - centred * columns


def doubly_centred_balls(S: arb_mat) -> arb_mat:
    """P S P' for S with column sums 1: S_kj - rho_k/n, rho its row sums."""
    n = S.ncols()
    return arb_mat([[x - sum(row, arb(0)) / n for x in row] for row in S.table()])


def descending(S: Matrix) -> list[arb]:
    """The min(m, n) singular values."""
    return singular_values(S if S.nrows() >= S.ncols() else S.transpose())


def softmax(M: fmpq_mat, s: fmpq | arb) -> arb_mat:
    """Softmax of s M over columns."""
    return softmax_columns([[s * x for x in row] for row in M.table()])


def random_logits(random: Random) -> fmpq_mat:
    """Logits with 2..5 rows and columns: dense, low-rank, with an outlier, shifted, nearly diagonal, with
    two values (where the bound on the norm is nearly attained), or nearly constant.
    """
    m, n = random.randint(2, 5), random.randint(2, 5)
    entries = [[Fraction(random.randint(-99, 99), 10) for _ in range(n)] for _ in range(m)]
    kinds = ["dense", "low-rank", "outlier", "shifted", "diagonal", "two values", "constant"]
    kind = random.choice(kinds)
    if kind == "low-rank":
        entries = [[row[0] * x for x in entries[0]] for row in entries]
    elif kind == "outlier":
        entries[random.randrange(m)][random.randrange(n)] *= 1000
    elif kind == "diagonal":
        entries = [[x + 10**5 * (i == j) for j, x in enumerate(r)] for i, r in enumerate(entries)]
    elif kind == "two values":
        entries = [[Fraction(10**6 * random.randint(0, 1)) for _ in range(n)] for _ in range(m)]
    elif kind == "constant":
        entries = [[x / 10**9 for x in row] for row in entries]
    elif kind == "shifted":
        entries = [[x / 1000 + i + j**2 for j, x in enumerate(r)] for i, r in enumerate(entries)]
    # Every column has a positive spread and no two rows are equal.
    entries = [[x + Fraction((i + 1) ** (j + 2), 997) for j, x in enumerate(r)]
               for i, r in enumerate(entries)]  # fmt: skip
    return fmpq_mat(m, n, [to_fmpq(x) for row in entries for x in row])


def random_scale(random: Random, M: fmpq_mat, choices: list[Fraction]) -> fmpq:
    """Random s for which s w is one of the given values."""
    return to_fmpq(random.choice(choices)) / spread(M)


@CLAIM.steps
def algebra() -> Iterator[Outcome]:
    """the inequalities behind the bounds, by squares and power series."""
    a, b, c, z, t = sympy.symbols("a sigma beta zeta t", positive=True)
    v = sympy.symbols("v", real=True)
    # y = (v - t, zeta) with t <= beta zeta/a has ||S^T y||^2 >= N = a^2 v^2 + sigma^2 zeta^2.
    N = a**2 * v**2 + b**2 * z**2
    yield step(
        "(v - t)^2 <= N (1/a^2 + t^2/(sigma zeta)^2) (Cauchy and Schwarz)",
        sympy.simplify(
            N * (1 / a**2 + t**2 / (b * z) ** 2)
            - (v - t) ** 2
            - (a * v * t / (b * z) + b * z / a) ** 2
        )
        == 0,
    )
    yield step(
        "with zeta^2 <= N/sigma^2: ||y||^2 <= N (a^2 + beta^2 + sigma^2)/(a sigma)^2",
        sympy.simplify(
            (1 / a**2 + (c * z / a) ** 2 / (b * z) ** 2 + 1 / b**2)
            - (a**2 + c**2 + b**2) / (a * b) ** 2
        )
        == 0,
    )
    E, low, y, x = sympy.symbols("E l y x", positive=True)
    yield step(
        "entries in [l, E l] with mean 1 have mean square <= (1 + E) l - E l^2, as "
        "(y - l)(E l - y) >= 0",
        sympy.expand((1 + E) * low * y - E * low**2 - y**2 - (y - low) * (E * low - y)) == 0,
    )
    yield step(
        "which is (1 + E)^2/(4E) minus a square",
        sympy.simplify(
            (1 + E) ** 2 / (4 * E)
            - ((1 + E) * low - E * low**2)
            - E * (low - (1 + E) / (2 * E)) ** 2
        )
        == 0,
    )
    yield step(
        "and cosh(x/2)^2 for E = e^x",
        sympy.simplify(
            ((1 + E) ** 2 / (4 * E)).subs(E, sympy.exp(x))
            - sympy.cosh(x / 2).rewrite(sympy.exp) ** 2
        )
        == 0,
    )
    yield step(
        "for x <= 1: (e^x - 1 - x)/2 + tanh(x/2)^2 sinh(x/2) <= x^2 ((e - 2)/2 + sinh(1/2)/4) < x^2/2",
        arb(1).exp() / 2 - 1 + (arb(1) / 2).sinh() / 4 < arb(1) / 2,
    )


@CLAIM.derivation
def crossing() -> Iterator[Outcome]:
    """if s mu - x^2/2 <= ratio <= s mu + x^2/2 for x <= 1 and kappa <= 1/5, the ratio first reaches gamma
    between s*/(1 + kappa) and s* (1 + 2 kappa).
    """
    gamma, mu, w, theta, kappa = sympy.symbols("gamma mu w theta kappa", positive=True)
    s = theta * gamma / mu
    exact = gamma * w**2 / (2 * mu**2)
    yield step(
        "at s = theta s*: x^2/2 = gamma kappa theta^2",
        sympy.expand((s * w) ** 2 / 2 - gamma * exact * theta**2) == 0,
    )
    before = theta + kappa * theta**2
    yield step(
        "theta + kappa theta^2 increases, and is 1 - kappa^2/(1+kappa)^2 < 1 at theta = 1/(1+kappa)",
        sympy.simplify(before.subs(theta, 1 / (1 + kappa)) - 1 + (kappa / (1 + kappa)) ** 2) == 0,
    )
    after = theta - kappa * theta**2
    yield step(
        "theta - kappa theta^2 = 1 + kappa (2 - theta^2) at theta = 1 + 2 kappa",
        sympy.expand((after - 1 - kappa * (2 - theta**2)).subs(theta, 1 + 2 * kappa)) == 0,
    )
    most = sympy.Rational(7, 5)
    yield step("theta^2 < 2 there, if kappa <= 1/5", most**2 < 2)
    yield step("and x^2 = 2 gamma kappa theta^2 < 1", 2 * sympy.Rational(1, 5) * most**2 < 1)


@CLAIM.sampled(method="ball arithmetic", instances=150)
def sandwich(random: Random) -> Outcome:
    """1 <= sigma_1(S)/sqrt(n/m) <= ||S||_F/sqrt(n/m) <= cosh(x/2) and sigma_i(PSP')/cosh(x/2) <=
    sigma_{i+1}(S) <= sigma_i(PSP'): m, n = 2..5, x = 1/1000..20.
    """
    M = random_logits(random)
    scales = [Fraction(1, 1000), Fraction(1, 10), Fraction(1), Fraction(4), Fraction(20)]
    s = random_scale(random, M, scales)
    m, n = M.nrows(), M.ncols()

    def slacks() -> list[arb]:
        S = softmax(M, s)
        first, *others = descending(S)
        centred = descending(doubly_centred_balls(S))
        unit, growth = (arb(n) / m).sqrt(), (arb(s * spread(M)) / 2).cosh()
        norm = sum((x * x for x in S.entries()), arb(0)).sqrt()
        found = [first - unit, norm - first, unit * growth - norm]
        for value, inner in zip(others, centred, strict=False):
            found += [inner - value, value - inner / growth]
        return found

    return each(slacks, (s, M))


@CLAIM.sampled(method="ball arithmetic", instances=100)
def remainder(random: Random) -> Outcome:
    """|sigma_i(PSP') - (s/m) sigma_i(PMP')| <= sqrt(n/m) (e^x - 1 - x)/2: m, n = 2..5,
    x = 1/1000..8; slack: divided by x^2.
    """
    M = random_logits(random)
    scales = [Fraction(1, 1000), Fraction(1, 10), Fraction(1), Fraction(3), Fraction(8)]
    s = random_scale(random, M, scales)
    m, n = M.nrows(), M.ncols()

    def slacks() -> list[arb]:
        x = arb(s * spread(M))
        bound = (arb(n) / m).sqrt() * (x.exp() - 1 - x) / 2
        values = descending(doubly_centred_balls(softmax(M, s)))
        expected = descending(doubly_centred(M))
        return [
            (bound - abs(value - arb(s) / m * other)) / x**2
            for value, other in zip(values, expected, strict=True)
        ]

    return each(slacks, (s, M))


@CLAIM.sampled(method="ball arithmetic", instances=150)
def first_order(random: Random) -> Outcome:
    """x <= 1: sigma_{i+1}(S)/sqrt(n/m) and sigma_{i+1}(S)/sigma_1(S) are s mu up to x^2/2: m, n = 2..5,
    x = 1/1000..1; slack: divided by x^2.
    """
    M = random_logits(random)
    s = random_scale(random, M, [Fraction(1, 1000), Fraction(1, 10), Fraction(1, 2), Fraction(1)])
    m, n = M.nrows(), M.ncols()

    def slacks() -> list[arb]:
        x = arb(s * spread(M))
        first, *others = descending(softmax(M, s))
        expected = [arb(s) * value / (arb(m) * n).sqrt() for value in descending(doubly_centred(M))]
        return [
            arb(1) / 2 - abs(value / unit - other) / x**2
            for unit in (first, (arb(n) / m).sqrt())
            for value, other in zip(others, expected, strict=False)
        ]

    return each(slacks, (s, M))


@CLAIM.exhaustive(method="ball arithmetic")
def least_constant() -> Iterator[Outcome]:
    """no constant below 1/17 could replace 1/2 in x^2/2: one logit of 1 among zeros, m = 7, n = 2, has an
    error of at least x^2/17 for x = 1/10, 1/100, 1/1000, and of less than x^2/15.
    """
    M = fmpq_mat(7, 2, [fmpq(1)] + [fmpq(0)] * 13)
    for s in (fmpq(1, 10), fmpq(1, 100), fmpq(1, 1000)):

        def slack(s: fmpq = s) -> arb:
            first, second, *_ = descending(softmax(M, s))
            expected = arb(s) * descending(doubly_centred(M))[0] / arb(14).sqrt()
            share = (second / first - expected) / arb(s) ** 2
            return (share - fmpq(1, 17)).min(fmpq(1, 15) - share)

        yield positive(slack, f"x = {s}")


@CLAIM.sampled(method="ball arithmetic", instances=100)
def critical_scales(random: Random) -> Outcome:
    """sigma_{i+1}/sigma_1 < gamma at s*/(1 + kappa), > gamma at s* (1 + 2 kappa): m, n = 2..5,
    kappa = 10^-6..1/5; slack: divided by gamma kappa.
    """
    M = random_logits(random)
    m, n = M.nrows(), M.ncols()
    i = random.randrange(min(m, n) - 1)
    kappa = to_fmpq(random.choice([Fraction(1, 5), Fraction(1, 20), Fraction(1, 10**6)]))

    def slacks() -> list[arb]:
        mu = descending(doubly_centred(M))[i] / (arb(m) * n).sqrt()
        gamma = 2 * kappa * mu**2 / arb(spread(M)) ** 2
        found = []
        for sign, factor in ((-1, 1 / (1 + kappa)), (1, 1 + 2 * kappa)):
            s = factor * gamma / mu
            values = descending(softmax(M, s))
            found.append(sign * (values[i + 1] / values[0] - gamma) / gamma / kappa)
        return found

    return positive(lambda: reduce(arb.min, slacks()), (kappa, i, M))


def each(slacks: Callable[[], list[arb]], witness: object) -> Outcome:
    """Whether all of these are >= 0."""
    return nonnegative(lambda: reduce(arb.min, slacks()), witness)
