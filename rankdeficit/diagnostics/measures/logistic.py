"""Multinomial logistic regression with an L2 penalty, minimised until its gradient has a stated norm.

L-BFGS (Liu and Nocedal, 1989) along the features' principal axes. Its preconditioner has parts of the
Hessian's diagonal blocks, which are means of p_k (1 - p_k) x x^T over samples, plus l2, for each class k:
what the leading axes share, and the diagonal for the others. Correlated and collapsed features then cost
few iterations. As logits are linear in the weights, a line search needs one product with the features,
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
"""Iterations after which the preconditioner is first computed anew; then the gap doubles each time."""

LEADING = 48
"""Principal axes at most that the preconditioner takes together, and an eighth of all."""

TRIALS = 20
"""Points that a line search looks at before it gives up."""

BLOCK = 2**22
"""Numbers per block of samples where features are converted to float64."""


class Problem(NamedTuple):
    """Samples to classify."""

    inputs: Float[Tensor, "n width"]
    """A column of ones for the bias, and features about zero along `axes`."""
    axes: Float64[Tensor, "features width"]
    """Orthonormal columns, the first for the bias, the next with most variance: inputs are
    (1, features) @ axes. They may be fewer than features where they span all samples."""
    targets: Int64[Tensor, " n"]
    classes: int
    """Each has a sample: with a class that has none, a free bias has no minimum."""

    def zeros(self) -> Tensor:
        """The weights from which a first minimisation starts."""
        return self.inputs.new_zeros(self.classes, len(self.axes))

    def penalties(self, l2: float) -> Tensor:
        """l2 for each column of the weights, and 0 for the bias."""
        row = self.inputs.new_full((self.inputs.shape[1],), l2)
        row[0] = 0
        return row


class Minimum(NamedTuple):
    """Where a minimisation ended; loss and gradient evaluated anew there, in float64."""

    weights: Float[Tensor, "classes features"]
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


class _Preconditioner(NamedTuple):
    """Parts of the Hessian's diagonal blocks, one for each class."""

    inverse_factors: Tensor
    """(classes, leading, leading): L^-1 of the block L L^T among the bias and the leading axes."""
    others: Tensor
    """(classes, width - leading): the diagonal at the other axes."""

    def solve(self, gradient: Tensor) -> Tensor:
        """An approximation of the inverse Hessian, times the gradient."""
        leading = self.inverse_factors.shape[-1]
        whitened = self.inverse_factors @ gradient[:, :leading, None]
        inner = (self.inverse_factors.mT @ whitened)[:, :, 0]
        return torch.cat([inner, gradient[:, leading:] / self.others], dim=1)


class _Pair(NamedTuple):
    """A step of L-BFGS, the change of the gradient along it, and their product."""

    step: Tensor
    change: Tensor
    curvature: Tensor


def minimise(
    problem: Problem, l2: float, start: Tensor, tolerance: float, max_iterations: int
) -> Minimum:
    """Minimise mean cross-entropy + (l2 / 2) ||W||_F^2 until the gradient's norm is at most `tolerance`.

    start: weights (classes, features) of the features themselves, in the span of the axes, the bias as
    first column. Ends earlier, with a larger gradient, after `max_iterations` or where rounding leaves
    no direction in which the loss falls.
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
    preconditioner = _preconditioner(problem, penalties, point.logits)
    for iteration in range(max_iterations):
        if iteration == renewal:
            preconditioner = _preconditioner(problem, penalties, point.logits)
            renewal *= 2
        if float(point.gradient.norm()) <= tolerance:
            return point.weights, iteration, True
        direction = _direction(point.gradient, pairs, preconditioner)
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


def _preconditioner(problem: Problem, penalties: Tensor, logits: Tensor) -> _Preconditioner:
    n, width = problem.inputs.shape
    leading = 1 + min(LEADING, width // 8)
    squares = logits.new_zeros(problem.classes, width)
    products = logits.new_zeros(problem.classes, leading**2)
    rows = block_rows(width, leading**2, problem.classes)
    for inputs, block in zip(problem.inputs.split(rows), logits.split(rows, dim=1), strict=True):
        probabilities = block.softmax(dim=0)
        variances = probabilities * (1 - probabilities) / n
        first = inputs[:, :leading]
        squares += variances @ inputs.square()
        products += variances @ (first[:, :, None] * first[:, None]).flatten(1)
    diagonal = squares + penalties
    diagonal = diagonal.clamp(min=1e-12 * float(diagonal.max()))  # a bias has no penalty
    inverse_scales = diagonal[:, :leading].double().rsqrt().diag_embed()
    blocks = (
        products.double().unflatten(1, (leading, leading)) + penalties[:leading].double().diag()
    )
    correlations = inverse_scales @ blocks @ inverse_scales
    ridge = 100 * torch.finfo(logits.dtype).eps
    identity = torch.eye(leading, dtype=torch.float64, device=logits.device)
    factors, failed = torch.linalg.cholesky_ex(correlations + ridge * identity)
    factors = factors.where((failed == 0)[:, None, None], identity)  # the diagonal alone will do
    inverse = torch.linalg.solve_triangular(factors, inverse_scales, upper=False)
    return _Preconditioner(inverse.to(logits.dtype), diagonal[:, leading:])


def _direction(gradient: Tensor, pairs: deque[_Pair], preconditioner: _Preconditioner) -> Tensor:
    """Minus the L-BFGS approximation of the inverse Hessian, times the gradient (two-loop recursion)."""
    direction = -gradient
    shares = []
    for pair in reversed(pairs):
        shares.append((pair.step * direction).sum() / pair.curvature)
        direction = direction - shares[-1] * pair.change
    direction = preconditioner.solve(direction)
    if pairs:
        change = pairs[-1].change
        direction = direction * (
            pairs[-1].curvature / (change * preconditioner.solve(change)).sum()
        )
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
