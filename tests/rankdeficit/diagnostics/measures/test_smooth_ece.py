"""Smooth calibration error against its definition, and its closed cases."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rankdeficit.diagnostics.measures.smooth_ece import smooth_ece


def sample(n: int, seed: int, tilt: float = 0.0) -> tuple[Tensor, Tensor]:
    """Confidences, and outcomes with the probability f^(1 + tilt)."""
    generator = torch.Generator().manual_seed(seed)
    f = torch.rand(n, dtype=torch.float64, generator=generator) ** 0.3
    y = torch.rand(n, dtype=torch.float64, generator=generator) < f ** (1 + tilt)
    return f, y.double()


def direct(f: Tensor, y: Tensor, sigma: float, points: int = 20_001) -> float:
    """The integral over t, with the kernel reflected explicitly: images of f at 2m + f and 2m - f."""
    t = np.linspace(0, 1, points)
    smoothed = np.zeros(points)
    for confidence, outcome in zip(f.tolist(), y.tolist(), strict=True):
        kernel = sum(
            np.exp(-((t - image) ** 2) / (2 * sigma**2))
            for m in range(-4, 5)
            for image in (2 * m + confidence, 2 * m - confidence)
        )
        smoothed += (outcome - confidence) * kernel / (sigma * math.sqrt(2 * math.pi))
    return float(np.trapezoid(abs(smoothed), t)) / len(f)


@pytest.mark.parametrize(("n", "tilt"), [(7, 0.0), (40, 0.0), (60, 3.0)])
def test_it_is_the_fixed_point_of_the_definition(n: int, tilt: float) -> None:
    f, y = sample(n, seed=n, tilt=tilt)
    found = smooth_ece(f, y)
    assert 0.01 < found < 0.6
    assert direct(f, y, found) == pytest.approx(found, abs=1e-6)
    assert direct(f, y, 0.9 * found) >= found - 1e-6  # smECE falls with the width


def test_constant_confidences_have_the_gap_itself() -> None:
    """Residuals at one point: the kernel integrates to 1 whatever its width."""
    for confidence, right in ((0.7, 40), (0.9, 95), (1.0, 100), (1.0, 99), (0.3, 30)):
        f = torch.full((100,), confidence, dtype=torch.float64)
        y = (torch.arange(100) < right).double()
        assert smooth_ece(f, y) == pytest.approx(abs(right / 100 - confidence), abs=1e-9)


def test_residuals_of_one_sign_have_their_mean() -> None:
    f, _ = sample(500, 1)
    assert smooth_ece(f, torch.ones_like(f)) == pytest.approx(float((1 - f).mean()), abs=1e-6)


@given(st.integers(1, 200), st.integers(0, 10**6), st.floats(0, 4))
def test_it_lies_between_the_mean_residual_and_the_mean_distance(
    n: int, seed: int, tilt: float
) -> None:
    f, y = sample(n, seed, tilt)
    found = smooth_ece(f, y)
    assert abs(float((y - f).mean())) - 1e-6 <= found <= float((y - f).abs().mean()) + 1e-6
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert smooth_ece(f[order], y[order]) == pytest.approx(found, abs=1e-8)


def test_calibrated_confidences_have_an_error_that_vanishes_with_their_number() -> None:
    few, many = (smooth_ece(*sample(n, 3)) for n in (300, 30_000))
    assert many < 0.01 < few < 0.1
    assert smooth_ece(*sample(30_000, 3, tilt=1.0)) > 5 * many
