"""Spearman's rank correlation with permutation p-values."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, rankdata, spearmanr

PERMUTATIONS = 9999
"""Number of random permutations for more than seven points; up to seven, all are enumerated."""


class Correlation(NamedTuple):
    """Spearman's rank correlation of independent points."""

    rho: float
    p: float
    """Two-sided permutation p-value."""
    n: int
    """Number of points."""


def spearman(first: Sequence[float | int], second: Sequence[float | int]) -> Correlation | None:
    """Spearman's rho and its two-sided permutation p-value (`scipy.stats.permutation_test`).

    The p-value is exact for up to seven points. For more points it uses 9999 random permutations with a
    fixed seed, so it is at least 2e-4. Returns None for fewer than three points or if either sequence is
    constant. Raises ValueError for sequences of different lengths and for NaN.
    """
    if len(first) != len(second):
        raise ValueError(
            f"first has {len(first)} values and second {len(second)}; pass sequences of equal length"
        )
    if np.isnan([*first, *second]).any():
        raise ValueError("first or second has NaN; remove these pairs")
    if len(first) < 3 or len(set(first)) == 1 or len(set(second)) == 1:
        return None
    ranks, centred = rankdata(first), rankdata(second)
    centred -= centred.mean()
    test = permutation_test(
        (ranks,),
        lambda permuted, axis: np.sum(permuted * centred, axis=axis),
        permutation_type="pairings",
        n_resamples=PERMUTATIONS,
        rng=0,
    )
    return Correlation(float(spearmanr(first, second).statistic), float(test.pvalue), len(first))
