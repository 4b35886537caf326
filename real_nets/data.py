"""Batches of images, shuffled and augmented all at once on their device."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from rankdeficit.images import ImageSet

Augmentation = Literal["none", "flip", "crop-flip"]
CROP_PADDING = 4


def augment(
    images: UInt8[Tensor, "n channels height width"],
    augmentation: Augmentation,
    generator: torch.Generator,
) -> UInt8[Tensor, "n channels height width"]:
    """Random horizontal flips and shifted crops (zero padding 4), all images at once.

    The generator is a CPU one, so the same images come out on every device.
    """
    if augmentation == "none":
        return images
    n, _, height, width = images.shape
    rows = torch.arange(height).expand(n, -1)
    columns = torch.arange(width).expand(n, -1)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    columns = torch.where(flip, columns.flip(-1), columns)
    if augmentation == "crop-flip":
        images = torch.nn.functional.pad(images, (CROP_PADDING,) * 4)
        offsets = torch.randint(2 * CROP_PADDING + 1, (2, n, 1), generator=generator)
        rows, columns = rows + offsets[0], columns + offsets[1]
    index = torch.arange(n, device=images.device)[:, None, None]
    rows, columns = rows.to(images.device), columns.to(images.device)
    return images[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def shuffled_batches(
    data: ImageSet, size: int, augmentation: Augmentation, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of (images, labels) batches in random order, the last one possibly smaller."""
    order = torch.randperm(len(data.labels), generator=generator).to(data.labels.device)
    for index in order.split(size):
        yield augment(data.images[index], augmentation, generator), data.labels[index]
