"""Exact equivalence of a temperature and a change of scale and learning rate.

Let f be the logits and s_i > 0 scales, one per parameter, with f(s phi) = T f(phi). Then training theta
at temperature T from theta_0 is equivalent to training phi at temperature 1 from theta_0 / s. At every
step k, theta_k = s phi_k, for

    gradient descent, heavy ball, Nesterov   eta_i' = eta_i / s_i^2    lambda_i' = lambda_i s_i^2
    gradient flow (one scale s)              t' = t / s^2              lambda' = lambda s^2
    Adam       eta_i' = eta_i / s_i    epsilon_i' = epsilon s_i        lambda_i' = lambda_i s_i^2
    AdamW      eta_i' = eta_i / s_i    epsilon_i' = epsilon s_i        lambda_i' = lambda_i s_i

with lambda the L2 penalty (for AdamW the decoupled decay). Linear and ReLU networks of degree L have s =
T^(1/L) for weights and free features, and s = T^(l/L) for the bias after l factors. Any network with a
linear head has s = T for the head and its bias, and s = 1 for all other parameters.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from random import Random
from typing import Any

import sympy
from flint import arb, fmpq
from sympy import integer_nthroot

from proofs.claims import Claim, Outcome, nonnegative, positive, step
from proofs.exact import to_fmpq
from proofs.networks import LINEAR, NORMALISED, RELU, TANH, Activation, softmax
from proofs.training import OPTIMISERS, Coordinate, Problem, Settings, train

CLAIM = Claim(__name__)


def twin_settings(optimiser: str, o: Settings, s: Any) -> Settings:
    """Settings at temperature 1 for a parameter with scale s."""
    if not optimiser.startswith("adam"):
        return o._replace(rate=o.rate / s**2, decay=o.decay * s**2)
    decay = o.decay * (s if optimiser == "adamw" else s**2)
    return o._replace(rate=o.rate / s, decay=decay, epsilon=o.epsilon * s)


@CLAIM.steps
def scales() -> Iterator[Outcome]:
    """f(s phi) = T f(phi) for linear and ReLU networks of degree L = l (s = a = T^(1/L), a^l for the bias
    after l factors) and for linear heads; then the gradients at temperature T are those at temperature 1
    divided by s.
    """
    a, T, s, r = sympy.symbols("a T s r", positive=True)
    layer = sympy.Symbol("l", integer=True, positive=True)
    w1, w2, x1, x2, b, z = sympy.symbols("w1 w2 x1 x2 b z", real=True)
    scaled = a * w1 * a ** (layer - 1) * x1 + a * w2 * a ** (layer - 1) * x2 + a**layer * b
    yield step(
        "if inputs scale by a^(l-1), weights by a and the bias by a^l, outputs scale by a^l",
        sympy.expand(scaled - a**layer * (w1 * x1 + w2 * x2 + b)) == 0,
    )
    yield step(
        "ReLU(z) = (z + |z|)/2 preserves a positive factor",
        sympy.expand(a**layer * z + abs(a**layer * z) - a**layer * (z + abs(z))) == 0,
    )
    yield step("a^L = T", (T ** (1 / layer)) ** layer == T)
    head = T * w1 * x1 + T * w2 * x2 + T * b
    yield step(
        "a linear head and its bias scaled by T", sympy.expand(head / T) == w1 * x1 + w2 * x2 + b
    )
    length = sympy.sqrt((a * x1) ** 2 + (a * x2) ** 2)
    yield step(
        "a normalised layer is invariant to the scale of its input",
        sympy.simplify(a * x1 / length - x1 / sympy.sqrt(x1**2 + x2**2)) == 0,
    )
    F = sympy.Function("F")
    theta, other, phi, psi = sympy.symbols("theta theta2 phi phi2", real=True)
    slope = F(theta / s, other / r).diff(theta).subs({theta: s * phi, other: r * psi}).doit()
    yield step(
        "loss_T(theta) = F(theta / s) has the gradient of F divided by s",
        slope == F(phi, psi).diff(phi) / s,
    )


@CLAIM.derivation
def one_step() -> Iterator[Outcome]:
    """one step of gradient descent, heavy ball, Nesterov, Adam or AdamW with the settings above preserves
    theta = s phi and the moments v/s, w/s^2, for any eta, lambda, epsilon, betas and s (induction).
    """
    s, rate, decay, epsilon = sympy.symbols("s eta lambda epsilon", positive=True)
    phi, gradient, first = sympy.symbols("phi g v", real=True)
    second = sympy.Symbol("w", nonnegative=True)
    mu, beta = sympy.symbols("mu beta", positive=True)
    k = sympy.Symbol("k", integer=True, positive=True)
    settings = Settings(rate, decay, epsilon, mu, beta)
    for name, optimiser in OPTIMISERS.items():
        hot = optimiser(Coordinate(s * phi, first / s, second / s**2), gradient / s, settings, k)
        twin = twin_settings(name, settings, s)
        cold = optimiser(Coordinate(phi, first, second), gradient, twin, k)
        yield step(f"{name}: parameter", sympy.simplify(hot.theta - s * cold.theta) == 0)
        yield step(f"{name}: first moment", sympy.simplify(s * hot.first - cold.first) == 0)
        yield step(f"{name}: second moment", sympy.simplify(s**2 * hot.second - cold.second) == 0)


@CLAIM.derivation
def flow() -> Iterator[Outcome]:
    """theta(t) = s phi(t / s^2) solves the flow at temperature T if phi solves it at temperature 1."""
    s, decay = sympy.symbols("s lambda", positive=True)
    t, tau = sympy.symbols("t tau", real=True)
    phi, G = sympy.Function("phi"), sympy.Function("G")
    velocity = (s * phi(t / s**2)).diff(t).subs(t, s**2 * tau).doit()
    twin = -G(phi(tau)) - decay * s**2 * phi(tau)
    expected = -G(phi(tau)) / s - decay * s * phi(tau)
    found = velocity.subs(phi(tau).diff(tau), twin)
    yield step("dtheta/dt = -(gradient / s) - lambda theta", sympy.expand(found - expected) == 0)


@dataclass(frozen=True)
class Run:
    """A run at temperature T whose twin has the scales T^power."""

    problem: Problem
    optimiser: str
    T: Fraction
    powers: list[Fraction]
    start: list[Fraction]
    settings: list[Settings]
    steps: int

    def scales(self) -> list[arb]:
        """Scales s_i, one per parameter."""
        return [arb(to_fmpq(self.T)).root(p.denominator) ** p.numerator for p in self.powers]

    def twin_settings(self) -> list[Settings]:
        """Settings of the twin, one per parameter."""
        pairs = zip(self.settings, self.scales(), strict=True)
        return [twin_settings(self.optimiser, o, s) for o, s in pairs]


def random_problem(random: Random, activation: Activation, factors: int) -> Problem:
    """Widths 2 or 3, three samples, with data or free features, with or without biases."""
    free, bias = factors > 1 and random.random() < 0.5, random.random() < 0.5
    sizes = tuple(random.randint(2, 3) for _ in range(factors + 1 - free))
    labels = tuple(random.randrange(sizes[-1]) for _ in range(3))
    data = None if free else tuple(_entry(random) for _ in range(3 * sizes[0]))
    return Problem(activation, sizes, labels, bias, data)


def random_settings(random: Random) -> Settings:
    """Settings of a run at temperature 1, with little, much or no decay and epsilon."""
    return Settings(
        fmpq(random.randint(1, 20), 20),
        fmpq(random.choice([0, 1, 100]), 1000),
        fmpq(1, random.choice([10**8, 100])),
    )


def random_run(
    random: Random, problem: Problem, optimiser: str, T: Fraction, powers: list[Fraction],
    of_twin: Settings, steps: int,
) -> Run:  # fmt: skip
    """Run whose rational start and settings are close to those of the twin times the scales."""
    near = [_near_power(T, power) for power in powers]
    settings = [twin_settings(optimiser, of_twin, to_fmpq(1 / scale)) for scale in near]
    start = [scale * _entry(random) for scale in near]
    return Run(problem, optimiser, T, powers, start, settings, steps)


def _near_power(T: Fraction, power: Fraction) -> Fraction:
    """Rational near T^power: its integer part, or for T < 1 the reciprocal of that of (1/T)^power."""
    if T < 1:
        return 1 / _near_power(1 / T, power)
    return Fraction(integer_nthroot(int(T) ** power.numerator, power.denominator)[0])


def _entry(random: Random) -> Fraction:
    """Magnitude 0.2 to 1.5, with a denominator that keeps units away from the kink of the ReLU."""
    return Fraction(random.choice([-1, 1]) * random.randint(2 * 10**8, 15 * 10**8), 10**9 + 7)


def uniform_powers(problem: Problem) -> list[Fraction]:
    """Scales of a linear or ReLU network."""
    return [Fraction(degree, problem.degree) for degree in problem.degrees()]


def head_powers(problem: Problem) -> list[Fraction]:
    """Scales of a network with a linear head."""
    return [Fraction(head) for head in problem.in_head()]


def hot_and_cold(
    run: Run, settings: Sequence[Settings] | None = None
) -> tuple[list[arb], list[arb]]:
    """Parameters of the run divided by the scales, and those of its twin at temperature 1.

    settings: settings of the twin [default: the equivalent ones].
    """
    scales, start = run.scales(), [arb(to_fmpq(x)) for x in run.start]
    hot = train(run.problem, run.optimiser, start, run.settings, to_fmpq(run.T), run.steps)
    start = [x / s for x, s in zip(start, scales, strict=True)]
    cold = train(run.problem, run.optimiser, start, settings or run.twin_settings(), 1, run.steps)
    return [x / s for x, s in zip(hot, scales, strict=True)], cold


def largest_difference(first: Sequence[arb], second: Sequence[arb]) -> arb:
    """Largest |a - b| over pairs."""
    result = arb(0)
    for a, b in zip(first, second, strict=True):
        result = result.max(abs(a - b))
    return result


def agree(run: Run) -> Outcome:
    """Whether all parameters of the twins certainly agree within 10^-30."""
    outcome = nonnegative(lambda: arb(10) ** -30 - largest_difference(*hot_and_cold(run)), run)
    return outcome._replace(slack=None)


TEMPERATURES = (Fraction(1, 50), Fraction(3, 2), Fraction(37), Fraction(1000), Fraction(10**6))


@CLAIM.sampled(method="ball arithmetic", instances=200)
def homogeneous_networks(random: Random) -> Outcome:
    """linear and ReLU networks, L = 1, 2, 3, 5, with data or free features, with or without biases, five
    optimisers, T = 1/50 .. 10^6: all parameters of the twins agree to 30 digits after 2..4 steps.
    """
    problem = random_problem(random, random.choice([LINEAR, RELU]), random.choice([1, 2, 3, 5]))
    optimiser, T = random.choice(list(OPTIMISERS)), random.choice(TEMPERATURES)
    settings, steps = random_settings(random), random.randint(2, 4)
    return agree(
        random_run(random, problem, optimiser, T, uniform_powers(problem), settings, steps)
    )


@CLAIM.sampled(method="ball arithmetic", instances=200)
def linear_heads(random: Random) -> Outcome:
    """tanh, normalised and ReLU networks with a linear head, 2 or 3 factors, five optimisers,
    T = 1/50 .. 10^6: with the head alone rescaled, all parameters agree to 30 digits after 2..4 steps.
    """
    problem = random_problem(random, random.choice([TANH, NORMALISED, RELU]), random.randint(2, 3))
    optimiser, T = random.choice(list(OPTIMISERS)), random.choice(TEMPERATURES)
    settings, steps = random_settings(random), random.randint(2, 4)
    return agree(random_run(random, problem, optimiser, T, head_powers(problem), settings, steps))


def ablations() -> Iterator[tuple[str, Run, list[Settings]]]:
    """Pairs with one change left out: its name, the run, and the settings of the other run."""
    for optimiser in OPTIMISERS:
        for field in ("rate", "decay", "epsilon") if "adam" in optimiser else ("rate", "decay"):
            run = _hot_run(optimiser, RELU)
            pairs = zip(run.settings, run.twin_settings(), strict=True)
            settings = [twin._replace(**{field: getattr(o, field)}) for o, twin in pairs]
            yield f"{optimiser}, {field} unchanged", run, settings
        run = _hot_run(optimiser, RELU)
        like_weights = replace(run, powers=[Fraction(1, run.problem.degree)] * len(run.powers))
        settings = like_weights.twin_settings()
        yield f"{optimiser}, biases scaled like weights", like_weights, settings
        yield f"{optimiser}, biases with the weights' settings", run, settings
        for activation in (TANH, NORMALISED):
            run = _hot_run(optimiser, activation)
            yield f"{optimiser}, {activation.name} layers with T^(l/L)", run, run.twin_settings()


def _hot_run(optimiser: str, activation: Activation) -> Run:
    """Three layers with biases at T = 37."""
    random = Random(0)
    data = tuple(_entry(random) for _ in range(6))
    problem = Problem(activation, (2, 3, 3, 3), (0, 1, 2), True, data)
    settings = Settings(fmpq(1, 10), fmpq(1, 10), fmpq(1, 100))
    powers = uniform_powers(problem)
    return random_run(random, problem, optimiser, Fraction(37), powers, settings, steps=3)


def difference_of_predictions(run: Run, settings: Sequence[Settings]) -> arb:
    """Largest difference between probabilities of the run at T and the other run at temperature 1."""
    hot, cold = hot_and_cold(run, settings)
    hot = [x * s for x, s in zip(hot, run.scales(), strict=True)]
    probabilities = [
        softmax(run.problem.logits(parameters) * (1 / arb(to_fmpq(T)))).entries()
        for parameters, T in ((hot, run.T), (cold, Fraction(1)))
    ]
    return largest_difference(*probabilities)


@CLAIM.exhaustive(method="ball arithmetic")
def every_change_is_needed() -> Iterator[Outcome]:
    """L = 3, T = 37, 3 steps: some probability differs by more than 10^-4 if the learning rate, the decay
    or epsilon is not changed, if biases are scaled as weights, and for tanh and normalised layers.
    """
    for name, run, settings in ablations():
        yield positive(partial(_spare_difference, run, settings), name)


def _spare_difference(run: Run, settings: Sequence[Settings]) -> arb:
    return difference_of_predictions(run, settings) - arb(10) ** -4
