"""Rank after the softmax from the logits and the temperature, and where each mode drops out.

Let the columns of M (c x n) be the logits of n samples, S = softmax(M/T), w_j the spread (maximum minus
minimum) of column j, s = 1/T, h(x) = e^x - 1 - x, H(s) the quadratic mean of the h(s w_j), C(s) the mean
of the cosh(s w_j/2)^2, mu_i = sigma_i(P M P')/sqrt(c n) with P, P' the centring of classes and samples,
and N_gamma(S) = #{sigma_i > gamma sigma_1}, 0 < gamma < 1. For every T

    1 + #{mu_i s > gamma C(s) + H(s)/2} <= N_gamma(S) <= 1 + #{mu_i s > gamma - H(s)/2}.

So the highest temperature with sigma_{i+1} > gamma sigma_1 lies between 1/s_i and 1/t_i, with t_i the
zero of mu_i t + H(t)/2 - gamma, and s_i the first zero of mu_i s - H(s)/2 - gamma C(s), if there is one.
Both are mu_i/gamma up to a relative error of O(gamma w^2/mu_i^2), w^4 the mean of the w_j^4.

For T -> 0, with A the 0/1 matrix of the argmaxes, a_1 >= a_2 >= .. their counts per class and g_j the
difference of the two largest logits of sample j,

    |sigma_i(S) - sqrt(a_i)| <= E = sqrt(2 sum_j e_j^2),    e_j = (c - 1)/(e^{g_j/T} + c - 1).

A balanced linear network with L >= 3 factors starts from aligned modes s_01 > s_0i > gamma s_01. When
s_1 = a T sqrt(N), mode i is above gamma s_1 in the linearised flow exactly for T below T_i(1), with

    T_i(q) = 1/(a sqrt(N)) [(gamma^-b - q)/(s_0i^-b - q s_01^-b)]^{1/b},    b = 1 - 2/L.

If each mode grows at 1 - eta to 1 times its linearised rate, as for cyclic logits under the true softmax,
this holds up to q between 1 - eta and 1/(1 - eta). There eta = e^delta ||M||_F/(c T sqrt(N)), with delta
the largest difference of two logits of a sample over T; it is at most e^{a sqrt(2)} a sqrt(c - 1)/c.
"""

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import reduce
from random import Random

import sympy
from flint import arb, arb_mat, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, combine, nonnegative, positive, step
from proofs.exact import diagonal, in_order, to_fmpq
from proofs.mode_dynamics import frobenius_norm, largest_gap, velocities
from proofs.networks import cross_entropy_slope
from proofs.small_scale import descending, doubly_centred, random_logits, softmax, spread

CLAIM = Claim(__name__)


def errors(M: fmpq_mat, s: arb) -> tuple[arb, arb]:
    """H(s) and C(s): the root mean square of e^x - 1 - x and the mean of cosh(x/2)^2 over x = s w_j."""
    scaled = [s * (max(column) - min(column)) for column in M.transpose().table()]
    squares = [(x.expm1() - x) ** 2 for x in scaled]
    growths = [(x / 2).cosh() ** 2 for x in scaled]
    return (sum(squares, arb(0)) / len(scaled)).sqrt(), sum(growths, arb(0)) / len(scaled)


def surplus(mu: arb, M: fmpq_mat, s: arb, gamma: fmpq) -> arb:
    """mu s - H(s)/2 - gamma C(s); > 0 only if sigma_{i+1} > gamma sigma_1."""
    H, C = errors(M, s)
    return mu * s - H / 2 - gamma * C


def excess(mu: arb, M: fmpq_mat, s: arb, gamma: fmpq) -> arb:
    """mu s + H(s)/2 - gamma; <= 0 only if sigma_{i+1} <= gamma sigma_1."""
    return mu * s + errors(M, s)[0] / 2 - gamma


@CLAIM.derivation
def interval_of_each_mode() -> Iterator[Outcome]:
    """the temperatures at which mode i is certainly above gamma form an interval, those at which it is
    certainly below form a ray, and both end at mu_i/gamma up to O(gamma w^2/mu_i^2).
    """
    x, gamma, mu = sympy.symbols("x gamma mu", positive=True)
    h, growth = sympy.exp(x) - 1 - x, sympy.cosh(x / 2) ** 2
    yield step(
        "h and cosh(x/2)^2 are convex, and rise from 0 and 1. So are C, a mean of such functions, and H, "
        "a norm of them (the norm is convex and rises with each entry >= 0)",
        h.diff(x, 2) == sympy.exp(x)
        and h.diff(x) == sympy.exp(x) - 1
        and h.subs(x, 0) == 0
        and sympy.simplify(growth.diff(x, 2) - sympy.cosh(x) / 2) == 0
        and growth.subs(x, 0) == 1,
    )
    # So mu s - H/2 - gamma C is concave and mu s + H/2 - gamma rises; both are -gamma at s = 0.
    yield step(
        "h = x^2/2 + O(x^3), so H = s^2 w^2/2 + O(s^3), with w^4 the mean of the w_j^4",
        sympy.series(h, x, 0, 3).removeO() == x**2 / 2,
    )
    k, w = sympy.symbols("k w", positive=True)
    start = gamma / mu * (1 + k * gamma / mu**2)
    for sign, end in ((1, k + w**2 / 4), (-1, k - w**2 / 4)):
        value = sympy.expand(mu * start + sign * start**2 * w**2 / 4 - gamma)
        yield step(
            f"at s = (gamma/mu)(1 + k gamma/mu^2) the function is gamma^2/mu^2 ({end}), up to O(gamma^3)",
            value.coeff(gamma, 1) == 0
            and sympy.expand(value.coeff(gamma, 2) - end / mu**2) == 0
            and value.subs(gamma, 0) == 0,
        )


@CLAIM.derivation
def distance_to_argmaxes() -> Iterator[Outcome]:
    """||S - A||_F <= E for any number of classes, with any gaps."""
    top, c, gap = sympy.symbols("p_y c g", positive=True)
    rest, squares = sympy.symbols("rest squares", nonnegative=True)
    # rest = sum of the other probabilities, squares = sum of their squares <= rest^2.
    distance = (1 - top) ** 2 + squares
    yield step(
        "||p - e_y||^2 = (1 - p_y)^2 + sum p_k^2 <= 2 (1 - p_y)^2, as the p_k >= 0 sum to 1 - p_y",
        sympy.expand(distance.subs(top, 1 - rest) - 2 * rest**2 + (rest**2 - squares)) == 0,
    )
    least = 1 / (1 + (c - 1) * sympy.exp(-gap))
    yield step(
        "p_y = 1/(1 + sum e^{-gaps}) >= 1/(1 + (c - 1) e^{-g}), so 1 - p_y <= (c - 1)/(e^g + c - 1)",
        sympy.simplify(1 - least - (c - 1) / (sympy.exp(gap) + c - 1)) == 0,
    )
    # sigma_i(A) = sqrt(a_i), as A A^T = sum_j e_{y_j} e_{y_j}^T is diagonal; then Weyl's inequality.


@CLAIM.derivation
def escape() -> Iterator[Outcome]:
    """L >= 3: if s_1^-b and s_i^-b have fallen by G_1 and q G_1, mode i is above gamma s_1 at s_1 = a T
    sqrt(N) exactly for T < T_i(q), which increases with q if s_0i > gamma s_01; q = 1 is the linearised
    flow, and 1 - eta <= q <= 1/(1 - eta) for rates in [1 - eta, 1].
    """
    first, own, end, most, q, eta = sympy.symbols("u_1 u_i v m q eta", positive=True)
    # u = s_0^-b, v = S^-b, m = gamma^-b > 1, and G_1 = u_1 - v = (L - 2) times the integral of the rate.
    reached = own - q * (first - end)
    yield step(
        "s_i > gamma S is u_i - q (u_1 - v) < m v, that is u_i - q u_1 < (m - q) v, with v = S^-b",
        sympy.expand(reached - most * end - (own - q * first - (most - q) * end)) == 0,
    )
    b, a, N = sympy.symbols("b a N", positive=True)
    limit = ((most - q) / (own - q * first)) ** (1 / b) / (a * sympy.sqrt(N))
    scale = (a * limit * sympy.sqrt(N)) ** -b
    yield step(
        "at T = T_i(q): S^-b = (u_i - q u_1)/(m - q)",
        sympy.simplify(sympy.powdenest(scale, force=True) * (most - q) / (own - q * first)) == 1,
    )
    power = (most - q) / (own - q * first)
    yield step(
        "d/dq (m - q)/(u_i - q u_1) = (m u_1 - u_i)/(u_i - q u_1)^2, positive for s_0i > gamma s_01",
        sympy.simplify(power.diff(q) - (most * first - own) / (own - q * first) ** 2) == 0,
    )
    y, z = sympy.symbols(
        "y z", nonnegative=True
    )  # at most 1: the mean rates are 1 - eta y and 1 - eta z
    ratio = (1 - eta * y) / (1 - eta * z)
    below = eta * (1 - y) + eta * z * (1 - eta)
    above = eta * (1 - z) + eta * y * (1 - eta)
    yield step(
        "rates in [(1 - eta) g, g] have G_i/G_1 between 1 - eta and 1/(1 - eta)",
        sympy.simplify(ratio - (1 - eta) - below / (1 - eta * z)) == 0
        and sympy.simplify(1 / (1 - eta) - ratio - above / ((1 - eta) * (1 - eta * z))) == 0,
    )
    s01, s0i = sympy.symbols("s01 s0i", positive=True)
    yield step(
        "s_01^b (s_0i^-b - s_01^-b) = (s_01/s_0i)^b - 1, so T_i = T_i(1) is s_01/(a sqrt(N)) "
        "[(gamma^-b - 1)/((s_01/s_0i)^b - 1)]^{1/b}",
        sympy.expand(s01**b * (s0i**-b - s01**-b) - sympy.expand_power_base((s01 / s0i) ** b) + 1)
        == 0,
    )


def random_gamma(random: Random) -> fmpq:
    """A threshold between 1/1000 and 9/10."""
    return to_fmpq(
        random.choice([Fraction(9, 10), Fraction(1, 3), Fraction(1, 100), Fraction(1, 997)])
    )


def of_unequal_spreads(random: Random) -> fmpq_mat:
    """Random logits; in half of them the columns have spreads of many sizes."""
    M = random_logits(random)
    if random.random() < 0.5:
        return M
    sizes = [to_fmpq(Fraction(random.choice([1, 2, 10, 100]), 100)) for _ in range(M.ncols())]
    return M * diagonal(sizes)


@CLAIM.sampled(method="ball arithmetic", instances=200)
def each_singular_value(random: Random) -> Outcome:
    """(mu_i s - H/2)/C <= sigma_{i+1}/sigma_1 <= mu_i s + H/2: c, n = 2..5, s w_j up to 1/1000..20;
    slack: divided by H.
    """
    M = of_unequal_spreads(random)
    x = random.choice([Fraction(1, 1000), Fraction(1, 10), Fraction(1), Fraction(3), Fraction(20)])
    s = to_fmpq(x) / spread(M)
    c, n = M.nrows(), M.ncols()

    def slack() -> arb:
        first, *others = descending(softmax(M, s))
        expected = [arb(s) * value / (arb(c) * n).sqrt() for value in descending(doubly_centred(M))]
        H, C = errors(M, arb(s))
        found = []
        for value, other in zip(others, expected, strict=False):
            ratio = value / first
            found += [other + H / 2 - ratio, ratio - (other - H / 2) / C]
        return reduce(arb.min, found) / H

    return nonnegative(slack, (s, M))


@CLAIM.sampled(method="ball arithmetic", instances=100)
def drop_out(random: Random) -> Outcome:
    """sigma_{i+1} > gamma sigma_1 just above s_i, <= just below t_i: c, n = 2..5, gamma = 1/997..9/10;
    slack: of sigma_{i+1}/sigma_1 over gamma.
    """
    M, gamma = of_unequal_spreads(random), random_gamma(random)
    c, n = M.nrows(), M.ncols()
    i = random.randrange(min(c, n) - 1)
    mu = descending(doubly_centred(M))[i] / (arb(c) * n).sqrt()
    most = 3 * n / sum((max(column) - min(column) for column in M.transpose().table()), fmpq(0))
    outside = zero(lambda s: excess(mu, M, arb(s), gamma), fmpq(0), most)[0]
    inside = first_positive(mu, M, gamma, outside)

    def ratio(s: fmpq) -> arb:
        values = descending(softmax(M, s))
        return values[i + 1] / values[0]

    witness = (gamma, i, M)
    found = [nonnegative(lambda: 1 - ratio(outside) / gamma, witness)]
    if inside is not None:
        found.append(positive(lambda: ratio(inside) / gamma - 1, witness))
    return combine(found)


def zero(f: Callable[[fmpq], arb], low: fmpq, high: fmpq) -> tuple[fmpq, fmpq]:
    """Rationals around the zero of a function that is negative at `low` and positive at `high`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if f(middle) > 0 else (middle, high)
    return low, high


def first_positive(mu: arb, M: fmpq_mat, gamma: fmpq, outside: fmpq) -> fmpq | None:
    """A rational just above the first zero s_i of `surplus`, looked for up to 4 t_i; None without one."""
    grid = [outside * k / 16 for k in range(16, 65)]
    above = [s for s in grid if surplus(mu, M, arb(s), gamma) > 0]
    if not above:
        return None
    return zero(lambda s: surplus(mu, M, arb(s), gamma), fmpq(0), above[0])[1]


@CLAIM.sampled(method="ball arithmetic", instances=100)
def low_temperatures(random: Random) -> Outcome:
    """|sigma_i(S) - sqrt(a_i)| <= E: c, n = 2..5, T from 1/20 to 10 times the least top gap."""
    M = random_logits(random)
    columns = [sorted(column) for column in M.transpose().table()]
    gaps = [column[-1] - column[-2] for column in columns]
    s = to_fmpq(random.choice([Fraction(1, 10), Fraction(1), Fraction(5), Fraction(20)]))
    s = s / min((g for g in gaps if g > 0), default=fmpq(1))

    def slack() -> arb:
        values = descending(softmax(M, s))
        E = distance_bound(gaps, s, M.nrows())
        limits = [arb(a).sqrt() for a in winners(M)]
        return reduce(arb.min, [E - abs(a - b) for a, b in zip(values, limits, strict=False)]) / E

    return nonnegative(slack, (s, M))


def winners(M: fmpq_mat) -> list[int]:
    """Numbers of columns with each argmax, descending."""
    tops = [max(range(M.nrows()), key=column.__getitem__) for column in M.transpose().table()]
    return sorted((tops.count(k) for k in range(M.nrows())), reverse=True)


def distance_bound(gaps: list[fmpq], s: fmpq, c: int) -> arb:
    """E = sqrt(2 sum e_j^2)."""
    shares = [(c - 1) / ((arb(s * g)).exp() + c - 1) for g in gaps]
    return (2 * sum((e * e for e in shares), arb(0))).sqrt()


@CLAIM.sampled(method="ball arithmetic", instances=40)
def cyclic_modes_stay_aligned(random: Random) -> Outcome:
    """cyclic logits of c classes (modes cos and sin of k have equal s) under the true cross-entropy: the
    velocities of all factors are diagonal in the modes to 30 digits, and (1 - eta) g <= the rate <= g:
    L = 2..5, c = 3..6, N = 1, 2; slack: of the rates over g.
    """
    L, c, N = random.randint(2, 5), random.randint(3, 6), random.randint(1, 2)
    T = random.choice([fmpq(1), fmpq(37)])
    of_pair = [fmpq(random.randint(1, 12), 10) for _ in range(c // 2)]
    roots = [of_pair[min(k, c - k) - 1] for k in range(1, c)]
    labels = [k for k in range(c) for _ in range(N)]

    def rates() -> tuple[arb, list[arb], arb]:
        left, g = fourier(c), 1 / (c * arb(T) * arb(N).sqrt())
        Y = arb_mat([[int(k == y) for y in labels] for k in range(c)])
        right = Y.transpose() * left * (1 / arb(N).sqrt())
        D = arb_mat(diagonal(roots))
        M = left * arb_mat(diagonal([w**L for w in roots])) * right.transpose()
        weights = [D * right.transpose(), *[D] * (L - 2), left * D]
        above, below = [*[arb_mat(diagonal([fmpq(1)] * (c - 1)))] * (L - 1), left], right
        found, mixed = [], arb(0)
        for layer, velocity in enumerate(velocities(weights, cross_entropy_slope(M, labels, T))):
            modes = above[layer].transpose() * velocity
            modes = modes * below if layer == 0 else modes
            for i in range(c - 1):
                found.append(modes[i, i] / roots[i] ** (L - 1) / g)
                mixed += sum((abs(modes[i, j]) for j in range(c - 1) if j != i), arb(0))
        eta = (largest_gap(M) / T).exp() * frobenius_norm(M) / (c * arb(T) * arb(N).sqrt())
        return mixed, found, eta

    def slack() -> arb:
        _, found, eta = rates()
        return in_order([x - 1 + eta for x in found] + [1 - x for x in found])[0]

    witness = f"L = {L}, c = {c}, N = {N}, T = {T}, roots {roots}"
    aligned = nonnegative(lambda: arb(10) ** -30 - rates()[0], witness)._replace(slack=None)
    return combine([nonnegative(slack, witness), aligned])


def fourier(c: int) -> arb_mat:
    """Orthonormal Fourier basis (columns) of the vectors with sum zero: cos for k <= c/2, then sin."""
    columns = []
    for k in range(1, c):
        wave = arb.cos_pi_fmpq if 2 * k <= c else arb.sin_pi_fmpq
        length = (arb(c) if 2 * k == c else arb(c) / 2).sqrt()
        columns.append([wave(fmpq(2 * k * j, c)) / length for j in range(c)])
    return arb_mat(columns).transpose()
