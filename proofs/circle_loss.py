"""The loss of the circle code in terms of Bessel functions, with upper and lower bounds.

The logits are rho cos(2 pi (y - k)/c), c >= 3, at temperature T. With x = rho/T and the margin over T,
z = x (1 - cos(2 pi/c)), the cross-entropy of every sample is

    l = ln c - x + ln sum_{q in Z} I_{|qc|}(x),    ln(1 + 2 e^{-z}) <= l < ln(1 + 2/(e^z - 1)).

The left side is attained exactly for c = 3. A simplex ETF of margin a has l = ln(1 + (c - 1) e^{-a/T}).
"""

from collections.abc import Iterator
from fractions import Fraction
from random import Random

import sympy
from flint import arb, fmpq

from proofs.claims import Claim, Outcome, combine, nonnegative, positive, step
from proofs.exact import to_fmpq

CLAIM = Claim(__name__)


def exponentials(classes: int, x: arb) -> list[arb]:
    """e^{-x (1 - cos(2 pi k/c))} of the wrong classes k = 1 .. c - 1."""
    return [(x * (arb.cos_pi_fmpq(fmpq(2 * k, classes)) - 1)).exp() for k in range(1, classes)]


def circle_loss(classes: int, x: arb) -> arb:
    """Cross-entropy of the circle at x = rho/T."""
    return sum(exponentials(classes, x), arb(0)).log1p()


def bessel_loss(classes: int, x: fmpq) -> arb:
    """ln c - x + ln sum_q I_{|qc|}(x), with a bound on the tail of the sum.

    I_m(x) <= (x/2)^m e^{x^2/(4(m+1))}/m!, as (m+1)_j >= (m+1)^j in its power series. From m to m + 1 this
    bound changes by a factor of at most x/(2m + 2).
    """
    total, order = arb(x).bessel_i(0), classes
    while True:
        bound = (arb(x) / 2) ** order / arb.fac_ui(order)
        bound *= (arb(x) ** 2 / (4 * order + 4)).exp()
        ratio = arb(x / (2 * order + 2)) ** classes
        if ratio < fmpq(1, 2) and bound < total * arb(2) ** -200:
            tail = 2 * bound / (1 - ratio)
            return arb(classes).log() - arb(x) + (total + arb(0).union(tail)).log()
        total += 2 * arb(x).bessel_i(order)
        order += classes


@CLAIM.exhaustive(method="symbolic")
def bessel_series() -> Iterator[Outcome]:
    """sum_k e^{x cos(2 pi k/c)} = c sum_q I_{|qc|}(x): power series to order 24, c = 3..8."""
    x = sympy.Symbol("x")
    order = 24
    for c in range(3, 9):
        left = [moment_of_cosines(c, n) / sympy.factorial(n) for n in range(order)]
        right = [sympy.Integer(0)] * order
        for m in range(-(order // c) * c, order, c):
            for j in range((order - abs(m) + 1) // 2):
                power = abs(m) + 2 * j
                term = sympy.factorial(j) * sympy.factorial(j + abs(m)) * sympy.Integer(2) ** power
                right[power] += sympy.Integer(c) / term
        yield step(f"c = {c}: the coefficients of {x}^0 .. {x}^{order - 1} agree", left == right)


def moment_of_cosines(classes: int, power: int) -> sympy.Expr:
    """Exact sum_k cos(2 pi k/c)^n, as the sum of (z + 1/z)^n/2^n over the c-th roots of unity z.

    The powers z^{n - 2i} sum to c if c divides n - 2i, and to 0 otherwise.
    """
    binomials = [
        sympy.binomial(power, i) for i in range(power + 1) if (power - 2 * i) % classes == 0
    ]
    return sympy.Integer(classes) * sum(binomials, sympy.Integer(0)) / sympy.Integer(2) ** power


@CLAIM.derivation
def gaps_of_the_circle() -> Iterator[Outcome]:
    """1 - cos(2 pi k/c) >= k (1 - cos(2 pi/c)) for 1 <= k <= c/2, as sin^2 t/t on [pi/c, pi/2] is least
    at an endpoint, and no larger at pi/c than at pi/2.
    """
    t = sympy.Symbol("t", positive=True)
    ratio = sympy.sin(t) ** 2 / t
    yield step(
        "1 - cos 2t = 2 sin^2 t: the claim is sin^2(kt)/(kt) >= sin^2(t)/t at t = pi/c",
        sympy.simplify(1 - sympy.cos(2 * t) - 2 * sympy.sin(t) ** 2) == 0,
    )
    sign = 2 * t - sympy.tan(t)
    yield step(
        "the derivative of sin^2 t/t is (sin t cos t/t^2) (2t - tan t)",
        sympy.simplify(sympy.diff(ratio, t) - sympy.sin(t) * sympy.cos(t) / t**2 * sign) == 0,
    )
    yield step(
        "2t - tan t is 0 at 0, rises there, and is concave on (0, pi/2), its second derivative being "
        "-2 tan t (1 + tan^2 t): positive, then negative. So sin^2 t/t rises, then falls",
        sign.subs(t, 0) == 0
        and sympy.diff(sign, t).subs(t, 0) == 1
        and sympy.expand(sympy.diff(sign, t, 2) + 2 * sympy.tan(t) * (1 + sympy.tan(t) ** 2)) == 0,
    )
    yield step(
        "sin^2 t/t is 2/pi at pi/4 and at pi/2, so it is above 2/pi in between and below before",
        ratio.subs(t, sympy.pi / 4) == ratio.subs(t, sympy.pi / 2) == 2 / sympy.pi,
    )
    z, n = sympy.symbols("z n", positive=True)
    partial = (1 - sympy.exp(-n * z)) / (sympy.exp(z) - 1)
    yield step(
        "sum_{k=1}^n e^{-kz} = (1 - e^{-nz})/(e^z - 1) < 1/(e^z - 1): true for n = 1, and by induction",
        sympy.simplify(partial.subs(n, 1) - sympy.exp(-z)) == 0
        and sympy.simplify(sympy.expand(partial.subs(n, n + 1) - partial) - sympy.exp(-(n + 1) * z))
        == 0,
    )


@CLAIM.derivation
def few_classes() -> Iterator[Outcome]:
    """c = 3: l = ln(1 + 2 e^{-z}), the left bound. c = 4: l = 2 ln(1 + e^{-z}), the loss of pairs."""
    x = sympy.Symbol("x", positive=True)
    for c, closed in ((3, lambda e: 1 + 2 * e), (4, lambda e: (1 + e) ** 2)):
        cosines = [sympy.cos(2 * sympy.pi * k / c) for k in range(c)]
        partition = sum(sympy.exp(-x * (1 - cosine)) for cosine in cosines)
        neighbour = sympy.exp(-x * (1 - cosines[1]))
        yield step(f"c = {c}: e^l", sympy.expand(partition - closed(neighbour)) == 0)


@CLAIM.exhaustive(method="ball arithmetic")
def gaps() -> Iterator[Outcome]:
    """1 - cos(2 pi k/c) > k (1 - cos(2 pi/c)) for 2 <= k <= c/2, c = 3..200; equality at c = 4 only."""
    for c in range(3, 201):
        for k in range(2, c // 2 + 1):
            slack = k * (arb.cos_pi_fmpq(fmpq(2, c)) - 1) + 1 - arb.cos_pi_fmpq(fmpq(2 * k, c))
            holds = slack == 0 if c == 4 else slack > 0
            yield Outcome(
                bool(holds), f"c = {c}, k = {k}", None if c == 4 else float(slack.lower())
            )


def random_scale(random: Random, classes: int, decades: tuple[int, int]) -> fmpq:
    """Random scale x whose margin z = x (1 - cos(2 pi/c)) lies between the given powers of ten."""
    margin = Fraction(random.randint(10, 99), 10) * Fraction(10) ** random.randrange(*decades)
    inverse = (10**6 / (1 - arb.cos_pi_fmpq(fmpq(2, classes)))).floor().unique_fmpz() or 0
    return to_fmpq(margin) * fmpq(inverse, 10**6)


@CLAIM.sampled(method="ball arithmetic", instances=200)
def bessel_form(random: Random) -> Outcome:
    """l = ln c - x + ln sum_q I_{|qc|}(x) to 30 digits after the point, c = 3..200, x up to 1500."""
    c = random.randint(3, 200)
    x = to_fmpq(Fraction(random.randint(1, 1500), random.choice([1, 10, 100, 1000])))

    def agreement() -> arb:
        return arb(10) ** -30 - abs(bessel_loss(c, x) - circle_loss(c, arb(x)))

    return nonnegative(agreement, f"c = {c}, x = {x}")


@CLAIM.sampled(method="ball arithmetic", instances=500)
def bounds(random: Random) -> Outcome:
    """ln(1 + 2 e^{-z}) < l < ln(1 + 2/(e^z - 1)), c = 4..200 (the right side: 3..200), z = 1e-3..99; the
    slack is relative to l and vanishes for large z.
    """
    c = random.randint(3, 200)
    x = random_scale(random, c, (-3, 2))

    def margin() -> arb:
        return arb(x) * (1 - arb.cos_pi_fmpq(fmpq(2, c)))

    def below() -> arb:
        return 1 - (2 * (-margin()).exp()).log1p() / circle_loss(c, arb(x))

    def above() -> arb:
        return (2 / margin().expm1()).log1p() / circle_loss(c, arb(x)) - 1

    sides = [above] if c == 3 else [above, below]
    return combine(positive(side, f"c = {c}, x = {x}") for side in sides)
