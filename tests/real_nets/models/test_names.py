"""Networks by name: own functions, timm's, and what is refused."""

import importlib.util
import math
from typing import Any

import pytest
import timm
import torch
from torch import nn

from rankdeficit import numerical_rank
from rankdeficit.control.surgery import weights
from real_nets import models
from real_nets.models import Architecture, build, register
from tests.real_nets.models.narrow import (
    random_images,
)


def test_a_function_with_the_decorator_is_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MODELS", dict(models.MODELS))

    @register("Linear")
    def linear(*, inputs: models.Shape, classes: int, width: int = 5) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(math.prod(inputs), width), nn.Linear(width, classes)
        )

    model = Architecture("linear", 3, (1, 2, 2), width=7, head_scale=2.0).build(0)
    assert [tuple(weight.shape) for weight in weights(model)] == [(7, 4), (3, 7)]
    with pytest.raises(ValueError, match=r"depth is 2.*linear"):
        Architecture("linear", 3, (1, 2, 2), depth=2)


def test_timm_networks_and_their_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def create(name: str, **arguments: Any) -> nn.Module:
        asked.append((name, arguments))
        if arguments["pretrained"]:
            raise OSError("no route to host\ndetails")
        return nn.Linear(2, arguments["num_classes"])

    monkeypatch.setattr(timm, "create_model", create)
    shape = (3, 32, 32)
    Architecture("timm:resnet18", 4, shape).build(0)
    Architecture("vit_b16", 4, shape).build(0)
    base = "vit_base_patch16_224.augreg_in21k"
    assert asked == [
        ("resnet18", {"pretrained": False, "num_classes": 4}),
        (base, {"pretrained": False, "num_classes": 4, "img_size": 32}),
    ]
    with pytest.raises(ValueError, match=r"stem is 'cifar'.*resnet18.*conv1"):
        Architecture("timm:resnet18", 4, shape, stem="cifar").build(0)  # the stand-in is not
    for name in ("timm:resnet18", "vit_b16"):
        with pytest.raises(ValueError, match=r"pretrained is True.*\(no route to host\)") as error:
            Architecture(name, 4, shape, pretrained=True).build(0)
        assert "\n" not in str(error.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for name in ("timm:resnet18", "vit_b16"):
        with pytest.raises(ValueError, match="install timm"):
            Architecture(name, 4, shape).build(0)


def test_a_network_of_timm_is_built() -> None:
    model = Architecture("timm:resnet10t", 4, (3, 32, 32), head_rank=2).build(0)
    with torch.no_grad():
        found = model(random_images(5))
    assert int(numerical_rank(found)) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "resnet99"}, "model is 'resnet99'.* mlp, .*resnet18, .*timm:NAME"),
        ({"name": "torchvision"}, "model is 'torchvision'.* mlp, "),
        ({"depth": 5}, "depth is 5.*resnet18"),
        ({"name": "vgg19", "depth": 5}, "depth is 5.*vgg19"),
        ({"name": "vit_b16", "width": 5}, "width is 5.*vit_b16"),
        ({"name": "mlp", "stem": "cifar"}, "stem is 'cifar'.*mlp"),
        ({"name": "vit_b16", "norm": "none"}, "norm is 'none'.*vit_b16"),
        ({"name": "torchvision:resnet18", "width": 8}, "width is 8.*torchvision:resnet18"),
        ({"name": "timm:resnet18", "norm": "group"}, "norm is 'group'.*timm:resnet18"),
        ({"pretrained": True}, "pretrained is True.*resnet18"),
        (
            {"name": "torchvision:resnet18", "pretrained": True},
            "True.*torchvision:resnet18",
        ),
        ({"name": "vit_b16", "pretrained": True, "init": "he"}, "overwrite .*pretrained"),
        ({"width": 0}, "width is 0.* 1"),
        ({"name": "mlp", "depth": 0}, "depth is 0.* 1"),
        ({"classes": 1}, "classes is 1.* 2"),
        ({"inputs": (3, 0, 8)}, r"inputs is \(3, 0, 8\)"),
        ({"inputs": (3, 8)}, r"inputs is \(3, 8\)"),
        ({"stem": "large"}, "stem is 'large'.* auto, cifar, imagenet"),
        ({"norm": "instance"}, "norm is 'instance'.* default, batch"),
        ({"head_norm": "group"}, "head_norm is 'group'.* none, layer, batch"),
        ({"init": "zero"}, "init is 'zero'.* default, he"),
        ({"head_rank": 0}, "head_rank is 0"),
        ({"init_scale": 0.0}, "init_scale is 0.0.*positive"),
        ({"head_scale": math.inf}, "head_scale is inf.*finite"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked")
def test_what_makes_no_sense_for_any_data_is_refused_at_once(
    change: dict[str, Any], words: str
) -> None:
    whole = {"name": "resnet18", "classes": 4, "inputs": (3, 32, 32)} | change
    with pytest.raises(ValueError, match=words):
        Architecture(**whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "torchvision:resnt18"}, "'torchvision:resnt18'.*resnet18"),
        ({"name": "timm:resnt18"}, "'timm:resnt18'.*resnet18"),
        ({"name": "keras:mlp"}, "model is 'keras:mlp'.*keras.* found"),
        ({"name": "mlp:8"}, "model is 'mlp:8'.*mlp.* found"),
        ({"name": "torchvision:squeezenet1_0", "head_rank": 2}, "linear .* 4"),
        ({"name": "torchvision:squeezenet1_0", "head_scale": 0.1}, "leave out .*head_scale"),
        ({"name": "torchvision:vgg11", "stem": "cifar"}, "vgg11.*conv1"),
        ({"head_rank": 4}, r"head_rank is 4.* 1\.\.3"),
        ({"inputs": (1, 32, 32)}, "1 channels.* 3"),
        ({"name": "vgg19", "inputs": (1, 32, 32)}, "inputs have 1 channels"),
        ({"name": "vit", "inputs": (1, 32, 32)}, "inputs have 1 channels"),
        ({"name": "timm:resnet18", "inputs": (1, 32, 32)}, "inputs have 1 channels"),
        ({"name": "vgg19", "inputs": (3, 31, 40)}, "31 x 40.*vgg19.* 32"),
        ({"name": "vit", "inputs": (3, 30, 30)}, "30 x 30.*multiple.* 4"),
        ({"name": "vit", "inputs": (3, 72, 72)}, "72 x 72.*multiple.* 16"),
        ({"name": "vit", "inputs": (3, 32, 64)}, "32 x 64.*square"),
        ({"name": "vit_b16", "inputs": (3, 40, 40)}, "40 x 40.*multiple.* 16"),
        ({"name": "vit", "norm": "batch"}, "norm is 'batch'.*vit.*layer.*none"),
    ],
    ids=str,
)
def test_what_does_not_suit_the_data_is_refused_when_built(
    change: dict[str, Any], words: str
) -> None:
    narrow_where_it_can_be = {"resnet18": 4, "vgg19": 4, "vit": 16}
    whole = {"name": "resnet18", "classes": 4, "inputs": (3, 32, 32)} | change
    with pytest.raises(ValueError, match=words):
        Architecture(**whole, width=narrow_where_it_can_be.get(whole["name"])).build(0)
