"""Rank 2 is attainable for any number of classes, and rank 1 is not (proposition 3.2 of the paper).

Let c >= 3 and u_k = (cos 2 pi k/c, sin 2 pi k/c). The logits rho <u_y, u_k> have the margin
rho (1 - cos(2 pi/c)), so every sample is classified correctly and a large rho reaches any loss eps > 0. A
ReLU network with two features and no output bias has exactly these logits on any data set of distinct
inputs. Their rank is 2, unless only one class or two opposite classes occur.

Logits of rank 1 classify at most two classes correctly. On balanced data the infimum of their mean loss
is ln(floor(c/2)! ceil(c/2)!)/c. A single feature with bias, w_y = y and b_y = -y^2/2, classifies all
classes, but the matrix of these logits has rank 2.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations, pairwise, product
from random import Random
from typing import NamedTuple

import sympy
from flint import arb, fmpq, fmpq_mat

from proofs.claims import Claim, Outcome, nonnegative, positive, step
from proofs.exact import to_fmpq

CLAIM = Claim(__name__)


@CLAIM.derivation
def margin_and_scale() -> Iterator[Outcome]:
    """logits rho cos(2 pi (y - k)/c) have the margin rho (1 - cos(2 pi/c)) and reach any loss."""
    x, y = sympy.symbols("x y", real=True)
    cosine = sympy.cos(x) * sympy.cos(y) + sympy.sin(x) * sympy.sin(y)
    yield step(
        "<u_y, u_k> = cos(difference of angles)", sympy.simplify(cosine - sympy.cos(x - y)) == 0
    )
    half_sum, half_difference = (x + y) / 2, (x - y) / 2
    yield step(
        "cos y - cos x = 2 sin((x + y)/2) sin((x - y)/2), so the cosine decreases on [0, pi] and the "
        "adjacent class determines the margin",
        sympy.simplify(
            sympy.expand_trig(
                2 * sympy.sin(half_sum) * sympy.sin(half_difference) - sympy.cos(y) + sympy.cos(x)
            )
        )
        == 0,
    )
    c, epsilon, margin, T = sympy.symbols("c epsilon Delta T", positive=True)
    rho = T * sympy.log((c - 1) / (sympy.exp(epsilon) - 1)) / margin
    bound = sympy.log(1 + (c - 1) * sympy.exp(-rho * margin / T))
    yield step(
        "the loss is at most ln(1 + (c-1) e^{-rho Delta/T}), which is eps for "
        "rho = T ln((c-1)/(e^eps - 1))/Delta",
        sympy.simplify(bound - epsilon) == 0,
    )


@CLAIM.exhaustive(method="ball arithmetic")
def margins() -> Iterator[Outcome]:
    """1 - cos(2 pi k/c) > 1 - cos(2 pi/c) > 0 for 1 < k < c - 1, all c = 3..200."""
    for c in range(3, 201):
        nearest = arb.cos_pi_fmpq(fmpq(2, c))
        others = [arb.cos_pi_fmpq(fmpq(2 * k, c)) for k in range(2, c // 2 + 1)]  # and c - k alike
        slack = min([nearest - x for x in others] + [1 - nearest], key=arb.lower)
        yield Outcome(slack > 0, f"c = {c}", float(slack.lower()))


@CLAIM.exhaustive(method="ball arithmetic")
def ranks_of_labels() -> Iterator[Outcome]:
    """any two classes y < k that are not opposite (k - y = c/2) span rank 2: all pairs, c = 3..200."""
    for c in range(3, 201):
        for difference in range(1, c):
            determinant = arb.sin_pi_fmpq(fmpq(2 * difference, c))  # of the two rows of directions
            opposite = 2 * difference == c
            holds = determinant == 0 if opposite else bool(abs(determinant) > 0)
            yield Outcome(holds, f"c = {c}, k - y = {difference}")


class Network(NamedTuple):
    """Network x -> directions (start + changes^T relu(line . x - knots)) with one hidden layer."""

    line: list[Fraction]
    knots: list[Fraction]
    changes: list[list[Fraction]]
    start: list[Fraction]
    directions: list[list[Fraction]]

    def logits(self, x: Sequence[Fraction]) -> list[Fraction]:
        """Logits of one input."""
        position = dot(self.line, x)
        hidden = [max(position - knot, Fraction(0)) for knot in self.knots]
        features = [
            first + dot(hidden, [change[i] for change in self.changes])
            for i, first in enumerate(self.start)
        ]
        return [dot(direction, features) for direction in self.directions]


def interpolating_network(
    inputs: Sequence[Sequence[Fraction]],
    targets: Sequence[Sequence[Fraction]],
    line: list[Fraction],
    directions: list[list[Fraction]],
) -> Network:
    """Network whose features interpolate the targets piecewise linearly along a line.

    It is `rankdeficit.constructions.realise` in exact arithmetic. The projections must be distinct.
    """
    positions = [dot(line, x) for x in inputs]
    order = sorted(range(len(inputs)), key=positions.__getitem__)
    slope = [Fraction(0)] * len(targets[0])
    changes = []
    for i, j in pairwise(order):
        gap = positions[j] - positions[i]
        steeper = [(b - a) / gap for a, b in zip(targets[i], targets[j], strict=True)]
        changes.append([b - a for a, b in zip(slope, steeper, strict=True)])
        slope = steeper
    knots = [positions[i] for i in order[:-1]]
    return Network(line, knots, changes, list(targets[order[0]]), directions)


def rational_circle(classes: int) -> list[list[Fraction]]:
    """Rational points of the unit circle within 1e-3 rad of the multiples of 2 pi/classes."""
    points = []
    for k in range(classes):
        tangent = Fraction(str((arb.sin_pi_fmpq(fmpq(k, classes)) * 10**4).floor().unique_fmpz()))
        other = Fraction(str((arb.cos_pi_fmpq(fmpq(k, classes)) * 10**4).floor().unique_fmpz()))
        square = tangent**2 + other**2  # half angle
        points.append([(other**2 - tangent**2) / square, 2 * tangent * other / square])
    return points


@CLAIM.sampled(method="exact rationals", instances=200)
def networks(random: Random) -> Outcome:
    """a rational ReLU network has exactly the logits rho <u_y, u_k>, with rational u_k close to the
    circle, on random distinct inputs, some nearly equal: all samples are correct and the rank is 2, c =
    3..10.
    """
    c, p = random.randint(3, 10), random.randint(1, 4)
    labels = [*range(c), *(random.randrange(c) for _ in range(random.randint(0, 8)))]
    random.shuffle(labels)
    inputs = distinct_inputs(random, len(labels), p)
    line = separating_line(random, inputs)
    rho = random.choice([Fraction(1, 100), Fraction(1), Fraction(10**6)])
    u = rational_circle(c)
    network = interpolating_network(inputs, [[rho * x for x in u[y]] for y in labels], line, u)
    logits = [network.logits(x) for x in inputs]
    exact = all(
        row == [rho * dot(u[y], u[k]) for k in range(c)]
        for row, y in zip(logits, labels, strict=True)
    )
    right = all(is_argmax(row, y) for row, y in zip(logits, labels, strict=True))
    rank = fmpq_mat([[to_fmpq(x) for x in row] for row in logits]).rank()
    return Outcome(exact and right and rank == 2, f"inputs {inputs}, labels {labels}")


@CLAIM.exhaustive(method="exact rationals")
def rank_one_signs() -> Iterator[Outcome]:
    """at most two classes are a strict argmax of logits w_k h: all w in {-2..2}^c, c = 3, 4, 5."""
    for c in (3, 4, 5):
        for w in product(range(-2, 3), repeat=c):
            rows = [[sign * x for x in w] for sign in (-1, 0, 1)]  # |h| does not change the order
            classified = {y for row in rows for y in range(c) if is_argmax(row, y)}
            yield Outcome(len(classified) <= 2, f"w = {w}")


def least_rank_one_loss(classes: int) -> arb:
    """Infimum of the mean loss of rank-1 logits, one sample per class."""
    half = classes // 2
    return (arb.fac_ui(half) * arb.fac_ui(classes - half)).log() / classes


def mean_loss(w: Sequence[Fraction | int], h: Sequence[Fraction | int]) -> arb:
    """Mean cross-entropy of the logits w_k h_y, one sample per class."""
    total = arb(0)
    for y, feature in enumerate(h):
        others = [arb(to_fmpq((x - w[y]) * Fraction(feature))) for k, x in enumerate(w) if k != y]
        total += sum((x.exp() for x in others), arb(0)).log1p()
    return total / len(h)


@CLAIM.sampled(method="ball arithmetic", instances=500)
def rank_one_loss(random: Random) -> Outcome:
    """mean loss > ln(floor(c/2)! ceil(c/2)!)/c for rank-1 logits, one sample per class, c = 3..8."""
    c = random.randint(3, 8)
    if random.random() < 0.5:
        w, h = nearly_best_rank_one(c, 10 ** random.randint(0, 4))
        w = [x + Fraction(random.randint(-9, 9), 100) for x in w]
    else:
        w, h = ([Fraction(random.randint(-99, 99), 10) for _ in range(c)] for _ in range(2))
    return positive(lambda: mean_loss(w, h) - least_rank_one_loss(c), f"w = {w}, h = {h}")


@CLAIM.exhaustive(method="ball arithmetic")
def rank_one_infimum() -> Iterator[Outcome]:
    """rank-1 logits approach this bound within 1e-7, c = 3..12."""
    for c in range(3, 13):
        w, h = nearly_best_rank_one(c, 10**16)

        def room(w: list[Fraction] = w, h: list[Fraction] = h) -> arb:
            return least_rank_one_loss(len(w)) + arb(1) / 10**7 - mean_loss(w, h)

        yield nonnegative(room, f"c = {c}")


def nearly_best_rank_one(classes: int, base: int) -> tuple[list[Fraction], list[Fraction]]:
    """Weights and features whose mean loss tends to the infimum as the base grows.

    Half of the classes lie on each side of zero. The j-th from the outside has distance base^{2j} to the
    next one. Its feature |h_j| = base^{1 - 2j} separates it from all classes further inside, and from
    none further outside.
    """
    scale = Fraction(base) ** 2
    w, h = [], []
    for y in range(classes):
        sign, j = 1 - 2 * (y % 2), y // 2 + 1
        outside = sum((scale**i for i in range(1, j)), Fraction(0))
        w.append(sign * (scale**classes - outside))
        h.append(sign * base / scale**j)
    return w, h


@CLAIM.derivation
def one_feature_with_bias() -> Iterator[Outcome]:
    """w_k = k, b_k = -k^2/2: at h = y the logits y^2/2 - (k - y)^2/2 have the margin 1/2."""
    k, y = sympy.symbols("k y", real=True)
    logit = k * y - k**2 / 2
    yield step(
        "k y - k^2/2 = y^2/2 - (k - y)^2/2", sympy.expand(logit - (y**2 - (k - y) ** 2) / 2) == 0
    )
    yield step(
        "the true logit exceeds another by (k - y)^2/2, at least 1/2 for integers",
        sympy.expand(logit.subs(k, y) - logit - (k - y) ** 2 / 2) == 0,
    )


@CLAIM.exhaustive(method="exact rationals")
def bias_ranks() -> Iterator[Outcome]:
    """these logits have rank 2 for all classes (c = 3..60) and for any two classes (c <= 12)."""
    for c in range(3, 61):
        columns = [[Fraction(2 * k * y - k * k, 2) for k in range(c)] for y in range(c)]
        matrix = fmpq_mat([[to_fmpq(x) for x in column] for column in columns])
        right = all(is_argmax(column, y) for y, column in enumerate(columns))
        yield Outcome(right and matrix.rank() == 2, f"c = {c}")
        for pair in combinations(columns if c <= 12 else [], 2):
            two = fmpq_mat([[to_fmpq(x) for x in column] for column in pair])
            yield Outcome(two.rank() == 2, f"c = {c}, columns {pair}")


def dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    """Inner product."""
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def is_argmax(values: Sequence[Fraction | int], index: int) -> bool:
    """Whether the value at this index exceeds all others."""
    return all(values[index] > value for i, value in enumerate(values) if i != index)


def distinct_inputs(random: Random, count: int, dimension: int) -> list[list[Fraction]]:
    """Distinct rational points, some of them nearly equal."""
    inputs: list[list[Fraction]] = []
    while len(inputs) < count:
        if inputs and random.random() < 0.3:
            x = list(random.choice(inputs))
            x[random.randrange(dimension)] += Fraction(1, 10 ** random.choice([3, 9, 30]))
        else:
            x = [Fraction(random.randint(-99, 99), 10) for _ in range(dimension)]
        if x not in inputs:
            inputs.append(x)
    return inputs


def separating_line(random: Random, inputs: Sequence[Sequence[Fraction]]) -> list[Fraction]:
    """Direction with distinct projections of the inputs; only finitely many hyperplanes are excluded."""
    while True:
        line = [Fraction(random.randint(-1000, 1000)) for _ in inputs[0]]
        if len({dot(line, x) for x in inputs}) == len(inputs):
            return line
