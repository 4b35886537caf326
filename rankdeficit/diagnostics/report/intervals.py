"""Intervals and tests of shares, AUROCs and differences, in closed form."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import binomtest, norm, t

LEVEL = 0.95
"""Confidence of every interval that a report computes itself."""


class Interval(NamedTuple):
    """Ends of a confidence interval."""

    low: float | int
    high: float | int


class McNemar(NamedTuple):
    """Two classifiers on the same samples."""

    only_first: int
    """Samples on which only the first is right."""
    only_second: int
    p: float
    """Two-sided exact p-value for equal accuracies."""
    difference: Interval
    """Of the second accuracy less the first."""


def wilson(share: float | int, samples: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share of samples (Wilson, 1927). Raises ValueError for no samples."""
    _check(share, samples)
    z2 = _z(level) ** 2
    middle = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    half = math.sqrt(z2 * share * (1 - share) / samples + z2**2 / (4 * samples**2))
    half /= 1 + z2 / samples
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def auroc_interval(auroc: float | int, known: int, strange: int, level: float = LEVEL) -> Interval:
    """Interval of an AUROC from the numbers of ID and OOD samples (Hanley and McNeil, 1982).

    Their standard error holds for scores of about exponential shape; the logit scale keeps the ends in
    [0, 1]. Raises ValueError for no samples.
    """
    _check(auroc, min(known, strange))
    q1, q2 = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc)
    variance = spread + (strange - 1) * (q1 - auroc**2) + (known - 1) * (q2 - auroc**2)
    if spread == 0:
        return Interval(auroc, auroc)
    half = _z(level) * math.sqrt(max(variance, 0.0) / (known * strange)) / spread
    centre = math.log(auroc / (1 - auroc))
    return Interval(*(1 / (1 + math.exp(-end)) for end in (centre - half, centre + half)))


def difference_of_independent(
    first: float | int, of_first: Interval, second: float | int, of_second: Interval
) -> Interval:
    """Interval of second - first from the intervals of each, from independent samples.

    MOVER (Zou and Donner, 2008): the squared distances from the values to the ends add. Of Wilson's
    intervals it is Newcombe's method 10 (1998).
    """
    value = second - first
    down = math.hypot(second - of_second.low, of_first.high - first)
    up = math.hypot(of_second.high - second, first - of_first.low)
    return Interval(value - down, value + up)


def mcnemar(only_first: int, only_second: int, samples: int, level: float = LEVEL) -> McNemar:
    """Exact McNemar test of two classifiers on the same samples, from the ones they disagree on.

    p is that of a fair coin: 2 P(X <= min(b, c)), X ~ Binomial(b + c, 1/2), at most 1; 1 where they never
    disagree. The interval is Wald's with half a sample added to each cell (Agresti and Min, 2005).
    Raises ValueError for negative counts, and more than there are samples.
    """
    disagreements = only_first + only_second
    if min(only_first, only_second) < 0 or samples < 1 or disagreements > samples:
        raise ValueError(
            f"only_first is {only_first} and only_second {only_second} of {samples} samples; they must "
            "not be negative, and their sum at most the number of samples"
        )
    p = binomtest(only_first, disagreements).pvalue if disagreements else 1.0
    total, gap = samples + 2, only_second - only_first
    half = _z(level) * math.sqrt(disagreements + 1 - gap**2 / total) / total
    return McNemar(
        only_first,
        only_second,
        float(p),
        Interval(max(-1.0, gap / total - half), min(1.0, gap / total + half)),
    )


def paired_auroc(
    difference: float | int,
    of_id: Float[np.ndarray, " g"],
    of_ood: Float[np.ndarray, " h"],
    level: float = LEVEL,
) -> tuple[Interval, float]:
    """Interval and p-value of the difference of two AUROCs on the same samples (DeLong et al., 1988).

    of_id, of_ood: differences of the placements, means of g groups of ID and h of OOD samples. Variance
    of the difference: var(of_id) / g + var(of_ood) / h, which the variances over groups estimate with
    g - 1 and h - 1 degrees of freedom; the smaller one is that of the t distribution used.
    Raises ValueError for fewer than two groups.
    """
    groups = min(len(of_id), len(of_ood))
    if groups < 2:
        raise ValueError(f"of_id or of_ood has {groups} groups; give at least two")
    error = math.sqrt(sum(float(own.var(ddof=1)) / len(own) for own in (of_id, of_ood)))
    half = float(t.ppf((1 + level) / 2, groups - 1)) * error
    p = float(2 * t.sf(abs(difference) / error, groups - 1)) if error else float(difference == 0)
    return Interval(difference - half, difference + half), p


def _check(share: float | int, samples: int) -> None:
    if samples < 1 or not 0 <= share <= 1:
        raise ValueError(
            f"share is {share} of {samples} samples; it must lie in [0, 1], of at least one sample"
        )


def _z(level: float) -> float:
    return float(norm.ppf((1 + level) / 2))
