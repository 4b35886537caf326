"""Fits of the temperature of Gaussian clusters and of the logit gap under noisy labels."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64
from scipy.optimize import minimize
from torch import Tensor

from rankdeficit import gibbs
from rankdeficit.diagnostics.measures.scaling import fit_temperature, temperature_limit
from rankdeficit.experiments.settings import Row
from rankdeficit.softmax import cross_entropy
from rankdeficit.spectrum import centred_rank

FACTORS = tuple(np.geomspace(0.1, 10, 21).tolist())
"""beta = 1/T of the curves, in units of 1 / (2 sigma^2)."""
RADIUS = 2.0
"""Distance of the means on a circle from 0; random ones are standard normal."""

Arrangement = Literal["random", "circle"]


class Clusters(NamedTuple):
    """The size of a problem of Gaussian clusters."""

    classes: int
    inputs: int
    samples: int


def place_means(
    arrangement: Arrangement, size: Clusters, generator: torch.Generator
) -> Float64[Tensor, "c d"]:
    """Means of clusters: standard normal, or evenly on a circle in the first two dimensions."""
    if arrangement == "random":
        return torch.randn(size.classes, size.inputs, dtype=torch.float64, generator=generator)
    angles = 2 * math.pi * torch.arange(size.classes, dtype=torch.float64) / size.classes
    means = torch.zeros(size.classes, size.inputs, dtype=torch.float64)
    means[:, 0], means[:, 1] = RADIUS * angles.cos(), RADIUS * angles.sin()
    return means


def fit_clusters(
    arrangement: Arrangement,
    size: Clusters,
    sigmas: Sequence[float],
    gamma: float,
    generator: torch.Generator,
    device: torch.device,
) -> Iterator[Row]:
    """One row per sigma: the fitted temperature of -||x - mu||^2, its loss against beta, and its rank.

    temperature_error is in units of the standard error T^2 / sqrt(n E Var_p(z)) at T = 2 sigma^2. It is
    None where the likelihood has no finite optimum.
    """
    means = place_means(arrangement, size, generator)
    expected = gibbs.gaussian_rank(means)
    for sigma in sigmas:
        labels = torch.randint(size.classes, (size.samples,), generator=generator)
        noise = torch.randn(size.samples, size.inputs, dtype=torch.float64, generator=generator)
        inputs = means[labels] + sigma * noise
        logits = gibbs.gaussian_logits(inputs.to(device), means.to(device))
        labels, T = labels.to(device), 2 * sigma**2
        fitted = None
        if temperature_limit(logits, labels) is None:
            fitted = fit_temperature(logits, labels)
        least = None if fitted is None else cross_entropy(logits, labels, fitted).item()
        information = size.samples * gibbs.logits_variance(logits, T).mean().item()
        losses, error = loss_curve(logits, labels, T)
        yield {
            "arrangement": arrangement,
            "sigma": sigma,
            "temperature": T,
            "fitted": fitted,
            "temperature_error": None if fitted is None else (fitted - T) * information**0.5 / T**2,
            "least_loss": least,
            "losses": losses,
            "convexity_error": error,
            "span": expected.span,
            "predicted_rank": expected.logits,
            "rank": int(centred_rank(logits, gamma)),
        }


def loss_curve(
    logits: Float64[Tensor, "n c"], labels: Tensor, temperature: float
) -> tuple[list[float], float]:
    """Loss at each of FACTORS, and the excess of chords over the slopes at their ends.

    For a convex function with these slopes every chord is at least as steep as the slope at its start
    and at most as steep as that at its end. The excess is relative to the steepest slope.
    """
    temperatures = [temperature / factor for factor in FACTORS]
    losses = [cross_entropy(logits, labels, T).item() for T in temperatures]
    slopes = np.array([gibbs.nll_slope(logits, labels, T).item() for T in temperatures])
    chords = np.diff(losses) / np.diff(1 / np.array(temperatures))
    excess = max((slopes[:-1] - chords).max(), (chords - slopes[1:]).max(), 0.0)
    return losses, float(excess / (np.abs(slopes).max() or 1.0))


def fit_noise(
    temperature: float, rates: Sequence[float], samples: int, generator: torch.Generator
) -> Iterator[Row]:
    """One row per rate of flipped labels: the gap of two free logits of least cross-entropy.

    fit_error compares it with T ln(q / (1 - q)) at the observed share q, gap_error with that at the true
    share, in units of its standard error T / sqrt(n q (1 - q)). None if no or every label is flipped.
    """
    for rate in rates:
        flipped = int((torch.rand(samples, generator=generator) < rate).sum())
        q = 1 - flipped / samples
        expected = temperature * math.log((1 - rate) / rate)
        row: Row = {"temperature": temperature, "rate": rate, "expected_gap": expected}
        row |= {"gap": None, "gap_error": None, "fit_error": None}
        if 0 < flipped < samples:
            gap = fit_gap(q, temperature)
            observed = temperature * math.log(q / (1 - q))
            spread = temperature / math.sqrt(samples * rate * (1 - rate))
            row["gap"], row["gap_error"] = gap, (gap - expected) / spread
            row["fit_error"] = abs(gap - observed) / temperature
        yield row


def fit_gap(share: float, temperature: float) -> float:
    """Gap of two logits that start at 0 and minimise the cross-entropy under this share of the first."""
    targets = torch.tensor([share, 1 - share], dtype=torch.float64)

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        logits = torch.from_numpy(point).requires_grad_()
        value = cross_entropy(logits, targets, temperature)
        value.backward()
        assert logits.grad is not None
        return value.item(), logits.grad.numpy()

    first, second = minimise(loss, np.zeros(2), temperature)
    return float(first - second)


def minimise(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    scale: float = 1.0,
) -> np.ndarray:
    """End point of L-BFGS, which stops at a gradient of 1e-10 / scale or once the value stops falling."""
    options = {
        "maxiter": 5000,
        "maxfun": 10_000,
        "ftol": 1e-16,
        "gtol": 1e-10 / scale,
        "maxcor": 30,
    }
    return minimize(function, start, jac=True, method="L-BFGS-B", options=options).x
