"""What makes steps faster takes the same steps: graphs, layouts, precision, few waits."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from real_nets.training.loop import LOSSES_AT_ONCE
from real_nets.training.recipe import Recipe
from tests.real_nets.training.small import PLAIN, network, small_mlp, trained, training
from tests.stand_in import waits


@pytest.fixture
def compiled_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that torch.compile makes graphs for."""
    sizes: list[int] = []

    def record(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        sizes.extend(value.shape[0] for value in inputs if value.ndim == 4)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=record))
    return sizes


def test_a_compiled_network_trains_alike_with_a_graph_for_each_size_of_batch(
    compiled_sizes: list[int],
) -> None:
    expected = trained(small_mlp())
    found = trained(small_mlp(), replace(PLAIN, compile=True))
    assert compiled_sizes == [8, 4]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value)


def test_networks_compiled_before_do_not_leave_the_next_one_uncompiled(
    compiled_sizes: list[int],
) -> None:
    for width in range(8, 14):
        trained(network(width=width, depth=3), replace(PLAIN, epochs=1, compile=True))
    assert compiled_sizes == [8, 4] * 6


def first_step(model: nn.Module, weight: nn.Parameter, recipe: Recipe) -> Tensor:
    before = weight.detach().clone()
    training(model, recipe).run_until(1, lambda step: None)
    return weight.detach() - before


@pytest.mark.parametrize("change", [
    {"augmentation": "none", "clip_norm": 1.0},
    {"augmentation": "flip", "loss": "mse"},
    {"augmentation": "crop-flip", "channels_last": True},
    {"augmentation": "resized-crop", "optimizer": "adamw", "label_smoothing": 0.1},
])  # fmt: skip
def test_steps_wait_for_a_gpu_only_to_look_at_losses(
    change: dict[str, Any], device: torch.device
) -> None:
    recipe = replace(PLAIN, epochs=3 * LOSSES_AT_ONCE, batch_size=256, **change)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)
    )
    job = training(model, recipe, 50.0, images=512, device=device)
    job.run_until(2, lambda step: None)
    with waits(device) as found:
        job.run_until(2 + LOSSES_AT_ONCE, lambda step: None)
    assert len(found) == 1


def test_channels_last_takes_the_same_step() -> None:
    def step(recipe: Recipe) -> Tensor:
        model = network("resnet20", width=16, stem="cifar")
        return first_step(model, model.conv1.weight, recipe)  # type: ignore[arg-type]

    plain, layout = step(PLAIN), step(replace(PLAIN, channels_last=True))
    torch.testing.assert_close(layout, plain, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("width", "kept"), [(4, False), (16, True)])
def test_channels_last_is_left_out_where_a_cpu_would_spoil_memory(width: int, kept: bool) -> None:
    one = training(
        network("resnet20", width=width, stem="cifar"), replace(PLAIN, channels_last=True)
    )
    seen = []
    one.model.conv1.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, output: seen.append(
            inputs[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    one.run_until(1, lambda step: None)
    weight = one.model.layer2[0].conv1.weight  # type: ignore[index,union-attr]
    layouts = {weight.is_contiguous(memory_format=torch.channels_last), *seen}  # type: ignore[union-attr]
    assert layouts == {kept}


def test_bf16_takes_about_the_same_step() -> None:
    def step(recipe: Recipe) -> Tensor:
        model = small_mlp()
        return first_step(model, model[1].weight, recipe)  # type: ignore[index]

    plain, half = step(PLAIN), step(replace(PLAIN, precision="bf16"))
    assert 0 < (half - plain).norm() < 0.05 * plain.norm()
