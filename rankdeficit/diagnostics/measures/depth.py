"""Effective depth and OOD drop from the probes of all layers, with their intervals."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from rankdeficit.checks import check_at_least, check_floating

SHARE = 0.99
"""Share of the last layer's accuracy at which a representation counts as formed, as in the paper."""

BLOCK = 2**22
"""Maximum number of counts that the bootstrap holds in memory at once."""


class Interval(NamedTuple):
    """A statistic of the samples, and its percentile interval over bootstrap resamples."""

    estimate: float
    low: float
    high: float


def effective_depth(
    accuracies: Float[Tensor, "*batch layers"],
    share: float = SHARE,
    *,
    bar: Literal["last", "best"] = "last",
) -> Float64[Tensor, "*batch"]:
    """kappa = (first layer, from 1, with accuracy >= share x the last layer's) / layers; in (0, 1].

    accuracies: of the layers' probes on test samples, input to output, as shares or in percent.
    bar: the last layer's accuracy, as in the paper, or the best layer's. Where late layers lose
        accuracy, kappa against the last one falls because the bar does; against the best it does not.
    Lower is more compressed. Equality counts, whatever the rounding of the accuracies' dtype.
    Raises ValueError for accuracies that are negative or not finite, a share outside (0, 1] and
    a bar of another name.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share}; it must lie in (0, 1]")
    if bar not in ("last", "best"):
        raise ValueError(f'bar is {bar!r}; it must be "last" or "best"')
    _check_accuracies(accuracies)
    rounding = 4 * torch.finfo(accuracies.dtype).eps
    exact = accuracies.double()
    height = exact[..., -1:] if bar == "last" else exact.amax(dim=-1, keepdim=True)
    formed = exact >= (1 - rounding) * share * height
    first = formed.int().argmax(dim=-1) + 1
    return first.double() / accuracies.shape[-1]


def ood_drop(accuracies: Float[Tensor, "*batch layers"]) -> Float64[Tensor, "*batch"]:
    """rho = (max over layers - last layer) / max, in [0, 1]; 0 where all accuracies are zero.

    accuracies: of probes trained and tested on the out-of-distribution data's own labels, input to
    output. Lower is better; 0 where the last layer is the best.
    Raises ValueError for accuracies that are negative or not finite.
    """
    _check_accuracies(accuracies)
    exact = accuracies.double()
    largest = exact.amax(dim=-1)
    return (largest - exact[..., -1]) / torch.where(largest > 0, largest, 1.0)


def bootstrap(
    correct: Bool[Tensor, "layers n"],
    statistic: Callable[[Float64[Tensor, "resamples layers"]], Float64[Tensor, " resamples"]],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic of the layers' accuracies, over test samples drawn anew.

    correct: whether each layer's probe is right on each test sample; a resample draws the same samples
        for all layers. statistic: of accuracies (resamples, layers), `effective_depth` for example.
    level: share of the resampled statistics inside; the ends are resampled values, rounded outwards.
    Samples on which the same layers are right are exchangeable, so only the numbers of each such
    group are drawn, from the multinomial distribution (Efron and Tibshirani, 1993, chapter 13, for the
    interval). The order of samples does not count. Raises ValueError for bad shapes and settings.
    """
    _check_bootstrap(correct, resamples, level, seed)
    groups, sizes = torch.unique(correct.cpu(), dim=1, return_counts=True)
    groups, n = groups.double(), correct.shape[1]
    generator = np.random.default_rng(seed)
    found = []
    for block in torch.arange(resamples).split(max(1, BLOCK // len(sizes))):
        counts = torch.from_numpy(
            generator.multinomial(n, (sizes.double() / n).numpy(), size=len(block))
        )
        found.append(statistic(counts.double() @ groups.mT / n))
    drawn, tail = torch.cat(found), (1 - level) / 2
    return Interval(
        estimate=float(statistic((groups @ sizes.double() / n)[None])[0]),
        low=float(torch.quantile(drawn, tail, interpolation="lower")),
        high=float(torch.quantile(drawn, 1 - tail, interpolation="higher")),
    )


def _check_accuracies(accuracies: Tensor) -> None:
    check_floating("accuracies", accuracies, dimensions=1)
    if not bool(((accuracies >= 0) & accuracies.isfinite()).all()):
        raise ValueError(
            f"accuracies lie in {float(accuracies.min())}..{float(accuracies.max())}; they must be "
            "finite and not negative"
        )


def _check_bootstrap(correct: Tensor, resamples: int, level: float, seed: int) -> None:
    if correct.dtype != torch.bool or correct.ndim != 2 or correct.numel() == 0:
        raise ValueError(
            f"correct has shape {tuple(correct.shape)} and dtype {correct.dtype}; it must be "
            "(layers, n), not empty, of torch.bool"
        )
    check_at_least(1, resamples=resamples)
    check_at_least(0, seed=seed)
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie strictly between 0 and 1")
