"""The images that a job learns from and is measured on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from rankdeficit.distributed import rank_and_size
from rankdeficit.images import ImageFiles, ImageSet, Normalisation
from real_nets.data.batches import Batches, InMemoryBatches, StreamedBatches
from real_nets.data.catalogue import Dataset, open_dataset
from real_nets.data.folders import Split, measured_normalisation
from real_nets.jobs.job import Job

MEASURED_BATCH = 250
"""Images per forward pass outside of training."""

Framed = tuple[str, int | None, float | None]
"""Name of a data set, size of its images, share of them that is kept."""


@dataclass(frozen=True)
class Source:
    """Where data sets come from. Each is opened once."""

    root: Path | None = None
    download: bool = False
    on_corrupt: Literal["stop", "skip"] = "stop"
    workers: int = 4
    """Processes that decode images of sets too large for memory."""
    opened: dict[Framed, Dataset] = field(default_factory=dict, repr=False)
    normalisations: dict[Framed, Normalisation] = field(default_factory=dict, repr=False)

    def open(self, name: str, image_size: int | None = None, crop: float | None = None) -> Dataset:
        """The data set of that name. Raises ValueError as `open_dataset`."""
        if (name, image_size, crop) not in self.opened:
            self.opened[name, image_size, crop] = open_dataset(
                name,
                self.root,
                image_size=image_size,
                crop=crop,
                download=self.download,
                on_corrupt=self.on_corrupt,
            )
        return self.opened[name, image_size, crop]

    def normalisation(
        self, name: str, image_size: int | None = None, crop: float | None = None
    ) -> Normalisation:
        """By mean and deviation of all its train images, measured once."""
        if (name, image_size, crop) not in self.normalisations:
            train = self.open(name, image_size, crop).train
            if isinstance(train, ImageFiles):
                share = Split("train", train).share(0, 0)
                found = measured_normalisation(share, MEASURED_BATCH)
            else:
                found = Normalisation.of(train)
            self.normalisations[name, image_size, crop] = found
        return self.normalisations[name, image_size, crop]

    def __getstate__(self) -> dict[str, object]:
        """Without the images: another process opens its own."""
        return self.__dict__ | {"opened": {}, "normalisations": {}}


@dataclass(frozen=True)
class Images:
    """Some images of a data set, in memory or in files, with what makes network inputs of them."""

    name: str
    images: ImageSet | ImageFiles
    normalise: Normalisation
    device: torch.device

    def __len__(self) -> int:
        return len(self.images.labels)

    def some(self, count: int) -> "Images":
        """So many of them at most, always the same ones; 0 for all."""
        if not count or count >= len(self):
            return self
        chosen = torch.randperm(len(self), generator=torch.Generator().manual_seed(0))[:count]
        return Images(self.name, self.images.part(chosen.tolist()), self.normalise, self.device)

    def loaded(self) -> "Images":
        """The same with all images on the device: for images that are read many times."""
        images = self.images.load() if isinstance(self.images, ImageFiles) else self.images
        return Images(self.name, images.to(self.device), self.normalise, self.device)

    def share(self) -> "Images":
        """Those that this process takes: every k-th.

        Raises ValueError, in all processes, where that leaves one of them none.
        """
        process, processes = rank_and_size()
        if processes == 1:
            return self
        if len(self) < processes:
            raise ValueError(
                f"{self.name} has {len(self)} images for {processes} processes; start fewer"
            )
        mine = self.images.part(range(process, len(self), processes))
        return Images(self.name, mine, self.normalise, self.device)

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """Batches of network inputs and labels on the device."""
        return self.batches(MEASURED_BATCH)

    def evenly(self) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """As many batches of nearly equal sizes."""
        return self.batches(-(-len(self) // -(-len(self) // MEASURED_BATCH)))

    def batches(self, size: int) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """Batches of that size."""
        if isinstance(self.images, ImageFiles):
            batches = self.images.batches(size)
        else:
            images, labels = self.images.images, self.images.labels
            batches = zip(images.split(size), labels.split(size), strict=True)
        for images, labels in batches:
            yield self.normalise(images.to(self.device)), labels.to(self.device)


class JobData:
    """All images of a job. Out-of-distribution ones get the size of its own."""

    def __init__(self, job: Job, source: Source, device: torch.device) -> None:
        self.job, self.source, self.device = job, source, device
        self.own = source.open(job.data, job.image_size, job.crop)
        height, width = self.own.size
        if job.ood and height != width:
            raise ValueError(
                f"{job.data} has images of {height} x {width}; give --image-size, as the "
                "out-of-distribution images must have the same size"
            )
        self.ood = {name: source.open(name, height, job.crop) for name in job.ood}

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.own.classes)

    @property
    def inputs(self) -> tuple[int, int, int]:
        """Channels, height and width of a network input."""
        return 3, *self.own.size

    @cached_property
    def normalise(self) -> Normalisation:
        """By mean and deviation of all train images."""
        return self.source.normalisation(self.job.data, self.job.image_size, self.job.crop).to(
            self.device
        )

    @cached_property
    def train(self) -> Images:
        """All train images."""
        return self._images("train", self.own.train)

    @cached_property
    def test(self) -> Images:
        """All test images."""
        return self._images("test", self.own.test)

    def strange(self, name: str, split: Literal["train", "test"]) -> Images:
        """All images of a split of an out-of-distribution set."""
        found = self.ood[name]
        return self._images(name, found.train if split == "train" else found.test)

    def batches(self) -> Batches:
        """What training draws from."""
        job = self.job
        if isinstance(self.own.train, ImageFiles):
            return StreamedBatches(
                self.own.train,
                self.normalise,
                batch_size=job.batch_size,
                augmentation=job.augmentation,
                seed=job.seed,
                device=self.device,
                workers=self.source.workers,
            )
        images = self.own.train.to(self.device)
        return InMemoryBatches(
            images,
            self.normalise,
            batch_size=job.batch_size,
            augmentation=job.augmentation,
            seed=job.seed,
        )

    def check_shares(self) -> None:
        """Raise ValueError where some of several processes would get no image to train on or measure."""
        processes = rank_and_size()[1]
        for option in ("batch_size", "followed_images", "diagnosed_images"):
            images = getattr(self.job, option)
            if images and images < processes:  # 0 diagnosed images are all
                raise ValueError(
                    f"{option} is {images} for {processes} processes, each of which takes some; give "
                    f"--{option.replace('_', '-')} {processes} or more, or start fewer processes"
                )
        for name, found in {self.job.data: self.own, **self.ood}.items():
            for split in ("train", "test"):
                images = len(getattr(found, split))
                if images < processes:
                    raise ValueError(
                        f"data {name} has {images} {split} images for {processes} processes, each of "
                        f"which takes some; start {images} at most, or add images"
                    )

    def card(self) -> dict[str, object]:
        """What tells whether two runs saw the same data."""
        return {
            "own": self.own.card(),
            "ood": {name: found.card() for name, found in self.ood.items()},
        }

    def _images(self, name: str, images: ImageSet | ImageFiles) -> Images:
        return Images(name, images, self.normalise, self.device)
