"""Classes that merge at the global minimum of the two-factor model, from which temperature on.

Let n samples have c classes, m >= 2 of which (the set K) have q samples each, the others any numbers, and

    f(W, H) = (1/n) sum_i CE(W h_i/T) + lw/2 ||W||_F^2 + lh/2 ||H||_F^2,    T* = sqrt(q)/(n sqrt(lw lh)).

If W has at least c - m + 1 columns, the rows of K in W are equal at every global minimum for T >= T*, and
at no minimum, not even a local one, for T < T*. With k1 classes of N samples and k2 of N/r this says for
a = 1/(T sqrt(N lw lh)) that the k2 classes merge exactly for

    k1 sqrt(r) + k2/sqrt(r) >= a,

that is, if k2 <= k1 and a > c, from the imbalance r* = ((a + sqrt(a^2 - 4 k1 k2))/(2 k1))^2 on.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from random import Random
from typing import Any, NamedTuple

import sympy
from flint import arb, arb_mat, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, positive, step
from proofs.exact import singular_values, to_fmpq

CLAIM = Claim(__name__)


class Problem(NamedTuple):
    """The m classes of K come first, with q samples each; then classes of `others` samples."""

    merging: int
    own: int
    others: tuple[int, ...]
    weight_decay: fmpq
    feature_decay: fmpq
    temperature: fmpq

    @property
    def classes(self) -> int:
        """Number of classes c."""
        return self.merging + len(self.others)

    @property
    def labels(self) -> list[int]:
        """Class of each sample."""
        counts = [self.own] * self.merging + list(self.others)
        return [k for k, count in enumerate(counts) for _ in range(count)]

    @property
    def critical_temperature(self) -> arb:
        """T* = sqrt(q)/(n sqrt(lw lh))."""
        decays = arb(self.weight_decay * self.feature_decay)
        return (self.own / decays).sqrt() / len(self.labels)

    def loss(self, logits: fmpq_mat | arb_mat) -> arb:
        """Mean cross-entropy."""
        total = arb(0)
        columns: Any = logits.transpose().tolist()  # the stub declares object
        for column, y in zip(columns, self.labels, strict=True):
            gaps = [x - column[y] for k, x in enumerate(column) if k != y]
            total += sum(((arb(gap) / self.temperature).exp() for gap in gaps), arb(0)).log1p()
        return total / len(self.labels)

    def objective(self, W: fmpq_mat, H: fmpq_mat) -> arb:
        """f(W, H)."""
        squares = [sum((x * x for x in factor.entries()), fmpq(0)) for factor in (W, H)]
        decays = self.weight_decay * squares[0] / 2 + self.feature_decay * squares[1] / 2
        return self.loss(W * H) + arb(decays)

    def relaxed(self, logits: fmpq_mat) -> arb:
        """F(M), the least f(W, H) with W H = M: the loss plus sqrt(lw lh) times the nuclear norm."""
        decays = arb(self.weight_decay * self.feature_decay).sqrt()
        return self.loss(logits) + decays * sum(singular_values(logits.transpose()), arb(0))

    def differences(self) -> fmpq_mat:
        """E = P_K Y: the labels of K minus their mean over K, zero elsewhere."""
        m, labels = self.merging, self.labels
        inside = [
            fmpq(int(k == y)) - fmpq(1, m) if k < m and y < m else fmpq(0)
            for k in range(self.classes)
            for y in labels
        ]
        return fmpq_mat(self.classes, len(labels), inside)

    def merged(self, logits: fmpq_mat) -> fmpq_mat:
        """M_0: the logits with averages in place of the rows of K and of the columns of its samples."""
        rows, columns = range(self.merging), range(self.merging * self.own)
        halfway = averaged(logits.table(), rows)
        return fmpq_mat(averaged(list(zip(*halfway, strict=True)), columns)).transpose()


def averaged(rows: Sequence[Sequence[fmpq]], which: range) -> list[list[fmpq]]:
    """Replace some rows by their mean."""
    mean = [
        sum(column, fmpq(0)) / len(which) for column in zip(*(rows[i] for i in which), strict=True)
    ]
    return [mean if i in which else list(row) for i, row in enumerate(rows)]


@CLAIM.derivation
def a_difference_costs_more() -> Iterator[Outcome]:
    """for T >= T* a merged M_0 has a lower F than M_0 + s E, s != 0, for any sizes of the classes."""
    m, q, n, T, decays = sympy.symbols("m q n T decays", positive=True)
    # E E^T = q P_K, P_K = I - 11^T/m on K: m - 1 singular values sqrt(q); <Y, E> = tr(Y^T P_K Y).
    alpha, beta = sympy.Integer(1), -1 / m
    yield step(
        "P_K is a projector of trace m - 1, so ||E||_* = (m - 1) sqrt(q) and <Y, E> = q (m - 1)",
        sympy.expand(alpha**2 - alpha) == 0
        and sympy.expand(2 * alpha * beta + m * beta**2 - beta) == 0
        and sympy.expand(m * (alpha + beta) - (m - 1)) == 0,
    )
    p = sympy.Symbol("p", positive=True)
    yield step(
        "with probability p for every class of K, <softmax, E> = p (1 - 1/m) - (m - 1) p/m = 0 in each "
        "column, so the slope of the loss at s = 0 is -<Y, E>/(n T)",
        sympy.expand(p * (1 - 1 / m) - (m - 1) * p / m) == 0,
    )
    # P_K 1 = 0, so M_0^T E = 0 and M_0 E^T = 0, and the nuclear norms of M_0 and s E add up.
    slope = -q * (m - 1) / (n * T)
    norm = (m - 1) * sympy.sqrt(q) * sympy.sqrt(decays)
    critical = sympy.sqrt(q) / (n * sympy.sqrt(decays))
    yield step(
        "F(M_0 + s E) - F(M_0) >= |s| (sqrt(lw lh) ||E||_* - q (m - 1)/(n T)) "
        "= |s| sqrt(lw lh) ||E||_* (1 - T*/T), as the loss is convex in s; strictly for s != 0, as it is "
        "strictly convex",
        sympy.simplify(norm + slope - norm * (1 - critical / T)) == 0,
    )


@CLAIM.derivation
def a_difference_pays() -> Iterator[Outcome]:
    """for T < T* factors with equal rows of K, u a vector on K with sum zero: a further column d u of W
    and row d t (Y^T u)^T of H, t = sqrt(lw/(lh q)), change f by at most -A d^2 + B d^4 with
    A = lw ||u||^2 (T*/T - 1) > 0.
    """
    q, n, T, lw, lh, u, d = sympy.symbols("q n T lw lh u d", positive=True)  # u = ||u||
    t = sympy.sqrt(lw / (lh * q))
    gain = (
        t * q * u**2 / (n * T)
    )  # -<gradient, u t (Y^T u)^T>, as u^T softmax = 0 and Y Y^T = q I on K
    cost = (lw * u**2 + lh * t**2 * q * u**2) / 2
    critical = sympy.sqrt(q) / (n * sympy.sqrt(lw * lh))
    yield step("the two decays are equal: cost = lw ||u||^2", sympy.simplify(cost - lw * u**2) == 0)
    yield step(
        "gain - cost = lw ||u||^2 (T*/T - 1)",
        sympy.simplify(gain - cost - lw * u**2 * (critical / T - 1)) == 0,
    )
    A, B = sympy.symbols("A B", positive=True)
    yield step(
        "-A d^2 + B d^4 is -A^2/(4B) at d^2 = A/(2B)",
        sympy.simplify((-A * d**2 + B * d**4).subs(d, sympy.sqrt(A / (2 * B))) + A**2 / (4 * B))
        == 0,
    )


@CLAIM.derivation
def threshold_of_imbalance() -> Iterator[Outcome]:
    """T >= T* for k2 classes of N/r samples beside k1 of N says k1 sqrt(r) + k2/sqrt(r) >= a, whose last
    zero is r*; with one size and m = c, T* is the temperature from which W = H = 0.
    """
    N, k1, k2, T, decays, x = sympy.symbols("N k1 k2 T decays x", positive=True)  # x = sqrt(r)
    n = k1 * N + k2 * N / x**2
    critical = sympy.sqrt(N / x**2) / (n * sympy.sqrt(decays))
    a = 1 / (T * sympy.sqrt(N * decays))
    yield step(
        "T/T* = (k1 x + k2/x)/a",
        sympy.simplify(T / critical - (k1 * x + k2 / x) / a) == 0,
    )
    A = sympy.Symbol("a", positive=True)
    root = (A + sympy.sqrt(A**2 - 4 * k1 * k2)) / (2 * k1)
    yield step("k1 x + k2/x = a at x = sqrt(r*)", sympy.simplify(k1 * root + k2 / root - A) == 0)
    yield step(
        "k1 x + k2/x rises for x^2 > k2/k1, so for x > 1 if k2 <= k1, and is c at x = 1",
        sympy.simplify((k1 * x + k2 / x).diff(x) - (k1 - k2 / x**2)) == 0,
    )
    c = sympy.Symbol("c", positive=True)
    yield step(
        "q = N, n = cN: T >= T* says tau = T sqrt(N lw lh) >= 1/c",
        sympy.simplify(
            sympy.sqrt(N) / (c * N * sympy.sqrt(decays)) - 1 / (c * sympy.sqrt(N * decays))
        )
        == 0,
    )


def random_problem(random: Random, relative: Fraction) -> Problem:
    """Random sizes and decays, at a temperature of about `relative` T*, and not on its other side."""
    m, own = random.randint(2, 3), random.choice([1, 1, 2, 4])
    others = tuple(random.randint(1, 6) for _ in range(random.randint(0, 2)))
    weight_decay = Fraction(random.randint(1, 9), 10 ** random.randint(1, 5))
    n = m * own + sum(others)
    temperature = Fraction(random.randint(1, 99), random.choice([1, 10, 100]))
    # T* = sqrt(own)/(n sqrt(lw lh)), so this is exact at relative = 1.
    feature_decay = own * relative**2 / (weight_decay * (n * temperature) ** 2)
    numbers = (to_fmpq(x) for x in (weight_decay, feature_decay, temperature))
    return Problem(m, own, others, *numbers)


def random_matrix(random: Random, rows: int, columns: int) -> fmpq_mat:
    """Random rationals in [-1, 1]."""
    return fmpq_mat(rows, columns, [fmpq(random.randint(-9, 9), 9) for _ in range(rows * columns)])


HOT = [Fraction(1), Fraction(1), Fraction(10001, 10000), Fraction(3, 2), Fraction(20)]
COLD = [Fraction(9999, 10000), Fraction(9, 10), Fraction(1, 2), Fraction(1, 20)]


@CLAIM.sampled(method="ball arithmetic", instances=150)
def merged_is_lower(random: Random) -> Outcome:
    """T >= T*, also T = T*: F(M) > F(M_0) for random M, and for M_0 + s E with s = 1e-4..10, where F is
    higher by at least |s| sqrt(lw lh) ||E||_* (1 - T*/T): m = 2, 3, c = 2..5.
    """
    problem = random_problem(random, random.choice(HOT))
    E = problem.differences()
    size = problem.temperature * fmpq(random.choice([1, 10]), random.choice([1, 10]))
    M = random_matrix(random, problem.classes, len(problem.labels)) * size
    near = random.random() < 0.5
    s = fmpq(random.choice([-1, 1]) * 10 ** random.randint(0, 5), 10**4) * problem.temperature

    def slack() -> arb:
        start = problem.merged(M)
        if not near:
            return problem.relaxed(M) - problem.relaxed(start)
        decays = arb(problem.weight_decay * problem.feature_decay).sqrt()
        norm = (problem.merging - 1) * arb(problem.own).sqrt()
        least = (
            abs(arb(s)) * decays * norm * (1 - problem.critical_temperature / problem.temperature)
        )
        rise = problem.relaxed(start + E * s) - problem.relaxed(start)
        return rise - least if least > 0 else rise

    return positive(slack, f"{problem}, {M}, s = {s}, near: {near}")


@CLAIM.sampled(method="ball arithmetic", instances=150)
def merged_is_no_minimum(random: Random) -> Outcome:
    """T < T*: from random factors with equal rows of K, f falls by more than A^2/(4B) in a further
    dimension at d^2 = A/(2B), B = q t^2 ||u||^4/(4 n T^2): m = 2, 3, c = 2..5, d = 1..4; slack: in A^2/B.
    """
    problem = random_problem(random, random.choice(COLD))
    c, n, m = problem.classes, len(problem.labels), problem.merging
    d = random.randint(1, 4)
    W = fmpq_mat(averaged(random_matrix(random, c, d).table(), range(m)))
    H = random_matrix(random, d, n) * problem.temperature
    u = [fmpq(1), fmpq(-1)] if m == 2 else [fmpq(1), fmpq(random.randint(-1, 1))]
    u += [-sum(u, fmpq(0))] * (m - len(u)) + [fmpq(0)] * (c - m)
    square = sum((x * x for x in u), fmpq(0))

    def slack() -> arb:
        T, lw = arb(problem.temperature), arb(problem.weight_decay)
        t = (lw / (problem.feature_decay * problem.own)).sqrt()
        A = lw * square * (problem.critical_temperature / T - 1)
        B = problem.own * t**2 * square**2 / (4 * n * T**2)
        further = A / (2 * B) * t  # the logits change by this times u (Y^T u)^T
        change = arb_mat([[further * u[k] * u[y] for y in problem.labels] for k in range(c)])
        loss = problem.loss(arb_mat(W * H) + change) - problem.loss(W * H)
        decays = A / (2 * B) * (lw + problem.feature_decay * t**2 * problem.own) * square / 2
        return ((-(loss + decays) - A**2 / (4 * B)) * B / A**2).min(A)

    return positive(slack, f"{problem}, {W}, {H}, {u}")
