"""Matrices whose columns overlap little: own rows, and bounds on singular values that do not depend on n.

Let the columns of the n x n matrix S be probability vectors, G = S^T S, d_i = G_ii, R_i = sum_{j != i}
G_ij, r = max_i R_i < 1/4 and x = (1 + sqrt(1 - 4r))/2, the larger root of x (1 - x) = r. Then every
column has an entry of at least x, in different rows, and for all n

    d_i >= x^2 = x - r,    sigma_n^2 >= x - sqrt(2) r > 0.

The first is the best bound for every r < 1/4, and 1 + sqrt(2) the best constant for small r in the
second. Beyond 1/4 there is no such bound: for every r > 1/4 some S has overlaps of at most r and
sigma_n = 0. So sigma_n^2 >= 1 - 3r holds for r <= 0.2329 and is false for 1/4 < r < 1/3.
"""

from collections.abc import Iterator
from fractions import Fraction
from random import Random
from typing import NamedTuple

import sympy
from flint import arb, ctx, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, combine, positive, step
from proofs.exact import eigenvalues, from_columns, gram
from proofs.extreme_singular_values import gershgorin, least_is_at_least, random_matrix

CLAIM = Claim(__name__)


def own_weight(r: fmpq) -> arb:
    """x = (1 + sqrt(1 - 4r))/2, for r <= 1/4."""
    return (1 + arb(1 - 4 * r).sqrt()) / 2


def least_square(r: fmpq) -> arb:
    """x - sqrt(2) r, a lower bound on sigma_n^2 for r < 1/4."""
    return own_weight(r) - arb(2).sqrt() * r


@CLAIM.derivation
def largest_entries() -> Iterator[Outcome]:
    """r < 1/4: every column has an entry of at least x = (1 + sqrt(1 - 4r))/2, in different rows, for any
    n; so d_i >= x^2 = x - r.
    """
    half = sympy.Rational(1, 2)
    yield step(
        "entries > 1/2 of two columns in one row overlap by more than 1/4",
        half * half == sympy.Rational(1, 4),
    )
    # Let b > 0 columns have no entry > 1/2. The others own different rows; b rows are left. Let c be the
    # mean share of the b columns in these rows, rho_k the row sums of the b columns there, with mean c.
    rho, c, s = sympy.symbols("rho c S", positive=True)
    yield step(
        "in such a row S (rho - S) sums to rho^2 - sum S^2 >= rho^2 - rho/2, as S <= 1/2, and rho^2 - "
        "rho/2 is convex: with mean c, its mean is at least c^2 - c/2",
        (rho**2 - rho / 2).diff(rho, 2) == 2 and sympy.expand(s / 2 - s**2 - s * (half - s)) == 0,
    )
    mean = (1 - c) / 2 + c**2 - c / 2
    yield step(
        "in the other rows they overlap with entries > 1/2: their mean R is at least (1 - c)/2 + c^2 - "
        "c/2 = (c - 1/2)^2 + 1/4 > r. So there are no such columns",
        sympy.expand(mean - (c - half) ** 2 - half**2) == 0,
    )
    # So all rows are owned. The column with the least own entry y > 1/2 has R >= (1 - y) y.
    r, y = sympy.symbols("r y", positive=True)
    x = (1 + sympy.sqrt(1 - 4 * r)) / 2
    yield step(
        "y (1 - y) <= r and y > 1/2 say y >= x, as y (1 - y) falls for y > 1/2 and x (1 - x) = r",
        sympy.expand(x * (1 - x) - r) == 0
        and (y * (1 - y)).diff(y) == 1 - 2 * y
        and sympy.expand(x**2 - x + r) == 0,
    )


@CLAIM.derivation
def least_singular_value() -> Iterator[Outcome]:
    """r < 1/4: sigma_n^2 >= x - sqrt(2) r, x = (1 + sqrt(1 - 4r))/2, for any n."""
    # Row i is owned by column i with x_i >= x; b_ij is the entry of column j in it, o_j = sum_i x_i b_ij
    # and in_j = x_j sum_l b_jl, so o_j + in_j <= R_j <= r and 1 - x_j = sum_i b_ij <= o_j/x.
    own, rest = sympy.symbols("own rest", real=True)
    yield step(
        "(x_i v_i + rest)^2 >= (x_i v_i)^2 + 2 x_i v_i rest",
        sympy.expand((own + rest) ** 2 - own**2 - 2 * own * rest - rest**2) == 0,
    )
    v, w = sympy.symbols("v w", real=True)
    kappa = sympy.sqrt(2) - 1
    yield step(
        "2 v w >= -kappa v^2 - w^2/kappa with kappa = sqrt(2) - 1, 1/kappa = sqrt(2) + 1: ||S v||^2 >= "
        "sum_j v_j^2 (x_j^2 - kappa o_j - in_j/kappa)",
        sympy.simplify(kappa * v**2 + w**2 / kappa + 2 * v * w - (kappa * v + w) ** 2 / kappa) == 0
        and sympy.simplify(1 / kappa - sympy.sqrt(2) - 1) == 0,
    )
    o, x = sympy.symbols("o x", positive=True)
    r = x * (1 - x)
    bracket = (1 - o / x) ** 2 - kappa * o - (r - o) / kappa
    yield step(
        "the bracket is at least (1 - o/x)^2 - kappa o - (r - o)/kappa, of slope 2 (o - r)/x^2 in o, so "
        "least at o = r, where it is x - sqrt(2) r",
        sympy.simplify(bracket.diff(o) - 2 * (o - r) / x**2) == 0
        and sympy.simplify(bracket.subs(o, r) - x + sympy.sqrt(2) * r) == 0,
    )


@CLAIM.exhaustive(method="ball arithmetic")
def two_columns() -> Iterator[Outcome]:
    """1 + sqrt(2) is the best constant for small r: S = (1 - r, 0; r, 1) has sigma_2^2 <
    1 - (1 + sqrt(2)) r + 2 r^2, r = 10^-1 .. 10^-8.
    """
    for k in range(1, 9):
        r = fmpq(1, 10**k)
        G = gram(fmpq_mat([[1 - r, fmpq(0)], [r, fmpq(1)]]))

        def slack(r: fmpq = r, G: fmpq_mat = G) -> arb:
            return (1 - (1 + arb(2).sqrt()) * r + 2 * r * r - eigenvalues(G)[0]) / arb(r) ** 2

        yield combine([step("R = r", max(gershgorin(G)[1]) == r), positive(slack, f"r = {r}")])


class Tower(NamedTuple):
    """Levels 0 .. L of columns, the first with one entry 1, the others with their own entry x_j.

    Level j has sizes[j] columns. Each spreads 1 - x_j evenly over the own rows of level j - 1.
    """

    weights: list[fmpq]
    sizes: list[int]

    @classmethod
    def of(cls, overlap: fmpq, levels: int, ratio: int) -> "Tower":
        """Weights x_0 = 1, x_j = 1 - overlap/x_{j-1}, down to 0 at most; sizes fall by `ratio` to 1."""
        weights = [fmpq(1)]
        while len(weights) <= levels and weights[-1] > 0:
            weights.append(max(fmpq(0), 1 - overlap / weights[-1]))
        return cls(weights, [ratio ** (len(weights) - 1 - j) for j in range(len(weights))])

    def overlaps(self) -> list[fmpq]:
        """R of a column of each level."""
        x, N = self.weights, self.sizes
        found = []
        for j in range(len(x)):
            total = fmpq(0)
            if j:
                total += (1 - x[j]) * x[j - 1] + (N[j] - 1) * (1 - x[j]) ** 2 / N[j - 1]
            if j + 1 < len(x):
                total += fmpq(N[j + 1], N[j]) * (1 - x[j + 1]) * x[j]
            found.append(total)
        return found

    def last_norm(self) -> fmpq:
        """d of a column of the last level."""
        return self.weights[-1] ** 2 + (1 - self.weights[-1]) ** 2 / self.sizes[-2]

    def columns(self) -> list[list[Fraction]]:
        """All columns. Column k owns row k."""
        n, found = sum(self.sizes), []
        for j, size in enumerate(self.sizes):
            start, x = sum(self.sizes[:j]), Fraction(int(self.weights[j].p), int(self.weights[j].q))
            for i in range(size):
                column = [Fraction(0)] * n
                column[start + i] = x
                if j:
                    below = self.sizes[j - 1]
                    column[start - below : start] = [(1 - x) / below] * below
                found.append(column)
        return found


@CLAIM.exhaustive(method="exact rationals")
def towers() -> Iterator[Outcome]:
    """some d_i is within 1/1000 of x^2 for r = 1/10, 1/5, 6/25; and for overlaps of at most 0.2501, 0.26,
    0.3, each up to 10^-5, a matrix has a row of zeros, so that sigma_n = 0.
    """
    for overlap in (fmpq(1, 10), fmpq(1, 5), fmpq(6, 25)):
        tower = Tower.of(overlap, 40, 10**6)
        r = max(tower.overlaps())
        near = arb(tower.last_norm()) - own_weight(r) ** 2
        yield Outcome(bool(near < fmpq(1, 1000)) and 4 * r < 1, f"r = {overlap}, d - x^2 = {near}")
    for overlap in (fmpq(2501, 10**4), fmpq(26, 100), fmpq(3, 10)):
        tower = Tower.of(overlap, 200, 10**6)
        holds = tower.weights[-1] == 0 and max(tower.overlaps()) < overlap + fmpq(1, 10**5)
        yield Outcome(holds, f"r = {overlap}, {len(tower.weights)} levels")


@CLAIM.exhaustive(method="exact rationals")
def norm_below_one_minus_two_r() -> Iterator[Outcome]:
    """d_i >= 1 - 2 r is false, from 41 columns on: d_i = 0.5656 where 1 - 2 r = 0.58 (r = 0.21)."""
    count, t, m = 20, Fraction(1, 5), Fraction(1, 4)
    # Pair p has columns e_p and t e_p + (1 - t) e_p'; the last column has m / 20 in each row p'.
    n = 2 * count + 1
    columns = [[Fraction(0)] * n for _ in range(n)]
    for pair in range(count):
        first, second = columns[2 * pair : 2 * pair + 2]
        first[2 * pair] = Fraction(1)
        second[2 * pair], second[2 * pair + 1] = t, 1 - t
        columns[-1][2 * pair + 1] = m / count
    columns[-1][-1] = 1 - m
    d, R = gershgorin(gram(from_columns(columns)))
    yield Outcome(d[-1] < 1 - 2 * max(R) and max(R) == fmpq(21, 100), str(columns))


def random_square(random: Random) -> fmpq_mat:
    """Random square matrix, n = 2..8; half of them have small overlaps and move entries along chains."""
    n = random.randint(2, 8)
    if random.random() < 0.5:
        return random_matrix(random, n, n)
    most = Fraction(1, random.choice([3, 4, 5, 10, 100, 10**6]))
    columns = []
    for j in range(n):
        column = [Fraction(int(i == j)) for i in range(n)]
        if random.random() < 0.5:
            share = most * Fraction(random.randint(1, 10), 10)
            targets = random.sample([i for i in range(n) if i != j], random.randint(1, n - 1))
            column[j] -= share
            for i in targets:
                column[i] += share / len(targets)
        columns.append(column)
    return from_columns(columns)


@CLAIM.sampled(method="exact rationals", instances=1000)
def own_rows(random: Random) -> Outcome:
    """r < 1/4: the largest entries of the columns are in different rows, the least of them, y, has
    y > 1/2 and y (1 - y) <= r, and d_i >= y^2: n = 2..8; slack: r - y (1 - y).
    """
    S = random_square(random)
    d, R = gershgorin(gram(S))
    if 4 * max(R) >= 1:
        return Outcome(True, "r >= 1/4")
    columns = S.transpose().table()
    rows = {max(range(len(column)), key=column.__getitem__) for column in columns}
    y = min(max(column) for column in columns)
    slack = max(R) - y * (1 - y)
    holds = len(rows) == len(columns) and 2 * y > 1 and slack >= 0 and min(d) >= y * y
    return Outcome(holds, str(S), float(arb(slack)))


@CLAIM.sampled(method="exact rationals", instances=1000)
def smallest(random: Random) -> Outcome:
    """r < 1/4: sigma_n^2 >= x - sqrt(2) r, rounded down to 128 bits: n = 2..8."""
    G = gram(random_square(random))
    r = max(gershgorin(G)[1])
    if 4 * r >= 1:
        return Outcome(True, "r >= 1/4")
    with ctx.workprec(128):
        bound = least_square(r).lower().fmpq()
    return Outcome(least_is_at_least(bound, G), str(G))


@CLAIM.exhaustive(method="ball arithmetic")
def three_r() -> Iterator[Outcome]:
    """x - sqrt(2) r >= 1 - 3r up to 0.2329, not at 0.233: it is concave in r, and 1 at r = 0."""
    inside, beyond = fmpq(2329, 10**4), fmpq(233, 10**3)
    yield positive(lambda: least_square(inside) - 1 + 3 * inside, "r = 0.2329")
    yield positive(lambda: 1 - 3 * beyond - least_square(beyond), "r = 0.233")
    yield step("r = 0", own_weight(fmpq(0)) == 1)
