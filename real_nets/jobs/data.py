"""The images of a job, for training and measurements."""

from dataclasses import replace
from functools import cached_property
from typing import Literal

import torch

from rankdeficit.batches import Batches
from rankdeficit.distributed import rank_and_size
from rankdeficit.images import Images, Normalisation
from real_nets.data.opening import DataSource, Selection
from real_nets.jobs.job import Job
from real_nets.jobs.records import Cards


class JobData:
    """All images of a job; out-of-distribution images are resized to the size of the ID images."""

    def __init__(self, job: Job, source: DataSource, device: torch.device) -> None:
        self.job, self.source, self.device = job, source, device
        self.own = source.open(job.selection)
        height, width = self.own.size
        if job.ood and height != width:
            raise ValueError(
                f"{job.data} has images of {height} x {width}; out-of-distribution images need a square "
                "size, so give --image-size"
            )
        self.ood = {name: source.open(Selection(name, height, job.crop)) for name in job.ood}

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
        """Normalisation by mean and standard deviation of all train images."""
        return self.source.normalisation(self.job.selection).to(self.device)

    @cached_property
    def train(self) -> Images:
        """All train images."""
        return self._images("train", self.own.train)

    @cached_property
    def test(self) -> Images:
        """All test images."""
        return self._images("test", self.own.test)

    def ood_images(self, name: str, split: Literal["train", "test"]) -> Images:
        """All images of a split of an out-of-distribution set."""
        found = self.ood[name]
        return self._images(name, found.train if split == "train" else found.test)

    @cached_property
    def batches(self) -> Batches:
        """The train images as shuffled, augmented batches."""
        job = self.job
        return Batches(
            self.train,
            batch_size=job.batch_size,
            augmentation=job.augmentation,
            seed=job.seed,
            workers=self.source.workers,
        )

    def check_shares(self) -> None:
        """Raise ValueError if some process would get no image to train on or to measure."""
        processes = rank_and_size()[1]
        for option in ("batch_size", "followed_images", "diagnosed_images"):
            images = getattr(self.job, option)
            if images and images < processes:  # 0 diagnosed images are all
                raise ValueError(
                    f"{option} is {images}, fewer than the {processes} processes; give "
                    f"--{option.replace('_', '-')} {processes} or more, or start fewer processes"
                )
        for name, found in {self.job.data: self.own, **self.ood}.items():
            for split in ("train", "test"):
                images = len(getattr(found, split))
                if images < processes:
                    raise ValueError(
                        f"data {name} has {images} {split} images, fewer than the {processes} processes; "
                        f"start at most {images}, or add images"
                    )

    def card(self) -> Cards:
        """Record that identifies the data of a run."""
        return {
            "own": self.own.card(),
            "ood": {name: found.card() for name, found in self.ood.items()},
        }

    def _images(self, name: str, images: Images) -> Images:
        return replace(images.on(self.device, self.normalise), name=name)
