"""Rates: their course over training, and rules for other temperatures against exact equivalences."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rankdeficit.control.scaled import linear_layers
from real_nets.models import Architecture
from real_nets.training.recipe import (
    Recipe,
    parameter_groups,
    shape_at,
)
from tests.real_nets.training.small import (
    PLAIN,
    SHORT,
    network,
    small_mlp,
    trained,
    training,
)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("clip_norm", [None, SHORT])
def test_reparametrised_sgd_of_a_homogeneous_network_is_a_smaller_start(
    momentum: float, weight_decay: float, clip_norm: float | None
) -> None:
    temperature, depth = 8.0, 3
    scale = temperature ** (1 / depth)
    recipe = replace(PLAIN, momentum=momentum, weight_decay=weight_decay, clip_norm=clip_norm)
    hot = trained(small_mlp(), replace(recipe, lr_rule="reparametrised"), temperature=temperature)
    cold = trained(small_mlp(1 / scale), recipe)
    linear = [name for name in hot if name.endswith("weight")]
    for layer, name in enumerate(linear, start=1):
        bias = name.replace("weight", "bias")
        torch.testing.assert_close(hot[name], cold[name] * scale, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(hot[bias], cold[bias] * scale**layer, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("clip_norm", [None, SHORT])
def test_reparametrised_adamw_of_a_homogeneous_network_is_a_smaller_start(
    clip_norm: float | None,
) -> None:
    temperature, scale = 8.0, 2.0
    recipe = replace(PLAIN, optimizer="adamw", lr=1e-3, weight_decay=0.1, clip_norm=clip_norm)
    hot = trained(small_mlp(), replace(recipe, lr_rule="reparametrised"), temperature=temperature)
    cold = trained(small_mlp(1 / scale), recipe)
    weight = "1.weight"
    torch.testing.assert_close(hot[weight], cold[weight] * scale, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("clip_norm", [None, SHORT])
def test_reparametrised_sgd_of_any_other_network_shrinks_its_classifier(
    clip_norm: float | None,
) -> None:
    temperature = 10.0
    recipe = replace(PLAIN, weight_decay=1e-3, clip_norm=clip_norm)
    options = {"width": 4, "stem": "cifar"}
    hot = trained(
        network("resnet20", **options), replace(recipe, lr_rule="reparametrised"),
        temperature=temperature,
    )  # fmt: skip
    cold = network("resnet20", **options)
    with torch.no_grad():
        for parameter in (cold.fc.weight, cold.fc.bias):  # type: ignore[union-attr]
            parameter /= temperature  # type: ignore[operator]
    expected = trained(cold, recipe)
    for name, value in expected.items():
        head = temperature if name.startswith("fc.") else 1.0
        torch.testing.assert_close(hot[name], value * head, rtol=1e-2, atol=1e-3)


def test_matched_rates_are_the_same_at_every_temperature() -> None:
    model = small_mlp()
    recipe = Recipe(lr=0.1, weight_decay=0.01)
    (cold,), (hot,) = (parameter_groups(model, recipe, T) for T in (1.0, 50.0))
    assert (cold["peak"], cold["weight_decay"]) == (hot["peak"], hot["weight_decay"]) == (0.1, 0.01)
    assert len(hot["params"]) == 6


def test_every_parameter_is_in_one_group() -> None:
    for model in (small_mlp(), network("resnet20", width=4)):
        groups = parameter_groups(
            model, Recipe(lr=0.1, optimizer="adamw", lr_rule="reparametrised"), 7.0
        )
        grouped = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


def test_only_plain_chains_are_homogeneous() -> None:
    assert len(linear_layers(small_mlp())) == 3
    assert linear_layers(network(width=16, depth=3, norm="layer")) == []
    assert linear_layers(network("resnet20", width=4)) == []


def test_the_last_of_several_linear_layers_takes_the_rates_of_the_classifier() -> None:
    model = Architecture("vgg19", 2, (3, 32, 32), width=4).build(0)
    others, head = parameter_groups(model, Recipe(lr=0.1, lr_rule="reparametrised"), 7.0)
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(linear) > 1
    last = model.classifier[-1]  # type: ignore[index]
    assert [id(parameter) for parameter in head["params"]] == [id(last.weight), id(last.bias)]  # type: ignore[union-attr]
    assert (others["peak"], head["peak"]) == (0.1, pytest.approx(0.1 * 7**2))


def test_the_shapes_of_schedules() -> None:
    assert [shape_at(s, 4, "constant") for s in range(4)] == [1, 1, 1, 1]
    assert [shape_at(s, 8, "step") for s in (0, 3, 4, 5, 6, 7)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert shape_at(0, 10, "cosine") == 1
    assert shape_at(5, 10, "cosine") == pytest.approx(0.5)
    assert shape_at(10, 10, "cosine") == pytest.approx(0)
    rising = [shape_at(s, 100, "constant", warmup=4.0) for s in range(6)]
    assert rising == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_the_rate_rises_over_epochs_of_warmup() -> None:
    job = training(small_mlp(), replace(PLAIN, warmup_epochs=2.0, schedule="constant"))
    rates = []
    for step in range(1, 9):
        job.run_until(step, lambda step: None)
        rates.append(job.optimizer.param_groups[0]["lr"] / PLAIN.lr)
    assert rates == pytest.approx([1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1, 1])
