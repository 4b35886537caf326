"""Rank correlation of two measures over networks."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import spearmanr

LEAST_POINTS = 4
"""Of fewer points no correlation is told."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho with its p-value for independent points."""

    rho: float
    p: float
    n: int

    def __str__(self) -> str:
        return f"Spearman's correlation {self.rho:.2f} (p = {self.p:.2g}, n = {self.n})"


def correlation(points: Sequence[tuple[float, float]]) -> Correlation | None:
    """None for too few points, and where either measure is the same in all."""
    if len(points) < LEAST_POINTS or any(len(set(own)) == 1 for own in zip(*points, strict=True)):
        return None
    rho, p = spearmanr(*zip(*points, strict=True))
    return Correlation(float(rho), float(p), len(points))
