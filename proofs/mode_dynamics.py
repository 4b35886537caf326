"""Growth of the singular values of small logits in a deep linear network at temperature T.

The logits M = W_L ... W_1 have L factors including the free features W_1 (L = depth + 1). There are c
classes of N samples, n = c N, P = I - 11^T/c, and gradient flow on the mean cross-entropy. At M = 0 the
negative gradient P Y/(n T) has c - 1 equal singular values g = 1/(c T sqrt(N)), and the others are 0. For
balanced factors each mode s u v^T of M satisfies ds/dt = L s^(2 - 2/L) <-G, u v^T>. If the mode is
aligned with the labels (u orthogonal to 1, v = Y^T u / sqrt(N)), then

    |<-G, u v^T> - g| <= e^delta/c ||M||_F/(n T^2),

with delta the largest difference of two logits of a sample, divided by T. While this error is small
compared with g, and with b = 1 - 2/L,

    L = 2:   s = s_0 e^(2 g t);
    L >= 3:  s^-b = s_0^-b - (L - 2) g t; s reaches S at t = c T sqrt(N) (s_0^-b - S^-b)/(L - 2).

When s_1 has reached S, s_i/s_1 = [1 + (S/s_01)^b ((s_01/s_0i)^b - 1)]^(-1/b). For L = 2 this is
s_0i/s_01. For L >= 3 it decreases to 0 as S grows. On simplex logits M = s P Y/sqrt(N) the flow has an
exact equation.
"""

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import sympy
from flint import arb, arb_mat, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, nonnegative, step
from proofs.exact import Matrix, diagonal, in_order, random_orthogonal, square_root
from proofs.networks import LINEAR, backward, cross_entropy_slope, entrywise, forward, softmax

CLAIM = Claim(__name__)


@CLAIM.exhaustive(method="symbolic")
def gradient_at_zero() -> Iterator[Outcome]:
    """c = 2..6, N = 1..3: -G(0) = (Y - 11^T/c)/(n T) = P Y/(n T), and (P Y)(P Y)^T = N P with
    P a projector of rank c - 1; so -G(0) has c - 1 nonzero singular values, all 1/(c T sqrt(N)), or 2/c
    times that for softmax-MSE.
    """
    T, N = sympy.symbols("T N", positive=True)
    for c in range(2, 7):
        z = sympy.symbols(f"z1:{c + 1}", real=True)
        total = sum(sympy.exp(x / T) for x in z)
        p = [sympy.exp(x / T) / total for x in z]
        zero = dict.fromkeys(z, 0)
        centred = [sympy.Rational(int(k == 0) * c - 1, c) for k in range(c)]
        entropy = [-sympy.log(p[0]).diff(x).subs(zero) for x in z]
        yield step(
            f"c = {c}: the gradient of a sample of class 1 is -(e_1 - 1/c)/T",
            all(sympy.simplify(a + b / T) == 0 for a, b in zip(entropy, centred, strict=True)),
        )
        square = sum((x - int(k == 0)) ** 2 for k, x in enumerate(p))
        squared = [square.diff(x).subs(zero) for x in z]
        yield step(
            f"c = {c}: for softmax-MSE it is 2/c times that",
            all(
                sympy.simplify(a + sympy.Rational(2, c) * b / T) == 0
                for a, b in zip(squared, centred, strict=True)
            ),
        )
        P = sympy.eye(c) - sympy.ones(c, c) / c
        projector = P * P == P and P.rank() == c - 1
        yield step(f"c = {c}: P is a projector of rank c - 1", projector)
        for samples in (1, 2, 3):
            Y = sympy.kronecker_product(sympy.eye(c), sympy.ones(1, samples))
            yield step(f"c = {c}, N = {samples}: Y Y^T = N I", samples * sympy.eye(c) == Y * Y.T)
    c = sympy.Symbol("c", positive=True)
    value = sympy.sqrt(N) / (c * N * T) - 1 / (c * T * sympy.sqrt(N))
    yield step("sqrt(N)/(n T) = 1/(c T sqrt(N))", sympy.simplify(value) == 0)


@CLAIM.derivation
def balance() -> Iterator[Outcome]:
    """for B_l = W_{l+1}^T W_{l+1} - W_l W_l^T and any loss of the product, dB/dt = 0, or -2 lambda B with
    an L2 penalty lambda on both factors; a step of gradient descent changes B by O(eta^2), with the
    penalty by -2 eta lambda B + O(eta^2).
    """
    a, b, c, d, e = sympy.symbols("a b c d e", integer=True, positive=True)
    rate, decay = sympy.symbols("eta lambda", positive=True)
    above, below = sympy.MatrixSymbol("A", a, b), sympy.MatrixSymbol("B", d, e)
    U, V = sympy.MatrixSymbol("U", b, c), sympy.MatrixSymbol("V", c, d)  # W_{l+1} and W_l
    G = sympy.MatrixSymbol("G", a, e)
    dU, dV = -above.T * G * (V * below).T, -(above * U).T * G * below.T

    def imbalance(upper: sympy.MatrixExpr, lower: sympy.MatrixExpr) -> sympy.MatrixExpr:
        return upper.T * upper - lower * lower.T

    def vanishes(expression: sympy.MatrixExpr) -> bool:
        return expression.doit().expand().doit() == sympy.ZeroMatrix(c, c)

    half = U.T * dU - dV * V.T
    yield step(
        "dB/dt is D + D^T with D = W_{l+1}^T dW_{l+1}/dt - dW_l/dt W_l^T = 0", vanishes(half)
    )
    decayed = U.T * (dU - decay * U) - (dV - decay * V) * V.T
    yield step("with decay D = -lambda B", vanishes(decayed + decay * imbalance(U, V)))
    for penalty, text in (
        (0, "B changes by eta^2 (..)"),
        (decay, "by -2 eta lambda B + eta^2 (..)"),
    ):
        steps = dU - penalty * U, dV - penalty * V
        after = imbalance(U + rate * steps[0], V + rate * steps[1])
        expected = (1 - 2 * rate * penalty) * imbalance(U, V) + rate**2 * imbalance(*steps)
        yield step(f"gradient descent: {text}", vanishes(after - expected))


@CLAIM.exhaustive(method="symbolic")
def solutions() -> Iterator[Outcome]:
    """ds/dt = L s^(2 - 2/L) g: product rule for L = 1..5, solutions for L = 2 and L >= 3, escape time,
    ratio of two modes; for L >= 3 the ratio decreases with S, and s_i tends to
    (s_0i^-b - s_01^-b)^(-1/b).
    """
    s, g, t, s0, S, c, T, N = sympy.symbols("s g t s0 S c T N", positive=True)
    L = sympy.Symbol("L", positive=True)
    b = 1 - 2 / L
    for factors in range(1, 6):
        w = sympy.symbols(f"w1:{factors + 1}", positive=True)
        whole = sympy.prod(w)
        speed = sum(whole.diff(x) * g * whole / x for x in w).subs(dict.fromkeys(w, s))
        expected = factors * g * s ** (2 * factors - 2)
        yield step(
            f"L = {factors}: dw_j/dt = g s/w_j gives ds/dt = L g w^(2L-2) = L g s^(2-2/L) at w_j = w",
            sympy.expand(speed - expected) == 0,
        )
    speed = L * s ** (2 - 2 / L) * g
    yield step(
        "L = 2: s_0 e^(2 g t)",
        (s0 * sympy.exp(2 * g * t)).diff(t) == speed.subs({L: 2, s: s0 * sympy.exp(2 * g * t)}),
    )
    slope = (s**-b).diff(s) * speed
    yield step("d(s^-b)/dt = -(L - 2) g", sympy.simplify(sympy.powsimp(slope) + (L - 2) * g) == 0)
    escape = c * T * sympy.sqrt(N) * (s0**-b - S**-b) / (L - 2)
    rate = 1 / (c * T * sympy.sqrt(N))
    yield step(
        "s^-b = S^-b at the escape time",
        sympy.simplify(s0**-b - (L - 2) * rate * escape - S**-b) == 0,
    )
    s01, s0i, beta = sympy.symbols("s01 s0i beta", positive=True)
    lag = s0i**-beta - s01**-beta
    inverse = 1 + (S / s01) ** beta * ((s01 / s0i) ** beta - 1)  # (s_i/s_1)^-b
    yield step(
        "(s_i/s_1)^-b = 1 + S^b (s_0i^-b - s_01^-b), from s_i^-b - s_1^-b constant",
        sympy.simplify(sympy.expand_power_base(inverse) - 1 - S**beta * lag) == 0,
    )
    K = sympy.Symbol("K", positive=True)
    ratio = (1 + K * S**beta) ** (-1 / beta)
    fall = K * S ** (beta - 1) * (1 + K * S**beta) ** (-1 / beta - 1)
    yield step("its derivative in S is negative", sympy.simplify(ratio.diff(S) + fall) == 0)
    yield step(
        "(S s_i/s_1)^-b = S^-b + K, which tends to K",
        sympy.expand(S**-beta * (1 + K * S**beta) - S**-beta - K) == 0,
    )
    logarithm = -sympy.log(inverse) / beta
    yield step(
        "b -> 0: the ratio tends to s_0i/s_01, that of L = 2",
        sympy.simplify(sympy.limit(logarithm, beta, 0) - sympy.log(s0i / s01)) == 0,
    )


@CLAIM.sampled(method="exact rationals", instances=150)
def mode_equation(random: Random) -> Outcome:
    """balanced factors W_l = U_l D U_{l-1}^T, L = 2..5, sizes 2..4, any G: u^T dM/dt v =
    L s^(2 - 2/L) <-G, u v^T> for every mode; for -G = g U_L U_0^T, dW_l/dt = g U_l D^(L-1) U_{l-1}^T.
    """
    L, d = random.randint(2, 5), random.randint(2, 4)
    bases = [random_orthogonal(random, d) for _ in range(L + 1)]
    roots = [fmpq(random.randint(0, 12), 10) for _ in range(d)]  # s^(1/L)
    weights = [above * diagonal(roots) * below.transpose() for below, above in pairwise(bases)]
    G = fmpq_mat(d, d, [random.randint(-9, 9) for _ in range(d * d)])
    modes = bases[-1].transpose() * product_velocity(weights, G) * bases[0]
    overlaps = -1 * bases[-1].transpose() * G * bases[0]
    holds = all(modes[k, k] == L * roots[k] ** (2 * L - 2) * overlaps[k, k] for k in range(d))
    aligned = velocities(weights, -1 * bases[-1] * bases[0].transpose())
    others = diagonal([w ** (L - 1) for w in roots])
    holds &= all(
        velocity == above * others * below.transpose()
        for velocity, below, above in zip(aligned, bases[:-1], bases[1:], strict=True)
    )
    return Outcome(holds, f"roots {roots}, bases {bases}, G {G}")


def velocities(weights: list[Matrix], G: Matrix) -> list[Matrix]:
    """dW_l/dt for the gradient G with respect to the product, in order of the factors."""
    d = weights[0].ncols()
    identity = type(G)(d, d, [int(i == j) for i in range(d) for j in range(d)])
    passes = forward(weights, [], identity, LINEAR)
    _, *slopes = backward(weights, passes, LINEAR, G)
    return [-1 * E * A.transpose() for E, A in zip(slopes, passes.inputs, strict=True)]


def product_velocity(weights: list[Matrix], G: Matrix) -> Matrix:
    """Derivative d(W_L .. W_1)/dt of the product."""
    total = 0 * G
    for layer, velocity in enumerate(velocities(weights, G)):
        term = velocity
        for W in reversed(weights[:layer]):
            term = term * W
        for W in weights[layer + 1 :]:
            term = W * term
        total = total + term
    return total


def frobenius_norm(M: arb_mat) -> arb:
    """Frobenius norm ||M||_F."""
    return square_root(sum((x * x for x in M.entries()), arb(0)))


@CLAIM.sampled(method="ball arithmetic", instances=300)
def deviation_from_uniform(random: Random) -> Outcome:
    """||softmax(z) - 1/c|| <= min(1/2, e^delta/c) ||z - mean z||, delta = max z - min z: c = 2..6, logits
    from 10^-8 to 30.
    """
    c = random.randint(2, 6)
    size = fmpq(random.choice([1, 10**3, 10**6, 10**7, 3 * 10**7]), 10**8)
    z = [size * random.randint(-99, 99) for _ in range(c)]
    if len(set(map(str, z))) == 1:
        return Outcome(True, "uniform: both sides are 0", 0.0)
    mean = sum(z, fmpq(0)) / c

    def slack() -> arb:
        distance = frobenius_norm(entrywise(lambda p: p - fmpq(1, c), softmax(arb_mat(c, 1, z))))
        factor = ((arb(max(z) - min(z))).exp() / c).min(arb(1) / 2)
        return factor * frobenius_norm(arb_mat(c, 1, [x - mean for x in z])) - distance

    return nonnegative(slack, z)


@CLAIM.sampled(method="ball arithmetic", instances=60)
def small_logits(random: Random) -> Outcome:
    """balanced deep linear network aligned with the labels, cross-entropy: every mode has
    |ds/dt - L s^(2 - 2/L) g| <= L s^(2 - 2/L) e^delta/c ||M||_F/(n T^2), L = 2..5, c = 2..5, N = 1, 2.
    """
    L, c, N = random.randint(2, 5), random.randint(2, 5), random.randint(1, 2)
    T = random.choice([fmpq(1), fmpq(37), fmpq(1000)])
    roots = [fmpq(random.randint(1, 15), random.choice([10, 100])) for _ in range(c - 1)]
    rotation = random_orthogonal(random, c - 1)
    labels = [k for k in range(c) for _ in range(N)]

    def slack() -> arb:
        left = helmert(c) * arb_mat(rotation)
        Y = arb_mat([[int(k == y) for y in labels] for k in range(c)])
        right = Y.transpose() * left * (1 / arb(N).sqrt())
        D = arb_mat(diagonal(roots))
        weights = [D * right.transpose(), *[D] * (L - 2), left * D]
        M = left * arb_mat(diagonal([w**L for w in roots])) * right.transpose()
        G = cross_entropy_slope(M, labels, T)
        modes = left.transpose() * product_velocity(weights, G) * right
        g, delta = 1 / (c * arb(T) * arb(N).sqrt()), largest_gap(M) / T
        bound = delta.exp() / c * frobenius_norm(M) / (c * N * T * T)
        slacks = [
            bound - abs(modes[k, k] / (L * w ** (2 * L - 2)) - g) for k, w in enumerate(roots)
        ]
        return in_order(slacks)[0] / g

    return nonnegative(slack, f"L = {L}, c = {c}, N = {N}, T = {T}, roots {roots}, {rotation}")


def helmert(c: int) -> arb_mat:
    """Orthonormal basis (as columns) of the vectors with sum zero."""
    columns = []
    for k in range(1, c):
        length = arb(k * (k + 1)).sqrt()
        columns.append([1 / length] * k + [-k / length] + [arb(0)] * (c - k - 1))
    return arb_mat(columns).transpose()


def largest_gap(M: arb_mat) -> arb:
    """Largest difference of two entries of a column."""
    ordered = [in_order(column) for column in M.transpose().tolist()]
    return in_order([column[-1] - column[0] for column in ordered])[-1]


@CLAIM.exhaustive(method="symbolic")
def simplex_flow() -> Iterator[Outcome]:
    """c = 2..6: M = s P Y/sqrt(N), x = s/(T sqrt(N)): -G = h P Y/(n T) with h = c/(e^x + c - 1), so ds/dt
    = L s^(2 - 2/L) g h exactly; 1/h = 1 + (e^x - 1)/c increases, so the time to S is the escape time
    times a factor from 1 to 1 + (e^(S/(T sqrt(N))) - 1)/c.
    """
    x = sympy.Symbol("x", positive=True)
    for c in range(2, 7):
        logits = [x * (int(k == 0) - sympy.Rational(1, c)) for k in range(c)]
        total = sum(sympy.exp(z) for z in logits)
        h = c / (sympy.exp(x) + c - 1)
        errors = [
            int(k == 0) - sympy.exp(z) / total - h * (int(k == 0) - sympy.Rational(1, c))
            for k, z in enumerate(logits)
        ]
        yield step(f"c = {c}: e_y - p = h (e_y - 1/c)", all(sympy.simplify(e) == 0 for e in errors))
        yield step(f"c = {c}: 1/h", sympy.expand(1 / h - 1 - (sympy.exp(x) - 1) / c) == 0)
