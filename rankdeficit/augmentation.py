"""Random changes of images, drawn and applied for a whole batch at once."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor
from torch.nn import functional

Augmentation = Literal["none", "flip", "crop-flip", "resized-crop"]

PADDING_SHARE = 1 / 8
"""How far crops shift at most, as a share of height and width: 4 of 32 pixels."""
CROP_AREAS = 0.08, 1.0
CROP_RATIOS = 3 / 4, 4 / 3
CROP_TRIES = 10
"""Areas, aspect ratios and tries of resized crops, as in torchvision's RandomResizedCrop."""


@dataclass(frozen=True)
class Views:
    """What is seen of each image: top, left, height and width of a box in pixels, mirrored or not.

    Boxes may reach beyond the image, where all is black.
    """

    boxes: Int64[Tensor, "n 4"]
    mirrored: Bool[Tensor, " n"]

    def to(self, device: torch.device) -> "Views":
        """The same views on a device; nobody waits for them, as they are small."""
        boxes, mirrored = (
            of_all.to(device, non_blocking=True) for of_all in (self.boxes, self.mirrored)
        )
        return Views(boxes, mirrored)

    def __getitem__(self, chosen: slice) -> "Views":
        return Views(self.boxes[chosen], self.mirrored[chosen])


def draw_views(
    n: int, size: tuple[int, int], augmentation: Augmentation, generator: torch.Generator
) -> Views:
    """Views of n images of a height and width.

    flip: the whole image, half of them mirrored. crop-flip: shifted as well, by up to an eighth of
    the size. resized-crop: a box of 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3, mirrored
    or not; where ten tries give none that fits, as in long images, the largest of such a ratio.
    """
    height, width = size
    boxes = torch.tensor([0, 0, height, width]).repeat(n, 1)
    if augmentation == "none":
        return Views(boxes, torch.zeros(n, dtype=torch.bool))
    mirrored = torch.rand(n, generator=generator) < 0.5
    if augmentation == "crop-flip":
        for axis, most in enumerate(padding(size)):
            boxes[:, axis] = torch.randint(-most, most + 1, (n,), generator=generator)
    elif augmentation == "resized-crop":
        boxes = _crops(n, height, width, generator)
    return Views(boxes, mirrored)


def padding(size: tuple[int, int]) -> tuple[int, int]:
    """Largest shifts of crop-flip along height and width, at least 1."""
    height, width = (max(1, round(length * PADDING_SHARE)) for length in size)
    return height, width


def apply_views(
    images: UInt8[Tensor, "n channels height width"], views: Views, augmentation: Augmentation
) -> UInt8[Tensor, "n channels height width"]:
    """The images as views show them that were drawn for this augmentation."""
    if augmentation == "none":
        return images
    change = _resampled if augmentation == "resized-crop" else _shifted
    return change(images, views.to(images.device))


def _shifted(images: Tensor, views: Views) -> Tensor:
    """Views of the images' own size: pixels move and do not change."""
    n, channels, height, width = images.shape
    tall, wide = padding((height, width))
    rows = torch.arange(height, device=images.device) + views.boxes[:, :1] + tall
    columns = torch.arange(width, device=images.device).expand(n, -1)
    columns = torch.where(views.mirrored[:, None], columns.flip(-1), columns)
    columns = columns + views.boxes[:, 1:2] + wide
    places = rows[:, :, None] * (width + 2 * wide) + columns[:, None, :]
    places = places.view(n, 1, -1).expand(n, channels, -1)
    padded = functional.pad(images, (wide, wide, tall, tall))
    return padded.flatten(2).gather(2, places).view_as(images)


def _resampled(images: Tensor, views: Views) -> Tensor:
    """Boxes within the images, enlarged to the images' size by bilinear interpolation."""
    n, _, height, width = images.shape
    top, left, box_height, box_width = views.boxes.to(torch.float32).unbind(1)
    y = _centres(top, box_height, height)
    x = _centres(left, box_width, width)
    x = torch.where(views.mirrored[:, None], x.flip(-1), x)
    grid = torch.empty(n, height, width, 2, device=images.device)
    grid[..., 0], grid[..., 1] = x[:, None, :], y[:, :, None]
    seen = functional.grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return seen.round_().to(torch.uint8)


def _centres(start: Tensor, extent: Tensor, pixels: int) -> Tensor:
    """Where `pixels` equal parts of each interval have their centres, on the axis from -1 to 1.

    None lies beyond the centres of the interval's outer pixels, so that nothing outside is seen.
    """
    steps = (torch.arange(pixels, device=start.device) + 0.5) / pixels
    inside = (steps * extent[:, None]).clamp(min=0.5).minimum(extent[:, None] - 0.5)
    return 2 * (start[:, None] + inside) / pixels - 1


def _crops(n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Boxes (n, 4) of random area, aspect ratio and place, within the image."""
    area_draws, ratio_draws = torch.rand(2, n, CROP_TRIES, generator=generator)
    low, high = CROP_AREAS
    areas = height * width * (low + (high - low) * area_draws)
    low, high = map(math.log, CROP_RATIOS)
    ratios = torch.exp(low + (high - low) * ratio_draws)
    sizes = torch.stack((areas / ratios, areas * ratios), dim=-1).sqrt().round()
    whole = torch.tensor([height, width])
    fits = ((sizes >= 1) & (sizes <= whole)).all(dim=-1)
    first = fits.int().argmax(dim=1)
    narrowest, widest = CROP_RATIOS
    largest = torch.tensor([round(width / narrowest), round(height * widest)]).minimum(whole)
    chosen = torch.where(fits.any(dim=1)[:, None], sizes[torch.arange(n), first], largest)
    corners = torch.rand(n, 2, generator=generator) * (whole - chosen + 1)
    return torch.cat((corners.floor(), chosen), dim=1).long()
