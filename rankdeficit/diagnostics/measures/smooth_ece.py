"""Smooth expected calibration error, without bins (Blasiok and Nakkiran, 2023)."""

import math

import torch
from jaxtyping import Float64
from scipy.fft import dct
from scipy.optimize import brentq
from torch import Tensor

RESOLUTION = 5e-4
"""Smallest bandwidth."""

CUT = 8.6
"""Harmonics beyond CUT / (pi sigma) are damped below 1e-16."""

ROWS = 4096
"""Samples whose cosines are in memory at a time."""


def smooth_ece(confidences: Float64[Tensor, " n"], hits: Float64[Tensor, " n"]) -> float:
    """smECE of confidences f in [0, 1] and outcomes y in {0, 1}, a number in [0, 1].

    smECE_sigma = integral over t in [0, 1] of |mean_i (y_i - f_i) K_sigma(t, f_i)|, K_sigma the Gaussian
    kernel of width sigma reflected at 0 and 1; smECE is the value at the one sigma where
    smECE_sigma = sigma (arXiv 2309.12236, section 3). As the kernel is
    1 + 2 sum_k exp(-(k pi sigma)^2 / 2) cos(k pi t) cos(k pi f), no sample is moved to a grid. If the
    fixed point is below 5e-4, smECE at sigma = 5e-4 is returned, which is smaller still.
    """
    residuals = hits - confidences
    coefficients = torch.zeros(0, dtype=torch.float64)

    def at(sigma: float) -> float:
        nonlocal coefficients
        needed = math.ceil(CUT / (math.pi * sigma)) + 1
        if len(coefficients) < needed:
            more = _harmonics(confidences, residuals, range(len(coefficients), needed))
            coefficients = torch.cat([coefficients, more])
        k = torch.arange(needed, dtype=torch.float64)
        damped = coefficients[:needed] * torch.exp(-((k * math.pi * sigma) ** 2) / 2)
        points = max(2048, 8 * needed)
        smoothed = dct(damped.numpy(), type=3, n=points)
        return float(abs(smoothed).mean())

    low, high = 0.5, 1.0
    while at(low) < low:
        if low == RESOLUTION:
            return at(low)
        low, high = max(low / 2, RESOLUTION), low
    return float(brentq(lambda sigma: at(sigma) - sigma, low, high, xtol=1e-9))


def _harmonics(confidences: Tensor, residuals: Tensor, orders: range) -> Tensor:
    """Mean of residual times cos(k pi f), for these k."""
    k = torch.arange(orders.start, orders.stop, dtype=torch.float64, device=confidences.device)
    k = math.pi * k
    found = torch.zeros_like(k)
    for f, r in zip(confidences.split(ROWS), residuals.split(ROWS), strict=True):
        found += r @ torch.cos(f[:, None] * k)
    return (found / len(confidences)).cpu()
