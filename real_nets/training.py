"""Training of one network, epoch by epoch, resumable to the bit on a CPU."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from rankdeficit import cross_entropy
from rankdeficit.checks import check_at_least, check_temperature
from rankdeficit.images import ImageSet, Normalisation
from real_nets.data import Augmentation, shuffled_batches


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum, a cosine schedule from the peak rate to 0, and clipped gradients."""

    epochs: int
    batch_size: int
    lr: float
    momentum: float
    weight_decay: float
    clip_norm: float
    augmentation: Augmentation

    def __post_init__(self) -> None:
        check_at_least(1, epochs=self.epochs, batch_size=self.batch_size)
        for name in ("lr", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive and finite")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must lie in [0, 1)")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}; it must not be negative")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step: half a cosine from the peak to 0."""
        return self.lr * (1 + math.cos(math.pi * step / steps)) / 2


class Training:
    """A network on its way through a recipe, at a softmax temperature.

    Batches depend on the seed and the epoch alone, so temperatures share them and runs resume.
    """

    def __init__(
        self,
        model: nn.Sequential,
        images: ImageSet,
        normalise: Normalisation,
        recipe: Recipe,
        *,
        temperature: float,
        seed: int,
    ) -> None:
        check_temperature(temperature)
        self.model, self.images, self.normalise, self.recipe = model, images, normalise, recipe
        self.temperature, self.seed = temperature, seed
        self.epoch = 0
        """Epochs done."""
        self.optimizer = torch.optim.SGD(
            model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return math.ceil(len(self.images.labels) / self.recipe.batch_size)

    def run_epoch(self, advance: Callable[[int], None]) -> None:
        """Train for one epoch; `advance` hears the number of steps done since the start."""
        recipe, steps = self.recipe, self.steps_per_epoch
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        batches = shuffled_batches(self.images, recipe.batch_size, recipe.augmentation, generator)
        for step, (images, labels) in enumerate(batches, start=self.epoch * steps):
            for group in self.optimizer.param_groups:
                group["lr"] = recipe.rate(step, recipe.epochs * steps)
            logits = self.model(self.normalise(images))
            self.optimizer.zero_grad()
            cross_entropy(logits, labels, self.temperature, validate=False).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm)
            self.optimizer.step()
            advance(step + 1)
        self.epoch += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
