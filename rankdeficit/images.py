"""Labelled images in memory or in files: subsets, process shards, decoding, normalised batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from rankdeficit.distributed import rank_and_size
from rankdeficit.image_files import (
    Framing,
    check_readable,
    check_sizes,
    is_turned,
    list_folder,
    no_bomb_warnings,
    read_image,
    spell_size,
    square,
)
from rankdeficit.normalisation import Normalisation, unchanged

BATCHES_AHEAD = 2
"""Number of batches that are decoded ahead in threads."""
MEASURED_BATCH = 250
"""Batch size of forward passes outside training."""
T = TypeVar("T")


class Checked(NamedTuple):
    """Result of decoding files to check them."""

    unreadable: list[int]
    """Positions of the files that cannot be decoded."""
    turned: list[int]
    """Positions of the files with an EXIF orientation, which is not applied."""


@dataclass(frozen=True)
class Images:
    """Labelled images of a data set or a subset of it, in memory or in files.

    Iteration yields batches of network inputs and labels on the device, in the same order each time.
    Files are decoded to RGB in every pass; `load` decodes them once into memory.
    """

    labels: Int64[Tensor, " n"]
    """Class indices."""
    classes: list[str]
    """Names of the classes."""
    memory: UInt8[Tensor, "n channels height width"] | None = None
    """Pixels of images in memory; None for images in files."""
    paths: Sequence[str] = ()
    """Paths of images in files."""
    folder: Path = Path()
    """Folder of the files."""
    framing: Framing = field(default_factory=Framing)
    """Resizing and cropping of decoded files."""
    name: str = "images"
    normalise: Normalisation = field(default_factory=unchanged)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Device of the network inputs."""
    hidden: Sequence[str] = ()
    """Hidden folders and image files that `list_folder` left out."""
    turned: int = 0
    """Number of decoded or checked files with an EXIF orientation, which is not applied."""
    on_turned: Callable[[str], object] | None = field(default=None, compare=False)
    """Hears the path of every such file when it is decoded, perhaps in another thread."""

    @classmethod
    def of_folder(
        cls,
        folder: Path,
        framing: Framing | None = None,
        option: str = "data",
        *,
        unlabelled: bool = False,
    ) -> "Images":
        """The image files FOLDER/CLASS/*, not decoded yet. Arguments and errors as `list_folder`."""
        found = list_folder(folder, option, unlabelled=unlabelled)
        return cls(
            torch.tensor(found.labels),
            found.classes,
            paths=found.paths,
            folder=folder,
            framing=framing or Framing(),
            name=folder.name,
            hidden=found.hidden,
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
            raise ValueError(f"{self.name}: the images are in files; call load() first")
        return self.memory

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images; for files without a target size, those of the first file."""
        if self.memory is not None:
            return self.memory.shape[2], self.memory.shape[3]
        return self.framing.size or self.size_in_file()

    def size_in_file(self) -> tuple[int, int]:
        """Height and width stored in the first file. Raises ValueError if it cannot be read."""
        return replace(self.part([0]), framing=Framing()).load().size

    def part(self, chosen: Sequence[int]) -> "Images":
        """Subset at the given positions."""
        places = torch.as_tensor(chosen, dtype=torch.int64, device=self.labels.device)
        if self.memory is not None:
            return replace(self, labels=self.labels[places], memory=self.memory[places])
        return replace(self, labels=self.labels[places], paths=[self.paths[i] for i in chosen])

    def some(self, count: int, seed: int = 0, *, sort: bool = False) -> "Images":
        """Random subset of at most `count` images; all images for a count of 0.

        sort: keep the original order instead of the random one.
        """
        if not count or count >= len(self):
            return self
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(self), generator=generator)[:count]
        return self.part((chosen.sort().values if sort else chosen).tolist())

    def first_of_each_class(self, count: int) -> "Images":
        """The first `count` images of each class, or all of a class that has fewer, in their order."""
        order = self.labels.argsort(stable=True)
        sizes = torch.bincount(self.labels, minlength=len(self.classes))
        starts = sizes.cumsum(0) - sizes
        places = torch.arange(len(self), device=order.device) - starts[self.labels[order]]
        return self.part(order[places < count].sort().values.tolist())

    def share(self) -> "Images":
        """Shard of this process: every k-th image for k processes.

        Raises ValueError on all processes if there are fewer images than processes.
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
        """The same images with batches on the given device and with the given normalisation."""
        return replace(self, device=device, normalise=normalise.to(device))

    def load(self, on_progress: Callable[[int], object] | None = None) -> "Images":
        """The same images, decoded into memory on the device.

        on_progress: called with the number of decoded images. Raises ValueError as `decoded`.
        """
        if self.memory is not None:
            return replace(self, memory=self.memory.to(self.device))
        loaded, unreadable = self.load_readable(on_progress)
        check_readable(unreadable, len(self))
        return loaded

    def load_readable(
        self, on_progress: Callable[[int], object] | None = None
    ) -> tuple["Images", list[str]]:
        """Images of the readable files, decoded into memory, and the paths of the unreadable ones.

        Raises ValueError if the sizes differ.
        """
        found = list(self._each(self._decode, on_progress))
        arrays, unreadable = _sift(item for item, _ in found)
        readable = torch.tensor([not isinstance(item, str) for item, _ in found], dtype=torch.bool)
        loaded = replace(
            self,
            labels=self.labels[readable],
            memory=self._stack(arrays).to(self.device),
            paths=(),
            turned=sum(turned for _, turned in found),
        )
        return loaded, unreadable

    def check(self, on_progress: Callable[[int], object] | None = None) -> Checked:
        """Decode each file without keeping its pixels. Raises ValueError if the sizes differ."""

        def look(path: str) -> tuple[tuple[int, int] | None, bool]:
            item, turned = self._decode(path)
            return None if isinstance(item, str) else (item.shape[0], item.shape[1]), turned

        found = list(self._each(look, on_progress))
        check_sizes({shape for shape, _ in found if shape is not None}, self.folder)
        return Checked(
            [i for i, (shape, _) in enumerate(found) if shape is None],
            [i for i, (_, turned) in enumerate(found) if turned],
        )

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """Batches of MEASURED_BATCH network inputs with labels."""
        return self.batches(MEASURED_BATCH)

    def evenly(self) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """As many batches as by iteration, but of nearly equal sizes."""
        return self.batches(-(-len(self) // -(-len(self) // MEASURED_BATCH)))

    def batches(self, size: int) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """Batches of network inputs and labels, in order. Raises ValueError as `decoded`."""
        normalise = self.normalise.to(self.device)
        for images, labels in self.decoded(size):
            yield normalise(images.to(self.device)), labels.to(self.device)

    def decoded(
        self, size: int
    ) -> Iterator[tuple[UInt8[Tensor, "n channels height width"], Int64[Tensor, " n"]]]:
        """Batches of pixels and labels, in order; the last batch may be smaller.

        Raises ValueError for unreadable files (with their paths) and for images of different sizes.
        """
        if self.memory is not None:
            yield from zip(self.memory.split(size), self.labels.split(size), strict=True)
            return
        ahead: deque[tuple[Iterator[tuple[np.ndarray | str, bool]], Tensor]] = deque()
        shape: torch.Size | None = None
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(self) + BATCHES_AHEAD * size, size):
                if paths := self.paths[start : start + size]:
                    labels = self.labels[start : start + size]
                    ahead.append((pool.map(self._decode, paths), labels))
                if ahead and (len(ahead) > BATCHES_AHEAD or not paths):
                    decoding, labels = ahead.popleft()
                    arrays, unreadable = _sift(item for item, _ in decoding)
                    check_readable(unreadable, len(labels))
                    images = self._stack(arrays, shape)
                    shape = images.shape[1:]
                    yield images, labels

    def _each(
        self, task: Callable[[str], T], on_progress: Callable[[int], object] | None
    ) -> Iterator[T]:
        """Results of a task for each path, in order, computed in threads."""
        with no_bomb_warnings(), ThreadPoolExecutor() as pool:
            for done, item in enumerate(pool.map(task, self.paths), start=1):
                yield item
                if on_progress is not None:
                    on_progress(done)

    def _decode(self, path: str) -> tuple[np.ndarray | str, bool]:
        """Pixels of a file, or its path if it cannot be read; and whether EXIF data turn it."""
        image = read_image(path)
        if isinstance(image, str):
            return image, False
        turned = is_turned(image)
        if turned and self.on_turned is not None:
            self.on_turned(path)
        return np.asarray(self.framing(image)), turned

    def _stack(self, decoded: list[np.ndarray], shape: torch.Size | None = None) -> Tensor:
        """Stack images of equal shape. Raises ValueError if shapes differ from each other or `shape`."""
        sizes = {(item.shape[0], item.shape[1]) for item in decoded}
        check_sizes(sizes | {(shape[1], shape[2])} if shape else sizes, self.folder)
        if not decoded:
            return torch.empty(0, 3, *(self.framing.size or (0, 0)), dtype=torch.uint8)
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()


def _sift(decoded: Iterable[np.ndarray | str]) -> tuple[list[np.ndarray], list[str]]:
    """Decoded images, and the paths of unreadable ones."""
    items = list(decoded)
    arrays = [item for item in items if not isinstance(item, str)]
    return arrays, [item for item in items if isinstance(item, str)]


def held_out_folder(data: Path) -> Path | None:
    """The first of DATA/test and DATA/val that exists."""
    return next((data / name for name in ("test", "val") if (data / name).is_dir()), None)


def list_splits(
    data: Path, framing: Framing | None = None, least_classes: int = 2, option: str = "data"
) -> tuple[Images, Images]:
    """Image files DATA/train/CLASS/* and DATA/test/CLASS/* (or DATA/val), with the same classes.

    option: name of the option in error messages.
    Raises ValueError for missing folders, fewer than `least_classes` classes, or different classes.
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

    image_size: resize all images to this height and width; without it all must have the same size.
    Raises ValueError as `list_splits`, and for unreadable files or different sizes.
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
