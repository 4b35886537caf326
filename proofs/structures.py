"""Objectives of codes in a balanced deep linear unconstrained feature model, and the best at small decay.

There are L factors (including the free features, widths >= rank) with decays lambda_l and N samples per
class. The least decay term of logits M is (L/2) Lambda sum_i sigma_i(M)^{2/L}, with Lambda the geometric
mean of the lambda_l. So a structure whose class logits are a times a Gram matrix with K singular values
kappa has the objective

    f(a) = l(a/T) + (L/2) Lambda K (sqrt(N) kappa a)^{2/L},

which depends on lambda_eff = Lambda N^{1/L} T^{2/L} only. At N = T = 1 and Lambda -> 0, min f is
asymptotic to Lambda (ln 1/Lambda)^{2/L} (L/2) K (kappa/Delta)^{2/L}, with Delta the margin at a = 1. So
for c >= 4 and small decay the circle is better than the simplex ETF if L exceeds
2 ln(c/(2 Delta))/ln((c - 1)/2), and pairs are better if L exceeds 2 ln 2/ln(2 (c - 1)/c). Only the
structures named here are compared; for L > 2 none of them is claimed to be the global minimum.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, product
from math import prod
from operator import mul
from random import Random
from typing import NamedTuple

import sympy
from flint import arb, fmpq, fmpq_mat, fmpq_poly, fmpz_poly

from proofs.claims import Claim, Outcome, nonnegative, positive, step
from proofs.exact import diagonal, identity, singular_values, to_fmpq
from rankdeficit.toys.minima import Minimum, known_minima

CLAIM = Claim(__name__)


class Structure(NamedTuple):
    """A code: K singular values kappa of its class logits, and its gaps with counts, at scale 1."""

    name: str
    classes: int
    rank: int
    gaps: list[tuple[int, arb | fmpq]]
    """(count, true logit - other logit) of the wrong classes of any sample, at scale 1."""
    kappa: fmpq

    @property
    def margin(self) -> arb:
        """Margin Delta, the least gap."""
        return arb(self.gaps[0][1])

    def loss(self, a: arb) -> arb:
        """Cross-entropy at scale a, T = 1."""
        return sum((count * (-a * gap).exp() for count, gap in self.gaps), arb(0)).log1p()

    def slope(self, a: arb) -> arb:
        """Negative slope -l'(a), which decreases with a as l is convex."""
        terms = [(count * (-a * gap).exp(), gap) for count, gap in self.gaps]
        return sum((t * gap for t, gap in terms), arb(0)) / (1 + sum((t for t, _ in terms), arb(0)))

    def cost(self, a: arb, factors: int) -> arb:
        """Decay term (L/2) K (kappa a)^{2/L} at lambda_eff = 1."""
        return fmpq(factors, 2) * self.rank * (arb(self.kappa) * a) ** fmpq(2, factors)

    def objective(self, a: arb, factors: int, lambda_eff: arb) -> arb:
        """Objective f(a) at T = N = 1."""
        return self.loss(a) + lambda_eff * self.cost(a, factors)


def etf(classes: int) -> Structure:
    """Simplex ETF with logits a (I - 11^T/c)."""
    return Structure("ETF", classes, classes - 1, [(classes - 1, fmpq(1))], fmpq(1))


def pairs(classes: int) -> Structure:
    """Orthogonal pairs of opposite classes, c even."""
    gaps: list[tuple[int, arb | fmpq]] = [(classes - 2, fmpq(1)), (1, fmpq(2))]
    return Structure("pairs", classes, classes // 2, gaps, fmpq(2))


def circle(classes: int) -> Structure:
    """Classes at angles 2 pi k/c."""
    gaps = [
        (1 if 2 * k == classes else 2, 1 - arb.cos_pi_fmpq(fmpq(2 * k, classes)))
        for k in range(1, classes // 2 + 1)
    ]
    return Structure("circle", classes, 2, list(gaps), fmpq(classes, 2))


def petersen() -> Structure:
    """Ten classes at rank 4, on the Petersen graph."""
    gaps: list[tuple[int, arb | fmpq]] = [(6, fmpq(5, 6)), (3, fmpq(5, 3))]
    return Structure("Petersen", 10, 4, gaps, fmpq(5, 2))


def half_cube() -> Structure:
    """Sixteen classes at rank 5: every second vertex of a cube."""
    gaps: list[tuple[int, arb | fmpq]] = [(10, fmpq(4, 5)), (5, fmpq(8, 5))]
    return Structure("half cube", 16, 5, gaps, fmpq(16, 5))


def icosahedron() -> Structure:
    """Twelve classes at rank 3: the vertices of an icosahedron."""
    cosine = 1 / arb(5).sqrt()
    gaps: list[tuple[int, arb | fmpq]] = [(5, 1 - cosine), (5, 1 + cosine), (1, fmpq(2))]
    return Structure("icosahedron", 12, 3, gaps, fmpq(4))


def rational_gram(structure: Structure) -> fmpq_mat:
    """The class logits at scale 1 of a code with rational cosines, from its definition."""
    c = structure.classes
    if structure.name == "ETF":
        entries = [[fmpq(int(i == j)) - fmpq(1, c) for j in range(c)] for i in range(c)]
    elif structure.name == "pairs":
        signs = [[(-1) ** (i + j) if i // 2 == j // 2 else 0 for j in range(c)] for i in range(c)]
        entries = [[fmpq(x) for x in row] for row in signs]
    elif structure.name == "half cube":
        vertices = [x for x in product((1, -1), repeat=5) if prod(x) == 1]
        entries = [[fmpq(sum(map(mul, a, b)), 5) for b in vertices] for a in vertices]
    else:  # by the number of common elements of 2-subsets of five; disjoint subsets are neighbours
        sets = [{*pair} for pair in combinations(range(5), 2)]
        cosines = (fmpq(-2, 3), fmpq(1, 6), fmpq(1))
        entries = [[cosines[len(a & b)] for b in sets] for a in sets]
    return fmpq_mat(entries)


@CLAIM.exhaustive(method="exact rationals")
def rational_structures() -> Iterator[Outcome]:
    """ETF (K = c - 1, kappa = 1), c = 2..40, pairs (c/2, 2), even c = 4..40, Petersen (4, 5/2), half
    cube (5, 16/5): G^2 = kappa G, rank K, and every row has the gaps used in l.
    """
    even = [pairs(c) for c in range(4, 41, 2)]
    for structure in [*(etf(c) for c in range(2, 41)), *even, petersen(), half_cube()]:
        G = rational_gram(structure)
        counted = sorted(gap for count, gap in structure.gaps for _ in range(count))
        gaps = all(
            sorted(row[i] - x for j, x in enumerate(row) if j != i) == counted
            for i, row in enumerate(G.table())
        )
        spectrum = G * structure.kappa == G * G and G.rank() == structure.rank
        yield Outcome(gaps and spectrum, f"{structure.name}, c = {structure.classes}")


@CLAIM.exhaustive(method="exact rationals")
def circle_structure() -> Iterator[Outcome]:
    """circle: G^2 = (c/2) G and trace c, so K = 2 and kappa = c/2, c = 3..60, in the cyclotomic field."""
    for c in range(3, 61):
        modulus = fmpq_poly(fmpz_poly.cyclotomic(c))
        powers = [fmpq_poly([0] * d + [1]) for d in range(c)]
        row = [(powers[d] + powers[-d % c]) / 2 % modulus for d in range(c)]  # cos(2 pi d/c)
        square = [
            sum((row[k] * row[(d - k) % c] for k in range(c)), fmpq_poly()) % modulus
            for d in range(c)
        ]
        holds = all(x == y * fmpq(c, 2) for x, y in zip(square, row, strict=True)) and row[0] == 1
        yield Outcome(holds, f"c = {c}")


@CLAIM.exhaustive(method="exact rationals")
def icosahedron_structure() -> Iterator[Outcome]:
    """icosahedron: K = 3, kappa = 4. G = [[A, -A], [-A, A]] with A = I + S/sqrt(5), S symmetric with zero
    diagonal, entries +-1 elsewhere and S^2 = 5 I; so A^2 = 2 A, G^2 = 4 G and trace G = 12.
    """
    S = fmpq_mat(
        [[0, 1, 1, 1, 1, 1], *([1, *(_pentagon(j - i) for j in range(5))] for i in range(5))]
    )
    yield Outcome(identity(6) * 5 == S * S, "S^2 = 5 I")
    yield Outcome(S.transpose() == S, "S is symmetric")
    entries = {abs(x) for i, row in enumerate(S.table()) for j, x in enumerate(row) if i != j}
    yield Outcome(entries == {1}, "entries are +-1, five in a row")


def _pentagon(difference: int) -> int:
    """Seidel entry of two vertices of a pentagon: 0 for the same one, 1 for neighbours, else -1."""
    return (0, 1, -1, -1, 1)[difference % 5]


@CLAIM.exhaustive(method="symbolic")
def cost_of_logits() -> Iterator[Outcome]:
    """balanced factors have the least decay term, (L/2) Lambda sum_i sigma_i^{2/L}: L = 2..8."""
    sigma, N, kappa, a, T, K = sympy.symbols("sigma N kappa a T K", positive=True)
    for L in range(2, 9):
        decays = sympy.symbols(f"lambda1:{L + 1}", positive=True)
        mean = sympy.prod(decays) ** sympy.Rational(1, L)
        singular = [sympy.sqrt(mean / x) * sigma ** sympy.Rational(1, L) for x in decays]
        total = sum(x / 2 * s**2 for x, s in zip(decays, singular, strict=True))
        yield step(
            f"L = {L}: sigma(W_l) = sqrt(Lambda/lambda_l) sigma^(1/L) have the product sigma and cost "
            "(L/2) Lambda sigma^(2/L)",
            sympy.simplify(sympy.prod(singular) - sigma) == 0
            and sympy.simplify(total - sympy.Rational(L, 2) * mean * sigma ** sympy.Rational(2, L))
            == 0,
        )
    L, decay, t = sympy.symbols("L Lambda t", positive=True)
    cost = L / 2 * decay * K * (sympy.sqrt(N) * kappa * a) ** (2 / L)
    effective = decay * N ** (1 / L) * T ** (2 / L)
    yield step(
        "a = T b: the decay term is lambda_eff (L/2) K (kappa b)^(2/L), and l(a/T) = l(b)",
        sympy.simplify(cost.subs(a, T * t) / (effective * L / 2 * K * (kappa * t) ** (2 / L))) == 1,
    )
    yield step(
        "(e^t)^(2/L) is convex and increasing in t, as Horn's inequality asks",
        sympy.simplify(sympy.diff(sympy.exp(2 * t / L), t, 2) - 4 / L**2 * sympy.exp(2 * t / L))
        == 0,
    )


@CLAIM.sampled(method="ball arithmetic", instances=200)
def no_factorisation_costs_less(random: Random) -> Outcome:
    """sum lambda_l/2 ||W_l||^2 > (L/2) Lambda sum sigma_i(W_L..W_1)^{2/L}: nearly balanced and unrelated
    square W_l of order 2..4, L = 2..5.
    """
    L, n = random.randint(2, 5), random.randint(2, 4)
    roots = [to_fmpq(Fraction(random.randint(1, 99), 10 ** random.randint(0, 3))) for _ in range(L)]
    base = random_matrix(random, n)
    shared = base * base.transpose() * random.choice([0, 1, 1])
    change = fmpq(1, random.choice([1, 10, 1000]))
    W = [(shared + random_matrix(random, n) * change) * (1 / root) for root in roots]
    product = W[0]
    for factor in W[1:]:
        product = factor * product
    squares = [sum((x**2 for x in factor.entries()), fmpq(0)) for factor in W]
    total = sum((root**2 / 2 * x for root, x in zip(roots, squares, strict=True)), fmpq(0))

    def slack() -> arb:
        mean = arb(prod(roots)) ** fmpq(2, L)
        powers = [value.nonnegative_part() ** fmpq(2, L) for value in singular_values(product)]
        return total - fmpq(L, 2) * mean * sum(powers, arb(0))

    return positive(slack, f"roots of decays {roots}, factors {W}")


def random_matrix(random: Random, order: int) -> fmpq_mat:
    """Random square matrix of rationals in [-1, 1]."""
    return fmpq_mat(order, order, [fmpq(random.randint(-9, 9), 9) for _ in range(order**2)])


@CLAIM.derivation
def crossovers() -> Iterator[Outcome]:
    """K (kappa/Delta)^{2/L} is below that of the ETF exactly for L above the two crossovers,
    c >= 4.
    """
    rest, delta, L = sympy.symbols("rest Delta L", positive=True)  # rest = c - 1
    c = rest + 1
    for name, K, kappa, margin, bound in (
        ("circle", 2, c / 2, delta, 2 * sympy.log(c / (2 * delta)) / sympy.log(rest / 2)),
        ("pairs", c / 2, sympy.Integer(2), 1, 2 * sympy.log(2) / sympy.log(2 * rest / c)),
    ):
        ratio = sympy.log(sympy.together(rest / K))
        advantage = ratio - 2 / L * sympy.log(kappa / margin)
        difference = advantage - ratio * (1 - bound / L)
        yield step(
            f"{name}: ln of the ratio of the ETF's K (kappa/Delta)^(2/L) to its own is ln((c - 1)/K) "
            "(1 - crossover/L), positive for L > crossover as K < c - 1",
            sympy.simplify(sympy.expand_log(difference, force=True)) == 0,
        )


def crossover(structure: Structure) -> arb:
    """The L above which a structure beats the ETF with as many classes at small decay."""
    ratio = arb(structure.kappa) / structure.margin
    return 2 * ratio.log() / (arb(structure.classes - 1) / structure.rank).log()


@CLAIM.exhaustive(method="ball arithmetic")
def crossover_values() -> Iterator[Outcome]:
    """rounded crossovers: 3.42, 4.34, 5.20 of the circle at c = 4, 10, 100; 3.42, 2.71, 2.36 of pairs at
    c = 4, 6, 10.
    """
    expected = [(circle(4), 342), (circle(10), 434), (circle(100), 520),
                (pairs(4), 342), (pairs(6), 271), (pairs(10), 236)]  # fmt: skip
    for structure, hundredths in expected:

        def room(structure: Structure = structure, hundredths: int = hundredths) -> arb:
            return fmpq(1, 200) - abs(crossover(structure) - fmpq(hundredths, 100))

        yield nonnegative(room, f"{structure.name}, c = {structure.classes}")


def below(structure: Structure, factors: int, decay: arb) -> arb:
    """Lower bound on min f, by cost >= cost(a_0) above a_0 and loss >= l(a_0) below."""
    a = (-decay.log() * fmpq(99999, 100000)) / structure.margin
    loss, cost = structure.loss(a), decay * structure.cost(a, factors)
    return loss.min(cost)


@CLAIM.exhaustive(method="ball arithmetic")
def winners_at_small_decay() -> Iterator[Outcome]:
    """lambda_eff = 10^-(10^7): circle (c = 4..40) and pairs (even c) beat the ETF exactly for L above
    the crossover, L = 2..10.
    """
    decay = arb(10) ** -(10**7)
    for structure in [*(circle(c) for c in range(4, 41)), *(pairs(c) for c in range(4, 41, 2))]:
        rival = etf(structure.classes)
        for factors in range(2, 11):
            wins = bool(crossover(structure) < factors)
            winner, loser = (structure, rival) if wins else (rival, structure)
            a = -decay.log() / winner.margin
            slack = below(loser, factors, decay) / winner.objective(a, factors, decay) - 1
            witness = f"{structure.name}, c = {structure.classes}, L = {factors}"
            yield Outcome(bool(slack > 0), witness, float(slack.lower()))


TABLE_DECAY = fmpq(1, 1000)
"""Decay of every factor in `rankdeficit.toys.minima`."""


def objective_of(minimum: Minimum) -> arb:
    """Objective of a minimum of the table: in closed form for a code, else of its explicit factors."""
    c, L = minimum.classes, minimum.factors
    if minimum.scale is not None:
        special = [own for own in (petersen(), icosahedron(), half_cube()) if own.classes == c]
        named = {own.name: own for own in (etf(c), pairs(c), circle(c), *special)}
        names = {"simplex ETF": "ETF", "Petersen code": "Petersen"}
        scale = decimal(minimum.scale)
        if minimum.structure == "simplex ETF":  # its logits here are a (I - 11^T/c)
            scale *= fmpq(c, c - 1)
        structure = named[names.get(minimum.structure, minimum.structure)]
        return structure.objective(arb(scale), L, arb(TABLE_DECAY))
    left, right = (
        fmpq_mat([[decimal(x) for x in row] for row in rows])
        for rows in (minimum.left, minimum.right)
    )
    middle = [decimal(x) for x in minimum.middle]
    logits = left * diagonal([x ** (L - 2) for x in middle]) * right.transpose()
    losses = [
        sum((arb(x - row[i]).exp() for x in row), arb(0)).log()
        for i, row in enumerate(logits.table())
    ]
    squares = sum((x**2 for x in [*left.entries(), *right.entries()]), fmpq(0))
    squares += (L - 2) * sum((x**2 for x in middle), fmpq(0))
    return sum(losses, arb(0)) / c + TABLE_DECAY / 2 * squares


def decimal(value: float) -> fmpq:
    """The number that is written, not its nearest binary one."""
    return to_fmpq(Fraction(str(value)))


@CLAIM.exhaustive(method="ball arithmetic")
def table_of_minima() -> Iterator[Outcome]:
    """`rankdeficit.toys.minima`, c = 3..20, L = 2..8: the logits of each cell have at most the
    objective of the table, which is below that of zero logits.
    """
    for (c, L), minimum in known_minima().items():

        def slack(minimum: Minimum = minimum) -> arb:
            bound = arb(decimal(minimum.objective))
            return (bound - objective_of(minimum)).min(arb(minimum.classes).log() - bound)

        yield nonnegative(slack, f"c = {c}, L = {L}: {minimum.structure}")
