"""Which linear heads predict alike, and the logits of Gaussian clusters.

A head (scale, W, b, T) has the probabilities softmax((scale W x + b)/T). Two heads have the same
predictions on inputs that affinely span the space exactly if (scale/T) (w_j - w_k) and (b_j - b_k)/T
agree for all classes j and k.

The posterior of Gaussian clusters N(mu_k, sigma^2 I) with equal priors is the softmax of
-||x - mu_k||^2 at T = 2 sigma^2. With d_k = mu_k - mean and s_k = ||mu_k||^2 - mean ||mu||^2 the
class-centred logits are 2 <x, d_k> - s_k. On inputs that affinely span the space they have the rank of
the rows (d_k, s_k): the dimension of the span of the d_k if all means lie on a sphere, else one more.

Along minimisers of loss + (lambda/2) ||theta||^2 the norm does not rise with lambda, and the loss does
not fall. But a larger decay is no higher temperature: for two classes and orthogonal inputs of lengths
a_i the margins are T u_i with u_i (1 + e^{u_i}) = a_i^2/(n lambda T^2). If a_1 < a_2, the ratio u_2/u_1
rises strictly with lambda, from 1 to (a_2/a_1)^2, so no two minimisers are multiples of each other.
"""

from collections.abc import Iterator
from fractions import Fraction
from random import Random
from typing import NamedTuple

import sympy
from flint import arb, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, positive, step
from proofs.exact import to_fmpq

CLAIM = Claim(__name__)

Points = list[list[Fraction]]


@CLAIM.derivation
def posterior() -> Iterator[Outcome]:
    """the posterior of Gaussian clusters with equal priors is softmax(-||x - mu_k||^2/(2 sigma^2)), in
    any dimension.
    """
    square, other, sigma, d = sympy.symbols("r_j r_k sigma d", positive=True)  # ||x - mu||^2

    def density(r: sympy.Expr) -> sympy.Expr:
        return (2 * sympy.pi * sigma**2) ** (-d / 2) * sympy.exp(-r / (2 * sigma**2))

    odds = sympy.log(sympy.simplify(density(square) / density(other)))
    yield step(
        "the log-odds of two classes are the difference of their logits",
        sympy.expand(sympy.expand_log(odds, force=True) + (square - other) / (2 * sigma**2)) == 0,
    )
    xx, xm, mm, xa, aa = sympy.symbols("xx x_mu mu_mu x_mean mean_mu_mu", real=True)
    logit = -(xx - 2 * xm + mm)
    average = -(xx - 2 * xa + aa)
    yield step(
        "-||x - mu_k||^2 minus its mean over classes is 2 <x, d_k> - (||mu_k||^2 - mean ||mu||^2)",
        sympy.expand(logit - average - 2 * (xm - xa) + (mm - aa)) == 0,
    )


@CLAIM.derivation
def shrinkage() -> Iterator[Outcome]:
    """if theta_1 and theta_2 minimise l + (lambda/2) N at lambda_1 < lambda_2: N_2 <= N_1, l_2 >= l_1."""
    l1, l2, n1, n2, first, more = sympy.symbols("l_1 l_2 N_1 N_2 lambda delta", real=True)
    second = first + more
    better = (l2 + first * n2 / 2) - (l1 + first * n1 / 2)  # >= 0, as theta_1 is best at lambda_1
    other = (l1 + second * n1 / 2) - (l2 + second * n2 / 2)  # >= 0
    yield step(
        "the two optimality conditions add up to delta (N_1 - N_2)/2 >= 0",
        sympy.expand(better + other - more * (n1 - n2) / 2) == 0,
    )
    yield step(
        "and l_2 - l_1 = the first + lambda_1 (N_1 - N_2)/2 >= 0",
        sympy.expand(l2 - l1 - better - first * (n1 - n2) / 2) == 0,
    )


def elasticity(u: sympy.Expr) -> sympy.Expr:
    """d ln u/d ln k along u (1 + e^u) = k, which is 1/(1 + u/(1 + e^{-u}))."""
    return 1 / (1 + u / (1 + sympy.exp(-u)))


@CLAIM.derivation
def decay_is_no_temperature() -> Iterator[Outcome]:
    """orthogonal inputs of lengths a_i, labels +-1, mean ln(1 + e^{-m_i/T}) + (lambda/2)
    ||theta||^2: m_i = T u_i with u_i (1 + e^{u_i}) = a_i^2/(n lambda T^2), and for a_2 > a_1 the ratio
    u_2/u_1 rises strictly with lambda, from 1 to (a_2/a_1)^2.
    """
    u, k, a, n, decay, T = sympy.symbols("u k a n lambda T", positive=True)
    # theta = sum_i y_i alpha_i x_i: m_i = alpha_i a_i^2, ||theta||^2 = sum alpha_i^2 a_i^2.
    share = T * u / a**2
    loss = sympy.log(1 + sympy.exp(-share * a**2 / T)) / n + decay / 2 * share**2 * a**2
    strength = a**2 / (n * decay * T**2)
    yield step(
        "the objective of a sample is convex in u with slope (lambda T^2/a^2) (u - k/(1 + e^u)), "
        "k = a^2/(n lambda T^2)",
        sympy.simplify(loss.diff(u) - decay * T**2 / a**2 * (u - strength / (1 + sympy.exp(u))))
        == 0,
    )
    K = u * (1 + sympy.exp(u))
    yield step(
        "d ln u/d ln k = K/(u K') = 1/(1 + u/(1 + e^-u)) for K = u (1 + e^u)",
        sympy.simplify(K / (u * K.diff(u)) - elasticity(u)) == 0,
    )
    growth = 1 / elasticity(u) - 1
    slope = (1 + sympy.exp(-u) + u * sympy.exp(-u)) / (1 + sympy.exp(-u)) ** 2
    yield step(
        "it falls strictly with u, as u/(1 + e^-u) has a slope > 0; so ln u_2 - ln u_1, u_2 > u_1, falls "
        "strictly with the common factor of k_1 and k_2, that is rises with lambda",
        sympy.simplify(growth.diff(u) - slope) == 0,
    )
    ratio = sympy.Symbol("ratio", positive=True)
    yield step(
        "k -> 0: u/k -> 1/2, so u_2/u_1 -> k_2/k_1; k -> infinity: ln k = u + ln u + ln(1 + e^-u), so "
        "u/ln k -> 1 and u_2/u_1 -> 1",
        sympy.limit(u / K, u, 0) == sympy.Rational(1, 2)
        and sympy.expand(
            sympy.log(u)
            + u
            + sympy.log(1 + sympy.exp(-u))
            - sympy.expand_log(sympy.log(u * sympy.exp(u) * (1 + sympy.exp(-u))))
        )
        == 0
        and sympy.limit((u + sympy.log(u) + sympy.log(1 + sympy.exp(-u))) / u, u, sympy.oo) == 1
        and sympy.limit((sympy.log(k) + sympy.log(ratio)) / sympy.log(k), k, sympy.oo) == 1,
    )


def scaled_margin(strength: fmpq) -> arb:
    """Ball of the root u of u (1 + e^u) = strength."""
    low, high = fmpq(0), strength
    while high - low > strength / 10**30:
        middle = (low + high) / 2
        excess = middle * (1 + arb(middle).exp()) - arb(strength)
        if not (excess > 0 or excess < 0):
            break
        low, high = (low, middle) if excess > 0 else (middle, high)
    return arb(low).union(arb(high))


@CLAIM.sampled(method="ball arithmetic", instances=100)
def ratios_of_margins_rise(random: Random) -> Outcome:
    """u_2/u_1 at lambda_1 < lambda_2 differ, the second is larger, and both lie strictly between 1 and
    (a_2/a_1)^2: strengths from 1e-6 to 1e6; slack: of the ratios.
    """
    weak = fmpq(random.randint(1, 99), 10 ** random.randint(0, 6)) * 10 ** random.randint(0, 4)
    squares = 1 + fmpq(random.randint(1, 30), random.choice([1, 10, 100]))  # (a_2/a_1)^2
    more = 1 + fmpq(random.randint(1, 30), random.choice([1, 10, 100]))  # lambda_2/lambda_1

    def slack() -> arb:
        before = scaled_margin(weak * squares) / scaled_margin(weak)
        after = scaled_margin(weak * squares / more) / scaled_margin(weak / more)
        return (after - before).min(before - 1).min(arb(squares) - after)

    return positive(slack, f"strengths {weak} and {weak * squares}, decay {more} times as large")


def centred(rows: Points) -> Points:
    """Subtract the mean of the rows."""
    mean = [sum(column, Fraction(0)) / len(rows) for column in zip(*rows, strict=True)]
    return [[x - m for x, m in zip(row, mean, strict=True)] for row in rows]


def rank(rows: Points) -> int:
    """Exact rank."""
    return int(fmpq_mat([[to_fmpq(x) for x in row] for row in rows]).rank())


def cluster_logits(inputs: Points, means: Points) -> Points:
    """Class-centred logits -||x - mu_k||^2, a row per class."""
    rows = [
        [-sum(((a - b) ** 2 for a, b in zip(x, mu, strict=True)), Fraction(0)) for x in inputs]
        for mu in means
    ]
    return centred(rows)


def lie_on_a_sphere(means: Points) -> bool:
    """Whether a point of the affine span has the same distance from all means."""
    offsets = [[x - y for x, y in zip(mu, means[0], strict=True)] for mu in means[1:]]
    # <a, e_k> = ||e_k||^2 / 2 for the offsets e_k from the first mean, a the centre
    halves = [[*e, sum((x * x for x in e), Fraction(0)) / 2] for e in offsets]
    return rank(halves) == rank(offsets)


def affinely_spanning(random: Random, dimension: int) -> Points:
    """Inputs that affinely span the space."""
    while True:
        points = [[_entry(random) for _ in range(dimension)] for _ in range(dimension + 3)]
        if rank([[*p, Fraction(1)] for p in points]) == dimension + 1:
            return points


def _entry(random: Random) -> Fraction:
    return Fraction(random.randint(-9, 9), random.choice([1, 2, 7]))


def random_means(random: Random) -> Points:
    """Means of 2..7 clusters in 1..4 dimensions: any, on a circle, on a line, or some equal."""
    c, dimension = random.randint(2, 7), random.randint(1, 4)
    means = [[_entry(random) for _ in range(dimension)] for _ in range(c)]
    kind = random.choice(["any", "circle", "line", "equal"])
    if kind == "circle" and dimension > 1:
        centre = means[0]
        slopes = [Fraction(random.randint(-9, 9), random.randint(1, 9)) for _ in range(c)]
        circle = [[(1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)] for t in slopes]
        zeros = [Fraction(0)] * (dimension - 2)
        means = [[a + b for a, b in zip(centre, p + zeros, strict=True)] for p in circle]
    elif kind == "line":
        means = [[x * factor for x in means[0]] for factor in range(c)]
    elif kind == "equal":
        means[-1] = means[0]
    return means


@CLAIM.sampled(method="exact rationals", instances=300)
def ranks_of_clusters(random: Random) -> Outcome:
    """the class-centred logits have the rank of the span, plus 1 unless the means lie on a sphere: 2..7
    clusters in 1..4 dimensions.
    """
    means = random_means(random)
    found = rank(cluster_logits(affinely_spanning(random, len(means[0])), means))
    span = rank(centred(means))
    return Outcome(found == span + (not lie_on_a_sphere(means)), str(means))


@CLAIM.exhaustive(method="exact rationals")
def means_off_a_sphere() -> Iterator[Outcome]:
    """means 0, 1 and 3 on a line span one dimension, and their class-centred logits have rank 2."""
    means = [[Fraction(0)], [Fraction(1)], [Fraction(3)]]
    inputs = [[Fraction(x)] for x in range(4)]
    holds = rank(centred(means)) == 1 and rank(cluster_logits(inputs, means)) == 2
    yield Outcome(holds, str(means))


class Head(NamedTuple):
    """A classifier softmax((scale W x + b)/T)."""

    scale: Fraction
    weights: Points
    bias: list[Fraction]
    temperature: Fraction

    def logits(self, inputs: Points) -> Points:
        """Class-centred logits over T, a row per class."""
        rows = [
            [(self.scale * dot(w, x) + b) / self.temperature for x in inputs]
            for w, b in zip(self.weights, self.bias, strict=True)
        ]
        return centred(rows)

    def log_odds(self) -> Points:
        """Class-centred rows (scale w_k, b_k)/T."""
        rows = [
            [*(self.scale * x for x in w), b] for w, b in zip(self.weights, self.bias, strict=True)
        ]
        return centred([[x / self.temperature for x in row] for row in rows])


def dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    """Inner product."""
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


@CLAIM.sampled(method="exact rationals", instances=300)
def heads_that_predict_alike(random: Random) -> Outcome:
    """two heads have the same class-centred logits on inputs that affinely span the space exactly if
    their log-odds agree: 2..5 classes in 1..4 dimensions.
    """
    c, dimension = random.randint(2, 5), random.randint(1, 4)
    one, two, T = (Fraction(random.randint(1, 9), random.randint(1, 9)) for _ in range(3))
    first = Head(one, [[_entry(random) for _ in range(dimension)] for _ in range(c)],
                 [_entry(random) for _ in range(c)], Fraction(1))  # fmt: skip
    shift, common = [_entry(random) for _ in range(dimension)], _entry(random)
    weights = [
        [(one * x + y) * T / two for x, y in zip(w, shift, strict=True)] for w in first.weights
    ]
    second = Head(two, weights, [(b + common) * T for b in first.bias], T)
    changed = random.choice(["nothing", "a weight", "a bias", "the temperature"])
    if changed == "a weight":
        second.weights[random.randrange(c)][random.randrange(dimension)] += Fraction(1, 10**6)
    elif changed == "a bias":
        second.bias[random.randrange(c)] += Fraction(1, 10**6)
    elif changed == "the temperature":
        second = second._replace(temperature=2 * T)
    inputs = affinely_spanning(random, dimension)
    alike = first.logits(inputs) == second.logits(inputs)
    agree = first.log_odds() == second.log_odds()
    return Outcome(alike == agree and (agree or changed != "nothing"), f"{first}, {second}")
