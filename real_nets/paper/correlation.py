"""Rank correlation of two measures over networks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import permutation_test, rankdata, spearmanr

LEAST_POINTS = 4
"""Of fewer points no correlation is told."""

SIGNIFICANT = 0.05
"""Correlations with no smaller p say nothing on the paper's."""

PERMUTATIONS = 9999
"""All of up to seven points are tried, of more points so many at random."""


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
    if len(points) < LEAST_POINTS or any(len(set(own)) == 1 for own in zip(*points, strict=True)):
        return None
    first, second = (rankdata(own) for own in zip(*points, strict=True))
    second -= second.mean()
    found = permutation_test(
        (first,),
        lambda ranks, axis: np.sum(ranks * second, axis=axis),
        permutation_type="pairings",
        n_resamples=PERMUTATIONS,
        rng=0,
    )
    return Correlation(float(spearmanr(first, second).statistic), float(found.pvalue), len(points))
