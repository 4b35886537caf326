"""The softmax at a temperature as a Gibbs state: free energy, limits, temperature scaling, distillation.

Let p = softmax(z/T) over c classes, beta = 1/T, w the range of z and F(q) = -<q, z> - T H(q), H the
entropy. Then

    F(q) - F(p) = T KL(q || p) >= 0,    dF(p)/dT = -H(p),    dH(p)/dT = Var_p(z)/T^3 >= 0.

The cross-entropy under true probabilities q is least exactly at z = T ln q + const. With m classes tied
for the largest logit and the gap g below, the other classes have a probability of at most
(c - m)/(m e^{g/T} + c - m), and for all T

    |ln c - H(p) - Var(z)/(2 T^2)| <= (w/T)^3/(18 sqrt 3),    Var over classes with weights 1/c.

The mean cross-entropy of softmax(beta z) is convex in beta with slope mean(E_p z - z_y), so it has at
most one minimiser unless the logits of every sample are equal; it has none if all samples are right.
For centred z and v the gradient of T^2 KL(softmax(v/T) || softmax(z/T)) in z is T (softmax(z/T) -
softmax(v/T)), which is (z - v)/c up to (w_z^2 e^{w_z/T} + w_v^2 e^{w_v/T})/(2 c T) in each entry.
"""

from collections.abc import Iterator
from fractions import Fraction
from functools import reduce
from random import Random

import sympy
from flint import arb, fmpq

from proofs.claims import Claim, Outcome, nonnegative, step
from proofs.exact import to_fmpq

CLAIM = Claim(__name__)


@CLAIM.derivation
def free_energy() -> Iterator[Outcome]:
    """F(q) - F(p) = T KL(q || p) >= 0 for any number of classes, 0 for q = p alone; so the cross-entropy
    under q is least exactly at z = T ln q + const.
    """
    q, T, p = sympy.symbols("q T p", positive=True)
    z, log_sum = sympy.symbols("z ln_Z", real=True)  # ln_Z = ln sum_k e^{z_k/T}
    energy = -q * z + T * q * sympy.log(q)
    divergence = q * (sympy.log(q) - z / T + log_sum)
    yield step(
        "-q z + T q ln q - T q ln(q/p) = -T ln Z q; summed over classes: F(q) - T KL(q || p) = -T ln Z, "
        "and for q = p this is F(p)",
        sympy.expand(energy - T * divergence + T * log_sum * q) == 0,
    )
    ratio = sympy.Symbol("r", positive=True)  # p/q
    tangent = ratio - 1 - sympy.log(ratio)
    yield step(
        "r - 1 - ln r is convex, with value and slope 0 at r = 1 alone: KL(q || p) is the sum of "
        "q (p/q - 1 - ln(p/q)) >= 0",
        tangent.subs(ratio, 1) == 0
        and sympy.solve(tangent.diff(ratio), ratio) == [1]
        and tangent.diff(ratio, 2) == ratio**-2
        and sympy.expand(q * (p / q - 1) - p + q) == 0,
    )
    yield step(
        "CE(q, p) = H(q) + KL(q || p), and p = q for z = T ln q + const",
        sympy.simplify(sympy.exp(T * sympy.log(q) / T) - q) == 0,
    )


def log_partition() -> tuple[sympy.Symbol, list[sympy.Expr], sympy.Expr]:
    """beta, the power sums M_j = sum_k z_k^j e^{beta z_k} for j = 0..3 as functions, and A = ln M_0."""
    beta = sympy.Symbol("beta", positive=True)
    M = [sympy.Function(f"M{j}")(beta) for j in range(4)]
    return beta, M, sympy.log(M[0])


def sloped(expression: sympy.Expr, beta: sympy.Symbol, M: list[sympy.Expr]) -> sympy.Expr:
    """Derivative in beta with M_j' = M_{j+1}."""
    return expression.diff(beta).subs({M[j].diff(beta): M[j + 1] for j in range(3)})


@CLAIM.derivation
def slopes() -> Iterator[Outcome]:
    """dF/dT = -H, dH/dT = Var_p(z)/T^3 for any number of classes; the loss has the slope E_p z - z_y and
    the curvature Var_p(z) in beta.
    """
    beta, M, A = log_partition()
    mean = sloped(A, beta, M)
    variance = sloped(mean, beta, M)
    yield step("A' = E_p z", sympy.simplify(mean - M[1] / M[0]) == 0)
    yield step("A'' = Var_p(z)", sympy.simplify(variance - M[2] / M[0] + (M[1] / M[0]) ** 2) == 0)
    third = sloped(variance, beta, M)
    average = M[1] / M[0]
    central = M[3] / M[0] - 3 * average * M[2] / M[0] + 2 * average**3
    yield step("A''' = E_p (z - E_p z)^3", sympy.simplify(third - central) == 0)
    z = sympy.Symbol("z_k", real=True)
    own = -sympy.expand_log(sympy.log(sympy.exp(beta * z) / M[0]), force=True)
    yield step(
        "-ln p_k = A - beta z_k, so H = A - beta A'; the loss has slope E_p z - z_y and curvature A''",
        sympy.expand(own - A + beta * z) == 0
        and sympy.simplify(sloped(own, beta, M) - mean + z) == 0,
    )
    T, G = sympy.Symbol("T", positive=True), sympy.Function("A")
    free = -T * G(1 / T)
    entropy = (G(beta) - beta * G(beta).diff(beta)).subs(beta, 1 / T).doit()
    yield step("d(-T A(1/T))/dT = -H", sympy.simplify(free.diff(T).doit() + entropy) == 0)
    yield step(
        "dH/dbeta = -beta A'', and dbeta/dT = -1/T^2, so dH/dT = A''/T^3",
        sympy.expand(
            (G(beta) - beta * G(beta).diff(beta)).diff(beta) + beta * G(beta).diff(beta, 2)
        )
        == 0
        and sympy.diff(1 / T, T) * -(1 / T) == T**-3,
    )


@CLAIM.derivation
def third_moment() -> Iterator[Outcome]:
    """|E (X - E X)^3| <= w^3/(6 sqrt 3) for X in an interval of length w, so ln c - H is Var(z)/(2 T^2)
    up to (w/T)^3/(18 sqrt 3).
    """
    t, a, v, y, w = sympy.symbols("t a v y w", real=True)
    # t = X - E X has mean 0 and lies in [a, v], a <= 0 <= v = a + w. The other sign is X -> -X.
    tangent = (-v / 2) ** 3 + 3 * (v / 2) ** 2 * (t + v / 2)
    yield step(
        "t^3 <= the line that touches it at -v/2, for t <= v: the difference is (t + v/2)^2 (v - t); its "
        "mean is v^3/4, at most 2 w^3/27 for v <= 2w/3",
        sympy.expand(tangent - t**3 - (t + v / 2) ** 2 * (v - t)) == 0
        and tangent.subs(t, 0) == v**3 / 4
        and (v**3 / 4).subs(v, 2 * w / 3) == 2 * w**3 / 27
        and sympy.Rational(2, 27) < 1 / (6 * sympy.sqrt(3)),
    )
    chord = a**3 + (a**2 + a * v + v**2) * (t - a)
    yield step(
        "for v >= 2w/3, so a + v + t >= v + 2a >= 0: t^3 <= the chord, as the difference is "
        "(t - a)(v - t)(a + v + t)",
        sympy.expand(chord - t**3 - (t - a) * (v - t) * (a + v + t)) == 0,
    )
    yield step(
        "its mean -a v (a + v) is w^3 y (1 - y^2)/4 for a + v = w y, at most w^3/(6 sqrt 3)",
        sympy.expand(chord.subs(t, 0) + a * v * (a + v)) == 0
        and sympy.expand(
            (-a * v * (a + v)).subs({a: w * (y - 1) / 2, v: w * (y + 1) / 2})
            - w**3 * y * (1 - y**2) / 4
        )
        == 0
        and sympy.expand(
            1 / (6 * sympy.sqrt(3)) - y * (1 - y**2) / 4
            - (y - 1 / sympy.sqrt(3)) ** 2 * (y + 2 / sympy.sqrt(3)) / 4
        )
        == 0,
    )  # fmt: skip
    beta, b = sympy.symbols("beta b", positive=True)
    yield step(
        "ln c - H = int_0^beta b A''(b) db, |A''(b) - A''(0)| <= b w^3/(6 sqrt 3): the error is at most "
        "int b^2 w^3/(6 sqrt 3) db",
        sympy.simplify(
            sympy.integrate(b**2 * w**3 / (6 * sympy.sqrt(3)), (b, 0, beta))
            - (beta * w) ** 3 / (18 * sympy.sqrt(3))
        )
        == 0,
    )


@CLAIM.derivation
def no_minimiser() -> Iterator[Outcome]:
    """one sample with z = (1, 0) and y = 1 has the loss ln(1 + e^-beta), which falls for all beta."""
    beta = sympy.Symbol("beta", real=True)
    loss = sympy.log(1 + sympy.exp(-beta))
    yield step("slope", sympy.simplify(loss.diff(beta) + 1 / (1 + sympy.exp(beta))) == 0)


@CLAIM.derivation
def distillation() -> Iterator[Outcome]:
    """d/dz T^2 KL(softmax(v/T) || softmax(z/T)) = T (softmax(z/T) - softmax(v/T)), and softmax(s z)_k is
    1/c + s z_k/c up to (s w)^2 e^{s w}/(2c) for centred z.
    """
    beta, M, _ = log_partition()
    z, T, q, s, w, c = sympy.symbols("z T q s w c", positive=True)
    own, rest = sympy.symbols("e_k rest", positive=True)
    cross = -q * z / T + sympy.log(sympy.exp(z / T) + rest)
    p = sympy.exp(z / T) / (sympy.exp(z / T) + rest)
    yield step(
        "d/dz_k (-sum_j q_j z_j/T + ln sum_j e^{z_j/T}) = (p_k - q_k)/T",
        sympy.simplify(cross.diff(z) - (p - q) / T) == 0,
    )
    k = sympy.Symbol("z_k", real=True)
    probability = sympy.exp(beta * k) / M[0]
    first = sloped(probability, beta, M)
    second = sloped(first, beta, M)
    mean, variance = M[1] / M[0], M[2] / M[0] - (M[1] / M[0]) ** 2
    yield step("p_k' = p_k (z_k - E z)", sympy.simplify(first - probability * (k - mean)) == 0)
    yield step(
        "p_k'' = p_k ((z_k - E z)^2 - Var z), at most p_k w^2 in size",
        sympy.simplify(second - probability * ((k - mean) ** 2 - variance)) == 0,
    )
    yield step(
        "p_k(0) = 1/c, p_k'(0) = z_k/c, p_k <= e^{s w}/c: Taylor's remainder is at most "
        "s^2 w^2 e^{s w}/(2c)",
        sympy.simplify(sympy.integrate((s - own) * w**2 / c, (own, 0, s)) - (s * w) ** 2 / (2 * c))
        == 0,
    )


def softmax(z: list[fmpq], s: fmpq) -> list[arb]:
    """Probabilities at the scale s."""
    exponentials = [arb(s * x).exp() for x in z]
    total = sum(exponentials, arb(0))
    return [x / total for x in exponentials]


def random_logits(random: Random) -> list[fmpq]:
    """Logits of 2..7 classes, centred: dense, two-valued, with an outlier, or with ties."""
    c = random.randint(2, 7)
    kind = random.choice(["dense", "two", "outlier", "ties"])
    z = [Fraction(random.randint(-99, 99), 10) for _ in range(c)]
    if kind == "two":
        z = [random.choice([Fraction(-1), Fraction(2)]) for _ in range(c)]
    elif kind == "outlier":
        z[0] *= 100
    elif kind == "ties":
        z[-1] = max(z)
    z[0] += Fraction(1, 7)
    return [to_fmpq(x - sum(z, Fraction(0)) / c) for x in z]


@CLAIM.sampled(method="ball arithmetic", instances=200)
def limits(random: Random) -> Outcome:
    """the others' probability <= (c - m)/(m e^{g/T} + c - m), and |ln c - H - Var(z)/(2 T^2)| <=
    (w/T)^3/(18 sqrt 3): c = 2..7, w/T = 1/1000..30; slack: relative to the bounds.
    """
    z = random_logits(random)
    c, top, width = len(z), max(z), max(z) - min(z)
    s = (
        to_fmpq(random.choice([Fraction(1, 1000), Fraction(1, 10), Fraction(2), Fraction(30)]))
        / width
    )
    ties = z.count(top)
    below = [x for x in z if x < top]
    gap, equal = top - max(below), max(below) == min(below)  # the first bound is then exact

    def slack() -> arb:
        p = softmax(z, s)
        others = sum((x for x, y in zip(p, z, strict=True) if y < top), arb(0))
        cold = (c - ties) / (ties * arb(s * gap).exp() + c - ties)
        entropy = -sum((x * x.log() for x in p), arb(0))
        variance = sum((x * x for x in z), fmpq(0)) / c
        hot = arb(s * width) ** 3 / (18 * arb(3).sqrt())
        error = abs(arb(c).log() - entropy - arb(s * s * variance) / 2)
        room = (hot - error) / hot
        return room if equal else room.min((cold - others) / cold)

    return nonnegative(slack, (s, z))


@CLAIM.sampled(method="ball arithmetic", instances=200)
def hot_distillation(random: Random) -> Outcome:
    """|T (softmax(z/T) - softmax(v/T))_k - (z_k - v_k)/c| <= (w_z^2 e^{w_z/T} + w_v^2 e^{w_v/T})/(2 c T):
    c = 2..7, w_z/T = 1/1000..10; slack: relative to the bound.
    """
    z = random_logits(random)
    c = len(z)
    factor = random.choice([fmpq(0), fmpq(1, 3), fmpq(2)])
    v = [factor * x for x in reversed(z)]
    width, other = (max(x) - min(x) for x in (z, v))
    s = (
        to_fmpq(random.choice([Fraction(1, 1000), Fraction(1, 10), Fraction(1), Fraction(10)]))
        / width
    )

    def slack() -> arb:
        bound = sum((arb(s * x * x) * arb(s * x).exp() for x in (width, other)), arb(0)) / (2 * c)
        errors = [
            abs((a - b) / s - (x - y) / c)
            for a, b, x, y in zip(softmax(z, s), softmax(v, s), z, v, strict=True)
        ]
        return 1 - reduce(arb.max, errors) / bound

    return nonnegative(slack, (s, z, v))
