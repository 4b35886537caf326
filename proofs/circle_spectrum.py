"""Singular values of the softmax of circle logits in terms of Bessel functions.

Let M_ij = rho cos(2 pi (i - j)/c) for i, j = 0 .. c-1, c >= 3, rho > 0, the logits of c classes at equal
angles on a circle. S = softmax(M) is symmetric, circulant and positive definite, with the eigenvalues

    lambda_k = w_k / w_0,    w_k = sum_{q in Z} I_{|k + q c|}(rho),    k = 0 .. c-1,

where I are the modified Bessel functions. They are also the singular values. They satisfy
lambda_k = lambda_{c-k} and 1 = lambda_0 > lambda_1 > .. > lambda_{floor(c/2)} > 0. So S has full rank c
and 1 + floor(c/2) distinct singular values.
"""

from collections.abc import Iterator
from functools import reduce
from itertools import pairwise
from random import Random

import sympy
from flint import arb, ctx, fmpq

from proofs.claims import Claim, Outcome, positive, step

CLAIM = Claim(__name__)

SCALES = (fmpq(1, 100), fmpq(1), fmpq(7, 2), fmpq(20), fmpq(100), fmpq(300))
DIGITS = 30


def eigenvalues_by_transform(c: int, rho: fmpq) -> list[arb]:
    """lambda_k = sum_d S_{0d} cos(2 pi k d/c), the discrete Fourier transform of the first row."""
    cosines = [arb.cos_pi_fmpq(fmpq(2 * d, c)) for d in range(c)]
    weights = [(rho * cosine).exp() for cosine in cosines]
    total = sum(weights, arb(0))
    return [
        sum((weights[d] * cosines[k * d % c] for d in range(c)), arb(0)) / total for k in range(c)
    ]


def bessel_values(rho: fmpq) -> tuple[list[arb], arb]:
    """I_0(rho), .., I_J(rho) and a bound on the sum of the rest, negligible at this precision.

    The bound uses I_{j+1} <= I_j rho/(2 (j + 1)), which holds for each term of the power series.
    """
    values: list[arb] = []
    while True:
        values.append(arb(rho).bessel_i(len(values)))
        ratio = arb(rho) / (2 * len(values))
        if ratio < arb(1) / 2 and values[-1] < arb(2) ** -ctx.prec:
            return values, values[-1] * ratio / (1 - ratio)


def eigenvalues_by_bessel(c: int, values: list[arb], tail: arb) -> list[arb]:
    """lambda_k = w_k/w_0 from I_0, .., I_J and the bound on the rest."""
    sums = []
    for k in range(c):
        upwards, downwards = values[k::c], values[c - k :: c]  # k + q c >= 0 and < 0
        sums.append(sum(upwards + downwards, (2 * tail).union(arb(0))))
    return [w / sums[0] for w in sums]


def agree(a: arb, b: arb) -> bool:
    """Whether both balls are equal up to the required number of digits."""
    ratio = a / b
    return bool(abs(ratio - 1) < arb(10) ** -DIGITS) and ratio.contains(1)


@CLAIM.exhaustive(method="ball arithmetic")
def bessel_ratios() -> Iterator[Outcome]:
    """lambda_k = w_k/w_0 to 30 digits: c = 3..20, k = 0..c-1, rho = 1/100, 1, 7/2, 20, 100, 300."""
    for rho in SCALES:
        yield from comparisons(rho)


def comparisons(rho: fmpq) -> list[Outcome]:
    """Compare both formulas for the eigenvalues, for c = 3..20."""
    outcomes = []
    with ctx.workprec(512):
        values, tail = bessel_values(rho)
        for c in range(3, 21):
            transform = eigenvalues_by_transform(c, rho)
            bessel = eigenvalues_by_bessel(c, values, tail)
            same = all(agree(a, b) for a, b in zip(transform, bessel, strict=True))
            outcomes.append(Outcome(same, f"c = {c}, rho = {rho}"))
    return outcomes


@CLAIM.sampled(method="ball arithmetic", instances=100)
def order(random: Random) -> Outcome:
    """lambda_0 > .. > lambda_{floor(c/2)} > 0: c = 3..30, rho = 1/1000..300; slack: 1 minus the ratio of
    adjacent eigenvalues.
    """
    c = random.randint(3, 30)
    rho = fmpq(random.randint(1, 300), random.choice([1, 10, 1000]))

    def slack() -> arb:
        values = [*eigenvalues_by_transform(c, rho)[: c // 2 + 1], arb(0)]
        return reduce(arb.min, [1 - b / a for a, b in pairwise(values)])

    return positive(slack, f"c = {c}, rho = {rho}")


@CLAIM.exhaustive(method="symbolic")
def fourier_series() -> Iterator[Outcome]:
    """e^{rho cos t} = sum_q I_q(rho) e^{iqt}, sampled at c = 3..6 points, orders q = 0..4; the w_k solve
    the heat equation on a cycle.
    """
    rho, t = sympy.symbols("rho t", positive=True)
    z = sympy.symbols("z")
    order = 8
    product = sum((rho * z / 2) ** i / sympy.factorial(i) for i in range(order + 1)) * sum(
        (rho / (2 * z)) ** j / sympy.factorial(j) for j in range(order + 1)
    )
    expanded = sympy.expand(product)
    for q in range(5):
        terms = (order - q) // 2 + 1
        series = sum(
            (rho / 2) ** (q + 2 * j) / sympy.factorial(j) / sympy.factorial(q + j)
            for j in range(terms)
        )
        found = sympy.expand(expanded.coeff(z, q) - series)
        yield step(
            f"the coefficient of z^{q} in e^(rho z/2) e^(rho/(2z)) is I_{q}(rho), up to rho^{order}",
            all(power[0] > order for power, _ in sympy.Poly(found, rho).terms() if found != 0),
        )
    for c in (3, 4, 5, 6):
        yield step(
            f"c = {c}: sum_d cos(2 pi m d/c) is c where c divides m, else 0",
            all(
                sympy.simplify(sum(sympy.cos(2 * sympy.pi * m * d / c) for d in range(c)))
                == (0 if m % c else c)
                for m in range(2 * c)
            ),
        )
    k = sympy.symbols("k", integer=True)
    yield step(
        "2 cos(t) cos(kt) = cos((k+1)t) + cos((k-1)t), so w_k' = (w_{k-1} + w_{k+1})/2",
        sympy.simplify(
            sympy.expand_trig(
                2 * sympy.cos(t) * sympy.cos(k * t) - sympy.cos(k * t + t) - sympy.cos(k * t - t)
            )
        )
        == 0,
    )
