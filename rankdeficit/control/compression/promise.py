"""A one-sided paired test of a loss of accuracy: whether it is below a margin on unseen images."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.stats import beta, binom
from torch import Tensor

from rankdeficit.diagnostics.report.intervals import Interval, mcnemar

NUISANCE_SHARE = 0.1
"""Share of the error that the interval of the disagreement rate may take."""

RATES = 64
"""Disagreement rates at which the p-value is evaluated."""


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same images, the second compressed from the first."""

    samples: int
    accuracy_before: float
    accuracy_after: float
    only_before: int
    """Images that only the first classifies correctly."""
    only_after: int
    interval: Interval
    """Of accuracy after less before, 95 %, two-sided (Agresti and Min)."""
    p: float
    """One-sided p-value of `loss_p_value`: that the loss is as large as the margin."""
    margin: float

    @classmethod
    def of(
        cls, before: Bool[Tensor, " n"], after: Bool[Tensor, " n"], margin: float, error: float
    ) -> "Paired":
        """From correctness on the same images in the same order; error as in `loss_p_value`."""
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

    @property
    def loss(self) -> float:
        """Accuracy before less after."""
        return (self.only_before - self.only_after) / self.samples


def loss_p_value(
    only_before: int, only_after: int, samples: int, margin: float, error: float = 0.01
) -> float:
    """p-value of the hypothesis that the accuracy falls by at least `margin`, from paired images.

    With the rate of disagreement psi and a loss equal to the margin m, the number of images that only
    the first classifier gets right is Binomial(D, (1 + m / psi) / 2) among D ~ Binomial(n, psi)
    disagreements. p is the largest probability, over psi in an exact interval of level 1 - error / 10, of
    a net loss as small as the observed one, plus error / 10 (Berger and Boos, 1994). It holds in finite
    samples, up to the grid of RATES rates.
    error: at which p will be judged; it only decides how wide the interval of psi is.
    """
    disagreements = only_before + only_after
    if min(only_before, only_after) < 0 or not disagreements <= samples or samples < 1:
        raise ValueError(
            f"only_before is {only_before} and only_after {only_after} of {samples} images; they must "
            "not be negative, and their sum at most the number of images"
        )
    spent = NUISANCE_SHARE * error
    low, high = _rates(disagreements, samples, spent)
    low = max(low, margin)  # a net loss needs as many disagreements
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
    """Least number of images from which classifiers that agree on all pass the test."""
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
