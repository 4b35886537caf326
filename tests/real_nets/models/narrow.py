"""Networks of few channels, and what comes out of them."""

from typing import Any

import torch
from torch import Tensor, nn

from real_nets.models import Architecture

CLASSES = 10
LAYERS = {"mlp": 8, "resnet18": 18, "resnet20": 20, "resnet34": 34, "resnet50": 50, "vgg19": 19}
NARROW = dict.fromkeys(LAYERS, 4) | {"mlp": 16, "vit": 16}
WITH_NORMS = [name for name in NARROW if name != "vit"]


def narrow(name: str, size: int = 32, **options: Any) -> Architecture:
    return Architecture(name, CLASSES, (3, size, size), **{"width": NARROW[name]} | options)


def random_images(n: int, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(7))


@torch.no_grad()
def logits(architecture: Architecture, images: Tensor, training: bool = False) -> Tensor:
    """In float64, of a network of seed 0; in training mode without dropout."""
    model = architecture.build(0).double().train(training)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    return model(images.double())
