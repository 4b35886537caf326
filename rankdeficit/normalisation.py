"""Normalisation of images by the mean and standard deviation of each channel."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

LARGEST = 2
"""Above it, a mean or standard deviation is taken to be that of pixels in 0..255."""


def level_counts(images: UInt8[Tensor, "n channels height width"]) -> Int64[Tensor, "channels 256"]:
    """Histogram of the pixel values of each channel; histograms of subsets can be added."""
    channels = images.unbind(1)
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in channels])


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of the train images, for pixel values in 0..1."""

    mean: Float[Tensor, "channels 1 1"]
    std: Float[Tensor, "channels 1 1"]

    @classmethod
    def of(cls, train: UInt8[Tensor, "n channels height width"]) -> "Normalisation":
        """Mean and standard deviation of images in memory, computed in float64."""
        return cls.of_levels(level_counts(train))

    @classmethod
    def of_levels(cls, counts: Int64[Tensor, "channels 256"]) -> "Normalisation":
        """Mean and standard deviation from `level_counts`, computed in float64."""
        share = counts.double() / counts.sum(dim=1, keepdim=True)
        level = torch.arange(256, dtype=torch.float64, device=share.device) / 255
        mean = share @ level
        std = (share @ level.square() - mean.square()).clamp(min=1e-12).sqrt()
        return cls(mean.float()[:, None, None], std.float()[:, None, None])

    @classmethod
    def fixed(cls, mean: Sequence[float], std: Sequence[float]) -> "Normalisation":
        """Given mean and standard deviation per channel, of pixels in [0, 1].

        Raises ValueError for a `std` that is not positive, and for numbers above LARGEST.
        """
        if min(std) <= 0:
            raise ValueError(f"std is {tuple(std)}; it must be positive")
        for name, values in (("mean", mean), ("std", std)):
            if max(values) > LARGEST:
                raise ValueError(
                    f"{name} is {tuple(values)}; it is that of pixels in [0, 1], so divide numbers for "
                    "0..255 by 255"
                )
        return cls(
            torch.tensor(mean)[:, None, None].float(), torch.tensor(std)[:, None, None].float()
        )

    def to(self, device: torch.device) -> "Normalisation":
        """Copy on a device."""
        return Normalisation(self.mean.to(device), self.std.to(device))

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Network inputs with mean 0 and standard deviation 1 per channel."""
        return images.float().div_(255).sub_(self.mean).div_(self.std)


def unchanged() -> Normalisation:
    """Normalisation with mean 0 and standard deviation 1, so that inputs lie in 0..1."""
    return Normalisation.fixed((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
