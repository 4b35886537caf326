"""Normalisation inside networks, by name."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

Norm = Literal["default", "batch", "layer", "group", "none"]
"""Default: what the network's authors chose."""

GROUPS = 32
"""Groups of GroupNorm, at most (Wu and He, 2018, arXiv 1803.08494)."""
CHANNELS_PER_GROUP, UNITS_PER_GROUP = 2, 16
"""Least of each group: a unit that is normalised alone is always 0, and two are always 1 and -1."""


def map_norm(norm: Norm) -> Callable[[int], nn.Module]:
    """Makes the normalisation of maps (n, channels, height, width) of so many channels.

    layer is over channels and places of a sample: GroupNorm with one group.
    """
    makers: dict[Norm, Callable[[int], nn.Module]] = {
        "batch": nn.BatchNorm2d,
        "layer": partial(nn.GroupNorm, 1),
        "group": partial(_group_norm, CHANNELS_PER_GROUP),
        "none": _no_norm,
    }
    return makers[norm]


def vector_norm(norm: Norm) -> Callable[[int], nn.Module]:
    """Makes the normalisation of vectors (n, features) of so many features."""
    makers: dict[Norm, Callable[[int], nn.Module]] = {
        "batch": nn.BatchNorm1d,
        "layer": nn.LayerNorm,
        "group": partial(_group_norm, UNITS_PER_GROUP),
        "none": _no_norm,
    }
    return makers[norm]


def _group_norm(least: int, channels: int) -> nn.Module:
    fitting = [
        groups
        for groups in range(1, GROUPS + 1)
        if channels % groups == 0 and channels // groups >= least
    ]
    return nn.GroupNorm(max(fitting, default=1), channels)


def _no_norm(channels: int) -> nn.Module:
    return nn.Identity()
