"""Listing, decoding and resizing of image files, and the errors for unreadable ones."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

NAMED = 3
"""Number of unreadable images listed in an error message."""


@dataclass(frozen=True)
class Framing:
    """Resizing (bicubic), or centre cropping and resizing (bilinear); both antialiased."""

    size: tuple[int, int] | None = None
    """Target height and width; None keeps the size."""
    crop: float | None = None
    """Fraction of the largest centred rectangle with the target aspect ratio to keep (0.875 is usual for
    ImageNet); None resizes the whole image without keeping its aspect ratio."""

    def __post_init__(self) -> None:
        if self.crop is not None and not (self.size and 0 < self.crop <= 1):
            raise ValueError(
                f"crop is {self.crop}; it must lie in (0, 1] and needs a size to resize to"
            )

    def __call__(self, image: Image.Image) -> Image.Image:
        """Resize one image."""
        if self.size is None:
            return image
        size = self.size[::-1]
        if self.crop is None:
            return image.resize(size, Image.Resampling.BICUBIC)
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR, bleed=(1 - self.crop) / 2)

    def of_pixels(
        self, images: UInt8[Tensor, "n 3 height width"]
    ) -> UInt8[Tensor, "n 3 new_height new_width"]:
        """Resize RGB images in memory; the result equals that of the same images in files."""
        if self.size is None or (self.crop is None and self.size == tuple(images.shape[2:])):
            return images
        framed = torch.empty(len(images), 3, *self.size, dtype=torch.uint8)
        before = images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
        after = framed.permute(0, 2, 3, 1).numpy()

        def frame(i: int) -> None:
            after[i] = np.asarray(self(Image.fromarray(before[i])))

        with ThreadPoolExecutor() as pool:
            list(pool.map(frame, range(len(images))))
        return framed.to(images.device)


def square(image_size: int | None, crop: float | None = None) -> Framing:
    """Framing to height and width `image_size`; None keeps the size.

    Raises ValueError for a size below 1, a crop outside (0, 1], and a crop without a size.
    """
    if image_size is None:
        return Framing(crop=crop)
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}; it must be at least 1")
    return Framing((image_size, image_size), crop)


def list_folder(folder: Path, option: str = "data") -> tuple[list[str], list[str], list[int]]:
    """Class names, and the path and class index of each image file FOLDER/CLASS/*, sorted.

    Names that start with a dot and special files are ignored; dangling links are listed.
    option: name of the option in error messages.
    Raises ValueError if the folder does not exist, has no classes, or a class has no images.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{option} {folder} does not exist; name a folder with a folder of images per class"
        )
    with os.scandir(folder) as entries:
        classes = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    found = [_images_below(folder / name) for name in classes]
    if not classes:
        raise ValueError(f"{option} {folder} has no classes; it needs a folder of images per class")
    if empty := [name for name, paths in zip(classes, found, strict=True) if not paths]:
        raise ValueError(
            f"{option} {folder} has no images of {len(empty)} of {len(classes)} classes "
            f"({spell_some(empty)}); add images, or delete the folders of these classes"
        )
    labels = [k for k, paths in enumerate(found) for _ in paths]
    return classes, [path for paths in found for path in paths], labels


def _images_below(folder: Path) -> list[str]:
    """Paths of the image files in a folder and its subfolders, sorted by folder and then by name."""
    found: list[tuple[str, str, str]] = []
    waiting = [str(folder)]
    while waiting:
        with os.scandir(current := waiting.pop()) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append(entry.path)
                elif entry.name.lower().endswith(IMG_EXTENSIONS) and (
                    entry.is_file()
                    or not Path(entry).exists()  # report dangling links as unreadable
                ):
                    found.append((current, entry.name, entry.path))
    return [path for _, _, path in sorted(found)]


def read_image(path: str) -> Image.Image | str:
    """Decode a file to RGB; for an unreadable file return its path, with the reason if known."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                return f"{path} (more than 8 bits per channel)"
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception:  # Pillow raises many exception types for damaged files
        return path


def check_readable(unreadable: Sequence[str], total: int) -> None:
    """Raise ValueError if there are unreadable images, with their number and the first of their paths."""
    if unreadable:
        raise ValueError(
            f"{len(unreadable)} of {total} images cannot be read ({spell_some(unreadable)}); "
            "replace or delete them"
        )


def check_sizes(sizes: set[tuple[int, int]], where: object) -> None:
    """Raise ValueError if there is more than one (height, width)."""
    if len(sizes) > 1:
        some = sorted(sizes)[:2]
        raise ValueError(
            f"data {where} has images of different sizes ({spell_size(some[0])}, "
            f"{spell_size(some[1])}); resize all with --image-size"
        )


def spell_some(names: Sequence[str]) -> str:
    """The first NAMED names, separated by commas."""
    return ", ".join([*names[:NAMED], *["..."] * (len(names) > NAMED)])


def spell_size(size: Sequence[int]) -> str:
    """Format a size as height x width."""
    return " x ".join(map(str, size))
