"""Multinomial logistic regression with an L2 penalty, minimised until its gradient has a stated norm.

L-BFGS (Liu and Nocedal, 1989) along the features' principal axes, preconditioned by the Hessian's
diagonal there: mean of p_k (1 - p_k) x_j^2 over samples, plus l2. Correlated features then cost few
iterations. As logits are linear in the weights, a line search needs one product with the features,
however many points it looks at. Weights and logits have a row for each class: on CPUs, products with few
classes are several times as fast that way round.
"""

import math
from collections import deque
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

MEMORY = 10
"""Pairs of steps and gradient changes that L-BFGS remembers."""

RENEWAL = 25
"""Iterations after which the Hessian's diagonal is first computed anew; each time the gap doubles."""

TRIALS = 20
"""Points that a line search looks at before it gives up."""

BLOCK = 2**22
"""Numbers per block of samples where features are converted to float64."""


class Problem(NamedTuple):
    """Samples to classify."""

    inputs: Float[Tensor, "n width"]
    """Features about zero along `axes`, and a last column of ones for the bias."""
    axes: Float64[Tensor, "width width"]
    """Orthonormal columns, the last for the bias: inputs are (features, 1) @ axes."""
    targets: Int64[Tensor, " n"]
    classes: int
    """Each has a sample: with a class that has none, a free bias has no minimum."""

    def zeros(self) -> Tensor:
        """The weights from which a first minimisation starts."""
        return self.inputs.new_zeros(self.classes, self.inputs.shape[1])

    def penalties(self, l2: float) -> Tensor:
        """l2 for each column of the weights, and 0 for the bias."""
        row = self.inputs.new_full((self.inputs.shape[1],), l2)
        row[-1] = 0
        return row


class Minimum(NamedTuple):
    """Where a minimisation ended; loss and gradient evaluated anew there, in float64."""

    weights: Float[Tensor, "classes width"]
    """Of the features themselves."""
    loss: float
    gradient_norm: float
    iterations: int


class _Point(NamedTuple):
    """Weights with their logits, the loss there and its gradient."""

    weights: Tensor
    logits: Tensor
    loss: float
    gradient: Tensor


class _Pair(NamedTuple):
    """A step of L-BFGS, the change of the gradient along it, and their product."""

    step: Tensor
    change: Tensor
    curvature: Tensor


def minimise(
    problem: Problem, l2: float, start: Tensor, tolerance: float, max_iterations: int
) -> Minimum:
    """Minimise mean cross-entropy + (l2 / 2) ||W||_F^2 until the gradient's norm is at most `tolerance`.

    start: weights (classes, width) of the features themselves, the bias as last column. Ends earlier,
    with a larger gradient, after `max_iterations` or where rounding leaves no direction in which the
    loss falls.
    """
    turned = (start.double() @ problem.axes).to(start)
    target, iterations = tolerance, 0
    while True:
        turned, took, reached = _descend(problem, l2, turned, target, max_iterations - iterations)
        iterations += took
        weights = (turned.double() @ problem.axes.mT).to(start)
        loss, gradient_norm = _evaluate(problem, l2, weights.double() @ problem.axes)
        if gradient_norm <= tolerance or not reached:
            return Minimum(weights, loss, gradient_norm, iterations)
        target /= 2  # the descent saw a rounded gradient


def _descend(
    problem: Problem, l2: float, start: Tensor, tolerance: float, max_iterations: int
) -> tuple[Tensor, int, bool]:
    """Weights, iterations, and whether the gradient as computed on the way reached the tolerance."""
    penalties = problem.penalties(l2)
    point = _start(problem, penalties, start)
    pairs: deque[_Pair] = deque(maxlen=MEMORY)
    renewal = RENEWAL
    curvatures = _curvatures(problem, penalties, point.logits)
    for iteration in range(max_iterations):
        if iteration == renewal:
            curvatures, renewal = _curvatures(problem, penalties, point.logits), 2 * renewal
        if float(point.gradient.norm()) <= tolerance:
            return point.weights, iteration, True
        direction = _direction(point.gradient, pairs, curvatures)
        following = _search(problem, penalties, point, direction)
        if following is None and not pairs:
            return point.weights, iteration, False
        if following is None:
            pairs.clear()
            continue
        step, change = following.weights - point.weights, following.gradient - point.gradient
        curvature = (step * change).sum()
        if bool(curvature > 0):
            pairs.append(_Pair(step, change, curvature))
        point = following
    return point.weights, max_iterations, float(point.gradient.norm()) <= tolerance


def _curvatures(problem: Problem, penalties: Tensor, logits: Tensor) -> Tensor:
    """Diagonal of the Hessian (classes, width)."""
    total = torch.zeros_like(penalties).expand(problem.classes, -1).clone()
    rows = block_rows(len(penalties), problem.classes)
    for inputs, block in zip(problem.inputs.split(rows), logits.split(rows, dim=1), strict=True):
        probabilities = block.softmax(dim=0)
        total += (probabilities * (1 - probabilities)) @ inputs.square()
    diagonal = total / len(problem.targets) + penalties
    return diagonal.clamp(min=1e-12 * float(diagonal.max()))  # a bias has no penalty


def _direction(gradient: Tensor, pairs: deque[_Pair], curvatures: Tensor) -> Tensor:
    """Minus the L-BFGS approximation of the inverse Hessian, times the gradient (two-loop recursion)."""
    direction = -gradient
    shares = []
    for pair in reversed(pairs):
        shares.append((pair.step * direction).sum() / pair.curvature)
        direction = direction - shares[-1] * pair.change
    direction = direction / curvatures
    if pairs:
        last = pairs[-1]
        direction = direction * (last.curvature / (last.change.square() / curvatures).sum())
    for pair, share in zip(pairs, reversed(shares), strict=True):
        direction = (
            direction + (share - (pair.change * direction).sum() / pair.curvature) * pair.step
        )
    return direction


def _search(problem: Problem, penalties: Tensor, point: _Point, direction: Tensor) -> _Point | None:
    """A point along the direction where the slope has shrunk by a tenth and the loss has not grown.

    The loss is convex, so its minimum is bracketed by the slope's sign and approached by the secant.
    None where rounding hides the descent.
    """
    along = direction @ problem.inputs.mT
    start = float((point.gradient * direction).sum())
    slack = 10 * torch.finfo(along.dtype).eps * (1 + point.loss)
    low, low_slope = 0.0, start
    high, high_slope = math.inf, math.inf
    length = 1.0
    for _ in range(TRIALS):
        weights = torch.add(point.weights, direction, alpha=length)
        logits = torch.add(point.logits, along, alpha=length)
        loss, residual = _loss(problem, penalties, weights, logits)
        slope = float((residual * along).sum() + (penalties * weights * direction).sum())
        if abs(slope) <= -0.9 * start and loss <= point.loss + slack:
            return _Point(weights, logits, loss, _gradient(problem, penalties, weights, residual))
        if slope < 0:
            low, low_slope = length, slope
        else:
            high, high_slope = length, slope
        if math.isinf(high):
            length *= 4
        else:
            share = high_slope / (high_slope - low_slope)
            length = high - min(max(share, 0.1), 0.9) * (high - low)
    return None


def _start(problem: Problem, penalties: Tensor, weights: Tensor) -> _Point:
    logits = weights @ problem.inputs.mT
    loss, residual = _loss(problem, penalties, weights, logits)
    return _Point(weights, logits, loss, _gradient(problem, penalties, weights, residual))


def _loss(
    problem: Problem, penalties: Tensor, weights: Tensor, logits: Tensor
) -> tuple[float, Tensor]:
    """The objective, and its derivative by the logits."""
    entropies, residual = _cross_entropies(logits, problem.targets)
    penalty = (penalties * weights.square()).sum() / 2
    return float(entropies.double().mean() + penalty), residual.div_(len(entropies))


def _gradient(problem: Problem, penalties: Tensor, weights: Tensor, residual: Tensor) -> Tensor:
    return residual @ problem.inputs + penalties * weights


def _evaluate(problem: Problem, l2: float, weights: Tensor) -> tuple[float, float]:
    """The objective and the norm of its gradient at weights in float64, in blocks of samples."""
    penalties = problem.penalties(l2).double()
    total, gradient = torch.zeros_like(penalties[0]), torch.zeros_like(weights)
    rows = block_rows(*weights.shape)
    for inputs, targets in zip(
        problem.inputs.split(rows), problem.targets.split(rows), strict=True
    ):
        inputs = inputs.double()
        entropies, residual = _cross_entropies(weights @ inputs.mT, targets)
        total += entropies.sum()
        gradient += residual @ inputs
    n = len(problem.targets)
    loss = total / n + (penalties * weights.square()).sum() / 2
    return float(loss), float((gradient / n + penalties * weights).norm())


def _cross_entropies(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """-log p_y of each sample, and p - y."""
    index = targets[None]
    log_probabilities = logits.log_softmax(dim=0)
    entropies = -log_probabilities.gather(0, index)[0]
    residual = log_probabilities.exp_()
    return entropies, residual.scatter_(0, index, residual.gather(0, index) - 1)


def block_rows(*widths: int) -> int:
    """Samples per block, for rows of at most this many numbers."""
    return max(1, BLOCK // max(widths))
