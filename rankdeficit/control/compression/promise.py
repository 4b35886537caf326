"""One-sided paired test of whether the loss of accuracy on unseen images is below a margin."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool
from scipy.stats import beta, binom
from torch import Tensor

from rankdeficit.diagnostics.report.intervals import Interval, mcnemar

NUISANCE_SHARE = 0.1
"""Share of the error spent on the interval of the disagreement rate."""

RATES = 64
"""Disagreement rates at which the p-value is evaluated."""


@dataclass(frozen=True)
class Paired:
    """A classifier and its compressed version on the same images."""

    samples: int
    accuracy_before: float
    accuracy_after: float
    only_before: int
    """Images that only the first classifies correctly."""
    only_after: int
    interval: Interval
    """95 % interval of accuracy after minus before (Agresti and Min)."""
    p: float
    """`loss_p_value`: one-sided p-value of the hypothesis that the loss is at least the margin."""
    margin: float

    @classmethod
    def of(
        cls, before: Bool[Tensor, " n"], after: Bool[Tensor, " n"], margin: float, error: float
    ) -> "Paired":
        """From correctness on the same images in the same order. error: as in `loss_p_value`."""
        samples = len(before)
        only_before, only_after = int((before & ~after).sum()), int((after & ~before).sum())
        return cls(
            samples,
            float(before.double().mean()),
            float(after.double().mean()),
            only_before,
            only_after,
            mcnemar(only_before, only_after, samples).difference,
            loss_p_value(only_before, only_after, samples, margin, error),
            margin,
        )

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "Paired":
        """From plain values of its fields."""
        own = {name.name: record[name.name] for name in fields(cls)}
        return cls(**own | {"interval": Interval(*record["interval"])})

    @property
    def loss(self) -> float:
        """Accuracy before minus after."""
        return (self.only_before - self.only_after) / self.samples


def loss_p_value(
    only_before: int, only_after: int, samples: int, margin: float, error: float = 0.01
) -> float:
    """p-value of the hypothesis that the accuracy falls by at least `margin`, from paired images.

    At a disagreement rate psi and a loss equal to the margin m, there are D ~ Binomial(n, psi)
    disagreements, of which Binomial(D, (1 + m / psi) / 2) are images that only the first classifier gets
    right. p is the maximum over psi, in an exact interval of level 1 - error / 10, of the probability of
    a net loss no larger than observed, plus error / 10 (Berger and Boos, 1994). It is valid in finite
    samples, up to the grid of RATES rates.
    error: significance level of the test, which only sets the width of the interval of psi.
    Raises ValueError for counts that are negative or exceed the number of images.
    """
    disagreements = only_before + only_after
    if min(only_before, only_after) < 0 or not disagreements <= samples or samples < 1:
        raise ValueError(
            f"only_before is {only_before} and only_after {only_after} of {samples} images; they must "
            "not be negative, and their sum at most the number of images"
        )
    spent = NUISANCE_SHARE * error
    low, high = _rates(disagreements, samples, spent)
    low = max(low, margin)  # a loss of m needs a disagreement rate of at least m
    if high < low:
        return spent
    rates = np.linspace(low, high, RATES)[:, None]
    deviation = 8 * math.sqrt(samples * high) + 20  # beyond it, probabilities are below 1e-12
    first, last = samples * low - deviation, samples * high + deviation
    counts = np.arange(max(0, int(first)), min(samples, int(last)) + 1)[None]
    most = (counts + only_before - only_after) // 2
    tails = binom.cdf(most, counts, (1 + margin / rates) / 2)
    return float(min(1.0, (binom.pmf(counts, samples, rates) * tails).sum(axis=1).max() + spent))


def images_needed(margin: float, error: float) -> int:
    """Least number of images with which two classifiers that agree on all of them pass the test."""
    low, high = 1, 2
    while loss_p_value(0, 0, high, margin, error) > error:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        passes = loss_p_value(0, 0, middle, margin, error) <= error
        low, high = (low, middle) if passes else (middle, high)
    return high


def _rates(disagreements: int, samples: int, error: float) -> tuple[float, float]:
    """Exact two-sided interval of a rate (Clopper and Pearson, 1934)."""
    others = samples - disagreements
    low = beta.ppf(error / 2, disagreements, others + 1) if disagreements else 0.0
    high = beta.ppf(1 - error / 2, disagreements + 1, others) if others else 1.0
    return float(low), float(high)
