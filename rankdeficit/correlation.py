"""Spearman's rank correlation with permutation p-values."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import permutation_test, rankdata, spearmanr

PERMUTATIONS = 9999
"""Number of random permutations for more than seven points; up to seven, all are enumerated."""


class Correlation(NamedTuple):
    """Spearman's rank correlation of independent points, or of points independent within groups."""

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


def spearman_within(
    first: Sequence[float | int], second: Sequence[float | int], groups: Sequence[Hashable]
) -> Correlation | None:
    """Spearman's rho within groups of points, and its two-sided permutation p-value.

    Each point is ranked among those of its group, and the mean rank of the group is subtracted; rho is
    Pearson's correlation of these ranks over all points. So differences between groups do not count. p
    is the share of 9999 random permutations within groups, of a fixed seed, with at least this |rho|,
    and the points as they are count as one more. Groups of one point say nothing and do not count in n.
    Returns None, and raises ValueError, as `spearman`, which serves where there is one group.
    """
    if not len(first) == len(second) == len(groups):
        raise ValueError(
            f"first has {len(first)} values, second {len(second)} and groups {len(groups)}; pass "
            "sequences of equal length"
        )
    if np.isnan([*first, *second]).any():
        raise ValueError("first or second has NaN; remove these pairs")
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    if len(members) == 1:
        return spearman(first, second)
    several = [own for own in members.values() if len(own) > 1]
    n = sum(map(len, several))
    x, y = (
        [rankdata(values[own]) - (len(own) + 1) / 2 for own in several]
        for values in (np.asarray(first, dtype=float), np.asarray(second, dtype=float))
    )
    scale = np.sqrt(sum(float(a @ a) for a in x) * sum(float(b @ b) for b in y))
    if n < 3 or scale == 0:
        return None
    generator = np.random.default_rng(0)
    found = sum(float(a @ b) for a, b in zip(x, y, strict=True))
    drawn = sum(
        generator.permuted(np.tile(a, (PERMUTATIONS, 1)), axis=1) @ b
        for a, b in zip(x, y, strict=True)
    )
    beyond = int(np.sum(np.abs(drawn) >= abs(found) - 1e-9))
    return Correlation(float(found / scale), (1 + beyond) / (1 + PERMUTATIONS), n)
