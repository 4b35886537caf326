"""Post-hoc scalings of logits, fitted by likelihood: a temperature, or a weight and a bias per class.

Logits may be as large as a memory map holds: they are read in blocks of rows, and only a block is in
float64.
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from scipy.optimize import root_scalar
from torch import Tensor

from rankdeficit.checks import check_floating, check_magnitudes
from rankdeficit.spectrum import centre

ROWS = 2048
"""Samples read at a time."""

ACCURACY = 1e-11
"""Relative error of a fitted temperature."""

REACH = 1e4
"""Factor beyond the logits' scale of the temperature that represents a limit, 0 or infinity."""

STEP = 8.0
"""Factor by which the bracket of a fitted temperature is widened at a time."""

ROUNDING = 1e-14
"""Relative rounding error of a slope, below which it counts as zero."""

Limit = Literal["zero", "infinity"]


def fit_temperature(logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> float:
    """The temperature T > 0 of least negative log-likelihood of softmax(logits / T).

    The loss is convex in 1/T: a bracket is widened geometrically until its slope changes sign, and the
    root is found to a relative error of 1e-10 (`scipy.optimize.root_scalar`). If `temperature_limit` is
    not None, there is no finite optimum: for "zero" T is 1e-4 of the median gap between the two largest
    logits of a sample, for "infinity" 1e4 times the largest range of a sample's logits. T is 1 if the
    logits of every sample are all equal, as it then changes nothing.
    Raises ValueError as `calibration`.
    """
    check_samples(logits, labels)
    return fit_rows(logits, labels, torch.arange(len(labels), device=logits.device))[0]


def temperature_limit(logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> Limit | None:
    """The limit that the best T tends to if the likelihood of softmax(logits / T) has no finite optimum.

    "zero" if all samples are correct, so the loss keeps falling as T falls; "infinity" if the labels'
    logits are on average no larger than the mean logits, so it keeps falling as T rises. None if the
    optimum is finite, or every temperature is optimal. Raises ValueError as `calibration`.
    """
    check_samples(logits, labels)
    return fit_rows(logits, labels, torch.arange(len(labels), device=logits.device))[1]


class VectorScaling(NamedTuple):
    """Logits z become w z + b, entry by entry."""

    weights: Float64[Tensor, " c"]
    biases: Float64[Tensor, " c"]
    """Centred, as their mean changes no probability."""


def fit_vector_scaling(
    logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]
) -> VectorScaling | None:
    """Weights w and biases b of least negative log-likelihood of softmax(w z + b) (Guo et al., 2017).

    The loss is convex; Newton's method with conjugate gradients on standardised columns ends when no
    entry of the gradient exceeds 1e-10. None if no finite optimum is found: a class has no sample,
    or the loss keeps falling in some direction, as it does if a class can be separated from the others
    without error. Raises ValueError as `calibration`.
    """
    check_samples(logits, labels)
    return fit_vector(logits, labels, torch.arange(len(labels), device=logits.device))


def gaussian_temperature(logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"]) -> float | None:
    """The best temperature for logits that are Gaussian around simplex class means: sigma^2 / a.

    With z ~ N(a e_y, sigma^2 I) up to a shift per sample and equally frequent classes, the posterior is
    softmax(a z / sigma^2). a is the mean margin of the label's logit over the mean of the others, sigma^2
    the variance within classes of a centred logit per direction, tr(S_W) / (c - 1). Real logits have
    heavier tails and noise in few directions, and the fitted temperature is then larger.
    None where the margin is not positive, or no class has two samples. Raises ValueError as
    `calibration`.
    """
    check_samples(logits, labels)
    n, c = logits.shape
    counts = torch.bincount(labels, minlength=c)
    freedom = n - int((counts > 0).sum())
    if c < 2 or freedom < 1:
        return None
    sums = torch.zeros(c, c, dtype=torch.float64, device=logits.device)
    for block, own in zip(logits.split(ROWS), labels.split(ROWS), strict=True):
        sums.index_add_(0, own, centre(block))
    means = sums / counts.clamp(min=1)[:, None]
    margin = float(sums.diagonal().sum()) / n * c / (c - 1)
    if margin <= 0:
        return None
    within = sum(
        float((centre(block) - means[own]).square().sum())
        for block, own in zip(logits.split(ROWS), labels.split(ROWS), strict=True)
    )
    return within / (freedom * (c - 1)) / margin


def fit_rows(logits: Tensor, labels: Tensor, rows: Tensor) -> tuple[float, Limit | None]:
    """Temperature of least loss over these rows, the root of the slope over ln(1 / T), and its limit."""
    gap, reach = _scales(logits, rows)
    if reach == 0:
        return 1.0, None

    def slope(log_beta: float) -> float:
        return _slope(logits, labels, rows, math.exp(log_beta)).value

    start = _slope(logits, labels, rows, 0.0)
    if start.all_right:
        return gap / REACH, "zero"
    if start.value >= -ROUNDING * start.magnitude:
        return reach * REACH, "infinity"
    low = high = -math.log(gap)
    if slope(low) < 0:
        while slope(high) < 0:
            low, high = high, high + math.log(STEP)
    else:
        while slope(low) >= 0:
            low, high = low - math.log(STEP), low
    found = root_scalar(slope, bracket=(low, high), method="toms748", xtol=ACCURACY)
    return math.exp(-found.root), None


class _Slope(NamedTuple):
    """Derivative of the summed loss in beta = 1 / T."""

    value: float
    magnitude: float
    """Sum of the terms' magnitudes."""
    all_right: bool
    """No logit is larger than its sample's label's."""


def _slope(logits: Tensor, labels: Tensor, rows: Tensor, beta: float) -> _Slope:
    """Sum over samples of E[e] - e_y under softmax(beta e): rising in beta."""
    value = magnitude = 0.0
    all_right = True
    for own in rows.split(ROWS):
        energies = logits[own].double()
        energies -= energies.gather(1, labels[own, None])
        terms = torch.softmax(beta * energies, dim=1) * energies
        value += float(terms.sum())
        magnitude += float(terms.abs().sum())
        all_right &= bool((energies <= 0).all())
    return _Slope(value, magnitude, all_right)


def _scales(logits: Tensor, rows: Tensor) -> tuple[float, float]:
    """Median gap between a sample's two largest logits where they differ, and the largest range.

    Masked classes and single outliers do not change the median. It is the range if all such gaps are 0.
    """
    gaps, reach = [], 0.0
    for own in rows.split(ROWS):
        block = logits[own].double()
        reach = max(reach, float((block.amax(dim=1) - block.amin(dim=1)).max()))
        largest = block.topk(min(2, block.shape[1]), dim=1).values
        gaps.append(largest[:, 0] - largest[:, -1])
    found = torch.cat(gaps)
    found = found[found > 0]
    return float(found.median()) if len(found) else reach, reach


def check_samples(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless labels are classes of the logits, and these finite."""
    check_floating("logits", logits, dimensions=2)
    if bool(torch.isinf(logits).any()):
        raise ValueError(
            "logits have infinite entries; give masked classes a finite value such as -1e9, or leave "
            "their columns out"
        )
    check_magnitudes("logits", logits)
    n, c = logits.shape
    if labels.shape != (n,) or labels.dtype != torch.int64:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)} and dtype {labels.dtype}; they must be {n} class "
            "indices (torch.int64)"
        )
    if bool(((labels < 0) | (labels >= c)).any()):
        raise ValueError(
            f"labels lie in {int(labels.min())}..{int(labels.max())}; they must lie in 0..{c - 1}"
        )


GRADIENT, NEWTON_STEPS = 1e-10, 100
"""Largest gradient entry of a fitted vector scaling, and steps after which it counts as divergent."""

DENSE = 1000
"""Most classes for which the Hessian is one matrix (32 MB); for more it is never formed."""

FINITE = 1e-3
"""Largest remaining Newton step at a finite optimum; if the loss keeps falling as exp(-t), it is 1."""


def fit_vector(logits: Tensor, labels: Tensor, rows: Tensor) -> VectorScaling | None:
    """The vector scaling of least loss over these rows."""
    loss = _VectorLoss(logits, labels, rows)
    if not bool((torch.bincount(labels[rows], minlength=logits.shape[1]) > 0).all()):
        return None
    temperature, limit = fit_rows(logits, labels, rows)
    if limit == "zero":
        return None
    point = loss.uniform() if limit else loss.at_temperature(temperature)
    for _ in range(NEWTON_STEPS):
        if float(loss.gradient(point).abs().max()) <= GRADIENT:
            remaining = loss.newton_direction(point, loss.gradient(point))
            return loss.scaling(point) if float(remaining.abs().max()) < FINITE else None
        moved = loss.newton_step(point)
        if moved is None:
            return None
        point = moved
    return None


class _VectorLoss:
    """Mean loss of softmax(u x + d), x the standardised columns, as a function of u and d, stacked."""

    def __init__(self, logits: Tensor, labels: Tensor, rows: Tensor) -> None:
        self.logits, self.labels, self.rows = logits, labels, rows
        n, c = len(rows), logits.shape[1]
        blocks = [(logits[own].double().sum(dim=0)) for own in rows.split(ROWS)]
        self.mean = torch.stack(blocks).sum(dim=0) / n
        squares = [
            (logits[own].double() - self.mean).square().sum(dim=0) for own in rows.split(ROWS)
        ]
        deviation = (torch.stack(squares).sum(dim=0) / n).sqrt()
        self.deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
        self.classes = c

    def uniform(self) -> Tensor:
        return self.mean.new_zeros(2, self.classes)

    def at_temperature(self, temperature: float) -> Tensor:
        return torch.stack([self.deviation, self.mean]) / temperature

    def scaling(self, point: Tensor) -> VectorScaling:
        weights = point[0] / self.deviation
        biases = point[1] - weights * self.mean
        return VectorScaling(weights, biases - biases.mean())

    def _blocks(self, point: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Standardised columns, logits and labels."""
        for own in self.rows.split(ROWS):
            x = (self.logits[own].double() - self.mean) / self.deviation
            yield x, x * point[0] + point[1], self.labels[own]

    def value(self, point: Tensor) -> float:
        found = sum(
            float(torch.nn.functional.cross_entropy(e, own, reduction="sum"))
            for _, e, own in self._blocks(point)
        )
        return found / len(self.rows)

    def gradient(self, point: Tensor) -> Tensor:
        found = torch.zeros_like(point)
        for x, energies, own in self._blocks(point):
            residual = torch.softmax(energies, dim=1)
            residual[torch.arange(len(own), device=own.device), own] -= 1
            found += torch.stack([(residual * x).sum(dim=0), residual.sum(dim=0)])
        return found / len(self.rows)

    def hessian(self, point: Tensor) -> Tensor:
        """The Hessian, of the coordinates in the order of `point.flatten()`."""
        c = self.classes
        found = self.mean.new_zeros(2 * c, 2 * c)
        diagonals = found.view(2, c, 2, c).diagonal(dim1=1, dim2=3)
        for x, energies, _ in self._blocks(point):
            p = torch.softmax(energies, dim=1)
            slopes = torch.stack([x * p, p], dim=1)
            found -= slopes.flatten(1).mT @ slopes.flatten(1)
            factors = torch.stack([x, torch.ones_like(x)], dim=1)
            diagonals += torch.einsum("nic,njc->ijc", slopes, factors)
        return found / len(self.rows)

    def product(self, point: Tensor, direction: Tensor) -> Tensor:
        """Product of the Hessian with a direction."""
        found = torch.zeros_like(point)
        for x, energies, _ in self._blocks(point):
            p = torch.softmax(energies, dim=1)
            moved = p * (x * direction[0] + direction[1])
            moved -= p * moved.sum(dim=1, keepdim=True)
            found += torch.stack([(moved * x).sum(dim=0), moved.sum(dim=0)])
        return found / len(self.rows)

    def newton_step(self, point: Tensor) -> Tensor | None:
        """The point after a damped step; None if no step decreases the loss."""
        gradient = self.gradient(point)
        direction = self.newton_direction(point, gradient)
        slope, before, size = float((gradient * direction).sum()), self.value(point), 1.0
        while size > 1e-6:
            moved = point + size * direction
            after = float((self.gradient(moved) * direction).sum())
            if after <= 0.1 * abs(slope) and self.value(moved) <= before * (1 + 1e-12):
                return moved
            size /= 2
        return None

    def newton_direction(self, point: Tensor, gradient: Tensor) -> Tensor:
        """An approximate solution d of H d = -g, downhill."""
        found, residual = torch.zeros_like(gradient), -gradient
        direction, square = residual.clone(), float(residual.square().sum())
        goal = square * min(0.01, square)  # superlinear convergence
        hessian = self.hessian(point) if self.classes <= DENSE else None
        for _ in range(2 * gradient.numel()):
            if hessian is None:
                product = self.product(point, direction)
            else:
                product = (hessian @ direction.flatten()).view_as(direction)
            curvature = float((direction * product).sum())
            if curvature <= ROUNDING * float(direction.square().sum()):
                break
            step = square / curvature
            found, residual = found + step * direction, residual - step * product
            before, square = square, float(residual.square().sum())
            if square <= goal:
                break
            direction = residual + square / before * direction
        return found if bool(found.any()) else -gradient
