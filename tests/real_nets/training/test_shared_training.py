"""Training by several processes, which share every batch."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankdeficit.batches import Batches
from rankdeficit.images import Normalisation
from real_nets.models import Architecture
from real_nets.training.loop import Training
from real_nets.training.recipe import Recipe
from tests.images import image_set
from tests.processes import run_together

PROCESSES = 3
CPU = torch.device("cpu")
RECIPE = Recipe(epochs=2, batch_size=8, lr=0.05, clip_norm=None)
"""Batches of 8, 8 and 7 images: shares of three and two."""


def training(model: nn.Module) -> Training:
    images = image_set(23)
    batches = Batches(
        images.on(CPU, Normalisation.of(images.pixels)), batch_size=8, augmentation="none", seed=0
    )
    return Training(model, batches, RECIPE, temperature=2.0, seed=0, device=CPU)


def deep() -> nn.Module:
    """More than a megabyte of weights, which gradients are added up in parts of."""
    return Architecture("mlp", 2, (3, 8, 8), width=256, depth=8).build(0)


def trained(job: Training, steps: int) -> dict[str, Any]:
    job.run_until(steps, lambda step: None)
    return job.state()


def with_dropout(masks: list[Tensor]) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 2))
    model[1].register_forward_hook(lambda module, inputs, output: masks.append(output[:2] == 0))
    return model


def _share(rank: int, count: int, folder: Path) -> None:
    torch.set_num_threads(1)
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}  # as torchrun does
    os.environ |= {name: str(value) for name, value in told.items()} | {"MASTER_ADDR": "localhost"}
    whole = trained(training(deep()), 6)
    parts = {"whole": whole}
    for stop in (0, 1, 4):
        resumed = training(deep())
        resumed.restore(trained(training(deep()), stop))
        parts[f"resumed after {stop}"] = trained(resumed, 6)
    masks: list[Tensor] = []
    trained(training(with_dropout(masks)), 6)
    torch.save([parts, masks], folder / f"{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each process has: states by name, and dropout masks of all steps."""
    folder = tmp_path_factory.mktemp("shares")
    run_together(_share, folder, folder, count=PROCESSES)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


def weights(state: dict[str, Any]) -> Tensor:
    return torch.cat([value.flatten() for value in state["model"].values()])


def test_uneven_shares_weigh_each_image_alike(found: list[Any]) -> None:
    alone = weights(trained(training(deep()), 6))
    moved = (alone - weights(training(deep()).state())).norm()
    for parts, _ in found:
        assert (weights(parts["whole"]) - alone).norm() < 1e-4 * moved


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_resuming_changes_no_bit(stop: int, found: list[Any]) -> None:
    for parts, _ in found:
        resumed = parts[f"resumed after {stop}"]
        assert resumed["step"] == 6
        assert torch.equal(weights(resumed), weights(parts["whole"]))


def test_each_process_drops_units_of_its_own(found: list[Any]) -> None:
    for masks in zip(*(masks for _, masks in found), strict=True):
        for i, mask in enumerate(masks):
            assert 0.3 < mask.float().mean() < 0.7
            assert not any(torch.equal(mask, other) for other in masks[:i])


def test_alone_a_process_drops_the_units_that_it_always_dropped(found: list[Any]) -> None:
    alone: list[Tensor] = []
    trained(training(with_dropout(alone)), 6)
    first = found[0][1]
    assert all(torch.equal(ours[:1], theirs[:1]) for ours, theirs in zip(alone, first, strict=True))
