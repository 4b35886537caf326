"""Global minimum of the linear unconstrained feature model with two factors and no bias.

Minimise over W (c x d) and H (d x cN), with N samples of each of c >= 2 classes and d >= c - 1,

    f(W, H) = 1/(cN) sum_i CE(W h_i/T) + lw/2 ||W||_F^2 + lh/2 ||H||_F^2,    tau = T sqrt(N lw lh).

If tau < 1/c, every wrong class has probability tau, the class logits are a (I - 11^T/c) with a = T
ln(1/tau - (c - 1)), and the value is the entropy of the predictions, -p ln p - (c - 1) tau ln tau with p
= 1 - (c - 1) tau. Otherwise W = H = 0 and the value is ln c. A smaller d does not give a lower value.
"""

from collections.abc import Iterator
from fractions import Fraction
from random import Random
from typing import NamedTuple

import sympy
from flint import arb, arb_mat, fmpq

from proofs.claims import Claim, Outcome, nonnegative, positive, step
from proofs.exact import to_fmpq

CLAIM = Claim(__name__)


class Model(NamedTuple):
    """Problem with c classes, N samples per class, temperature T, weight and feature decay."""

    classes: int
    samples: int
    temperature: fmpq
    weight_decay: fmpq
    feature_decay: fmpq

    @property
    def wrong_probability(self) -> arb:
        """Minimum of tau and 1/c."""
        return arb(1) / self.classes if self.collapses else arb(self.tau_square).sqrt()

    @property
    def tau_square(self) -> fmpq:
        """Square tau^2 = T^2 N lw lh."""
        return self.temperature**2 * self.samples * self.weight_decay * self.feature_decay

    @property
    def collapses(self) -> bool:
        """Whether tau >= 1/c, so that zero is the minimiser."""
        return bool(self.tau_square * self.classes**2 >= 1)

    @property
    def value(self) -> arb:
        """Claimed minimum, the entropy of the predictions."""
        tau = self.wrong_probability
        p = 1 - (self.classes - 1) * tau
        return -p * p.log() - (self.classes - 1) * tau * tau.log()

    @property
    def margin(self) -> arb:
        """Claimed margin a, which is 0 for tau >= 1/c."""
        if self.collapses:
            return arb(0)
        return self.temperature * (1 / self.wrong_probability - (self.classes - 1)).log()

    def objective(self, W: arb_mat, H: arb_mat) -> arb:
        """Objective f(W, H); sample i has class i mod c."""
        logits, total = W * H, arb(0)
        for i in range(H.ncols()):
            y = i % self.classes
            others = [logits[k, i] - logits[y, i] for k in range(self.classes) if k != y]
            exponentials = [(x / self.temperature).exp() for x in others]
            total += sum(exponentials, arb(0)).log1p()
        norms = [sum((x**2 for x in matrix.entries()), arb(0)) for matrix in (W, H)]
        decays = arb(self.weight_decay) / 2 * norms[0] + arb(self.feature_decay) / 2 * norms[1]
        return total / H.ncols() + decays

    def optimum(self) -> tuple[arb_mat, arb_mat]:
        """Claimed minimiser with d = c: W = w P, H = h P per sample, P = I - 11^T/c, w h = a."""
        c = self.classes
        ratio = (arb(self.feature_decay * self.samples / self.weight_decay)).sqrt()
        w, h = (self.margin * ratio).sqrt(), (self.margin / ratio).sqrt()
        centring = [[fmpq(int(k == y)) - fmpq(1, c) for y in range(c)] for k in range(c)]
        W = arb_mat([[w * x for x in row] for row in centring])
        H = arb_mat([[h * x for x in row * self.samples] for row in centring])
        return W, H


@CLAIM.steps
def lower_bound() -> Iterator[Outcome]:
    """f(W, H) - value = mean KL(q_i || softmax(W h_i/T)) + terms >= 0, q_i the claimed predictions."""
    m, Z = sympy.symbols("m Z", real=True)  # a logit, and ln sum_k e^{m_k}
    q = sympy.Symbol("q", positive=True)
    linear, entropy = q * m, -q * sympy.log(q)
    divergence = q * (sympy.log(q) - (m - Z))
    yield step(
        "q m - q ln q + q (ln q - ln softmax) = q Z; summed over classes, as sum q = 1 and CE = Z - m_y: "
        "CE(m) = <q - e_y, m> + entropy(q) + KL(q || softmax m)",
        sympy.expand(linear + entropy + divergence - q * Z) == 0,
    )
    w, h, lw, lh = sympy.symbols("w h lw lh", positive=True)
    yield step(
        "lw/2 w^2 + lh/2 h^2 - sqrt(lw lh) w h is a square: the decays are at least "
        "sqrt(lw lh) ||W|| ||H||, and <A, W H> >= -||A||_op ||W|| ||H||",
        sympy.expand(lw * w**2 / 2 + lh * h**2 / 2 - sympy.sqrt(lw * lh) * w * h
                     - (sympy.sqrt(lw) * w - sympy.sqrt(lh) * h) ** 2 / 2) == 0,
    )  # fmt: skip


@CLAIM.derivation
def operator_norm() -> Iterator[Outcome]:
    """the gradient A of the data term has c - 1 singular values sqrt(lw lh) at tau < 1/c."""
    c, N, T, tau, decays = sympy.symbols("c N T tau decays", positive=True)
    # Q - Y has p - 1 at the true class and tau elsewhere: tau 11^T - c tau I on the classes.
    p = 1 - (c - 1) * tau
    yield step(
        "p - 1 = tau - c tau, so Q - Y = -c tau (I - 11^T/c)",
        sympy.expand(p - 1 - tau + c * tau) == 0,
    )
    # (alpha I + beta 11^T)^2 = alpha^2 I + (2 alpha beta + c beta^2) 11^T.
    alpha, beta = sympy.Integer(1), -1 / c
    yield step(
        "I - 11^T/c is a projector, of trace c - 1",
        sympy.expand(alpha**2 - alpha) == 0
        and sympy.expand(2 * alpha * beta + c * beta**2 - beta) == 0
        and sympy.expand(c * (alpha + beta) - (c - 1)) == 0,
    )
    # A = (Q - Y)/(cNT), its columns repeated N times, so A A^T = N (c tau/(cNT))^2 (I - 11^T/c).
    square = N * (c * tau / (c * N * T)) ** 2
    yield step(
        "A A^T = lw lh (I - 11^T/c) at tau = T sqrt(N lw lh)",
        sympy.simplify(square.subs(tau, T * sympy.sqrt(N * decays)) - decays) == 0,
    )
    at_zero = N * (1 / (c * N * T)) ** 2  # Q uniform: Q - Y = -(I - 11^T/c)
    yield step(
        "Q uniform: A A^T = lw lh/(c tau)^2 (I - 11^T/c), at most lw lh exactly for tau >= 1/c",
        sympy.simplify(at_zero - (decays / (c * tau) ** 2).subs(tau, T * sympy.sqrt(N * decays)))
        == 0,
    )


@CLAIM.derivation
def attained() -> Iterator[Outcome]:
    """at tau < 1/c the ETF with margin a has the claimed probabilities and value."""
    c, N, T, tau, lw, lh = sympy.symbols("c N T tau lw lh", positive=True)
    a = T * sympy.log(1 / tau - (c - 1))
    p = 1 - (c - 1) * tau
    yield step(
        "wrong probability 1/(e^{a/T} + c - 1) = tau",
        sympy.simplify(1 / (sympy.exp(a / T) + c - 1) - tau) == 0,
    )
    yield step(
        "e^{a/T} = p/tau, more than 1 exactly for tau < 1/c",
        sympy.simplify(1 / tau - (c - 1) - p / tau) == 0
        and sympy.simplify(p / tau - 1 - (1 - c * tau) / tau) == 0,
    )
    # Balanced factors W = w P, H = h (P .. P), P = I - 11^T/c, with w h = a and lw w^2 = lh N h^2.
    A = sympy.Symbol("a", positive=True)
    w, h = (sympy.sqrt(A * sympy.sqrt(x)) for x in (lh * N / lw, lw / (lh * N)))
    yield step("w h = a", sympy.simplify(w * h - A) == 0)
    decays = (lw * w**2 + lh * N * h**2) * (c - 1) / 2
    yield step(
        "decays = (c - 1) sqrt(lw lh N) a = (c - 1) tau a/T",
        sympy.simplify(decays - (c - 1) * sympy.sqrt(lw * lh * N) * A) == 0,
    )
    log_p, log_tau = sympy.symbols("log_p log_tau", real=True)
    value = -log_p + (c - 1) * tau * (log_p - log_tau)  # a/T = ln p - ln tau
    yield step(
        "-ln p + (c - 1) tau (ln p - ln tau) = -p ln p - (c - 1) tau ln tau",
        sympy.expand(value + p * log_p + (c - 1) * tau * log_tau) == 0,
    )


def random_model(random: Random) -> Model:
    """Random problem with decays and temperatures over many decades, some at or close to tau = 1/c."""
    c, N = random.randint(2, 7), random.randint(1, 4)
    weight_decay = Fraction(random.randint(1, 9), 10 ** random.randint(1, 8))
    feature_decay = Fraction(random.randint(1, 9), 10 ** random.randint(1, 8))
    temperature = Fraction(random.randint(1, 99), 10) * Fraction(10) ** random.randint(-1, 3)
    if random.random() < 0.3:
        feature_decay = 1 / (temperature**2 * c**2 * N * weight_decay)
        feature_decay *= random.choice([Fraction(1), Fraction(99, 100), Fraction(101, 100)])
    return Model(c, N, to_fmpq(temperature), to_fmpq(weight_decay), to_fmpq(feature_decay))


def random_matrix(random: Random, rows: int, columns: int) -> arb_mat:
    """Random rationals in [-1, 1]."""
    return arb_mat(
        [[fmpq(random.randint(-99, 99), 99) for _ in range(columns)] for _ in range(rows)]
    )


@CLAIM.sampled(method="ball arithmetic", instances=300)
def nothing_is_lower(random: Random) -> Outcome:
    """f(W, H) > value for random W and H of any size, and for small changes of the optimum: c = 2..7, d =
    1..8, N = 1..4, c tau from 1e-10 to 1e5.
    """
    model = random_model(random)
    near = random.random() < 0.5
    d = model.classes if near else random.randint(1, 8)
    scale = fmpq(10) ** random.randint(-6, 0 if near else 2)
    changes = (
        random_matrix(random, model.classes, d),
        random_matrix(random, d, model.classes * model.samples),
    )

    def slack() -> arb:
        W, H = (scale * change for change in changes)
        if near:
            best = model.optimum()
            W, H = best[0] * (1 + scale) + W, best[1] + H
        return model.objective(W, H) - model.value

    return positive(slack, f"{model}, {changes}, scale {scale}, near the optimum: {near}")


@CLAIM.sampled(method="ball arithmetic", instances=200)
def value_is_attained(random: Random) -> Outcome:
    """f at the claimed minimiser is the claimed value to 30 digits after the point."""
    model = random_model(random)

    def agreement() -> arb:
        return arb(10) ** -30 - abs(model.objective(*model.optimum()) - model.value)

    return nonnegative(agreement, model)


@CLAIM.sampled(method="ball arithmetic", instances=200)
def stationary(random: Random) -> Outcome:
    """the gradients of f in W and in H vanish at the claimed minimiser, to 30 digits after the point."""
    model = random_model(random)
    c, samples = model.classes, model.classes * model.samples

    def largest() -> arb:
        W, H = model.optimum()
        wrong = 1 / ((model.margin / model.temperature).exp() + c - 1)
        slope = wrong / (samples * model.temperature)
        own = -(c - 1) * slope
        A = arb_mat([[own if i % c == k else slope for i in range(samples)] for k in range(c)])
        in_W = A * H.transpose() + arb(model.weight_decay) * W
        in_H = W.transpose() * A + arb(model.feature_decay) * H
        return arb(10) ** -30 - sum((abs(x) for x in in_W.entries() + in_H.entries()), arb(0))

    return nonnegative(largest, model)
