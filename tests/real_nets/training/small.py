"""Small networks and recipes to train in no time."""

from typing import Any

import torch
from torch import Tensor, nn

from rankdeficit.batches import Batches
from rankdeficit.images import Normalisation
from real_nets.models import Architecture
from real_nets.training.loop import Training
from real_nets.training.recipe import Recipe
from tests.images import image_set

CPU = torch.device("cpu")
PLAIN = Recipe(epochs=4, batch_size=8, lr=0.05, clip_norm=None, augmentation="crop-flip")
SHORT = 0.03
"""A gradient norm that clips the small networks here at every step."""


def network(name: str = "mlp", **options: Any) -> nn.Module:
    return Architecture(name, 2, (3, 8, 8), **options).build(0)


def small_mlp(scale: float = 1.0) -> nn.Module:
    return network(width=16, depth=3, init_scale=scale)


def with_dropout(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 2)
        )


def training(
    model: nn.Module,
    recipe: Recipe = PLAIN,
    temperature: float = 1.0,
    seed: int = 0,
    *,
    images: int = 20,
    device: torch.device = CPU,
) -> Training:
    chosen = image_set(images)
    batches = Batches(
        chosen.on(device, Normalisation.of(chosen.pixels)), batch_size=recipe.batch_size,
        augmentation=recipe.augmentation, seed=seed,
    )  # fmt: skip
    return Training(model, batches, recipe, temperature=temperature, seed=seed, device=device)


def trained(*arguments: Any, **options: Any) -> dict[str, Tensor]:
    job = training(*arguments, **options)
    job.run_until(job.steps, lambda step: None)
    return {name: value.double() for name, value in job.model.state_dict().items()}
