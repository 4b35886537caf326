"""Rank correlation of two measures over networks."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, rankdata, spearmanr

PERMUTATIONS = 9999
"""All permutations of up to seven points are tried; of more points, this many random ones."""


class Correlation(NamedTuple):
    """Spearman's rank correlation of independent points."""

    rho: float
    p: float
    """Two-sided p-value by permutations."""
    n: int
    """Number of points."""


def spearman(first: Sequence[float | int], second: Sequence[float | int]) -> Correlation | None:
    """Spearman's rho and its two-sided p-value by permutations (`scipy.stats.permutation_test`).

    Up to seven points have an exact p-value, from all permutations. More points have one from 9999
    random permutations with a fixed seed, which is at least 2e-4; no distribution is assumed.
    None for fewer than three points, and where either measure is constant. Raises ValueError for
    sequences of different lengths and NaN.
    """
    if len(first) != len(second):
        raise ValueError(
            f"first has {len(first)} values and second {len(second)}; they must be pairs"
        )
    if np.isnan([*first, *second]).any():
        raise ValueError("first or second has NaN; leave those pairs out")
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
