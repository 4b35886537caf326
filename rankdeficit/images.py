"""Labelled images from folders, as uint8 tensors that live on the device."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torchvision.datasets import ImageFolder


@dataclass(frozen=True)
class ImageSet:
    """Images (n, channels, height, width) with class indices and the classes' names."""

    images: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"]
    classes: list[str]

    def to(self, device: torch.device) -> "ImageSet":
        """The same set on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.classes)


def load_splits(data: Path, image_size: int | None = None) -> tuple[ImageSet, ImageSet]:
    """Train and test images of DATA/train/CLASS/* and DATA/test/CLASS/* (or DATA/val).

    image_size: resize all images to so many pixels squared; without it all must have one size.
    Raises ValueError that names what is missing, unreadable or uneven.
    """
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is {image_size}; it must be at least 1")
    held_out = next((name for name in ("test", "val") if (data / name).is_dir()), None)
    if not (data / "train").is_dir() or held_out is None:
        raise ValueError(
            f"data {data} must hold folders train and test (or val), each with a folder per class"
        )
    train = load_folder(data / "train", image_size)
    test = load_folder(data / held_out, image_size)
    if train.classes != test.classes:
        differing = sorted({*train.classes} ^ {*test.classes})
        raise ValueError(
            f"data {data}: train and {held_out} have different classes ({differing[0]} is in one only)"
        )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"data {data}: train images are {_spell(train.images.shape[1:])} and {held_out} images "
            f"{_spell(test.images.shape[1:])}; resize all with --image-size"
        )
    return train, test


def load_folder(folder: Path, image_size: int | None = None) -> ImageSet:
    """All images of FOLDER/CLASS/*, decoded to RGB. Raises ValueError as `load_splits`."""
    try:
        listing = ImageFolder(str(folder))
    except FileNotFoundError as error:
        raise ValueError(
            f"data {folder} has no classes to load ({error}); it needs a folder of images per class"
        ) from error
    if len(listing.classes) < 2:
        raise ValueError(f"data {folder} has one class, {listing.classes[0]}; it needs two or more")

    def decode(path: str) -> np.ndarray | str:
        try:
            with Image.open(path) as image:
                if image.mode.startswith(("I", "F")):
                    return f"{path} (more than 8 bits per channel)"
                rgb = image.convert("RGB")
                return np.asarray(rgb.resize((image_size, image_size)) if image_size else rgb)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return path

    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(decode, [path for path, _ in listing.samples]))
    if unreadable := [item for item in decoded if isinstance(item, str)]:
        raise ValueError(
            f"{len(unreadable)} of {len(decoded)} images cannot be read, the first of them "
            f"{unreadable[0]}; replace or delete them"
        )
    sizes = {item.shape for item in decoded if not isinstance(item, str)}
    if len(sizes) > 1:
        some = sorted(sizes)[:2]
        raise ValueError(
            f"data {folder} has images of different sizes ({_spell(some[0][:2])}, "
            f"{_spell(some[1][:2])}); resize all with --image-size"
        )
    images = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
    return ImageSet(images, torch.tensor(listing.targets), listing.classes)


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of the train images, on the scale of 0..1."""

    mean: Float[Tensor, "channels 1 1"]
    std: Float[Tensor, "channels 1 1"]

    @classmethod
    def of(cls, train: ImageSet) -> "Normalisation":
        """Measure them, in float64."""
        counts = torch.stack(
            [torch.bincount(channel.flatten(), minlength=256) for channel in train.images.unbind(1)]
        ).double()
        share = counts / counts.sum(dim=1, keepdim=True)
        level = torch.arange(256, dtype=torch.float64, device=share.device) / 255
        mean = share @ level
        std = (share @ level.square() - mean.square()).clamp(min=1e-12).sqrt()
        return cls(mean.float()[:, None, None], std.float()[:, None, None])

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Network inputs with mean 0 and standard deviation 1 per channel."""
        return (images.float() / 255 - self.mean) / self.std


def _spell(shape: tuple[int, ...] | torch.Size) -> str:
    return " x ".join(map(str, shape))
