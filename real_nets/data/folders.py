"""Image folders to diagnose a network on: listed, shared among processes, decoded, normalised."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.distributed import gather_rows, rank_and_size
from rankdeficit.experiments.cli import progress
from rankdeficit.images import (
    Framing,
    ImageFiles,
    ImageSet,
    Normalisation,
    held_out_folder,
    level_counts,
    list_splits,
)

IN_MEMORY = 4 * 2**30
"""Bytes of decoded images up to which a process decodes all of them before anything else."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation per channel with which ImageNet networks are usually trained."""


@dataclass(frozen=True)
class Split:
    """Images of one folder, or of a data set that is in memory."""

    name: str
    files: ImageFiles | ImageSet
    loaded: ImageSet | None = None
    """All of them, if they were decoded already."""

    def __len__(self) -> int:
        return len(self.files)

    def share(self, limit: int, seed: int) -> "Split":
        """Of so many images at most, chosen by the seed, those that this process takes.

        Every process takes each k-th image. Raises ValueError where that leaves it none.
        """
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(self), generator=generator)[: limit or len(self)]
        process, processes = rank_and_size()
        mine = chosen.sort().values[process::processes]
        if not len(mine):
            raise ValueError(
                f"{self.name} has {len(chosen)} images for {processes} processes; start fewer"
            )
        return replace(self, files=self.files.part(mine.tolist()))

    def load(self) -> "Split":
        """The same, decoded now."""
        if isinstance(self.files, ImageSet):
            return replace(self, loaded=self.files)
        with progress(f"reading {self.name}", len(self)) as set_done:
            return replace(self, loaded=self.files.load(set_done))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """uint8 images and labels."""
        images = self.files if self.loaded is None else self.loaded
        if isinstance(images, ImageFiles):
            return images.batches(size)
        return zip(images.images.split(size), images.labels.split(size), strict=True)

    def inputs(
        self, normalise: Normalisation, size: int, device: torch.device
    ) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """Normalised images and labels, on the device."""
        normalise = normalise.to(device)
        for images, labels in self.batches(size):
            yield normalise(images.to(device)), labels


@dataclass(frozen=True)
class Folders:
    """The splits of the network's own data, and of others by name; a train split may be missing there."""

    train: Split
    test: Split
    ood: dict[str, tuple[Split | None, Split]]
    size: tuple[int, int]
    """Height and width of all images."""
    resized: dict[str, tuple[int, int]]
    """What the OOD images measured that have another size, as far as their first image tells."""

    @classmethod
    def of(
        cls,
        own: tuple[ImageFiles | ImageSet, ImageFiles | ImageSet],
        ood: Sequence[Path],
        framing: Framing,
        with_ood_train: bool,
    ) -> "Folders":
        """List those of other data; their images get the size of the own train images.

        Raises ValueError for folders that are missing or empty, and for OOD names that clash.
        """
        train, test = own
        if isinstance(train, ImageSet):
            size = train.images.shape[2], train.images.shape[3]
        else:
            size = framing.size or train.first_size()
        others: dict[str, tuple[Split | None, Split]] = {}
        resized = {}
        for folder in map(Path.resolve, ood):
            name = folder.name
            if name in others:
                raise ValueError(f"ood has two folders called {name}; rename one")
            if name in ("train", "test", "val"):
                raise ValueError(f"ood {folder} is one split; name the folder {folder.parent}")
            own_train, own_test = _ood_splits(folder, replace(framing, size=size))
            if own_test.first_size() != size:
                resized[name] = own_test.first_size()
            fitted = Split(f"{name} train", own_train) if own_train and with_ood_train else None
            others[name] = fitted, Split(name, own_test)
        return cls(Split("train", train), Split("test", test), others, size, resized)

    @property
    def splits(self) -> list[Split]:
        """All splits."""
        pairs = [split for pair in self.ood.values() for split in pair if split is not None]
        return [self.train, self.test, *pairs]

    def share(self, limit: int, seed: int) -> "Folders":
        """What this process takes of every split."""
        return self._map(lambda split: split.share(limit, seed))

    def fits_in_memory(self) -> bool:
        """Whether the decoded images are few enough to keep."""
        return sum(map(len, self.splits)) * 3 * self.size[0] * self.size[1] <= IN_MEMORY

    def load(self) -> "Folders":
        """Decode all images. Raises ValueError naming the first that cannot be read."""
        return self._map(Split.load)

    def _map(self, change: Callable[[Split], Split]) -> "Folders":
        return replace(
            self,
            train=change(self.train),
            test=change(self.test),
            ood={
                name: (fitted and change(fitted), change(test))
                for name, (fitted, test) in self.ood.items()
            },
        )


def measured_normalisation(train: Split, batch_size: int) -> Normalisation:
    """Mean and deviation over all processes' shares of the train images."""
    counts = torch.zeros(3, 256, dtype=torch.int64)
    with progress("mean and deviation of train", len(train)) as set_done:
        done = 0
        for images, _ in train.batches(batch_size):
            counts += level_counts(images)
            set_done(done := done + len(images))
    everywhere = gather_rows(counts[None])
    assert everywhere is not None
    return Normalisation.of_levels(everywhere.sum(dim=0))


def fixed_normalisation(mean: Sequence[float], std: Sequence[float]) -> Normalisation:
    """Mean and deviation per channel, on the scale of 0..1. Raises ValueError for deviations <= 0."""
    if min(std) <= 0:
        raise ValueError(f"std is {tuple(std)}; it must be positive")
    return Normalisation(
        torch.tensor(mean)[:, None, None].float(), torch.tensor(std)[:, None, None].float()
    )


def _ood_splits(folder: Path, framing: Framing) -> tuple[ImageFiles | None, ImageFiles]:
    """Train (if there is one) and test files of FOLDER/{train,test}, FOLDER/test or FOLDER/CLASS."""
    held_out = held_out_folder(folder)
    if not folder.is_dir():
        raise ValueError(f"ood {folder} does not exist; name a folder of images")
    if (folder / "train").is_dir():
        return list_splits(folder, framing, least_classes=1, option="ood")
    return None, ImageFiles.of(held_out or folder, framing, "ood")
