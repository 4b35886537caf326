"""Labels of toy problems: classes of unequal size, and labels drawn anew at random."""

import math

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from rankdeficit.checks import check_at_least


def long_tailed_counts(classes: int, largest: int, imbalance: float) -> tuple[int, ...]:
    """Samples of each class, falling geometrically from `largest` to `largest / imbalance`, at least 1.

    Class k has largest imbalance^(-k / (classes - 1)) samples, rounded (Cui et al. 2019).
    Raises ValueError unless imbalance is a finite number of at least 1.
    """
    _check_sizes(classes, largest, imbalance)
    shares = [imbalance ** (-k / (classes - 1)) for k in range(classes)]
    return tuple(max(1, round(largest * share)) for share in shares)


def step_counts(classes: int, largest: int, imbalance: float) -> tuple[int, ...]:
    """Samples of each class: `largest` in the first half, `largest / imbalance` in the rest, at least 1.

    With an odd number of classes there is one large class more. Raises ValueError as
    `long_tailed_counts`.
    """
    _check_sizes(classes, largest, imbalance)
    small = classes // 2
    return (largest,) * (classes - small) + (max(1, round(largest / imbalance)),) * small


def noisy_targets(
    labels: Int64[Tensor, " n"], classes: int, noise: float
) -> Float64[Tensor, "n {classes}"]:
    """Distribution of the labels if a share of them is drawn anew, from all classes alike.

    (1 - noise) on the class itself plus noise / classes on every class. Raises ValueError as
    `noisy_labels`.
    """
    _check_noise(noise)
    own = torch.nn.functional.one_hot(labels, classes).double()
    return (1 - noise) * own + noise / classes


def noisy_labels(
    labels: Int64[Tensor, " n"], classes: int, noise: float, seed: int
) -> Int64[Tensor, " n"]:
    """Labels of which each is drawn anew with probability `noise`, from all classes alike.

    Raises ValueError unless noise lies in [0, 1].
    """
    _check_noise(noise)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(classes, labels.shape, generator=generator)
    again = torch.rand(labels.shape, generator=generator, dtype=torch.float64) < noise
    return torch.where(again, drawn, labels.cpu()).to(labels.device)


def _check_sizes(classes: int, largest: int, imbalance: float) -> None:
    check_at_least(2, classes=classes)
    check_at_least(1, largest=largest)
    if not 1 <= imbalance < math.inf:
        raise ValueError(f"imbalance is {imbalance}; it must be finite and at least 1")


def _check_noise(noise: float) -> None:
    if not 0 <= noise <= 1:
        raise ValueError(f"label noise is {noise}; it must lie in [0, 1]")
