"""Training of small networks in ball arithmetic, with optimisers that also accept symbols."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import sympy
from flint import arb, arb_mat, fmpq

from proofs.exact import square_root, to_fmpq
from proofs.networks import Activation, backward, cross_entropy_slope, forward, ones


class Settings(NamedTuple):
    """Optimiser settings for one parameter."""

    rate: Any
    decay: Any = 0
    epsilon: Any = 0
    momentum: Any = fmpq(9, 10)
    """Momentum, or Adam's beta_1."""
    second: Any = fmpq(999, 1000)
    """Adam's beta_2."""


class Coordinate(NamedTuple):
    """One parameter with its running moments."""

    theta: Any
    first: Any = 0
    second: Any = 0


Optimiser = Callable[[Coordinate, Any, Settings, Any], Coordinate]


def gradient_descent(x: Coordinate, gradient: Any, o: Settings, k: Any) -> Coordinate:
    """theta <- theta - eta g, with the L2 penalty in the gradient g."""
    return Coordinate(x.theta - o.rate * (gradient + o.decay * x.theta))


def heavy_ball(x: Coordinate, gradient: Any, o: Settings, k: Any) -> Coordinate:
    """v <- mu v + g, theta <- theta - eta v."""
    velocity = o.momentum * x.first + gradient + o.decay * x.theta
    return Coordinate(x.theta - o.rate * velocity, velocity)


def nesterov(x: Coordinate, gradient: Any, o: Settings, k: Any) -> Coordinate:
    """v <- mu v + g, theta <- theta - eta (g + mu v), as in PyTorch."""
    slope = gradient + o.decay * x.theta
    velocity = o.momentum * x.first + slope
    return Coordinate(x.theta - o.rate * (slope + o.momentum * velocity), velocity)


def adam(x: Coordinate, gradient: Any, o: Settings, k: Any) -> Coordinate:
    """Step k of Adam with bias corrections; the L2 penalty is in the gradient."""
    slope = gradient + o.decay * x.theta
    first = o.momentum * x.first + (1 - o.momentum) * slope
    second = o.second * x.second + (1 - o.second) * slope**2
    root = _root(second / (1 - o.second**k))
    return Coordinate(
        x.theta - o.rate * first / (1 - o.momentum**k) / (root + o.epsilon), first, second
    )


def adamw(x: Coordinate, gradient: Any, o: Settings, k: Any) -> Coordinate:
    """Adam with decoupled decay: theta also decreases by eta lambda theta."""
    after = adam(x, gradient, o._replace(decay=0), k)
    return after._replace(theta=after.theta - o.rate * o.decay * x.theta)


def _root(x: Any) -> Any:
    return square_root(x) if isinstance(x, arb) else sympy.sqrt(x)


OPTIMISERS: dict[str, Optimiser] = {
    f.__name__: f for f in (gradient_descent, heavy_ball, nesterov, adam, adamw)
}


@dataclass(frozen=True)
class Problem:
    """A small network and its data. Parameters are ordered as weights, biases, free features."""

    activation: Activation
    sizes: tuple[int, ...]
    """Width of the input, of each hidden layer, and the number of classes."""
    labels: tuple[int, ...]
    bias: bool
    data: tuple[Fraction, ...] | None
    """Inputs, row by row; None if the features are parameters (unconstrained feature model)."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Shape of each parameter matrix."""
        layers = list(zip(self.sizes[1:], self.sizes, strict=False))
        biases = [(rows, 1) for rows, _ in layers] if self.bias else []
        return layers + biases + ([] if self.data else [(self.sizes[0], len(self.labels))])

    @property
    def degree(self) -> int:
        """Number of factors L."""
        return len(self.sizes) - 1 + (self.data is None)

    def degrees(self) -> list[int]:
        """Exponent of T^(1/L) by which each entry scales in a linear or ReLU network."""
        depth = len(self.sizes) - 1
        exponents = [1] * depth
        if self.bias:
            exponents += [layer + (self.data is None) for layer in range(1, depth + 1)]
        return self.per_entry(exponents if self.data else [*exponents, 1])

    def in_head(self) -> list[bool]:
        """Whether each entry belongs to the last layer."""
        depth = len(self.sizes) - 1
        last = [layer == depth - 1 for layer in range(depth)]
        return self.per_entry(last * (1 + self.bias) + ([] if self.data else [False]))

    def per_entry(self, values: Sequence[Any]) -> list[Any]:
        """One value per matrix, repeated for its entries."""
        return [
            x for x, (rows, columns) in zip(values, self.shapes, strict=True)
            for _ in range(rows * columns)
        ]  # fmt: skip

    def unpack(self, entries: Sequence[Any]) -> tuple[list[arb_mat], list[arb_mat], arb_mat]:
        """Weights, biases and inputs."""
        rest, matrices = list(entries), []
        for rows, columns in self.shapes:
            matrices.append(arb_mat(rows, columns, rest[: rows * columns]))
            rest = rest[rows * columns :]
        if self.data:
            data = [to_fmpq(x) for x in self.data]
            matrices.append(arb_mat(self.sizes[0], len(self.labels), data))
        depth = len(self.sizes) - 1
        return matrices[:depth], matrices[depth:-1], matrices[-1]

    def logits(self, entries: Sequence[Any]) -> arb_mat:
        """Logits Z_D."""
        return forward(*self.unpack(entries), self.activation).outputs[-1]

    def gradient(self, entries: Sequence[Any], T: Any) -> list[arb]:
        """Gradient of the mean cross-entropy at temperature T."""
        weights, biases, X = self.unpack(entries)
        passes = forward(weights, biases, X, self.activation)
        slope = cross_entropy_slope(passes.outputs[-1], self.labels, T)
        features, *slopes = backward(weights, passes, self.activation, slope)
        matrices = [E * A.transpose() for E, A in zip(slopes, passes.inputs, strict=True)]
        if biases:
            matrices += [E * ones(E, E.ncols(), 1) for E in slopes]
        if self.data is None:
            matrices.append(features)
        return [x for matrix in matrices for x in matrix.entries()]


def train(
    problem: Problem, optimiser: str, start: Sequence[Any], settings: Sequence[Settings], T: Any,
    steps: int,
) -> list[arb]:  # fmt: skip
    """Parameters after the given number of steps at temperature T."""
    state = [Coordinate(arb(x), arb(0), arb(0)) for x in start]
    for k in range(1, steps + 1):
        gradient = problem.gradient([x.theta for x in state], T)
        state = [
            OPTIMISERS[optimiser](x, g, o, k)
            for x, g, o in zip(state, gradient, settings, strict=True)
        ]
    return [x.theta for x in state]
