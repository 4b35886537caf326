"""What training draws from: shuffled, augmented, normalised batches, the same ones every time.

Order and augmentation depend on seed, epoch and step alone, so a run goes on in the middle of an
epoch as if it had never stopped.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from rankdeficit.checks import check_at_least
from rankdeficit.distributed import rank_and_size
from rankdeficit.images import (
    Framing,
    ImageFiles,
    ImageSet,
    Normalisation,
    check_readable,
    read_image,
)
from real_nets.data.augmentation import (
    CROP_AREAS,
    CROP_RATIOS,
    Augmentation,
    Views,
    apply_views,
    augment,
    draw_views,
)
from real_nets.data.streams import stream, stream_seed

__all__ = [
    "Augmentation",
    "Batches",
    "InMemoryBatches",
    "StreamedBatches",
    "augment",
    "stream_seed",
]


@dataclass(frozen=True)
class Share:
    """What this process takes of one batch."""

    step: int
    batch_size: int
    """Images of all processes."""
    positions: range
    """Places in the batch of those that are this process's own."""
    images: Int64[Tensor, " n"]
    """Which images these are."""


class Batches(ABC):
    """Batches of labelled images, epoch by epoch. Several processes share every batch.

    batch_size: images per step, over all processes. The last batch may be smaller; where it would
    leave a process fewer than two images, which BatchNorm cannot take, it is joined to the one before.
    Raises ValueError where there are fewer images, in all or in a batch, than processes.
    """

    def __init__(
        self,
        samples: int,
        size: tuple[int, int],
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.process, self.processes = rank_and_size()
        check_at_least(self.processes, batch_size=batch_size, train_images=samples)
        self.samples, self.size, self.batch_size = samples, size, batch_size
        self.augmentation: Augmentation = augmentation
        self.seed = seed

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        full, rest = divmod(self.samples, self.batch_size)
        return max(1, full + (rest >= 2 * self.processes))

    def images_in(self, step: int) -> int:
        """Images of an epoch's batch, over all processes."""
        steps = self.steps_per_epoch
        return self.batch_size if step < steps - 1 else self.samples - step * self.batch_size

    @abstractmethod
    def epoch(
        self, epoch: int, first_step: int = 0
    ) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """(inputs, labels) of an epoch from one of its steps on, on the device."""

    def shares(self, epoch: int, first_step: int) -> Iterator[Share]:
        """What this process takes of every batch from a step on: each k-th image."""
        order = torch.randperm(self.samples, generator=stream("order", self.seed, epoch))
        for step in range(first_step, self.steps_per_epoch):
            start = step * self.batch_size
            batch = order[start : start + self.images_in(step)]
            positions = range(self.process, len(batch), self.processes)
            yield Share(step, len(batch), positions, batch[self.process :: self.processes])

    def views(self, epoch: int, share: Share) -> Views:
        """How the share's images are augmented: drawn for the whole batch, as one process does."""
        generator = stream("augment", self.seed, epoch, share.step)
        views = draw_views(share.batch_size, self.size, self.augmentation, generator)
        return views[self.process :: self.processes]


class InMemoryBatches(Batches):
    """Batches of images that live on their device."""

    def __init__(
        self,
        images: ImageSet,
        normalise: Normalisation,
        *,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        samples, _, height, width = images.images.shape
        super().__init__(samples, (height, width), batch_size, augmentation, seed)
        self.images = images
        self.normalise = normalise.to(images.images.device)

    def epoch(
        self, epoch: int, first_step: int = 0
    ) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """(inputs, labels) of an epoch from one of its steps on."""
        images, labels = self.images.images, self.images.labels
        for share in self.shares(epoch, first_step):
            chosen = share.images.to(images.device, non_blocking=True)
            seen = apply_views(
                images.index_select(0, chosen), self.views(epoch, share), self.augmentation
            )
            yield self.normalise(seen), labels.index_select(0, chosen)


class StreamedBatches(Batches):
    """Batches of images that worker processes decode while the network trains; 0 workers: this one does.

    All get the size of the files' framing, or of the first image. Resized crops are taken from images
    as they are in their files, by torchvision; everything else happens to framed images.
    """

    def __init__(
        self,
        files: ImageFiles,
        normalise: Normalisation,
        *,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        device: torch.device,
        workers: int,
    ) -> None:
        size = files.framing.size or files.first_size()
        super().__init__(len(files), size, batch_size, augmentation, seed)
        check_at_least(0, workers=workers)
        self.files, self.device, self.workers = files, device, workers
        self.normalise = normalise.to(device)
        self.decoder = Decoder(replace(files.framing, size=size), augmentation)

    def epoch(
        self, epoch: int, first_step: int = 0
    ) -> Iterator[tuple[Float[Tensor, "n c h w"], Int64[Tensor, " n"]]]:
        """(inputs, labels) of an epoch from one of its steps on, on the device.

        Raises ValueError naming images that can no longer be read.
        """
        shares = list(self.shares(epoch, first_step))
        loader = DataLoader(
            self.decoder,
            sampler=(self._request(epoch, share) for share in shares),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else each epoch would draw from torch's global one
        )
        for share, images in zip(shares, loader, strict=True):
            if not isinstance(images, Tensor):
                check_readable(images, len(share.images))
            labels = self.files.labels[share.images].to(self.device, non_blocking=True)
            yield self.normalise(images.to(self.device, non_blocking=True)), labels

    def _request(self, epoch: int, share: Share) -> "Request":
        paths = [self.files.paths[i] for i in share.images.tolist()]
        if self.augmentation != "resized-crop":
            return Request(paths, self.views(epoch, share))
        key = "augment", self.seed, epoch, share.step
        return Request(paths, [stream_seed(*key, position) for position in share.positions])


class Request(NamedTuple):
    """Image files for a worker, which keeps no list of its own, and how to augment them."""

    paths: list[str]
    changes: Views | list[int]
    """Views of framed images, or a seed for the crop of each image."""


class Decoder(Dataset[UInt8[Tensor, "n 3 h w"] | list[str]]):
    """Makes an augmented batch of a request, or names the files that cannot be read."""

    def __init__(self, framing: Framing, augmentation: Augmentation) -> None:
        self.framing, self.augmentation = framing, augmentation
        crop = [
            v2.RandomResizedCrop(framing.size, CROP_AREAS, CROP_RATIOS),
            v2.RandomHorizontalFlip(),
        ]
        self.crop = v2.Compose([*crop, v2.PILToTensor()])

    def __getitem__(self, request: Request) -> UInt8[Tensor, "n 3 h w"] | list[str]:
        decoded = [read_image(path) for path in request.paths]
        if unreadable := [item for item in decoded if isinstance(item, str)]:
            return unreadable
        images = [item for item in decoded if not isinstance(item, str)]
        if isinstance(request.changes, Views):
            pixels = np.stack([np.asarray(self.framing(image)) for image in images])
            framed = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
            return apply_views(framed, request.changes, self.augmentation)
        with torch.random.fork_rng(devices=[]):
            return torch.stack(
                [self._cropped(*pair) for pair in zip(images, request.changes, strict=True)]
            )

    def _cropped(self, image: Image.Image, seed: int) -> Tensor:
        torch.default_generator.manual_seed(seed)  # transforms draw from no other; CUDA's stay
        return self.crop(image)
