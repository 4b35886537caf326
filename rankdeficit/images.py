"""Labelled images from folders, as uint8 tensors that live on the device."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets import ImageFolder

BATCHES_AHEAD = 2
"""Batches that threads decode while the caller works on one."""
NAMED = 3
"""Unreadable images that an error names; it counts the others."""
T = TypeVar("T")


@dataclass(frozen=True)
class ImageSet:
    """Images (n, channels, height, width) with class indices and the classes' names."""

    images: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"]
    classes: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: Sequence[int]) -> "ImageSet":
        """The images at those places."""
        places = torch.as_tensor(chosen, dtype=torch.int64, device=self.labels.device)
        return ImageSet(self.images[places], self.labels[places], self.classes)

    def to(self, device: torch.device) -> "ImageSet":
        """The same set on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.classes)


@dataclass(frozen=True)
class Framing:
    """How images get their size, wherever they are stored: bicubic, crops bilinear, both antialiased."""

    size: tuple[int, int] | None = None
    """Height and width to resize to; None leaves images as they are."""
    crop: float | None = None
    """Resize this share of the largest centred rectangle of that shape (0.875 is usual for ImageNet);
    None squeezes the whole image."""

    def __post_init__(self) -> None:
        if self.crop is not None and not (self.size and 0 < self.crop <= 1):
            raise ValueError(
                f"crop is {self.crop}; it must lie in (0, 1] and needs a size to resize to"
            )

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image at its size."""
        if self.size is None:
            return image
        size = self.size[::-1]
        if self.crop is None:
            return image.resize(size, Image.Resampling.BICUBIC)
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR, bleed=(1 - self.crop) / 2)

    def of_pixels(
        self, images: UInt8[Tensor, "n 3 height width"]
    ) -> UInt8[Tensor, "n 3 new_height new_width"]:
        """RGB images in memory at their size, with the pixels that files of them get."""
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


def square(image_size: int | None) -> Framing:
    """Resizing to so many pixels squared. Raises ValueError for less than one."""
    if image_size is None:
        return Framing()
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}; it must be at least 1")
    return Framing((image_size, image_size))


@dataclass(frozen=True)
class ImageFiles:
    """Image files with class indices, decoded to RGB when they are asked for."""

    folder: Path
    paths: list[str]
    labels: Int64[Tensor, " n"]
    classes: list[str]
    framing: Framing = Framing()

    @classmethod
    def of(cls, folder: Path, framing: Framing | None = None, option: str = "data") -> "ImageFiles":
        """All images of FOLDER/CLASS/*. Raises ValueError, naming the option, where there are none."""
        try:
            listing = ImageFolder(str(folder))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ValueError(
                f"{option} {folder} has no classes to load ({error}); it needs a folder of images per "
                "class"
            ) from error
        paths = [path for path, _ in listing.samples]
        labels = torch.tensor(listing.targets)
        return cls(folder, paths, labels, listing.classes, framing or Framing())

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, chosen: Sequence[int]) -> "ImageFiles":
        """Some of the files, by position."""
        paths = [self.paths[i] for i in chosen]
        return ImageFiles(self.folder, paths, self.labels[chosen], self.classes, self.framing)

    def first_size(self) -> tuple[int, int]:
        """Height and width of the first image in its file. Raises ValueError if it cannot be read."""
        first = ImageFiles(self.folder, self.paths[:1], self.labels[:1], self.classes)
        images, _ = next(first.batches(1))
        return images.shape[2], images.shape[3]

    def load(self, on_progress: Callable[[int], object] | None = None) -> ImageSet:
        """Decode all; `on_progress` hears how many are done. Raises ValueError as `batches`."""
        loaded, unreadable = self.load_readable(on_progress)
        check_readable(unreadable, len(self))
        return loaded

    def load_readable(
        self, on_progress: Callable[[int], object] | None = None
    ) -> tuple[ImageSet, list[str]]:
        """Decode all that can be read; the second value names the others.

        Raises ValueError where sizes differ.
        """
        decoded = list(self._each(self._decode, on_progress))
        arrays, unreadable = _sift(decoded)
        readable = torch.tensor([not isinstance(item, str) for item in decoded])
        return ImageSet(self._stack(arrays), self.labels[readable], self.classes), unreadable

    def unreadable(self, on_progress: Callable[[int], object] | None = None) -> list[int]:
        """Decode all and keep none: the positions of those that cannot be read.

        Raises ValueError where sizes differ.
        """

        def shape(path: str) -> tuple[int, int] | None:
            item = self._decode(path)
            return None if isinstance(item, str) else (item.shape[0], item.shape[1])

        shapes = list(self._each(shape, on_progress))
        self._check_sizes({found for found in shapes if found is not None})
        return [i for i, found in enumerate(shapes) if found is None]

    def batches(
        self, size: int
    ) -> Iterator[tuple[UInt8[Tensor, "n channels height width"], Int64[Tensor, " n"]]]:
        """(images, labels) in order, `size` at a time, the last batch possibly smaller.

        Raises ValueError naming an image that cannot be read, or the sizes where they differ.
        """
        ahead: deque[tuple[Iterator[np.ndarray | str], Tensor]] = deque()
        shape: torch.Size | None = None
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self) + BATCHES_AHEAD * size, size):
                if paths := self.paths[start : start + size]:
                    labels = self.labels[start : start + size]
                    ahead.append((pool.map(self._decode, paths), labels))
                if ahead and (len(ahead) > BATCHES_AHEAD or not paths):
                    decoding, labels = ahead.popleft()
                    arrays, unreadable = _sift(decoding)
                    check_readable(unreadable, len(labels))
                    images = self._stack(arrays, shape)
                    shape = images.shape[1:]
                    yield images, labels

    def _each(
        self, task: Callable[[str], T], on_progress: Callable[[int], object] | None
    ) -> Iterator[T]:
        """What threads make of every path, in order."""
        with ThreadPoolExecutor() as pool:
            for done, item in enumerate(pool.map(task, self.paths), start=1):
                yield item
                if on_progress is not None:
                    on_progress(done)

    def _decode(self, path: str) -> np.ndarray | str:
        """The pixels, or how to speak of a file that cannot be read."""
        image = read_image(path)
        return image if isinstance(image, str) else np.asarray(self.framing(image))

    def _stack(self, decoded: list[np.ndarray], shape: torch.Size | None = None) -> Tensor:
        """One tensor of images that have one shape, this one if it is known."""
        sizes = {(item.shape[0], item.shape[1]) for item in decoded}
        self._check_sizes(sizes | {(shape[1], shape[2])} if shape else sizes)
        if not decoded:
            return torch.empty(0, 3, *(self.framing.size or (0, 0)), dtype=torch.uint8)
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()

    def _check_sizes(self, sizes: set[tuple[int, int]]) -> None:
        if len(sizes) > 1:
            some = sorted(sizes)[:2]
            raise ValueError(
                f"data {self.folder} has images of different sizes ({spell_size(some[0])}, "
                f"{spell_size(some[1])}); resize all with --image-size"
            )


def read_image(path: str) -> Image.Image | str:
    """The image of a file in RGB, or how to speak of a file that cannot be read."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                return f"{path} (more than 8 bits per channel)"
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception:  # Pillow raises many kinds, for each way in which a file is damaged
        return path


def check_readable(unreadable: Sequence[str], total: int) -> None:
    """Raise ValueError that names and counts the unreadable ones of so many images, if there are any."""
    if unreadable:
        raise ValueError(
            f"{len(unreadable)} of {total} images cannot be read ({spell_some(unreadable)}); "
            "replace or delete them"
        )


def spell_some(names: Sequence[str]) -> str:
    """The first NAMED of them."""
    return ", ".join([*names[:NAMED], *["..."] * (len(names) > NAMED)])


def _sift(decoded: Iterable[np.ndarray | str]) -> tuple[list[np.ndarray], list[str]]:
    """Images that were read, and words for those that were not."""
    items = list(decoded)
    arrays = [item for item in items if not isinstance(item, str)]
    return arrays, [item for item in items if isinstance(item, str)]


def held_out_folder(data: Path) -> Path | None:
    """DATA/test or DATA/val, whichever there is."""
    return next((data / name for name in ("test", "val") if (data / name).is_dir()), None)


def list_splits(
    data: Path, framing: Framing | None = None, least_classes: int = 2, option: str = "data"
) -> tuple[ImageFiles, ImageFiles]:
    """Files of DATA/train/CLASS/* and DATA/test/CLASS/* (or DATA/val), which must share their classes.

    option: the one that named the folder. Raises ValueError that names what is missing or uneven.
    """
    held_out = held_out_folder(data)
    if not (data / "train").is_dir() or held_out is None:
        raise ValueError(
            f"{option} {data} must hold folders train and test (or val), each with a folder per class"
        )
    train, test = (ImageFiles.of(folder, framing, option) for folder in (data / "train", held_out))
    for files in (train, test):
        if len(files.classes) < least_classes:
            raise ValueError(
                f"{option} {files.folder} has one class, {files.classes[0]}; it needs two or more"
            )
    if train.classes != test.classes:
        differing = sorted({*train.classes} ^ {*test.classes})
        raise ValueError(
            f"{option} {data}: train and {held_out.name} have different classes ({differing[0]} is in "
            "one only)"
        )
    return train, test


def load_splits(data: Path, image_size: int | None = None) -> tuple[ImageSet, ImageSet]:
    """Train and test images of `list_splits`.

    image_size: resize all images to so many pixels squared; without it all must have one size.
    Raises ValueError that names what is missing, unreadable or uneven.
    """
    files = list_splits(data, square(image_size))
    train, test = (split.load() for split in files)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"data {data}: train images are {spell_size(train.images.shape[2:])} and "
            f"{files[1].folder.name} images {spell_size(test.images.shape[2:])}; resize all with "
            "--image-size"
        )
    return train, test


def level_counts(images: UInt8[Tensor, "n channels height width"]) -> Int64[Tensor, "channels 256"]:
    """How many pixels of each channel have each level; counts of parts of a data set add up."""
    channels = images.unbind(1)
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in channels])


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of the train images, on the scale of 0..1."""

    mean: Float[Tensor, "channels 1 1"]
    std: Float[Tensor, "channels 1 1"]

    @classmethod
    def of(cls, train: ImageSet) -> "Normalisation":
        """Measure them, in float64."""
        return cls.of_levels(level_counts(train.images))

    @classmethod
    def of_levels(cls, counts: Int64[Tensor, "channels 256"]) -> "Normalisation":
        """From `level_counts`, in float64."""
        share = counts.double() / counts.sum(dim=1, keepdim=True)
        level = torch.arange(256, dtype=torch.float64, device=share.device) / 255
        mean = share @ level
        std = (share @ level.square() - mean.square()).clamp(min=1e-12).sqrt()
        return cls(mean.float()[:, None, None], std.float()[:, None, None])

    def to(self, device: torch.device) -> "Normalisation":
        """The same on a device."""
        return Normalisation(self.mean.to(device), self.std.to(device))

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Network inputs with mean 0 and standard deviation 1 per channel."""
        return images.float().div_(255).sub_(self.mean).div_(self.std)


def spell_size(size: Sequence[int]) -> str:
    """Height x width."""
    return " x ".join(map(str, size))
