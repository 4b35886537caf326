"""Batches to train on: shuffled, augmented, normalised, and the same ones at every run.

Order and augmentation depend on seed, epoch and step alone, so a run goes on in the middle of an
epoch as if it had never stopped, and images in memory and in files give the same batches.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rankdeficit.augmentation import Augmentation, Views, apply_views, draw_views
from rankdeficit.checks import check_at_least
from rankdeficit.distributed import rank_and_size
from rankdeficit.image_files import Framing, check_readable, read_image
from rankdeficit.images import Images


def stream_seed(*key: int | str) -> int:
    """A seed of 64 bits for a key such as ("augment", seed, epoch, step).

    Different keys give unrelated seeds, also keys of different lengths. torch's CPU generator uses 32
    of the bits, so among 100,000 streams one or two pairs may be equal.
    """
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big")


def stream(*key: int | str) -> torch.Generator:
    """A CPU generator seeded by the key: its numbers depend on nothing that was drawn before."""
    return torch.Generator().manual_seed(stream_seed(*key))


@dataclass(frozen=True)
class Shard:
    """Part of one batch that this process takes."""

    step: int
    batch_size: int
    """Images of all processes."""
    images: Int64[Tensor, " n"]
    """Positions of this process's images in the data set."""


class Batches:
    """Batches of labelled images, epoch by epoch. Several processes share every batch.

    Images in memory are moved to their device at once; files are decoded by worker processes while the
    network trains (workers = 0: by this one), framed, and augmented as images in memory are.
    batch_size: images per step, over all processes. The last batch may be smaller; where it would
    leave a process fewer than two images, which BatchNorm cannot take, it is joined to the one before.
    Raises ValueError where there are fewer images, in all or in a batch, than processes.
    """

    def __init__(
        self,
        images: Images,
        *,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        workers: int = 0,
    ) -> None:
        self.process, self.processes = rank_and_size()
        self.samples = len(images)
        check_at_least(self.processes, batch_size=batch_size, train_images=self.samples)
        check_at_least(0, workers=workers)
        self.images = images.load() if images.in_memory else images
        self.normalise = images.normalise.to(images.device)
        self.size, self.batch_size, self.seed, self.workers = images.size, batch_size, seed, workers
        self.augmentation: Augmentation = augmentation

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        full, rest = divmod(self.samples, self.batch_size)
        return max(1, full + (rest >= 2 * self.processes))

    def images_in(self, step: int) -> int:
        """Images of an epoch's batch, over all processes."""
        steps = self.steps_per_epoch
        return self.batch_size if step < steps - 1 else self.samples - step * self.batch_size

    def epoch(
        self, epoch: int, first_step: int = 0
    ) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """(inputs, labels) of an epoch from one of its steps on, on the device.

        Raises ValueError naming files that can no longer be read.
        """
        labels, device = self.images.labels, self.images.device
        shards = list(self.shards(epoch, first_step))
        seen = self._from_memory if self.images.in_memory else self._from_files
        for shard, pixels in zip(shards, seen(epoch, shards), strict=True):
            own = labels[shard.images.to(labels.device)].to(device, non_blocking=True)
            yield self.normalise(pixels.to(device, non_blocking=True)), own

    def shards(self, epoch: int, first_step: int) -> Iterator[Shard]:
        """Part of this process in every batch from a step on: every k-th image."""
        order = torch.randperm(self.samples, generator=stream("order", self.seed, epoch))
        for step in range(first_step, self.steps_per_epoch):
            start = step * self.batch_size
            batch = order[start : start + self.images_in(step)]
            yield Shard(step, len(batch), batch[self.process :: self.processes])

    def views(self, epoch: int, shard: Shard) -> Views:
        """Views of the shard's images: drawn for the whole batch, as one process does."""
        generator = stream("augment", self.seed, epoch, shard.step)
        views = draw_views(shard.batch_size, self.size, self.augmentation, generator)
        return views[self.process :: self.processes]

    def _from_memory(self, epoch: int, shards: Sequence[Shard]) -> Iterator[Tensor]:
        """Augmented pixels of each shard, by indexing."""
        pixels = self.images.pixels
        for shard in shards:
            chosen = pixels.index_select(0, shard.images.to(pixels.device, non_blocking=True))
            yield apply_views(chosen, self.views(epoch, shard), self.augmentation)

    def _from_files(self, epoch: int, shards: Sequence[Shard]) -> Iterator[Tensor]:
        """Augmented pixels of each shard, decoded by workers."""
        loader = DataLoader(
            Decoder(replace(self.images.framing, size=self.size), self.augmentation),
            sampler=(self._request(epoch, shard) for shard in shards),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.images.device.type == "cuda",
            generator=torch.Generator(),  # else each epoch would draw from torch's global one
        )
        for shard, found in zip(shards, loader, strict=True):
            if not isinstance(found, Tensor):
                check_readable(found, len(shard.images))
            yield found

    def _request(self, epoch: int, shard: Shard) -> "Request":
        paths = [self.images.paths[i] for i in shard.images.tolist()]
        return Request(paths, self.views(epoch, shard))


class Request(NamedTuple):
    """Image files for a worker, which keeps no list of its own, and the views of them."""

    paths: list[str]
    views: Views


class Decoder(Dataset[UInt8[Tensor, "n 3 h w"] | list[str]]):
    """Decodes and augments the images of a request, or names the files that cannot be read."""

    def __init__(self, framing: Framing, augmentation: Augmentation) -> None:
        self.framing, self.augmentation = framing, augmentation

    def __getitem__(self, request: Request) -> UInt8[Tensor, "n 3 h w"] | list[str]:
        decoded = [read_image(path) for path in request.paths]
        if unreadable := [item for item in decoded if isinstance(item, str)]:
            return unreadable
        framed = [np.asarray(self.framing(item)) for item in decoded if not isinstance(item, str)]
        pixels = torch.from_numpy(np.stack(framed)).permute(0, 3, 1, 2).contiguous()
        return apply_views(pixels, request.views, self.augmentation)
