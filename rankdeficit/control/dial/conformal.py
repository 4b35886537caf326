"""Conformal quantiles of scores that come in groups, and folds that keep groups together."""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Float64, Int64


def grouped_quantile(
    scores: Float64[np.ndarray, " n"], groups: Sequence[Hashable], level: float
) -> float:
    """The least q such that the score of a new group's random member is at most q with this probability.

    With K groups of n_k scores each, q is the quantile at `level` of the distribution that has mass
    1 / ((K + 1) n_k) at each score and 1 / (K + 1) at infinity (hierarchical conformal prediction, Lee,
    Barber and Willett 2023). Groups are exchangeable; the members of one need not be independent.
    Infinite where the groups are too few: level > K / (K + 1).
    Raises ValueError for a level outside (0, 1), NaN, and without scores.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; it must lie strictly in 0..1")
    if len(scores) == 0 or len(scores) != len(groups) or np.isnan(scores).any():
        raise ValueError(
            f"scores are {len(scores)} for {len(groups)} groups; give one or more for each, none of them "
            "NaN"
        )
    members = group_numbers(groups)
    sizes = np.bincount(members)
    mass = 1 / ((len(sizes) + 1) * sizes[members])
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(mass[order])
    reached = np.flatnonzero(below >= level - 1e-12)
    return float(scores[order][reached[0]]) if len(reached) else float("inf")


def group_numbers(groups: Sequence[Hashable]) -> Int64[np.ndarray, " n"]:
    """Groups as 0, 1, ... in the order of their first member."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(own, len(numbers)) for own in groups], dtype=np.int64)


def group_weights(groups: Sequence[Hashable]) -> Float64[np.ndarray, " n"]:
    """Weights with which each group counts once."""
    members = group_numbers(groups)
    return 1.0 / np.bincount(members)[members]


def folds_of(groups: Sequence[Hashable], count: int, seed: int = 0) -> Int64[np.ndarray, " n"]:
    """A random fold for each member; all members of a group have the same one."""
    members = group_numbers(groups)
    order = np.random.default_rng(seed).permutation(members.max() + 1)
    return (order % count)[members]
