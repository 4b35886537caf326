"""Rank correlation of two measures over networks, compared with the paper's, which is positive."""

from collections.abc import Sequence
from dataclasses import dataclass

from rankdeficit.correlation import spearman

LEAST_POINTS = 4
"""Of fewer points no correlation is told."""

SIGNIFICANT = 0.05
"""Correlations with no smaller p say nothing on the paper's."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho with its p-value for independent points, by permutations."""

    rho: float
    p: float
    n: int

    def __str__(self) -> str:
        return f"Spearman's correlation {self.rho:.2f} (p = {self.p:.2g}, n = {self.n})"

    @property
    def agreement(self) -> str:
        """How it stands to the paper's, which is positive."""
        if not self.p < SIGNIFICANT:
            return "which leaves it open; in the paper it is positive"
        return "as in the paper" if self.rho > 0 else "in the paper it is positive"


def correlation(points: Sequence[tuple[float, float]]) -> Correlation | None:
    """None for too few points, and where either measure is the same in all."""
    if len(points) < LEAST_POINTS:
        return None
    found = spearman([x for x, _ in points], [y for _, y in points])
    return None if found is None else Correlation(*found)
