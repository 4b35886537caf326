"""Initial weights and their scales."""

import math

import pytest
import torch
from torch import nn

from rankdeficit.control.surgery import Initialisation, initialise, weights
from tests.real_nets.models.narrow import LAYERS, NARROW, logits, narrow, random_images

DEVIATIONS = {
    "he": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "lecun": lambda fan_in, fan_out: math.sqrt(1 / fan_in),
    "xavier": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
}


def test_an_unknown_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scheme is 'kaiming'.* he, "):
        initialise(nn.Linear(2, 2), "kaiming")


@pytest.mark.parametrize("init", DEVIATIONS)
@pytest.mark.parametrize("name", ["mlp", "resnet20", "resnet50", "vgg19", "vit"])
def test_initial_weights_have_the_deviation_of_their_scheme(
    name: str, init: Initialisation
) -> None:
    default, model = narrow(name).build(0), narrow(name, init=init).build(0)
    standardised = []
    for weight in weights(model):
        kernel = math.prod(weight.shape[2:])
        fan_in, fan_out = weight.shape[1] * kernel, weight.shape[0] * kernel
        standardised.append(weight.detach().flatten() / DEVIATIONS[init](fan_in, fan_out))
        deviation = standardised[-1].std().item()
        assert deviation == pytest.approx(1, abs=5 / math.sqrt(2 * weight.numel()))
    pooled = torch.cat(standardised)
    error = 1 / math.sqrt(len(pooled))
    assert pooled.mean().item() == pytest.approx(0, abs=4 * error)
    assert pooled.pow(4).mean().item() == pytest.approx(3, abs=40 * error)  # Gaussian
    drawn = {id(weight) for weight in weights(model)}
    for (key, before), after in zip(default.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(before, after) == (id(after) not in drawn), key


@pytest.mark.parametrize("name", ["mlp", "resnet20", "vgg19", "vit"])
def test_orthogonal_weights_are_isometries_of_one_side(name: str) -> None:
    for weight in weights(narrow(name, init="orthogonal").build(0)):
        matrix = weight.detach().flatten(1).double()
        product = matrix @ matrix.mT if len(matrix) <= matrix.shape[1] else matrix.mT @ matrix
        torch.testing.assert_close(product, torch.eye(len(product)).double(), rtol=0, atol=1e-5)


def test_the_layers_of_vgg19_start_as_is_usual_for_their_images() -> None:
    model = narrow("vgg19", width=16).build(0)
    for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
        expected = math.sqrt(1 / (3 * layer.in_features))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
    for layer in (m for m in model.modules() if isinstance(m, nn.Conv2d)):
        expected = math.sqrt(2 / (9 * layer.out_channels))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.2)
        assert layer.bias is not None
        assert not layer.bias.any()
    large = narrow("vgg19", 96, width=2).build(0)
    for layer in (m for m in large.modules() if isinstance(m, nn.Linear)):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_the_vision_transformer_does_not_start_at_zero_logits() -> None:
    found = logits(narrow("vit", width=64), random_images(20))
    assert 0.3 < found.square().mean().sqrt() < 3


@pytest.mark.parametrize("name", NARROW)
def test_the_initial_scale_multiplies_weights_and_nothing_else(name: str) -> None:
    plain, scaled = narrow(name).build(0), narrow(name, init_scale=0.25).build(0)
    multiplied = {id(weight) for weight in weights(scaled)}
    assert len(multiplied) >= LAYERS.get(name, 20)
    for (key, after), before in zip(scaled.named_parameters(), plain.parameters(), strict=True):
        factor = 0.25 if id(after) in multiplied else 1.0
        assert torch.equal(after, factor * before), key
        token_or_gain = after.ndim < 2 or "class_token" in key or "pos_embedding" in key
        assert (id(after) in multiplied) != token_or_gain, key


def test_logits_of_an_mlp_scale_with_the_power_of_its_depth() -> None:
    images = random_images(5)
    for depth in (1, 4):
        one = logits(narrow("mlp", depth=depth), images)
        half = logits(narrow("mlp", depth=depth, init_scale=0.5), images)
        torch.testing.assert_close(half, one / 2**depth)


@pytest.mark.parametrize("name", ["mlp", "resnet18", "vgg19", "vit"])
@pytest.mark.parametrize("rank", [None, 2])
def test_the_scale_of_the_head_is_that_of_the_logits(name: str, rank: int | None) -> None:
    images = random_images(5)
    plain = logits(narrow(name, head_rank=rank, norm="layer"), images)
    tiny = logits(narrow(name, head_rank=rank, norm="layer", head_scale=1e-12), images)
    torch.testing.assert_close(tiny * 1e12, plain, rtol=1e-6, atol=1e-6)
