"""Labelled images in memory or in files: listed, taken in parts, shared, decoded, normalised."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from rankdeficit.distributed import rank_and_size
from rankdeficit.image_files import (
    Framing,
    check_readable,
    check_sizes,
    list_folder,
    read_image,
    spell_size,
    square,
)

BATCHES_AHEAD = 2
"""Batches that threads decode while the caller works on one."""
MEASURED_BATCH = 250
"""Images per forward pass outside of training."""
T = TypeVar("T")


def level_counts(images: UInt8[Tensor, "n channels height width"]) -> Int64[Tensor, "channels 256"]:
    """Number of pixels of each channel at each level; counts of parts of a data set add up."""
    channels = images.unbind(1)
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in channels])


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation of the train images, on the scale of 0..1."""

    mean: Float[Tensor, "channels 1 1"]
    std: Float[Tensor, "channels 1 1"]

    @classmethod
    def of(cls, train: "Images") -> "Normalisation":
        """Mean and standard deviation of images in memory, computed in float64."""
        return cls.of_levels(level_counts(train.pixels))

    @classmethod
    def of_levels(cls, counts: Int64[Tensor, "channels 256"]) -> "Normalisation":
        """From `level_counts`, in float64."""
        share = counts.double() / counts.sum(dim=1, keepdim=True)
        level = torch.arange(256, dtype=torch.float64, device=share.device) / 255
        mean = share @ level
        std = (share @ level.square() - mean.square()).clamp(min=1e-12).sqrt()
        return cls(mean.float()[:, None, None], std.float()[:, None, None])

    @classmethod
    def fixed(cls, mean: Sequence[float], std: Sequence[float]) -> "Normalisation":
        """Given mean and deviation per channel. Raises ValueError for deviations <= 0."""
        if min(std) <= 0:
            raise ValueError(f"std is {tuple(std)}; it must be positive")
        return cls(
            torch.tensor(mean)[:, None, None].float(), torch.tensor(std)[:, None, None].float()
        )

    def to(self, device: torch.device) -> "Normalisation":
        """The same on a device."""
        return Normalisation(self.mean.to(device), self.std.to(device))

    def __call__(self, images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Network inputs with mean 0 and standard deviation 1 per channel."""
        return images.float().div_(255).sub_(self.mean).div_(self.std)


def unchanged() -> Normalisation:
    """Mean 0 and deviation 1: inputs on the scale of 0..1."""
    return Normalisation.fixed((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class Images:
    """Labelled images of a data set, all or some of them, in memory or in files.

    Iterating gives batches of network inputs and labels on the device, the same ones every time.
    Files are decoded to RGB at each use; `load` decodes them once.
    """

    labels: Int64[Tensor, " n"]
    """Class indices."""
    classes: list[str]
    """Names of the classes."""
    memory: UInt8[Tensor, "n channels height width"] | None = None
    """Pixels of images in memory; None for images in files."""
    paths: Sequence[str] = ()
    """Files of images that are not in memory."""
    folder: Path = Path()
    """The folder of the files."""
    framing: Framing = field(default_factory=Framing)
    """How files get their size."""
    name: str = "images"
    normalise: Normalisation = field(default_factory=unchanged)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device of the network inputs."""

    @classmethod
    def of_folder(
        cls, folder: Path, framing: Framing | None = None, option: str = "data"
    ) -> "Images":
        """The images FOLDER/CLASS/*, in files. Raises ValueError as `list_folder`."""
        classes, paths, labels = list_folder(folder, option)
        return cls(
            torch.tensor(labels), classes, None, paths, folder, framing or Framing(), folder.name
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are in memory."""
        return self.memory is not None

    @property
    def pixels(self) -> UInt8[Tensor, "n channels height width"]:
        """The pixels of images in memory. Raises ValueError for images in files."""
        if self.memory is None:
            raise ValueError(f"{self.name}: the images are in files; load() them first")
        return self.memory

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of all images, or of the first of files without a size."""
        if self.memory is not None:
            return self.memory.shape[2], self.memory.shape[3]
        return self.framing.size or self.size_in_file()

    def size_in_file(self) -> tuple[int, int]:
        """Height and width of the first image in its file. Raises ValueError if it cannot be read."""
        return replace(self.part([0]), framing=Framing()).load().size

    def part(self, chosen: Sequence[int]) -> "Images":
        """The images at these positions."""
        places = torch.as_tensor(chosen, dtype=torch.int64, device=self.labels.device)
        if self.memory is not None:
            return replace(self, labels=self.labels[places], memory=self.memory[places])
        return replace(self, labels=self.labels[places], paths=[self.paths[i] for i in chosen])

    def some(self, count: int, seed: int = 0, *, sort: bool = False) -> "Images":
        """At most `count` images, chosen by the seed; all of them for 0.

        sort: keep their order, instead of the order in which they were drawn.
        """
        if not count or count >= len(self):
            return self
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(self), generator=generator)[:count]
        return self.part((chosen.sort().values if sort else chosen).tolist())

    def share(self) -> "Images":
        """Share of this process: every k-th image.

        Raises ValueError, in all processes, where some process would get none.
        """
        process, processes = rank_and_size()
        if processes == 1:
            return self
        if len(self) < processes:
            raise ValueError(
                f"{self.name} has {len(self)} images for {processes} processes; start fewer"
            )
        return self.part(range(process, len(self), processes))

    def on(self, device: torch.device, normalise: Normalisation) -> "Images":
        """The same images as network inputs on a device, by this normalisation."""
        return replace(self, device=device, normalise=normalise.to(device))

    def load(self, on_progress: Callable[[int], object] | None = None) -> "Images":
        """The same images in memory on their device; `on_progress` hears how many are decoded.

        Raises ValueError as `decoded`.
        """
        if self.memory is not None:
            return replace(self, memory=self.memory.to(self.device))
        loaded, unreadable = self.load_readable(on_progress)
        check_readable(unreadable, len(self))
        return loaded

    def load_readable(
        self, on_progress: Callable[[int], object] | None = None
    ) -> tuple["Images", list[str]]:
        """The readable files decoded to memory, and the names of the others.

        Raises ValueError where sizes differ.
        """
        decoded = list(self._each(self._decode, on_progress))
        arrays, unreadable = _sift(decoded)
        readable = torch.tensor([not isinstance(item, str) for item in decoded], dtype=torch.bool)
        pixels = self._stack(arrays).to(self.device)
        return replace(self, labels=self.labels[readable], memory=pixels, paths=()), unreadable

    def unreadable(self, on_progress: Callable[[int], object] | None = None) -> list[int]:
        """Positions of the files that cannot be decoded; nothing is kept in memory.

        Raises ValueError where sizes differ.
        """

        def shape(path: str) -> tuple[int, int] | None:
            item = self._decode(path)
            return None if isinstance(item, str) else (item.shape[0], item.shape[1])

        shapes = list(self._each(shape, on_progress))
        check_sizes({found for found in shapes if found is not None}, self.folder)
        return [i for i, found in enumerate(shapes) if found is None]

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """Batches of MEASURED_BATCH network inputs with labels."""
        return self.batches(MEASURED_BATCH)

    def evenly(self) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """The same number of batches, of nearly equal sizes."""
        return self.batches(-(-len(self) // -(-len(self) // MEASURED_BATCH)))

    def batches(self, size: int) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """Network inputs and labels in order, `size` at a time. Raises ValueError as `decoded`."""
        normalise = self.normalise.to(self.device)
        for images, labels in self.decoded(size):
            yield normalise(images.to(self.device)), labels.to(self.device)

    def decoded(
        self, size: int
    ) -> Iterator[tuple[UInt8[Tensor, "n channels height width"], Int64[Tensor, " n"]]]:
        """Pixels and labels in order, `size` at a time, the last batch possibly smaller.

        Raises ValueError naming an image that cannot be read, or the sizes where they differ.
        """
        if self.memory is not None:
            yield from zip(self.memory.split(size), self.labels.split(size), strict=True)
            return
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
        """Results of a task for every path, by threads, in order."""
        with ThreadPoolExecutor() as pool:
            for done, item in enumerate(pool.map(task, self.paths), start=1):
                yield item
                if on_progress is not None:
                    on_progress(done)

    def _decode(self, path: str) -> np.ndarray | str:
        """The pixels, or the name of a file that cannot be read."""
        image = read_image(path)
        return image if isinstance(image, str) else np.asarray(self.framing(image))

    def _stack(self, decoded: list[np.ndarray], shape: torch.Size | None = None) -> Tensor:
        """One tensor of images that have one shape, this one if it is known."""
        sizes = {(item.shape[0], item.shape[1]) for item in decoded}
        check_sizes(sizes | {(shape[1], shape[2])} if shape else sizes, self.folder)
        if not decoded:
            return torch.empty(0, 3, *(self.framing.size or (0, 0)), dtype=torch.uint8)
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def _sift(decoded: Iterable[np.ndarray | str]) -> tuple[list[np.ndarray], list[str]]:
    """Images that were read, and the names of those that were not."""
    items = list(decoded)
    arrays = [item for item in items if not isinstance(item, str)]
    return arrays, [item for item in items if isinstance(item, str)]


def held_out_folder(data: Path) -> Path | None:
    """DATA/test or DATA/val, the first that exists."""
    return next((data / name for name in ("test", "val") if (data / name).is_dir()), None)


def list_splits(
    data: Path, framing: Framing | None = None, least_classes: int = 2, option: str = "data"
) -> tuple[Images, Images]:
    """Images of DATA/train/CLASS/* and DATA/test/CLASS/* (or DATA/val), in files, with equal classes.

    option: the one that named the folder. Raises ValueError that names what is missing or uneven.
    """
    held_out = held_out_folder(data)
    if not (data / "train").is_dir() or held_out is None:
        raise ValueError(
            f"{option} {data} must hold folders train and test (or val), each with a folder per class"
        )
    train, test = (
        Images.of_folder(folder, framing, option) for folder in (data / "train", held_out)
    )
    for images in (train, test):
        if len(images.classes) < least_classes:
            raise ValueError(
                f"{option} {images.folder} has one class, {images.classes[0]}; it needs two or more"
            )
    if train.classes != test.classes:
        differing = sorted({*train.classes} ^ {*test.classes})
        raise ValueError(
            f"{option} {data}: train and {held_out.name} have different classes ({differing[0]} is in "
            "one only)"
        )
    return train, test


def load_splits(data: Path, image_size: int | None = None) -> tuple[Images, Images]:
    """Train and test images of `list_splits` in memory.

    image_size: resize all images to so many pixels squared; without it all must have one size.
    Raises ValueError that names what is missing, unreadable or uneven.
    """
    files = list_splits(data, square(image_size))
    train, test = (split.load() for split in files)
    if train.pixels.shape[1:] != test.pixels.shape[1:]:
        raise ValueError(
            f"data {data}: train images are {spell_size(train.size)} and "
            f"{files[1].folder.name} images {spell_size(test.size)}; resize all with "
            "--image-size"
        )
    return train, test
