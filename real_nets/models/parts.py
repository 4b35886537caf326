"""Building blocks that networks share: the stem for small images, and normalisation layers by name."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import nn

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""
Stem = Literal["auto", "cifar", "imagenet"]

Norm = Literal["default", "batch", "layer", "group", "none"]
"""default is the choice of the network's authors."""

SMALL = 64
"""Largest side in pixels of the images that get the stem for small images."""

GROUPS = 32
"""Maximum number of groups of GroupNorm (Wu and He, 2018, arXiv 1803.08494)."""
CHANNELS_PER_GROUP, UNITS_PER_GROUP = 2, 16
"""Minimum size of a group: normalised alone, one unit is always 0, and two are always 1 and -1."""


def is_small(stem: Stem, inputs: Shape) -> bool:
    """Whether to use the stem for small images, by its name or by the size of the images."""
    return stem == "cifar" or (stem == "auto" and max(inputs[1:]) <= SMALL)


def use_small_stem(model: nn.Module, name: str) -> None:
    """Replace the stem of a ResNet by that for 32 x 32 images: a 3 x 3 convolution, no pooling.

    Raises ValueError for networks without `conv1` and `maxpool`.
    """
    stem = getattr(model, "conv1", None)
    if not isinstance(stem, nn.Conv2d) or not hasattr(model, "maxpool"):
        raise ValueError(f"stem is 'cifar', but {name} is no ResNet with conv1 and maxpool")
    small = nn.Conv2d(stem.in_channels, stem.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
    model.conv1, model.maxpool = small, nn.Identity()


def check_colours(inputs: Shape) -> None:
    """Raise ValueError unless images have the three channels that torchvision's networks expect."""
    if inputs[0] != 3:
        raise ValueError(f"inputs have {inputs[0]} channels; this network takes 3 (RGB)")


def side_in_patches(inputs: Shape, patch: int) -> int:
    """Side of square images in pixels. Raises ValueError unless it is a multiple of `patch`."""
    _, height, width = inputs
    if height != width or height % patch:
        raise ValueError(
            f"inputs are images of {height} x {width}; they must be square, with a side that is a "
            f"multiple of the patches' {patch}"
        )
    return height


def map_norm(norm: Norm) -> Callable[[int], nn.Module]:
    """Constructor of the normalisation layer for maps (n, channels, height, width), given channels.

    layer normalises over the channels and positions of a sample: GroupNorm with one group.
    """
    makers: dict[Norm, Callable[[int], nn.Module]] = {
        "batch": nn.BatchNorm2d,
        "layer": partial(nn.GroupNorm, 1),
        "group": partial(_group_norm, CHANNELS_PER_GROUP),
        "none": _no_norm,
    }
    return makers[norm]


def vector_norm(norm: Norm) -> Callable[[int], nn.Module]:
    """Constructor of the normalisation layer for vectors (n, features), given features."""
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
