"""Listing, decoding and resizing of image files, and the errors for unreadable ones."""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps
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


class Listing(NamedTuple):
    """Image files of a folder of classes."""

    classes: list[str]
    """Names of the classes, sorted."""
    paths: list[str]
    """Image files FOLDER/CLASS/*, sorted by class, folder and name."""
    labels: list[int]
    """Class index of each image file."""
    hidden: list[str]
    """Folders and image files that were left out because their names start with a dot."""


def list_folder(folder: Path, option: str = "data", *, unlabelled: bool = False) -> Listing:
    """List the image files FOLDER/CLASS/*, in subfolders too.

    Special files are ignored; links are followed, and dangling ones are listed.
    option: name of the option in error messages. unlabelled: images FOLDER/* without any folder of a
    class are one class, named as the folder.
    Raises ValueError if the folder does not exist, has no classes, a class has no images, or a link
    leads to a folder that contains it.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{option} {folder} does not exist; name a folder with a folder of images per class"
        )
    walk = _Walk(option)
    above = walk.folders(str(folder), ())
    top = [path for _, _, path in sorted(walk.seen)]
    found = {name: walk.images(path, links) for name, path, links in sorted(above)}
    if unlabelled and top and not found:
        found = {folder.name: top}
    if not found:
        raise ValueError(f"{option} {folder} has no classes; it needs a folder of images per class")
    if empty := [name for name, paths in found.items() if not paths]:
        raise ValueError(
            f"{option} {folder} has no images of {len(empty)} of {len(found)} classes "
            f"({spell_some(empty)}); add images, or delete the folders of these classes"
        )
    labels = [k for k, paths in enumerate(found.values()) for _ in paths]
    paths = [path for own in found.values() for path in own]
    return Listing([*found], paths, labels, sorted(walk.hidden))


class _Walk:
    """A walk through folders, which follows links but never in a circle."""

    def __init__(self, option: str) -> None:
        self.option = option
        self.hidden: list[str] = []
        self.seen: list[tuple[str, str, str]] = []

    def images(self, folder: str, links: tuple[str, ...]) -> list[str]:
        """Paths of the image files in a folder and its subfolders, sorted by folder and then by name."""
        self.seen, waiting = [], [(folder, links)]
        while waiting:
            waiting += [(path, passed) for _, path, passed in self.folders(*waiting.pop())]
        return [path for _, _, path in sorted(self.seen)]

    def folders(
        self, folder: str, links: tuple[str, ...]
    ) -> list[tuple[str, str, tuple[str, ...]]]:
        """Name, path and links of the subfolders; notes the image files and what is hidden.

        links: real paths of the folders from which links were followed on the way.
        """
        found = []
        try:
            entries = list(os.scandir(folder))
        except PermissionError as error:
            raise ValueError(
                f"{self.option} {folder} cannot be read ({error.strerror}); give it read permission"
            ) from error
        for entry in entries:
            is_image = entry.name.lower().endswith(IMG_EXTENSIONS)
            # A link in a circle is no folder to a Path, and an error to its entry.
            own = Path(entry) if entry.is_symlink() else entry
            is_folder = own.is_dir()
            if entry.name.startswith("."):
                self.hidden += [entry.path] if is_image or is_folder else []
            elif is_folder:
                passed = self.follow(entry.path, folder, links) if entry.is_symlink() else links
                found.append((entry.name, entry.path, passed))
            elif is_image and (
                own.is_file() or not Path(entry).exists()  # report dangling links as unreadable
            ):
                self.seen.append((folder, entry.name, entry.path))
        return found

    def follow(self, link: str, folder: str, links: tuple[str, ...]) -> tuple[str, ...]:
        """The links with this one. Raises ValueError if it leads back to a folder on the way to it."""
        target, passed = os.path.realpath(link), (*links, os.path.realpath(folder))
        if any(Path(origin).is_relative_to(target) for origin in passed):
            raise ValueError(
                f"{self.option} {link} is a link to {target}, which contains it; delete the link"
            )
        return passed


def read_image(path: str) -> Image.Image | str:
    """Decode a file to RGB; for an unreadable file return its path, with the reason if known.

    The EXIF orientation is not applied, as in torchvision's ImageFolder. Images with more than
    Pillow's Image.MAX_IMAGE_PIXELS pixels count as unreadable.
    """
    limit = Image.MAX_IMAGE_PIXELS
    too_large = f"{path} (more than {limit} pixels; shrink it)"
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                return f"{path} (more than 8 bits per channel)"
            if limit is not None and image.width * image.height > limit:
                return too_large
            return image.convert("RGB")
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return too_large
    except Exception:  # Pillow raises many exception types for damaged files
        return path


@contextmanager
def no_bomb_warnings() -> Iterator[None]:
    """Raise Pillow's warnings of too large images, which `read_image` catches, in all threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def is_turned(image: Image.Image) -> bool:
    """Whether EXIF data ask viewers to rotate or mirror the image."""
    with suppress(Exception):  # Pillow raises many exception types for damaged EXIF data
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    return False


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
